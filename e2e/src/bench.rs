//! One proxy before one strict backend, and the runner of a table of cases.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::thread;

use serde_json::Value;

use crate::backend::{Received, StrictBackend};
use crate::case::{Act, Answer, Case, Reach};
use crate::client::{RawClient, method_and_minor};
use crate::message::{Request, Response};
use crate::setup::Setup;
use crate::sidelight::Sidelight;
use crate::wire::Fault;

/// An exchange whose one event must be found at the end.
#[derive(Debug)]
struct Expected {
    case: String,
    request_id: String,
    status: u16,
    needs_cause: bool,
    /// What the answer said of the cause: `Proxy-Status` and the problem's `type`.
    told: Option<(String, String)>,
}

/// A sidecar whose app is a [`StrictBackend`].
#[derive(Debug)]
pub struct Bench {
    proxy: Sidelight,
    backend: StrictBackend,
    expected: RefCell<Vec<Expected>>,
    failures: RefCell<Vec<String>>,
    clean_requests: RefCell<u32>,
}

impl Bench {
    /// Starts both with the default limits.
    pub fn start() -> Self {
        Bench::with(|setup| setup)
    }

    /// Starts both; `adapt` adds to the configuration.
    pub fn with(adapt: impl FnOnce(Setup) -> Setup) -> Self {
        let backend = StrictBackend::start();
        let proxy = Sidelight::start(&adapt(Setup::app(backend.address())));
        Bench {
            proxy,
            backend,
            expected: RefCell::default(),
            failures: RefCell::default(),
            clean_requests: RefCell::default(),
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

    /// A new connection to the inbound listener.
    pub fn client(&self) -> RawClient {
        RawClient::connect(self.proxy.inbound())
    }

    /// Notes what is wrong with `case`; [`Bench::finish`] reports all together.
    pub fn fail(&self, case: &str, what: impl Display) {
        self.failures.borrow_mut().push(format!("{case}: {what}"));
    }

    /// Notes a failure unless `holds`.
    pub fn check(&self, case: &str, holds: bool, what: impl Display) {
        if !holds {
            self.fail(case, what);
        }
    }

    /// Runs the rows, each followed by clean requests.
    pub fn run(&self, cases: &[Case]) {
        for case in cases {
            self.run_one(case);
        }
    }

    fn run_one(&self, case: &Case) {
        self.backend.take();
        if let Some(script) = &case.script {
            self.backend.script("/c", script.clone());
        }
        let mut client = self.client();
        let mut is_half_closed = false;
        for act in &case.acts {
            match act {
                Act::Send(bytes) => client.send(bytes),
                Act::Split(bytes, pause) => client.send_split(bytes, *pause),
                Act::Pause(time) => thread::sleep(*time),
                Act::HalfClose => {
                    client.half_close();
                    is_half_closed = true;
                }
            }
        }
        let (method, minor) = method_and_minor(case.opening());
        let outcome = client.read_head(&method, minor).map(|mut head| {
            let body = client.read_body(&mut head);
            (head, body)
        });
        let answer = outcome.as_ref().ok().map(|(head, _)| head);
        let is_own = answer.is_some_and(|head| head.fields.has("proxy-status"));
        if let Err(what) = judge(&case.answer, &outcome, is_own) {
            self.fail(&case.name, what);
        }
        // The connection first: what it carries next must not depend on what is checked here.
        let ends = answer.is_none_or(|head| ends_connection(head, minor)) || is_half_closed;
        let is_cut = !matches!(&outcome, Ok((_, Ok(()))));
        let is_lost = matches!(&outcome, Err(Fault::Violation(_)) | Ok((_, Err(Fault::Violation(_)))));
        if is_lost {
            client.wire().close(); // noted above; what follows on this connection means nothing
        } else if is_cut || ends {
            self.check(&case.name, client.is_closed(), "the connection should have ended after the answer");
        } else {
            self.clean_request(&case.name, &mut client);
        }
        self.clean_request(&case.name, &mut self.client());
        let received = self.backend.take();
        self.judge_backend(case, &received, is_own);
        let seen = received.whole.iter().find(|request| request.path() != "/clean");
        for check in &case.checks {
            if let Err(what) = check.holds(seen, answer) {
                self.fail(&case.name, what);
            }
        }
        if let Some(head) = answer {
            let seen = seen.or_else(|| received.cut.first());
            self.expect_event(case, head, seen, is_own, is_cut);
        }
    }

    fn judge_backend(&self, case: &Case, received: &Received, is_own: bool) {
        for violation in &received.violations {
            self.fail(&case.name, format!("the backend received what no proxy may send: {violation}"));
        }
        let whole: Vec<&Request> =
            received.whole.iter().filter(|request| request.path() != "/clean").collect();
        let (least, most) = match case.reach {
            Reach::Nothing | Reach::NothingWhole => (0, 0),
            Reach::Once => (1, 1),
            Reach::AtMostOnce => (0, 1),
            Reach::AsAnswered if is_own => (0, 0),
            Reach::AsAnswered => (1, 1),
        };
        if whole.len() < least || whole.len() > most {
            let raw: Vec<String> =
                whole.iter().map(|request| request.raw.escape_ascii().to_string()).collect();
            self.fail(&case.name, format!("{} requests reached the backend: {raw:#?}", whole.len()));
        }
        if case.reach == Reach::Nothing && !received.cut.is_empty() {
            self.fail(&case.name, "a part of the request reached the backend");
        }
    }

    fn expect_event(&self, case: &Case, head: &Response, seen: Option<&Request>, is_own: bool, is_cut: bool) {
        let from_backend = seen.and_then(|request| request.fields.get("x-request-id"));
        let told = if is_own { head.fields.get("x-request-id").or(from_backend) } else { from_backend };
        let id = told.map(str::to_owned).or_else(|| case.own_request_id());
        let case = case.name.as_str();
        let Some(id) = id else {
            self.fail(case, "no x-request-id to find the event by");
            return;
        };
        if is_own && head.status >= 400 {
            self.check_own_answer(case, head);
        }
        let told = (is_own && head.status >= 400 && head.framing != crate::Framing::None).then(|| {
            let problem: Value = serde_json::from_slice(&head.body).unwrap_or_default();
            let status = head.fields.get("proxy-status").unwrap_or_default().to_owned();
            (status, problem["type"].as_str().unwrap_or_default().to_owned())
        });
        self.expected.borrow_mut().push(Expected {
            case: case.to_owned(),
            request_id: id,
            status: head.status,
            needs_cause: is_own || is_cut,
            told,
        });
    }

    /// What every answer of the proxy itself has: RFC 9209, RFC 9457, a request id.
    fn check_own_answer(&self, case: &str, head: &Response) {
        let proxy_status = head.fields.get("proxy-status").unwrap_or_default();
        let names_itself = proxy_status.starts_with("sidelight;") && proxy_status.contains("error=");
        self.check(case, names_itself, format!("Proxy-Status {proxy_status:?}"));
        self.check(case, head.fields.get("x-request-id").is_some_and(|id| !id.is_empty()), "no x-request-id");
        let kind = head.fields.get("content-type");
        self.check(case, kind == Some("application/problem+json"), format!("content-type {kind:?}"));
        if head.framing == crate::Framing::None {
            return; // the answer to HEAD
        }
        match serde_json::from_slice::<Value>(&head.body) {
            Ok(problem) => {
                let texts = ["type", "title", "detail"].iter().all(|key| problem[*key].is_string());
                let right = texts && problem["status"] == head.status;
                self.check(case, right, format!("problem body {problem}"));
            }
            Err(error) => self.fail(case, format!("problem body {:?}: {error}", head.text())),
        }
    }

    /// A plain request that must be answered, on this connection.
    pub fn clean_request(&self, case: &str, client: &mut RawClient) {
        let number = {
            let mut count = self.clean_requests.borrow_mut();
            *count += 1;
            *count
        };
        let id = format!("clean-{number}");
        let request = format!("GET /clean HTTP/1.1\r\nHost: app.example\r\nx-request-id: {id}\r\n\r\n");
        match client.ask(request) {
            Ok(response) if response.status == 200 && response.text() == r#"{"ok":true}"# => {
                self.expected.borrow_mut().push(Expected {
                    case: format!("{case}, the clean request after it"),
                    request_id: id,
                    status: 200,
                    needs_cause: false,
                    told: None,
                });
            }
            Ok(response) => {
                self.fail(
                    case,
                    format!("the clean request was answered {} {:?}", response.status, response.text()),
                );
            }
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
        for expected in self.expected.into_inner() {
            let found = by_request.get(expected.request_id.as_str()).map_or(&[][..], Vec::as_slice);
            if let Err(what) = judge_event(&expected, found) {
                failures.push(format!("{}: {what}", expected.case));
            }
        }
        assert!(failures.is_empty(), "{} failures:\n  {}", failures.len(), failures.join("\n  "));
    }
}

fn ends_connection(head: &Response, minor: u8) -> bool {
    let options = head.fields.list("connection");
    let has = |name: &str| options.iter().any(|option| option == name);
    has("close") || (minor == 0 && !has("keep-alive")) || head.framing == crate::Framing::Close
}

fn judge(
    wanted: &Answer,
    outcome: &Result<(Response, Result<(), Fault>), Fault>,
    is_own: bool,
) -> Result<(), String> {
    let (head, body) = match (wanted, outcome) {
        (Answer::Closed, Err(Fault::Closed)) => return Ok(()),
        (_, Err(fault)) => return Err(format!("no answer: {fault}")),
        (_, Ok((head, body))) => (head, body),
    };
    let says = || {
        let author = if is_own { "the proxy" } else { "the backend" };
        format!("{} of {author}, {:?}, wanted {wanted:?}", head.status, head.text())
    };
    let is_right = match wanted {
        Answer::Own(statuses) => is_own && statuses.contains(&head.status),
        Answer::Relayed(status) => !is_own && head.status == *status,
        Answer::Either(status, own) => {
            if is_own {
                own.contains(&head.status)
            } else {
                head.status == *status
            }
        }
        Answer::Cut(_) if is_own && head.status == 502 => return Ok(()),
        Answer::Cut(status) => head.status == *status,
        Answer::Closed => false,
    };
    if !is_right {
        return Err(says());
    }
    match (wanted, body) {
        (Answer::Cut(_), Err(Fault::Cut(_))) => Ok(()),
        (Answer::Cut(_), Ok(())) => Err(format!("the cut answer looks whole: {:?}", head.text())),
        (_, Ok(())) => Ok(()),
        (_, Err(fault)) => Err(format!("body of the answer {}: {fault}", head.status)),
    }
}

fn judge_event(expected: &Expected, found: &[&Value]) -> Result<(), String> {
    let [event] = found else {
        return Err(format!("{} events for request {}", found.len(), expected.request_id));
    };
    let status = &event["http.response.status_code"];
    if *status != expected.status {
        return Err(format!("the event says status {status}, the answer {}", expected.status));
    }
    let cause = event["sidelight.cause"].as_str().unwrap_or_default();
    if expected.needs_cause && cause.is_empty() {
        return Err(format!("no sidelight.cause in {event}"));
    }
    if let Some((proxy_status, kind)) = &expected.told
        && !(proxy_status.contains(cause) && kind.contains(cause))
    {
        return Err(format!("cause {cause} in the event, {proxy_status:?} and {kind:?} in the answer"));
    }
    Ok(())
}
