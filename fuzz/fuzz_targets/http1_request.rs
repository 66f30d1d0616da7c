//! Request heads: never a panic, and what is accepted is accepted again, with the same framing, after it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::http1::chunked::{Decoder, Limits, Step};
use sidelight::http1::{Content, Framing, HeadLimits, parse_request, write_request};
use sidelight::svc::Scheme;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 65_536, fields_max: 100, target_bytes_max: 16_384 };

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(request)) = parse_request(bytes, &LIMITS, Scheme::Http) else { return };
    let content = match request.framing {
        Framing::Length(length) => Content::Length(length),
        Framing::Chunked => Content::Chunked,
        _ => Content::Length(0),
    };
    if !request.head.authority.is_empty() {
        let mut wire = Vec::new();
        write_request(&mut wire, &request.head, content);
        let again = parse_request(&wire, &HeadLimits { head_bytes_max: 1 << 20, fields_max: 110, ..LIMITS }, Scheme::Http)
            .expect("what was written is refused")
            .expect("what was written is incomplete");
        assert_eq!(again.head.method_bytes(), request.head.method_bytes());
        assert_eq!(again.head.path(), request.head.path());
        if request.framing != Framing::Length(0) && request.framing != Framing::None {
            assert_eq!(again.framing, request.framing);
        }
    }
    if request.framing == Framing::Chunked {
        let limits = Limits { extension_bytes_max: 4096, trailer_bytes_max: 16_384, trailers_max: 100 };
        let mut decoder = Decoder::new(limits);
        let mut rest = &bytes[request.head_bytes..];
        loop {
            match decoder.step(rest) {
                Ok(Step::Data { skip, len }) => rest = &rest[skip + len..],
                Ok(Step::More(_) | Step::End(_)) | Err(_) => break,
            }
        }
    }
});
