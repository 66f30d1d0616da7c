//! What a request carries through the mesh: W3C Trace Context (level 2), Baggage, and the context fields, as the app
//! receives them. A broken trace restarts and takes its `tracestate` along; context comes from trusted peers only.

use e2e::{Bench, Case, Request, get};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Sends a GET with these lines; gives what the app received.
fn received(bench: &Bench, name: &str, lines: &str) -> Option<Request> {
    bench.backend().take();
    let answer = bench.client().ask(get("/c", lines));
    bench.check(name, answer.as_ref().is_ok_and(|answer| answer.status == 200), format!("{answer:?}"));
    let received = bench.backend().take();
    for violation in &received.violations {
        bench.fail(name, violation);
    }
    received.whole.into_iter().next()
}

/// The trace id and the flags of the one well-formed `traceparent` of version 00.
fn trace_of(bench: &Bench, name: &str, request: &Request) -> (String, String) {
    let values: Vec<&str> = request.fields.all("traceparent").collect();
    let parts: Vec<&str> = values.first().map(|value| value.split('-').collect()).unwrap_or_default();
    let is_hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    match parts.as_slice() {
        ["00", trace, parent, flags]
            if values.len() == 1 && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2) =>
        {
            bench.check(name, *parent != PARENT, "the parent is still the client's span");
            ((*trace).to_owned(), (*flags).to_owned())
        }
        _ => {
            bench.fail(name, format!("traceparent {values:?}"));
            Default::default()
        }
    }
}

/// Trace Context, 3.2 and 4.3: a valid parent is continued.
#[test]
fn a_valid_trace_goes_on() {
    let bench = Bench::start();
    for (name, parent, flags) in [
        ("sampled", format!("00-{TRACE}-{PARENT}-01"), "01"),
        ("not sampled", format!("00-{TRACE}-{PARENT}-00"), "00"),
        ("the random flag is kept", format!("00-{TRACE}-{PARENT}-03"), "03"),
        ("random, not sampled", format!("00-{TRACE}-{PARENT}-02"), "02"),
        ("a later version", format!("cc-{TRACE}-{PARENT}-01"), "01"),
        ("a later version with more", format!("01-{TRACE}-{PARENT}-01-what-comes"), "01"),
    ] {
        let id = name.replace([' ', ','], "-");
        let lines = format!("traceparent: {parent}\r\ntracestate: foo=1,bar=2\r\nx-request-id: {id}\r\n");
        let Some(request) = received(&bench, name, &lines) else { continue };
        let (trace, seen_flags) = trace_of(&bench, name, &request);
        bench.check(name, trace == TRACE, format!("trace {trace}"));
        bench.check(name, seen_flags == flags, format!("flags {seen_flags}"));
        let state = request.fields.list("tracestate").join(",");
        bench.check(name, state.contains("foo=1,bar=2"), format!("tracestate {state}"));
        let event = bench.proxy().events().of(&id);
        bench.check(name, event["trace_id"] == TRACE && event["parent_id"] == PARENT, event);
    }
    bench.finish();
}

/// Trace Context, 3.2.2 and 3.2.4: an invalid parent starts a new trace, without the old state.
#[test]
fn an_invalid_trace_restarts() {
    let bench = Bench::start();
    let upper = TRACE.to_uppercase();
    for (name, parent) in [
        ("version ff", format!("ff-{TRACE}-{PARENT}-01")),
        ("version 00 with more", format!("00-{TRACE}-{PARENT}-01-x")),
        ("version 00 with a dash more", format!("00-{TRACE}-{PARENT}-01-")),
        ("a later version with more and no dash", format!("01-{TRACE}-{PARENT}-01x")),
        ("upper case", format!("00-{upper}-{PARENT}-01")),
        ("trace of zeros", format!("00-{}-{PARENT}-01", "0".repeat(32))),
        ("parent of zeros", format!("00-{TRACE}-{}-01", "0".repeat(16))),
        ("short trace", format!("00-{}-{PARENT}-01", &TRACE[1..])),
        ("long parent", format!("00-{TRACE}-{PARENT}0-01")),
        ("no flags", format!("00-{TRACE}-{PARENT}")),
        ("flags of one digit", format!("00-{TRACE}-{PARENT}-1")),
        ("flags not hexadecimal", format!("00-{TRACE}-{PARENT}-0g")),
        ("version of one digit", format!("0-{TRACE}-{PARENT}-01")),
        ("underscores", format!("00_{TRACE}_{PARENT}_01")),
        ("empty", String::new()),
        ("twice", format!("00-{TRACE}-{PARENT}-01\r\ntraceparent: 00-{TRACE}-{PARENT}-01")),
        ("a list", format!("00-{TRACE}-{PARENT}-01,00-{TRACE}-{PARENT}-01")),
    ] {
        let lines = format!("traceparent: {parent}\r\ntracestate: foo=1\r\n");
        let Some(request) = received(&bench, name, &lines) else { continue };
        let (trace, _) = trace_of(&bench, name, &request);
        bench.check(name, trace != TRACE && trace != "0".repeat(32), format!("trace {trace}"));
        let state = request.fields.list("tracestate").join(",");
        bench.check(name, !state.contains("foo=1"), format!("tracestate {state}"));
    }
    let Some(request) = received(&bench, "none", "tracestate: foo=1\r\n") else { return bench.finish() };
    trace_of(&bench, "none", &request);
    let state = request.fields.list("tracestate").join(",");
    bench.check("none", !state.contains("foo=1"), format!("tracestate without a trace: {state}"));
    bench.finish();
}

/// Trace Context level 2, 3.3: the list is kept, or dropped whole, but never takes the trace with it.
#[test]
fn tracestate_follows_its_grammar() {
    let bench = Bench::start();
    let many = |count: usize| (0..count).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(",");
    let (most, too_many) = (many(31), many(33));
    let long_key = "k".repeat(257);
    for (name, state, kept) in [
        ("one", "foo=1", Some("foo=1")),
        ("two lines", "foo=1\r\ntracestate: bar=2", Some("foo=1,bar=2")),
        ("space around members", "foo=1 \t, \tbar=2", Some("foo=1,bar=2")),
        ("empty members", "foo=1,,bar=2,", Some("foo=1,bar=2")),
        ("an at sign", "foo@bar=1", Some("foo@bar=1")),
        ("an at sign at the end", "foo@=1,bar=2", Some("foo@=1,bar=2")),
        ("two at signs", "foo@a@b=1", Some("foo@a@b=1")),
        ("a digit first", "0foo=1", Some("0foo=1")),
        ("every mark in a key", "a_-*/=1", Some("a_-*/=1")),
        ("an equals sign in a value", "foo=1=2", None),
        ("an at sign first", "@foo=1,bar=2", None),
        ("no value", "foo", None),
        ("space before the equals sign", "foo =1", None),
        ("capital in a key", "Foo=1", None),
        ("a key that is too long", long_key.as_str(), None),
        ("31 members", most.as_str(), Some(most.as_str())),
        ("33 members", too_many.as_str(), None),
    ] {
        let state = if name == "a key that is too long" { format!("{state}=1") } else { state.to_owned() };
        let lines = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: {state}\r\n");
        let Some(request) = received(&bench, name, &lines) else { continue };
        let (trace, _) = trace_of(&bench, name, &request);
        bench.check(name, trace == TRACE, format!("trace {trace}"));
        let seen = request.fields.list("tracestate").join(",");
        match kept {
            Some(kept) => bench.check(name, seen.ends_with(kept), format!("tracestate {seen}")),
            None => bench.check(name, !seen.contains("=1"), format!("tracestate {seen}")),
        }
    }
    let lines = format!("traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: foo=1,bar=2,foo=3\r\n");
    if let Some(request) = received(&bench, "a key twice", &lines) {
        let seen = request.fields.list("tracestate").join(",");
        bench.check("a key twice", seen.ends_with("foo=1,bar=2"), format!("tracestate {seen}"));
    }
    bench.finish();
}

/// Both carriers are read and both are written; the plain header wins.
#[test]
fn context_is_carried_in_both_forms() {
    let bench = Bench::start();
    let with = |lines: &str| get("/c", lines);
    bench.run(&[
        Case::pass("plain", with("x-account-id: 7\r\nx-license: gold\r\n"))
            .saw("x-account-id", "7")
            .saw("x-license", "gold"),
        Case::pass("baggage", with("baggage: account.id=7,license=gold,user.id=u1\r\n"))
            .saw("x-account-id", "7")
            .saw("x-license", "gold")
            .saw("x-user-id", "u1"),
        Case::pass("plain against baggage", with("x-account-id: 7\r\nbaggage: account.id=8\r\n"))
            .saw("x-account-id", "7")
            .saw("baggage", "account.id=7"),
        Case::pass("plain becomes baggage", with("x-account-id: 7\r\n")).saw("baggage", "account.id=7"),
        Case::pass("the request id is kept", with("x-request-id: mine\r\n")).saw("x-request-id", "mine"),
        Case::pass("flags", with("x-feature-flags: a,b\r\n")).saw("x-feature-flags", "a,b"),
        Case::pass("request type", with("x-request-type: TRACE\r\n")).saw("x-request-type", "TRACE"),
    ]);
    let name = "members of others";
    if let Some(request) = received(&bench, name, "baggage: theirs=1;p=2,account.id=7\r\nbaggage: more=3\r\n")
    {
        let mut members = request.fields.list("baggage");
        members.sort();
        bench.check(name, members == ["account.id=7", "more=3", "theirs=1;p=2"], format!("{members:?}"));
    }
    let name = "the event";
    received(&bench, name, "x-request-id: event\r\nx-account-id: 7\r\nx-user-id: u1\r\nx-license: gold\r\n");
    let event = bench.proxy().events().of("event");
    let right = event["account_id"] == "7" && event["user_id"] == "u1" && event["license"] == "gold";
    bench.check(name, right, event);
    bench.finish();
}

/// From a peer that is not trusted the trace goes on, and the fields do not.
#[test]
fn context_of_an_untrusted_peer_is_dropped() {
    let bench = Bench::with(|setup| setup.section("inbound", "trust: none"));
    let lines = format!(
        "traceparent: 00-{TRACE}-{PARENT}-01\r\nx-account-id: 7\r\nx-user-id: u1\r\nx-license: gold\r\n\
         x-request-type: TRACE\r\nx-feature-flags: a\r\nbaggage: account.id=7,user.id=u1\r\nx-other: 1\r\n"
    );
    bench.run(&[Case::pass("untrusted", get("/c", &lines))
        .saw_no("x-account-id")
        .saw_no("x-user-id")
        .saw_no("x-license")
        .saw_no("x-feature-flags")
        .saw("x-other", "1")]);
    if let Some(request) = received(&bench, "untrusted trace", &lines) {
        let (trace, _) = trace_of(&bench, "untrusted trace", &request);
        bench.check("untrusted trace", trace == TRACE, trace);
        bench.check(
            "untrusted type",
            request.fields.get("x-request-type") != Some("TRACE"),
            "TRACE was believed",
        );
        let baggage = request.fields.list("baggage").join(",");
        bench.check("untrusted baggage", !baggage.contains("account.id"), baggage);
    }
    bench.finish();
}
