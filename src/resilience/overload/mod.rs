//! What is given up as memory runs out: one number, written by the control side, read by every request.
//!
//! Steps and their defaults are those of Envoy's overload manager, on the memory of the cgroup and not of the heap, since
//! that is what gets killed ([`cgroup`]): from `shed_percent` on, the lowest ranks are turned away
//! ([`super::load_shed`]); from `keepalive_percent` on, connections are closed after their answer, which frees their
//! buffers and lets clients go elsewhere; from `refuse_percent` on, every request is refused.
//!
//! A step is left when the memory is 2 % below where it begins, so that one that is just reached is not told of four
//! times a second. Data path: one relaxed load; it is 0 while there is nothing to do. Everything else is control side.
//!
//! How it fails: open. Where there is no limit, or the kernel's files cannot be read, nothing is given up.

pub mod cgroup;

pub use cgroup::{Meter, Usage};

use crate::limits;
use serde::Serialize;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// How far below its beginning the memory must be to leave a step, in permille.
const SLACK: u32 = 20;

/// What is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing.
    Normal,
    /// TRACE requests and the lowest tiers.
    Shed,
    /// Those, and connections after their answer.
    CloseConnections,
    /// Every request.
    Refuse,
}

impl Step {
    /// Its name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Normal => "normal",
            Step::Shed => "shed",
            Step::CloseConnections => "close_connections",
            Step::Refuse => "refuse",
        }
    }
}

/// A change of step, for an event and a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The step before.
    pub from: Step,
    /// The step now.
    pub to: Step,
    /// What was measured; `None` when there is no limit any more.
    pub usage: Option<Usage>,
}

/// The state at one moment, for the admin page and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// What is given up.
    pub step: Step,
    /// Bytes in use, as last measured; 0 without a limit.
    pub used_bytes: u64,
    /// Bytes there are; 0 without a limit.
    pub limit_bytes: u64,
}

/// The state of the process. Shared by all listeners.
#[derive(Debug)]
pub struct Overload {
    /// 0 in the normal step; otherwise what [`Pressure`] reads.
    pressure: AtomicU32,
    used_bytes: AtomicU64,
    limit_bytes: AtomicU64,
    is_closing: Arc<AtomicBool>,
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    config: limits::Overload,
    step: Step,
}

/// What a request sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure(u32);

impl Pressure {
    const REFUSE: u32 = 1 << 31;

    /// Whether there is any.
    #[inline]
    pub fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Whether every request is refused.
    pub fn is_total(self) -> bool {
        self.0 & Pressure::REFUSE != 0
    }

    /// Where between the first step (0) and the last (1000) the memory is.
    pub fn permille(self) -> u32 {
        (self.0 & !Pressure::REFUSE).saturating_sub(1)
    }
}

impl Overload {
    /// The normal step, with these bounds.
    pub fn new(config: &limits::Overload) -> Overload {
        Overload {
            pressure: AtomicU32::new(0),
            used_bytes: AtomicU64::new(0),
            limit_bytes: AtomicU64::new(0),
            is_closing: Arc::default(),
            control: Mutex::new(Control { config: config.clone(), step: Step::Normal }),
        }
    }

    /// Other bounds; they hold from the next [`observe`](Overload::observe) on.
    pub fn configure(&self, config: &limits::Overload) {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).config = config.clone();
    }

    /// What requests see.
    #[inline]
    pub fn pressure(&self) -> Pressure {
        Pressure(self.pressure.load(Relaxed))
    }

    /// Whether connections are to be closed after their answer: shared with those who serve them.
    pub fn is_closing(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_closing)
    }

    /// Used and available bytes, as last measured; zeros without a limit.
    pub fn bytes(&self) -> (u64, u64) {
        (self.used_bytes.load(Relaxed), self.limit_bytes.load(Relaxed))
    }

    /// The step.
    pub fn step(&self) -> Step {
        self.control.lock().unwrap_or_else(PoisonError::into_inner).step
    }

    /// How it stands.
    pub fn snapshot(&self) -> Snapshot {
        let (used_bytes, limit_bytes) = self.bytes();
        Snapshot { step: self.step(), used_bytes, limit_bytes }
    }

    /// Takes in what was measured; tells when the step changed. Control side, every `interval`.
    pub fn observe(&self, usage: Option<Usage>) -> Option<Transition> {
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let permille = usage.map_or(0, |usage| usage.permille());
        let from = control.step;
        let to = next(&control.config, from, permille);
        control.step = to;
        let (used_bytes, limit_bytes) = usage.map_or((0, 0), |usage| (usage.used_bytes, usage.limit_bytes));
        self.used_bytes.store(used_bytes, Relaxed);
        self.limit_bytes.store(limit_bytes, Relaxed);
        let severity = severity(&control.config, permille);
        self.pressure.store(
            match to {
                Step::Normal => 0,
                Step::Shed | Step::CloseConnections => 1 + severity,
                Step::Refuse => Pressure::REFUSE | (1 + severity),
            },
            Relaxed,
        );
        self.is_closing.store(to >= Step::CloseConnections, Relaxed);
        (from != to).then_some(Transition { from, to, usage })
    }
}

/// Where the steps begin, in permille. A later step never begins before an earlier one, whatever is configured.
fn begins(config: &limits::Overload) -> [(Step, u32); 3] {
    let shed = config.shed_percent.saturating_mul(10);
    let close = config.keepalive_percent.saturating_mul(10).max(shed);
    let refuse = config.refuse_percent.saturating_mul(10).max(close);
    [(Step::Shed, shed), (Step::CloseConnections, close), (Step::Refuse, refuse)]
}

fn next(config: &limits::Overload, now: Step, permille: u32) -> Step {
    let is_in = |(step, begin): &(Step, u32)| {
        permille >= if *step <= now { begin.saturating_sub(SLACK) } else { *begin }
    };
    begins(config).into_iter().rev().find(is_in).map_or(Step::Normal, |(step, _)| step)
}

/// Where between the first step and the last it is, in permille.
fn severity(config: &limits::Overload, permille: u32) -> u32 {
    let [(_, shed), _, (_, refuse)] = begins(config);
    let range = refuse.saturating_sub(shed).max(1);
    (permille.saturating_sub(shed).saturating_mul(1000) / range).min(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(percent: u64) -> Option<Usage> {
        Some(Usage { used_bytes: percent << 20, limit_bytes: 100 << 20, of: "cgroup" })
    }

    #[test]
    fn each_step_is_told_once_when_it_begins_and_once_when_it_ends() {
        let overload = Overload::new(&limits::Overload::default());
        // Percent used → step now; steps begin at 85, 92 and 95.
        let table = [
            (50, Step::Normal),
            (84, Step::Normal),
            (85, Step::Shed),
            (84, Step::Shed),
            (83, Step::Shed),
            (82, Step::Normal),
            (93, Step::CloseConnections),
            (91, Step::CloseConnections),
            (95, Step::Refuse),
            (94, Step::Refuse),
            (93, Step::Refuse),
            (92, Step::CloseConnections),
            (89, Step::Shed),
            (99, Step::Refuse),
            (10, Step::Normal),
        ];
        let mut before = Step::Normal;
        for (percent, step) in table {
            let told = overload.observe(usage(percent));
            let expected = Transition { from: before, to: step, usage: usage(percent) };
            assert_eq!(told, (before != step).then_some(expected), "{percent} %");
            assert_eq!(overload.step(), step);
            assert_eq!(overload.pressure().is_none(), step == Step::Normal);
            assert_eq!(overload.pressure().is_total(), step == Step::Refuse);
            assert_eq!(overload.is_closing().load(Relaxed), step >= Step::CloseConnections);
            let expected = Snapshot { step, used_bytes: percent << 20, limit_bytes: 100 << 20 };
            assert_eq!(overload.snapshot(), expected);
            before = step;
        }
    }

    #[test]
    fn pressure_grows_from_the_first_step_to_the_last() {
        let overload = Overload::new(&limits::Overload::default());
        let grown: Vec<u32> = [85, 90, 94, 95, 100]
            .into_iter()
            .map(|percent| {
                overload.observe(usage(percent));
                overload.pressure().permille()
            })
            .collect();
        assert_eq!(grown, [0, 500, 900, 1000, 1000]);
        assert!(overload.pressure().is_total());
    }

    #[test]
    fn without_a_limit_nothing_is_given_up() {
        let overload = Overload::new(&limits::Overload::default());
        assert_eq!(overload.observe(None), None);
        overload.observe(usage(99));
        let told = overload.observe(None).unwrap();
        assert_eq!((told.to, told.usage, overload.bytes()), (Step::Normal, None, (0, 0)));
        assert!(overload.pressure().is_none());
    }

    #[test]
    fn bounds_that_contradict_each_other_do_not_reorder_the_steps() {
        let config = limits::Overload {
            shed_percent: 90,
            keepalive_percent: 50,
            refuse_percent: 60,
            ..limits::Overload::default()
        };
        let overload = Overload::new(&config);
        overload.observe(usage(80));
        assert_eq!(overload.step(), Step::Normal);
        overload.observe(usage(90));
        assert_eq!(overload.step(), Step::Refuse);
        overload.configure(&limits::Overload::default());
        overload.observe(usage(70));
        assert_eq!(overload.step(), Step::Normal);
    }
}
