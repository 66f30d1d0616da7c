//! A hash that has no seed and never changes: every sidecar of every version sends a key to the same place.
//!
//! FNV-1a (64 bits, Fowler–Noll–Vo, <http://www.isthe.com/chongo/tech/comp/fnv/>), finished by MurmurHash3's `fmix64`
//! because FNV's high bits are weak on short keys. Who can choose keys can make them collide; so nothing may depend on
//! two keys having two hashes.

/// The hash of `key`.
pub fn stable_hash(key: &[u8]) -> u64 {
    mix(key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// `fmix64`: a permutation in which every bit of the result depends on every bit of `number`.
#[inline]
pub fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        // Computed by another implementation; another value here moves every key of a running mesh.
        let recorded = [
            ("", 0xefd0_1f60_ba99_2926_u64),
            ("a1", 0x54ea_fd9b_3248_87be),
            ("account-4711", 0xc608_ea42_0953_ec85),
        ];
        for (key, hash) in recorded {
            assert_eq!(stable_hash(key.as_bytes()), hash, "{key}");
        }
    }
}
