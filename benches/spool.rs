//! The spool alone: events of some 1.2 KB appended, read by one sink, and a backlog opened. Bars: at least 200,000 events
//! a second and core appended; 10 GiB opened within a second and 64 MiB. `SPOOL_BENCH_DIRECTORY` names a directory on the
//! disk in question (else the system's temporary one), `SPOOL_BACKLOG_MIB` the size of the backlog.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sidelight::pipeline::spool::{Batch, Class, Config, Spool, Start};
use std::{
    hint::black_box,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What a benchmark needs of its machine.
const WORKS: &str = "a directory, a /proc and a spool that work";
/// Events between two ticks: what 200,000 a second make in 5 ms.
const EVENTS: u64 = 1000;

fn directory() -> TempDir {
    match std::env::var_os("SPOOL_BENCH_DIRECTORY") {
        Some(parent) => TempDir::new_in(parent).expect(WORKS),
        None => TempDir::new().expect(WORKS),
    }
}

fn config(directory: &TempDir) -> Config {
    Config { directory: Some(directory.path().into()), disk_bytes_max: 64 << 30, ..Config::default() }
}

fn payload() -> Vec<u8> {
    (0..1200u32).map(|at| b' ' + (at % 90) as u8).collect()
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool");
    group.throughput(Throughput::Elements(EVENTS));
    for (name, is_on_disk) in [("append, disk", true), ("append, memory", false)] {
        let (directory, payload) = (directory(), payload());
        let mut config = config(&directory);
        if !is_on_disk {
            config.directory = None;
        }
        let (_spool, mut writer) = Spool::open(&config, "bench", 1).expect(WORKS);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for _ in 0..EVENTS {
                    writer.append(Class::Event, black_box(&payload));
                }
                writer.tick(Instant::now());
            });
        });
    }
    group.finish();
}

fn read(criterion: &mut Criterion) {
    let (directory, payload) = (directory(), payload());
    let (spool, mut writer) = Spool::open(&config(&directory), "bench", 1).expect(WORKS);
    spool.cursor("keep", Start::Beginning).expect(WORKS);
    for _ in 0..200 * EVENTS {
        writer.append(Class::Event, &payload);
    }
    writer.tick(Instant::now());
    let mut group = criterion.benchmark_group("spool");
    group.throughput(Throughput::Elements(200 * EVENTS));
    group.sample_size(10);
    group.bench_function("read and commit", |bencher| {
        let mut batch = Batch::new(256 << 10, 1000);
        bencher.iter_batched(
            || {
                spool.remove("s");
                spool.cursor("s", Start::Beginning).expect(WORKS)
            },
            |mut cursor| {
                let mut events = 0;
                while cursor.read(&mut batch) > 0 {
                    for event in batch.events() {
                        black_box(event.payload);
                    }
                    events += batch.len() as u64;
                    cursor.commit(batch.last_sequence().unwrap_or(0), Instant::now());
                }
                assert_eq!(events, 200 * EVENTS);
                cursor
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn resident_mib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect(WORKS);
    (statm.split(' ').nth(1).expect(WORKS).parse::<u64>().expect(WORKS) * 4096) >> 20
}

fn backlog(criterion: &mut Criterion) {
    let mib = std::env::var("SPOOL_BACKLOG_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(10 << 10);
    let (directory, payload) = (directory(), payload());
    let config = config(&directory);
    let (spool, mut writer) = Spool::open(&config, "bench", 1).expect(WORKS);
    spool.cursor("dead", Start::Beginning).expect(WORKS);
    let since = Instant::now();
    while spool.status().disk_bytes < mib << 20 {
        for _ in 0..EVENTS {
            writer.append(Class::Event, &payload);
        }
        writer.tick(Instant::now());
    }
    let events = writer.next_sequence() - 1;
    println!("backlog of {mib} MiB: {:.0} events/s", events as f64 / since.elapsed().as_secs_f64());
    // As after SIGKILL: the last file has no end.
    std::mem::forget(writer);
    drop(spool);
    let copy = |epoch| {
        // The lock is with the writer that was forgotten; another name for the directory's files has another lock.
        let other = TempDir::new_in(directory.path().parent().expect(WORKS)).expect(WORKS);
        for entry in std::fs::read_dir(directory.path()).expect(WORKS) {
            let path = entry.expect(WORKS).path();
            let to = other.path().join(path.file_name().expect(WORKS));
            match path.extension().is_some_and(|extension| extension == "seg") {
                true => std::fs::hard_link(&path, to).expect(WORKS),
                false => drop(std::fs::copy(&path, to).expect(WORKS)),
            }
        }
        (other, epoch)
    };
    let before = resident_mib();
    let mut group = criterion.benchmark_group("spool");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    group.bench_function(format!("open a backlog of {mib} MiB"), |bencher| {
        bencher.iter_batched(
            || copy(2),
            |(other, epoch)| {
                let config = Config { directory: Some(other.path().into()), ..config.clone() };
                let opened = Spool::open(&config, "bench", epoch).expect(WORKS);
                assert_eq!(opened.0.books()[0].queued, events);
                // The writer's end would seal files that all copies share.
                (opened, other)
            },
            BatchSize::PerIteration,
        );
    });
    println!("resident: {before} MiB before, {} MiB after", resident_mib());
    group.finish();
}

criterion_group!(benches, append, read, backlog);
criterion_main!(benches);
