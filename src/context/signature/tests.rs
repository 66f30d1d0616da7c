use super::*;
use crate::context::Rng;
use proptest::prelude::*;

mod cached;
mod files;
mod forgeries;

/// 32 bytes 0..32, 32..64 and 64..96; the last two are seeds of Ed25519 too.
const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
const THIRD: &str = "QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=";
/// The public key of the seed SECOND, computed by Python's `cryptography`.
const SECOND_PUBLIC: &str = "Kay64UG8yvCyLhqU000LxzYeUm0L/hLIl5S8kyKWbdc=";

const NOW_S: u64 = 1_795_392_000;

fn parse(text: &str) -> Keys {
    Keys::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// A mesh key, and the key of the edge.
fn keys(active: &str) -> Keys {
    parse(&format!(
        "active: {active}\nkeys:\n  h1: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}\n  \
         e1: {{ algorithm: ed25519, private: \"{SECOND}\" }}\n"
    ))
}

/// Those of a service behind the edge.
fn verifier() -> Keys {
    parse(&format!(
        "keys:\n  h1: {{ algorithm: hmac_sha256, secret: \"{FIRST}\" }}\n  \
         e1: {{ algorithm: ed25519, public: \"{SECOND_PUBLIC}\" }}\n"
    ))
}

fn claims() -> Claims<'static> {
    Claims {
        trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
        user_id: b"user-8f14e45f",
        account_id: b"account-c9f0f895",
        license: b"gold",
        request_type: RequestType::Trace,
        flags: b"beta,checkout-v2",
        extra: &[("region", b"eu"), ("tenant", b"t1")],
    }
}

fn sign_at(keys: &Keys, claims: &Claims<'_>, now_s: u64, ttl_s: u64) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(keys.sign(claims, &Issuer::new("edge-eu"), now_s, ttl_s, &mut out));
    out
}

fn sign(keys: &Keys, claims: &Claims<'_>) -> Vec<u8> {
    sign_at(keys, claims, NOW_S, TTL_MAX_S)
}

fn verify(keys: &Keys, token: &[u8], claims: &Claims<'_>) -> Result<(), Refused> {
    keys.verify(token, claims, NOW_S, SKEW_DEFAULT_S, &mut Vec::new()).map(|_| ())
}

fn text(token: &[u8]) -> &str {
    std::str::from_utf8(token).unwrap()
}

/// Computed by Python's `hmac` and `cryptography`: another text would be a format of its own.
#[test]
fn the_format_never_changes() {
    let head = |id: &str| format!("v1.{id}.1795392000.300.edge-eu.");
    let hmac = "leMDWTWZ3K0yyVxJxzZsrfHCK5N41cOb9XIcM76jNgc";
    let ed25519 = "776i0lFT116ALjWszXdYXZ8fwbNqJSNnRxl77ElqtGSwaiSfYUIwDArk5hXqyPxu1Y8P7Pu-cIukGmY2HE7gDQ";
    assert_eq!(text(&sign(&keys("h1"), &claims())), head("h1") + hmac);
    assert_eq!(text(&sign(&keys("e1"), &claims())), head("e1") + ed25519);
    let bare = Claims { trace_id: [1; 16], ..Claims::default() };
    assert_eq!(text(&sign(&keys("h1"), &bare)), head("h1") + "WpbOQHhlK-hEn91DquMTmRXM83MQF7xPx_oeqWiNh24");
}

#[test]
fn a_token_tells_who_signed_and_until_when() {
    for id in ["h1", "e1"] {
        let token = sign_at(&keys(id), &claims(), NOW_S, 60);
        let verified = verifier().verify(&token, &claims(), NOW_S, 0, &mut Vec::new()).unwrap();
        let want = Verified { key_id: id, issuer: "edge-eu", issued_s: NOW_S, expires_s: NOW_S + 60 };
        assert_eq!(verified, want);
        assert!(
            token.len() <= 130
                && token.iter().all(|byte| b"-_.".contains(byte) || byte.is_ascii_alphanumeric())
        );
    }
}

#[test]
fn the_longest_token_is_within_the_bound() {
    let id = "k".repeat(16);
    let keys =
        parse(&format!("active: {id}\nkeys: {{ {id}: {{ algorithm: ed25519, private: \"{SECOND}\" }} }}"));
    let mut token = Vec::new();
    assert!(keys.sign(&claims(), &Issuer::new(&"i".repeat(99)), 999_999_999_999, 300, &mut token));
    assert!(token.len() <= TOKEN_BYTES_MAX, "{}", token.len());
    assert!(keys.verify(&token, &claims(), 999_999_999_999, 0, &mut Vec::new()).is_ok());
}

#[test]
fn signing_appends_or_leaves_the_buffer_as_it_was() {
    let mut out = b"kept".to_vec();
    assert!(!verifier().sign(&claims(), &Issuer::new("x"), NOW_S, 60, &mut out), "no key signs here");
    assert!(!keys("h1").sign(&claims(), &Issuer::new("x"), u64::MAX, 60, &mut out), "no such time");
    assert_eq!(out, b"kept");
    assert!(keys("h1").sign(&claims(), &Issuer::new("x"), NOW_S, 60, &mut out));
    assert_eq!(verify(&verifier(), out.strip_prefix(b"kept").unwrap(), &claims()), Ok(()));
}

#[test]
fn any_service_name_can_sign() {
    for (name, want) in [("checkout", "checkout"), ("shop.eu/Käse", "shop-eu-K-se"), ("", "unnamed")] {
        let issuer = Issuer::new(name);
        assert_eq!(issuer.as_str(), want);
        let mut token = Vec::new();
        assert!(keys("h1").sign(&claims(), &issuer, NOW_S, 60, &mut token));
        assert_eq!(verify(&verifier(), &token, &claims()), Ok(()));
    }
}

#[test]
fn absent_and_empty_are_the_same_and_so_are_ways_to_write_one_list() {
    let base = Claims { flags: b"a,b", extra: &[], ..claims() };
    let token = sign(&keys("h1"), &base);
    for same in [
        Claims { flags: b"a, b", ..base },
        Claims { flags: b" a ,, b,", ..base },
        Claims { extra: &[("tenant", b"")], ..base },
    ] {
        assert_eq!(verify(&verifier(), &token, &same), Ok(()));
    }
    let unsaid = Claims { trace_id: [1; 16], ..Claims::default() };
    let said = Claims { request_type: RequestType::Standard, flags: b",", ..unsaid };
    assert_eq!(verify(&verifier(), &sign(&keys("h1"), &unsaid), &said), Ok(()));
}

#[test]
fn whatever_is_changed_breaks_the_signature() {
    let base = claims();
    let mut other_trace = base.trace_id;
    other_trace[15] ^= 1;
    for id in ["h1", "e1"] {
        let token = sign(&keys(id), &base);
        for (what, changed) in [
            ("the trace", Claims { trace_id: other_trace, ..base }),
            ("another user", Claims { user_id: b"user-8f14e45e", ..base }),
            ("no user", Claims { user_id: b"", ..base }),
            ("a longer account", Claims { account_id: b"account-c9f0f8950", ..base }),
            ("a license", Claims { license: b"platinum", ..base }),
            ("no license", Claims { license: b"", ..base }),
            ("real work of a tracer bullet", Claims { request_type: RequestType::Standard, ..base }),
            ("a flag less", Claims { flags: b"beta", ..base }),
            ("a flag more", Claims { flags: b"beta,checkout-v2,admin", ..base }),
            ("flags in another order", Claims { flags: b"checkout-v2,beta", ..base }),
            ("no flags", Claims { flags: b"", ..base }),
            (
                "user and account swapped",
                Claims { user_id: base.account_id, account_id: base.user_id, ..base },
            ),
            ("a byte moved", Claims { user_id: b"user-8f14e45fa", account_id: b"ccount-c9f0f895", ..base }),
            ("an extra field less", Claims { extra: &[("region", b"eu")], ..base }),
            (
                "an extra field more",
                Claims { extra: &[("region", b"eu"), ("role", b"x"), ("tenant", b"t1")], ..base },
            ),
            ("an extra value", Claims { extra: &[("region", b"us"), ("tenant", b"t1")], ..base }),
            ("extra values swapped", Claims { extra: &[("region", b"t1"), ("tenant", b"eu")], ..base }),
            ("an extra name", Claims { extra: &[("region", b"eu"), ("tenanu", b"t1")], ..base }),
            ("an extra field's border", Claims { extra: &[("regio", b"neu"), ("tenant", b"t1")], ..base }),
        ] {
            assert_eq!(verify(&verifier(), &token, &changed), Err(Refused::Altered), "{id}: {what}");
        }
        assert_eq!(verify(&verifier(), &token, &base), Ok(()));
    }
    let standard = Claims { request_type: RequestType::Standard, ..base };
    let token = sign(&keys("h1"), &standard);
    assert_eq!(verify(&verifier(), &token, &base), Err(Refused::Altered), "STANDARD made TRACE");
}

#[test]
fn a_token_is_valid_in_its_time_and_no_longer_than_five_minutes() {
    let keys = keys("h1");
    let token = sign_at(&keys, &claims(), NOW_S, 60);
    for (now_s, skew_s, want) in [
        (NOW_S, 0, Ok(())),
        (NOW_S + 59, 0, Ok(())),
        (NOW_S + 60, 0, Err(Refused::Expired)),
        (NOW_S + 89, 30, Ok(())),
        (NOW_S + 90, 30, Err(Refused::Expired)),
        (u64::MAX, 30, Err(Refused::Expired)),
        (NOW_S - 1, 0, Err(Refused::NotYetValid)),
        (NOW_S - 30, 30, Ok(())),
        (NOW_S - 31, 30, Err(Refused::NotYetValid)),
        (0, 30, Err(Refused::NotYetValid)),
    ] {
        let verified = keys.verify(&token, &claims(), now_s, skew_s, &mut Vec::new());
        assert_eq!(verified.map(|_| ()), want, "{now_s} {skew_s}");
    }
    for (ttl_s, lives_s) in [(0, 1), (1, 1), (300, 300), (301, 300), (u64::MAX, 300)] {
        let token = sign_at(&keys, &claims(), NOW_S, ttl_s);
        let verified = keys.verify(&token, &claims(), NOW_S, 0, &mut Vec::new()).unwrap();
        assert_eq!(verified.expires_s - NOW_S, lives_s, "asked for {ttl_s}");
    }
    let head = text(&token).replace(".60.", ".301.");
    assert_eq!(
        verify(&keys, head.as_bytes(), &claims()),
        Err(Refused::Malformed),
        "a longer life is no token"
    );
}

#[test]
fn what_is_no_token_is_malformed() {
    let token = String::from_utf8(sign(&keys("h1"), &claims())).unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let parts: Vec<_> = token.split('.').collect();
    let with = |at: usize, part: &str| {
        let mut parts = parts.clone();
        parts[at] = part;
        parts.join(".")
    };
    for bad in [
        String::new(),
        ".....".to_owned(),
        head.to_owned(),
        format!("{head}."),
        format!("{token}."),
        format!("{token}="),
        format!("{token},{token}"),
        format!("{token}{token}"),
        format!(" {token}"),
        with(0, "v2"),
        with(0, "V1"),
        with(0, ""),
        with(1, ""),
        with(1, "k 1"),
        with(1, &"k".repeat(17)),
        with(2, "01795392000"),
        with(2, "+1795392000"),
        with(2, "-1"),
        with(2, "1e9"),
        with(2, "9999999999999"),
        with(2, ""),
        with(3, "0"),
        with(3, "301"),
        with(4, ""),
        with(4, &"i".repeat(65)),
        with(4, "a/b"),
        with(5, &signature[1..]),
        with(5, &format!("{signature}A")),
        with(5, &format!("{}=", &signature[..42])),
        "x".repeat(TOKEN_BYTES_MAX + 1),
    ] {
        assert_eq!(verify(&verifier(), bad.as_bytes(), &claims()), Err(Refused::Malformed), "{bad}");
    }
    assert_eq!(verify(&verifier(), with(1, "h2").as_bytes(), &claims()), Err(Refused::UnknownKey));
    assert_eq!(verify(&verifier(), with(1, "e1").as_bytes(), &claims()), Err(Refused::Altered));
    assert_eq!(verify(&verifier(), with(4, "edge-us").as_bytes(), &claims()), Err(Refused::Altered));
}

/// Bits beyond the last byte of a signature, which a lenient reader ignores: one token has one spelling.
#[test]
fn a_token_has_one_spelling() {
    for id in ["h1", "e1"] {
        let token = sign(&keys(id), &claims());
        let accepted: Vec<u8> = (0..=255)
            .filter(|last| {
                let mut other = token.clone();
                *other.last_mut().unwrap() = *last;
                verify(&verifier(), &other, &claims()).is_ok()
            })
            .collect();
        assert_eq!(accepted, token[token.len() - 1..]);
    }
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Refused::ALL.into_iter().map(Refused::as_str).collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["altered", "expired", "malformed", "not_yet_valid", "unknown_key"]
    );
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..8)
}

/// Claims that own their values.
type Owned = ([u8; 16], [Vec<u8>; 4], bool, Vec<(String, Vec<u8>)>);

fn any_claims() -> impl Strategy<Value = Owned> {
    let values = [value(), value(), value(), value()];
    (any::<[u8; 16]>(), values, any::<bool>(), prop::collection::vec(("[a-c]{1,3}", value()), 0..3))
}

fn with_claims<T>(owned: &Owned, then: impl FnOnce(&Claims<'_>) -> T) -> T {
    let (trace_id, [user_id, account_id, license, flags], is_trace, extra) = owned;
    let extra: Vec<_> = extra.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let request_type = if *is_trace { RequestType::Trace } else { RequestType::Standard };
    then(&Claims { trace_id: *trace_id, user_id, account_id, license, request_type, flags, extra: &extra })
}

/// What claims say, without the ways to write it.
fn meaning(owned: &Owned) -> Owned {
    let mut owned = owned.clone();
    owned.1[3] = crate::context::fields::flags(&owned.1[3]).collect::<Vec<_>>().join(&b',');
    owned.3.retain(|(_, value)| !value.is_empty());
    owned
}

proptest! {
    #[test]
    fn what_is_signed_is_verified_and_nothing_else(
        one in any_claims(), other in any_claims(), ed25519: bool, now_s in 0..=999_999_999_999_u64, ttl_s: u64, issuer in "\\PC{0,80}",
    ) {
        let keys = keys(if ed25519 { "e1" } else { "h1" });
        let mut token = Vec::new();
        prop_assert!(with_claims(&one, |claims| keys.sign(claims, &Issuer::new(&issuer), now_s, ttl_s, &mut token)));
        let verified = |owned: &Owned| {
            with_claims(owned, |claims| verifier().verify(&token, claims, now_s, 0, &mut Vec::new()).map(|_| ()))
        };
        prop_assert_eq!(verified(&one), Ok(()));
        let want = if meaning(&one) == meaning(&other) { Ok(()) } else { Err(Refused::Altered) };
        prop_assert_eq!(verified(&other), want);
    }

    #[test]
    fn any_bytes_at_any_time_are_refused_without_a_panic(
        token in prop::collection::vec(any::<u8>(), 0..300), now_s: u64, skew_s: u64,
    ) {
        prop_assert!(verifier().verify(&token, &claims(), now_s, skew_s, &mut Vec::new()).is_err());
    }

    #[test]
    fn text_that_looks_like_a_token_is_refused_at_any_time(
        token in "v1\\.(h1|e1|x)\\.[0-9]{1,12}\\.[0-9]{1,3}\\.[a-z]{1,5}\\.([A-Za-z0-9_-]{42}A|[A-Za-z0-9_-]{85}A)",
        now_s: u64, skew_s: u64,
    ) {
        let refused = verifier().verify(token.as_bytes(), &claims(), now_s, skew_s, &mut Vec::new()).unwrap_err();
        let cached = Cache::new(4, 1).verify(&verifier(), token.as_bytes(), &claims(), now_s, skew_s).unwrap_err();
        prop_assert_eq!(refused, cached);
    }
}
