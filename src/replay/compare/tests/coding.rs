//! Content in a coding is compared by what it says, and what cannot be decoded by its bytes.

use super::super::coding::{Codings, DECODED_BYTES_MAX};
use super::super::*;
use crate::record::Field;
use crate::replay::Answer;
use proptest::prelude::*;
use std::io::Write;

pub(super) fn packed(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::best();
    match coding {
        "gzip" | "x-gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "bare" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "zstd" => zstd::encode_all(bytes, 19).unwrap(),
        _ => bytes.to_vec(),
    }
}

fn answer(fields: &[(&str, &str)], body: Vec<u8>) -> Answer {
    let fields = fields.iter().map(|(name, value)| Field::new(name.to_string(), value.to_string())).collect();
    Answer { status: 200, fields, body_bytes: body.len() as u64, body: body.into(), ..Answer::default() }
}

fn paths(left: &Answer, right: &Answer) -> Vec<String> {
    let found = differences(&Rules::default(), &Seen::answered(left), &Seen::answered(right));
    found.iter().map(|d| format!("{} {} → {}", d.path, d.left, d.right)).collect()
}

#[test]
fn what_is_compared_is_what_the_content_says() {
    let (old, new) = (br#"{"price":1,"n":[1,2]}"#, br#"{"n":[1,2],"price":2}"#);
    for coding in ["gzip", "x-gzip", "deflate", "zstd"] {
        let of = |body: &[u8]| {
            answer(
                &[("content-type", "application/json"), ("Content-Encoding", coding)],
                packed(coding, body),
            )
        };
        assert_eq!(paths(&of(old), &of(new)), ["/price 1 → 2"], "{coding}");
        assert!(paths(&of(old), &of(br#"{ "n": [1, 2], "price": 1 }"#)).is_empty(), "{coding}");
        // One that does not encode any more says the same.
        let plain = answer(&[("content-type", "application/json")], old.to_vec());
        assert_eq!(paths(&of(old), &plain), [format!("header:content-encoding {coding} → ")]);
    }
    let bare = |body: &[u8]| {
        answer(&[("content-type", "application/json"), ("content-encoding", "deflate")], packed("bare", body))
    };
    assert_eq!(paths(&bare(old), &bare(new)), ["/price 1 → 2"]);
    let both = |body: &[u8]| {
        answer(
            &[("content-type", "text/html"), ("content-encoding", "gzip, zstd")],
            packed("zstd", &packed("gzip", body)),
        )
    };
    assert_eq!(paths(&both(b"<p>\na"), &both(b"<p>\nb")), ["text a → b"]);
}

#[test]
fn what_cannot_be_decoded_is_bytes() {
    let bomb = packed("gzip", &vec![0; DECODED_BYTES_MAX + 1]);
    let mut cut = packed("gzip", &[b'x'; 4_000]);
    cut.truncate(cut.len() - 9);
    for (coding, left) in [
        ("gzip", bomb),
        ("gzip", cut),
        ("gzip", b"no gzip".to_vec()),
        ("br", b"\x0b\x02".to_vec()),
        ("zstd, zstd, zstd, zstd, zstd", packed("zstd", b"x")),
    ] {
        let of = |body: &[u8]| answer(&[("content-encoding", coding)], body.to_vec());
        assert!(paths(&of(&left), &of(&left)).is_empty(), "{coding}");
        let found = paths(&of(&left), &of(&packed("gzip", b"other")));
        assert!(found.len() == 1 && found[0].starts_with("bytes "), "{coding}: {found:?}");
    }
}

#[test]
fn compressed_grpc_messages_are_compared_by_fields() {
    let message = |number: u8, is_packed: bool| {
        // Field 1 is a number, field 2 a text.
        let plain = [&[8, number, 18, 3][..], b"abc"].concat();
        let bytes = if is_packed { packed("gzip", &plain) } else { plain };
        [&[u8::from(is_packed)][..], &(bytes.len() as u32).to_be_bytes(), &bytes].concat()
    };
    let of = |coding, body| answer(&[("content-type", "application/grpc"), ("grpc-encoding", coding)], body);
    assert_eq!(paths(&of("gzip", message(5, true)), &of("gzip", message(6, true))), ["/1 5 → 6"]);
    assert!(paths(&of("gzip", message(5, true)), &of("gzip", message(5, false))).is_empty());
    let found = paths(&of("unknown", message(5, true)), &of("unknown", message(6, true)));
    assert!(found[0].starts_with("bytes "), "{found:?}");
}

proptest! {
    #[test]
    fn any_bytes_in_any_coding_are_read_without_a_panic(bytes: Vec<u8>, names in "[a-z, -]{0,20}", known in prop::sample::select(vec!["gzip", "deflate", "zstd"])) {
        for name in [&*names, known] {
            if let Some(codings) = Codings::of(&[Field::new("content-encoding", name.to_owned())]) {
                let _ = codings.decoded(&bytes);
                let there = codings.encoded(bytes.clone()).unwrap();
                prop_assert_eq!(&*codings.decoded(&there).unwrap(), &*bytes);
            }
        }
    }
}
