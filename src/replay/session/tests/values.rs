//! What is replaced, and what is left alone.

use super::super::*;
use crate::record::{Event, ResponseHead, What};
use proptest::prelude::*;

fn entry(fields: &[(&str, &str)], body: &str) -> Entry {
    let fields = fields.iter().map(|(name, value)| Field::new(name.to_string(), value.to_string())).collect();
    let head = What::Response(ResponseHead { status: 200, fields });
    let body = What::Data(Side::Response, Bytes::copy_from_slice(body.as_bytes()));
    Entry {
        status: 200,
        events: [head, body].map(|what| Event { at_ns: 0, what }).to_vec(),
        ..Entry::default()
    }
}

fn answer(fields: &[(&str, &str)], body: &str) -> Answer {
    let fields = fields.iter().map(|(name, value)| Field::new(name.to_string(), value.to_string())).collect();
    Answer {
        status: 200,
        fields,
        body: Bytes::copy_from_slice(body.as_bytes()),
        body_bytes: body.len() as u64,
        ..Answer::default()
    }
}

fn request(target: &str, fields: &[(&str, &str)], body: &str) -> Request {
    let fields = fields.iter().map(|(name, value)| Field::new(name.to_string(), value.to_string())).collect();
    let head =
        RequestHead { target: Bytes::copy_from_slice(target.as_bytes()), fields, ..RequestHead::default() };
    Request { head, body: Bytes::copy_from_slice(body.as_bytes()), pass: 0 }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Sessions that know `ord_12ab` as `ord_99zz`, `4021/x=` as `77/é y` and 71003344 as 9.
fn sessions(config: Config) -> Sessions {
    let mut sessions = Sessions::new(config, "run-1");
    let recorded = r#"{"id":"ord_12ab","token":"4021/x=","number":71003344}"#;
    let now = r#"{"id":"ord_99zz","token":"77/é y","number":9}"#;
    sessions.learn(1, &entry(&[JSON], recorded), &answer(&[JSON], now));
    sessions
}

#[test]
fn whole_values_are_replaced_wherever_they_stand_and_parts_of_words_are_not() {
    for (target, fields, body, want_target, want_value, want_body) in [
        (
            "/orders/ord_12ab/items?ref=ord_12ab&x=1",
            ("x-ref", "ord_12ab"),
            "",
            "/orders/ord_99zz/items?ref=ord_99zz&x=1",
            "ord_99zz",
            "",
        ),
        (
            "/orders/ord_12ab2?a=aord_12ab#f",
            ("x-ref", "xord_12ab"),
            "",
            "/orders/ord_12ab2?a=aord_12ab#f",
            "xord_12ab",
            "",
        ),
        (
            "/t/4021%2Fx%3D",
            ("authorization", "Bearer 4021/x="),
            "",
            "/t/77%2F%C3%A9%20y",
            "Bearer 77/é y",
            "",
        ),
        (
            "/n/71003344",
            ("if-match", "W/\"ord_12ab\", \"71003344\""),
            "",
            "/n/9",
            "W/\"ord_99zz\", \"9\"",
            "",
        ),
        (
            "/",
            JSON,
            r#"{ "id" : "ord_12ab", "n": 71003344, "m": 710033440, "f": 1.50, "t": "see ord_12ab", "u": "/o/ord_12ab?x" }"#,
            "/",
            "application/json",
            r#"{ "id" : "ord_99zz", "n": 9, "m": 710033440, "f": 1.50, "t": "see ord_12ab", "u": "/o/ord_99zz?x" }"#,
        ),
        ("/", FORM, "a=ord_12ab&b=4021%2Fx%3D&c=no", "/", FORM.1, "a=ord_99zz&b=77%2F%C3%A9%20y&c=no"),
        ("/", ("content-type", "text/plain"), "ord_12ab", "/", "text/plain", "ord_12ab"),
    ] {
        let mut sessions = sessions(Config::default());
        let mut got = request(target, &[fields, ("Content-Length", "1")], body);
        sessions.rewrite(1, &Entry::default(), &mut got);
        let want = request(want_target, &[(fields.0, want_value)], want_body);
        assert_eq!(
            (&got.head.target, &got.head.fields[0], &got.body),
            (&want.head.target, &want.head.fields[0], &want.body)
        );
        if body != want_body {
            assert_eq!(&*got.head.fields[1].value, want_body.len().to_string().as_bytes());
        }
        let mut other = request(target, &[fields], body);
        sessions.rewrite(2, &Entry::default(), &mut other);
        assert_eq!(other, request(target, &[fields], body), "another actor knows nothing of it");
    }
}

#[test]
fn content_in_a_coding_is_learned_from_and_rewritten_in_it() {
    let gzip = ("content-encoding", "gzip");
    let codings = Codings::of(&[Field::new("content-encoding", "gzip")]).unwrap();
    let packed = |text: &str| Bytes::from(codings.encoded(text.into()).unwrap());
    let mut sessions = Sessions::new(Config::default(), "run-1");
    let mut recorded = entry(&[JSON, gzip], "");
    recorded.events[1].what = What::Data(Side::Response, packed(r#"{"id":"ord_12ab"}"#));
    let mut now = answer(&[JSON], r#"{"id":"ord_99zz"}"#);
    sessions.learn(1, &recorded, &now);
    now.fields = vec![Field::new("content-encoding", "br")];
    sessions.learn(1, &recorded, &now);
    let mut sent = request("/", &[JSON, gzip, ("content-length", "1")], "");
    sent.body = packed(r#"{"order":"ord_12ab","n":1}"#);
    sessions.rewrite(1, &Entry::default(), &mut sent);
    assert_eq!(&*codings.decoded(&sent.body).unwrap(), br#"{"order":"ord_99zz","n":1}"#);
    let length = sent.body.len().to_string();
    assert_eq!(field(&sent.head.fields, b"content-length"), Some(length.as_bytes()));
    // What is not what it says stays as it was recorded.
    let mut broken = request("/", &[JSON, gzip], r#"{"order":"ord_12ab"}"#);
    sessions.rewrite(1, &Entry::default(), &mut broken);
    assert_eq!(&*broken.body, br#"{"order":"ord_12ab"}"#);
}

#[test]
fn amounts_and_words_are_not_learned_but_what_is_listed_is() {
    let recorded = r#"{"state":"pending","price":1299,"items":[{"no":12,"paid":"1200"}],"big":123456789}"#;
    let now = r#"{"state":"shipped","price":1399,"items":[{"no":31,"paid":"1300"}],"big":987654321}"#;
    let body = r#"["pending",1299,12,123456789]"#;
    for (listed, want) in [
        (vec![], r#"["pending",1299,12,987654321]"#),
        (vec!["/items/*/no".to_owned()], r#"["pending",1299,31,987654321]"#),
    ] {
        let mut sessions = Sessions::new(Config { learn: listed, ..Config::default() }, "r");
        sessions.learn(1, &entry(&[JSON], recorded), &answer(&[JSON], now));
        let mut got = request("/", &[JSON], body);
        sessions.rewrite(1, &Entry::default(), &mut got);
        assert_eq!(&*got.body, want.as_bytes());
    }
}

#[test]
fn cookies_go_by_value_then_by_name_and_own_ones_are_added() {
    let mut sessions = Sessions::new(Config::default(), "r");
    let recorded = entry(&[("Set-Cookie", "sid=old; Path=/"), ("set-cookie", "gone=g1")], "");
    let now = answer(
        &[("set-cookie", "sid=new; HttpOnly"), ("set-cookie", "gone=; Max-Age=0"), ("set-cookie", "lb=b2")],
        "",
    );
    sessions.learn(1, &recorded, &now);
    for (cookie, want) in [
        ("sid=old; theme=dark", "sid=new; theme=dark; lb=b2"),
        ("sid=older; a=old", "sid=new; a=new; lb=b2"),
        ("gone=g1", "gone=g1; lb=b2"),
    ] {
        let mut got = request("/", &[("Cookie", cookie)], "");
        sessions.rewrite(1, &Entry::default(), &mut got);
        assert_eq!(&*got.head.fields[0].value, want.as_bytes());
    }
}

#[test]
fn a_value_cannot_end_a_field() {
    let mut sessions = Sessions::new(Config::default(), "r");
    sessions.learn(
        1,
        &entry(&[JSON], r#"{"token":"tok_1234"}"#),
        &answer(&[JSON], "{\"token\":\"x\\r\\nadmin: 1\"}"),
    );
    let mut got = request("/a/tok_1234", &[("x-token", "tok_1234"), ("cookie", "a=tok_1234")], "");
    sessions.rewrite(1, &Entry::default(), &mut got);
    assert_eq!(&*got.head.target, b"/a/x%0D%0Aadmin%3A%201");
    assert!(got.head.fields.iter().all(|field| !field.value.contains(&b'\r')), "{got:?}");
}

#[test]
fn tokens_are_shifted_and_signed_again_and_others_are_left() {
    let part = |json: &str| base64::encode(json.as_bytes());
    let token = |alg: &str| {
        format!(
            "{}.{}.{}",
            part(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#)),
            part(r#"{"sub":"ord_12ab","iat":1000,"exp":4600,"x":1.5}"#),
            "AAAA"
        )
    };
    let keys = vec![Key::parse("HS256:secret").unwrap()];
    let mut sessions =
        sessions(Config { jwt_keys: keys, now_ns: Some(50_000_000_000_000), ..Config::default() });
    let recorded = Entry { started_ns: 1_200_000_000_000, ..Entry::default() };
    let mut got = request(
        "/",
        &[("authorization", &format!("Bearer {}", token("HS256"))), ("x-other", &token("RS256"))],
        "",
    );
    sessions.rewrite(1, &recorded, &mut got);
    let value = std::str::from_utf8(&got.head.fields[0].value).unwrap().strip_prefix("Bearer ").unwrap();
    let (signed, tag) = value.rsplit_once('.').unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
    hmac::verify(&key, signed.as_bytes(), &base64::decode(tag).unwrap()).unwrap();
    let claims = base64::decode(signed.split_once('.').unwrap().1).unwrap();
    assert_eq!(
        std::str::from_utf8(&claims).unwrap(),
        r#"{"sub":"ord_99zz","iat":49800,"exp":53400,"x":1.5}"#
    );
    assert_eq!(&*got.head.fields[1].value, token("RS256").as_bytes());
    assert_eq!(sessions.counts().signed, 1);
    for wrong in ["", "HS256", "HS256:", "RS256:abc", "HS256:@/nowhere/at/all"] {
        assert!(!Key::parse(wrong).unwrap_err().contains('\n'), "{wrong}");
    }
}

#[test]
fn idempotency_keys_are_made_anew_for_each_run_and_keep_their_form() {
    let key = "0b1f3d52-44a6-4be2-9a7e-5b8ad10a1a55";
    let of = |run: &str, actor| {
        let mut got = request("/", &[("Idempotency-Key", key)], "");
        Sessions::new(Config::default(), run).rewrite(actor, &Entry::default(), &mut got);
        String::from_utf8(got.head.fields[0].value.to_vec()).unwrap()
    };
    let first = of("a", 1);
    assert_eq!((of("a", 1), first.len(), &first[14..15]), (first.clone(), 36, "4"));
    assert!(first != key && first != of("b", 1) && first != of("a", 2));
}

#[test]
fn what_is_known_is_bounded() {
    let mut sessions = Sessions::new(Config::default(), "r");
    for n in 0..3 * VALUES_MAX {
        let json = |x: &str| format!(r#"{{"id":"{x}{n}"}}"#);
        sessions.learn(1, &entry(&[JSON], &json("old_")), &answer(&[JSON], &json("new_")));
    }
    assert!(
        sessions.counts().known <= VALUES_MAX as u64 && sessions.counts().learned == 3 * VALUES_MAX as u64
    );
    let mut got = request(&format!("/old_{}/old_0", 3 * VALUES_MAX - 1), &[], "");
    sessions.rewrite(1, &Entry::default(), &mut got);
    assert_eq!(
        got.head.target,
        format!("/new_{}/old_0", 3 * VALUES_MAX - 1),
        "the last is known, the first forgotten"
    );
}

proptest! {
    #[test]
    fn nothing_panics_and_what_is_unknown_stays_to_the_byte(target in "[ -~é]{0,40}", value in "[ -~]{0,40}", body: Vec<u8>, is_json: bool) {
        let mut sessions = sessions(Config { jwt_keys: vec![Key::parse("HS256:k").unwrap()], ..Config::default() });
        let kind = if is_json { JSON } else { FORM };
        let mut got = request(&target, &[kind, ("x-any", &value)], "");
        got.body = body.into();
        let before = got.clone();
        sessions.rewrite(1, &Entry::default(), &mut got);
        prop_assert_eq!(got, before);
    }

    #[test]
    fn any_answers_can_be_learned_from(kind in "(application/json|text/html|text/plain|application/x-www-form-urlencoded)", a in ".{0,60}", b in ".{0,60}") {
        let mut sessions = Sessions::new(Config::default(), "r");
        let kind = [("content-type", &*kind), ("location", &*a), ("set-cookie", &*b), ("www-authenticate", &*a)];
        sessions.learn(1, &entry(&kind, &a), &answer(&kind, &b));
        prop_assert!(sessions.counts().known <= 60);
    }

    #[test]
    fn base64_is_read_as_it_was_written(bytes: Vec<u8>) {
        prop_assert_eq!(base64::decode(&base64::encode(&bytes)), Some(bytes));
    }
}
