//! Any lines as `tracestate` headers: what is accepted is accepted unchanged by the next hop.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::context::tracestate::{MEMBERS_MAX, Outcome, accept};

fuzz_target!(|bytes: &[u8]| {
    let mut sent = Vec::new();
    match accept(bytes.split(|byte| *byte == b'\n'), &mut sent) {
        Outcome::Accepted { members, .. } => {
            assert!((1..=MEMBERS_MAX).contains(&members));
            let mut again = Vec::new();
            assert_eq!(accept([sent.as_slice()], &mut again), Outcome::Accepted { members, duplicates: 0 });
            assert_eq!(again, sent);
        }
        Outcome::Empty | Outcome::Invalid => assert!(sent.is_empty()),
    }
});
