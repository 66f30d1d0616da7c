//! Any bytes as a `traceparent`: what is accepted keeps its ids and can be read by the next hop.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::context::traceparent::{FLAG_RANDOM, FLAG_SAMPLED, TraceParent};

fuzz_target!(|bytes: &[u8]| {
    if let Some(received) = TraceParent::parse(bytes) {
        assert_ne!(received.version, 0xff);
        let sent = received.to_bytes();
        let next = TraceParent::parse(&sent).expect("what we send is valid");
        assert_eq!(next.version, 0);
        assert_eq!((next.trace_id, next.parent_id), (received.trace_id, received.parent_id));
        assert_eq!(next.flags, received.flags & (FLAG_SAMPLED | FLAG_RANDOM));
    }
});
