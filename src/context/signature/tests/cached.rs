//! Tokens that are remembered.

use super::*;

#[test]
fn what_was_verified_is_not_verified_again() {
    let (keys, mut cache) = (verifier(), Cache::new(64, 3));
    let token = sign(&super::keys("e1"), &claims());
    let verified = keys.verify(&token, &claims(), NOW_S, 30, &mut Vec::new());
    for hits in 0..3 {
        assert_eq!(cache.verify(&keys, &token, &claims(), NOW_S, 30), verified);
        assert_eq!(cache.hits(), hits);
    }
    let other = Claims { license: b"platinum", ..claims() };
    assert_eq!(cache.verify(&keys, &token, &other, NOW_S, 30), Err(Refused::Altered));
    assert_eq!(cache.hits(), 2);
}

#[test]
fn a_remembered_token_ends_with_its_time_and_with_its_key() {
    let (keys, mut cache) = (keys("h1"), Cache::new(64, 3));
    let token = sign_at(&keys, &claims(), NOW_S, 60);
    let mut at = |keys: &Keys, now_s| cache.verify(keys, &token, &claims(), now_s, 30).map(|_| ());
    assert_eq!((at(&keys, NOW_S), at(&keys, NOW_S + 89)), (Ok(()), Ok(())));
    assert_eq!(at(&keys, NOW_S + 90), Err(Refused::Expired));
    assert_eq!(at(&keys, NOW_S - 31), Err(Refused::NotYetValid), "a clock that steps back");
    let line = |id: &str, secret: &str| {
        format!("keys: {{ {id}: {{ algorithm: hmac_sha256, secret: \"{secret}\" }} }}")
    };
    assert_eq!(at(&parse(&line("h2", FIRST)), NOW_S), Err(Refused::UnknownKey), "the key is gone");
    assert_eq!(at(&parse(&line("h1", THIRD)), NOW_S), Err(Refused::Altered), "another key of this name");
    assert_eq!(at(&parse(&line("h1", FIRST)), NOW_S), Ok(()), "the same key, read again");
}

#[test]
fn the_cache_is_bounded_and_forgets_what_expires_first() {
    let keys = keys("h1");
    let mut cache = Cache::new(1, 3);
    let tokens: Vec<_> = (0..100).map(|at| sign_at(&keys, &claims(), NOW_S + at, 300)).collect();
    for token in &tokens {
        assert!(cache.verify(&keys, token, &claims(), NOW_S + 100, 30).is_ok());
    }
    assert_eq!(cache.hits(), 0);
    for token in tokens[96..].iter().rev() {
        assert!(cache.verify(&keys, token, &claims(), NOW_S + 100, 30).is_ok());
    }
    assert_eq!(cache.hits(), 4);
    // A context that is too large is verified each time.
    let large = Claims { flags: &[b'f'; 256 * 16], ..claims() };
    let token = sign(&keys, &large);
    for _ in 0..2 {
        assert!(cache.verify(&keys, &token, &large, NOW_S, 30).is_ok());
    }
    assert_eq!(cache.hits(), 4);
}
