//! What active checks say of one endpoint: a pure state machine over successes and failures.
//!
//! The first answer decides at once, as in Envoy and HAProxy: an endpoint that nobody knows anything of is worse than
//! one good answer. After that, so many answers in a row against the state change it (Envoy's `healthy_threshold` and
//! `unhealthy_threshold`, HAProxy's `rise` and `fall`).

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    #[default]
    Pending,
    /// It answers as it should.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl State {
    /// Its name in the admin API and in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
    }
}

/// How many answers in a row change the state. 0 counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Thresholds {
    /// Successes that make an unhealthy endpoint healthy.
    pub(super) healthy: u32,
    /// Failures that make a healthy endpoint unhealthy.
    pub(super) unhealthy: u32,
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// The new state.
    pub(super) to: State,
    /// Whether it is the first answer ever.
    pub(super) is_first: bool,
}

/// The state, and how much speaks against it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    state: State,
    /// Answers in a row that contradict the state.
    against: u32,
}

impl Machine {
    /// The state.
    pub(super) fn state(self) -> State {
        self.state
    }

    /// Answers in a row that contradict the state.
    pub(super) fn against(self) -> u32 {
        self.against
    }

    /// Whether the next answer is wanted soon: there was none yet, or the last one contradicted the state.
    pub(super) fn is_changing(self) -> bool {
        self.state == State::Pending || self.against > 0
    }

    /// Takes an answer in; the change, if it is one.
    pub(super) fn observe(&mut self, is_success: bool, thresholds: Thresholds) -> Option<Turn> {
        let said = if is_success { State::Healthy } else { State::Unhealthy };
        if self.state == said {
            self.against = 0;
            return None;
        }
        let is_first = self.state == State::Pending;
        self.against = self.against.saturating_add(1);
        let needed = if is_success { thresholds.healthy } else { thresholds.unhealthy };
        if !is_first && self.against < needed {
            return None;
        }
        *self = Machine { state: said, against: 0 };
        Some(Turn { to: said, is_first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds(healthy: u32, unhealthy: u32) -> Thresholds {
        Thresholds { healthy, unhealthy }
    }

    /// The same thing said of a whole history at once: the state is the first answer's, and then that of the last run
    /// of equal answers that was long enough when it came.
    fn by_definition(history: &[bool], thresholds: Thresholds) -> State {
        let mut state = State::Pending;
        for end in 1..=history.len() {
            let last = history[end - 1];
            let run = history[..end].iter().rev().take_while(|answer| **answer == last).count() as u32;
            let (said, needed) = match last {
                true => (State::Healthy, thresholds.healthy),
                false => (State::Unhealthy, thresholds.unhealthy),
            };
            if end == 1 || run >= needed {
                state = said;
            }
        }
        state
    }

    #[test]
    fn every_history_of_twelve_answers_with_every_threshold_up_to_four() {
        for (healthy, unhealthy) in (0..=4).flat_map(|h| (0..=4).map(move |u| (h, u))) {
            let thresholds = thresholds(healthy, unhealthy);
            for bits in 0u32..1 << 12 {
                let history: Vec<bool> = (0..12).map(|at| bits >> at & 1 == 1).collect();
                let mut machine = Machine::default();
                for (at, answer) in history.iter().enumerate() {
                    let before = machine.state();
                    let turn = machine.observe(*answer, thresholds);
                    let expected = by_definition(&history[..=at], thresholds);
                    assert_eq!(machine.state(), expected, "{thresholds:?} {:?}", &history[..=at]);
                    let changed = (before != expected)
                        .then_some(Turn { to: expected, is_first: before == State::Pending });
                    assert_eq!(turn, changed, "{thresholds:?} {:?}", &history[..=at]);
                    let agrees = *answer == (expected == State::Healthy);
                    assert_eq!(machine.is_changing(), !agrees, "{thresholds:?} {:?}", &history[..=at]);
                }
            }
        }
    }

    #[test]
    fn the_defaults() {
        let mut machine = Machine::default();
        assert!(machine.is_changing(), "the first answer is wanted soon");
        let terms = thresholds(2, 3);
        assert_eq!(machine.observe(true, terms), Some(Turn { to: State::Healthy, is_first: true }));
        assert_eq!(machine.observe(false, terms), None);
        assert_eq!(machine.observe(false, terms), None);
        assert_eq!(machine.against(), 2);
        assert_eq!(machine.observe(true, terms), None, "the row is broken");
        assert!(!machine.is_changing());
        for _ in 0..2 {
            assert_eq!(machine.observe(false, terms), None);
        }
        assert_eq!(machine.observe(false, terms), Some(Turn { to: State::Unhealthy, is_first: false }));
        assert!(!machine.is_changing(), "settled: the slow interval will do");
        assert_eq!(machine.observe(true, terms), None);
        assert_eq!(machine.observe(true, terms), Some(Turn { to: State::Healthy, is_first: false }));
    }

    #[test]
    fn counts_do_not_overflow() {
        let mut machine = Machine { state: State::Healthy, against: u32::MAX - 1 };
        let never = thresholds(1, u32::MAX);
        assert!(machine.observe(false, never).is_some());
    }
}
