//! Any bytes as a signature, as a key file and as a context: nothing that was not signed is believed, with or without
//! the cache, and what was signed is believed for exactly what it says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sidelight::context::RequestType;
use sidelight::context::pseudonym::Pseudonymizer;
use sidelight::context::signature::{Cache, Claims, Issuer, Keys, Refused};
use std::sync::LazyLock;

const NOW_S: u64 = 1_795_392_000;

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let text = "{ active: h1, keys: {
        h1: { algorithm: hmac_sha256, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= },
        e1: { algorithm: ed25519, private: ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8= } } }";
    Keys::parse(text).expect("a key file")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (Keys::parse(text).map_err(|error| error.to_string()), Pseudonymizer::parse(text));
    }
    // A context of the lines, and a token that is not its signature.
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let (token, user_id, account_id, license, flags, tenant) =
        (next(), next(), next(), next(), next(), next());
    let claims = Claims {
        trace_id: [7; 16],
        user_id,
        account_id,
        license,
        request_type: RequestType::Trace,
        flags,
        extra: &[("tenant", tenant)],
    };
    let mut scratch = Vec::new();
    let mut cache = Cache::new(4, 1);
    let refused = KEYS.verify(token, &claims, NOW_S, 30, &mut scratch).expect_err("nobody signed this");
    assert_eq!(cache.verify(&KEYS, token, &claims, NOW_S, 30), Err(refused));

    let mut real = Vec::new();
    assert!(KEYS.sign(&claims, &Issuer::new(&String::from_utf8_lossy(token)), NOW_S, 60, &mut real));
    let verified = KEYS.verify(&real, &claims, NOW_S, 0, &mut scratch).expect("it was just signed");
    for _ in 0..2 {
        assert_eq!(cache.verify(&KEYS, &real, &claims, NOW_S, 0), Ok(verified));
    }
    let standard = Claims { request_type: RequestType::Standard, ..claims };
    assert_eq!(cache.verify(&KEYS, &real, &standard, NOW_S, 0), Err(Refused::Altered));
});
