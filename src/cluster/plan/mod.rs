//! The plan of a set of endpoints: everything about choosing one that does not depend on the request, prepared when
//! endpoints or their health change, so that a pick is a few array reads.
//!
//! A [`Scope`] is all endpoints, or a subset of them that requests choose by labels. It has [`Level`]s of priority with
//! their shares of the load, and each of them [`Group`]s: one, or one for each zone where zones matter. What depends on
//! membership only (subsets, tables of consistent hashing) is kept while health changes. The algorithms that read this
//! are in [`crate::balance`].
//!
//! A plan may be a little older than the health of its endpoints, so whoever reads it looks at [`Level::ignored`] and the
//! endpoint once more.

mod group;
mod layout;
mod maglev;
mod priority;
mod ring;
mod zone;

pub use group::Group;
pub use layout::Table;
pub use maglev::Maglev;
pub use ring::Ring;

use super::health::Ignored;
use super::{Endpoint, Settings};
use layout::{Layout, Member};
use priority::Standing;
use std::collections::BTreeMap;
use std::sync::Arc;
use zone::Zone;

/// All of a load: shares are parts of it.
pub const FULL: u64 = 1 << 32;

/// See the module.
#[derive(Debug, Default)]
pub struct Plan {
    layout: Arc<Layout>,
    whole: Scope,
    subsets: Box<[Scope]>,
}

/// Endpoints that an attempt may choose from.
#[derive(Debug, Default)]
pub struct Scope {
    levels: Box<[Level]>,
}

/// The endpoints of one priority.
#[derive(Debug)]
pub struct Level {
    /// Its number; the lowest is used first.
    pub priority: u32,
    /// Whether all of its endpoints are used, because too few are healthy.
    pub is_panic: bool,
    /// What does not speak against its endpoints.
    pub ignored: Ignored,
    /// How many of its endpoints could be used when the plan was made.
    pub usable: usize,
    /// How many endpoints it has.
    pub total: usize,
    /// Its endpoints, by zone where that matters.
    pub groups: Box<[Group]>,
    /// Where hashes belong, with a policy that hashes and more than one endpoint.
    pub table: Option<Arc<Table>>,
    /// The end of its share of the load.
    end: u64,
}

impl Plan {
    /// The plan of these endpoints.
    pub(super) fn new(endpoints: &[Arc<Endpoint>], settings: &Settings) -> Plan {
        Plan::of(Arc::new(Layout::new(endpoints, settings)), endpoints, settings)
    }

    /// The plan of the same endpoints, with their health of now.
    pub(super) fn renewed(&self, endpoints: &[Arc<Endpoint>], settings: &Settings) -> Plan {
        Plan::of(Arc::clone(&self.layout), endpoints, settings)
    }

    fn of(layout: Arc<Layout>, endpoints: &[Arc<Endpoint>], settings: &Settings) -> Plan {
        let builder = Builder { layout: &layout, endpoints, settings };
        let whole = builder.scope(&layout.whole);
        let subsets = layout.subsets.iter().map(|scope| builder.scope(scope)).collect();
        Plan { layout, whole, subsets }
    }

    /// All endpoints.
    #[inline]
    pub fn whole(&self) -> &Scope {
        &self.whole
    }

    /// The endpoints whose labels have the values that the request chooses by, in the order of the labels; `None` if there
    /// is none. A value that is `None` is one that the request does not have.
    pub fn subset(&self, values: &[Option<&[u8]>]) -> Option<&Scope> {
        self.subsets.get(self.layout.subset(values)?)
    }
}

impl Scope {
    /// Its levels, ascending by priority.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// The level whose share of the load covers a random number.
    #[inline]
    pub fn level(&self, number: impl FnOnce() -> u64) -> Option<&Level> {
        match &*self.levels {
            [only] => Some(only),
            levels => {
                let number = number() >> 32;
                levels.iter().find(|level| number < level.end).or(levels.first())
            }
        }
    }
}

impl Level {
    /// The group whose share of the load covers a random number.
    #[inline]
    pub fn group(&self, number: impl FnOnce() -> u64) -> Option<&Group> {
        match &*self.groups {
            [only] => Some(only),
            groups => {
                let number = number() >> 32;
                groups.iter().find(|group| number < group.end).or(groups.first())
            }
        }
    }
}

/// What plans are made of.
struct Builder<'a> {
    layout: &'a Layout,
    endpoints: &'a [Arc<Endpoint>],
    settings: &'a Settings,
}

impl Builder<'_> {
    fn scope(&self, scope: &layout::Scope) -> Scope {
        let balance = &self.settings.balance;
        let standings: Vec<(Standing, Ignored)> =
            scope.levels.iter().map(|level| self.standing(level)).collect();
        let only: Vec<Standing> = standings.iter().map(|(standing, _)| *standing).collect();
        let shares = priority::shares(&only, balance.overprovisioning, balance.panic_threshold);
        let mut ends = Ends::default();
        let levels = scope.levels.iter().zip(standings).zip(shares);
        let levels = levels
            .map(|((level, (standing, ignored)), share)| {
                let ignored = if share.is_panic { Ignored::ALL } else { ignored };
                Level {
                    priority: level.priority,
                    is_panic: share.is_panic,
                    ignored,
                    usable: standing.usable,
                    total: standing.total,
                    groups: self.groups(level, ignored),
                    table: level.table.clone(),
                    end: ends.next(share.load),
                }
            })
            .collect();
        Scope { levels }
    }

    /// How many endpoints of a level may be used. Endpoints that no check has looked at yet count as healthy where there
    /// would be too few others: at the start nothing was checked, and that is no panic.
    fn standing(&self, level: &layout::Level) -> (Standing, Ignored) {
        let total = level.members.len();
        let (mut usable, mut with_pending) = (0, 0);
        for endpoint in level.members.iter().filter_map(|member| self.endpoints.get(member.index as usize)) {
            usable += usize::from(endpoint.health.is_usable_despite(Ignored::NOTHING));
            with_pending += usize::from(endpoint.health.is_usable_despite(Ignored::PENDING));
        }
        let standing = Standing { usable, total };
        let is_short = usable == 0 || standing.is_below(self.settings.balance.panic_threshold);
        if is_short && with_pending > usable {
            (Standing { usable: with_pending, total }, Ignored::PENDING)
        } else {
            (standing, Ignored::NOTHING)
        }
    }

    fn groups(&self, level: &layout::Level, ignored: Ignored) -> Box<[Group]> {
        let is_usable = |member: &&Member| {
            let endpoint = self.endpoints.get(member.index as usize);
            endpoint.is_some_and(|endpoint| endpoint.health.is_usable_despite(ignored))
        };
        let usable: Vec<&Member> = level.members.iter().filter(is_usable).collect();
        if let Some(own) = self.zone_that_matters(&usable, ignored) {
            return self.zone_groups(&usable, own);
        }
        let all: Vec<(u32, u32)> = usable.iter().map(|member| (member.index, member.weight)).collect();
        Box::new([Group::new(None, FULL, &all)])
    }

    /// The zone of this service, if endpoints of a level are chosen by their zones.
    fn zone_that_matters(&self, usable: &[&Member], ignored: Ignored) -> Option<&str> {
        let balance = &self.settings.balance;
        let own = self.settings.zone.as_deref()?;
        let is_wanted = balance.locality.prefer_zone && !balance.policy.is_hash() && ignored != Ignored::ALL;
        let is_enough = usable.len() >= balance.locality.endpoints_min as usize;
        (is_wanted && is_enough && usable.iter().any(|member| member.zone != 0)).then_some(own)
    }

    fn zone_groups(&self, usable: &[&Member], own: &str) -> Box<[Group]> {
        let mut by_zone: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for member in usable {
            by_zone.entry(member.zone).or_default().push((member.index, member.weight));
        }
        let name = |zone: u32| {
            self.layout.zones.get(zone as usize).and_then(|name| name.as_ref()).map(|name| &**name)
        };
        let weight = |members: &[(u32, u32)]| members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let zones: Vec<Zone<'_>> = by_zone
            .iter()
            .map(|(zone, members)| Zone { name: name(*zone), weight: weight(members) })
            .collect();
        let shares = zone::shares(&zones, own, &self.settings.balance.locality.callers);
        let mut ends = Ends::default();
        by_zone
            .into_iter()
            .zip(shares)
            .map(|((zone, members), share)| {
                Group::new(Some(name(zone) == Some(own)), ends.next(share), &members)
            })
            .collect()
    }
}

/// Puts shares on a line from 0 to [`FULL`].
#[derive(Default)]
struct Ends(f64);

impl Ends {
    fn next(&mut self, share: f64) -> u64 {
        self.0 += share;
        // What is a little less than all of it is all of it.
        (self.0 * FULL as f64).round() as u64
    }
}
