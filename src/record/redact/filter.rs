//! One pass over bytes that tells what is worth a closer look; nearly always nothing is.
//!
//! Each position is asked for the first four bytes of a credential (four tables of 16 bytes, indexed by the low half of a byte,
//! as in "Teddy" of Hyperscan), for `@`, for what ends a name (`:`, `=`, and the tag that follows a field's name in an
//! entry), and for runs of digits; 32 bytes at a time by AVX2, one at a time on other processors. What it reports is
//! right or too much, never too little.

use super::card;
use super::names::Names;

/// What was found.
pub(super) type Hits = u8;
/// An `@`, however it is written.
pub(super) const AT: Hits = 1;
/// The beginning of a JSON Web Token.
pub(super) const JWT: Hits = 2;
/// The beginning of a credential.
pub(super) const CREDENTIAL: Hits = 4;
/// A card number.
pub(super) const CARD: Hits = 8;
/// The name of a member, form field or parameter.
pub(super) const NAME: Hits = 16;
/// The name of a header field.
pub(super) const HEADER: Hits = 32;
/// `websocket`.
pub(super) const TUNNEL: Hits = 64;
/// A character of ASCII that is written as an escape: names cannot be compared as they are.
pub(super) const ESCAPE: Hits = 128;

/// The tag that follows a field's name in an entry: number 2, bytes.
const VALUE_TAG: u8 = 0x12;
const BLOCK: usize = 32;
/// A block, and three bytes more for what begins at its end.
const WINDOW: usize = BLOCK + 3;

/// The first bytes of what is looked for, `?` for any byte, and the bucket that they share with similar ones. In
/// [`literal`] each has its line.
const LITERALS: &[(&[u8; 4], u8)] = &[
    (b"eyJ?", 0),
    (b"AKIA", 1),
    (b"ASIA", 1),
    (b"ABIA", 1),
    (b"ACCA", 1),
    (b"AIza", 1),
    (b"ghp_", 2),
    (b"gho_", 2),
    (b"ghu_", 2),
    (b"ghs_", 2),
    (b"ghr_", 2),
    (b"dop_", 2),
    (b"npm_", 2),
    (b"pat_", 2),
    (b"xox?", 3),
    (b"arer", 3),
    (b"k_li", 4),
    (b"k_te", 4),
    (b"sk-a", 4),
    (b"sk-p", 4),
    (b"----", 5),
    (b"\\u00", 5),
    (b"sock", 6),
    (b"hvs.", 6),
    (b"glpa", 6),
    (b"SG.?", 7),
    (b"%40?", 7),
    (b"GOCS", 7),
    (b"ya29", 6),
];

fn literal(rest: &[u8]) -> Hits {
    match rest {
        [b'e', b'y', b'J', ..] => JWT,
        [b'A', b'K' | b'S' | b'B', b'I', b'A', ..]
        | [b'A', b'C', b'C', b'A', ..]
        | [b'A', b'I', b'z', b'a', ..] => CREDENTIAL,
        [b'g', b'h', b'p' | b'o' | b'u' | b's' | b'r', b'_', ..] => CREDENTIAL,
        [b'd', b'o', b'p', b'_', ..] | [b'n', b'p', b'm', b'_', ..] | [b'p', b'a', b't', b'_', ..] => {
            CREDENTIAL
        }
        [b'x', b'o', b'x', ..] | [b'k', b'_', b'l', b'i', ..] | [b'k', b'_', b't', b'e', ..] => CREDENTIAL,
        [b's', b'k', b'-', b'a' | b'p', ..] | [b'-', b'-', b'-', b'-', ..] => CREDENTIAL,
        [b'h', b'v', b's', b'.', ..] | [b'g', b'l', b'p', b'a', ..] | [b'S', b'G', b'.', ..] => CREDENTIAL,
        [b'G', b'O', b'C', b'S', ..] | [b'y', b'a', b'2', b'9', ..] => CREDENTIAL,
        [b'%', b'4', b'0', ..] => AT,
        [b'\\', b'u', b'0', b'0', b'4', b'0', ..] => AT | ESCAPE,
        [b'\\', b'u', b'0', b'0', ..] => ESCAPE,
        [a, b, c, d, ..] => match [a | 32, b | 32, c | 32, d | 32] {
            [b'a', b'r', b'e', b'r'] => CREDENTIAL,
            [b's', b'o', b'c', b'k'] => TUNNEL,
            _ => 0,
        },
        _ => 0,
    }
}

/// One bit for each byte of a block.
#[derive(Clone, Copy)]
struct Masks {
    literals: u32,
    anchors: u32,
    digits: u32,
    separators: u32,
}

/// See the module.
pub(super) struct Filter {
    tables: [[u8; 16]; 4],
    /// What is not looked for.
    off: Hits,
    has_avx2: bool,
}

/// Characters that end a name, and `@`, by their low half.
const ANCHORS: [u8; 16] = {
    let mut table = [0xff; 16];
    table[0x0] = b'@';
    table[0x2] = VALUE_TAG;
    table[0xa] = b':';
    table[0xd] = b'=';
    table
};
/// What may stand between groups of digits, by its low half.
const SEPARATORS: [u8; 16] = {
    let mut table = [0xff; 16];
    table[0x0] = b' ';
    table[0x5] = b'%';
    table[0xb] = b'+';
    table[0xd] = b'-';
    table
};

/// The tables, in registers.
#[cfg(target_arch = "x86_64")]
struct Vectors {
    t0: std::arch::x86_64::__m256i,
    t1: std::arch::x86_64::__m256i,
    t2: std::arch::x86_64::__m256i,
    t3: std::arch::x86_64::__m256i,
    anchors: std::arch::x86_64::__m256i,
    separators: std::arch::x86_64::__m256i,
}

#[cfg(target_arch = "x86_64")]
impl Vectors {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn masks(&self, window: &[u8; WINDOW]) -> Masks {
        use std::arch::x86_64::*;
        // SAFETY: the window has 3 bytes more than a block.
        let [v0, v1, v2, v3] = unsafe {
            let start = window.as_ptr();
            [
                _mm256_loadu_si256(start.cast()),
                _mm256_loadu_si256(start.add(1).cast()),
                _mm256_loadu_si256(start.add(2).cast()),
                _mm256_loadu_si256(start.add(3).cast()),
            ]
        };
        let both = _mm256_and_si256(_mm256_shuffle_epi8(self.t0, v0), _mm256_shuffle_epi8(self.t1, v1));
        let more = _mm256_and_si256(_mm256_shuffle_epi8(self.t2, v2), _mm256_shuffle_epi8(self.t3, v3));
        let none = _mm256_cmpeq_epi8(_mm256_and_si256(both, more), _mm256_setzero_si256());
        let anchor = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(self.anchors, v0), v0);
        let separator = _mm256_cmpeq_epi8(_mm256_shuffle_epi8(self.separators, v0), v0);
        let value = _mm256_sub_epi8(v0, _mm256_set1_epi8(b'0' as i8));
        let digit = _mm256_cmpeq_epi8(_mm256_min_epu8(value, _mm256_set1_epi8(9)), value);
        Masks {
            literals: !_mm256_movemask_epi8(none) as u32,
            anchors: _mm256_movemask_epi8(anchor) as u32,
            digits: _mm256_movemask_epi8(digit) as u32,
            separators: _mm256_movemask_epi8(separator) as u32,
        }
    }
}

impl Filter {
    /// One that does not report `off`.
    pub(super) fn new(off: Hits) -> Filter {
        let mut tables = [[0u8; 16]; 4];
        for (literal, bucket) in LITERALS {
            for (table, byte) in tables.iter_mut().zip(literal.iter()) {
                for (low, slot) in table.iter_mut().enumerate() {
                    if *byte == b'?' || usize::from(byte & 15) == low {
                        *slot |= 1 << bucket;
                    }
                }
            }
        }
        #[cfg(target_arch = "x86_64")]
        let has_avx2 = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let has_avx2 = false;
        Filter { tables, off, has_avx2 }
    }

    /// What there is to look at in `bytes`.
    pub(super) fn scan(&self, bytes: &[u8], names: &Names) -> Hits {
        #[cfg(target_arch = "x86_64")]
        if self.has_avx2 {
            // SAFETY: the processor has AVX2, as `new` found.
            return unsafe { self.scan_avx2(bytes, names) } & !self.off;
        }
        let _ = self.has_avx2;
        self.scan_scalar(bytes, names) & !self.off
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn scan_avx2(&self, bytes: &[u8], names: &Names) -> Hits {
        use std::arch::x86_64::*;
        let load16 = |table: &[u8; 16]| {
            let [low, high] = [0, 8].map(|at| {
                let mut half = [0; 8];
                half.copy_from_slice(&table[at..at + 8]);
                i64::from_le_bytes(half)
            });
            _mm256_set_epi64x(high, low, high, low)
        };
        let [t0, t1, t2, t3] = [0, 1, 2, 3].map(|index: usize| load16(&self.tables[index]));
        let (anchors, separators) = (load16(&ANCHORS), load16(&SEPARATORS));
        let vectors = Vectors { t0, t1, t2, t3, anchors, separators };
        let mut hits = 0;
        let mut at = 0;
        while let Some(window) = bytes.get(at..).and_then(|rest| rest.first_chunk::<WINDOW>()) {
            hits |= self.block(bytes, at, vectors.masks(window), names);
            at += BLOCK;
        }
        while at < bytes.len() {
            let mut window = [0; WINDOW];
            let rest = &bytes[at..bytes.len().min(at + WINDOW)];
            window[..rest.len()].copy_from_slice(rest);
            let found = vectors.masks(&window);
            let mask = if rest.len() < 32 { (1 << rest.len()) - 1 } else { u32::MAX };
            hits |= self.block(bytes, at, Masks { literals: found.literals & mask, ..found }, names);
            at += BLOCK;
        }
        hits
    }

    pub(super) fn scan_scalar(&self, bytes: &[u8], names: &Names) -> Hits {
        let mut hits = 0;
        for at in (0..bytes.len()).step_by(BLOCK) {
            let mut masks = Masks { literals: 0, anchors: 0, digits: 0, separators: 0 };
            for (bit, byte) in bytes.iter().skip(at).take(BLOCK).enumerate() {
                let low = usize::from(byte & 15);
                let [t0, ..] = &self.tables;
                masks.literals |= u32::from(t0.get(low).is_some_and(|set| *set != 0)) << bit;
                masks.anchors |= u32::from(ANCHORS.get(low) == Some(byte)) << bit;
                masks.separators |= u32::from(SEPARATORS.get(low) == Some(byte)) << bit;
                masks.digits |= u32::from(byte.is_ascii_digit()) << bit;
            }
            hits |= self.block(bytes, at, masks, names);
        }
        hits
    }

    #[inline]
    fn block(&self, bytes: &[u8], at: usize, masks: Masks, names: &Names) -> Hits {
        let mut hits = 0;
        let mut literals = masks.literals;
        while literals != 0 {
            let place = at + literals.trailing_zeros() as usize;
            literals &= literals - 1;
            hits |= literal(bytes.get(place..).unwrap_or_default());
        }
        let mut anchors = masks.anchors;
        while anchors != 0 {
            let place = at + anchors.trailing_zeros() as usize;
            anchors &= anchors - 1;
            hits |= match bytes.get(place) {
                Some(b'@') => AT,
                Some(b':') => names.before_colon(bytes, place),
                Some(b'=') => names.before_equals(bytes, place),
                Some(_) => names.before_value(bytes, place),
                None => 0,
            };
        }
        // A card number has 13 characters or more, so one of two blocks has seven of them.
        let run = masks.digits | masks.separators & (masks.digits << 1 | 1);
        let run = run & run >> 1;
        let run = run & run >> 2;
        let run = run & run >> 3;
        if run != 0 && self.off & CARD == 0 {
            hits |= self.digits(bytes, at, run);
        }
        hits
    }

    #[cold]
    fn digits(&self, bytes: &[u8], at: usize, run: u32) -> Hits {
        let mut place = at + run.trailing_zeros() as usize;
        let end = at + BLOCK;
        let mut from: fn(&[u8], usize) -> card::Found = card::around;
        while place < end.min(bytes.len()) {
            let (found, next) = from(bytes, place);
            if found.is_some() {
                return CARD;
            }
            let later = next.saturating_sub(at);
            if later >= BLOCK {
                break;
            }
            match (run >> later).trailing_zeros() {
                32 => break,
                more => place = next + more as usize,
            }
            from = card::from;
        }
        0
    }
}
