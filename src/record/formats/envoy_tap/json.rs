//! `TraceWrapper` as JSON: Envoy writes the fields' own names; others may write them as JSON usually has them.

use super::{Body, Message, Piece, Trace, base64, moment};
use crate::record::Field;
use serde_json::Value;

fn member<'a>(value: &'a Value, name: &str, camel: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| value.get(camel)).filter(|it| !it.is_null())
}

/// Reads a wrapper, or says what it is not.
pub(super) fn trace(value: &Value) -> Result<Trace, String> {
    if let Some(trace) = member(value, "http_buffered_trace", "httpBufferedTrace") {
        let request = trace.get("request").map_or(Ok(Message::default()), message)?;
        let response = trace.get("response").map(message).transpose()?;
        let peer = member(trace, "downstream_connection", "downstreamConnection")
            .and_then(remote)
            .unwrap_or_default();
        return Ok(Trace::Buffered { request, response, peer });
    }
    if let Some(segment) = member(value, "http_streamed_trace_segment", "httpStreamedTraceSegment") {
        return self::segment(segment);
    }
    let sockets = [
        ("socket_buffered_trace", "socketBufferedTrace"),
        ("socket_streamed_trace_segment", "socketStreamedTraceSegment"),
    ];
    if sockets.iter().any(|(name, camel)| member(value, name, camel).is_some()) {
        return Ok(Trace::Socket);
    }
    Err("neither `http_buffered_trace` nor `http_streamed_trace_segment`".into())
}

fn segment(value: &Value) -> Result<Trace, String> {
    let id = match member(value, "trace_id", "traceId") {
        // 64 bits are a text in JSON.
        Some(Value::String(text)) => {
            text.parse().map_err(|_| format!("`trace_id` is {text:?}, no number"))?
        }
        Some(id) => id.as_u64().ok_or("`trace_id` is no number")?,
        None => 0,
    };
    let map = |value: &Value| headers(value.get("headers").unwrap_or(&Value::Null));
    let piece = if let Some(it) = member(value, "request_headers", "requestHeaders") {
        Piece::RequestHeaders(map(it)?)
    } else if let Some(it) = member(value, "request_body_chunk", "requestBodyChunk") {
        Piece::RequestBody(body(it)?)
    } else if let Some(it) = member(value, "request_trailers", "requestTrailers") {
        Piece::RequestTrailers(map(it)?)
    } else if let Some(it) = member(value, "response_headers", "responseHeaders") {
        Piece::ResponseHeaders(map(it)?)
    } else if let Some(it) = member(value, "response_body_chunk", "responseBodyChunk") {
        Piece::ResponseBody(body(it)?)
    } else if let Some(it) = member(value, "response_trailers", "responseTrailers") {
        Piece::ResponseTrailers(map(it)?)
    } else {
        return Err("a segment without a piece of a message".into());
    };
    Ok(Trace::Segment { id, piece })
}

fn message(value: &Value) -> Result<Message, String> {
    Ok(Message {
        headers: headers(value.get("headers").unwrap_or(&Value::Null))?,
        body: value.get("body").filter(|it| !it.is_null()).map_or(Ok(Body::default()), body)?,
        trailers: headers(value.get("trailers").unwrap_or(&Value::Null))?,
        received_ns: member(value, "headers_received_time", "headersReceivedTime")
            .and_then(Value::as_str)
            .and_then(moment::parse)
            .unwrap_or_default(),
    })
}

fn headers(value: &Value) -> Result<Vec<Field>, String> {
    let one = |pair: &Value| {
        let text = |name: &str| pair.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let value = match member(pair, "raw_value", "rawValue").and_then(Value::as_str) {
            Some(raw) => base64::decode(raw).ok_or("a header's `raw_value` is not Base64")?,
            None => text("value").into_bytes(),
        };
        Ok(Field::new(text("key"), value))
    };
    value.as_array().into_iter().flatten().map(one).collect()
}

fn body(value: &Value) -> Result<Body, String> {
    let text = |name, camel| member(value, name, camel).and_then(Value::as_str);
    let bytes = match (text("as_bytes", "asBytes"), text("as_string", "asString")) {
        (Some(bytes), _) => base64::decode(bytes).ok_or("`as_bytes` is not Base64")?,
        (None, text) => text.unwrap_or_default().as_bytes().to_vec(),
    };
    let is_truncated = value.get("truncated").and_then(Value::as_bool).unwrap_or(false);
    Ok(Body { bytes: bytes.into(), is_truncated })
}

/// `host:port` of the client.
fn remote(connection: &Value) -> Option<String> {
    let socket =
        member(member(connection, "remote_address", "remoteAddress")?, "socket_address", "socketAddress")?;
    let port = member(socket, "port_value", "portValue").and_then(Value::as_u64).unwrap_or_default();
    Some(format!("{}:{port}", socket.get("address")?.as_str()?))
}
