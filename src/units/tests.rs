use super::*;

#[test]
fn durations_are_read() {
    let cases = [
        ("250ms", 250_000_000),
        ("15s", 15_000_000_000),
        ("1.5s", 1_500_000_000),
        ("0.1ms", 100_000),
        ("1h30m", 5_400_000_000_000),
        ("2d", 172_800_000_000_000),
        ("3us", 3_000),
        ("3µs", 3_000),
        ("7ns", 7),
        ("0s", 0),
        ("18446744073709551615ns", u64::MAX),
    ];
    for (text, nanos) in cases {
        assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
}

#[test]
fn what_is_no_duration_is_refused() {
    let cases = [
        "",
        "15",
        "s",
        "-1s",
        "+1s",
        "1 s",
        "1.s",
        ".5s",
        "1sec",
        "1S",
        "1m1m",
        "1m1h",
        "1s ",
        "999999999d",
        "1.5ns",
        "1e3s",
    ];
    for text in cases {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn durations_are_written_short() {
    let cases = [(90, "90s"), (60, "1m"), (3600, "1h"), (5400, "90m"), (86_400, "1d"), (0, "0s")];
    for (seconds, text) in cases {
        assert_eq!(duration_text(Duration::from_secs(seconds)), text);
    }
    assert_eq!(duration_text(Duration::from_millis(1500)), "1500ms");
}

#[test]
fn sizes_are_read_and_written() {
    let cases = [
        ("64KiB", 65_536),
        ("1MiB", 1 << 20),
        ("1.5GiB", 3 << 29),
        ("10MB", 10_000_000),
        ("512B", 512),
        ("512", 512),
        ("64 KiB", 65_536),
        ("0B", 0),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in ["", "KiB", "-1B", "64k", "64Kib", "1.0001KiB", "99999999999TiB", "1KiB1B", "0x10"] {
        assert!(parse_size(text).is_err(), "{text}");
    }
    assert_eq!(
        (size_text(65_536), size_text(1000), size_text(0)),
        ("64KiB".into(), "1000B".into(), "0B".into())
    );
}

#[test]
fn hosts_and_ports_are_read() {
    let read = |text: &str| text.parse::<HostPort>().map(|it| it.to_string());
    assert_eq!(read("Payments.Local:8080"), Ok("payments.local:8080".into()));
    assert_eq!(read("10.0.0.7:80"), Ok("10.0.0.7:80".into()));
    assert_eq!(read("[0:0::1]:80"), Ok("[::1]:80".into()));
    assert_eq!(read("my_svc.ns:1"), Ok("my_svc.ns:1".into()));
    let wrong = [
        "",
        ":80",
        "a",
        "a:",
        "a:0",
        "a:65536",
        "a:+80",
        "a: 80",
        "a b:80",
        "::1:80",
        "[::1]",
        "[::1]:",
        "[a]:80",
        "1.2.3:80",
        "1.2.3.256:80",
        "-a:80",
        "a-:80",
        "a..b:80",
        "user@a:80",
        "a/b:80",
        "*.a:80",
    ];
    for text in wrong {
        assert!(read(text).is_err(), "{text}");
    }
    assert!(format!("{}:80", "a".repeat(64)).parse::<HostPort>().is_err(), "a label has 63 characters");
}

#[test]
fn only_addresses_are_socket_addresses() {
    let address = |text: &str| text.parse::<HostPort>().unwrap().socket_addr();
    assert_eq!(address("127.0.0.1:80"), Some("127.0.0.1:80".parse().unwrap()));
    assert_eq!(address("[::1]:80"), Some("[::1]:80".parse().unwrap()));
    assert_eq!(address("localhost:80"), None);
}
