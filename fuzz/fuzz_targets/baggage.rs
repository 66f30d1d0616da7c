//! Any lines as `baggage` headers: the limits hold, no business field slips through a boundary, and the fields
//! that are written are the ones that the next hop reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::context::baggage::{BYTES_MAX, MEMBERS_MAX, decode, find, write};
use sidelight::context::fields::{Field, merge};

fuzz_target!(|bytes: &[u8]| {
    let headers = || bytes.split(|byte| *byte == b'\n');
    let found = find(headers());

    let mut stripped = Vec::new();
    let written = write(headers(), [], &mut stripped);
    assert!(written.members <= MEMBERS_MAX && stripped.len() <= BYTES_MAX);
    assert!(find([stripped.as_slice()]).is_empty());

    let mut values = Vec::new();
    for field in Field::ALL {
        let mut buffer = Vec::new();
        let value = found.raw(field).map(|raw| decode(raw, &mut buffer));
        if let Some((value, _)) = merge(field, None, value).value {
            values.push((field, value.to_vec()));
        }
    }
    let mut sent = Vec::new();
    write(headers(), values.iter().map(|(field, value)| (*field, value.as_slice())), &mut sent);
    assert!(sent.len() <= BYTES_MAX);
    let next = find([sent.as_slice()]);
    for (field, value) in &values {
        let raw = next.raw(*field).expect("a valid field is never dropped");
        assert_eq!(decode(raw, &mut Vec::new()), value.as_slice());
    }
});
