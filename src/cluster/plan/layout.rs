//! What a plan says that changes only when endpoints come, go, or get other weights or labels: who is in which subset and
//! priority level, and the tables of consistent hashing. Plans that differ in health share it.

use super::super::config::{Balance, Policy, SubsetFallback, SubsetValue};
use super::super::stable_hash::{mix, stable_hash};
use super::super::{Endpoint, Settings};
use super::maglev::Maglev;
use super::ring::Ring;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// All endpoints.
    pub(super) whole: Scope,
    /// The endpoints that have the same values of the labels that requests choose by.
    pub(super) subsets: Box<[Scope]>,
    /// Those values, subset by subset, in the order of the labels.
    values: Box<[Box<[Box<str>]>]>,
    /// The hash of the values, and which subset has them; ascending.
    index: Box<[(u64, u32)]>,
    /// The names of zones, by their number; 0 is the zone that is not known.
    pub(super) zones: Box<[Option<Arc<str>>]>,
}

/// Endpoints that belong together, by priority.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub(super) levels: Box<[Level]>,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub(super) priority: u32,
    pub(super) members: Box<[Member]>,
    pub(super) table: Option<Arc<Table>>,
}

/// An endpoint of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Where it is in the set.
    pub(super) index: u32,
    pub(super) weight: u32,
    /// The number of its zone.
    pub(super) zone: u32,
}

/// Which endpoint a hash belongs to.
#[derive(Debug)]
pub enum Table {
    /// Of `ring_hash`.
    Ring(Ring),
    /// Of `maglev`.
    Maglev(Maglev),
}

/// A subset has at most so many points or slots for each of its endpoints, so that thousands of small subsets do not need
/// thousands of full tables.
const SUBSET_POINTS_EACH: u32 = 128;

impl Layout {
    pub(super) fn new(endpoints: &[Arc<Endpoint>], settings: &Settings) -> Layout {
        let balance = &settings.balance;
        let mut zones = Zones::default();
        let members: Vec<Member> = (0..u32::MAX)
            .zip(endpoints)
            .map(|(index, endpoint)| Member {
                index,
                weight: endpoint.weight,
                zone: zones.number(endpoint.zone.as_ref()),
            })
            .collect();
        let mut layout = Layout { zones: zones.names.into(), ..Layout::default() };
        let has_subsets = !balance.subset.is_empty();
        let is_whole_used = !has_subsets || balance.subset_fallback == SubsetFallback::Any;
        let size = if is_whole_used { Size::Full } else { Size::None };
        layout.whole = Scope::new(members.iter().copied(), endpoints, balance, size);
        if has_subsets {
            layout.add_subsets(&members, endpoints, balance);
        }
        layout
    }

    fn add_subsets(&mut self, members: &[Member], endpoints: &[Arc<Endpoint>], balance: &Balance) {
        let mut found: BTreeMap<Vec<&str>, Vec<Member>> = BTreeMap::new();
        for (member, endpoint) in members.iter().zip(endpoints) {
            if let Some(values) = values_of(endpoint, balance) {
                found.entry(values).or_default().push(*member);
            }
        }
        let mut index = Vec::with_capacity(found.len());
        let mut values = Vec::with_capacity(found.len());
        let mut subsets = Vec::with_capacity(found.len());
        for (number, (own, members)) in (0..).zip(found) {
            index.push((key_of(own.iter().map(|value| value.as_bytes())), number));
            values.push(own.into_iter().map(Into::into).collect());
            subsets.push(Scope::new(members.into_iter(), endpoints, balance, Size::OfSubset));
        }
        index.sort_unstable();
        (self.index, self.values, self.subsets) = (index.into(), values.into(), subsets.into());
    }

    /// The number of the subset whose labels have these values; a value that is `None` is none that a label can have.
    pub(super) fn subset(&self, wanted: &[Option<&[u8]>]) -> Option<usize> {
        if wanted.contains(&None) {
            return None;
        }
        let wanted = || wanted.iter().copied().flatten();
        let key = key_of(wanted());
        let start = self.index.partition_point(|(other, _)| *other < key);
        let same = self.index.get(start..)?.iter().take_while(|(other, _)| *other == key);
        // Whoever can choose values can make their hashes collide, so the values are compared.
        same.map(|(_, number)| *number as usize).find(|number| {
            self.values
                .get(*number)
                .is_some_and(|values| values.iter().map(|value| value.as_bytes()).eq(wanted()))
        })
    }
}

/// The values of the labels that requests choose by; `None` if the endpoint is in no subset, because a label is missing
/// or has not the value that is always wanted.
fn values_of<'a>(endpoint: &'a Endpoint, balance: &Balance) -> Option<Vec<&'a str>> {
    let mut values = Vec::new();
    for (label, wanted) in &balance.subset {
        let value = endpoint.labels.get(label)?;
        match wanted {
            SubsetValue::Text(text) if text == value => {}
            SubsetValue::Text(_) => return None,
            SubsetValue::Request(_) => values.push(value.as_str()),
        }
    }
    Some(values)
}

fn key_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> u64 {
    values.fold(0, |key, value| mix(key ^ stable_hash(value)))
}

/// How large the table of a scope is.
#[derive(Clone, Copy)]
enum Size {
    /// It is not used.
    None,
    /// As configured.
    Full,
    /// As configured, but not too large for so few endpoints. It changes only when their number passes a power of two.
    OfSubset,
}

impl Size {
    fn limit(self, configured: u32, endpoints: usize) -> u32 {
        match self {
            Size::None | Size::Full => configured,
            Size::OfSubset => {
                let endpoints = u32::try_from(endpoints.next_power_of_two()).unwrap_or(u32::MAX);
                configured.min(endpoints.saturating_mul(SUBSET_POINTS_EACH))
            }
        }
    }
}

impl Scope {
    fn new(
        members: impl Iterator<Item = Member>,
        endpoints: &[Arc<Endpoint>],
        balance: &Balance,
        size: Size,
    ) -> Scope {
        let mut levels: BTreeMap<u32, Vec<Member>> = BTreeMap::new();
        for member in members {
            let priority = endpoints.get(member.index as usize).map_or(0, |endpoint| endpoint.priority);
            levels.entry(priority).or_default().push(member);
        }
        let level = |(priority, members): (u32, Vec<Member>)| {
            let table = Table::new(&members, endpoints, balance, size).map(Arc::new);
            Level { priority, members: members.into(), table }
        };
        Scope { levels: levels.into_iter().map(level).collect() }
    }
}

impl Table {
    fn new(members: &[Member], endpoints: &[Arc<Endpoint>], balance: &Balance, size: Size) -> Option<Table> {
        // Of one endpoint there is nothing to choose.
        if !balance.policy.is_hash() || members.len() < 2 || matches!(size, Size::None) {
            return None;
        }
        let address = |member: &Member| endpoints.get(member.index as usize).map(|endpoint| endpoint.address);
        let mut members: Vec<(SocketAddr, Member)> =
            members.iter().filter_map(|member| Some((address(member)?, *member))).collect();
        members.sort_unstable_by_key(|(address, _)| *address);
        let (addresses, members): (Vec<SocketAddr>, Vec<Member>) = members.into_iter().unzip();
        let size = |configured| size.limit(configured, members.len());
        Some(match balance.policy {
            Policy::Maglev => {
                Table::Maglev(Maglev::new(&members, &addresses, size(balance.maglev_table_size)))
            }
            _ => {
                let ring = &balance.ring;
                Table::Ring(Ring::new(&members, &addresses, size(ring.size_min), ring.size_max))
            }
        })
    }
}

/// The zones of a set, by number.
struct Zones {
    names: Vec<Option<Arc<str>>>,
    numbers: BTreeMap<Arc<str>, u32>,
}

impl Default for Zones {
    fn default() -> Self {
        Zones { names: vec![None], numbers: BTreeMap::new() }
    }
}

impl Zones {
    fn number(&mut self, zone: Option<&Arc<str>>) -> u32 {
        let Some(zone) = zone else { return 0 };
        if let Some(number) = self.numbers.get(zone) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(0);
        self.names.push(Some(Arc::clone(zone)));
        self.numbers.insert(Arc::clone(zone), number);
        number
    }
}
