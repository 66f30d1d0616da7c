use super::*;
use crate::context::Field;
use proptest::prelude::*;

fn compile(yaml: &str) -> Result<Extra, Vec<Problem>> {
    Extra::compile(&serde_yaml::from_str(yaml).unwrap())
}

fn extra() -> Extra {
    compile(
        "tenant_id: {}\n\
         region: { header: x-geo, baggage: none, length_max: 8, alphabet: token }\n\
         build: { header: none, baggage: app.build, alphabet: hex, believe: all }\n",
    )
    .unwrap()
}

fn names(extra: &Extra) -> Vec<&str> {
    extra.iter().map(|field| &*field.name).collect()
}

#[test]
fn carriers_are_derived_from_the_name_unless_they_are_given() {
    let extra = extra();
    assert_eq!(names(&extra), ["build", "region", "tenant_id"], "ordered by name, however they are written");
    let carriers: Vec<_> =
        extra.iter().map(|field| (field.header.as_deref(), field.baggage_key.as_deref())).collect();
    assert_eq!(
        carriers,
        [(None, Some("app.build")), (Some("x-geo"), None), (Some("x-tenant-id"), Some("tenant.id"))]
    );
    assert_eq!(extra.get(0).unwrap().believe, Believe::All);
    assert_eq!(extra.get(2).unwrap().believe, Believe::Trusted, "the default");
    assert_eq!(extra.get(3), None);
}

#[test]
fn a_field_is_found_by_its_header_and_by_its_key() {
    let extra = extra();
    for (name, want) in [
        ("x-tenant-id", Some(2)),
        ("X-Tenant-ID", Some(2)),
        ("x-geo", Some(1)),
        ("X-GEO", Some(1)),
        ("x-gex", None),
        ("x-build", None),
        ("app.build", None),
        ("", None),
    ] {
        assert_eq!(extra.from_header(name.as_bytes()), want, "{name}");
    }
    for (key, want) in
        [("tenant.id", Some(2)), ("app.build", Some(0)), ("Tenant.id", None), ("region", None), ("", None)]
    {
        assert_eq!(extra.from_baggage_key(key.as_bytes()), want, "{key}");
    }
    let long = "x".repeat(200);
    assert_eq!((extra.from_header(long.as_bytes()), extra.from_baggage_key(long.as_bytes())), (None, None));
}

#[test]
fn without_further_fields_nothing_is_found() {
    let none = Extra::compile(&BTreeMap::new()).unwrap();
    assert!(none.is_empty() && none == Extra::default());
    assert_eq!(none.from_header(b"x-tenant-id"), None);
    assert!(!none.claims_baggage_key(b"tenant.id"));
}

#[test]
fn a_key_that_becomes_ours_by_decoding_is_claimed_too() {
    let extra = extra();
    for key in [
        "tenant.id",
        "tenant%2Eid",
        "%74enant.id",
        "tenant.id%20",
        "+tenant.id",
        "%C2%A0tenant.id",
        "\u{a0}tenant.id",
        "context.signature",
    ] {
        assert!(extra.claims_baggage_key(key.as_bytes()), "{key}");
    }
    assert!(
        Extra::default().claims_baggage_key(b"context%2esignature"),
        "also where there are no further fields"
    );
    for key in ["tenant", "tenant.idx", "tenant%2id", "region", "%", "+", ""] {
        assert!(!extra.claims_baggage_key(key.as_bytes()), "{key}");
    }
}

#[test]
fn each_alphabet_holds_its_characters_and_no_others() {
    use Alphabet::{Digits, Hex, Token, Uuid, Visible, Word};
    let uuid = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";
    for (alphabet, good, bad) in [
        (
            Word,
            &["a@b.c:1/2?x=%41", "{a}"][..],
            &["a b", "a,b", "a;b", "a\"b", "a'b", "a\\b", "é", "a\n"][..],
        ),
        (Token, &["eu-west_1.a~"], &["a/b", "a:b", "a=b", "a@b", "a b", "a,b"]),
        (Hex, &["0aF9"], &["0x1", "g", "-1"]),
        (Digits, &["0", "12345"], &["-1", "1.0", "1e3", "٣"]),
        (Uuid, &[uuid], &["017f22e2-79b0-7cc3-98c4-dc0c0c07398", "017f22e279b07cc398c4dc0c0c07398f", "-"]),
        (Visible, &["a,b;c\"d'e\\f"], &["a b", "\t", "é", "\u{7f}"]),
    ] {
        let field = |value: &str| {
            let config = Config { alphabet, ..Config::default() };
            let extra = Extra::compile(&BTreeMap::from([("tenant".to_owned(), config)])).unwrap();
            extra.get(0).unwrap().is_valid(value.as_bytes())
        };
        for value in good {
            assert!(field(value), "{alphabet:?} {value}");
        }
        for value in bad.iter().chain([&""]) {
            assert!(!field(value), "{alphabet:?} {value:?}");
        }
    }
}

#[test]
fn a_word_is_what_an_id_may_be() {
    for byte in 0..=255_u8 {
        assert_eq!(Alphabet::Word.holds(&[byte]), Field::UserId.is_valid(&[byte]), "{byte:#x}");
    }
}

#[test]
fn pseudonyms_are_written_in_the_alphabets_that_say_so() {
    let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let by = crate::context::pseudonym::Pseudonymizer::parse(&format!(
        "keys: {{ p1: {{ secret: \"{secret}\" }} }}"
    ));
    let mut text = Vec::new();
    by.unwrap().write("tenant", b"t", &mut text);
    use Alphabet::{Digits, Hex, Token, Uuid, Visible, Word};
    for alphabet in [Word, Token, Hex, Digits, Uuid, Visible] {
        assert_eq!(alphabet.holds_pseudonyms(), alphabet.holds(&text), "{alphabet:?}");
    }
}

#[test]
fn the_header_wins_and_a_disagreement_is_seen() {
    use Source::{Baggage, Plain};
    let extra = extra();
    let tenant = extra.get(2).unwrap();
    let long = "x".repeat(257);
    for (plain, baggage, value, disagreement, invalid) in [
        (None, None, None, false, false),
        (Some("a"), None, Some(("a", Plain)), false, false),
        (Some(" a\t"), Some("a"), Some(("a", Plain)), false, false),
        (None, Some("b"), Some(("b", Baggage)), false, false),
        (Some("a"), Some("b"), Some(("a", Plain)), true, false),
        (Some(""), Some("b"), Some(("b", Baggage)), false, false),
        (Some("a b"), Some("b"), Some(("b", Baggage)), false, true),
        (Some(&long), None, None, false, true),
    ] {
        let value = value.map(|(text, source): (&str, Source)| (text.as_bytes(), source));
        let merged = tenant.merge(plain.map(str::as_bytes), baggage.map(str::as_bytes));
        assert_eq!(merged, Merged { value, disagreement, invalid }, "{plain:?} {baggage:?}");
    }
}

#[track_caller]
fn refused(yaml: &str, key: Option<&'static str>, message: &str) {
    let problems = compile(yaml).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{yaml}: {problems:#?}") };
    assert_eq!(problem.key, key, "{yaml}");
    assert!(problem.message.contains(message) && !problem.help.is_empty(), "{yaml}: {problem:?}");
}

#[test]
fn names_that_mean_something_else_are_refused() {
    for name in ["user_id", "request_id", "flags", "trace_id", "sampled"] {
        refused(&format!("{name}: {{ header: x-own, baggage: own }}"), None, "every context has");
    }
    for name in ["Tenant", "1st", "_x", "a-b", "é", &"x".repeat(33)] {
        refused(&format!("\"{name}\": {{ header: x-own, baggage: own }}"), None, "cannot have this name");
    }
    for header in [
        "x-user-id",
        "X-Account-ID",
        "traceparent",
        "Baggage",
        "x-context-signature",
        "b3",
        "X-Amzn-Trace-Id",
    ] {
        refused(&format!("tenant: {{ header: {header} }}"), Some("header"), "another part of the context");
    }
    for header in [
        "connection",
        "Keep-Alive",
        "te",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "cookie",
        "authorization",
        ":path",
        ":authority",
        "x-b3-new",
        "ot-tracer-new",
        "grpc-timeout",
        "grpc-encoding",
        "x-forwarded-for",
        "x-forwarded-host",
        "sec-fetch-mode",
        "proxy-status",
        "content-type",
    ] {
        refused(&format!("tenant: {{ header: \"{header}\" }}"), Some("header"), "something else");
    }
    for header in ["x tenant", "x-ténant", "\\\"\\\"", "x:y", &"x".repeat(64)] {
        refused(&format!("tenant: {{ header: \"{header}\" }}"), Some("header"), "not the name of a header");
    }
    for key in ["user.id", "license", "context.signature"] {
        refused(&format!("tenant: {{ baggage: {key} }}"), Some("baggage"), "another part of the context");
    }
    for key in ["a b", "a=b", "a;b", "a,b", "ten%61nt", "a+b", &"x".repeat(64)] {
        refused(&format!("tenant: {{ baggage: \"{key}\" }}"), Some("baggage"), "not a key of baggage");
    }
}

#[test]
fn a_field_that_works_only_in_part_is_refused() {
    refused("tenant: { header: none, baggage: none }", None, "nothing carries");
    refused("tenant: { length_max: 0 }", Some("length_max"), "0 bytes");
    refused("tenant: { length_max: 2KiB }", Some("length_max"), "2048 bytes");
    refused("a: { header: x-t }\nb: { header: X-T }", Some("header"), "`a` has the same header");
    refused("a: { baggage: t }\nb: { baggage: t }", Some("baggage"), "`a` has the same key");
    let many = |count: usize, rest: &str| -> String {
        (0..count).map(|at| format!("f{at:02}: {{ {rest} }}\n")).collect()
    };
    assert_eq!(compile(&many(FIELDS_MAX, "")).map(|extra| extra.len()), Ok(FIELDS_MAX));
    refused(&many(FIELDS_MAX + 1, "baggage: none"), None, "17 further fields");
    refused(&many(5, "length_max: 1KiB"), Some("length_max"), "5120 bytes");
    assert!(compile(&many(5, "length_max: 1KiB, baggage: none")).is_ok());
}

#[test]
fn every_problem_is_told_at_once() {
    let problems = compile("a: { header: host, baggage: license, length_max: 0 }\nB: {}").unwrap_err();
    let told: Vec<_> = problems.iter().map(|problem| (problem.field.as_str(), problem.key)).collect();
    assert_eq!(told, [("B", None), ("a", Some("header")), ("a", Some("baggage")), ("a", Some("length_max"))]);
}

#[test]
fn what_a_user_writes_is_read_and_written_the_same() {
    let config: BTreeMap<String, Config> =
        serde_yaml::from_str("t: { header: x-t, length_max: 64, alphabet: uuid, believe: all }").unwrap();
    let again: BTreeMap<String, Config> =
        serde_yaml::from_str(&serde_yaml::to_string(&config).unwrap()).unwrap();
    assert_eq!(config, again);
    assert!(serde_yaml::from_str::<Config>("{ heeder: x-t }").is_err());
    assert!(serde_yaml::from_str::<Config>("{ alphabet: klingon }").is_err());
}

proptest! {
    #[test]
    fn any_configuration_and_any_name_are_judged_without_a_panic(
        fields in prop::collection::btree_map("\\PC{0,10}|[a-z_]{1,8}", ("\\PC{0,10}|[a-z-]{1,70}", "\\PC{0,10}", any::<usize>()), 0..20),
        name in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let fields = fields.into_iter().map(|(name, (header, baggage, length_max))| {
            (name, Config { header, baggage, length_max, ..Config::default() })
        });
        match Extra::compile(&fields.collect()) {
            Ok(extra) => {
                let _ = (extra.from_header(&name), extra.from_baggage_key(&name), extra.claims_baggage_key(&name));
                for (index, field) in extra.iter().enumerate() {
                    if let Some(header) = &field.header {
                        prop_assert_eq!(extra.from_header(header.as_bytes()), Some(index));
                    }
                }
            }
            Err(problems) => prop_assert!(!problems.is_empty()),
        }
    }
}
