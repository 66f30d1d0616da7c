//! Where graphs come from: event files, saved documents, admin ports.
//!
//! What: a file tells what it is by its beginning: zstd, a line that is an event, or a document. Why a client of some lines: an
//! admin port speaks HTTP/1.1 on loopback, and one GET is all that is asked. How it fails: the first source that cannot be
//! read is an error that names it, so that a map is never missing a part without a word; lines that are no events are
//! counted.

use super::events::Events;
use super::merge::{self, Graph};
use crate::pipeline::event;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The largest document that is read.
const DOCUMENT_BYTES_MAX: u64 = 256 << 20;
/// The longest line that is an event.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// How much is read at once, and looked at to tell what it is.
const BUFFER_BYTES: usize = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// For a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The first bytes of a zstd frame (RFC 8878 §3.1.1).
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What was read.
#[derive(Debug, Default)]
pub struct Reading {
    /// The graph.
    pub graph: Graph,
    /// What a reader should know of it, a line each.
    pub notes: Vec<String>,
}

/// Reads all of them: files of events or of a document (also packed with zstd), `-` for the standard input, and URLs of
/// admin ports.
///
/// # Errors
/// The first that cannot be read, with its name and why.
pub fn read(sources: &[String]) -> Result<Reading, String> {
    let (mut graph, mut events) = (Graph::default(), Events::default());
    for source in sources {
        let failed = |why: String| format!("{source}: {why}");
        if let Some(rest) = source.strip_prefix("http://") {
            let document = get(rest).map_err(failed)?;
            merge::read(&document).map_err(failed)?.into_iter().for_each(|report| graph.add(report));
        } else if source.starts_with("https://") {
            return Err(failed("an admin port speaks no TLS: write http://".into()));
        } else if source == "-" {
            any(Box::new(io::stdin()), &mut graph, &mut events).map_err(failed)?;
        } else {
            let file = File::open(source).map_err(|error| failed(format!("cannot be opened: {error}")))?;
            if file.metadata().is_ok_and(|data| data.is_dir()) {
                return Err(failed(format!("this is a directory: name the files in it, {source}/*.ndjson")));
            }
            any(Box::new(file), &mut graph, &mut events).map_err(failed)?;
        }
    }
    let mut notes = Vec::new();
    if events.faults > 0 {
        notes.push(format!("{} lines are no events", events.faults));
    }
    if events.duplicates > 0 {
        notes.push(format!("{} events were there before, and are counted once", events.duplicates));
    }
    for (service, count) in events.absent() {
        let plural = if count == 1 { " is" } else { "s are" };
        notes.push(format!("{count} event{plural} absent of {service:?}: lost, or in another file"));
    }
    events.reports().for_each(|report| graph.add(report));
    for report in graph.reports() {
        let missed = report.edges.iter().fold(0_u64, |sum, edge| sum.saturating_add(edge.missed));
        if missed > 0 {
            let name = &report.service.name;
            notes.push(format!(
                "{missed} calls of {name:?} are known by their number only (events lost or under way)"
            ));
        }
    }
    Ok(Reading { graph, notes })
}

fn any(from: Box<dyn Read>, graph: &mut Graph, events: &mut Events) -> Result<(), String> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, from);
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let is_packed = from.fill_buf().map_err(cannot)?.starts_with(&ZSTD);
    if is_packed {
        let unpacked = zstd::stream::read::Decoder::with_buffer(from).map_err(cannot)?;
        return plain(&mut BufReader::with_capacity(BUFFER_BYTES, unpacked), graph, events);
    }
    plain(&mut from, graph, events)
}

fn plain(from: &mut dyn BufRead, graph: &mut Graph, events: &mut Events) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut line = Vec::new();
    let mut is_first = true;
    loop {
        line.clear();
        let count = from.take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(cannot)? as u64;
        if count == 0 {
            return Ok(());
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        if std::mem::take(&mut is_first) && !is_event(&line) {
            return document(line, from, graph, events);
        }
        if count == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
            events.faults += 1;
            skip_line(from).map_err(cannot)?;
        } else {
            events.line(line.trim_ascii());
        }
    }
}

/// Whether a first line is one of a file of events: a whole object that is no graph, or no beginning of an object.
fn is_event(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    if !line.starts_with(b"{") {
        return true;
    }
    let schema = event::member(line, "schema").and_then(event::Value::text);
    let is_graph = schema.is_some_and(|schema| schema.raw().starts_with(b"sidelight/graph/"));
    let mut members = event::members(line);
    members.by_ref().for_each(drop);
    members.is_whole() && !is_graph
}

/// Reads what begins with `start` as a document; if it is none, as a file of events whose first line is broken.
fn document(
    start: Vec<u8>,
    from: &mut dyn BufRead,
    graph: &mut Graph,
    events: &mut Events,
) -> Result<(), String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut document = start;
    from.take(DOCUMENT_BYTES_MAX).read_to_end(&mut document).map_err(cannot)?;
    if document.len() as u64 > DOCUMENT_BYTES_MAX {
        return Err(format!("larger than {} MiB", DOCUMENT_BYTES_MAX >> 20));
    }
    match merge::read(&document) {
        Ok(reports) => reports.into_iter().for_each(|report| graph.add(report)),
        Err(why) => {
            let mut lines = document.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            let has_events = |line: &[u8]| line.starts_with(b"{") && is_event(line);
            if !lines.clone().skip(1).any(has_events) {
                return Err(why);
            }
            lines.by_ref().filter(|line| !line.is_empty()).for_each(|line| events.line(line));
        }
    }
    Ok(())
}

fn skip_line(from: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let held = from.fill_buf()?;
        let (count, is_end) = match memchr::memchr(b'\n', held) {
            Some(at) => (at + 1, true),
            None => (held.len(), held.is_empty()),
        };
        from.consume(count);
        if is_end {
            return Ok(());
        }
    }
}

/// The document that an admin port has: `rest` is the URL without its scheme; without a path, `/graph` is asked for.
fn get(rest: &str) -> Result<Vec<u8>, String> {
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let path = if matches!(path, "" | "/") { "/graph" } else { path };
    if authority.is_empty() || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("no URL of an admin port: http://127.0.0.1:15000".into());
    }
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port { authority.to_owned() } else { format!("{authority}:15000") };
    let mut addresses =
        address.to_socket_addrs().map_err(|error| format!("{address} is no address: {error}"))?;
    let address = addresses.next().ok_or_else(|| format!("{address} has no address"))?;
    let failed = |error: io::Error| format!("no answer of {address}: {error}");
    let end = Instant::now() + ANSWER_TIMEOUT;
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map_err(failed)?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    // The admin port answers to addresses and to localhost only; behind a name it may still be one that forwards.
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: application/json\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).map_err(failed)?;
    let mut answer = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).map_err(failed)?;
        let count = stream.read(&mut buffer).map_err(failed)?;
        answer.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if count == 0 {
            break;
        }
        if answer.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(format!("the answer is larger than {} MiB", DOCUMENT_BYTES_MAX >> 20));
        }
        if Instant::now() >= end {
            return Err(format!("no whole answer of {address} within {ANSWER_TIMEOUT:?}"));
        }
    }
    content(answer)
}

/// The content of an answer that ends with its connection.
fn content(mut answer: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let status = match head.parse(&answer) {
        Ok(httparse::Status::Complete(bytes)) => (bytes, head.code.unwrap_or_default()),
        _ => return Err("the answer is no HTTP".into()),
    };
    let (head_bytes, code) = status;
    let field = |name: &str| head.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    let length =
        field("content-length").and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
    let is_chunked = field("transfer-encoding").is_some();
    answer.drain(..head_bytes);
    match (code, length) {
        _ if is_chunked => Err("the answer comes in chunks: is it the admin port?".into()),
        (200, Some(length)) if answer.len() < length => Err("the answer was cut".into()),
        (200, _) => Ok(answer),
        (code, _) => Err(format!("it answers with status {code}: is it the admin port?")),
    }
}
