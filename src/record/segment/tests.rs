use super::block::Record;
use super::*;
use crate::record::segment::index::Term;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

const ENTRIES: u64 = 3000;
/// The frame of the head: without it a file is no segment.
const HEAD_FRAME_BYTES: usize = frame::HEAD_BYTES + b"{\"version\":1}".len();

fn write(directory: &Path, is_ended: bool, flush_every: u64) -> PathBuf {
    let path = directory.join("a.slr");
    let mut writer = Writer::create(&path, b"{\"version\":1}", 1).unwrap();
    for number in 0..ENTRIES {
        let mut trace_id = [7; 16];
        trace_id[..8].copy_from_slice(&number.to_le_bytes());
        let account = format!("account-{}", number / 100);
        let keys = Keys {
            started_ns: 1_000 + number,
            trace_id: Some(&trace_id),
            account_id: account.as_bytes(),
            route: b"all",
            ..Keys::default()
        };
        let body = format!("{number} {}", "some words of an entry ".repeat(20));
        writer.push(Kind::Entry, &[body.as_bytes(), b"!"], &keys).unwrap();
        if number % flush_every == flush_every - 1 {
            writer.flush().unwrap();
        }
    }
    if is_ended {
        writer.finish(b"{}").unwrap();
    } else {
        writer.flush().unwrap();
    }
    path
}

fn number(record: &Record) -> u64 {
    let text = std::str::from_utf8(&record.bytes).unwrap();
    assert!(text.ends_with('!'));
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The numbers of the entries that can be read, and the problems.
fn read(path: &Path) -> (Vec<u64>, Vec<String>) {
    let (reader, _) = Reader::open(path).unwrap();
    let (mut numbers, mut problems) = (Vec::new(), Vec::new());
    for piece in reader {
        match piece {
            Ok(Piece::Records { records, .. }) => numbers.extend(records.iter().map(number)),
            Ok(Piece::Books(_) | Piece::Rest) => {}
            Err(problem) => problems.push(problem.to_string()),
        }
    }
    (numbers, problems)
}

#[test]
fn entries_are_read_as_they_were_written() {
    for flush_every in [1, 7, 5000] {
        let directory = tempfile::tempdir().unwrap();
        let path = write(directory.path(), true, flush_every);
        let (numbers, problems) = read(&path);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(numbers, (0..ENTRIES).collect::<Vec<_>>(), "flushed every {flush_every}");
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(bytes < ENTRIES * 200, "{bytes} bytes, flushed every {flush_every}: not compressed");
    }
}

#[test]
fn the_index_finds_a_trace_and_an_account() {
    let directory = tempfile::tempdir().unwrap();
    let (mut reader, opened) = Reader::open(&write(directory.path(), true, 50)).unwrap();
    let placed = opened.placed.expect("it was ended");
    assert!(placed.blocks.len() > 3, "{} blocks", placed.blocks.len());
    assert_eq!(placed.blocks.iter().map(|block| u64::from(block.entries)).sum::<u64>(), ENTRIES);
    let mut trace_id = [7; 16];
    trace_id[..8].copy_from_slice(&1234_u64.to_le_bytes());
    let blocks = placed.blocks_of(reader.file(), Term::Trace(&trace_id)).unwrap();
    let [block] = blocks[..] else { panic!("{blocks:?}") };
    reader.seek(placed.blocks[block as usize].offset).unwrap();
    let found = reader.by_ref().find_map(|piece| match piece.unwrap() {
        Piece::Records { records, block: of, .. } => {
            assert_eq!(of, block, "it is in the block that the index names");
            records.iter().map(number).find(|number| *number == 1234)
        }
        _ => panic!("the block is over"),
    });
    assert_eq!(found, Some(1234));
    let accounts = placed.blocks_of(reader.file(), Term::Account(b"account-12")).unwrap();
    assert!((1..=2).contains(&accounts.len()), "{accounts:?}");
    assert_eq!(placed.blocks_of(reader.file(), Term::Account(b"nobody")).unwrap(), Vec::<u32>::new());
}

#[test]
fn a_torn_tail_loses_what_is_torn_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), false, 10);
    let whole = std::fs::read(&path).unwrap();
    for cut in (HEAD_FRAME_BYTES..whole.len()).step_by(whole.len() / 60) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let (numbers, problems) = read(&path);
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        assert!(problems.len() <= 1, "{problems:?}");
        // Flushed every ten: no more than that is missing in front of the cut, but for the frame that was cut.
        let share = cut as f64 / whole.len() as f64;
        let expected = (share * ENTRIES as f64) as u64;
        assert!(numbers.len() as u64 + 700 >= expected, "{} of {expected}", numbers.len());
    }
}

#[test]
fn damage_in_the_middle_is_told_and_read_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), true, 10);
    let mut bytes = std::fs::read(&path).unwrap();
    let blocks = Reader::open(&path).unwrap().1.placed.unwrap().blocks;
    let middle = blocks[2].offset as usize + 100;
    bytes[middle..middle + 100].fill(0xAA);
    std::fs::write(&path, &bytes).unwrap();
    let (numbers, problems) = read(&path);
    assert!(
        problems.iter().any(|problem| problem.contains("a.slr") && problem.contains("byte ")),
        "{problems:?}"
    );
    let lost = ENTRIES as usize - numbers.len();
    assert!((1..1200).contains(&lost), "{lost} lost: no more than one block");
    assert_eq!((numbers.first(), numbers.last()), (Some(&0), Some(&(ENTRIES - 1))));
}

#[test]
fn what_is_no_segment_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.slr");
    for (bytes, expected) in [(&b""[..], "is empty"), (&[0; 4096][..], "is no segment")] {
        std::fs::write(&path, bytes).unwrap();
        let error = Reader::open(&path).err().unwrap().to_string();
        assert!(error.contains("b.slr") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_block_that_expands_without_end_is_refused() {
    let bomb = zstd::bulk::compress(&vec![0; block::RAW_BYTES_MAX + 1], 3).unwrap();
    let piece = [&[0, 0, 0, 0, 1][..], &bomb].concat();
    let error = block::Expander::new().unwrap().piece(&piece).unwrap_err();
    assert!(error.0.contains("expands to more than"), "{}", error.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_damage_panics_or_goes_on_for_ever(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.slr");
        let mut writer = Writer::create(&path, b"{}", 1).unwrap();
        for number in 0..50_u64 {
            writer.push(Kind::Entry, &[&number.to_le_bytes()], &Keys::default()).unwrap();
            writer.flush().unwrap();
        }
        writer.finish(b"{}").unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok((reader, _)) = Reader::open(&path) {
            prop_assert!(reader.count() < 1000);
        }
    }
}
