use super::*;

#[test]
fn each_cursor_gets_every_event_once_in_order_at_its_own_pace() {
    let (_directory, _, spool, mut writer) = fresh();
    let mut quick = spool.cursor("quick", Start::Beginning).unwrap();
    let mut slow = spool.cursor("slow", Start::Beginning).unwrap();
    for round in 0..10 {
        append(&mut writer, Class::ALL[round % 3], 50);
        let got = drain(&mut quick);
        assert_eq!(numbers(&got), upto(round as u64 * 50 + 1, round as u64 * 50 + 50));
        assert!(got.iter().all(|event| event.1 == Class::ALL[round % 3]));
    }
    let books = slow.books();
    assert_eq!((books.produced, books.delivered, books.queued), (500, 0, 500));
    assert_eq!(numbers(&drain(&mut slow)), upto(1, 500));
    let books = slow.books();
    assert_eq!((books.delivered, books.dropped_all(), books.queued), (500, 0, 0));
}

#[test]
fn segments_stay_while_a_cursor_needs_them_and_go_when_none_does() {
    let (directory, _, spool, mut writer) = fresh();
    let mut one = spool.cursor("one", Start::Beginning).unwrap();
    spool.cursor("nobody", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 500);
    append(&mut writer, Class::Event, 1);
    let full = files(directory.path()).len();
    assert!(full > 1);
    drain(&mut one);
    writer.tick(Instant::now());
    assert_eq!(files(directory.path()).len(), full);
    assert!(spool.remove("nobody"));
    writer.tick(Instant::now());
    assert!(files(directory.path()).len() <= 1, "at most the one that is written to");
    let mut late = spool.cursor("late", Start::End).unwrap();
    append(&mut writer, Class::Event, 2);
    assert_eq!(numbers(&drain(&mut late)), [502, 503]);
    assert_eq!(late.books().produced, 2, "what was before is not its own");
}

#[test]
fn a_sink_that_is_idle_has_written_down_where_it_is() {
    let (_directory, config, spool, writer) = fresh();
    drop((spool, writer));
    let (spool, mut writer) =
        open(&Config { progress_interval: Duration::from_secs(3600), ..config.clone() });
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    let mut batch = Batch::new(1 << 20, 1000);
    for _ in 0..3 {
        append(&mut writer, Class::Event, 60);
        cursor.read(&mut batch);
        cursor.commit(batch.last_sequence().unwrap(), Instant::now());
    }
    append(&mut writer, Class::Event, 1);
    assert!(writer.has_work(), "a restart would read them again");
    drain(&mut cursor);
    writer.tick(Instant::now());
    assert!(!writer.has_work());
    // As after SIGKILL: the cursor is not dropped.
    std::mem::forget(cursor);
    assert!(spool.status().segments <= 1);
}

#[test]
fn what_is_not_committed_is_read_again_after_rewind() {
    let (_directory, _, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 300);
    let mut batch = Batch::new(4096, 40);
    for _ in 0..3 {
        cursor.read(&mut batch);
    }
    cursor.commit(45, Instant::now());
    assert_eq!(cursor.books().delivered, 45);
    cursor.rewind();
    assert_eq!(numbers(&drain(&mut cursor)), upto(46, 300));
    cursor.commit(9999, Instant::now());
    assert_eq!(cursor.books().delivered, 300, "what was not read cannot be delivered");
}

#[test]
fn rejected_events_count_as_dropped_and_hold_nothing_up() {
    let (_directory, _, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 10);
    let mut batch = Batch::new(4096, 100);
    cursor.read(&mut batch);
    for sequence in [4, 4, 7, 1, 99] {
        cursor.reject(sequence);
    }
    cursor.commit(5, Instant::now());
    assert_eq!((cursor.books().delivered, dropped(&cursor.books(), Reason::Rejected)), (3, 2));
    cursor.reject(2);
    cursor.commit(10, Instant::now());
    let books = cursor.books();
    assert_eq!((books.delivered, dropped(&books, Reason::Rejected), books.queued), (7, 3, 0));
}

#[test]
fn events_lost_on_the_way_have_numbers_and_a_reason() {
    let (_directory, config, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    writer.skip(3, Reason::QueueFull);
    append(&mut writer, Class::Event, 2);
    writer.skip(4, Reason::QueueFull);
    writer.skip(0, Reason::QueueFull);
    writer.append(Class::Event, &vec![b'x'; config.event_bytes_max + 1]);
    assert_eq!(cursor.books().queued, 10, "known at once");
    writer.tick(Instant::now());
    assert_eq!(numbers(&drain(&mut cursor)), [4, 5]);
    let books = cursor.books();
    assert_eq!(dropped(&books, Reason::QueueFull), 7);
    assert_eq!((dropped(&books, Reason::TooLarge), books.delivered, books.queued), (1, 2, 0));
}

#[test]
fn an_event_larger_than_the_batch_is_read_alone_and_whole() {
    let (_directory, _, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    let huge = vec![b'h'; 600_000];
    for payload in [&b"a"[..], &huge, b"b"] {
        writer.append(Class::Event, payload);
    }
    writer.tick(Instant::now());
    let mut batch = Batch::new(1000, 100);
    let mut sizes = Vec::new();
    while cursor.read(&mut batch) > 0 {
        sizes.push(batch.events().map(|event| event.payload.len()).collect::<Vec<_>>());
    }
    assert_eq!(sizes, [vec![1], vec![600_000], vec![1]]);
}

#[test]
fn a_cursor_has_one_reader_and_a_name_that_a_file_can_have() {
    let (_directory, _, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    assert_eq!(spool.cursor("s", Start::End).err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(spool.cursor("../s", Start::End).err().unwrap().kind(), ErrorKind::InvalidInput);
    append(&mut writer, Class::Event, 5);
    assert_eq!(numbers(&drain(&mut cursor)), upto(1, 5));
    drop(cursor);
    append(&mut writer, Class::Event, 2);
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), [6, 7], "it goes on where it was");
}

#[test]
fn a_removed_cursor_is_forgotten_and_its_reader_told() {
    let (directory, config, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("gone", Start::Beginning).unwrap();
    let kept = spool.cursor("kept", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 5);
    spool.retain(&["kept"]);
    assert!(cursor.is_removed() && !kept.is_removed());
    assert_eq!(cursor.read(&mut Batch::new(1000, 10)), 0);
    cursor.commit(5, Instant::now());
    drop((cursor, kept, writer, spool));
    let left: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.contains(&"kept.cursor".into()) && !left.contains(&"gone.cursor".into()), "{left:?}");
    let (spool, _writer) = open(&config);
    assert_eq!(spool.books().len(), 1);
}

#[test]
fn who_waits_is_woken_by_an_event_and_by_removal() {
    let (_directory, _, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    assert!(!cursor.wait(Duration::ZERO));
    let waiter = std::thread::spawn(move || {
        let since = Instant::now();
        let has_events = cursor.wait(Duration::from_secs(60));
        let got = drain(&mut cursor).len();
        let is_more = cursor.wait(Duration::from_secs(60));
        (has_events, got, is_more, cursor.is_removed(), since.elapsed() < Duration::from_secs(60))
    });
    append(&mut writer, Class::Event, 1);
    while spool.books()[0].delivered == 0 {
        std::thread::yield_now();
    }
    spool.remove("s");
    assert_eq!(waiter.join().unwrap(), (true, 1, false, true, true));
}

#[test]
fn the_books_balance_at_every_moment_while_all_threads_work() {
    const EVENTS: u64 = 30_000;
    let (_directory, _, spool, mut writer) = fresh();
    let readers: Vec<_> = ["a", "b"]
        .map(|name| {
            let mut cursor = spool.cursor(name, Start::Beginning).unwrap();
            std::thread::spawn(move || {
                let (mut batch, mut next) = (Batch::new(10_000, 100), 1);
                while next <= EVENTS {
                    if cursor.read(&mut batch) == 0 {
                        cursor.wait(Duration::from_millis(10));
                        continue;
                    }
                    for event in batch.events() {
                        assert_eq!((event.sequence, event.payload), (next, text(next).as_slice()));
                        next += 1;
                    }
                    cursor.commit(next - 1, Instant::now());
                }
            })
        })
        .into();
    let watch = spool.clone();
    let watcher = std::thread::spawn(move || {
        let mut readings = 0;
        while watch.books().iter().any(|books| books.delivered < EVENTS) {
            watch.books().iter().for_each(|books| assert!(books.is_balanced(), "{books:?}"));
            readings += 1;
        }
        readings
    });
    for _ in 0..EVENTS / 10 {
        append(&mut writer, Class::Event, 10);
    }
    readers.into_iter().for_each(|reader| reader.join().unwrap());
    assert!(watcher.join().unwrap() > 0);
    writer.tick(Instant::now());
    assert!(spool.status().segments <= 2, "what all had is gone");
}
