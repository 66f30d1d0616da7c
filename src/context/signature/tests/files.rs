//! Key files.

use super::*;

fn refused(text: &str) -> KeyError {
    match Keys::parse(text) {
        Ok(keys) => panic!("{keys:?} of {text}"),
        Err(error) => error,
    }
}

#[test]
fn a_file_is_yaml_or_json_and_is_read_in_its_order() {
    let yaml = keys("e1");
    assert_eq!((yaml.active(), yaml.ids().collect::<Vec<_>>()), (Some("e1"), vec!["h1", "e1"]));
    let json = format!(
        r#"{{ "keys": {{ "h1": {{ "algorithm": "hmac_sha256", "secret": "{FIRST}" }} }}, "active": "h1" }}"#
    );
    assert_eq!(sign(&parse(&json), &claims()), sign(&keys("h1"), &claims()));
    assert_eq!(verifier().active(), None, "where nothing signs");
}

/// The forms in which openssl gives the same key.
#[test]
fn a_key_of_ed25519_may_be_raw_der_or_pem() {
    let pkcs8 = "MC4CAQAwBQYDK2VwBCIEICAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/";
    let spki = "MCowBQYDK2VwAyEAKay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";
    let pem = |kind: &str, body: &str| {
        format!("|\n      -----BEGIN {kind} KEY-----\n      {body}\n      -----END {kind} KEY-----\n")
    };
    let file = |half: &str, value: &str, active: &str| {
        format!("{active}keys:\n  e1:\n    algorithm: ed25519\n    {half}: {value}\n")
    };
    for private in
        [SECOND.to_owned(), SECOND.trim_end_matches('=').to_owned(), pkcs8.to_owned(), pem("PRIVATE", pkcs8)]
    {
        let token = sign(&parse(&file("private", &private, "active: e1\n")), &claims());
        assert_eq!(token, sign(&keys("e1"), &claims()), "{private}");
    }
    for public in [SECOND_PUBLIC.to_owned(), spki.to_owned(), pem("PUBLIC", spki)] {
        let token = sign(&keys("e1"), &claims());
        assert_eq!(verify(&parse(&file("public", &public, "")), &token, &claims()), Ok(()), "{public}");
    }
}

#[test]
fn keys_are_rotated_without_a_gap() {
    let line =
        |id: &str, secret: &str| format!("  {id}: {{ algorithm: hmac_sha256, secret: \"{secret}\" }}\n");
    let file =
        |active: &str, lines: &[String]| parse(&format!("active: {active}\nkeys:\n{}", lines.concat()));
    let (k1, k2) = (line("k1", FIRST), line("k2", THIRD));
    let steps = [
        file("k1", std::slice::from_ref(&k1)),
        file("k1", &[k1.clone(), k2.clone()]),
        file("k2", &[k1, k2.clone()]),
        file("k2", &[k2]),
    ];
    // During a roll-out neighbours are one step apart, either way.
    for pair in steps.windows(2) {
        for (from, to) in [(&pair[0], &pair[1]), (&pair[1], &pair[0])] {
            if from.active() == Some("k2") && to.ids().eq(["k2"])
                || to.ids().count() == 2
                || from.active() == to.active()
            {
                assert_eq!(verify(to, &sign(from, &claims()), &claims()), Ok(()));
            }
        }
    }
    assert_eq!(verify(&steps[3], &sign(&steps[0], &claims()), &claims()), Err(Refused::UnknownKey));
    assert_eq!(verify(&steps[0], &sign(&steps[2], &claims()), &claims()), Err(Refused::UnknownKey));
}

#[test]
fn every_mistake_is_told_with_the_key_the_place_and_what_to_do() {
    let many: String =
        (0..9).map(|at| format!("  k{at}: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}\n")).collect();
    let other_public = "AAAA";
    for (text, place, key, message) in [
        (String::new(), None, None, "not a key file"),
        ("keys".to_owned(), Some(1), None, "not a key file"),
        ("keys: {}".to_owned(), Some(1), None, "there is no key"),
        ("active: k1".to_owned(), Some(1), None, "there is no key"),
        ("keys: [k1]".to_owned(), Some(1), None, "`keys` has no ids"),
        ("active: [k1]".to_owned(), Some(1), None, "`active` is not the id"),
        ("keys:\n  k1: {\n".to_owned(), None, None, "not valid YAML"),
        (format!("keys:\n  k1: \"{FIRST}\"\n"), Some(2), Some("k1"), "this is not a key"),
        ("kees: {}".to_owned(), Some(1), None, "`kees` is unknown"),
        ("keys:\n  k1: {}\n".to_owned(), Some(2), Some("k1"), "no algorithm"),
        (
            format!("keys:\n  k1: {{ algorithm: hs256, secret: \"{FIRST}\" }}"),
            Some(2),
            Some("k1"),
            "no algorithm",
        ),
        ("keys:\n  k1: { algorithm: hmac_sha256 }".to_owned(), Some(2), Some("k1"), "there is no `secret`"),
        (
            "keys:\n  k1: { algorithm: hmac_sha256, secret: 12 }".to_owned(),
            Some(2),
            Some("k1"),
            "`secret` is no text",
        ),
        (
            "keys:\n  k1:\n    algorithm: hmac_sha256\n    secret: \"c2hvcnQ=\"".to_owned(),
            Some(4),
            Some("k1"),
            "has 5 bytes",
        ),
        (
            format!("keys:\n  k1: {{ algorithm: hmac_sha256, secret: \"{}=\" }}", "A".repeat(43)),
            Some(2),
            Some("k1"),
            "one byte repeated",
        ),
        (
            "keys:\n  k1: { algorithm: hmac_sha256, secret: \"not base64!\" }".to_owned(),
            Some(2),
            Some("k1"),
            "not in base64",
        ),
        (
            format!("keys:\n  k1: {{ algorithm: hmac_sha256, secrt: \"{FIRST}\" }}"),
            Some(2),
            Some("k1"),
            "`secrt` is unknown",
        ),
        (
            format!("keys:\n  k1: {{ algorithm: hmac_sha256, \"{FIRST}\": secret }}"),
            Some(2),
            Some("k1"),
            "an unknown name",
        ),
        (
            format!("keys:\n  k1: {{ algorithm: hmac_sha256, private: \"{FIRST}\" }}"),
            Some(2),
            Some("k1"),
            "`private` is unknown",
        ),
        (
            "keys:\n  e1: { algorithm: ed25519 }".to_owned(),
            Some(2),
            Some("e1"),
            "neither `private` nor `public`",
        ),
        (
            format!(
                "keys:\n  e1: {{ algorithm: ed25519, private: \"{FIRST}\", public: \"{SECOND_PUBLIC}\" }}"
            ),
            Some(2),
            Some("e1"),
            "both",
        ),
        (
            format!("keys:\n  e1: {{ algorithm: ed25519, private: \"{other_public}\" }}"),
            Some(2),
            Some("e1"),
            "no private key",
        ),
        (
            format!("keys:\n  e1: {{ algorithm: ed25519, public: \"{other_public}\" }}"),
            Some(2),
            Some("e1"),
            "no public key",
        ),
        (format!("keys:\n  \"{FIRST}\": {{ algorithm: hmac_sha256 }}"), Some(2), None, "cannot have this id"),
        (
            format!("keys:\n  k.1: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}"),
            Some(2),
            None,
            "cannot have this id",
        ),
        (
            format!("active: k2\nkeys:\n  k1: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}"),
            Some(1),
            Some("k2"),
            "not in `keys`",
        ),
        (
            format!("active: e1\nkeys:\n  e1: {{ algorithm: ed25519, public: \"{SECOND_PUBLIC}\" }}"),
            Some(1),
            Some("e1"),
            "cannot sign",
        ),
        (format!("keys:\n{many}"), Some(2), None, "9 keys"),
        (
            format!(
                "keys:\n  k1: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}\n  k1: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}"
            ),
            None,
            None,
            "written twice",
        ),
        ("#".repeat(70_000), None, None, "larger than 64 KiB"),
    ] {
        let error = refused(&text);
        let shown = error.to_string();
        assert!(error.message.contains(message) && !error.help.is_empty(), "{text}\n{shown}");
        assert_eq!(error.key.as_deref(), key, "{text}\n{shown}");
        if let Some(line) = place {
            assert_eq!(error.line, line, "{text}\n{shown}");
        }
        assert!(
            !shown.contains(&FIRST[..12]) && !shown.contains("c2hvcnQ") && !shown.contains("not base64!"),
            "{shown}"
        );
    }
}

#[test]
fn an_error_reads_as_one_line() {
    let error = refused("keys:\n  k1:\n    algorithm: hmac_sha256\n    secret: \"c2hvcnQ=\"");
    assert_eq!(
        error.to_string(),
        "line 4, column 13: key `k1`: the secret has 5 bytes: that can be guessed: write what `openssl rand -base64 32` prints"
    );
}

#[test]
fn secrets_are_never_printed() {
    let shown = format!("{:?}", keys("e1"));
    for part in ["h1", "e1", "hmac_sha256", "ed25519"] {
        assert!(shown.contains(part), "{shown}");
    }
    assert!(shown.len() < 120 && !shown.contains("[0, 1, 2"), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic_and_without_its_values(
        text in "\\PC{0,60}", value in "[A-Za-z0-9+/]{17,60}", name in "algorithm|secret|private|public|x",
        algorithm in "hmac_sha256|ed25519|none",
    ) {
        let _ = Keys::parse(&text);
        let file = format!("active: k1\nkeys: {{ k1: {{ algorithm: {algorithm}, {name}: \"{value}\" }} }}");
        let shown = match Keys::parse(&file) {
            Ok(keys) => format!("{keys:?}"),
            Err(error) => format!("{error} {error:?}"),
        };
        prop_assert!(!shown.contains(&value));
    }
}
