//! Entries that come in several messages: what is at the end of one is looked at with the next.
//!
//! Content is divided where nothing can lie across: between messages of a tunnel or of compressed gRPC, between lines where
//! each stands for itself, and else where no credential goes on. How it fails: what has to be seen as a whole (a JSON
//! document with names to look for, compressed content, a message that is too long to wait for) is withheld from there on.

use super::filter::{CREDENTIAL, ESCAPE, Hits, NAME};
use super::frames::{self, Tunnel};
use super::json::Wrong;
use super::message::{Coding, Kind, Piece, Told};
use super::{Outcome, Redactor, is_data};

/// How far back a place is looked for where content may be divided.
const HELD_BYTES_MAX: usize = 8 << 10;
/// How much of a message or line may wait for its rest.
const HELD_MESSAGE_BYTES_MAX: usize = 4 << 20;

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
    tunnel: Tunnel,
}

/// Where content may be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Division {
    /// Between messages of WebSocket.
    Frames,
    /// Between messages of gRPC.
    Grpc,
    /// Behind a line.
    Lines,
    /// Where no credential goes on.
    Gaps,
}

impl Division {
    fn of(told: Told, is_tunnel: bool) -> Division {
        match told {
            _ if is_tunnel => Division::Frames,
            Told { coding: Coding::Identity, grpc_coding, .. } if grpc_coding != Coding::Identity => {
                Division::Grpc
            }
            Told { coding: Coding::Identity, is_lines: true, .. } => Division::Lines,
            _ => Division::Gaps,
        }
    }

    /// How many of the bytes can be looked at; the others wait for what follows.
    fn cut(self, content: &[u8]) -> usize {
        match self {
            Division::Frames => frames::whole(content),
            Division::Grpc => {
                let mut at = 0;
                while let Some([_, len @ ..]) = content.get(at..).and_then(|rest| rest.first_chunk::<5>()) {
                    let end = at + 5 + usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX >> 1);
                    if end > content.len() {
                        break;
                    }
                    at = end;
                }
                at
            }
            Division::Lines => memchr::memrchr(b'\n', content).map_or(0, |at| at + 1),
            Division::Gaps => {
                let from = content.len().saturating_sub(HELD_BYTES_MAX);
                let last = content.get(from..).unwrap_or_default();
                let is_gap = |byte: &u8| {
                    !byte.is_ascii_alphanumeric() && !b"@.-_+/=% ~:".contains(byte) && *byte < 0x80
                };
                last.iter().rposition(is_gap).map_or(content.len(), |at| from + at)
            }
        }
    }
}

impl Part {
    /// Bytes that wait for what follows.
    pub fn held_bytes(&self) -> usize {
        self.sides.iter().map(|side| side.held.capacity()).sum()
    }

    /// Leaves out what waits and all that follows.
    pub fn withhold(&mut self) {
        for side in &mut self.sides {
            (side.held, side.is_withheld) = (Vec::new(), true);
        }
    }
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
        let division = Division::of(state.told, is_tunnel);
        let hits = self.filter.scan(&content, &self.names) | self.names.always() & NAME;
        let needs_all = match division {
            Division::Gaps => self.needs_all(&content, hits, state.told),
            Division::Lines => has_private_key(&content, hits),
            Division::Frames | Division::Grpc => false,
        };
        if needs_all {
            state.is_withheld = true;
            return Outcome::Withheld;
        }
        if !is_last {
            let cut = division.cut(&content);
            // What waits is a copy: the rest goes on in the memory that it has.
            state.held.extend_from_slice(content.get(cut..).unwrap_or_default());
            content.truncate(cut);
        }
        let result = match division {
            _ if state.held.len() > HELD_MESSAGE_BYTES_MAX => Err(Wrong),
            Division::Frames => self.tunnel(&mut content, &mut state.tunnel),
            Division::Grpc => self.grpc(&mut content, state.told.grpc_coding),
            Division::Lines => self.plain(&mut content, hits, state.told.kind).map(|()| None),
            Division::Gaps => {
                let _ = self.plain(&mut content, hits & !(NAME | ESCAPE), state.told.kind);
                Ok(None)
            }
        };
        match result {
            Ok(other) => Outcome::Replaced(other.unwrap_or(content)),
            Err(Wrong) => {
                (state.held, state.is_withheld) = (Vec::new(), true);
                Outcome::Withheld
            }
        }
    }

    /// Whether this content cannot be judged in stretches.
    fn needs_all(&self, content: &[u8], hits: Hits, told: Told) -> bool {
        let is_text = !matches!(told.kind, Kind::Binary | Kind::Grpc);
        told.coding != Coding::Identity
            || hits & (NAME | ESCAPE) != 0 && is_text
            || !self.pointers.is_empty() && told.kind == Kind::Json
            || has_private_key(content, hits)
    }
}

/// A key that begins here may end in what follows.
fn has_private_key(content: &[u8], hits: Hits) -> bool {
    hits & CREDENTIAL != 0 && memchr::memmem::find(content, b"PRIVATE KEY-----").is_some()
}
