//! Any headers of any trace format: what is read is consistent, what is written is read back by the next hop, what is not
//! ours stays, and nothing is left for third parties. The property is the one that `cargo test` checks.
//!
//! The input is one byte that seeds the span which is written, then a header a line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::{
    context::{TraceParent, formats},
    svc,
};

#[path = "../../src/context/formats/tests/property.rs"]
mod property;

fuzz_target!(|input: &[u8]| property::holds(input));
