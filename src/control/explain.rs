//! `explain`: which way a request would go, answered by the code that routes.

use super::compile::Tables;
use crate::context::RequestType;
use crate::context::fields::Field;
use crate::exchange::Direction;
use crate::http1::{HeadLimits, parse_request};
use crate::route::{ContextView, Explanation, RequestView};
use crate::svc::{Known, Scheme};
use serde::Deserialize;

/// A request that somebody asks about.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The target: `http://host/path?query`, or a path with a `host` header.
    pub url: String,
    /// Header fields, `name: value`.
    #[serde(default)]
    pub headers: Vec<String>,
    /// `inbound` or `outbound`; outbound unless said.
    #[serde(default)]
    pub direction: Option<String>,
}

fn get() -> String {
    "GET".into()
}

const LIMITS: HeadLimits =
    HeadLimits { head_bytes_max: 1 << 20, fields_max: 1000, target_bytes_max: 1 << 20 };

/// Answers a question by the tables in force.
///
/// # Errors
/// What is wrong with the question.
pub fn explain(tables: &Tables, question: &Question) -> Result<Explanation, String> {
    let direction = match question.direction.as_deref() {
        None | Some("outbound") => Direction::Outbound,
        Some("inbound") => Direction::Inbound,
        Some(other) => return Err(format!("direction is `inbound` or `outbound`, not `{other}`")),
    };
    let text = head_text(question)?;
    let request = parse_request(text.as_bytes(), &LIMITS, Scheme::Http)
        .map_err(|error| format!("this is not a request that would be accepted: {error}"))?
        .ok_or("this is not a whole request: the URL or a header has a line end")?;
    let head = request.head;
    let value = |field: Field, known: Known| {
        head.fields.get(known).filter(|value| field.is_valid(value)).unwrap_or_default()
    };
    let context = ContextView {
        license: value(Field::License, Known::XLicense),
        account_id: value(Field::AccountId, Known::XAccountId),
        user_id: value(Field::UserId, Known::XUserId),
        flags: value(Field::Flags, Known::XFeatureFlags),
        request_type: RequestType::parse(head.fields.get(Known::XRequestType).unwrap_or_default())
            .unwrap_or_default(),
    };
    let table = match direction {
        Direction::Inbound => &tables.inbound,
        Direction::Outbound => &tables.outbound,
    };
    Ok(table.explain(&RequestView { head: &head, direction, context, random: 0 }))
}

/// The question as the request that it is about.
fn head_text(question: &Question) -> Result<String, String> {
    let url = question.url.as_str();
    if url.is_empty() {
        return Err("the URL is empty; write http://HOST/PATH".into());
    }
    // `host/path` without a scheme is what people type.
    let has_scheme = url.contains("://") || url.starts_with('/') || url == "*";
    let target = if has_scheme { url.to_owned() } else { format!("http://{url}") };
    let mut text = format!("{} {target} HTTP/1.1\r\n", question.method);
    let mut has_host = false;
    for header in &question.headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| format!("`{header}` is not `name: value`"))?;
        has_host |= name.trim().eq_ignore_ascii_case("host");
        text.push_str(&format!("{}: {}\r\n", name.trim(), value.trim()));
    }
    if !has_host {
        let host =
            target.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?']).next().unwrap_or(""));
        text.push_str(&format!("host: {}\r\n", if host.is_empty() { "localhost" } else { host }));
    }
    text.push_str("\r\n");
    Ok(text)
}
