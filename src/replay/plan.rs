//! Which exchanges are replayed, and in which order: an index of the recording, some 70 bytes for each exchange.
//!
//! The recording is read once, in the order of its file, which is that of the ends. The index sorts it by starts. While
//! the replay runs it is read again, once for each pass, and put into that order as it is read (see [`super::feed`]). For that, what is
//! read early has to wait; an exchange that started long before those around it in the file (a WebSocket of an hour)
//! would make all of them wait. Such are read beforehand and held: few, and without their large content, which stays
//! in the file until it is sent. How it fails: [`Plan::build`] says what is wrong with the recording, or that nothing
//! in it is wanted.

use super::safety::{Recorded, is_safe_method};
use super::source::{self, Source};
use crate::exchange::Direction;
use crate::record::{Entry, Side};
use std::collections::{BTreeMap, HashMap};

/// What of the recording is wanted. Empty: all that came in.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which side of the application.
    pub direction: Direction,
    /// Only of this account.
    pub account_id: Option<String>,
    /// Only of this user.
    pub user_id: Option<String>,
    /// Only of this route.
    pub route: Option<String>,
    /// Only what started so long after the recording's first exchange, in nanoseconds.
    pub from_ns: u64,
    /// Only what started before that.
    pub until_ns: u64,
    /// Methods that are sent though they are not safe, in upper case; `*` is all.
    pub unsafe_methods: Vec<String>,
    /// Whether exchanges are sent whose request was not recorded as a whole.
    pub allow_truncated: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            direction: Direction::Inbound,
            account_id: None,
            user_id: None,
            route: None,
            from_ns: 0,
            until_ns: u64::MAX,
            unsafe_methods: Vec::new(),
            allow_truncated: false,
        }
    }
}

impl Wanted {
    fn is_selected(&self, entry: &Entry) -> bool {
        let is =
            |wanted: &Option<String>, value: &String| wanted.as_ref().is_none_or(|wanted| wanted == value);
        entry.direction == self.direction
            && is(&self.account_id, &entry.account_id)
            && is(&self.user_id, &entry.user_id)
            && is(&self.route, &entry.route)
    }

    fn objection(&self, entry: &Entry) -> Option<&'static str> {
        let Some(head) = entry.request_head() else { return Some("no_head") };
        if entry.request.is_truncated && !self.allow_truncated {
            return Some("truncated");
        }
        // A WebSocket is opened by GET, or by CONNECT over HTTP/2.
        let is_upgrade = !head.upgrade.is_empty() && &*head.method == b"CONNECT";
        let is_allowed = is_safe_method(&head.method)
            || is_upgrade
            || self.unsafe_methods.iter().any(|name| name == "*" || name.as_bytes() == &*head.method);
        (!is_allowed).then_some("unsafe_method")
    }
}

/// One exchange of the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// When it started, since the recording's first exchange.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    pub sequence: u64,
    pub connection: u64,
    /// Whose exchanges keep their order: a hash of the account, or of the connection without one.
    pub actor: u64,
    pub stream: u32,
    /// How-manieth in the file.
    pub position: u32,
    /// Memory that its entry takes.
    pub bytes: u32,
    /// Which thread sends it.
    pub driver: u16,
    /// Whether nothing follows on its connection.
    pub is_last: bool,
    /// Whether it is read beforehand.
    pub is_held: bool,
}

/// See the module.
pub struct Plan {
    pub(super) items: Vec<Item>,
    /// For each position in the file, its place in `items`; [`UNWANTED`] for others.
    pub(super) places: Vec<u32>,
    /// The length of the recording: each further pass starts so much later.
    pub(super) span_ns: u64,
    pub(super) has_held: bool,
    /// Left out, by reason.
    pub excluded: BTreeMap<String, u64>,
    /// What could not be read, up to [`PROBLEMS_MAX`] of it.
    pub problems: Vec<String>,
    /// The authorities that were recorded.
    pub recorded: Recorded,
    /// Accounts that are replayed.
    pub accounts: usize,
    /// Connections that are replayed.
    pub connections: usize,
}

/// A position in the file that is not replayed.
pub(super) const UNWANTED: u32 = u32::MAX;

/// Problems that are told; all are counted.
const PROBLEMS_MAX: usize = 20;

/// Exchanges in one replay: four billion places, some 70 bytes each.
const ITEMS_MAX: usize = 200_000_000;

/// What is read ahead at most, while it waits for its turn.
pub(super) const AHEAD_BYTES_MAX: u64 = 64 << 20;

/// What may be held because it started long before its neighbours.
const HELD_BYTES_MAX: u64 = 512 << 20;

impl Plan {
    /// Reads the recording once. `drivers` is how many threads will send.
    ///
    /// # Errors
    /// Nothing in the recording can be replayed, and why.
    pub fn build(source: &dyn Source, wanted: &Wanted, drivers: usize) -> Result<Plan, String> {
        Plan::build_within(source, wanted, drivers, AHEAD_BYTES_MAX)
    }

    pub(super) fn build_within(
        source: &dyn Source,
        wanted: &Wanted,
        drivers: usize,
        ahead_bytes_max: u64,
    ) -> Result<Plan, String> {
        let mut recorded = Recorded::default();
        source.authorities().iter().for_each(|authority| {
            recorded.add(authority, false);
            recorded.add(authority, true);
        });
        let (mut items, mut places, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let mut excluded = BTreeMap::<String, u64>::new();
        let (mut first_ns, mut damaged, mut read) = (u64::MAX, 0u64, 0u64);
        let mut objections: Vec<(u64, &'static str)> = Vec::new();
        for found in source.entries() {
            let entry = match found {
                Ok(entry) => entry,
                Err(problem) => {
                    damaged += 1;
                    if problems.len() < PROBLEMS_MAX {
                        problems.push(problem);
                    }
                    continue;
                }
            };
            read += 1;
            recorded.add_entry(&entry);
            let position = u32::try_from(places.len())
                .map_err(|_| "the recording has too many exchanges; cut it first")?;
            places.push(UNWANTED);
            if !wanted.is_selected(&entry) {
                continue;
            }
            first_ns = first_ns.min(entry.started_ns);
            if let Some(reason) = wanted.objection(&entry) {
                objections.push((entry.started_ns, reason));
                continue;
            }
            if items.len() >= ITEMS_MAX {
                return Err("the recording has too many exchanges; cut it first".into());
            }
            items.push(index(&entry, position));
        }
        if damaged > 0 {
            problems.push(format!("{damaged} places of the recording could not be read"));
        }
        let is_inside = |start_ns: u64| {
            let since = start_ns.saturating_sub(first_ns);
            since >= wanted.from_ns && since < wanted.until_ns
        };
        for (_, reason) in objections.iter().filter(|(start_ns, _)| is_inside(*start_ns)) {
            *excluded.entry((*reason).to_owned()).or_default() += 1;
        }
        items.retain(|item| is_inside(item.start_ns));
        if items.is_empty() {
            return Err(nothing(read, &excluded, wanted));
        }
        let base_ns = first_ns.saturating_add(wanted.from_ns);
        let base_ns =
            if wanted.from_ns > 0 { base_ns } else { items.iter().map(|i| i.start_ns).min().unwrap_or(0) };
        for item in &mut items {
            item.end_ns = item.end_ns.saturating_sub(base_ns);
            item.start_ns = item.start_ns.saturating_sub(base_ns);
        }
        items.sort_unstable_by_key(|item| (item.start_ns, item.connection, item.stream, item.position));
        let connections = mark_last(&mut items);
        let accounts = spread(&mut items, drivers.max(1));
        let has_held = hold(&mut items, ahead_bytes_max)?;
        for (place, item) in items.iter().enumerate() {
            if let Some(slot) = places.get_mut(item.position as usize) {
                *slot = place as u32;
            }
        }
        let last_ns = items.last().map_or(0, |item| item.start_ns);
        // One mean gap behind the last start, so that passes do not meet.
        let span_ns = last_ns + (last_ns / (items.len() as u64).max(1)).max(1_000);
        Ok(Plan { items, places, span_ns, has_held, excluded, problems, recorded, accounts, connections })
    }

    /// How many exchanges one pass has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing to replay; never so for a plan that was built.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// From the first start to the last, in nanoseconds.
    pub fn span_ns(&self) -> u64 {
        self.span_ns
    }
}

fn nothing(read: u64, excluded: &BTreeMap<String, u64>, wanted: &Wanted) -> String {
    if read == 0 {
        return "the recording has no exchange that can be read; see `sidelight recording verify`".into();
    }
    if excluded.is_empty() {
        let side = wanted.direction.as_str();
        return format!(
            "none of {read} exchanges is wanted: {side}, and what the filters say; see --side, --account, --route, --window"
        );
    }
    let reasons: Vec<String> = excluded.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let hint = if excluded.contains_key("unsafe_method") {
        "; --allow-unsafe POST,PUT sends methods that change things"
    } else {
        ""
    };
    format!("nothing is left to send: {}{hint}", reasons.join(", "))
}

fn index(entry: &Entry, position: u32) -> Item {
    let actor = if !entry.account_id.is_empty() {
        hash(b'a', entry.account_id.as_bytes())
    } else if !entry.user_id.is_empty() {
        hash(b'u', entry.user_id.as_bytes())
    } else if entry.connection != 0 {
        hash(b'c', format!("{} {}", entry.connection, entry.peer).as_bytes())
    } else if !entry.peer.is_empty() {
        hash(b'p', entry.peer.as_bytes())
    } else {
        hash(b'e', &entry.sequence.to_le_bytes())
    };
    // Recordings of several processes may have the same numbers; their peers differ.
    let connection = match entry.connection {
        0 => 0,
        number => mix(number ^ hash(b'p', entry.peer.as_bytes())).max(1),
    };
    Item {
        start_ns: entry.started_ns,
        end_ns: entry.started_ns.saturating_add(entry.duration_ns),
        sequence: entry.sequence,
        connection,
        actor,
        stream: u32::try_from(entry.stream).unwrap_or(u32::MAX),
        position,
        bytes: u32::try_from(source::held_bytes(entry)).unwrap_or(u32::MAX),
        driver: 0,
        is_last: false,
        is_held: false,
    }
}

/// FNV-1a and a finishing mix: the same in every build, for it goes into the dispatch hash and the report.
pub(super) fn hash(kind: u8, bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in std::iter::once(&kind).chain(bytes) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

pub(super) fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Marks the last exchange of each connection; says how many connections there are.
fn mark_last(items: &mut [Item]) -> usize {
    let mut seen = std::collections::HashSet::new();
    for item in items.iter_mut().rev() {
        item.is_last = item.connection != 0 && seen.insert(item.connection);
    }
    seen.len()
}

/// Gives each exchange to a thread, so that all of an account, and all of a connection, are on one. Says how many
/// accounts there are.
fn spread(items: &mut [Item], drivers: usize) -> usize {
    let mut groups: HashMap<u64, u32> = HashMap::new();
    let mut parents: Vec<u32> = Vec::new();
    let mut node = |key: u64, parents: &mut Vec<u32>| {
        *groups.entry(key).or_insert_with(|| {
            parents.push(parents.len() as u32);
            parents.len() as u32 - 1
        })
    };
    fn root(parents: &mut [u32], mut node: u32) -> u32 {
        // Each step halves the way; bounded by the depth.
        while let Some(parent) = parents.get(node as usize).copied().filter(|parent| *parent != node) {
            let above = parents.get(parent as usize).copied().unwrap_or(parent);
            if let Some(slot) = parents.get_mut(node as usize) {
                *slot = above;
            }
            node = above;
        }
        node
    }
    let mut actors = std::collections::HashSet::new();
    let mut nodes = Vec::with_capacity(if drivers > 1 { items.len() } else { 0 });
    for item in items.iter() {
        actors.insert(item.actor);
        if drivers > 1 {
            let actor = node(item.actor, &mut parents);
            if item.connection != 0 {
                let connection = node(hash(b'c', &item.connection.to_le_bytes()), &mut parents);
                let (one, two) = (root(&mut parents, actor), root(&mut parents, connection));
                if let Some(slot) = parents.get_mut(two as usize) {
                    *slot = one;
                }
            }
            nodes.push(actor);
        }
    }
    if drivers > 1 {
        let mut counts: HashMap<u32, u64> = HashMap::new();
        for actor in &nodes {
            *counts.entry(root(&mut parents, *actor)).or_default() += 1;
        }
        // The largest first, each to the thread that has the least; ties by the first appearance.
        let mut order: Vec<(u32, u64)> = counts.into_iter().collect();
        order.sort_unstable_by_key(|(group, count)| (std::cmp::Reverse(*count), *group));
        let mut loads = vec![0u64; drivers.min(usize::from(u16::MAX))];
        let mut chosen: HashMap<u32, u16> = HashMap::new();
        for (group, count) in order {
            if let Some((index, load)) = loads.iter_mut().enumerate().min_by_key(|(_, load)| **load) {
                *load += count;
                chosen.insert(group, index as u16);
            }
        }
        for (item, actor) in items.iter_mut().zip(&nodes) {
            item.driver = chosen.get(&root(&mut parents, *actor)).copied().unwrap_or(0);
        }
    }
    actors.len()
}

/// Marks what has to be read beforehand, so that what waits for its turn stays within `ahead_bytes_max`.
fn hold(items: &mut [Item], ahead_bytes_max: u64) -> Result<bool, String> {
    // Bytes of the wanted entries up to each position.
    let mut by_position: Vec<(u32, u32)> = items.iter().map(|item| (item.position, item.bytes)).collect();
    by_position.sort_unstable();
    let mut upto = 0u64;
    let sums: Vec<(u32, u64)> = by_position
        .into_iter()
        .map(|(position, bytes)| {
            upto += u64::from(bytes);
            (position, upto)
        })
        .collect();
    let (mut consumed, mut held) = (0u64, 0u64);
    for item in items.iter_mut() {
        let place = sums.partition_point(|(position, _)| *position < item.position);
        let sum = sums.get(place).map_or(0, |(_, sum)| *sum);
        consumed += u64::from(item.bytes);
        if sum > consumed.saturating_add(ahead_bytes_max) {
            item.is_held = true;
            held += u64::from(item.bytes);
        }
    }
    if held > HELD_BYTES_MAX {
        return Err(format!(
            "exchanges of {} that ended long after they started would have to be held in memory; cut the recording into shorter windows",
            crate::units::size_text(held)
        ));
    }
    Ok(held > 0)
}

/// Whether the request's content is in the entry, and can be sent as a whole.
pub(super) fn is_request_whole(entry: &Entry) -> bool {
    entry.parts == 0 || (entry.request.bytes == 0 && !source::has_data(entry, Side::Request))
}
