//! Pieces of recordings: they reach the sinks that are named, and cost the others no event and no place in the books.

use super::*;
use crate::record::shipped::EVENT_START;

/// Whether the event at this place is a piece.
type IsPiece = fn(usize) -> bool;

fn piece(number: usize) -> String {
    format!("{}1\",\"number\":{number}}}", String::from_utf8_lossy(EVENT_START))
}

/// Events of which those at these places are pieces.
fn mixed(count: usize, is_piece: impl Fn(usize) -> bool) -> Vec<(Class, String)> {
    let one = |number| match is_piece(number) {
        true => (Class::Debug, piece(number)),
        false => (Class::Event, number.to_string()),
    };
    (0..count).map(one).collect()
}

fn texts(events: &[(Class, String)], has_pieces: bool) -> Vec<String> {
    let wanted = events.iter().filter(|(_, text)| has_pieces || !text.starts_with('{'));
    wanted.map(|(_, text)| text.clone()).collect()
}

fn fixture(
    events: &[(Class, String)],
    carries: bool,
    sink: impl FnOnce(Sender<Vec<String>>) -> Fake,
) -> Fixture {
    let (spool, mut writer) = Fixture::fill(&spool::Config::default(), &[]);
    for (class, text) in events {
        writer.append(*class, text.as_bytes());
    }
    writer.tick(Instant::now());
    Fixture::begin_told((spool, writer), |status| status.carry_recordings(carries), sink)
}

#[test]
fn a_sink_that_is_not_named_gets_everything_else_and_its_books_agree() {
    let cases: [(&str, IsPiece); 5] = [
        ("none", |_| false),
        ("all", |_| true),
        ("at the end", |number| number >= 20),
        ("at the beginning", |number| number < 20),
        ("in between", |number| number % 3 != 0),
    ];
    for (name, is_piece) in cases {
        let events = mixed(40, is_piece);
        let pieces = (0..40).filter(|number| is_piece(*number)).count() as u64;
        for carries in [false, true] {
            let (books, taken, letters, status) =
                fixture(&events, carries, |taken| Fake::new(Vec::new(), taken)).finish();
            assert_eq!(taken.concat(), texts(&events, carries), "{name}");
            assert_eq!((books.delivered, books.queued, letters.len()), (40, 0, 0), "{name}");
            assert_eq!(status.passed_over(), if carries { 0 } else { pieces }, "{name}");
            assert!(taken.iter().all(|texts| !texts.is_empty()), "{name}: no empty batch is sent");
        }
    }
}

#[test]
fn what_is_passed_over_is_counted_once_however_often_a_sink_fails() {
    let events = mixed(64, |number| number % 2 == 1);
    // Held at first, so that a failure brings everything back.
    let script = vec![Step::Hold, Step::Fail, Step::Fail, Step::Take, Step::Fail, Step::Hold];
    let (books, taken, _, status) = fixture(&events, false, |taken| Fake::new(script, taken)).finish();
    assert_eq!((books.delivered, status.passed_over()), (64, 32));
    let mut got = taken.concat();
    got.sort_by_key(|text| text.parse::<u32>().unwrap());
    got.dedup();
    assert_eq!(got, texts(&events, false), "all of them, some of them twice");
}

#[test]
fn a_poisonous_event_among_pieces_is_found() {
    let mut events = mixed(16, |number| number != 5 && number != 9);
    events[9].1 = "poison".into();
    let (books, taken, letters, status) =
        fixture(&events, false, |taken| Fake { is_picky: true, ..Fake::new(Vec::new(), taken) }).finish();
    assert_eq!((books.delivered, books.dropped[Reason::Rejected as usize]), (15, 1));
    assert_eq!((taken.concat(), letters.len(), status.passed_over()), (vec!["5".to_owned()], 1, 14));
}

#[test]
fn what_is_held_is_not_settled_by_pieces_behind_it() {
    // The sink holds the only event; what comes behind it is passed over, and must not count it as delivered.
    let events = mixed(30, |number| number != 0);
    let fixture = fixture(&events, false, |taken| Fake::new(vec![Step::Hold], taken));
    let since = Instant::now();
    while fixture.status.passed_over() < 29 {
        assert!(since.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    let books = fixture.spool.books().remove(0);
    assert_eq!((books.delivered, books.queued), (0, 30));
    fixture.control.set(Mode::Halt);
    fixture.spool.end("fake");
    fixture.thread.join().unwrap();
}

#[test]
fn only_what_the_pipeline_itself_encoded_is_a_piece() {
    let of_others = [
        (Class::Event, piece(1)),
        (Class::Debug, format!(" {}", piece(2))),
        (Class::Debug, r#"{"schema":"sidelight/recording/1"}"#.to_owned()),
    ];
    let (_, taken, _, status) = fixture(&of_others, false, |taken| Fake::new(Vec::new(), taken)).finish();
    assert_eq!((taken.concat().len(), status.passed_over()), (3, 0));
}
