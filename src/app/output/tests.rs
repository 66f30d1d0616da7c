//! Real processes, real pipes.

use super::*;
use crate::app::child::Child;
use serde_json::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The pipeline: takes what there is room for.
#[derive(Default)]
struct Pipeline {
    taken: Mutex<Vec<Incoming>>,
    is_full: AtomicBool,
    refused: AtomicUsize,
    /// Every so many events one is refused first; 0: none.
    refuses_each: usize,
}

impl Pipeline {
    fn accept(self: &Arc<Self>) -> Accept {
        let pipeline = Arc::clone(self);
        Arc::new(move |event| {
            let mut taken = pipeline.taken.lock().unwrap();
            let refused = pipeline.refused.load(Ordering::Relaxed);
            let is_due = pipeline.refuses_each > 0 && taken.len() / pipeline.refuses_each > refused;
            if pipeline.is_full.load(Ordering::Relaxed) || is_due {
                pipeline.refused.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            taken.push(event);
            true
        })
    }

    fn bodies(&self, stream: &str) -> Vec<String> {
        let taken = self.taken.lock().unwrap();
        let events = taken.iter().map(|event| serde_json::from_slice::<Value>(&event.json).unwrap());
        let lines = events.filter(|event| {
            event["log.iostream"] == stream && event["sidelight.app_output.dropped"].is_null()
        });
        lines.map(|event| event["body"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn setup(pipeline: &Arc<Pipeline>, stall_max: Duration) -> Setup {
    let config = Config { pass_through: PassThrough::Never, stall_max, ..Config::default() };
    Setup {
        config,
        has_stdout_sink: false,
        exchanges: None,
        accept: pipeline.accept(),
        stats: Arc::default(),
    }
}

/// Runs a shell script as the application; its exit status.
fn run(script: &str, setup: &Setup) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let command = ["sh", "-c", script].map(str::to_owned);
        let mut child = Child::start(&command, Some(setup)).unwrap();
        Child::ended(&mut child).await
    })
}

fn counted(setup: &Setup, stream: Stream) -> [u64; 3] {
    let counters = setup.stats.of(stream);
    [&counters.lines, &counters.dropped, &counters.truncated].map(|counter| counter.load(Ordering::Relaxed))
}

#[test]
fn two_hundred_thousand_lines_come_exactly_and_in_order() {
    let pipeline = Arc::new(Pipeline { refuses_each: 997, ..Pipeline::default() });
    let setup = setup(&pipeline, Duration::from_secs(10));
    let at = Instant::now();
    let exit = run("seq 1 200000 & seq 1 50000 1>&2 & wait; exit 3", &setup);
    let took = at.elapsed();
    assert_eq!(exit, 3);
    for (stream, count) in [("stdout", 200_000), ("stderr", 50_000)] {
        let want: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        assert!(pipeline.bodies(stream) == want, "{stream}: not each line once and in order");
    }
    assert_eq!(counted(&setup, Stream::Stdout), [200_000, 0, 0]);
    assert!(pipeline.refused.load(Ordering::Relaxed) > 100, "the pipeline was full now and then");
    println!("250,000 lines in {took:?}");
}

#[test]
fn what_a_killed_application_wrote_is_read_to_its_end() {
    let pipeline = Arc::<Pipeline>::default();
    let setup = setup(&pipeline, Duration::from_secs(5));
    let exit = run("seq 1 20000; printf 'no end'; kill -9 $$", &setup);
    assert_eq!(exit, 137);
    let bodies = pipeline.bodies("stdout");
    assert_eq!((bodies.len(), bodies.last().map(String::as_str)), (20_001, Some("no end")));
}

#[test]
fn a_pipeline_that_stays_full_costs_lines_and_not_the_application() {
    let pipeline = Arc::<Pipeline>::default();
    pipeline.is_full.store(true, Ordering::Relaxed);
    let setup = setup(&pipeline, Duration::from_millis(200));
    let at = Instant::now();
    let opened = std::thread::spawn({
        let (pipeline, stats) = (Arc::clone(&pipeline), Arc::clone(&setup.stats));
        move || {
            let end = Instant::now() + Duration::from_secs(10);
            while stats.of(Stream::Stdout).dropped.load(Ordering::Relaxed) < 100_000 && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            pipeline.is_full.store(false, Ordering::Relaxed);
        }
    });
    // The lines after the file is there come when the pipeline has room again.
    let directory = tempfile::tempdir().unwrap();
    let sign = directory.path().join("room");
    let script = format!("seq 1 100000; while ! [ -e {} ]; do sleep 0.01; done; echo after", sign.display());
    let waits = std::thread::spawn(move || {
        opened.join().unwrap();
        std::fs::write(sign, "").unwrap();
    });
    assert_eq!(run(&script, &setup), 0);
    waits.join().unwrap();
    assert!(at.elapsed() < Duration::from_secs(8), "{:?}", at.elapsed());
    assert_eq!(counted(&setup, Stream::Stdout), [100_001, 100_000, 0]);
    assert_eq!(pipeline.bodies("stdout"), ["after"]);
    let taken = pipeline.taken.lock().unwrap();
    let told: Value = serde_json::from_slice(&taken.last().unwrap().json).unwrap();
    assert_eq!(told["sidelight.app_output.dropped"], 100_000, "{told}");
    assert_eq!(taken.last().unwrap().schema, "sidelight/app_output/1");
}

#[test]
fn a_line_of_ten_megabytes_and_binary_output_have_an_event_each() {
    let pipeline = Arc::<Pipeline>::default();
    let setup = setup(&pipeline, Duration::from_secs(5));
    let script = "head -c 10000000 /dev/zero | tr '\\0' x; echo; printf '\\000\\377\\n'; echo last";
    assert_eq!(run(script, &setup), 0);
    let taken = pipeline.taken.lock().unwrap();
    let events: Vec<Value> = taken.iter().map(|event| serde_json::from_slice(&event.json).unwrap()).collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0]["body"].as_str().unwrap().len(), 64 << 10);
    assert_eq!(events[0]["sidelight.truncated_bytes"], 10_000_000 - (64 << 10));
    assert_eq!(
        (&events[1]["sidelight.encoding"], &events[1]["body"]),
        (&"binary".into(), &"\0\u{fffd}".into())
    );
    assert_eq!(events[2]["body"], "last");
    assert_eq!(counted(&setup, Stream::Stdout), [3, 0, 1]);
}

#[test]
fn a_process_that_keeps_the_pipe_does_not_keep_us() {
    let pipeline = Arc::<Pipeline>::default();
    let setup = setup(&pipeline, Duration::from_secs(5));
    let at = Instant::now();
    assert_eq!(run("echo mine; sleep 20 & exit 0", &setup), 0);
    assert!(at.elapsed() < Duration::from_secs(4), "{:?}", at.elapsed());
    assert_eq!(pipeline.bodies("stdout"), ["mine"]);
}
