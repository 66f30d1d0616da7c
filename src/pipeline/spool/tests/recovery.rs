use super::*;
use std::fs;
use std::os::unix::fs::FileExt;

/// A copy of a spool, as it is now.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

fn reopened(directory: &Path) -> (Config, Spool, Writer) {
    let config = config(directory);
    let (spool, writer) = open(&config);
    (config, spool, writer)
}

#[test]
fn a_restart_goes_on_with_the_sequence_and_every_cursor_where_it_was() {
    let (_directory, config, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 100);
    let mut batch = Batch::new(1 << 20, 40);
    cursor.read(&mut batch);
    cursor.commit(33, Instant::now());
    let before = cursor.books();
    drop((cursor, writer, spool));
    let (spool, mut writer) = open(&config);
    assert_eq!(spool.books(), std::slice::from_ref(&before), "the books survive");
    assert_eq!(writer.next_sequence(), 101);
    append(&mut writer, Class::Event, 5);
    let mut cursor = spool.cursor("s", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), upto(34, 105));
    assert_eq!(cursor.books().delivered, 105);
}

#[test]
fn a_directory_has_one_spool_at_a_time() {
    let (_directory, config, spool, writer) = fresh();
    let error = Spool::open(&config, "i", 1).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    drop((spool, writer));
    open(&config);
}

#[test]
fn a_spool_torn_at_any_byte_keeps_all_events_before_it() {
    let (directory, _, spool, mut writer) = fresh();
    spool.cursor("s", Start::Beginning).unwrap();
    let mut ends = vec![(0, 0)];
    for sequence in 1..=12 {
        append(&mut writer, Class::Event, 1);
        ends.push((fs::metadata(&files(directory.path())[0]).unwrap().len(), sequence));
    }
    let len = ends.last().unwrap().0;
    for cut in 0..=len {
        let torn = copy(directory.path());
        fs::File::options().write(true).open(&files(torn.path())[0]).unwrap().set_len(cut).unwrap();
        let whole = ends.iter().rfind(|(end, _)| *end <= cut).unwrap().1;
        let (_, spool, mut writer) = reopened(torn.path());
        assert_eq!(writer.next_sequence(), whole + 1, "cut at {cut}");
        let end = files(torn.path()).first().map_or(0, |path| fs::metadata(path).unwrap().len());
        assert_eq!(end, ends[whole as usize].0, "cut at {cut}");
        append(&mut writer, Class::Event, 2);
        let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
        assert_eq!(numbers(&drain(&mut cursor)), upto(1, whole + 2), "cut at {cut}");
        assert_eq!(spool.status().damaged_ranges, 0, "a torn end is cut, not damage");
    }
}

#[test]
fn a_bit_that_flips_costs_at_most_one_event_and_never_changes_one() {
    let (directory, _, spool, mut writer) = fresh();
    spool.cursor("s", Start::Beginning).unwrap();
    writer.skip(2, Reason::QueueFull);
    append(&mut writer, Class::Event, 8);
    writer.skip(2, Reason::QueueFull);
    append(&mut writer, Class::Audit, 3);
    drop((writer, spool));
    // A second file, so that the first is not the end that is cut.
    let (_, spool, mut writer) = reopened(directory.path());
    append(&mut writer, Class::Event, 2);
    drop((writer, spool));
    let path = files(directory.path())[0].clone();
    let whole = fs::read(&path).unwrap();
    for (at, byte) in whole.iter().enumerate() {
        let flipped = copy(directory.path());
        let file =
            fs::File::options().write(true).open(flipped.path().join(path.file_name().unwrap())).unwrap();
        file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64).unwrap();
        let (_, spool, _writer) = reopened(flipped.path());
        let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
        let got = numbers(&drain(&mut cursor));
        let books = cursor.books();
        assert!(got.len() >= 12, "byte {at}: {got:?}");
        assert!(got.is_sorted_by(|one, next| one < next));
        assert_eq!((books.produced, books.queued, books.delivered), (17, 0, got.len() as u64), "byte {at}");
        let (skipped, corrupt) = (dropped(&books, Reason::QueueFull), dropped(&books, Reason::Corrupt));
        assert_eq!(got.len() as u64 + skipped + corrupt, 17, "byte {at}: {books:?}");
        let status = spool.status();
        if got.len() < 13 {
            let damage = status.last_damage.unwrap();
            assert!((damage.from..damage.to).contains(&(at as u64)), "byte {at} is in {damage:?}");
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_at_all_is_counted_and_passed() {
    let (directory, _, spool, mut writer) = fresh();
    spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 60);
    append(&mut writer, Class::Event, 60);
    append(&mut writer, Class::Event, 60);
    drop((writer, spool));
    let paths = files(directory.path());
    assert_eq!(paths.len(), 3);
    fs::write(&paths[1], vec![0xAA; 5000]).unwrap();
    let (_, spool, writer) = reopened(directory.path());
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), [upto(1, 60), upto(121, 180)].concat());
    assert_eq!(dropped(&cursor.books(), Reason::Corrupt), 60);
    assert_eq!(spool.status().damaged_bytes, 5000);
    drop((cursor, writer, spool));
}

#[test]
fn files_that_somebody_deleted_are_lost_and_counted() {
    let (directory, config, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    for _ in 0..4 {
        append(&mut writer, Class::Event, 60);
    }
    let paths = files(directory.path());
    fs::remove_file(&paths[1]).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), [upto(1, 60), upto(121, 240)].concat());
    assert_eq!(dropped(&cursor.books(), Reason::Lost), 60);
    drop((cursor, writer, spool));

    // Also when the cursor never comes there, and when the power took the end away, beyond which it had been.
    let (spool, mut writer) = open(&config);
    spool.cursor("t", Start::End).unwrap();
    append(&mut writer, Class::Event, 60);
    drop((writer, spool));
    files(directory.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    let (spool, mut writer) = open(&config);
    assert_eq!(writer.next_sequence(), 241, "never below what a cursor has had");
    append(&mut writer, Class::Event, 1);
    let mut cursor = spool.cursor("t", Start::Beginning).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), [241]);
    assert!(spool.books().iter().all(Books::is_balanced), "{:?}", spool.books());
}

#[test]
fn a_log_that_lost_its_end_begins_behind_what_cursors_have_had() {
    let (directory, config, spool, mut writer) = fresh();
    let mut ahead = spool.cursor("ahead", Start::Beginning).unwrap();
    spool.cursor("behind", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 20);
    let durable = fs::metadata(&files(directory.path())[0]).unwrap().len();
    append(&mut writer, Class::Event, 20);
    drain(&mut ahead);
    drop((ahead, writer, spool));
    fs::File::options().write(true).open(&files(directory.path())[0]).unwrap().set_len(durable).unwrap();
    let (spool, mut writer) = open(&config);
    assert_eq!(writer.next_sequence(), 41);
    append(&mut writer, Class::Event, 3);
    let (mut ahead, mut behind) =
        (spool.cursor("ahead", Start::End).unwrap(), spool.cursor("behind", Start::End).unwrap());
    assert_eq!(numbers(&drain(&mut ahead)), upto(41, 43));
    assert_eq!(numbers(&drain(&mut behind)), [upto(1, 20), upto(41, 43)].concat());
    assert_eq!((dropped(&behind.books(), Reason::Lost), ahead.books().dropped_all()), (20, 0));
}

#[test]
fn a_cursor_whose_file_is_damaged_begins_with_the_oldest_event() {
    let (directory, config, spool, mut writer) = fresh();
    let mut cursor = spool.cursor("s", Start::Beginning).unwrap();
    spool.cursor("other", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 20);
    drain(&mut cursor);
    drop((cursor, writer, spool));
    fs::write(directory.path().join("s.cursor"), vec![7; 9000]).unwrap();
    let (spool, _writer) = open(&config);
    let mut cursor = spool.cursor("s", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), upto(1, 20), "twice rather than never");
}

#[test]
fn what_a_crash_left_half_done_is_cleared_away_and_foreign_files_are_not() {
    let (directory, config, spool, mut writer) = fresh();
    spool.cursor("s", Start::Beginning).unwrap();
    append(&mut writer, Class::Event, 10);
    drop((writer, spool));
    let segment = files(directory.path())[0].clone();
    let newer = segment.with_file_name(segment.file_name().unwrap().to_str().unwrap().replace("-0", "-1"));
    fs::copy(&segment, &newer).unwrap();
    fs::write(newer.with_extension("seg.tmp"), "half").unwrap();
    fs::write(directory.path().join("notes.txt"), "mine").unwrap();
    let (spool, _writer) = open(&config);
    assert_eq!(files(directory.path()), [newer]);
    assert!(directory.path().join("notes.txt").exists());
    let mut cursor = spool.cursor("s", Start::End).unwrap();
    assert_eq!(numbers(&drain(&mut cursor)), upto(1, 10));
}
