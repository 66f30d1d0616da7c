//! Detection: an answer, once given, is not changed by more bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::protocol::detect::detect;

fuzz_target!(|bytes: &[u8]| {
    let mut first = None;
    for end in 0..=bytes.len() {
        let now = detect(&bytes[..end]);
        if first.is_some() {
            assert_eq!(now, first);
        }
        first = now;
    }
});
