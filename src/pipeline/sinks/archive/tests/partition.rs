use super::super::partition::{Head, Partition, escape, name_part};
use proptest::prelude::*;

#[test]
fn an_event_belongs_to_its_kind_and_hour() {
    for (event, want) in [
        (
            r#"{"schema":"sidelight/exchange/1","id":{"epoch":7},"timestamp":"2025-01-01T23:59:59.999999Z"}"#,
            "service=a/kind=exchange/date=2025-01-01/hour=23",
        ),
        (
            r#"{"timestamp":"2025-01-02T00:00:00+02:00","schema":"sidelight/app_log/1"}"#,
            "service=a/kind=app_log/date=2025-01-01/hour=22",
        ),
        (r#"{"schema":"x","timestamp":"yesterday"}"#, "service=a/kind=other/date=1970-01-01/hour=00"),
        (r#"{"timestamp":"1969-12-31T00:00:00Z"}"#, "service=a/kind=other/date=1970-01-01/hour=00"),
        ("no event", "service=a/kind=other/date=1970-01-01/hour=00"),
        (r#"{"schema":"a/../../b"}"#, "service=a/kind=%2E./date=1970-01-01/hour=00"),
    ] {
        assert_eq!(Partition::of(Head::of(event.as_bytes())).path("a"), want, "{event}");
    }
}

#[test]
fn names_are_of_this_folder_and_no_other() {
    for (name, want) in [
        ("checkout-v1.2_b", "checkout-v1.2_b"),
        ("a/b=c d", "a%2Fb%3Dc%20d"),
        ("..", "%2E."),
        ("", "__HIVE_DEFAULT_PARTITION__"),
    ] {
        assert_eq!(escape(name), want);
    }
    assert_eq!(name_part("../ä"), "_..__");
    assert_eq!(name_part(""), "_");
}

proptest! {
    #[test]
    fn no_event_leads_out_of_the_archive(event: Vec<u8>, schema in "\\PC{0,300}", service: String, at in "\\PC{0,30}") {
        let _ = Partition::of(Head::of(&event)).path("a");
        let json = serde_json::json!({ "schema": schema, "timestamp": at }).to_string();
        let path = Partition::of(Head::of(json.as_bytes())).path(&escape(&service));
        prop_assert_eq!(path.split('/').count(), 4);
        for (part, key) in path.split('/').zip(["service=", "kind=", "date=", "hour="]) {
            let value = part.strip_prefix(key).unwrap();
            prop_assert!(part.len() < 255 && !value.is_empty());
            prop_assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.%".contains(&byte)));
        }
        let name = name_part(&service);
        prop_assert!(!name.starts_with('.') && !name.contains('/') && name.len() <= 65);
    }
}
