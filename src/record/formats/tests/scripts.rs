//! Scripts and targets.

use super::*;

#[test]
fn a_script_for_the_shell_runs_nothing_but_curl() {
    let bodies: [&[u8]; 5] = [b"", b"it's $(date) `date`", b"@/etc/passwd", b"\0\xff%s\n'", b"line\nline\\n"];
    let entries: Vec<Entry> = bodies.iter().map(|body| get("/a'b;$(x)?[1-9]&{a,b}", body)).collect();
    let (script, _) = written(Format::Curl, TapCoding::Json, &entries);
    // A curl that tells its arguments and its content.
    let stub = b"curl() { for a in \"$@\"; do printf '<%s>' \"$a\"; done; case \"$*\" in *@-) od -An -tx1 | tr -d ' \\n';; esac; echo '|'; }\n";
    let run = std::process::Command::new("sh")
        .arg("-c")
        .arg(String::from_utf8([&stub[..], &script].concat()).unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    let told: Vec<&str> = said.split("|\n").filter(|part| !part.is_empty()).collect();
    assert_eq!(told.len(), bodies.len(), "{said}");
    for one in &told {
        assert!(one.contains("<http://shop/a'b;$(x)?[1-9]&{a,b}>"), "{one}");
        assert!(one.contains("<x-a: it's; $(touch /tmp/x) `x` \"q\" \\>"), "{one}");
        assert!(one.starts_with("<-sS><-g><--path-as-is><--http1.1><-X><POST>"), "{one}");
    }
    assert!(told[1].contains("<--data-binary><it's $(date) `date`>"), "{}", told[1]);
    assert!(told[2].contains("<--data-raw><@/etc/passwd>"), "{}", told[2]);
    assert!(told[3].ends_with("<--data-binary><@->00ff25730a27"), "{}", told[3]);
    assert!(told[4].contains("<--data-binary><line\nline\\n>"), "{}", told[4]);
}

#[test]
fn scripts_hold_what_was_sent_as_literals() {
    let mut entry = get("/a\"b?q", b"\xff\"\n</script>");
    entry.account_id = "a\"\n1".into();
    let mut truncated = get("/cut", b"x");
    truncated.request.is_truncated = true;
    let entries = [entry, truncated, socket()];

    let (vegeta, notes) = written(Format::Vegeta, TapCoding::Json, &entries);
    let lines: Vec<Value> = vegeta
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let [target] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        (&target["method"], &target["url"], &target["body"]),
        (&json!("POST"), &json!("http://shop/a\"b?q"), &json!("/yIKPC9zY3JpcHQ+"))
    );
    assert_eq!(target["header"]["x-a"][0], "it's; $(touch /tmp/x) `x` \"q\" \\");
    assert_eq!((notes.count("truncated"), notes.count("WebSockets")), (1, 1));

    let (k6, _) = written(Format::K6, TapCoding::Json, &entries);
    let k6 = String::from_utf8(k6).unwrap();
    let line = k6.lines().find(|line| line.starts_with("  [")).unwrap();
    let request: Value = serde_json::from_str(line.trim().trim_end_matches(',')).unwrap();
    assert_eq!(
        request,
        json!([0.0, "POST", "http://shop", "/a\"b?q", { "x-a": "it's; $(touch /tmp/x) `x` \"q\" \\" }, null, "/yIKPC9zY3JpcHQ+"])
    );

    let (locust, _) = written(Format::Locust, TapCoding::Json, &entries);
    let locust = String::from_utf8(locust).unwrap();
    let line = locust.lines().find(|line| line.starts_with("add(")).unwrap();
    assert_eq!(
        line,
        r#"add("a\"\U0000000a1", 0.000000000, "POST", "/a\"b?q", {"x-a": "it's; $(touch /tmp/x) `x` \"q\" \\"}, b"\xff\"\x0a</script>")"#
    );
    assert!(
        locust.contains("# USERS: 1\n") && locust.contains("    account = \"a\\\"\\U0000000a1\"\n"),
        "{locust}"
    );
}
