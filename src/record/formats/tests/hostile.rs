//! Files that were cut, damaged, or are no such files.

use super::*;

/// Files of each format that can be read.
fn files() -> Vec<(Format, Vec<u8>)> {
    let entries = [get("/x", b"body"), full(), socket()];
    vec![
        (Format::Har, written(Format::Har, TapCoding::Json, &entries).0),
        (Format::Har, har_of(&[browser_entry("http://a/"), browser_entry("http://b/")])),
        (Format::Gor, GOR.into()),
        (Format::EnvoyTap, tap_json().into()),
        (Format::EnvoyTap, written(Format::EnvoyTap, TapCoding::Proto, &entries).0),
    ]
}

#[test]
fn a_file_that_was_cut_is_read_up_to_there() {
    for (format, file) in files() {
        let all = whole(format, &file).len();
        let mut last = 0;
        for len in 0..file.len() {
            let (entries, problems) = read(format, &file[..len]);
            assert!(
                entries.len() <= all && problems.len() <= 1 + all,
                "{format:?} cut at {len}: {problems:?}"
            );
            // Requests of GoReplay are entries without their answers.
            assert!(format == Format::Gor || entries.len() >= last, "{format:?} cut at {len}");
            last = entries.len();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_files_are_no_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        for (format, mut file) in files() {
            for (at, byte) in &edits {
                let at = at.index(file.len());
                file[at] = *byte;
            }
            let (entries, problems) = read(format, &file);
            prop_assert!(entries.len() + problems.len() < 1000);
            // What was read can be written.
            for to in Format::ALL {
                written(to, TapCoding::Proto, &entries);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, text in "[0-9a-z \\n{}\\[\\]\":,🐵🙈🙉]{0,200}") {
        for format in [Format::Har, Format::Gor, Format::EnvoyTap] {
            read(format, &bytes);
            read(format, text.as_bytes());
        }
        Format::guess(&bytes);
    }
}
