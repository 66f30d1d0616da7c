//! Entries that come in several messages: what is at the end of one is looked at with the next.

use super::filter::{CREDENTIAL, ESCAPE, NAME};
use super::message::{Coding, Kind, Piece, Told};
use super::{Outcome, Redactor, is_data};

/// How far back a place is looked for where content may be divided.
const HELD_BYTES_MAX: usize = 8 << 10;

/// What is known of an entry that comes in several messages. One for each entry, kept by the caller.
#[derive(Debug, Default)]
pub struct Part {
    pub(super) sides: [PartSide; 2],
    pub(super) is_later: bool,
}

#[derive(Debug, Default)]
pub(super) struct PartSide {
    pub(super) told: Told,
    held: Vec<u8>,
    pub(super) at_ns: u64,
    is_withheld: bool,
}

impl Redactor {
    /// Content of which more comes, or came before.
    pub(super) fn part_side(
        &mut self,
        bytes: &mut [u8],
        pieces: &[Piece],
        side: usize,
        part: &mut Part,
        is_last: bool,
    ) -> Outcome {
        let [request, response] = &part.sides;
        let is_tunnel = request.told.is_websocket && matches!(response.told.status, 0 | 101 | 200);
        let Some(state) = part.sides.get_mut(side) else { return Outcome::Withheld };
        if self.is_content_free {
            return Outcome::InPlace;
        }
        if state.is_withheld {
            return Outcome::Withheld;
        }
        let mut content = std::mem::take(&mut state.held);
        for piece in pieces.iter().filter(|piece| is_data(piece, side)) {
            content.extend_from_slice(bytes.get(piece.data.clone()).unwrap_or_default());
            state.at_ns = piece.at_ns;
        }
        if content.is_empty() {
            return Outcome::InPlace;
        }
        let hits = self.filter.scan(&content, &self.names) | self.names.always() & NAME;
        let is_text = !matches!(state.told.kind, Kind::Binary | Kind::Grpc);
        let needs_all = is_tunnel
            || state.told.coding != Coding::Identity
            || state.told.grpc_coding != Coding::Identity
            || hits & (NAME | ESCAPE) != 0 && is_text
            || !self.pointers.is_empty() && state.told.kind == Kind::Json
            || hits & CREDENTIAL != 0 && memchr::memmem::find(&content, b"PRIVATE KEY-----").is_some();
        if needs_all {
            state.is_withheld = true;
            return Outcome::Withheld;
        }
        if !is_last {
            let from = content.len().saturating_sub(HELD_BYTES_MAX);
            let last = content.get(from..).unwrap_or_default();
            let is_gap =
                |byte: &u8| !byte.is_ascii_alphanumeric() && !b"@.-_+/=% ~:".contains(byte) && *byte < 0x80;
            let cut = last.iter().rposition(is_gap).map_or(content.len(), |at| from + at);
            state.held = content.split_off(cut);
        }
        let _ = self.plain(&mut content, hits & !(NAME | ESCAPE), state.told.kind);
        Outcome::Replaced(content)
    }
}
