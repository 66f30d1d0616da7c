use super::*;
use crate::context::fields::{FLAGS_BYTES_MAX, ID_BYTES_MAX, LICENSE_BYTES_MAX, RequestType};
use proptest::prelude::*;

/// What the headers say about each field, decoded.
fn read(values: &[&str]) -> Vec<(Field, String)> {
    let found = find(values.iter().map(|value| value.as_bytes()));
    let mut buffer = Vec::new();
    let mut fields = Vec::new();
    for field in Field::ALL {
        if let Some(raw) = found.raw(field) {
            let value = decode(raw, &mut buffer).to_vec();
            fields.push((field, String::from_utf8(value).unwrap()));
        }
    }
    assert_eq!(found.is_empty(), fields.is_empty() && !found.is_disguised);
    fields
}

#[test]
fn what_fits_is_counted_over_all_headers() {
    let list = |members: usize, bytes: usize| {
        let mut text = "k=v,".repeat(members - 1);
        text.push_str(&format!("l={}", "x".repeat(bytes - text.len() - 2)));
        text
    };
    let fits = |values: &[&str]| fits(values.iter().map(|value| value.as_bytes()), BYTES_MAX);
    let (most, over) = (list(MEMBERS_MAX, BYTES_MAX), list(MEMBERS_MAX, BYTES_MAX + 1));
    assert!(fits(&[]) && fits(&[""]) && fits(&[&most]) && !fits(&[&over]));
    assert!(!fits(&[&list(MEMBERS_MAX + 1, 1000)]));
    assert!(fits(&[&list(32, 4000), &list(32, 4191)]) && !fits(&[&list(32, 4000), &list(32, 4192)]));
    assert!(!fits(&[&list(33, 1000), &list(32, 1000)]));
}

fn rewrite(existing: &[&str], fields: &[(Field, &str)]) -> (Written, String) {
    let mut out = b"kept".to_vec();
    let fields = fields.iter().map(|(field, value)| (*field, value.as_bytes()));
    let written = write(existing.iter().map(|value| value.as_bytes()), fields, &mut out);
    let list = out.strip_prefix(b"kept").expect("what was in the buffer stays");
    (written, String::from_utf8(list.to_vec()).unwrap())
}

fn decoded(raw: &str) -> String {
    String::from_utf8(decode(raw.as_bytes(), &mut b"old".to_vec()).to_vec()).unwrap()
}

#[test]
fn fields_are_found_among_foreign_members_and_over_several_headers() {
    let values = [
        "userId=alice, user.id=u-1 ,serverNode=DF%2028",
        "account.id = a%2D7 ; ttl=5, license=gold;p",
        "request.type=TRACE,feature.flags=beta%2Cnew",
    ];
    assert_eq!(
        read(&values),
        [
            (Field::UserId, "u-1".to_owned()),
            (Field::AccountId, "a-7".to_owned()),
            (Field::License, "gold".to_owned()),
            (Field::RequestType, "TRACE".to_owned()),
            (Field::Flags, "beta,new".to_owned()),
        ]
    );
}

#[test]
fn only_the_exact_key_is_believed() {
    let others =
        "User.Id=a,user.id2=a,xuser.id=a,user%2Eid=a,user.id,=a,user.id;x=a,k=v;user.id=a,request.id=a";
    assert_eq!(read(&[others]), []);
    assert_eq!(read(&["", ",, ,", "="]), []);
}

#[test]
fn a_value_may_hold_equals_signs_and_be_empty() {
    assert_eq!(
        read(&["user.id=a=b==", "license="]),
        [(Field::UserId, "a=b==".to_owned()), (Field::License, String::new())]
    );
}

#[test]
fn the_last_of_several_equal_keys_counts_and_the_repetition_is_seen() {
    assert_eq!(
        read(&["user.id=first,user.id=second", "user.id=third"]),
        [(Field::UserId, "third".to_owned())]
    );
    assert_eq!(find([&b"user.id=a,license=b,user.id=a"[..]]).repeated, 1);
    assert_eq!(find([&b"user.id=a,license=b"[..]]).repeated, 0);
}

#[test]
fn percent_encoding_is_undone_as_w3c_and_whatwg_say() {
    for (raw, want) in [
        ("plain", "plain"),
        ("Am%C3%A9lie", "Amélie"),
        ("DF%2028", "DF 28"),
        ("%2c%2C", ",,"),
        ("100%25", "100%"),
        ("%2541", "%41"),
        ("a+b", "a+b"),
        ("%", "%"),
        ("%4", "%4"),
        ("%zz%41", "%zzA"),
        ("%C3%28", "\u{fffd}("),
        ("a%FFb", "a\u{fffd}b"),
    ] {
        assert_eq!(decoded(raw), want, "{raw}");
    }
}

#[test]
fn ours_come_first_and_foreign_members_stay_as_they_are_and_in_order() {
    let existing = ["k2 = v2;p=1;q , user.id=old", "k1=%41,k1=again,odd member", "license=old;p=1"];
    let fields = [(Field::UserId, "u-1"), (Field::RequestType, RequestType::Trace.as_str())];
    let (written, list) = rewrite(&existing, &fields);
    assert_eq!(list, "user.id=u-1,request.type=TRACE,k2 = v2;p=1;q,k1=%41,k1=again,odd member");
    assert_eq!(written, Written { members: 6, dropped: 0 });
}

#[test]
fn without_fields_every_claim_is_removed() {
    for claim in [
        "user.id=mallory",
        "user.id = mallory",
        "user.id",
        "user.id;p=1",
        "user%2Eid=mallory",
        "%75ser.i%64=mallory",
        "user.id%20=mallory",
        "+user.id+=mallory",
        "%09license%0A=mallory",
        "feature.flag%73=mallory",
        "%C2%A0user.id=mallory",
        "user.id%E2%80%83=mallory",
        "%1Flicense=mallory",
        "%EF%BB%BFuser.id=mallory",
        "\u{a0}user.id\u{85}=mallory",
    ] {
        assert_eq!(rewrite(&["a=1", claim, "b=2"], &[]).1, "a=1,b=2", "{claim}");
    }
    for foreign in
        ["user.idx=1", "User.Id=1", "a%2Eb=1", "user%252Eid=1", "%=1", "user.id.of.somebody.else%20=1"]
    {
        assert_eq!(rewrite(&[foreign], &[]).1, foreign);
    }
}

#[test]
fn values_are_encoded_where_the_grammar_demands_it() {
    let fields =
        [(Field::Flags, "a, b"), (Field::UserId, "50%;\"\\é"), (Field::License, "{gold}=:/?#[]@!$&'()*+")];
    let list = rewrite(&[], &fields).1;
    assert_eq!(list, "feature.flags=a%2C%20b,user.id=50%25%3B%22%5C%C3%A9,license={gold}=:/?#[]@!$&'()*%2B");
    assert_eq!(read(&[&list]).len(), 3);
}

#[test]
fn a_field_without_a_key_or_a_value_is_not_written() {
    assert_eq!(
        rewrite(&[], &[(Field::RequestId, "r-1"), (Field::UserId, "")]),
        (Written::default(), String::new())
    );
    assert_eq!(rewrite(&["", " , "], &[]), (Written::default(), String::new()));
}

#[test]
fn at_most_64_members_are_written_and_the_rest_is_counted() {
    let member = |at: usize| format!("k{at}=v");
    let list = |count| (0..count).map(member).collect::<Vec<_>>().join(",");
    assert_eq!(rewrite(&[&list(64)], &[]), (Written { members: 64, dropped: 0 }, list(64)));
    assert_eq!(rewrite(&[&list(66)], &[]), (Written { members: 64, dropped: 2 }, list(64)));
    let (written, text) = rewrite(&[&list(64)], &[(Field::UserId, "u")]);
    assert_eq!(written, Written { members: 64, dropped: 1 });
    assert_eq!(text, format!("user.id=u,{}", list(63)), "ours stay, the right-most goes");
}

#[test]
fn at_most_8192_bytes_are_written_and_no_member_is_cut() {
    let half = |key: &str, bytes: usize| format!("{key}={}", "v".repeat(bytes - 2));
    let (first, second) = (half("a", 4096), half("b", 4095));
    let whole = format!("{first},{second}");
    assert_eq!(whole.len(), BYTES_MAX);
    assert_eq!(rewrite(&[&first, &second], &[]), (Written { members: 2, dropped: 0 }, whole));
    let too_much = half("b", 4096);
    let (written, text) = rewrite(&[&first, &too_much, "c=1"], &[]);
    assert_eq!(written, Written { members: 2, dropped: 1 });
    assert_eq!(text, format!("{first},c=1"), "a smaller member that follows still fits");
}

#[test]
fn another_limit_for_the_bytes_can_be_given() {
    let mut out = b"kept".to_vec();
    let written = write_within(9, [&b"abc=1,d=2,e=345,f=6"[..]], [], &mut out);
    assert_eq!((written, out.as_slice()), (Written { members: 2, dropped: 2 }, &b"keptabc=1,d=2"[..]));
}

/// Otherwise a valid context could push itself out.
#[test]
fn the_fields_at_their_limits_fit_even_when_every_byte_is_encoded() {
    let id = "%".repeat(ID_BYTES_MAX);
    let license = "%".repeat(LICENSE_BYTES_MAX);
    let flags = "%".repeat(FLAGS_BYTES_MAX);
    let fields = [
        (Field::UserId, id.as_str()),
        (Field::AccountId, &id),
        (Field::License, &license),
        (Field::RequestType, "STANDARD"),
        (Field::Flags, &flags),
    ];
    assert_eq!(rewrite(&[], &fields).0, Written { members: 5, dropped: 0 });
}

proptest! {
    #[test]
    fn what_is_written_is_found_again(
        user in "\\PC{1,40}", license in "[ -~]{1,20}", foreign in prop::collection::vec("[a-z]{1,6}=[!#-+.-:<-Z]{0,9}", 0..9),
    ) {
        let existing = foreign.join(" , ");
        let (written, list) = rewrite(&[&existing], &[(Field::UserId, &user), (Field::License, &license)]);
        prop_assert_eq!(written, Written { members: foreign.iter().filter(|m| !m.starts_with("license=")).count() + 2, dropped: 0 });
        prop_assert_eq!(read(&[&list]), vec![(Field::UserId, user), (Field::License, license)]);
    }

    #[test]
    fn any_bytes_are_handled_without_a_panic_and_within_the_limits(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6),
        user in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let found = find(values.iter().map(Vec::as_slice));
        let mut buffer = Vec::new();
        for field in Field::ALL {
            if let Some(raw) = found.raw(field) {
                decode(raw, &mut buffer);
            }
        }
        let mut out = Vec::new();
        let written = write(values.iter().map(Vec::as_slice), [(Field::UserId, user.as_slice())], &mut out);
        prop_assert!(written.members <= MEMBERS_MAX && out.len() <= BYTES_MAX);
    }

    #[test]
    fn a_rewritten_list_is_rewritten_to_itself(values in prop::collection::vec("[ -~]{0,60}", 0..6)) {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let (first, list) = rewrite(&values, &[]);
        prop_assert_eq!(rewrite(&[&list], &[]), (Written { members: first.members, dropped: 0 }, list));
    }
}
