use super::*;

fn append_sized(writer: &mut Writer, class: Class, count: usize, bytes: usize) {
    for _ in 0..count {
        writer.append(class, &vec![b'x'; bytes]);
        writer.tick(Instant::now());
    }
}

fn by_class(events: &[Read], class: Class) -> usize {
    events.iter().filter(|event| event.1 == class).count()
}

fn small(directory: Option<&Path>) -> Config {
    Config {
        directory: directory.map(Into::into),
        segment_bytes_max: 8 << 10,
        disk_bytes_max: 64 << 10,
        memory_bytes_max: 64 << 10,
        progress_interval: Duration::ZERO,
        ..Config::default()
    }
}

#[test]
fn a_dead_sink_costs_itself_the_oldest_events_and_the_others_nothing() {
    for is_on_disk in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let config = small(is_on_disk.then_some(directory.path()));
        let (spool, mut writer) = open(&config);
        let mut live = spool.cursor("live", Start::Beginning).unwrap();
        let mut dead = spool.cursor("dead", Start::Beginning).unwrap();
        let mut got = 0;
        for _ in 0..100 {
            append_sized(&mut writer, Class::Event, 10, 400);
            got += drain(&mut live).len();
            let status = spool.status();
            assert!(status.disk_bytes + status.memory_bytes <= 64 << 10, "{status:?}");
            assert!(dead.books().is_balanced());
        }
        assert_eq!((got, live.books().dropped_all()), (1000, 0));
        let books = dead.books();
        let reason = if is_on_disk { Reason::DiskBudget } else { Reason::Memory };
        assert!(dropped(&books, reason) > 800, "counted at once: {books:?}");
        assert!(books.queued > 50, "what fits is kept");
        let left = drain(&mut dead);
        assert_eq!(left.last().unwrap().0, 1000, "the newest are kept");
        assert_eq!(left.len() as u64, 1000 - dropped(&dead.books(), reason));
        assert_eq!(dead.books().dropped_all(), dropped(&dead.books(), reason));
    }
}

#[test]
fn debug_goes_first_and_audit_stays() {
    for is_on_disk in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let config = small(is_on_disk.then_some(directory.path()));
        let (spool, mut writer) = open(&config);
        let mut dead = spool.cursor("dead", Start::Beginning).unwrap();
        // 90 KB, of which half is debug: without it the rest fits.
        for round in 0..60 {
            append_sized(&mut writer, Class::Debug, 2, 400);
            append_sized(&mut writer, Class::Event, 1, 400);
            if round % 10 == 0 {
                append_sized(&mut writer, Class::Audit, 1, 100);
            }
        }
        let mut other = spool.cursor("other", Start::Beginning).unwrap();
        let got = drain(&mut other);
        assert_eq!(by_class(&got, Class::Event), 60, "on disk: {is_on_disk}");
        assert!(by_class(&got, Class::Debug) < 120);
        // Half a megabyte more: only the newest events stay, but all audit events.
        append_sized(&mut writer, Class::Event, 1200, 400);
        let got = drain(&mut dead);
        assert_eq!(by_class(&got, Class::Audit), 6, "on disk: {is_on_disk}");
        assert!((50..200).contains(&by_class(&got, Class::Event)), "{}", by_class(&got, Class::Event));
        let books = dead.books();
        assert_eq!((books.produced, books.queued), (60 * 3 + 6 + 1200, 0));
        assert_eq!(books.delivered, got.len() as u64);
        let reason = if is_on_disk { Reason::DiskBudget } else { Reason::Memory };
        assert_eq!(dropped(&books, reason), books.dropped_all());
        drain(&mut other);
        assert!(other.books().is_balanced());
    }
}

#[test]
fn too_many_audit_events_are_dropped_too_and_counted() {
    for is_on_disk in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let (spool, mut writer) = open(&small(is_on_disk.then_some(directory.path())));
        let mut dead = spool.cursor("dead", Start::Beginning).unwrap();
        append_sized(&mut writer, Class::Audit, 500, 400);
        let status = spool.status();
        assert!(status.disk_bytes + status.memory_bytes <= 64 << 10, "{status:?}");
        let got = drain(&mut dead);
        assert!(got.len() > 50);
        assert_eq!(got.len() as u64 + dead.books().dropped_all(), 500);
    }
}

#[test]
fn a_large_segment_is_thinned_piece_by_piece_under_a_reader() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        Config { segment_bytes_max: 8 << 20, disk_bytes_max: 32 << 20, ..small(Some(directory.path())) };
    let (spool, mut writer) = open(&config);
    let mut reader = spool.cursor("reader", Start::Beginning).unwrap();
    spool.cursor("dead", Start::Beginning).unwrap();
    let payload = vec![b'x'; 4000];
    let mut batch = Batch::new(64 << 10, 1000);
    let mut last = 0;
    for number in 0u64..20_000 {
        let class = if number % 100 == 0 { Class::Audit } else { Class::ALL[number as usize % 2] };
        writer.append(class, &payload);
        if number % 40 == 0 {
            writer.tick(Instant::now());
            // Half as fast as it should be: it is in the middle of what is replaced and deleted.
            if number % 80 == 0 && reader.read(&mut batch) > 0 {
                assert!(batch.events().next().unwrap().sequence > last);
                assert!(batch.events().all(|event| event.payload == payload));
                last = batch.last_sequence().unwrap();
                reader.commit(last, Instant::now());
            }
            assert!(reader.books().is_balanced());
            assert!(spool.status().disk_bytes <= 32 << 20);
        }
    }
    writer.tick(Instant::now());
    drain(&mut reader);
    assert_eq!(reader.books().queued, 0);
    let mut dead = spool.cursor("dead", Start::Beginning).unwrap();
    let audit = by_class(&drain(&mut dead), Class::Audit);
    assert_eq!(audit, 200, "none is dropped while others can be");
    assert!(dead.books().is_balanced());
    let left = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.filter(|name| name.to_string_lossy().ends_with(".tmp")).count() <= 1);
}

#[test]
fn what_was_given_up_stays_counted_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let config = small(Some(directory.path()));
    let (spool, mut writer) = open(&config);
    spool.cursor("dead", Start::Beginning).unwrap();
    append_sized(&mut writer, Class::Event, 500, 400);
    let before = spool.books()[0].clone();
    assert!(dropped(&before, Reason::DiskBudget) > 0);
    drop((writer, spool));
    let (spool, _writer) = open(&config);
    assert_eq!(spool.books()[0], before);
    let mut dead = spool.cursor("dead", Start::Beginning).unwrap();
    assert_eq!(drain(&mut dead).len() as u64, before.queued);
    assert_eq!(dead.books().dropped_all(), before.dropped_all());
}
