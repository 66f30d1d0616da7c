//! GoReplay's files.

use super::*;

#[test]
fn gor_is_read() {
    let [second, first, alone] = &whole(Format::Gor, GOR.as_bytes())[..] else { panic!() };
    assert_eq!(
        (first.started_ns, first.duration_ns, first.status),
        (1_439_818_823_587_396_305, 7_000_000, 404)
    );
    assert_eq!(
        (&first.body(Side::Request)[..], &first.body(Side::Response)[..]),
        (&b"hello"[..], &b"no"[..])
    );
    assert_eq!(first.account_id, "acme");
    assert_eq!(
        (second.first_byte_ns, second.duration_ns, second.version),
        (10_000_000, 12_000_000, Version::Http10)
    );
    let head = second.request_head().unwrap();
    assert_eq!((&head.authority[..], &head.target[..]), (&b"other:81"[..], &b"/b?c"[..]));
    assert_eq!(&second.body(Side::Response)[..], b"abcde");
    assert_eq!(second.trailers(Side::Response), [Field::new("x-sum", "1")]);
    assert_eq!((alone.outcome, alone.status), (Outcome::None, 0));
    assert!(first.connection != second.connection && first.is_whole());
}

#[test]
fn gor_of_ours_is_read_as_far_as_it_goes() {
    let entries = [get("/x?y", b"body\r\n\r\n"), full(), socket()];
    let (bytes, notes) = written(Format::Gor, TapCoding::Json, &entries);
    let read = whole(Format::Gor, &bytes);
    assert_eq!(read.len(), 3);
    for (before, after) in entries.iter().zip(&read) {
        assert_eq!(
            (before.started_ns, before.duration_ns, before.status),
            (after.started_ns, after.duration_ns, after.status)
        );
        assert_eq!(before.request_head().unwrap().target, after.request_head().unwrap().target);
        if !before.is_tunnel() {
            assert_eq!(before.body(Side::Request), after.body(Side::Request));
            assert_eq!(before.body(Side::Response), after.body(Side::Response));
        }
    }
    for lost in ["trailers", "resets", "WebSockets", "HTTP/2", "interim", "pieces"] {
        assert_eq!(notes.count(lost), 1, "{lost}: {notes:?}");
    }
    let id = String::from_utf8_lossy(&bytes).split(' ').nth(1).unwrap().to_owned();
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
}

#[test]
fn truncated_content_stays_truncated_in_gor() {
    let mut entry = get("/", b"12345");
    entry.request = Content { bytes: 5000, hash: 0, is_truncated: true };
    let (bytes, _) = written(Format::Gor, TapCoding::Json, &[entry]);
    let [read] = &whole(Format::Gor, &bytes)[..] else { panic!() };
    assert_eq!(read.request, Content { bytes: 5000, hash: 0, is_truncated: true });
    assert_eq!(&read.body(Side::Request)[..], b"12345");
}

#[test]
fn behind_a_bad_record_of_gor_the_next_is_read() {
    let good = "1 aa 1\nGET / HTTP/1.1\r\n\r\n\n🐵🙈🙉\n";
    for (bad, why) in [
        ("rubbish\nwithout sense", "no record"),
        ("7 aa 5\nGET / HTTP/1.1\r\n\r\n", "type 7"),
        ("1 aa five\nGET / HTTP/1.1\r\n\r\n", "no record"),
        ("1 ../../etc/passwd 5\nGET / HTTP/1.1\r\n\r\n", "no record"),
        ("1 bb 5\n\0\0\0", "no head"),
        ("1 bb 5\nGET / HTTP/1.1\r\nHost: a", "no end"),
        ("1 bb 5", "without a message"),
        ("2 zz 5 5\nHTTP/1.1 200 OK\r\n\r\n", "without a request"),
    ] {
        let text = format!("{good}{bad}\n🐵🙈🙉\n{}", good.replace("aa", "cc"));
        let (entries, problems) = read(Format::Gor, text.as_bytes());
        assert_eq!(entries.len(), 2, "{why}");
        assert!(problems.len() == 1 && problems[0].message.contains(why), "{why}: {problems:?}");
        assert_eq!((problems[0].offset as usize, problems[0].line), (good.len(), Some(6)), "{why}");
    }
    let (entries, problems) = read(Format::Gor, format!("{good}2 aa 5 5\nHTTP/1.1 broken").as_bytes());
    assert_eq!((entries.len(), problems.len()), (1, 1), "the request is not lost with its answer");
}
