//! Which bytes of a file are there already.

use std::collections::BTreeMap;
use std::ops::Range;

/// Ranges that do not touch each other: where they begin, and where they end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Covered(BTreeMap<u64, u64>);

impl Covered {
    /// How many ranges it consists of.
    pub(super) fn ranges(&self) -> usize {
        self.0.len()
    }

    /// Where the last one ends.
    pub(super) fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// What of `range` is not there, in order.
    pub(super) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut found = Vec::new();
        let mut at = range.start;
        let before = self.0.range(..=range.start).next_back();
        let behind =
            self.0.range(range.start.saturating_add(1)..range.end.max(range.start.saturating_add(1)));
        for (start, end) in before.into_iter().chain(behind) {
            if *start > at {
                found.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < range.end {
            found.push(at..range.end);
        }
        found
    }

    /// From now on it is there.
    pub(super) fn add(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        if start >= end {
            return;
        }
        if let Some((first, last)) = self.0.range(..=start).next_back()
            && *last >= start
        {
            start = *first;
        }
        while let Some((first, last)) = self.0.range(start..=end).next().map(|(first, last)| (*first, *last))
        {
            self.0.remove(&first);
            end = end.max(last);
        }
        self.0.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_a_list_of_bytes_would_say(
            ranges in prop::collection::vec((0_u64..60, 0_u64..12), 0..20),
            asked in (0_u64..60, 0_u64..20),
        ) {
            let (mut covered, mut bytes) = (Covered::default(), [false; 100]);
            for (start, len) in ranges {
                covered.add(start..start + len);
                bytes[start as usize..(start + len) as usize].fill(true);
            }
            let range = asked.0..asked.0 + asked.1;
            let mut missing = Vec::new();
            for gap in covered.missing(range.clone()) {
                prop_assert!(gap.start < gap.end && missing.last().is_none_or(|last| last + 1 < gap.start));
                missing.extend(gap);
            }
            let wanted: Vec<u64> = range.filter(|at| !bytes[*at as usize]).collect();
            prop_assert_eq!(missing, wanted);
            let end = bytes.iter().rposition(|is_there| *is_there).map_or(0, |at| at as u64 + 1);
            prop_assert_eq!(covered.end(), end);
            let starts = (0..100).filter(|at| bytes[*at] && (*at == 0 || !bytes[at - 1])).count();
            prop_assert_eq!(covered.ranges(), starts);
        }
    }
}
