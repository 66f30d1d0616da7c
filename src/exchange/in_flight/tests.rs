//! Whom a call serves, and when nobody can know.

mod model;

use super::*;
use crate::cluster::clock_ns;
use std::sync::Barrier;
use tokio::time::Instant;

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
/// When the tests begin.
const NOW: u64 = 1_000 * SECOND;

/// The trace of `trace`, with the span of `span`; neither is 0.
fn parent(trace: u8, span: u32) -> TraceParent {
    let [a, b, c, d] = span.to_be_bytes();
    TraceParent { version: 0, trace_id: [trace; 16], parent_id: [1, 0, 0, 0, a, b, c, d], flags: 1 }
}

/// An exchange: trace, span, request id, echoed field, context.
#[derive(Clone, Copy, Debug)]
struct Given(u8, u32, &'static str, &'static str, &'static str);

impl Given {
    fn enter(self, shard: &Arc<Shard>, now_ns: u64) -> Place {
        let Given(trace, span, request_id, echo, context) = self;
        let keys =
            Keys { trace: parent(trace, span), request_id: request_id.as_bytes(), echo: echo.as_bytes() };
        shard.enter(&keys, now_ns, |out| out.extend_from_slice(context.as_bytes()))
    }
}

const A: Given = Given(1, 1, "r-a", "", "account=a");
const B: Given = Given(2, 2, "r-b", "", "account=b");

fn bare() -> Call<'static> {
    Call { believes_sole: true, ..Call::default() }
}

fn with_id(request_id: &str) -> Call<'_> {
    Call { request_id: request_id.as_bytes(), ..bare() }
}

fn with_echo(echo: &str) -> Call<'_> {
    Call { echo: echo.as_bytes(), ..bare() }
}

fn with_trace(trace: u8, span: u32) -> Call<'static> {
    Call { trace: Some(parent(trace, span)), ..bare() }
}

fn find(all: &InFlight, call: Call<'_>, now_ns: u64) -> Match {
    all.find(&call, now_ns, &mut Found::default())
}

/// What is left over from the call before, which must not be seen again.
fn used() -> Found {
    Found { trace: Some(parent(99, 99)), context: b"stale".to_vec(), links: vec![([99; 16], [99; 8])] }
}

#[test]
fn what_a_call_brings_decides() {
    // Twice in one trace, with one context and with two.
    let same = [Given(3, 3, "r-c", "", "account=c"), Given(3, 4, "r-d", "", "account=c")];
    let [c, d] = same;
    let other = Given(3, 5, "r-e", "", "account=e");
    // One request id, twice.
    let again = Given(1, 6, "r-a", "", "account=a");
    let (x, y, z) =
        (Given(7, 7, "r-x", "e-1", "x"), Given(8, 8, "r-y", "e-2", "y"), Given(9, 9, "r-x", "e-2", "z"));
    let both =
        |request_id: &'static str, echo: &'static str| Call { echo: echo.as_bytes(), ..with_id(request_id) };
    type Row<'a> = (&'a [Given], Call<'a>, Match, Option<Given>, &'a [u32]);
    let rows: &[Row<'_>] = &[
        // Nothing: only who is alone.
        (&[], bare(), Match::Nobody, None, &[]),
        (&[A], bare(), Match::Sole, Some(A), &[]),
        (&[A, B], bare(), Match::Lost, None, &[1, 2]),
        (&[c, d], bare(), Match::Lost, None, &[3, 4]),
        (&[A], Call { believes_sole: false, ..bare() }, Match::Lost, None, &[1]),
        // A request id: who has it, and nobody else.
        (&[A, B], with_id("r-b"), Match::RequestId, Some(B), &[]),
        (&[A, B, again], with_id("r-a"), Match::Lost, None, &[1, 6]),
        (&[A, again], with_id("r-a"), Match::Lost, None, &[1, 6]),
        (&[A], with_id("r-z"), Match::Lost, None, &[1]),
        (&[], with_id("r-z"), Match::Nobody, None, &[]),
        (&[A, B], Call { believes_sole: false, ..with_id("r-b") }, Match::RequestId, Some(B), &[]),
        // An echoed field: the same.
        (&[x, y], with_echo("e-2"), Match::Echo, Some(y), &[]),
        (&[x, y, z], with_echo("e-2"), Match::Lost, None, &[8, 9]),
        (&[A], with_echo("e-1"), Match::Lost, None, &[1]),
        (&[A], with_id(""), Match::Sole, Some(A), &[]),
        (&[Given(1, 1, "e-1", "", "")], with_echo("e-1"), Match::Lost, None, &[1]),
        // Both: who has most of it; what contradicts itself says nothing.
        (&[x, y, z], both("r-x", "e-2"), Match::RequestId, Some(z), &[]),
        (&[x, y], both("r-x", "e-3"), Match::RequestId, Some(x), &[]),
        (&[x, y], both("r-z", "e-2"), Match::Echo, Some(y), &[]),
        (&[x, y], both("r-x", "e-2"), Match::Lost, None, &[7]),
        (&[y, x], both("r-x", "e-2"), Match::Lost, None, &[7]),
        (&[x, z], both("r-x", ""), Match::Lost, None, &[7, 9]),
        // A trace: the span, or one context for all of the trace. Never `Lost`, never `Sole`.
        (&[A, B], with_trace(2, 2), Match::Span, Some(B), &[]),
        (&[c, d, other], with_trace(3, 4), Match::Span, Some(d), &[]),
        (&[other, d, c], with_trace(3, 3), Match::Span, Some(c), &[]),
        (&[A, B], with_trace(2, 77), Match::Trace, Some(B), &[]),
        (&[c, d, A], with_trace(3, 77), Match::Trace, Some(c), &[]),
        (&[c, other], with_trace(3, 77), Match::Nobody, None, &[]),
        (&[c, other, d], with_trace(3, 77), Match::Nobody, None, &[]),
        (&[other, c, d], with_trace(3, 77), Match::Nobody, None, &[]),
        (&[A], with_trace(9, 1), Match::Nobody, None, &[]),
        (&[A], Call { trace: Some(parent(9, 1)), ..with_id("r-a") }, Match::Nobody, None, &[]),
    ];
    for (given, call, wanted, from, links) in rows {
        // In one worker and spread over three, found is the same.
        for workers in [1, 3] {
            let all = InFlight::new();
            let shards: Vec<Arc<Shard>> = (0..workers).map(|_| all.shard()).collect();
            let _places: Vec<Place> =
                given.iter().zip(shards.iter().cycle()).map(|(each, shard)| each.enter(shard, NOW)).collect();
            let mut found = used();
            let how = all.find(call, NOW, &mut found);
            let context = String::from_utf8_lossy(&found.context).into_owned();
            assert_eq!(how, *wanted, "{given:?} {call:?}");
            assert_eq!(found.trace, from.map(|from| parent(from.0, from.1)), "{given:?} {call:?}");
            assert_eq!(context, from.map_or("", |from| from.4), "{given:?} {call:?}");
            let mut spans: Vec<[u8; 8]> = found.links.iter().map(|(_, span)| *span).collect();
            spans.sort_unstable();
            let wanted: Vec<[u8; 8]> = links.iter().map(|span| parent(1, *span).parent_id).collect();
            assert_eq!(spans, wanted, "{given:?} {call:?}");
        }
    }
}

#[test]
fn after_one_that_ended_early_alone_proves_nothing_for_a_minute() {
    let all = InFlight::new();
    let (one, two) = (all.shard(), all.shard());
    A.enter(&one, NOW).leave(false, NOW);
    let b = B.enter(&two, NOW);
    for (later, wanted) in [(0, Match::Lost), (MINUTE - 1, Match::Lost), (MINUTE, Match::Sole)] {
        assert_eq!(find(&all, bare(), NOW + later), wanted, "{later}");
    }
    assert_eq!(find(&all, with_id("r-b"), NOW), Match::RequestId, "that is still exact");
    b.leave(true, NOW + MINUTE);
    let _a = A.enter(&one, NOW + MINUTE);
    assert_eq!(find(&all, bare(), NOW + MINUTE), Match::Sole, "a whole one leaves nothing behind");
}

/// The client gave up and tries again, with the same ids; the application is still busy with the first one.
#[test]
fn ids_of_one_that_ended_early_are_not_those_of_its_retry() {
    let first = Given(1, 1, "r-a", "e-a", "account=a");
    let retry = Given(1, 2, "r-a", "e-a", "account=a2");
    for workers in [1, 2] {
        let all = InFlight::new();
        let shards: Vec<Arc<Shard>> = (0..workers).map(|_| all.shard()).collect();
        // The ghost is in the worker that is looked at first, or last.
        for (early, late) in [(shards.first(), shards.last()), (shards.last(), shards.first())] {
            let start =
                NOW + if early.map(Arc::as_ptr) == shards.first().map(Arc::as_ptr) { 0 } else { 10 * MINUTE };
            first.enter(early.unwrap(), start).leave(false, start);
            let place = retry.enter(late.unwrap(), start);
            let calls = [
                (with_id("r-a"), Match::Lost, Match::RequestId),
                (with_echo("e-a"), Match::Lost, Match::Echo),
                (with_trace(1, 77), Match::Nobody, Match::Trace),
                (with_trace(1, 2), Match::Span, Match::Span),
                (with_trace(1, 1), Match::Nobody, Match::Trace),
            ];
            for (call, before, after) in calls {
                assert_eq!(find(&all, call, start + MINUTE - 1), before, "{call:?}");
                assert_eq!(find(&all, call, start + MINUTE), after, "{call:?}");
            }
            place.leave(true, start);
        }
    }
}

#[test]
fn a_place_that_is_only_dropped_is_one_that_ended_early() {
    let all = InFlight::new();
    let shard = all.shard();
    drop(A.enter(&shard, 0));
    assert_eq!(all.count(), 0);
    let now_ns = clock_ns(Instant::now());
    let _b = B.enter(&shard, now_ns);
    assert_eq!(find(&all, bare(), now_ns), Match::Lost);
    assert_eq!(find(&all, bare(), now_ns + MINUTE), Match::Sole);
}

#[test]
fn an_application_that_calls_out_while_it_serves_nobody_is_not_believed_for_ten_minutes() {
    let all = InFlight::new();
    let shard = all.shard();
    A.enter(&shard, NOW).leave(true, NOW);
    assert_eq!(find(&all, bare(), NOW), Match::Nobody);
    let _a = A.enter(&shard, NOW + 9 * MINUTE);
    assert_eq!(find(&all, bare(), NOW + 10 * MINUTE - 1), Match::Lost);
    assert_eq!(find(&all, with_id("r-a"), NOW), Match::RequestId, "that is still exact");
    assert!(!all.believes_sole(NOW) && all.believes_sole(NOW + 10 * MINUTE));
    assert_eq!(find(&all, bare(), NOW + 10 * MINUTE), Match::Sole);
}

/// What "alone" cannot know, and what switches it off.
#[test]
fn a_stray_call_is_taken_for_the_exchange_that_is_alone_until_one_shows_itself() {
    let all = InFlight::new();
    let shard = all.shard();
    let timer = bare();
    let a = A.enter(&shard, NOW);
    let careful = Call { believes_sole: false, ..timer };
    assert_eq!(find(&all, timer, NOW), Match::Sole, "nothing says that it is not");
    assert_eq!(find(&all, careful, NOW), Match::Lost);
    a.leave(true, NOW);
    assert_eq!(
        find(&all, careful, NOW + MINUTE),
        Match::Nobody,
        "it is seen also where alone is not believed"
    );
    let _b = B.enter(&shard, NOW + 2 * MINUTE);
    assert_eq!(find(&all, timer, NOW + 2 * MINUTE), Match::Lost, "from here on it is known");
}

#[test]
fn what_proves_no_work_of_its_own_leaves_alone_believed() {
    let all = InFlight::new();
    let shard = all.shard();
    assert_eq!(find(&all, bare(), NOW), Match::Nobody, "how it starts");
    assert_eq!(find(&all, with_id("r-start"), NOW), Match::Nobody);
    let a = A.enter(&shard, NOW);
    assert_eq!(find(&all, with_trace(9, 9), NOW), Match::Nobody, "another trace");
    a.leave(true, NOW);
    assert_eq!(find(&all, with_trace(1, 1), NOW), Match::Nobody, "the trace of one that has ended");
    let _b = B.enter(&shard, NOW);
    assert_eq!(find(&all, bare(), NOW), Match::Sole);
}

#[test]
fn a_stream_is_not_believed_to_be_what_a_call_serves() {
    let all = InFlight::new();
    let shard = all.shard();
    let _stream = A.enter(&shard, NOW);
    assert_eq!(find(&all, bare(), NOW + MINUTE), Match::Sole);
    assert_eq!(find(&all, bare(), NOW + MINUTE + 1), Match::Lost);
    assert_eq!(find(&all, with_id("r-a"), NOW + MINUTE + 1), Match::RequestId);
    let _b = B.enter(&shard, NOW + MINUTE);
    assert_eq!(find(&all, bare(), NOW + MINUTE), Match::Lost, "nor is it none");
}

#[test]
fn a_shard_that_is_full_leaves_nobody_with_a_wrong_parent() {
    let all = InFlight::new();
    let (full, other) = (all.shard(), all.shard());
    let mut places: Vec<Place> =
        (0..ENTRIES_MAX as u32).map(|span| Given(5, span, "r", "", "").enter(&full, NOW)).collect();
    let missed = A.enter(&full, NOW);
    let b = B.enter(&other, NOW);
    assert_eq!(all.count(), ENTRIES_MAX + 2);
    let calls = [
        (bare(), Match::Lost),
        (with_id("r-b"), Match::Lost),
        (with_trace(2, 77), Match::Nobody),
        (with_trace(2, 2), Match::Span),
    ];
    for (call, wanted) in calls {
        assert_eq!(find(&all, call, NOW), wanted, "{call:?}");
    }
    for place in places.drain(..) {
        place.leave(true, NOW);
    }
    assert_eq!(all.count(), 2, "the one that is not known is still there");
    assert_eq!(find(&all, with_id("r-b"), NOW), Match::Lost);
    missed.leave(false, NOW);
    assert_eq!(
        find(&all, with_id("r-b"), NOW + MINUTE - 1),
        Match::Lost,
        "it ended early, and its ids are not known"
    );
    for call in [with_id("r-b"), with_trace(2, 77), bare()] {
        assert!(!matches!(find(&all, call, NOW + MINUTE), Match::Lost | Match::Nobody), "{call:?}");
    }
    b.leave(true, NOW);
    assert_eq!(all.count(), 0);
}

#[test]
fn more_early_ends_than_can_be_remembered_are_all_suspected() {
    let all = InFlight::new();
    let shard = all.shard();
    let ids: Vec<String> = (0..70_000).map(|number| format!("r-{number}")).collect();
    for (span, id) in (0..).zip(&ids) {
        let keys = Keys { trace: parent(5, span), request_id: id.as_bytes(), echo: id.as_bytes() };
        shard.enter(&keys, NOW, |_| {}).leave(false, NOW);
    }
    let _b = B.enter(&shard, NOW);
    assert_eq!(find(&all, with_id("r-b"), NOW + MINUTE - 1), Match::Lost);
    assert_eq!(find(&all, with_id("r-b"), NOW + MINUTE), Match::RequestId);
    // They are forgotten, so there is room for others.
    A.enter(&shard, NOW + MINUTE).leave(false, NOW + MINUTE);
    assert_eq!(find(&all, with_id("r-b"), NOW + MINUTE), Match::RequestId);
}

#[test]
fn a_context_that_is_too_long_is_not_kept_and_the_exchange_is() {
    let all = InFlight::new();
    let shard = all.shard();
    for (length, kept) in [(TEXT_BYTES_MAX, TEXT_BYTES_MAX), (TEXT_BYTES_MAX + 1, 0), (3, 3)] {
        let keys = Keys { trace: parent(1, 1), request_id: b"r", echo: b"" };
        let place = shard.enter(&keys, NOW, |out| out.resize(length, b'x'));
        let mut found = used();
        assert_eq!(all.find(&with_id("r"), NOW, &mut found), Match::RequestId);
        assert_eq!((found.context.len(), found.trace), (kept, Some(parent(1, 1))));
        place.leave(true, NOW);
    }
}

#[test]
fn links_are_bounded() {
    let all = InFlight::new();
    let shards = [all.shard(), all.shard()];
    let _places: Vec<Place> =
        (0..50).map(|span| Given(5, span, "r", "", "").enter(&shards[span as usize % 2], NOW)).collect();
    for call in [bare(), with_id("r"), with_id("other")] {
        let mut found = used();
        assert_eq!(all.find(&call, NOW, &mut found), Match::Lost);
        assert_eq!(found.links.len(), LINKS_MAX);
        assert!(found.links.iter().all(|(trace, _)| *trace == [5; 16]));
    }
}

/// Fifty at once, on four workers: what is found is always one's own.
#[test]
fn nobody_is_given_somebody_elses_context_at_concurrency_fifty() {
    let all = InFlight::new();
    let shards: Vec<Arc<Shard>> = (0..4).map(|_| all.shard()).collect();
    let begin = Barrier::new(50);
    std::thread::scope(|scope| {
        for caller in 0..50_u32 {
            let (all, shard, begin) = (&all, &shards[caller as usize % 4], &begin);
            scope.spawn(move || {
                let mut found = Found::default();
                begin.wait();
                for round in 0..100_u32 {
                    let own = format!("{caller}-{round}");
                    let trace = parent((caller % 5) as u8 + 1, caller * 1000 + round);
                    let keys = Keys { trace, request_id: own.as_bytes(), echo: b"" };
                    let place = shard.enter(&keys, NOW, |out| out.extend_from_slice(own.as_bytes()));
                    for (call, wanted) in [
                        (bare(), None),
                        (with_id(&own), Some(Match::RequestId)),
                        (Call { trace: Some(trace), ..bare() }, Some(Match::Span)),
                    ] {
                        let how = all.find(&call, NOW, &mut found);
                        assert!(matches!(how, Match::Lost) || found.trace == Some(trace), "{own}: {how:?}");
                        assert!(
                            matches!(how, Match::Lost) || found.context == own.as_bytes(),
                            "{own}: {how:?}"
                        );
                        assert_eq!(how, wanted.unwrap_or(how), "{own}");
                    }
                    place.leave(true, NOW);
                }
            });
        }
    });
    assert_eq!(all.count(), 0);
    assert!(all.believes_sole(NOW));
}
