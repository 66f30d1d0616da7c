//! `baggage`, W3C Baggage §3: everything within its limits goes on as it came; beyond them whole members go, and are
//! counted.

use crate::world::{BOTH, World, same, shared};

/// `count` members that are together, with their commas, `bytes` long.
fn members(count: usize, bytes: usize) -> Vec<String> {
    let mut list: Vec<_> = (0..count).map(|at| format!("k{at:03}=")).collect();
    let missing = bytes - list.join(",").len();
    for (at, member) in list.iter_mut().enumerate() {
        let share = missing / count + usize::from(at < missing % count);
        member.push_str(&"v".repeat(share));
    }
    assert_eq!(list.join(",").len(), bytes);
    list
}

/// Asserts that the app gets these bytes, and that nothing was dropped.
#[track_caller]
fn kept(list: &str) {
    let world = shared();
    for hop in world.hops(&[("baggage", list)]) {
        // The app's side has a char for each byte.
        let wanted: String = list.bytes().map(char::from).collect();
        same(&hop.list("baggage"), &wanted, hop.protocol);
        assert_eq!(world.dropped(&hop), 0, "{:?}", hop.protocol);
    }
}

/// §3.3.2: all of 64 members and 8192 bytes must go on.
#[test]
fn a_list_of_64_members_and_8192_bytes_goes_on_byte_for_byte() {
    for (count, bytes) in [(64, 8192), (64, 64 * 6 - 1), (1, 8192), (63, 8191)] {
        kept(&members(count, bytes).join(","));
    }
}

/// §3.3.2: "combined over all header lines".
#[test]
fn several_lines_are_one_list_in_their_order() {
    let world = shared();
    let all = members(64, 8192);
    let lines: Vec<String> = all.chunks(16).map(|some| some.join(",")).collect();
    let fields: Vec<_> = lines.iter().map(|line| ("baggage", line.as_str())).collect();
    for hop in world.hops(&fields) {
        same(&hop.list("baggage"), &all.join(","), hop.protocol);
        assert_eq!(world.dropped(&hop), 0);
    }
}

/// Ours go first, so that a hop behind us which has to shorten the list cuts others'.
#[test]
fn the_members_of_others_stay_byte_for_byte_and_in_order_beside_ours() {
    let world = shared();
    let foreign = "z=1;p=2; q, a=%C3%A9%2C ,a=2,empty=,k=v=w;x=\"y\"";
    let clean = "z=1;p=2; q,a=%C3%A9%2C,a=2,empty=,k=v=w;x=\"y\"";
    for hop in world.hops(&[("x-account-id", "7"), ("baggage", foreign)]) {
        assert_eq!(hop.list("baggage"), format!("account.id=7,{clean}"));
        assert_eq!(world.dropped(&hop), 0);
    }
    // A list that says what is decided stays as it came.
    for hop in world.hops(&[("baggage", format!("b=1,account.id=7,{foreign}"))]) {
        assert_eq!(hop.list("baggage"), format!("b=1,account.id=7,{foreign}"));
    }
    let all = members(63, 8192 - ",account.id=7".len());
    for hop in world.hops(&[("baggage", format!("{},account.id=7", all.join(",")))]) {
        assert_eq!(
            hop.list("baggage"),
            format!("{},account.id=7", all.join(",")),
            "64 members and 8192 bytes"
        );
        assert_eq!(world.dropped(&hop), 0);
    }
}

/// §3.3.2: whole members, and it is told how many.
#[test]
fn more_than_64_members_lose_the_right_most_whole() {
    let world = shared();
    for count in [65, 100, 180] {
        let all = members(count, count * 10);
        for hop in world.hops(&[("baggage", all.join(","))]) {
            same(&hop.list("baggage"), &all[..64].join(","), hop.protocol);
            assert_eq!(world.dropped(&hop), count as u64 - 64, "{count} over {:?}", hop.protocol);
        }
        for hop in world.hops(&[("baggage", all.join(",").as_str()), ("x-account-id", "7")]) {
            same(&hop.list("baggage"), &format!("account.id=7,{}", all[..63].join(",")), hop.protocol);
            assert_eq!(world.dropped(&hop), count as u64 - 63, "{count} over {:?}", hop.protocol);
        }
    }
}

/// §3.3.2: never a part of one.
#[test]
fn more_than_8192_bytes_lose_whole_members() {
    let world = shared();
    let all = members(16, 8193);
    for hop in world.hops(&[("baggage", all.join(","))]) {
        same(&hop.list("baggage"), &all[..15].join(","), hop.protocol);
        assert_eq!(world.dropped(&hop), 1, "{:?}", hop.protocol);
    }
    // One that is too long alone takes nobody along.
    let list = format!("a=1,long={},b=2", "v".repeat(8192));
    for hop in world.hops(&[("baggage", list)]) {
        assert_eq!(hop.list("baggage"), "a=1,b=2", "{:?}", hop.protocol);
        assert_eq!(world.dropped(&hop), 1, "{:?}", hop.protocol);
    }
}

#[test]
fn the_limit_of_the_bytes_is_configured() {
    let world = World::with(|setup| setup.section("context", "baggage_bytes_max: 20B"));
    for protocol in BOTH {
        let hop = world.pass(protocol, &[("baggage", "account.id=7,a=1,b=23456,c=3")]);
        assert_eq!(hop.list("baggage"), "account.id=7,a=1,c=3", "{protocol:?}");
        assert_eq!(world.dropped(&hop), 1, "{protocol:?}");
    }
}

/// §3.3.1: values are percent-encoded UTF-8, and `%` always is.
#[test]
fn percent_encoding_is_undone_on_the_way_in_and_done_on_the_way_out() {
    let world = shared();
    for hop in world.hops(&[("baggage", "account.id=a%2Fb%25c,user.id=%75%31,feature.flags=a%2Cb%3d1")]) {
        assert_eq!(hop.lines("x-account-id"), ["a/b%c"]);
        assert_eq!(hop.lines("x-user-id"), ["u1"]);
        assert_eq!(hop.lines("x-feature-flags"), ["a,b=1"]);
        // It says the same, so it stays as it came.
        assert_eq!(hop.list("baggage"), "account.id=a%2Fb%25c,user.id=%75%31,feature.flags=a%2Cb%3d1");
        let event = world.event(&hop);
        assert_eq!((&event["account_id"], &event["user_id"]), (&"a/b%c".into(), &"u1".into()), "{event}");
    }
    for hop in world.hops(&[("x-account-id", "100%25%"), ("x-feature-flags", "a, b")]) {
        assert_eq!(hop.lines("x-account-id"), ["100%25%"], "a header is no baggage: nothing is decoded");
        assert_eq!(hop.list("baggage"), "account.id=100%2525%25,feature.flags=a%2C%20b");
    }
    // A `%` without two digits stands for itself.
    for hop in world.hops(&[("baggage", "account.id=50%,user.id=%2")]) {
        assert_eq!((hop.list("x-account-id"), hop.list("x-user-id")), ("50%".into(), "%2".into()));
    }
}

/// §3.3.1: what decodes to no UTF-8 is U+FFFD, which no field may have. Members of others are not ours to judge.
#[test]
fn encoded_bytes_that_are_no_utf8_are_no_value_of_a_field() {
    let world = shared();
    for encoded in ["%FF", "a%C3", "%ED%A0%80", "%C0%AF"] {
        let list = format!("account.id={encoded},theirs={encoded}");
        for hop in world.hops(&[("baggage", list)]) {
            assert_eq!(hop.lines("x-account-id"), [""; 0], "{encoded}");
            assert_eq!(hop.list("baggage"), format!("theirs={encoded}"));
            assert!(world.dropped(&hop) > 0 && world.event(&hop)["account_id"].is_null(), "{encoded}");
        }
    }
}

/// Properties, spaces and members that are no members of the grammar belong to others, and go on with nothing to add.
#[test]
fn a_list_without_our_fields_is_not_touched() {
    for list in ["a=1;p;q=2 , b = 2", "novalue", "a=1,,b=2,", "ключ=1", "=1", "a=%zz", "a=1,a=2,a=1"] {
        kept(list);
    }
}

/// Of several members with one key OpenTelemetry's SDKs take the last one.
#[test]
fn the_last_of_several_members_of_a_field_counts() {
    for hop in shared().hops(&[("baggage", "account.id=1,x=1,account.id=2")]) {
        assert_eq!((hop.list("x-account-id"), hop.list("baggage")), ("2".into(), "account.id=2,x=1".into()));
    }
}
