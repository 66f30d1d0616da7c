//! Whose word is believed: at the edge nobody's, in the mesh what is signed, and third parties are told nothing.
//!
//! Real processes between raw clients and strict servers: what is sent is exactly what stands here, and what an application
//! could take for context is looked for in every byte that it gets.

#[path = "trust/application.rs"]
mod application;
#[path = "trust/bad_input.rs"]
mod bad_input;
#[path = "trust/edge.rs"]
mod edge;
#[path = "trust/forger.rs"]
mod forger;
#[path = "trust/keys.rs"]
mod keys;
#[path = "trust/pseudonyms.rs"]
mod pseudonyms;
#[path = "trust/rotation.rs"]
mod rotation;
#[path = "trust/sampling.rs"]
mod sampling;
#[path = "trust/signed.rs"]
mod signed;
#[path = "trust/third_party.rs"]
mod third_party;

use e2e::tls::Authority;
use e2e::{Fields, RawClient, Request, Response, Sidelight};
use serde_json::Value;
use tempfile::TempDir;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// Headers of the context, `x-tenant` being a further field of these tests.
const HEADERS: [&str; 6] =
    ["x-user-id", "x-account-id", "x-license", "x-request-type", "x-feature-flags", "x-tenant"];

/// The same in baggage.
const KEYS: [&str; 6] = ["user.id", "account.id", "license", "request.type", "feature.flags", "tenant"];

/// A further field.
const TENANT: &str = "fields:\n  tenant: {}";

/// What an application could take for a context that somebody vouches for: our headers, as fields or trailers; our keys in
/// baggage, exactly or after the decoding that SDKs apply to keys.
fn believed(request: &Request) -> Vec<String> {
    let named = |fields: &Fields| {
        let ours = fields.0.iter().filter(|(name, _)| HEADERS.contains(&name.to_ascii_lowercase().as_str()));
        ours.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    let mut found = named(&request.fields);
    found.extend(named(&request.trailers));
    for fields in [&request.fields, &request.trailers] {
        let members = fields.all("baggage").flat_map(|value| value.split(','));
        found.extend(members.filter(|member| is_our_key(member)).map(str::to_owned));
    }
    found
}

fn is_our_key(member: &str) -> bool {
    let key = member.split(['=', ';']).next().unwrap_or_default();
    member.contains('=') && KEYS.contains(&decoded(key).trim())
}

/// Signatures in both carriers.
fn signatures(request: &Request) -> Vec<String> {
    let header = request.fields.all("x-context-signature").map(str::to_owned);
    let members = request.fields.all("baggage").flat_map(|value| value.split(',')).map(decoded);
    header.chain(members.filter(|member| member.trim_start().starts_with("context.signature"))).collect()
}

/// `%xx` and `+` decoded, as generously as any SDK does.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (byte, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Nobody is named in the event.
fn is_anonymous(event: &Value) -> bool {
    ["user_id", "account_id", "license", "flags", "tenant"].iter().all(|field| event.get(field).is_none())
        && event["request_type"] == "STANDARD"
}

/// An authority, and the files of a listener that asks for its certificates.
struct Certificates {
    directory: TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let (directory, authority) = (tempfile::tempdir().expect("a directory"), Authority::new("mesh"));
        e2e::tls::write(directory.path(), "ca.pem", &authority.pem);
        authority.server("app.example").write(directory.path(), "server");
        Certificates { directory, authority }
    }

    /// The lines of `inbound`: who has a certificate may show it.
    fn inbound(&self) -> String {
        let at = self.directory.path().display();
        format!(
            "tls:\n  certificate: {at}/server.pem\n  key: {at}/server.key\n  client_ca: {at}/ca.pem\n  \
             client_certificate: optional"
        )
    }
}

/// One exchange on a connection of its own.
fn ask(proxy: &Sidelight, request: impl AsRef<[u8]>) -> Response {
    let request = request.as_ref();
    let answer = RawClient::connect(proxy.inbound()).ask(request);
    answer.unwrap_or_else(|fault| panic!("{fault}, after {}", request.escape_ascii()))
}

/// The names and the cause that an answer of the proxy tells: in its body and in `Proxy-Status`.
fn tells(answer: &Response, status: u16, cause: &str) -> Result<(), String> {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let told = answer.fields.get("proxy-status").unwrap_or_default();
    let is_right = answer.status == status
        && answer.fields.get("content-type") == Some("application/problem+json")
        && body["cause"] == cause
        && body["status"] == status
        && told.contains(&format!("details=\"{cause}\""));
    if is_right { Ok(()) } else { Err(format!("{} {told:?} {}", answer.status, answer.text())) }
}
