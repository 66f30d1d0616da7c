//! Any text is a configuration or is refused with problems that can be shown; what is accepted can be written and read
//! again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::config::{parse, to_yaml};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse("fuzz.yaml", text) {
        Ok(loaded) => {
            let again =
                parse("again.yaml", &to_yaml(&loaded.config)).expect("the effective configuration is valid");
            assert_eq!(again.config, loaded.config);
        }
        Err(problems) => {
            assert!(problems.has_errors());
            let _ = (problems.render(true), problems.to_json());
        }
    }
});
