//! The paths of the admin API.
//!
//! How it fails: an unknown path is answered with those that exist, a wrong method with the right one, and a change
//! without the token with 401.

use super::request::{Refusal, Request};
use super::server::Role;
use super::{State, breakers, graph, page, token, view};
use crate::pipeline::metrics::Format;
use crate::protocol::date;
use serde_json::{Value, json};
use std::time::SystemTime;
use tokio::time::Instant;

/// The schema of the event that puts a change on record.
const AUDIT: &str = "sidelight/audit/1";

/// An answer.
pub(super) struct Answer {
    status: u16,
    content_type: &'static str,
    content: Vec<u8>,
    /// A further field: name and value.
    field: Option<(&'static str, String)>,
    /// What must have come to an end before the answer is sent: that the record of a change is durable.
    after: Option<After>,
}

/// See [`Answer::after`].
type After = std::pin::Pin<Box<dyn Future<Output = bool> + Send + Sync>>;

/// Path, method, whether telemetry has it, and what it is.
pub(super) const PATHS: [(&str, &str, bool, &str); 15] = [
    ("/", "GET", false, "this overview; a page for browsers"),
    ("/live", "GET", true, "200 while the proxy runs"),
    ("/ready", "GET", true, "200 when the proxy takes traffic, else 503 and what it waits for"),
    ("/metrics", "GET", true, "Prometheus text or OpenMetrics"),
    ("/config", "GET", false, "the configuration in force, JSON or YAML"),
    ("/clusters", "GET", false, "clusters and their endpoints"),
    ("/breakers", "GET", false, "every limit: its value now, what it refused, and breakers that are open"),
    (
        "/graph",
        "GET",
        false,
        "whom the service talks to, and which calls lost their context; ?format=json, dot, mermaid, vizceral …",
    ),
    ("/routes", "GET", false, "routes, in the order in which they are tried"),
    ("/recording", "GET", false, "what is recorded, and what became of it"),
    (
        "/recording",
        "PUT",
        false,
        "record for a while: {\"ttl\": \"10m\", \"match\": {…}}; or {\"keep\": true}",
    ),
    ("/recording", "DELETE", false, "stop recording what was asked for; ?id=…"),
    ("/explain", "POST", false, "which route, cluster and endpoint a request would take"),
    ("/drain", "POST", false, "finish what is under way and take nothing new"),
    ("/log-level", "POST", false, "the level of the proxy's own log"),
];

/// Answers a request.
pub(super) fn answer(request: &Request, role: Role, is_unix: bool, state: &State) -> Answer {
    match check(request, role, is_unix) {
        Ok(()) => dispatch(request, role, state),
        Err(answer) => *answer,
    }
}

/// Whether there is such a path, with that method, for this caller.
fn check(request: &Request, role: Role, is_unix: bool) -> Result<(), Box<Answer>> {
    let refuse = |refusal: Refusal| Box::new(Answer::refusal(refusal));
    // Telemetry is read only and is scraped by name; a Unix socket cannot be reached by a browser.
    if role == Role::Admin && !is_unix {
        request.check_host().map_err(refuse)?;
    }
    let is_served = |telemetry: bool| role == Role::Admin || telemetry;
    let methods: Vec<&str> = PATHS
        .iter()
        .filter(|(path, _, telemetry, _)| *path == request.path && is_served(*telemetry))
        .map(|(_, method, ..)| *method)
        .collect();
    if methods.is_empty() {
        let paths: Vec<&str> = PATHS
            .iter()
            .filter(|(_, _, telemetry, _)| is_served(*telemetry))
            .map(|(path, ..)| *path)
            .collect();
        let paths: std::collections::BTreeSet<&str> = paths.into_iter().collect();
        return Err(Box::new(Answer::json(404, &json!({ "error": "no such path", "paths": paths }))));
    }
    let is_head = methods.contains(&"GET") && request.method == "HEAD";
    if !methods.contains(&request.method.as_str()) && !is_head {
        let mut answer = Answer::refusal((405, "this path takes another method"));
        let allowed = methods.join(", ").replacen("GET", "GET, HEAD", 1);
        answer.field = Some(("allow", allowed));
        return Err(Box::new(answer));
    }
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        request.check_origin().map_err(refuse)?;
    }
    Ok(())
}

fn dispatch(request: &Request, role: Role, state: &State) -> Answer {
    match request.path.as_str() {
        "/live" => Answer::json(200, &json!({ "live": true })),
        "/ready" => ready(state),
        "/metrics" => {
            let format = Format::negotiate(&request.accept);
            Answer::new(200, format.content_type(), state.metrics.render(format).into_bytes())
        }
        _ if role == Role::Telemetry => Answer::refusal((404, "no such path")),
        "/" if request.accepts(&["text/html"]) => {
            let html = page::render(state, SystemTime::now());
            Answer::new(200, "text/html; charset=utf-8", html.into_bytes())
        }
        "/" => Answer::json(200, &view::overview(state)),
        "/config" => config(request, state),
        "/clusters" => Answer::json(200, &view::clusters(&state.control.snapshot())),
        "/breakers" => Answer::json(200, &breakers::document(&state.control.snapshot())),
        "/graph" => graph(request, state),
        "/routes" => Answer::json(200, &state.control.snapshot().routes),
        "/recording" => recording(request, state),
        "/explain" => explain(request, state),
        "/drain" => change(request, state, "drain", |_| {
            Ok(json!({ "draining": true, "began": state.control.drain() }))
        }),
        "/log-level" => change(request, state, "log-level", |given| {
            let level = match given {
                Value::String(level) => Some(level.as_str()),
                other => other.get("level").and_then(Value::as_str),
            };
            let level = level.ok_or("give the level: {\"level\": \"debug\"}, or the level alone")?;
            state.control.set_log_level(level)?;
            Ok(json!({ "level": level }))
        }),
        _ => Answer::refusal((404, "no such path")),
    }
}

fn recording(request: &Request, state: &State) -> Answer {
    match request.method.as_str() {
        "PUT" => change(request, state, "record", |given| state.control.record(given)),
        "DELETE" => change(request, state, "stop-recording", |_| {
            Ok(json!({ "stopped": state.control.stop_recording(request.parameter("id")) }))
        }),
        _ => Answer::json(200, &state.control.recording()),
    }
}

fn ready(state: &State) -> Answer {
    let pending = state.readiness.pending();
    let status = if pending.is_empty() { 200 } else { 503 };
    Answer::json(status, &json!({ "ready": pending.is_empty(), "pending": pending }))
}

fn config(request: &Request, state: &State) -> Answer {
    let snapshot = state.control.snapshot();
    if request.accepts(&["application/yaml", "text/yaml", "application/x-yaml", "text/x-yaml"]) {
        let yaml = format!("# revision: {}\n{}", snapshot.revision, snapshot.yaml);
        return Answer::new(200, "application/yaml; charset=utf-8", yaml.into_bytes());
    }
    Answer::json(200, &view::config(&snapshot))
}

fn graph(request: &Request, state: &State) -> Answer {
    let asked = request.parameter("format").unwrap_or("json");
    match graph::answer(asked, &state.metrics) {
        Some(graph::Answer::Document(document)) => Answer::json(200, &document),
        Some(graph::Answer::Text(content_type, text)) => Answer::new(200, content_type, text.into_bytes()),
        None => Answer::json(400, &json!({ "error": "no such format", "formats": graph::names() })),
    }
}

fn explain(request: &Request, state: &State) -> Answer {
    let question = match serde_json::from_slice::<Value>(&request.content) {
        Ok(question @ Value::Object(_)) => question,
        Ok(_) => {
            return Answer::refusal((
                400,
                "the question is an object: {\"method\": \"GET\", \"url\": \"…\"}",
            ));
        }
        Err(error) => return Answer::json(400, &json!({ "error": format!("not JSON: {error}") })),
    };
    match state.control.explain(&question) {
        Ok(explanation) => Answer::json(200, &explanation),
        Err(reason) => Answer::json(400, &json!({ "error": reason })),
    }
}

/// Makes a change, if the caller may, and puts it on record.
fn change(
    request: &Request,
    state: &State,
    action: &str,
    make: impl FnOnce(&Value) -> Result<Value, String>,
) -> Answer {
    let given = match content(request) {
        Ok(given) => given,
        Err(answer) => return *answer,
    };
    let permitted = permit(request, state);
    let result = match &permitted {
        Ok(()) => make(&given).map_err(|reason| Box::new(Answer::json(400, &json!({ "error": reason })))),
        Err(()) => Err(Box::new(unauthorized())),
    };
    let mut event = json!({
        "sidelight.audit.action": action,
        "sidelight.audit.result": match (&permitted, &result) {
            (Err(()), _) => "denied",
            (_, Err(_)) => "failed",
            (_, Ok(_)) => "done",
        },
    });
    for (name, key) in [("by", "sidelight.audit.by"), ("reason", "sidelight.audit.reason")] {
        if let Some(value) = given.get(name).and_then(Value::as_str) {
            event[key] = value.into();
        }
    }
    tracing::info!(action, result = %event["sidelight.audit.result"], "admin change");
    let durable = state.events.emit_audit(AUDIT, event);
    let mut answer = match result {
        Ok(outcome) => Answer::json(200, &outcome),
        Err(answer) => *answer,
    };
    answer.after = Some(Box::pin(durable));
    answer
}

fn unauthorized() -> Answer {
    let mut answer = Answer::refusal((401, "changes need the token: authorization: Bearer …"));
    answer.field = Some(("www-authenticate", "Bearer".into()));
    answer
}

/// The content: nothing, JSON, or a plain word.
fn content(request: &Request) -> Result<Value, Box<Answer>> {
    let text = request.content.trim_ascii();
    if text.is_empty() {
        return Ok(Value::Null);
    }
    if matches!(text.first(), Some(b'{' | b'"')) {
        return serde_json::from_slice(text)
            .map_err(|error| Box::new(Answer::json(400, &json!({ "error": format!("not JSON: {error}") }))));
    }
    Ok(Value::String(String::from_utf8_lossy(text).into_owned()))
}

fn permit(request: &Request, state: &State) -> Result<(), ()> {
    let Some(file) = &state.token_file else { return Ok(()) };
    match token::matches(file, request.bearer().unwrap_or_default().as_bytes()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(()),
        Err(error) => {
            tracing::warn!(%error, file = %file.display(), "the token cannot be read; no change is allowed");
            Err(())
        }
    }
}

impl Answer {
    /// What to wait for before the answer is sent.
    pub(super) fn take_after(&mut self) -> Option<After> {
        self.after.take()
    }

    fn new(status: u16, content_type: &'static str, content: Vec<u8>) -> Answer {
        Answer { status, content_type, content, field: None, after: None }
    }

    fn json(status: u16, value: &Value) -> Answer {
        // People read this with curl; a number of bytes more does not matter.
        let mut content = format!("{value:#}").into_bytes();
        content.push(b'\n');
        Answer::new(status, "application/json", content)
    }

    /// An answer that says why not.
    pub(super) fn refusal((status, reason): Refusal) -> Answer {
        Answer::json(status, &json!({ "error": reason }))
    }

    /// The whole message; without content for HEAD.
    pub(super) fn to_bytes(&self, is_head: bool) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\ndate: {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-frame-options: DENY\r\n\
             referrer-policy: no-referrer\r\n\
             content-security-policy: default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'\r\n",
            self.status,
            reason(self.status),
            date::with(Instant::now(), |date| String::from_utf8_lossy(date).into_owned()),
            self.content_type,
            self.content.len(),
        );
        if let Some((name, value)) = &self.field {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        if !is_head {
            bytes.extend_from_slice(&self.content);
        }
        bytes
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "",
    }
}
