//! Redaction: secrets are replaced before anything of an exchange reaches the disk.
//!
//! What: fields of heads, parameters, members and form fields by their names ([`Config`]), and what is known by its shape
//! (card numbers, addresses of e-mail, JWTs, credentials). Where: heads, trailers, addresses, content in JSON, forms,
//! `multipart/form-data`, text, Protocol Buffers and other binary forms, WebSocket frames, and all of that in gzip, deflate
//! or zstd; also the texts of the entry itself, such as a user's id that is an address of e-mail.
//!
//! - **Same length.** A replacement is as long as what it stands for, so lengths within and around the content stay right.
//!   Only compressed content is written again if something in it was replaced: in its coding, or, of gRPC and WebSocket,
//!   without it; see [`Report::recoded`].
//! - **Same token.** The same value and key give the same text everywhere (`token`), so sessions can still be followed.
//! - **Fails closed.** Content that a rule applies to and that cannot be read (broken JSON, an unknown coding, a
//!   decompression bomb, an extension of WebSocket that is not known) is left out, and the side is marked as truncated.
//! - **Across events.** The content of a side is looked at as a whole, however it came.
//! - **Parts.** Of content that comes in several messages ([`Part`]) the last words are held back and go with the next. What
//!   needs the whole of the content (a name of a secret in it, a JSON pointer, a private key, a coding, a tunnel) is withheld from
//!   there on.
//!
//! Cost: one pass over an entry's bytes (`filter`) tells whether there is anything to do; mostly there is not, and
//! the entry is copied as it is. What is not seen: secrets without a known shape in places without a known name; names
//! written with percent-escapes; what an application encrypts or encodes itself (base64).

mod card;
mod clean;
mod coding;
mod config;
mod detect;
mod filter;
mod form;
mod frames;
mod head;
mod json;
mod message;
mod names;
mod part;
mod rebuild;
mod token;

#[cfg(test)]
mod tests;

pub use config::{Config, Detector, Names as ConfigNames};
pub use part::Part;

use super::entry::number as n;
use clean::Clean;
use filter::{AT, CARD, CREDENTIAL, ESCAPE, Filter, HEADER, Hits, JWT, NAME, TUNNEL};
use frames::Tunnel;
use json::{Pointer, Wrong};
use message::{Coding, Kind, Piece, Told};
use names::Names;
use std::ops::Range;
use token::Tokens;

/// Memory for decoded content that is kept for the next.
const DECODED_BYTES_KEPT: usize = 256 << 10;

/// What became of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many values were replaced.
    pub redactions: u32,
    /// Content of a side was left out, as a rule could not be applied to it. With an empty message: all of it.
    pub withheld: bool,
    /// Compressed content was written again, so its length is another one than `Content::bytes` and `content-length` tell.
    pub recoded: bool,
}

/// What becomes of a side's content.
enum Outcome {
    /// It is redacted where it is.
    InPlace,
    /// It is replaced by this.
    Replaced(Vec<u8>),
    Withheld,
}

/// Redacts entries. One for each thread; it keeps its memory.
pub struct Redactor {
    filter: Filter,
    names: Names,
    pointers: Vec<Pointer>,
    tokens: Tokens,
    scratch: json::Scratch,
    pieces: Vec<Piece>,
    joined: Vec<u8>,
    decoded: Vec<u8>,
    clean: Clean,
    /// No rule is about content.
    is_content_free: bool,
}

impl Redactor {
    /// One for a configuration and the key of its tokens.
    ///
    /// # Errors
    /// Which name or pointer is wrong, and what to write instead.
    pub fn new(config: &Config, key: [u8; 32]) -> Result<Redactor, String> {
        let headers = config.headers.of(config::HEADERS);
        let fields = config.fields.of(config::FIELDS);
        let query = config.query.of(config::QUERY);
        for (list, len) in [
            ("headers", config.headers.add.len()),
            ("fields", config.fields.add.len()),
            ("query", config.query.add.len()),
            ("json", config.json.len()),
        ] {
            if len > config::ENTRIES_MAX {
                return Err(format!(
                    "recording.redact.{list}: {len} entries; the most are {}",
                    config::ENTRIES_MAX
                ));
            }
        }
        let pointers = config.json.iter().map(|text| Pointer::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let names = Names::new(&headers, &fields, &query)?;
        let off = [
            (Detector::Card, CARD),
            (Detector::Email, AT),
            (Detector::Jwt, JWT),
            (Detector::Credentials, CREDENTIAL),
        ];
        let off = off.iter().filter(|(detector, _)| !config.detect.contains(detector));
        let off: Hits = off.fold(0, |off, (_, hit)| off | hit);
        let is_content_free = config.detect.is_empty() && pointers.is_empty() && !names.has_fields();
        Ok(Redactor {
            filter: Filter::new(off),
            names,
            pointers,
            tokens: Tokens::new(key),
            scratch: json::Scratch::default(),
            pieces: Vec::new(),
            joined: Vec::new(),
            decoded: Vec::new(),
            // Sums of content are seeded by the same key: without it nobody can tell by one what was redacted.
            clean: Clean::new(key.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))),
            is_content_free,
        })
    }

    /// The sum of content that is known to have nothing in it, as it was seen several times; seeded by the first 8 bytes of
    /// the redactor's key.
    pub fn known_sum(&self, content: &[u8]) -> Option<u64> {
        self.clean.sum(content)
    }

    /// Whether nothing in a whole entry's message is to be replaced, found by looks at it as a stretch of bytes. `content` is
    /// where the content of its sides is, each in one piece, in their order, and whether it is known to have nothing
    /// ([`Redactor::known_sum`]); from `texts_end` on there is no text. `false`: [`Redactor::redact`] has to look closer.
    pub fn has_nothing(
        &mut self,
        message: &[u8],
        content: &[(Range<usize>, bool)],
        texts_end: usize,
    ) -> bool {
        if self.names.always() != 0 || !self.pointers.is_empty() {
            return false;
        }
        let mut from = 0;
        for (place, is_known) in content {
            let (Some(before), Some(data)) = (message.get(from..place.start), message.get(place.clone()))
            else {
                return false;
            };
            from = place.end;
            // What a head says may change what its content is: so it comes first.
            let (filter, names) = (&self.filter, &self.names);
            if filter.scan(before, names) != 0 {
                return false;
            }
            let has_nothing = || filter.scan(data, names) & !(HEADER | TUNNEL) == 0;
            if !is_known && !self.is_content_free && !self.clean.or_ask(data, has_nothing) {
                return false;
            }
        }
        message.get(from..texts_end).is_some_and(|rest| self.filter.scan(rest, &self.names) == 0)
    }

    /// Appends the redacted message of a whole entry to `out`. A message that cannot be read is left out.
    pub fn redact(&mut self, message: &[u8], out: &mut Vec<u8>) -> Report {
        self.redact_part(&mut Part::default(), true, message, out)
    }

    /// The same for an entry that comes in several messages, in their order. The last one is the entry itself.
    pub fn redact_part(
        &mut self,
        part: &mut Part,
        is_last: bool,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Report {
        let base = out.len();
        out.extend_from_slice(message);
        self.pieces.clear();
        self.tokens.made = 0;
        let mut report = Report::default();
        let mut pieces = std::mem::take(&mut self.pieces);
        let walked = message::walk(message, &mut pieces);
        let (Some((texts, before)), Some(bytes)) = (walked, out.get_mut(base..)) else {
            out.truncate(base);
            self.pieces = pieces;
            return Report { withheld: true, ..report };
        };
        let is_whole = is_last && !part.is_later;
        let needs_told = !is_whole || !self.pointers.is_empty();
        for piece in pieces.iter().filter(|piece| is_head(piece)) {
            let region = bytes.get(piece.event.clone()).unwrap_or_default();
            let hits = self.filter.scan(region, &self.names) | self.names.always();
            let is_upgrade = part.sides.first().is_some_and(|request| request.told.is_websocket);
            if hits & (HEADER | TUNNEL) != 0 || needs_told || is_upgrade {
                learn(bytes, piece, part);
            }
            if hits & !(TUNNEL | ESCAPE) != 0 {
                let (filter, names, tokens) = (&self.filter, &self.names, &mut self.tokens);
                head::Rules { filter, names, tokens }.redact(bytes, piece.event.clone());
            }
        }
        if !texts.is_empty() {
            self.texts(bytes, texts);
        }
        let mut outcomes = [Outcome::InPlace, Outcome::InPlace];
        for (side, outcome) in outcomes.iter_mut().enumerate() {
            *outcome = match is_whole {
                true => self.side(bytes, &pieces, side, part),
                false => self.part_side(bytes, &pieces, side, part, is_last),
            };
        }
        part.is_later = true;
        report.redactions = self.tokens.made;
        report.withheld = outcomes.iter().any(|outcome| matches!(outcome, Outcome::Withheld));
        report.recoded = is_whole && outcomes.iter().any(|outcome| matches!(outcome, Outcome::Replaced(_)));
        if outcomes.iter().any(|outcome| !matches!(outcome, Outcome::InPlace)) {
            let redacted = out.split_off(base);
            rebuild::rebuild(&redacted, &pieces, &outcomes, part, out);
        }
        if report.redactions > 0 {
            super::wire::put_number(out, n::REDACTIONS, before + u64::from(report.redactions));
        }
        self.pieces = pieces;
        report
    }

    /// Texts of the entry itself.
    fn texts(&mut self, bytes: &mut [u8], texts: Range<usize>) {
        let seen = AT | JWT | CREDENTIAL | CARD;
        if self.filter.scan(bytes.get(texts.clone()).unwrap_or_default(), &self.names) & seen == 0 {
            return;
        }
        let mut at = texts.start;
        while let Some((number, range, next)) = message::each_field(bytes, at, texts.end) {
            at = next;
            let is_text = !matches!(
                number,
                n::EVENT | n::REQUEST | n::RESPONSE | n::TRACE_ID | n::SPAN_ID | n::PARENT_ID
            );
            if let Some(text) = bytes.get_mut(range).filter(|text| is_text && !text.is_empty()) {
                let hits = self.filter.scan(text, &self.names) & seen;
                detect::redact(text, hits, false, &mut self.tokens);
            }
            if at >= texts.end {
                return;
            }
        }
    }

    fn side(&mut self, bytes: &mut [u8], pieces: &[Piece], side: usize, part: &mut Part) -> Outcome {
        let mut data = pieces.iter().filter(|piece| is_data(piece, side));
        let Some(first) = data.next() else { return Outcome::InPlace };
        if self.is_content_free {
            return Outcome::InPlace;
        }
        if data.next().is_none() {
            let mut content = first.data.clone();
            return self.content(bytes, &mut content, None, pieces, side, part);
        }
        let mut joined = std::mem::take(&mut self.joined);
        joined.clear();
        for piece in pieces.iter().filter(|piece| is_data(piece, side)) {
            joined.extend_from_slice(bytes.get(piece.data.clone()).unwrap_or_default());
        }
        let made = self.tokens.made;
        let mut all = 0..joined.len();
        let outcome = self.content(bytes, &mut all, Some(&mut joined), pieces, side, part);
        if matches!(outcome, Outcome::InPlace) && self.tokens.made != made {
            let mut rest = joined.as_slice();
            for piece in pieces.iter().filter(|piece| is_data(piece, side)) {
                if let Some(slot) = bytes.get_mut(piece.data.clone())
                    && let Some((new, after)) = rest.split_at_checked(slot.len())
                {
                    slot.copy_from_slice(new);
                    rest = after;
                }
            }
        }
        self.joined = joined;
        outcome
    }

    /// Redacts content, which is `range` of `joined` or else of `bytes`.
    fn content(
        &mut self,
        bytes: &mut [u8],
        range: &mut Range<usize>,
        joined: Option<&mut Vec<u8>>,
        pieces: &[Piece],
        side: usize,
        part: &mut Part,
    ) -> Outcome {
        let content = match &joined {
            Some(joined) => joined.get(range.clone()),
            None => bytes.get(range.clone()),
        };
        let [request, response] = &part.sides;
        let is_tunnel = request.told.is_websocket && matches!(response.told.status, 101 | 200);
        let told = part.sides.get(side).map(|side| side.told).unwrap_or_default();
        let is_plain = !is_tunnel && [told.coding, told.grpc_coding] == [Coding::Identity; 2];
        let mut hits = 0;
        if let Some(content) = content.filter(|_| is_plain) {
            let mut has_nothing = || {
                hits = self.filter.scan(content, &self.names) | self.names.always() & NAME;
                hits & !(HEADER | TUNNEL) == 0
            };
            if !self.pointers.is_empty() {
                has_nothing();
            } else if self.clean.or_ask(content, has_nothing) {
                return Outcome::InPlace;
            }
        }
        // What the content is counts only now.
        pieces
            .iter()
            .filter(|piece| is_head(piece) && piece.side == side)
            .for_each(|piece| learn(bytes, piece, part));
        let told = part.sides.get(side).map(|side| side.told).unwrap_or_default();
        let content = match joined {
            Some(joined) => joined.get_mut(range.clone()),
            None => bytes.get_mut(range.clone()),
        };
        let Some(content) = content else { return Outcome::Withheld };
        match self.look(content, hits, told, is_tunnel) {
            Ok(None) => Outcome::InPlace,
            Ok(Some(content)) => Outcome::Replaced(content),
            Err(Wrong) => Outcome::Withheld,
        }
    }

    #[cold]
    fn look(
        &mut self,
        content: &mut [u8],
        hits: Hits,
        told: Told,
        is_tunnel: bool,
    ) -> Result<Option<Vec<u8>>, Wrong> {
        if is_tunnel {
            return self.tunnel(content, &mut Tunnel::default());
        }
        if told.coding == Coding::Identity && told.grpc_coding != Coding::Identity {
            return self.grpc(content, told.grpc_coding);
        }
        if told.coding == Coding::Identity {
            self.plain(content, hits, told.kind)?;
            return Ok(None);
        }
        if content.is_empty() {
            return Ok(None);
        }
        let mut decoded = std::mem::take(&mut self.decoded);
        let result = self.coded(content, told, &mut decoded);
        decoded.shrink_to(DECODED_BYTES_KEPT);
        self.decoded = decoded;
        result
    }

    /// A message of several; whether something in it was replaced.
    fn message(&mut self, message: &mut [u8], kind: Kind) -> Result<bool, Wrong> {
        let made = self.tokens.made;
        let hits = self.filter.scan(message, &self.names) | self.names.always() & NAME;
        self.plain(message, hits, kind)?;
        Ok(self.tokens.made != made)
    }

    /// Messages of WebSocket. Gives what stands for all of them, if something else does.
    fn tunnel(&mut self, content: &mut [u8], tunnel: &mut Tunnel) -> Result<Option<Vec<u8>>, Wrong> {
        frames::each_message(content, tunnel, &mut |message| self.message(message, Kind::Other))
    }

    /// Messages of gRPC that may be compressed, each for itself. One in which something is replaced is written without
    /// compression, which every message may be. Gives what stands for all of them, if there is one.
    fn grpc(&mut self, content: &mut [u8], coding: Coding) -> Result<Option<Vec<u8>>, Wrong> {
        let mut out: Option<Vec<u8>> = None;
        let (mut at, mut copied) = (0, 0);
        while let Some([flag, len @ ..]) = content.get(at..).and_then(|rest| rest.first_chunk::<5>()).copied()
        {
            let (start, len) = (at + 5, usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX));
            let whole = start.saturating_add(len);
            at = whole.min(content.len());
            let Some(message) = content.get_mut(start..at) else { break };
            if flag & 1 == 0 {
                self.message(message, Kind::Grpc)?;
                continue;
            }
            let mut decoded = std::mem::take(&mut self.decoded);
            let result = coding::decode(coding, message, &mut decoded)
                .and_then(|()| self.message(&mut decoded, Kind::Grpc));
            if result? {
                // Of one that was cut off nobody knows how long it would be.
                let len = u32::try_from(decoded.len()).ok().filter(|_| at == whole).ok_or(Wrong)?;
                let out = out.get_or_insert_default();
                out.extend_from_slice(content.get(copied..start - 5).unwrap_or_default());
                out.push(flag & !1);
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(&decoded);
                copied = at;
            }
            decoded.shrink_to(DECODED_BYTES_KEPT);
            self.decoded = decoded;
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(content.get(copied..).unwrap_or_default());
        }
        Ok(out)
    }

    fn coded(&mut self, content: &[u8], told: Told, decoded: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Wrong> {
        coding::decode(told.coding, content, decoded)?;
        let made = self.tokens.made;
        let hits = self.filter.scan(decoded, &self.names) | self.names.always() & NAME;
        self.plain(decoded, hits, told.kind)?;
        if self.tokens.made == made {
            return Ok(None);
        }
        coding::encode(told.coding, decoded).map(Some)
    }

    /// Content as the application sees it.
    fn plain(&mut self, content: &mut [u8], hits: Hits, kind: Kind) -> Result<(), Wrong> {
        let has_names = hits & (NAME | ESCAPE) != 0;
        let looks_like_json = matches!(content.trim_ascii_start().first(), Some(b'{' | b'['));
        if has_names || !self.pointers.is_empty() {
            let rules = json::Rules { names: &self.names, pointers: &self.pointers };
            let (names, tokens, scratch) = (&self.names, &mut self.tokens, &mut self.scratch);
            match kind {
                Kind::Json => json::redact(content, rules, scratch, tokens)?,
                Kind::Form if has_names => form::pairs(content, names, tokens),
                Kind::Multipart if has_names => form::parts(content, names, tokens)?,
                Kind::Other if looks_like_json => json::redact(content, rules, scratch, tokens)
                    .or_else(|Wrong| json::loose(content, names, tokens))?,
                Kind::Other if has_names => json::loose(content, names, tokens)?,
                _ => {}
            }
            if hits & NAME != 0 && matches!(kind, Kind::Json | Kind::Other) {
                form::embedded(content, kind == Kind::Other && !looks_like_json, names, tokens);
            }
        }
        if hits & (AT | JWT | CREDENTIAL | CARD) != 0 {
            let is_control = |byte: &u8| *byte < b' ' && !byte.is_ascii_whitespace() && *byte != 0x1b;
            let is_binary =
                matches!(kind, Kind::Binary | Kind::Grpc) || content.iter().take(4096).any(is_control);
            detect::redact(content, hits, is_binary, &mut self.tokens);
        }
        Ok(())
    }
}

fn is_head(piece: &Piece) -> bool {
    matches!(piece.kind, n::KIND_REQUEST | n::KIND_RESPONSE | n::KIND_TRAILERS)
}

fn is_data(piece: &Piece, side: usize) -> bool {
    piece.kind == n::KIND_DATA && piece.side == side
}

fn learn(bytes: &[u8], piece: &Piece, part: &mut Part) {
    if piece.kind != n::KIND_TRAILERS
        && let Some(side) = part.sides.get_mut(piece.side)
    {
        side.told = Told::default(); // the last head of a side is the one that counts
        head::told(bytes, piece.event.clone(), &mut side.told);
    }
}
