//! New trace, span and request ids, and lowercase hex.
//!
//! Why an own generator: an id costs two or three additions and rotations, the caller decides the seed (so a
//! simulation repeats exactly), and every worker owns one without a lock. The generator is xoshiro256++ 1.0 by
//! Blackman and Vigna, <https://prng.di.unimi.it/xoshiro256plusplus.c>, with its state filled by SplitMix64 as
//! its authors advise. The state is 256 bits and not 64 because all users of a 64-bit counter generator walk one
//! cycle: a large fleet would meet itself and repeat runs of trace ids.
//!
//! These ids are names, not secrets: who has seen some of them can compute the next ones.
//!
//! How it fails: it cannot. A span or trace id of zeros, which W3C forbids, is drawn again.

/// A small, fast, seedable source of pseudo-random numbers (xoshiro256++). Not for secrets.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator that is fully determined by `seed`. Workers and processes must have different seeds, drawn
    /// from the operating system, or they will hand out the same ids.
    pub fn new(seed: u64) -> Rng {
        let mut counter = seed;
        let state = std::array::from_fn(|_| split_mix(&mut counter));
        // SplitMix64 is a bijection of its counter, so at most one of the four words is zero.
        Rng { state }
    }

    /// The next 64 bits, uniformly distributed.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }
}

/// SplitMix64 by Vigna, <https://prng.di.unimi.it/splitmix64.c>.
fn split_mix(counter: &mut u64) -> u64 {
    *counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *counter;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A new trace id: all 16 bytes random, never all zero. The right-most 7 bytes are random, so a trace that
/// starts with it may set level 2's random flag.
pub fn trace_id(rng: &mut Rng) -> [u8; 16] {
    loop {
        let id = (u128::from(rng.next_u64()) << 64) | u128::from(rng.next_u64());
        if id != 0 {
            return id.to_be_bytes();
        }
    }
}

/// A new span id (W3C: parent-id): 8 random bytes, never all zero.
pub fn span_id(rng: &mut Rng) -> [u8; 8] {
    loop {
        let id = rng.next_u64();
        if id != 0 {
            return id.to_be_bytes();
        }
    }
}

/// Bytes in the text of a request id.
pub const REQUEST_ID_BYTES: usize = 36;

/// Writes a new request id: the text of a UUID version 7 (RFC 9562 §5.7), 36 bytes of lowercase hex and
/// hyphens. It starts with the time, so ids sort roughly by when the request came in. `unix_ms` is milliseconds
/// since 1970; its low 48 bits are used, which last until the year 10889.
pub fn write_request_id(out: &mut [u8; REQUEST_ID_BYTES], unix_ms: u64, rng: &mut Rng) {
    let version_and_random = 0x7000 | (rng.next_u64() >> 52);
    let high = (unix_ms << 16) | version_and_random;
    let variant_and_random = (0b10 << 62) | (rng.next_u64() >> 2);
    let uuid = (u128::from(high) << 64) | u128::from(variant_and_random);

    let mut digits = [0; 32];
    write_hex(&uuid.to_be_bytes(), &mut digits);
    *out = [b'-'; REQUEST_ID_BYTES];
    out[0..8].copy_from_slice(&digits[0..8]);
    out[9..13].copy_from_slice(&digits[8..12]);
    out[14..18].copy_from_slice(&digits[12..16]);
    out[19..23].copy_from_slice(&digits[16..20]);
    out[24..36].copy_from_slice(&digits[20..32]);
}

/// The 32 lowercase hex digits of a trace id.
pub fn trace_id_hex(id: &[u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    write_hex(id, &mut digits);
    digits
}

/// The 16 lowercase hex digits of a span id.
pub fn span_id_hex(id: &[u8; 8]) -> [u8; 16] {
    let mut digits = [0; 16];
    write_hex(id, &mut digits);
    digits
}

/// Writes two lowercase hex digits for each byte; stops where the shorter of the two ends.
pub fn write_hex(bytes: &[u8], out: &mut [u8]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = HEX_PAIRS[usize::from(*byte)];
    }
}

/// The two lowercase hex digits of every byte.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The first outputs of the reference C code for state {1, 2, 3, 4}.
    #[test]
    fn the_generator_is_xoshiro256_plus_plus() {
        let mut rng = Rng { state: [1, 2, 3, 4] };
        let first: Vec<u64> = (0..5).map(|_| rng.next_u64()).collect();
        assert_eq!(
            first,
            [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205],
            "rand_xoshiro's published vector"
        );
    }

    /// The first outputs of the reference C code for seed 1234567.
    #[test]
    fn the_seed_is_spread_by_split_mix_64() {
        let mut counter = 1234567;
        let first: Vec<u64> = (0..3).map(|_| split_mix(&mut counter)).collect();
        assert_eq!(first, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn the_same_seed_gives_the_same_ids_and_another_seed_gives_others() {
        let ids = |seed| {
            let mut rng = Rng::new(seed);
            (trace_id(&mut rng), span_id(&mut rng))
        };
        assert_eq!(ids(7), ids(7));
        assert_ne!(ids(7), ids(8));
    }

    #[test]
    fn ids_do_not_repeat_and_are_never_zero() {
        let mut rng = Rng::new(0);
        let traces: HashSet<_> = (0..10_000).map(|_| trace_id(&mut rng)).collect();
        let spans: HashSet<_> = (0..10_000).map(|_| span_id(&mut rng)).collect();
        assert_eq!((traces.len(), spans.len()), (10_000, 10_000));
        assert!(!traces.contains(&[0; 16]));
        assert!(!spans.contains(&[0; 8]));
    }

    /// With this state the generator's first number is zero, which must not become an id.
    #[test]
    fn a_zero_is_drawn_again() {
        let zero_first = Rng { state: [0, 1, 2, 0] };
        assert_eq!(zero_first.clone().next_u64(), 0);
        assert_ne!(span_id(&mut zero_first.clone()), [0; 8]);
        assert_ne!(trace_id(&mut zero_first.clone()), [0; 16]);
    }

    #[test]
    fn a_request_id_is_a_uuid_version_7() {
        let mut out = [0; REQUEST_ID_BYTES];
        // RFC 9562, appendix A.6: this time is written 017f22e2-79b0.
        write_request_id(&mut out, 1_645_557_742_000, &mut Rng::new(1));
        let text = std::str::from_utf8(&out).unwrap();
        assert!(text.starts_with("017f22e2-79b0-7"), "{text}");
        assert!(matches!(out[19], b'8' | b'9' | b'a' | b'b'), "variant: {text}");
        for (at, byte) in out.iter().enumerate() {
            let hyphen = matches!(at, 8 | 13 | 18 | 23);
            assert_eq!(*byte == b'-', hyphen, "{text}");
            assert!(hyphen || matches!(byte, b'0'..=b'9' | b'a'..=b'f'), "{text}");
        }
    }

    #[test]
    fn request_ids_of_one_millisecond_differ_and_later_ones_sort_later() {
        let mut rng = Rng::new(3);
        let mut make = |unix_ms| {
            let mut out = [0; REQUEST_ID_BYTES];
            write_request_id(&mut out, unix_ms, &mut rng);
            out
        };
        let same_time: HashSet<_> = (0..1_000).map(|_| make(5)).collect();
        assert_eq!(same_time.len(), 1_000);
        assert!(make(5) < make(6) && make(0xffff) < make(0x1_0000));
    }

    #[test]
    fn hex_is_lowercase_and_complete() {
        let every: Vec<u8> = (0..=255).collect();
        let mut out = [0; 512];
        write_hex(&every, &mut out);
        let want: String = every.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(std::str::from_utf8(&out).unwrap(), want);
        assert_eq!(&trace_id_hex(&[0xab; 16]), b"abababababababababababababababab");
        assert_eq!(&span_id_hex(&[1, 2, 3, 4, 5, 6, 7, 0xff]), b"01020304050607ff");
    }
}
