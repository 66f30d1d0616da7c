//! What a hostile review found: events that are held, given up or cannot be read, and threads at their end.

use super::*;
use crate::pipeline::config::{Config, Sinks};
use crate::pipeline::sinks::file;
use crate::pipeline::{Pipeline, Service};

#[test]
fn a_sink_that_is_always_busy_does_what_is_due_by_time() {
    let events: Vec<String> = (0..40_000).map(|number| number.to_string()).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let idled = Arc::new(AtomicUsize::new(0));
    // From the first to the last event there is always more; each batch takes a millisecond.
    let slow = (0..5_000).map(|_| Step::Slow).collect();
    let fixture = Fixture::with(&spool::Config::default(), &events, |taken| Fake {
        idled: Arc::clone(&idled),
        ..Fake::new(slow, taken)
    });
    let since = Instant::now();
    while idled.load(Ordering::Relaxed) < 3 {
        assert!(since.elapsed() < DEADLINE, "what is due is never done");
        assert!(fixture.spool.books()[0].queued > 0, "it was busy until the end, and nothing was done");
        std::thread::yield_now();
    }
    fixture.finish();
}

#[test]
fn what_fails_while_a_sink_is_idle_between_batches_brings_back_what_it_held() {
    let events: Vec<String> = (0..64).map(|number| number.to_string()).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let script = (0..4).map(|_| Step::HoldSlowly).collect();
    let fixture = Fixture::with(&spool::Config::default(), &events, |taken| Fake {
        idles: Arc::new(Mutex::new(VecDeque::from([Step::Fail]))),
        ..Fake::new(script, taken)
    });
    let (books, taken, _, status) = fixture.finish();
    assert_eq!((books.delivered, status.retries()), (64, 1));
    let again = taken.iter().skip(1).position(|texts| texts.first() == Some(&"0".to_owned()));
    assert!(again.is_some(), "from the first one that was not settled: {taken:?}");
}

#[test]
fn what_a_sink_holds_at_the_end_has_another_chance_when_closing_fails() {
    let fixture = Fixture::with(&spool::Config::default(), &["0", "1"], |taken| Fake {
        idles: Arc::new(Mutex::new(VecDeque::from([Step::Fail, Step::Take]))),
        // Held, and nothing is idle before the end.
        ..Fake::new(vec![Step::Hold, Step::Hold], taken)
    });
    fixture.control.set(Mode::Drain(Instant::now() + DEADLINE));
    fixture.spool.end("fake");
    fixture.thread.join().unwrap();
    let books = fixture.spool.books().remove(0);
    assert_eq!((books.delivered, books.queued), (2, 0));
    assert_eq!(fixture.taken.try_iter().count(), 2, "sent again");
}

#[test]
fn a_sink_that_fails_for_long_has_its_progress_written_down() {
    let directory = tempfile::tempdir().unwrap();
    let config = spool::Config {
        directory: Some(directory.path().into()),
        // Longer than the test: progress is written down because the sink fails.
        progress_interval: Duration::from_secs(3600),
        ..spool::Config::default()
    };
    let events: Vec<String> = (0..32).map(|number| number.to_string()).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    let script = [Step::Take, Step::Take, Step::Take].into_iter().chain((0..100_000).map(|_| Step::Fail));
    let script = script.collect();
    let fixture = Fixture::with(&config, &events, |taken| Fake::new(script, taken));
    let since = Instant::now();
    while fixture.status.retries() < 2 {
        assert!(since.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    // As a process that is killed now would leave it.
    let other = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, other.path().join(path.file_name().unwrap())).unwrap();
    }
    let config = spool::Config { directory: Some(other.path().into()), ..config };
    let (spool, _writer) = Spool::open(&config, "test", 2).unwrap();
    assert_eq!(spool.books()[0].position, 24);
    fixture.control.set(Mode::Halt);
    fixture.thread.join().unwrap();
}

#[test]
fn events_whose_disk_is_away_are_waited_for_without_a_rush() {
    let directory = tempfile::tempdir().unwrap();
    let (here, away) = (directory.path().join("spool"), directory.path().join("away"));
    let config = spool::Config { directory: Some(here.clone()), ..spool::Config::default() };
    let (spool, writer) = Fixture::fill(&config, &["0", "1", "2"]);
    std::fs::rename(&here, &away).unwrap();
    let fixture = Fixture::begin((spool, writer), |taken| Fake::new(Vec::new(), taken));
    let (since, before) = (Instant::now(), cpu_ticks(fixture.task));
    while since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(50));
    }
    // A hundred to the second.
    assert!(cpu_ticks(fixture.task) - before < 30, "a thread that spins");
    std::fs::rename(&away, &here).unwrap();
    let (books, taken, _, _) = fixture.finish();
    assert_eq!((books.delivered, taken.concat()), (3, vec!["0".to_owned(), "1".into(), "2".into()]));
}

/// CPU time of this process, in hundredths of a second.
fn cpu_ticks(task: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{task}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_name_that_cannot_be_one_is_refused_with_the_whole_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| {
        let path = directory.path().join("events");
        file::Config { name: Some(name.into()), path, rotate: None }
    };
    let sinks =
        |names: &[&str]| Sinks { file: names.iter().map(|name| file(name)).collect(), ..Sinks::default() };
    let config = Config { sinks: sinks(&["good"]), ..Config::default() };
    let (pipeline, _) = Pipeline::start(&config, Service::default(), 1, directory.path()).unwrap();
    for bad in ["a b", "../a", "", ".a"] {
        let refused = pipeline.sinks().prepare(&sinks(&["good", bad])).err().unwrap();
        assert!(refused.contains(&format!("`{bad}`")) && refused.contains("letters"), "{refused}");
    }
    assert!(pipeline.sinks().prepare(&sinks(&["good", "good"])).is_err());
    assert!(pipeline.stop(DEADLINE));
}

#[test]
fn the_threads_of_a_pipeline_that_nobody_stops_end_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = file::Config { name: None, path: directory.path().join("events"), rotate: None };
    let spool = spool::Config { directory: Some(directory.path().join("spool")), ..spool::Config::default() };
    let sinks = Sinks { file: vec![file], ..Sinks::default() };
    let config = Config { sinks, spool: spool.clone(), ..Config::default() };
    drop(Pipeline::start(&config, Service::default(), 1, directory.path()).unwrap());
    // The lock of the directory lasts as long as anybody has the spool.
    let since = Instant::now();
    while Spool::open(&spool, "test", 2).is_err() {
        assert!(since.elapsed() < DEADLINE, "somebody has it still");
        std::thread::yield_now();
    }
}

#[test]
fn what_counts_as_dropped_while_a_sink_was_down_is_not_sent_when_it_is_up() {
    let config = spool::Config { memory_bytes_max: 4 << 10, ..spool::Config::default() };
    let script: Script = Arc::new(Mutex::new((0..100_000).map(|_| Step::Fail).collect()));
    let mut fixture = Fixture::with(&config, &["first"], |taken| Fake {
        script: Arc::clone(&script),
        ..Fake::new(Vec::new(), taken)
    });
    let since = Instant::now();
    while fixture.status.retries() == 0 {
        assert!(since.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    for number in 0..200 {
        fixture.writer.append(Class::Event, format!("{number:0100}").as_bytes());
        fixture.writer.tick(Instant::now());
    }
    script.lock().unwrap().clear();
    let (books, taken, _, _) = fixture.finish();
    let taken = taken.concat();
    assert!(books.dropped[Reason::Memory as usize] > 0 && !taken.contains(&"first".to_owned()));
    assert_eq!((books.delivered, books.delivered + books.dropped_all()), (taken.len() as u64, 201));
}
