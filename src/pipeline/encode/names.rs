//! The names that a configuration gave, and the decisions behind them, encoded once.
//!
//! Route, cluster, endpoint, zone and revision are shared texts that event after event points to. Their piece of the line
//! is kept and found by the addresses of the texts; the texts are kept with it, so that no other text can come to have
//! the address. Exchanges that went well differ in little else of what was decided, so that is in the piece, too.
//! How it fails: two sets of names in one place replace each other, and are encoded again each time.

use super::{decisions, text};
use crate::context::sampling::SampledBy;
use crate::exchange::{Direction, Outcome, ParentSource, Record};
use crate::svc::Version;
use std::sync::Arc;

/// How many sets of names are kept: a power of two.
const PLACES: usize = 64;

const KEYS: [&[u8]; 5] = [
    br#","sidelight.route":""#,
    br#","sidelight.cluster":""#,
    br#","sidelight.endpoint":""#,
    br#","sidelight.endpoint.zone":""#,
    br#","sidelight.config.revision":""#,
];

type Texts<'a> = [&'a Option<Arc<str>>; KEYS.len()];

/// The pieces.
#[derive(Default)]
pub(super) struct Names {
    places: Vec<Place>,
}

#[derive(Default)]
struct Place {
    texts: [Option<Arc<str>>; KEYS.len()],
    /// Absent: the decisions are not in the piece.
    usual: Option<Usual>,
    piece: Vec<u8>,
}

/// All that [`decisions`] says of an exchange that went well.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Usual {
    direction: Direction,
    upstream_version: Option<Version>,
    attempts: u32,
    outcome: Outcome,
    /// Absent: the request's context was not read.
    parent_source: Option<ParentSource>,
    sampled_by: Option<SampledBy>,
}

impl Usual {
    /// `None` where more was decided.
    #[inline]
    fn of(record: &Record) -> Option<Usual> {
        let is_usual = record.cause.is_none()
            && record.hint.is_empty()
            && record.kept_by.is_none()
            && record.notes.is_none()
            && record.context_dropped | record.context_disagreed == 0
            && !record.is_tunnel;
        is_usual.then(|| Usual {
            direction: record.direction,
            upstream_version: record.upstream_version,
            attempts: record.attempts,
            outcome: record.outcome(),
            parent_source: (record.trace.trace_id != [0; 16]).then_some(record.parent_source),
            sampled_by: record.sampled_by,
        })
    }
}

#[inline]
fn address(text: &Option<Arc<str>>) -> usize {
    text.as_ref().map_or(0, |text| Arc::as_ptr(text).cast::<u8>().addr())
}

impl Names {
    /// Appends the names of the record, and its decisions.
    #[inline]
    pub(super) fn write(&mut self, record: &Record, out: &mut Vec<u8>) {
        let texts =
            [&record.route, &record.cluster, &record.endpoint, &record.endpoint_zone, &record.revision];
        // Addresses are multiples of 8 or 16; the product moves their differing bits to the top.
        let mixed = texts.iter().fold(0, |mixed: usize, text| mixed.rotate_left(9) ^ address(text));
        let usual = Usual::of(record);
        // Both directions, and both of what fails and what does not, may have the same names.
        let mixed = mixed ^ record.direction as usize ^ usize::from(usual.is_none()) << 1;
        let index = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> (usize::BITS - PLACES.ilog2());
        match self.places.get(index) {
            Some(place)
                if place.usual == usual
                    && place.texts.iter().zip(texts).all(|(has, text)| address(has) == address(text)) =>
            {
                out.extend_from_slice(&place.piece);
            }
            _ => self.learn(index, texts, (record, usual), out),
        }
        if usual.is_none() {
            decisions(record, out);
        }
    }

    #[cold]
    fn learn(
        &mut self,
        index: usize,
        texts: Texts<'_>,
        (record, usual): (&Record, Option<Usual>),
        out: &mut Vec<u8>,
    ) {
        if self.places.is_empty() {
            self.places.resize_with(PLACES, Place::default);
        }
        let Some(place) = self.places.get_mut(index) else { return };
        place.piece.clear();
        for (key, name) in KEYS.into_iter().zip(texts) {
            if let Some(name) = name {
                text(&mut place.piece, key, name.as_bytes());
            }
        }
        if usual.is_some() {
            decisions(record, &mut place.piece);
        }
        place.texts = texts.map(Option::clone);
        place.usual = usual;
        out.extend_from_slice(&place.piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_change_are_never_mixed_up() {
        let mut names = Names::default();
        // Far more sets than places, each a new object with an old text, and each twice.
        for number in 0..1000 {
            let mut record = Record::new();
            record.cluster = Some(format!("c{}", number % 7).into());
            record.endpoint = (number % 3 != 0).then(|| format!("e{number}").into());
            record.attempts = number % 2;
            record.context_dropped = u32::from(number % 5 == 0);
            let mut want = format!(r#","sidelight.cluster":"c{}""#, number % 7);
            if number % 3 != 0 {
                want.push_str(&format!(r#","sidelight.endpoint":"e{number}""#));
            }
            let mut decided = Vec::new();
            decisions(&record, &mut decided);
            want.push_str(std::str::from_utf8(&decided).unwrap());
            for _ in 0..2 {
                let mut out = Vec::new();
                names.write(&record, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), want);
            }
        }
    }
}
