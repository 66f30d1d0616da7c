use super::*;
use std::fs;

#[test]
fn without_a_directory_events_go_through_memory() {
    let (spool, mut writer) = open(&Config::default());
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 1000);
    append(&mut writer, Class::Audit, 1);
    assert!(spool.status().is_in_memory);
    assert!(writer.sync_audit().is_err(), "nothing would survive: it must not be acknowledged");
    assert_eq!(numbers(&drain(&mut cursor)), upto(1, 1001));
    assert_eq!(spool.status().write_errors, 0);
}

#[test]
fn a_disk_that_refuses_stops_nothing_and_gets_everything_when_it_is_back() {
    let (directory, config, spool, mut writer) = fresh();
    let away = directory.path().with_extension("away");
    let mut live = spool.cursor("live", Start::Beginning).unwrap();
    let mut later = spool.cursor("later", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 10);
    assert_eq!(numbers(&drain(&mut live)), upto(1, 10));
    let mut now = Instant::now();
    fs::rename(directory.path(), &away).unwrap();
    for _ in 0..20 {
        append(&mut writer, Class::Event, 20);
    }
    let mut batch = Batch::new(1 << 20, 100);
    assert_eq!(later.read(&mut batch), 0, "its files are away, and not lost");
    writer.append(Class::Audit, &text(411));
    assert!(writer.sync_audit().is_err());
    let status = spool.status();
    assert!(status.is_in_memory && status.write_errors > 0);
    assert_eq!(numbers(&drain(&mut live)), upto(11, 411), "who keeps up gets everything");
    now += Duration::from_secs(5);
    writer.tick(now);
    assert!(spool.status().is_in_memory, "still away");
    fs::rename(&away, directory.path()).unwrap();
    for _ in 0..50 {
        now += Duration::from_secs(5);
        writer.tick(now);
    }
    assert!(!spool.status().is_in_memory);
    assert_eq!(spool.status().memory_bytes, 0);
    writer.sync_audit().unwrap();
    append(&mut writer, Class::Event, 9);
    assert_eq!(numbers(&drain(&mut live)), upto(412, 420));
    later.read(&mut batch);
    later.commit(57, Instant::now());
    drop((live, later, writer, spool));
    let (spool, _writer) = open(&config);
    let mut later = spool.cursor("later", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut later)), upto(58, 420), "and a restart finds everything");
    assert_eq!(later.books().dropped_all(), 0);
}

#[test]
fn what_is_still_in_memory_at_the_end_has_one_more_chance() {
    let (directory, config, spool, mut writer) = fresh();
    let away = directory.path().with_extension("away");
    spool.cursor("s", Start::Beginning).unwrap();
    fs::rename(directory.path(), &away).unwrap();
    for _ in 0..30 {
        append(&mut writer, Class::Event, 100);
    }
    assert!(spool.status().is_in_memory);
    fs::rename(&away, directory.path()).unwrap();
    drop((writer, spool));
    let (spool, _writer) = open(&config);
    let mut cursor = spool.cursor("s", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), upto(1, 3000));
}

#[test]
fn a_long_outage_with_a_dead_sink_is_bounded_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { memory_bytes_max: 32 << 10, ..config(directory.path()) };
    let (spool, mut writer) = open(&config);
    let away = directory.path().with_extension("away");
    let mut dead = spool.cursor("dead", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 100);
    append(&mut writer, Class::Audit, 1);
    fs::rename(directory.path(), &away).unwrap();
    for _ in 0..3000 {
        append(&mut writer, Class::Event, 20);
        assert!(spool.status().memory_bytes <= 32 << 10);
    }
    assert!(spool.status().segments < 100, "what was dropped leaves no trail: {:?}", spool.status());
    fs::rename(&away, directory.path()).unwrap();
    for seconds in 1..100 {
        writer.tick(Instant::now() + Duration::from_secs(seconds * 2));
    }
    let total = 60_101;
    let got = numbers(&drain(&mut dead));
    assert_eq!(got[..101], upto(1, 101), "what was on disk before is there");
    assert_eq!(*got.last().unwrap(), total);
    let books = dead.books();
    assert_eq!(books.produced, total);
    assert_eq!((dropped(&books, Reason::Memory), books.queued), (total - got.len() as u64, 0));
    assert_eq!(books.dropped_all(), dropped(&books, Reason::Memory));
}

const VARIABLE: &str = "SPOOL_FULL_DIRECTORY";

/// A file size limit is the one full disk that a test can have anywhere: `write` takes a part, then refuses.
#[test]
fn a_disk_that_is_full_in_the_middle_of_a_frame_loses_nothing() {
    if let Some(directory) = std::env::var_os(VARIABLE) {
        return full_disk(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let test = "pipeline::spool::tests::outage::a_disk_that_is_full_in_the_middle_of_a_frame_loses_nothing";
    let output = again(test, VARIABLE, directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("full, and found everything again"));
}

fn limit_file_size(bytes: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: both take numbers and a struct that lives through the call; the process is this test's own.
    let failed = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit)
    };
    assert_eq!(failed, 0);
}

fn full_disk(directory: &Path) {
    let config = Config { segment_bytes_max: 64 << 10, ..config(directory) };
    let (spool, mut writer) = open(&config);
    let mut live = spool.cursor("live", Start::Beginning).unwrap();
    spool.cursor("later", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 10);
    // Somewhere in the middle of the frames of the next write.
    let len = spool.status().disk_bytes;
    limit_file_size(len + 100);
    append(&mut writer, Class::Event, 10);
    assert!(spool.status().write_errors > 0);
    limit_file_size(0);
    for _ in 0..50 {
        append(&mut writer, Class::Event, 10);
    }
    assert!(spool.status().is_in_memory);
    assert_eq!(numbers(&drain(&mut live)), upto(1, 520));
    limit_file_size(libc::RLIM_INFINITY);
    for seconds in 1..20 {
        writer.tick(Instant::now() + Duration::from_secs(seconds * 2));
    }
    assert!(!spool.status().is_in_memory, "{:?}", spool.status());
    append(&mut writer, Class::Event, 10);
    drop((live, writer, spool));
    let (spool, _writer) = open(&config);
    let mut later = spool.cursor("later", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut later)), upto(1, 530));
    assert_eq!((later.books().dropped_all(), spool.status().damaged_ranges), (0, 0));
    assert_eq!(spool.books().iter().find(|books| books.cursor == "live").unwrap().delivered, 520);
    println!("full, and found everything again");
}
