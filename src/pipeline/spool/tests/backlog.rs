use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The real thing, 10 GiB of real events, is in benches/spool.rs. Here the files are as many and as long, and hollow: an
/// opening that read them would read 10 GiB.
#[test]
fn a_backlog_of_ten_gib_is_opened_without_reading_it() {
    const FILES: u64 = 160;
    let directory = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes_max: 64 << 20, disk_bytes_max: 16 << 30, ..config(directory.path()) };
    let (spool, mut writer) = open(&config);
    spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 100);
    drop((writer, spool));
    let one = std::fs::read(&files(directory.path())[0]).unwrap();
    for number in 1..FILES {
        let path = directory.path().join(format!("{:020}-0.seg", number * 1000));
        let file = File::create(path).unwrap();
        file.write_all_at(&one, 0).unwrap();
        file.set_len(64 << 20).unwrap();
    }
    let since = Instant::now();
    let (spool, mut writer) = open(&config);
    let status = spool.status();
    assert_eq!(status.segments as u64, FILES);
    assert!(status.disk_bytes > 9 << 30);
    // The last file, and a little of each other.
    assert!(status.opening_bytes <= (64 << 20) + FILES * 512, "{}", status.opening_bytes);
    assert!(since.elapsed() < Duration::from_secs(20), "hours away from reading 10 GiB in a debug build");
    append(&mut writer, Class::Event, 1);
    assert_eq!(spool.books()[0].queued, (FILES - 1) * 1000);
}

/// After a crash a cursor goes on in the middle of a segment without reading what is before.
#[test]
fn the_place_of_a_cursor_is_found_again_and_believed_only_if_it_fits() {
    let (directory, config, spool, mut writer) = fresh();
    let config = Config { segment_bytes_max: 1 << 20, ..config };
    drop((writer, spool));
    let (spool, w) = open(&config);
    writer = w;
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 1000);
    let mut batch = Batch::new(1 << 20, 600);
    cursor.read(&mut batch);
    cursor.commit(600, Instant::now());
    drop((cursor, writer, spool));
    // What was read already is damaged: nobody reads it again.
    let path = files(directory.path())[0].clone();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 64], 300).unwrap();
    let (spool, writer) = open(&config);
    let mut cursor = spool.cursor("s", Start::End).unwrap();
    cursor.read(&mut batch);
    assert_eq!(events(&batch)[0].0, 601);
    assert_eq!(spool.status().damaged_ranges, 0);
    cursor.rewind();
    drop((cursor, writer, spool));
    // What is at the place is damaged: the segment is read from its beginning, and only one event is missing.
    let bytes = std::fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"event 601").unwrap();
    file.write_all_at(&[0; 36], at as u64 - 28).unwrap();
    let (spool, _writer) = open(&config);
    let mut cursor = spool.cursor("s", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), upto(602, 1000));
    assert_eq!(dropped(&cursor.books(), Reason::Corrupt), 1);
}
