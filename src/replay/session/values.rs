//! What an actor knows: recorded values and what they are in this replay. Bounded.

use std::collections::HashMap;

/// Values of one actor.
pub const VALUES_MAX: usize = 4_096;
/// Values of all actors; then those of the actor that was quiet for the longest are forgotten.
pub const VALUES_TOTAL_MAX: usize = 500_000;
/// Actors at once.
pub const ACTORS_MAX: usize = 100_000;
/// A longer value is not learned.
pub const VALUE_BYTES_MAX: usize = 16 << 10;

/// One actor's values.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// By their recorded value.
    pub pairs: Pairs,
    /// Cookies by name: what the server of this replay set last.
    pub jar: HashMap<Box<str>, Cookie>,
    /// When it was used last, by the tick of all actors.
    pub used: u64,
}

/// Recorded values and what they are now.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    known: HashMap<Box<str>, Known>,
    tick: u64,
}

#[derive(Debug)]
struct Known {
    now: Box<str>,
    used: u64,
}

#[derive(Debug)]
pub(super) struct Cookie {
    pub value: Box<str>,
    /// Whether the recorded server set it too; if not, no recorded request has it.
    pub is_recorded: bool,
}

impl Pairs {
    /// What a recorded value is now.
    pub fn get(&mut self, recorded: &str) -> Option<&str> {
        self.tick += 1;
        let known = self.known.get_mut(recorded)?;
        known.used = self.tick;
        Some(&known.now)
    }

    /// Learns a value; whether it was new or is another now.
    pub fn learn(&mut self, recorded: &str, now: &str) -> bool {
        if recorded.is_empty() || recorded.len() > VALUE_BYTES_MAX || now.len() > VALUE_BYTES_MAX {
            return false;
        }
        if recorded == now && !self.known.contains_key(recorded) {
            return false;
        }
        if self.known.len() >= VALUES_MAX && !self.known.contains_key(recorded) {
            self.forget();
        }
        self.tick += 1;
        let known = Known { now: now.into(), used: self.tick };
        let before = self.known.insert(recorded.into(), known);
        before.is_none_or(|before| &*before.now != now)
    }

    /// Forgets the quarter that was not used for the longest, so that the search is paid for by a thousand values.
    fn forget(&mut self) {
        let mut used: Vec<u64> = self.known.values().map(|known| known.used).collect();
        used.sort_unstable();
        let limit = used.get(used.len() / 4).copied().unwrap_or_default();
        self.known.retain(|_, known| known.used > limit);
    }
}

impl Values {
    pub fn len(&self) -> usize {
        self.pairs.known.len() + self.jar.len()
    }

    /// See [`Pairs::learn`].
    pub fn learn(&mut self, recorded: &str, now: &str) -> bool {
        self.pairs.learn(recorded, now)
    }

    /// Sets a cookie, or with `None` deletes it.
    pub fn set(&mut self, name: &str, value: Option<(&str, bool)>) {
        match value {
            Some((value, is_recorded)) if self.jar.len() < VALUES_MAX && value.len() <= VALUE_BYTES_MAX => {
                let is_recorded = is_recorded || self.jar.get(name).is_some_and(|cookie| cookie.is_recorded);
                self.jar.insert(name.into(), Cookie { value: value.into(), is_recorded });
            }
            Some(_) => {}
            None => {
                self.jar.remove(name);
            }
        }
    }
}

/// All actors' values.
#[derive(Debug, Default)]
pub(super) struct Actors {
    actors: HashMap<u64, Values>,
    total: usize,
    tick: u64,
}

impl Actors {
    /// Works with an actor's values, and holds the bounds afterwards.
    pub fn with<R>(&mut self, actor: u64, work: impl FnOnce(&mut Values) -> R) -> R {
        self.tick += 1;
        let values = self.actors.entry(actor).or_default();
        values.used = self.tick;
        let before = values.len();
        let result = work(values);
        self.total = self.total.saturating_sub(before) + values.len();
        if self.total > VALUES_TOTAL_MAX || self.actors.len() > ACTORS_MAX {
            self.forget();
        }
        result
    }

    /// How many values are known.
    pub fn total(&self) -> usize {
        self.total
    }

    fn forget(&mut self) {
        let mut used: Vec<u64> = self.actors.values().map(|values| values.used).collect();
        used.sort_unstable();
        // The last quarter is left, should one actor's values be all there is.
        let limit = used.get(used.len() / 4).copied().unwrap_or_default();
        self.actors.retain(|_, values| values.used > limit);
        self.total = self.actors.values().map(Values::len).sum();
    }
}
