use super::*;
use std::fs;
use std::time::Instant;

const HOUR_7: &str = "service=check%20out/kind=exchange/date=2025-01-01/hour=07";

#[test]
fn events_are_delivered_when_their_files_are_complete() {
    let root = tempfile::tempdir().unwrap();
    let mut archive = open(&config(root.path()));
    let mut feed = Feed::new();
    let kinds = ["exchange", "exchange", "app_log", "exchange", "exchange"];
    // The clock goes on, and then steps back.
    let events: Vec<String> =
        (1..).zip(kinds).map(|(n, kind)| event(n, kind, [7, 8, 8, 31, 7][n as usize - 1])).collect();
    for event in &events {
        feed.push(event);
    }
    feed.drive(&mut archive, 2).unwrap();
    assert_eq!(feed.settled(), 0);
    assert_eq!(files(root.path()).len(), 0, "nothing is there before it is whole");

    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 5);
    let found: Vec<(String, Vec<String>)> =
        files(root.path()).into_iter().map(|(path, bytes)| (path, lines(&bytes))).collect();
    let other = |kind: &str, day: u64, hour: u64| {
        format!("service=check%20out/kind={kind}/date=2025-01-0{day}/hour={hour:02}")
    };
    let of = |places: &[usize]| places.iter().map(|place| events[*place].clone()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            (format!("{}/host_1-77-3.ndjson.zst", other("app_log", 1, 8)), of(&[2])),
            (format!("{HOUR_7}/host_1-77-1.ndjson.zst"), of(&[0, 4])),
            (format!("{}/host_1-77-2.ndjson.zst", other("exchange", 1, 8)), of(&[1])),
            (format!("{}/host_1-77-4.ndjson.zst", other("exchange", 2, 7)), of(&[3])),
        ]
    );
    assert_eq!(fs::read_dir(root.path().join(".partial")).unwrap().count(), 0);
}

#[test]
fn a_file_is_complete_when_it_is_large_or_old_enough() {
    let root = tempfile::tempdir().unwrap();
    let line = event(1, "exchange", 7).len() + 1;
    let mut archive = open(&Config { file_bytes_max: 3 * line, ..config(root.path()) });
    let mut feed = Feed::new();
    for number in 1..=9 {
        feed.push(&event(number, "exchange", 7));
    }
    feed.drive(&mut archive, 2).unwrap();
    let names: Vec<String> = files(root.path()).into_keys().collect();
    assert_eq!(names, [1, 4, 7].map(|first| format!("{HOUR_7}/host_1-77-{first}.ndjson.zst")));
    assert_eq!(feed.settled(), 9);

    let mut archive = open(&Config { file_age_max: Duration::from_millis(1), ..config(root.path()) });
    feed.push(&event(10, "exchange", 7));
    feed.drive(&mut archive, 2).unwrap();
    let since = Instant::now();
    while feed.settled() < 10 && since.elapsed().as_secs() < 10 {
        feed.settle(archive.idle(soon())).unwrap();
    }
    assert_eq!(feed.settled(), 10);
    assert_eq!(numbers(files(root.path()).values()), (1..=10).collect::<Vec<_>>());
}

#[test]
fn what_is_behind_an_event_that_is_not_durable_is_not_delivered() {
    let root = tempfile::tempdir().unwrap();
    let line = event(1, "exchange", 7).len() + 1;
    let mut archive = open(&Config { file_bytes_max: 3 * line, ..config(root.path()) });
    let mut feed = Feed::new();
    feed.push(&event(1, "exchange", 7));
    feed.push(&event(2, "exchange", 8));
    for number in 3..=7 {
        feed.push(&event(number, "exchange", 7));
    }
    feed.drive(&mut archive, 100).unwrap();
    assert_eq!(files(root.path()).len(), 2, "1, 3, 4 and 5, 6, 7");
    assert_eq!(feed.settled(), 1, "2 is in a file that is not complete");
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 7);
}

#[test]
fn a_flood_of_hours_keeps_sixteen_files_open() {
    let root = tempfile::tempdir().unwrap();
    let mut archive = open(&config(root.path()));
    let mut feed = Feed::new();
    for number in 1..=40 {
        feed.push(&event(number, "exchange", number));
    }
    feed.drive(&mut archive, 7).unwrap();
    assert_eq!(files(root.path()).len(), 40 - 16);
    assert_eq!(fs::read_dir(root.path().join(".partial")).unwrap().count(), 16);
    assert_eq!(feed.settled(), 40 - 16, "the oldest are complete");
}

#[test]
fn after_a_crash_nothing_is_missing_and_only_unfinished_files_are_left_over() {
    let root = tempfile::tempdir().unwrap();
    let line = event(1, "exchange", 7).len() + 1;
    let config = Config { file_bytes_max: 3 * line, ..config(root.path()) };
    let mut feed = Feed::new();
    // 1 is in a file of its own hour, which is not complete; 2, 3, 4 are in one that is; 5, 6 are not.
    for number in 1..=6 {
        feed.push(&event(number, "exchange", if number == 1 { 7 } else { 8 }));
    }
    let mut archive = open(&config);
    feed.drive(&mut archive, 100).unwrap();
    assert_eq!((feed.settled(), files(root.path()).len()), (0, 1));

    // What a crash leaves: the files that were being made, as they are, and nobody who has them locked.
    let partial = root.path().join(".partial");
    let left: Vec<_> = fs::read_dir(&partial).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 2);
    drop(archive);
    left.iter().for_each(|path| fs::write(path, b"half a file").unwrap());
    // Those of others, of another form, and of a process that still lives.
    let others = ["host_2-77-1.ndjson.zst.partial", "host_1-notes.partial", "host_1-78-9.ndjson.zst.partial"];
    others.iter().for_each(|name| fs::write(partial.join(name), b"not ours").unwrap());
    let alive = fs::File::open(partial.join(others[2])).unwrap();
    alive.lock().unwrap();

    feed.restart();
    feed.push(&event(7, "exchange", 8));
    let mut archive = open(&config);
    feed.drive(&mut archive, 100).unwrap();
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 7);
    let found = files(root.path());
    assert_eq!(
        numbers(found.values()),
        [1, 2, 3, 4, 5, 6, 7],
        "a file that begins as before replaces the old one"
    );
    let mut rest: Vec<String> = fs::read_dir(&partial)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    rest.sort();
    assert_eq!(
        rest,
        ["host_1-78-9.ndjson.zst.partial", "host_1-notes.partial", "host_2-77-1.ndjson.zst.partial"]
    );
}

#[test]
fn what_is_twice_after_a_crash_is_told_apart_by_its_id() {
    let root = tempfile::tempdir().unwrap();
    let line = event(1, "exchange", 7).len() + 1;
    let mut feed = Feed::new();
    for number in 1..=6 {
        feed.push(&event(number, "exchange", if number == 2 { 7 } else { 8 }));
    }
    let mut archive = open(&Config { file_bytes_max: 3 * line, ..config(root.path()) });
    feed.drive(&mut archive, 100).unwrap();
    assert_eq!(feed.settled(), 1, "1, 3, 4 are in a file; 2 is not");
    drop(archive);
    feed.restart();
    let mut archive = open(&config(root.path()));
    feed.drive(&mut archive, 100).unwrap();
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 6);
    assert_eq!(numbers(files(root.path()).values()), [1, 2, 3, 3, 4, 4, 5, 6]);
}

/// The tests may run as root, whom no mode stops: a file stands where the directory was.
#[test]
fn a_directory_that_is_lost_and_comes_back_has_every_event_once() {
    let base = tempfile::tempdir().unwrap();
    let (root, away) = (base.path().join("archive"), base.path().join("away"));
    let line = event(1, "exchange", 7).len() + 1;
    let mut archive = open(&Config { file_bytes_max: 3 * line, ..config(&root) });
    let mut feed = Feed::new();
    for number in 1..=5 {
        feed.push(&event(number, "exchange", if number == 2 { 7 } else { 8 }));
    }
    feed.drive(&mut archive, 2).unwrap();
    assert_eq!((feed.settled(), files(&root).len()), (1, 1), "1, 3, 4; 2 and 5 are not complete");

    fs::rename(&root, &away).unwrap();
    fs::write(&root, b"in the way").unwrap();
    for number in 6..=8 {
        feed.push(&event(number, "exchange", 8));
    }
    for _ in 0..3 {
        let told = reason(feed.drive(&mut archive, 2));
        assert!(told.contains(root.to_str().unwrap()), "{told}");
    }
    assert!(
        reason(feed.settle(archive.close(soon())).and_then(|()| feed.drive(&mut archive, 2)))
            .contains("archive")
    );
    assert_eq!(feed.settled(), 1);

    fs::remove_file(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    feed.drive(&mut archive, 2).unwrap();
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), 8);
    assert_eq!(numbers(files(&root).values()), (1..=8).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(root.join(".partial")).unwrap().count(), 0);
}

#[test]
fn many_events_are_in_one_frame_that_any_reader_takes() {
    let root = tempfile::tempdir().unwrap();
    let mut archive = open(&config(root.path()));
    let mut feed = Feed::new();
    // Beyond what waits for the compressor, and beyond its window.
    let filler = "x".repeat(1000);
    for number in 1..=3000 {
        let text = format!(r#""url.path":"/{number}/{filler}""#);
        feed.push(&exchange(number, "2025-01-01T07:00:00.000000Z", &text));
    }
    feed.drive(&mut archive, 500).unwrap();
    assert!(archive.held() < 4 << 20, "{} bytes held", archive.held());
    feed.settle(archive.close(soon())).unwrap();
    let found = files(root.path());
    let file = &found[&format!("{HOUR_7}/host_1-77-1.ndjson.zst")];
    assert_eq!(numbers([file]), (1..=3000).collect::<Vec<_>>());
    assert_eq!(zstd::zstd_safe::find_frame_compressed_size(file).unwrap(), file.len(), "one frame");
    let mut broken = file.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    assert!(zstd::decode_all(broken.as_slice()).is_err(), "the checksum tells");
}
