//! Messages that are written again, since content in them was left out or has another length.

use super::message::Piece;
use super::{Outcome, Part, is_data};
use crate::record::entry::number as n;
use crate::record::wire;
use std::ops::Range;

/// Writes a message whose content has another length or is left out.
pub(super) fn rebuild(
    message: &[u8],
    pieces: &[Piece],
    outcomes: &[Outcome; 2],
    part: &Part,
    out: &mut Vec<u8>,
) {
    let mut from = 0;
    let mut rests = [0, 1].map(|side: usize| match outcomes.get(side) {
        Some(Outcome::Replaced(content)) => Some(content.as_slice()),
        _ => None,
    });
    let copy = |out: &mut Vec<u8>, range: Range<usize>| {
        out.extend_from_slice(message.get(range).unwrap_or_default())
    };
    for (side, rest) in rests.iter_mut().enumerate() {
        let has_event = pieces.iter().any(|piece| is_data(piece, side));
        if let Some(content) = rest.take_if(|content| !has_event && !content.is_empty()) {
            // What was held back goes with an event of its own.
            let start = wire::begin(out, n::EVENT);
            wire::put_number(out, n::AT, part.sides.get(side).map_or(0, |side| side.at_ns));
            wire::put_number(out, n::KIND, n::KIND_DATA);
            wire::put_number(out, n::SIDE, side as u64);
            wire::put_bytes(out, n::DATA, content);
            wire::end(out, start);
        }
    }
    for (index, piece) in pieces.iter().enumerate().filter(|(_, piece)| piece.kind == n::KIND_DATA) {
        let Some(outcome) = outcomes.get(piece.side) else { continue };
        if matches!(outcome, Outcome::InPlace) {
            continue;
        }
        copy(out, from..piece.whole.start);
        from = piece.whole.end;
        let Some(rest) = rests.get_mut(piece.side).and_then(Option::as_mut) else { continue };
        let is_end = !pieces.iter().skip(index + 1).any(|later| is_data(later, piece.side));
        let len = if is_end { rest.len() } else { piece.data.len().min(rest.len()) };
        let (content, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
        *rest = after;
        let start = wire::begin(out, n::EVENT);
        copy(out, piece.event.start..piece.data_tag.max(piece.event.start));
        copy(out, piece.data.end.max(piece.event.start)..piece.event.end);
        wire::put_bytes(out, n::DATA, content);
        wire::end(out, start);
    }
    copy(out, from..message.len());
    for (side, number) in [(0, n::REQUEST), (1, n::RESPONSE)] {
        if !matches!(outcomes.get(side), Some(Outcome::Withheld)) {
            continue;
        }
        let known = wire::Fields::new(message).flatten().filter(|(found, _)| *found == number).last();
        let start = wire::begin(out, number);
        out.extend_from_slice(known.map(|(_, value)| value.bytes()).unwrap_or_default());
        wire::put_number(out, n::CONTENT_TRUNCATED, 1);
        wire::end(out, start);
    }
}
