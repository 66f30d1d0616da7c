//! `_webSocketMessages`: whole messages, as Chrome writes them: `type` (`send`, `receive`), `time` (seconds since 1970),
//! `opcode` and `data` (a text; Base64 for opcode 2).

use super::{base64, make};
use crate::record::formats::Notes;
use crate::record::messages::{self, Frame, Opcode};
use crate::record::{Entry, Event, Side, What};
use serde_json::{Value, json};

/// The messages of a tunnel; fragments are put together.
pub(super) fn write(entry: &Entry, notes: &mut Notes) -> Value {
    let found = messages::frames(&entry.events, messages::PAYLOAD_BYTES_MAX);
    if !found.request_rest.is_none() || !found.response_rest.is_none() {
        notes.add("WebSockets: what is not a whole frame is in _sidelight only");
    }
    let mut out = Vec::new();
    let mut fragments: [Vec<u8>; 2] = [Vec::new(), Vec::new()];
    let mut begins: [Option<Frame>; 2] = [None, None];
    for frame in found.messages {
        if !frame.opcode.is_data() {
            notes.add("WebSockets: pings, pongs and closes are in _sidelight only");
            continue;
        }
        let index = usize::from(frame.side == Side::Response);
        let (Some(payload), Some(begin)) = (fragments.get_mut(index), begins.get_mut(index)) else {
            continue;
        };
        payload.extend_from_slice(&frame.payload);
        let first = begin.take().unwrap_or_else(|| frame.clone());
        if !frame.is_final {
            *begin = Some(first);
            continue;
        }
        let payload = std::mem::take(payload);
        notes.add_if(first.is_compressed, "WebSockets: compressed messages are written as they are (Base64)");
        let text = String::from_utf8(payload);
        let is_text = first.opcode == Opcode::Text && !first.is_compressed;
        let (opcode, data) = match text {
            Ok(text) if is_text => (1, text),
            Ok(text) => (2, base64::encode(text.as_bytes())),
            Err(bytes) => (2, base64::encode(bytes.as_bytes())),
        };
        let at_ns = entry.started_ns.saturating_add(frame.at_ns);
        out.push(json!({
            "type": if frame.side == Side::Request { "send" } else { "receive" },
            "time": at_ns as f64 / 1e9,
            "opcode": opcode,
            "data": data,
        }));
    }
    out.into()
}

/// The frames of messages, each whole in one; how many could not be read.
pub(super) fn read(messages: &[Value], started_ns: u64, into: &mut Vec<Event>) -> usize {
    let mut bad = 0;
    for (message, index) in messages.iter().zip(0u32..) {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        let side = match text("type") {
            Some("send" | "request") => Side::Request,
            Some("receive" | "response") => Side::Response,
            _ => {
                bad += 1;
                continue;
            }
        };
        let opcode = message.get("opcode").and_then(Value::as_u64).unwrap_or(1);
        let opcode = Opcode::new(u8::try_from(opcode).unwrap_or(1));
        let payload = match (opcode, text("data")) {
            (Opcode::Text, Some(data)) => Some(data.as_bytes().to_vec()),
            (_, Some(data)) => base64::decode(data),
            (_, None) => None,
        };
        let Some(payload) = payload else {
            bad += 1;
            continue;
        };
        let seconds =
            message.get("time").and_then(Value::as_f64).filter(|time| time.is_finite() && *time > 0.0);
        // Of nanoseconds since 1970 a double holds some hundreds.
        let at_ns = seconds.map_or(0, |seconds| {
            let micros = (seconds * 1e6).round() as u64;
            micros.saturating_mul(1000).saturating_sub(started_ns)
        });
        // A client has to mask what it sends; which mask does not matter to who reads it.
        let mask = index.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let mut wire = Vec::new();
        messages::put_frame(&mut wire, opcode, (side == Side::Request).then_some(mask), &payload);
        into.push(Event { at_ns, what: What::Data(side, wire.into()) });
    }
    bad
}

/// What a request wants to switch to.
pub(super) fn upgrade(fields: &[crate::record::Field]) -> Option<&[u8]> {
    crate::record::entry::field(fields, b"upgrade").filter(|value| make::is_value(value))
}
