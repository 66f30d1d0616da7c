//! Key files, and requests that a sidecar signed.

use crate::{HEADERS, TENANT, ask};
use e2e::{Request, Setup, Sidelight, StrictBackend, get};
use std::path::PathBuf;
use tempfile::TempDir;

/// Secrets by the id of their key.
const SECRETS: [(&str, &str); 2] = [
    ("k1", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="),
    ("k2", "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="),
];

/// The text of a key file with these keys.
pub fn text(active: Option<&str>, ids: &[&str]) -> String {
    let active = active.map(|id| format!("active: {id}\n")).unwrap_or_default();
    let keys = SECRETS.iter().filter(|(id, _)| ids.contains(id));
    let keys = keys.map(|(id, secret)| format!("  {id}: {{ algorithm: hmac_sha256, secret: {secret} }}\n"));
    format!("{active}keys:\n{}", keys.collect::<String>())
}

/// A directory of key files.
pub struct KeyFiles(TempDir);

impl KeyFiles {
    pub fn new() -> Self {
        KeyFiles(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Replaces a file, whole at any moment.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        e2e::tls::write(self.0.path(), name, text);
        self.0.path().join(name)
    }

    /// `context.sign` with a new key file.
    pub fn sign(&self, name: &str, active: Option<&str>, ids: &[&str], more: &str) -> String {
        let path = self.write(name, &text(active, ids));
        format!("sign: {{ keys: {path:?}{more} }}")
    }
}

/// A sidecar at the edge that sets these fields and signs with `k1`.
pub fn edge(app: &StrictBackend, keys: &KeyFiles, set: &str, more: &str) -> Sidelight {
    let setup = Setup::app(app.address())
        .section("inbound", "trust: none")
        .section("context", TENANT)
        .section("context", &format!("edge: {{ set: {{ {set} }} }}"))
        .section("context", &keys.sign("edge.yaml", Some("k1"), &["k1"], more));
    Sidelight::start(&setup)
}

/// The context of a request that came out of the edge, to be changed and sent on.
#[derive(Clone, Debug)]
pub struct Signed(Vec<(String, String)>);

impl Signed {
    /// A new one: through an edge of its own, from its application.
    pub fn new(set: &str, more: &str) -> Self {
        let (app, keys) = (StrictBackend::start(), KeyFiles::new());
        let edge = edge(&app, &keys, set, more);
        assert_eq!(ask(&edge, get("/", "baggage: theirs=1\r\n")).status, 200);
        Signed::of(&app.take().whole.remove(0))
    }

    pub fn of(request: &Request) -> Self {
        let is_context = |name: &str| {
            HEADERS.contains(&name) || ["traceparent", "baggage", "x-context-signature"].contains(&name)
        };
        let fields = request.fields.0.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
        let signed = Signed(fields.filter(|(name, _)| is_context(name)).collect());
        assert!(signed.get("x-context-signature").starts_with("v1.k1."), "{signed:?}");
        signed
    }

    pub fn get(&self, name: &str) -> String {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    pub fn token(&self) -> String {
        self.get("x-context-signature")
    }

    /// A header of another value, or a new one.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.add(name, value);
    }

    pub fn add(&mut self, name: &str, value: &str) {
        self.0.push((name.to_owned(), value.to_owned()));
    }

    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| key != name);
    }

    /// A member of baggage of another value, or a new one; `None`: without it.
    pub fn member(&mut self, key: &str, value: Option<&str>) {
        let baggage = self.get("baggage");
        let others =
            baggage.split(',').filter(|member| member.split('=').next() != Some(key) && !member.is_empty());
        let mut members: Vec<String> = others.map(str::to_owned).collect();
        members.extend(value.map(|value| format!("{key}={value}")));
        if members.is_empty() { self.remove("baggage") } else { self.set("baggage", &members.join(",")) }
    }

    /// The same field in both carriers.
    pub fn both(&mut self, name: &str, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.set(name, value),
            None => self.remove(name),
        }
        self.member(key, value);
    }

    /// Another token in both carriers.
    pub fn signature(&mut self, token: Option<&str>) {
        self.both("x-context-signature", "context.signature", token);
    }

    /// All that, for HTTP/2.
    pub fn fields(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value)).collect()
    }

    /// `GET path` with all that, and a request id.
    pub fn request(&self, path: &str, id: &str) -> String {
        let lines: String = self.0.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        get(path, &format!("x-request-id: {id}\r\n{lines}"))
    }
}
