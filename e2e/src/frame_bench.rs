//! One proxy before one strict HTTP/1.1 backend, and the runner of a table of cases of raw HTTP/2 frames.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;

use serde_json::Value;

use crate::backend::{Script, StrictBackend};
use crate::case::Reach;
use crate::frames::{Peer, Stream, headers, request, request_with};
use crate::message::Request;
use crate::setup::Setup;
use crate::sidelight::Sidelight;
use crate::wire::Fault;

/// What must come of the frames.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The proxy's own answer on the stream, with one of these statuses.
    Own(Vec<u16>),
    /// The backend's answer.
    Relayed(u16),
    /// The stream is reset with one of these codes. A connection error with one of them does too (RFC 9113 §5.4.2).
    Reset(Vec<u32>),
    /// The connection ends, with GOAWAY and one of these codes; a bare close does too (§5.4.1).
    ConnectionError(Vec<u32>),
    /// Malformed (§8.1.1): an own 4xx, or the stream is reset with PROTOCOL_ERROR.
    Malformed,
}

/// One row.
#[derive(Clone, Debug)]
pub struct FrameCase {
    name: String,
    bytes: Vec<u8>,
    stream: u32,
    script: Option<Script>,
    outcome: Outcome,
    reach: Reach,
    sees: Vec<(&'static str, &'static str)>,
    sees_no: Vec<&'static str>,
    target: Option<&'static str>,
    body: Option<Vec<u8>>,
}

impl FrameCase {
    /// `bytes` follow preface and SETTINGS; nothing may reach the backend. The request is stream 1.
    pub fn new(name: &str, outcome: Outcome, bytes: impl AsRef<[u8]>) -> Self {
        FrameCase {
            name: name.to_owned(),
            bytes: bytes.as_ref().to_vec(),
            stream: 1,
            script: None,
            outcome,
            reach: Reach::Nothing,
            sees: Vec::new(),
            sees_no: Vec::new(),
            target: None,
            body: None,
        }
    }

    /// The request goes through, and the backend's 200 comes back.
    pub fn pass(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        FrameCase::new(name, Outcome::Relayed(200), bytes).reach(Reach::Once)
    }

    /// A malformed request.
    pub fn malformed(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        FrameCase::new(name, Outcome::Malformed, bytes)
    }

    /// A connection error with one of these codes.
    pub fn kill(name: &str, codes: &[u32], bytes: impl AsRef<[u8]>) -> Self {
        FrameCase::new(name, Outcome::ConnectionError(codes.to_vec()), bytes)
    }

    /// The proxy answers itself with one of these statuses.
    pub fn deny(name: &str, statuses: &[u16], bytes: impl AsRef<[u8]>) -> Self {
        FrameCase::new(name, Outcome::Own(statuses.to_vec()), bytes)
    }

    /// What may reach the backend.
    #[must_use]
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// The stream whose end is awaited.
    #[must_use]
    pub fn on(mut self, stream: u32) -> Self {
        self.stream = stream;
        self
    }

    /// The backend answers `/c` so.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.script = Some(script);
        self
    }

    /// The backend sees this field once with this value.
    #[must_use]
    pub fn saw(mut self, name: &'static str, value: &'static str) -> Self {
        self.sees.push((name, value));
        self
    }

    /// The backend sees no such field.
    #[must_use]
    pub fn saw_no(mut self, name: &'static str) -> Self {
        self.sees_no.push(name);
        self
    }

    /// The backend sees this target.
    #[must_use]
    pub fn target(mut self, target: &'static str) -> Self {
        self.target = Some(target);
        self
    }

    /// The backend sees this body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }
}

/// A sidecar whose app is a [`StrictBackend`], driven with frames.
#[derive(Debug)]
pub struct FrameBench {
    proxy: Sidelight,
    backend: StrictBackend,
    failures: RefCell<Vec<String>>,
    expected: RefCell<Vec<(String, String, u16)>>,
    clean_requests: Cell<u32>,
}

impl FrameBench {
    /// Starts both with the default limits.
    pub fn start() -> Self {
        FrameBench::with(|setup| setup)
    }

    /// Starts both; `adapt` adds to the configuration.
    pub fn with(adapt: impl FnOnce(Setup) -> Setup) -> Self {
        let backend = StrictBackend::start();
        let proxy = Sidelight::start(&adapt(Setup::app(backend.address())));
        FrameBench {
            proxy,
            backend,
            failures: RefCell::default(),
            expected: RefCell::default(),
            clean_requests: Cell::default(),
        }
    }

    /// The process under test.
    pub fn proxy(&self) -> &Sidelight {
        &self.proxy
    }

    /// The app.
    pub fn backend(&self) -> &StrictBackend {
        &self.backend
    }

    /// A new connection with preface and SETTINGS sent.
    pub fn client(&self) -> Peer {
        Peer::connect(self.proxy.inbound())
    }

    /// Notes what is wrong with `case`.
    pub fn fail(&self, case: &str, what: impl Display) {
        self.failures.borrow_mut().push(format!("{case}: {what}"));
    }

    /// Notes a failure unless `holds`.
    pub fn check(&self, case: &str, holds: bool, what: impl Display) {
        if !holds {
            self.fail(case, what);
        }
    }

    /// One event with this status must be found for the request.
    pub fn expect_event(&self, case: &str, request_id: &str, status: u16) {
        self.expected.borrow_mut().push((case.to_owned(), request_id.to_owned(), status));
    }

    /// Runs the rows, each followed by a clean request on a new connection.
    pub fn run(&self, cases: &[FrameCase]) {
        for case in cases {
            self.run_one(case);
        }
    }

    fn run_one(&self, case: &FrameCase) {
        self.backend.take();
        self.backend.script("/c", case.script.clone().unwrap_or_else(standard));
        let mut client = self.client();
        client.send(&case.bytes);
        let outcome = client.finish(case.stream);
        if let Err(what) = judge(&case.outcome, &client, &outcome) {
            self.fail(&case.name, what);
        }
        self.clean_request(&case.name);
        drop(client);
        let seen = self.judge_backend(case, outcome.as_ref().is_ok_and(is_own));
        if let Ok(stream) = &outcome
            && stream.status() != 0
        {
            let id = stream.get("x-request-id").map(str::to_owned);
            let id = id.or_else(|| seen.and_then(|seen| seen.fields.get("x-request-id").map(str::to_owned)));
            match id {
                Some(id) => self.expect_event(&case.name, &id, stream.status()),
                None => self.fail(&case.name, "no x-request-id to find the event by"),
            }
        }
    }

    fn judge_backend(&self, case: &FrameCase, is_own: bool) -> Option<Request> {
        let received = self.backend.take();
        for violation in &received.violations {
            self.fail(&case.name, format!("the backend received what no proxy may send: {violation}"));
        }
        let whole: Vec<Request> =
            received.whole.into_iter().filter(|request| request.path() != "/clean").collect();
        let (least, most) = match case.reach {
            Reach::Nothing | Reach::NothingWhole => (0, 0),
            Reach::Once => (1, 1),
            Reach::AtMostOnce => (0, 1),
            Reach::AsAnswered => (usize::from(!is_own), usize::from(!is_own)),
        };
        if whole.len() < least || whole.len() > most {
            let raw: Vec<String> = whole.iter().map(|seen| seen.raw.escape_ascii().to_string()).collect();
            self.fail(&case.name, format!("{} requests reached the backend: {raw:#?}", whole.len()));
        }
        if case.reach == Reach::Nothing && !received.cut.is_empty() {
            self.fail(&case.name, "a part of the request reached the backend");
        }
        let seen = whole.into_iter().next()?;
        for (name, value) in &case.sees {
            let values: Vec<&str> = seen.fields.all(name).collect();
            self.check(&case.name, values == [*value], format!("{name} is {values:?}, not {value:?}"));
        }
        for name in &case.sees_no {
            self.check(&case.name, !seen.fields.has(name), format!("{name} reached the backend"));
        }
        if let Some(target) = case.target {
            self.check(
                &case.name,
                seen.target == target,
                format!("target {:?}, not {target:?}", seen.target),
            );
        }
        if let Some(body) = &case.body {
            let is = seen.body.escape_ascii();
            self.check(&case.name, seen.body == *body, format!("body at the backend: {is}"));
        }
        Some(seen)
    }

    /// A plain request that must be answered, on a connection of its own.
    pub fn clean_request(&self, case: &str) {
        let mut client = self.client();
        self.clean_request_on(case, &mut client, 1);
    }

    /// A plain request that must be answered, on this stream.
    pub fn clean_request_on(&self, case: &str, client: &mut Peer, stream: u32) {
        self.clean_requests.set(self.clean_requests.get() + 1);
        let id = format!("clean-{}", self.clean_requests.get());
        match client.ask(stream, &request_with("GET", "/clean", &[("x-request-id", &id)])) {
            Ok(answer) if answer.status() == 200 && answer.text() == r#"{"ok":true}"# => {
                self.expect_event(&format!("{case}, the clean request after it"), &id, 200);
            }
            Ok(answer) => self.fail(
                case,
                format!(
                    "the clean request was answered {} {:?}, reset {:?}, goaway {:?}",
                    answer.status(),
                    answer.text(),
                    answer.reset,
                    client.goaway
                ),
            ),
            Err(fault) => self.fail(case, format!("the clean request: {fault}")),
        }
    }

    /// Stops the proxy, then looks for exactly one event of each exchange, and reports every failure.
    ///
    /// # Panics
    /// When there was a failure.
    pub fn finish(self) {
        let late = self.backend.take();
        let mut failures = self.failures.into_inner();
        failures.extend(late.violations.iter().map(|what| format!("after the last case: {what}")));
        let events = self.proxy.stop();
        let mut by_request: HashMap<&str, Vec<&Value>> = HashMap::new();
        for event in &events {
            by_request.entry(event["request_id"].as_str().unwrap_or_default()).or_default().push(event);
        }
        for (case, request_id, status) in self.expected.into_inner() {
            let found = by_request.get(request_id.as_str()).map_or(&[][..], Vec::as_slice);
            match found {
                [event] if event["http.response.status_code"] == status => {}
                [event] => failures.push(format!("{case}: the event says {event}, the answer {status}")),
                _ => failures.push(format!("{case}: {} events for {request_id}", found.len())),
            }
        }
        assert!(failures.is_empty(), "{} failures:\n  {}", failures.len(), failures.join("\n  "));
    }
}

/// A `GET /c` on stream 1 with further fields.
pub fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    headers(1, &request_with("GET", "/c", more), true)
}

/// A `POST /c` on stream 1 with further fields; content follows.
pub fn post_with(more: &[(&str, &str)]) -> Vec<u8> {
    headers(1, &request_with("POST", "/c", more), false)
}

/// A `GET` on stream 1 with other pseudo-header fields: `None` takes one away.
pub fn get_changed(changes: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut fields = request("GET", "/c");
    for (name, value) in changes {
        match value {
            Some(value) => {
                fields.iter_mut().filter(|field| field.0 == *name).for_each(|field| field.1 = value)
            }
            None => fields.retain(|field| field.0 != *name),
        }
    }
    headers(1, &fields, true)
}

fn standard() -> Script {
    let body = r#"{"ok":true}"#;
    Script::reply(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

fn is_own(stream: &Stream) -> bool {
    stream.get("proxy-status").is_some()
}

fn judge(wanted: &Outcome, client: &Peer, outcome: &Result<Stream, Fault>) -> Result<(), String> {
    let stream = outcome.as_ref().map_err(|fault| format!("wanted {wanted:?}: {fault}"))?;
    let (status, reset, goaway) = (stream.status(), stream.reset, client.goaway.map(|(_, code)| code));
    let has = |codes: &[u32], code: Option<u32>| code.is_some_and(|code| codes.contains(&code));
    let is_closed = client.is_closed && goaway.is_none() && reset.is_none();
    let holds = match wanted {
        Outcome::Own(statuses) => is_own(stream) && statuses.contains(&status) && stream.is_ended,
        Outcome::Relayed(relayed) => !is_own(stream) && status == *relayed && stream.is_ended,
        Outcome::Reset(codes) => status == 0 && (has(codes, reset) || has(codes, goaway)),
        Outcome::ConnectionError(codes) => has(codes, goaway) || is_closed,
        Outcome::Malformed => {
            (is_own(stream) && (400..500).contains(&status))
                || (status == 0 && (has(&[1], reset) || has(&[1], goaway)))
        }
    };
    if holds {
        return Ok(());
    }
    let closed = client.is_closed;
    Err(format!("wanted {wanted:?}: status {status}, reset {reset:?}, goaway {goaway:?}, closed {closed}"))
}
