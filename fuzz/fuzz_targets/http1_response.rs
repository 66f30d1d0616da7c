//! Response heads: never a panic, and a status that may be carried.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::http1::{Framing, HeadLimits, parse_interim_or_final};
use sidelight::svc::Method;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 65_536, fields_max: 256, target_bytes_max: 0 };

fuzz_target!(|bytes: &[u8]| {
    for method in [Method::Get, Method::Head] {
        let Ok(Some(response)) = parse_interim_or_final(bytes, &LIMITS, method) else { continue };
        assert!((100..=599).contains(&response.head.status));
        assert!(response.head_bytes <= bytes.len());
        if response.head.is_bodiless() || method == Method::Head {
            assert_eq!(response.framing, Framing::None);
        }
    }
});
