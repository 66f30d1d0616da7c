//! A ring of consistent hashing: every endpoint has points on it, as many as its weight says, and a hash belongs to the
//! next point. Points depend on the address alone, so an endpoint that comes or goes moves no key but its own.
//!
//! Source: ketama (Jones, last.fm, 2007) and Envoy's ring hash, with two differences. How many points a unit of weight has
//! is a power of two, so that it stays the same while endpoints come and go, up to twice or half as many. And an endpoint
//! has about [`POINTS_EACH`] points, however small `ring.size_min` is: with one point each the load of 1,000
//! endpoints would differ by a factor of ten.
//!
//! A point is the high 40 bits of its hash and the low 24 of where its endpoint is in the set; two points that are equal
//! in 40 bits are too rare to matter. The ring is cut into buckets of a few points each, so that finding one needs no search.

use super::super::stable_hash::{mix, stable_hash};
use super::layout::Member;
use std::net::SocketAddr;

/// Points of an endpoint of average weight, 0.7 to 1.4 times as many, as far as `ring.size_max` allows. More would be more
/// even, but a ring of 10,000 endpoints has to be made in less than 10 ms.
const POINTS_EACH: u64 = 24;
/// Up to so many points, every weight is exact: the lightest endpoint has one point, and the others in proportion.
const EXACT_MAX: u64 = 65_536;

/// About so many points are in a bucket.
const BUCKET_POINTS: usize = 8;

const MEMBER_BITS: u32 = 24;
const MEMBER_MASK: u64 = (1 << MEMBER_BITS) - 1;

/// See the module.
#[derive(Debug)]
pub struct Ring {
    points: Box<[u64]>,
    /// Where each bucket starts in `points`, and at last where all end.
    starts: Box<[u32]>,
    /// How far a hash is shifted to become the number of its bucket.
    shift: u32,
}

impl Ring {
    /// A ring of at least `size_min` points, and at most `size_max` (but never less than one for each endpoint).
    pub(super) fn new(members: &[Member], addresses: &[SocketAddr], size_min: u32, size_max: u32) -> Ring {
        let scale = Scale::new(members, u64::from(size_min), u64::from(size_max));
        let count = members.iter().map(|member| scale.points(member.weight)).sum::<u64>();
        let mut points = Vec::with_capacity(count as usize);
        for (member, address) in members.iter().zip(addresses) {
            let start = hash_of(*address);
            let index = u64::from(member.index) & MEMBER_MASK;
            points.extend((0..scale.points(member.weight)).map(|number: u64| {
                let point = mix(start.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
                point & !MEMBER_MASK | index
            }));
        }
        Ring::of(&points)
    }

    /// The points in order: as hashes they are spread evenly, so one pass brings each close to its place.
    fn of(points: &[u64]) -> Ring {
        // At least two, so that the shift is one that there is.
        let buckets_log2 = (points.len().next_power_of_two() / BUCKET_POINTS).max(2).trailing_zeros();
        let shift = 64 - buckets_log2;
        let bucket = |point: &u64| (point >> shift) as usize;
        let mut starts = vec![0u32; (1 << buckets_log2) + 1];
        for point in points {
            if let Some(count) = starts.get_mut(bucket(point) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut sorted = vec![0u64; points.len()];
        for point in points {
            let Some(at) = next.get_mut(bucket(point)) else { continue };
            if let Some(place) = sorted.get_mut(*at as usize) {
                *place = *point;
            }
            *at += 1;
        }
        for ends in starts.windows(2) {
            if let &[start, end] = ends
                && let Some(few) = sorted.get_mut(start as usize..end as usize)
            {
                few.sort_unstable();
            }
        }
        Ring { points: sorted.into(), starts: starts.into(), shift }
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there is no point.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The endpoints of the points from `hash` on, once around; each is where an endpoint is in the set.
    pub fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let bucket = (hash >> self.shift) as usize;
        let mut start = self.starts.get(bucket).map_or(0, |start| *start as usize);
        while self.points.get(start).is_some_and(|point| *point < hash) {
            start += 1;
        }
        let (before, after) = self.points.split_at_checked(start).unwrap_or_default();
        after.iter().chain(before).map(|point| (point & MEMBER_MASK) as usize)
    }
}

/// Points of a unit of weight: a power of two.
struct Scale(f64);

impl Scale {
    fn new(members: &[Member], size_min: u64, size_max: u64) -> Scale {
        let total = members.iter().map(|member| u64::from(member.weight)).sum::<u64>().max(1) as f64;
        let lightest = f64::from(members.iter().map(|member| member.weight).min().unwrap_or(1));
        let usual = (POINTS_EACH as f64 * members.len() as f64 / total).log2().round();
        let mut scale = (size_min as f64 / total).log2().ceil().max(usual).exp2();
        while lightest * scale < 1.0 && total * scale * 2.0 <= EXACT_MAX as f64 {
            scale *= 2.0;
        }
        while total * scale > size_max as f64 && total * scale > members.len() as f64 {
            scale /= 2.0;
        }
        Scale(scale)
    }

    fn points(&self, weight: u32) -> u64 {
        ((f64::from(weight) * self.0).round() as u64).max(1)
    }
}

/// The hash of an address, the same wherever it is written.
pub(super) fn hash_of(address: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    let length = match address {
        SocketAddr::V4(v4) => {
            bytes[..4].copy_from_slice(&v4.ip().octets());
            bytes[4..6].copy_from_slice(&v4.port().to_be_bytes());
            6
        }
        SocketAddr::V6(v6) => {
            bytes[..16].copy_from_slice(&v6.ip().octets());
            bytes[16..].copy_from_slice(&v6.port().to_be_bytes());
            18
        }
    };
    stable_hash(&bytes[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(weights: &[u32], size_min: u32, size_max: u32) -> Ring {
        let members: Vec<Member> =
            (0..).zip(weights).map(|(index, weight)| Member { index, weight: *weight, zone: 0 }).collect();
        let addresses: Vec<SocketAddr> =
            (0..weights.len()).map(|at| ([10, 0, (at >> 8) as u8, at as u8], 80).into()).collect();
        Ring::new(&members, &addresses, size_min, size_max)
    }

    #[test]
    fn a_hash_belongs_to_the_next_point_and_the_walk_comes_around() {
        let ring = ring(&[1; 10], 64, 1 << 20);
        for number in 0..2000u64 {
            let hash = match number {
                0 => 0,
                1 => u64::MAX,
                number => mix(number),
            };
            let at = ring.points.partition_point(|point| *point < hash) % ring.len();
            let walked: Vec<usize> = ring.walk(hash).collect();
            assert_eq!(walked.len(), ring.len());
            assert_eq!(walked[0], (ring.points[at] & MEMBER_MASK) as usize);
        }
        assert!(ring.points.is_sorted());
    }

    #[test]
    fn points_are_as_many_as_the_bounds_and_weights_say() {
        let points = |weights: &[u32], min, max| ring(weights, min, max).len();
        assert_eq!(points(&[1; 10], 1024, 8 << 20), 1280, "128 each");
        assert_eq!(points(&[1; 12], 1024, 8 << 20), 1536, "two more endpoints, and still 128 each");
        assert_eq!(points(&[7; 10], 1024, 8 << 20), 1120, "the unit of weight does not matter");
        assert_eq!(points(&[1, 10_000], 1024, 8 << 20), 10_001, "a weight of one in ten thousand is exact");
        assert_eq!(points(&[1; 1000], 1024, 8 << 20), 32_000);
        assert_eq!(points(&[1; 1000], 1024, 4096), 4000, "at most");
        assert_eq!(points(&[1; 1000], 1, 1), 1000, "but each endpoint has one");
        assert_eq!(points(&[], 1024, 4096), 0);
        assert_eq!(ring(&[], 1, 1).walk(7).next(), None);
    }
}
