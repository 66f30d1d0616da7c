//! What `sidelight replay` puts into a run: sessions, and the comparison of answers and of downstream calls.

use crate::record::Entry;
use crate::replay::Answer;
use crate::replay::compare::downstream::{self, Noting, Places, Traces};
use crate::replay::compare::{Case, Findings, Options, Rules, Seen, Tally, Verdict};
use crate::replay::seam::{Actor, Collector, Request, Session};
use crate::replay::session::{self, Sessions};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// Sessions and the notes of traces, as the engine calls them.
pub(super) struct Learning {
    sessions: Option<Sessions>,
    noting: Option<Noting>,
    /// Which target's traces are noted.
    candidate: u32,
}

impl Learning {
    pub(super) fn new(sessions: Option<Sessions>, noting: Option<Noting>, candidate: u32) -> Learning {
        Learning { sessions, noting, candidate }
    }

    fn noting(&mut self, actor: &Actor) -> Option<&mut Noting> {
        self.noting.as_mut().filter(|_| actor.target == self.candidate)
    }
}

/// One number for whoever has a session of its own.
fn number(actor: &Actor) -> u64 {
    let mixed = actor.key
        ^ (u64::from(actor.clone) << 32 | u64::from(actor.target)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ mixed >> 33
}

impl Session for Learning {
    fn rewrite(&mut self, actor: &Actor, entry: &Entry, request: &mut Request) {
        if let Some(noting) = self.noting(actor) {
            noting.sending(number(actor), entry, &request.head);
        }
        let Some(sessions) = &mut self.sessions else { return };
        let has_body = request.body.is_some();
        let mut changed = session::Request {
            head: std::mem::take(&mut request.head),
            body: request.body.take().unwrap_or_default(),
            pass: request.pass,
        };
        sessions.rewrite(number(actor), entry, &mut changed);
        request.head = changed.head;
        request.body = has_body.then_some(changed.body);
    }

    fn learn(&mut self, actor: &Actor, entry: &Entry, answer: &Answer) {
        if let Some(noting) = self.noting(actor) {
            noting.ended(number(actor), entry, answer);
        }
        if let Some(sessions) = &mut self.sessions {
            sessions.learn(number(actor), entry, answer);
        }
    }
}

/// Where the findings are left for the report.
pub(super) type Found = Arc<Mutex<Option<Findings>>>;

/// The comparison, as the engine calls it.
pub(super) struct Comparing {
    tally: Tally,
    found: Found,
    downstream: Option<(Places, Arc<Traces>)>,
}

impl Comparing {
    pub(super) fn new(rules: Rules, found: &Found, downstream: Option<(Places, Arc<Traces>)>) -> Comparing {
        Comparing { tally: Tally::new(rules, Options::default()), found: Arc::clone(found), downstream }
    }
}

impl Collector for Comparing {
    fn take(&mut self, entry: &Entry, answers: &[Option<Answer>]) {
        let case = Case { route: &entry.route, account: &entry.account_id, sequence: entry.sequence };
        let answers: Vec<Option<Seen<'_>>> =
            answers.iter().map(|one| one.as_ref().map(Seen::answered)).collect();
        match &answers[..] {
            [Some(candidate)] => self.tally.two(case, &Seen::recorded(entry), candidate),
            [Some(primary), Some(candidate)] => self.tally.two(case, primary, candidate),
            [Some(primary), Some(secondary), Some(candidate)] => {
                self.tally.three(case, primary, secondary, candidate);
            }
            // Not sent to all of them: there is nothing to compare, and the totals say so.
            _ => {}
        }
    }

    fn finish(mut self: Box<Self>) -> (Value, bool) {
        if let Some((places, traces)) = self.downstream.take() {
            let told = downstream::compare(&places, &traces, &mut self.tally);
            self.tally.set_downstream(told);
        }
        let findings = self.tally.findings();
        let document = serde_json::to_value(&findings).unwrap_or_default();
        let is_passed = findings.verdict != Verdict::Different;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(findings);
        (document, is_passed)
    }
}
