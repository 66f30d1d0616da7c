//! `sidelight recording show`.

use super::list::entry_document;
use super::{Keys, hex, plain, span, unhex};
use crate::cli::{Format, print};
use crate::record::messages::{self, Opcode};
use crate::record::{Entry, Event, Field, Query, Recording, Side, What};
use crate::units::moment;
use clap::Args;
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight recording show recordings/ 42                                 # by its number
  sidelight recording show recordings/ 4bf92f3577b34da6a3ce929d0e0e4736   # by its trace: all of it
  sidelight recording show recordings/ 4bf92f3577b34da6a3ce929d0e0e4736 --body-bytes 100000 --format json

Content is shown up to --body-bytes; JSON is indented. gRPC messages and WebSocket frames are shown one by one.
Exit status: 1 when there is no such exchange.";

/// How many exchanges are shown at most.
const SHOWN_MAX: usize = 1000;

/// How much of an entry's content is held.
const HELD_BYTES_MAX: usize = crate::record::formats::ENTRY_BYTES_MAX;

/// Columns of the longest bar.
const BAR: u64 = 40;

/// The arguments of `show`.
#[derive(Args)]
pub(super) struct Show {
    /// The recording: a directory of segments, or a segment
    #[arg(value_name = "RECORDING")]
    recording: PathBuf,
    /// The exchange's number, its trace id, or its request id
    #[arg(value_name = "ID")]
    id: String,
    /// How much content is shown of each side, and of each message
    #[arg(long, value_name = "BYTES", default_value_t = 2048)]
    body_bytes: usize,
    #[command(flatten)]
    keys: Keys,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// An entry with all its events: those of its parts, too, up to the bound.
pub(super) fn whole(recording: &Recording, mut entry: Entry) -> Result<Entry, String> {
    if entry.parts == 0 {
        return Ok(entry);
    }
    let (mut all, mut held) = (Vec::new(), [0usize; 2]);
    let mut events = recording.events(&entry);
    let mut cut = [false; 2];
    for event in events.by_ref() {
        let event = event.map_err(|problem| problem.to_string())?;
        if let What::Data(side, piece) = &event.what {
            let index = usize::from(*side == Side::Response);
            if let (Some(held), Some(cut)) = (held.get_mut(index), cut.get_mut(index)) {
                *held = held.saturating_add(piece.len());
                *cut |= *held > HELD_BYTES_MAX;
                if *cut {
                    continue;
                }
            }
        }
        all.push(event);
    }
    let is_missing = !events.is_whole();
    drop(events);
    let [request, response] = cut;
    entry.request.is_truncated |= request || is_missing;
    entry.response.is_truncated |= response || is_missing;
    (entry.events, entry.parts) = (all, 0);
    Ok(entry)
}

impl Show {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        let recording = self.keys.open(&self.recording)?;
        let trace_id = unhex::<16>(&self.id);
        let sequence = if trace_id.is_none() { self.id.parse::<u64>().ok() } else { None };
        let query = Query { trace_id, ..Query::default() };
        let (mut texts, mut documents) = (Vec::new(), Vec::new());
        for entry in recording.entries(&query) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(problem) => {
                    eprintln!("warning: {problem}");
                    continue;
                }
            };
            let is_meant = match sequence {
                Some(sequence) => entry.sequence == sequence,
                None => trace_id.is_some() || entry.request_id == self.id,
            };
            if !is_meant {
                continue;
            }
            if texts.len() + documents.len() == SHOWN_MAX {
                eprintln!("note: more than {SHOWN_MAX} exchanges; the others are not shown");
                break;
            }
            let entry = whole(&recording, entry)?;
            match self.format {
                Format::Text => texts.push(text(&entry, self.body_bytes)),
                Format::Json => documents.push(document(&entry, self.body_bytes)),
            }
        }
        if texts.is_empty() && documents.is_empty() {
            return Err(format!(
                "{} has no exchange with number, trace id or request id `{}`; `sidelight recording ls --entries` lists them",
                self.recording.display(),
                self.id
            ));
        }
        Ok(match self.format {
            Format::Text => print(&texts.join("\n\n")),
            Format::Json => {
                print(&serde_json::to_string_pretty(&json!({ "exchanges": documents })).unwrap_or_default())
            }
        })
    }
}

/// A line for each thing that is known of the exchange.
fn context(entry: &Entry) -> String {
    let ids = [
        ("trace", hex(&entry.trace_id)),
        ("span", hex(&entry.span_id)),
        ("parent", hex(&entry.parent_id)),
        ("request id", entry.request_id.clone()),
        ("user", entry.user_id.clone()),
        ("account", entry.account_id.clone()),
        ("license", entry.license.clone()),
        ("request type", entry.request_type.clone()),
        ("flags", entry.flags.clone()),
        ("peer", entry.peer.clone()),
        ("identity", entry.identity.clone()),
        ("route", entry.route.clone()),
        ("cluster", entry.cluster.clone()),
        ("endpoint", entry.endpoint.clone()),
        ("attempts", if entry.attempts > 0 { entry.attempts.to_string() } else { String::new() }),
        ("gRPC status", entry.grpc_status.map_or_else(String::new, |status| status.to_string())),
        ("cause", entry.cause.clone()),
        (
            "outcome",
            if entry.outcome == crate::exchange::Outcome::Complete {
                String::new()
            } else {
                format!("{:?}", entry.outcome).to_lowercase()
            },
        ),
        ("kept by", entry.kept_by.clone()),
        ("redactions", if entry.redactions > 0 { entry.redactions.to_string() } else { String::new() }),
    ];
    let mut out = String::new();
    for (name, value) in ids.iter().filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(out, "  {name:<13} {}", plain(value.as_bytes()));
    }
    out
}

fn fields(out: &mut String, mark: char, fields: &[Field]) {
    for field in fields {
        let _ = writeln!(out, "{mark} {}: {}", plain(&field.name), plain(&field.value));
    }
}

/// Content for people: JSON indented, texts as they are, bytes as digits.
fn preview(body: &[u8], bytes_max: usize) -> String {
    // Beyond that, the whole is not parsed for the begin of it.
    let pretty = if body.len() <= 4 << 20 {
        serde_json::from_slice::<Value>(body).ok().and_then(|value| serde_json::to_string_pretty(&value).ok())
    } else {
        None
    };
    let shown = pretty.as_deref().map_or(body, str::as_bytes);
    let cut = shown.get(..bytes_max.min(shown.len())).unwrap_or_default();
    // A character that the cut went through does not make bytes of a text.
    let is_text = std::str::from_utf8(cut).map_or_else(|error| error.error_len().is_none(), |_| true)
        && !cut.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t'));
    let mut out = String::new();
    if is_text {
        for line in String::from_utf8_lossy(cut).lines() {
            let _ = writeln!(out, "    {}", plain(line.as_bytes()).replace("\\t", "\t"));
        }
    } else {
        for (line, at) in cut.chunks(16).take(64).zip((0..).step_by(16)) {
            let digits: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            let letter =
                |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
            let letters: String = line.iter().map(letter).collect();
            let _ = writeln!(out, "    {at:06x}  {:<47}  {letters}", digits.join(" "));
        }
    }
    if shown.len() > cut.len() {
        let _ = writeln!(out, "    … {} bytes more", shown.len() - cut.len());
    }
    out
}

fn content(out: &mut String, entry: &Entry, side: Side, bytes_max: usize) {
    let content = if side == Side::Request { &entry.request } else { &entry.response };
    if content.bytes == 0 {
        return;
    }
    let pieces =
        entry.events.iter().filter(|event| matches!(&event.what, What::Data(of, _) if *of == side)).count();
    let cut = if content.is_truncated { ", truncated" } else { "" };
    let _ = writeln!(out, "  {} bytes in {pieces} pieces{cut}:", content.bytes);
    out.push_str(&preview(&entry.body(side), bytes_max));
}

fn arrow(side: Side) -> char {
    if side == Side::Request { '>' } else { '<' }
}

fn rest(out: &mut String, side: Side, rest: &messages::Rest) {
    if let Some(problem) = rest.problem {
        let _ =
            writeln!(out, "  {} byte {}: {problem}; what follows is not looked at", arrow(side), rest.offset);
    } else if rest.bytes > 0 {
        let missing = rest.missing.map_or_else(String::new, |bytes| format!(", {bytes} are missing"));
        let _ = writeln!(
            out,
            "  {} byte {}: incomplete: {} bytes are there{missing}",
            arrow(side),
            rest.offset,
            rest.bytes
        );
    }
}

fn found(out: &mut String, entry: &Entry, bytes_max: usize) {
    if entry.is_tunnel() {
        let found = messages::frames(&entry.events, bytes_max.max(1));
        for frame in found.messages.iter().take(SHOWN_MAX) {
            let flags = [(!frame.is_final, " more to come"), (frame.is_compressed, " compressed")];
            let flags: String = flags.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
            let name = frame.opcode.as_str();
            let _ = writeln!(
                out,
                "  {} +{} {name} frame, {} bytes{flags}",
                arrow(frame.side),
                span(frame.at_ns),
                frame.bytes
            );
            if frame.opcode == Opcode::Close
                && let Some(([high, low], _)) = frame.payload.split_first_chunk::<2>()
            {
                let _ = writeln!(out, "    code {}", u16::from_be_bytes([*high, *low]));
            } else {
                out.push_str(&preview(&frame.payload, bytes_max));
            }
        }
        rest(out, Side::Request, &found.request_rest);
        rest(out, Side::Response, &found.response_rest);
    } else if entry.is_grpc() {
        let found = messages::grpc_messages(&entry.events, bytes_max.max(1));
        for message in found.messages.iter().take(SHOWN_MAX) {
            let kind = if message.is_trailers { "trailers" } else { "message" };
            let packed = if message.is_compressed { ", compressed" } else { "" };
            let _ = writeln!(
                out,
                "  {} +{} {kind}, {} bytes{packed}",
                arrow(message.side),
                span(message.at_ns),
                message.bytes
            );
            out.push_str(&preview(&message.payload, bytes_max));
        }
        rest(out, Side::Request, &found.request_rest);
        rest(out, Side::Response, &found.response_rest);
    }
}

/// What happened when, as bars.
fn waterfall(out: &mut String, entry: &Entry) {
    let end = |side| {
        let is = |event: &&Event| matches!(&event.what, What::End(of) | What::Reset(of, _) if *of == side);
        entry.events.iter().find(is).map(|event| event.at_ns)
    };
    let total = entry.duration_ns.max(1);
    let sent = end(Side::Request).unwrap_or(0).min(total);
    let first = if entry.first_byte_ns > 0 { entry.first_byte_ns.min(total) } else { total };
    let bars = [("request", 0, sent), ("wait", sent.min(first), first), ("answer", first, total)];
    let _ = writeln!(out, "  took {}", span(entry.duration_ns));
    for (name, from, to) in bars {
        let column = |ns: u64| (u128::from(ns) * u128::from(BAR) / u128::from(total)) as usize;
        let (from_column, to_column) = (column(from), column(to).max(column(from)));
        let bar = format!("{}{}", " ".repeat(from_column), "█".repeat(to_column - from_column));
        let bar = if to_column == from_column { format!("{bar}▏") } else { bar };
        let _ =
            writeln!(out, "  {name:<8}|{bar:<width$}| +{} … +{}", span(from), span(to), width = BAR as usize);
    }
}

fn text(entry: &Entry, bytes_max: usize) -> String {
    let mut out = format!(
        "#{}  {}  {}  HTTP/{}{}  connection {}, exchange {}\n",
        entry.sequence,
        moment::text(entry.started_ns),
        entry.direction.as_str(),
        entry.version.as_str(),
        if entry.is_tls { " over TLS" } else { "" },
        entry.connection,
        entry.stream,
    );
    out.push_str(&context(entry));
    let is_streamed = entry.is_tunnel() || entry.is_grpc();
    if let Some(head) = entry.request_head() {
        let _ = writeln!(
            out,
            "\n> {} {}://{}{}",
            plain(&head.method),
            plain(&head.scheme),
            plain(&head.authority),
            plain(&head.target)
        );
        fields(&mut out, '>', &head.fields);
        if !is_streamed {
            content(&mut out, entry, Side::Request, bytes_max);
        }
        fields(&mut out, '>', entry.trailers(Side::Request));
    }
    for event in &entry.events {
        if let What::Response(head) = &event.what {
            let _ = writeln!(out, "\n< {} (+{})", head.status, span(event.at_ns));
            fields(&mut out, '<', &head.fields);
        }
    }
    if is_streamed {
        found(&mut out, entry, bytes_max);
    } else {
        content(&mut out, entry, Side::Response, bytes_max);
    }
    fields(&mut out, '<', entry.trailers(Side::Response));
    for event in &entry.events {
        if let What::Reset(side, cause) = &event.what {
            let who = if *side == Side::Request { "the client" } else { "the server" };
            let _ =
                writeln!(out, "\n  given up by {who} at +{}: {}", span(event.at_ns), plain(cause.as_bytes()));
        }
    }
    out.push('\n');
    waterfall(&mut out, entry);
    out
}

fn document(entry: &Entry, bytes_max: usize) -> Value {
    let pairs = |fields: &[Field]| -> Value {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.iter().map(|field| json!([text(&field.name), text(&field.value)])).collect()
    };
    let body = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes.get(..bytes_max.min(bytes.len())).unwrap_or_default()).into_owned()
    };
    let events: Vec<Value> = entry
        .events
        .iter()
        .map(|event| match &event.what {
            What::Request(head) => json!({ "at_ns": event.at_ns, "what": "request", "fields": pairs(&head.fields) }),
            What::Response(head) => {
                json!({ "at_ns": event.at_ns, "what": "response", "status": head.status, "fields": pairs(&head.fields) })
            }
            What::Data(side, piece) => {
                json!({ "at_ns": event.at_ns, "what": "data", "side": side.as_str(), "bytes": piece.len() })
            }
            What::Trailers(side, fields) => {
                json!({ "at_ns": event.at_ns, "what": "trailers", "side": side.as_str(), "fields": pairs(fields) })
            }
            What::End(side) => json!({ "at_ns": event.at_ns, "what": "end", "side": side.as_str() }),
            What::Reset(side, cause) => {
                json!({ "at_ns": event.at_ns, "what": "reset", "side": side.as_str(), "cause": cause })
            }
        })
        .collect();
    let mut out = entry_document(entry);
    if let Value::Object(members) = &mut out {
        members.insert("events".into(), events.into());
        if entry.is_tunnel() {
            let frames = messages::frames(&entry.events, bytes_max.max(1)).messages;
            let frames = frames.iter().map(|frame| {
                json!({
                    "side": frame.side.as_str(), "at_ns": frame.at_ns, "opcode": frame.opcode.as_str(),
                    "is_final": frame.is_final, "is_compressed": frame.is_compressed, "bytes": frame.bytes,
                    "text": body(&frame.payload),
                })
            });
            members.insert("frames".into(), frames.collect());
        } else if entry.is_grpc() {
            let found = messages::grpc_messages(&entry.events, 0).messages;
            let found = found.iter().map(|it| {
                json!({
                    "side": it.side.as_str(), "at_ns": it.at_ns, "is_compressed": it.is_compressed,
                    "is_trailers": it.is_trailers, "bytes": it.bytes,
                })
            });
            members.insert("messages".into(), found.collect());
        } else {
            members.insert("request_body".into(), body(&entry.body(Side::Request)).into());
            members.insert("response_body".into(), body(&entry.body(Side::Response)).into());
        }
    }
    out
}
