//! Recordings of other programs: any file is read to its end, and what can be read of it is an entry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::record::Entry;
use sidelight::record::formats::{Format, import};

fuzz_target!(|bytes: &[u8]| {
    let formats = ["har", "gor", "envoy-tap"].iter().filter_map(|name| Format::named(name));
    for format in formats.chain(Format::guess(bytes)) {
        let Some(import) = import(format, bytes) else { continue };
        for entry in import.take(1000).flatten() {
            let mut message = Vec::new();
            entry.encode(&mut message);
            Entry::decode(&message.into()).expect("what was written");
        }
    }
});
