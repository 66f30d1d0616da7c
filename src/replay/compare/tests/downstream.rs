//! Calls of a run: what is compared, what is told, and what is held against nobody.

use super::super::downstream::{Downstream, Noting, Places, Traces, compare};
use super::super::*;
use crate::exchange::Direction;
use crate::record::{Entry, Event, Field, Header, RequestHead, What, Writer};
use crate::replay::{Answer, Source};
use std::sync::Arc;
use std::time::SystemTime;

fn entry(sequence: u64, direction: Direction, trace: u8, target: &str) -> Entry {
    let head = RequestHead {
        method: "GET".into(),
        authority: "stock:8080".into(),
        target: target.to_owned().into(),
        fields: vec![Field::new(
            "traceparent",
            format!("00-{}-0102030405060708-01", format!("{:02x}", trace + 100).repeat(16)),
        )],
        ..RequestHead::default()
    };
    let events = vec![Event { at_ns: 0, what: What::Request(head) }];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let started_ns = now.as_nanos() as u64;
    Entry {
        started_ns,
        sequence,
        direction,
        trace_id: [trace; 16],
        route: "shop".into(),
        events,
        ..Entry::default()
    }
}

/// Three traces, of which the second has two exchanges; one call each.
fn recording() -> Vec<Entry> {
    use Direction::{Inbound, Outbound};
    [
        (Outbound, 1, "/items/7"),
        (Inbound, 1, "/"),
        (Inbound, 2, "/"),
        (Outbound, 2, "/items/1"),
        (Inbound, 2, "/b"),
        (Outbound, 3, "/items/3"),
        (Inbound, 3, "/"),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (direction, trace, target))| entry(at as u64 + 1, direction, trace, target))
    .collect()
}

/// A tally that has seen the exchanges, and the traces of those that were answered.
fn replayed(rules: Rules, recording: &[Entry], is_answered: impl Fn(&Entry) -> bool) -> (Tally, Arc<Traces>) {
    let (mut tally, traces) = (Tally::new(rules, Options::default()), Arc::new(Traces::default()));
    let mut noting = Noting::new(&traces);
    for entry in recording.iter().filter(|entry| entry.direction == Direction::Inbound) {
        noting.sending(1, entry, entry.request_head().unwrap());
        let error = (!is_answered(entry)).then(|| "timeout".to_owned());
        let answer = Answer { sent_ns: 1, status: 200, error, ..Answer::default() };
        noting.ended(1, entry, &answer);
        let case = Case { route: &entry.route, account: "a", sequence: entry.sequence };
        tally.two(case, &Seen::answered(&answer), &Seen::answered(&answer));
    }
    (tally, traces)
}

/// Writes what a sidecar would have, and compares.
fn compared(
    recording: Vec<Entry>,
    observed: &[Entry],
    is_answered: impl Fn(&Entry) -> bool,
) -> (Downstream, Findings) {
    compared_under(Rules::default(), recording, observed, is_answered)
}

fn compared_under(
    rules: Rules,
    recording: Vec<Entry>,
    observed: &[Entry],
    is_answered: impl Fn(&Entry) -> bool,
) -> (Downstream, Findings) {
    let directory = tempfile::tempdir().unwrap();
    let header = Header { recording: "beside".into(), ..Header::default() };
    let mut writer = Writer::create(directory.path(), &header).unwrap();
    observed.iter().for_each(|entry| writer.write(entry).unwrap());
    writer.finish().unwrap();
    let (mut tally, traces) = replayed(rules, &recording, is_answered);
    let places = Places {
        recording: Arc::new(recording) as Arc<dyn Source>,
        direction: Direction::Inbound,
        observed: vec![directory.path().into()],
        since: SystemTime::now(),
    };
    let told = compare(&places, &traces, &mut tally);
    tally.set_downstream(told.clone());
    (told, tally.findings())
}

/// As the candidate's sidecar records it: under the trace of the run.
fn call(trace: u8, target: &str) -> Entry {
    entry(1, Direction::Outbound, trace + 100, target)
}

#[test]
fn the_same_calls_are_the_same_whatever_their_ids_and_order() {
    let observed =
        [call(3, "/items/93"), call(1, "/items/12?x=1"), call(2, "/items/5"), call(9, "/of-nobody")];
    let (told, findings) = compared(recording(), &observed, |_| true);
    let want = Downstream { traces: 3, recorded_calls: 3, observed_calls: 3, ..Downstream::default() };
    assert_eq!(told, want);
    assert_eq!(findings.verdict, Verdict::Same, "{findings}");
    assert!(
        findings.to_string().contains("3 traces compared, 3 recorded and 3 observed calls, 0 traces differ")
    );
}

#[test]
fn one_call_more_one_less_and_another_one_are_told() {
    let observed = [call(1, "/items/12"), call(1, "/audit"), call(2, "/items/5"), call(2, "/items/6")];
    let (told, findings) = compared(recording(), &observed, |_| true);
    assert_eq!((told.traces, told.different, told.recorded_calls, told.observed_calls), (3, 3, 3, 4));
    let rows: Vec<(&str, &str, u64, &str)> = findings
        .fields
        .iter()
        .map(|field| (&*field.path, field.kind.as_str(), field.candidate_odd, &*field.examples[0].after))
        .collect();
    assert!(rows.contains(&("call:GET stock/audit", "added", 1, "1 call")), "{rows:?}");
    let items = rows.iter().find(|row| row.0 == "call:GET stock/items/*").unwrap();
    assert_eq!(items.2, 2, "missing in one, twice in another: {rows:?}");
    assert_eq!(findings.verdict, Verdict::Different);
    let ignore = vec!["call:GET stock/audit".into(), "call:GET stock/items/**".into()];
    let rules = Rules::new(&rules::Config { ignore, ..rules::Config::default() }).unwrap();
    let (told, findings) = compared_under(rules, recording(), &observed, |_| true);
    assert_eq!((told.different, findings.verdict), (0, Verdict::Same));
}

#[test]
fn a_trace_that_was_not_replayed_as_a_whole_is_left_out() {
    // The second trace's exchange 5 had no answer, so its call may be missing for that reason.
    let observed = [call(1, "/items/12"), call(3, "/items/3")];
    let (told, findings) = compared(recording(), &observed, |entry| entry.sequence != 5);
    assert_eq!((told.traces, told.partial, told.different), (2, 1, 0));
    assert_eq!(findings.verdict, Verdict::Same, "{findings}");
}

#[test]
fn what_cannot_be_compared_says_why_and_is_held_against_nobody() {
    let inbound_only =
        recording().into_iter().filter(|entry| entry.direction == Direction::Inbound).collect();
    for (recording, observed, is_answered, why) in [
        (inbound_only, vec![call(1, "/")], true, "the recording has none"),
        (recording(), vec![call(20, "/")], true, "no call of this run is in"),
        (recording(), vec![call(1, "/")], false, "no trace was replayed"),
    ] {
        let (told, findings) = compared(recording, &observed, |_| is_answered);
        assert!(told.problem.as_ref().is_some_and(|problem| problem.contains(why)), "{told:?}");
        assert!(findings.fields.iter().all(|field| !field.path.starts_with("call:")), "{findings}");
        assert!(findings.to_string().contains(why), "{findings}");
    }
}
