//! `sidelight recording ls`.

use super::filter::{Filter, bounds};
use super::{Keys, hex, plain, span, table};
use crate::cli::{Format, print};
use crate::record::{Entry, Query, Recording};
use crate::units::moment;
use crate::units::size_text;
use clap::Args;
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `ls`.
#[derive(Args)]
pub(super) struct List {
    /// Recordings: directories of segments, or segments
    #[arg(required = true, value_name = "RECORDING")]
    recordings: Vec<PathBuf>,
    /// A line for each entry; with a filter, that is meant anyway
    #[arg(long)]
    entries: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    keys: Keys,
    /// At most so many entries
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl List {
    pub(super) fn execute(&self) -> Result<ExitCode, String> {
        let opened: Result<Vec<Recording>, String> =
            self.recordings.iter().map(|path| self.keys.open(path)).collect();
        let opened = opened?;
        for problem in opened.iter().flat_map(Recording::problems) {
            eprintln!("warning: {problem}");
        }
        if self.entries || !self.filter.is_empty() || self.limit.is_some() {
            return self.list_entries(&opened);
        }
        match self.format {
            Format::Json => {
                let all: Vec<Value> = opened.iter().map(document).collect();
                Ok(print(&serde_json::to_string_pretty(&json!({ "recordings": all })).unwrap_or_default()))
            }
            Format::Text => Ok(print(&opened.iter().map(text).collect::<Vec<_>>().join("\n"))),
        }
    }

    /// Entries are printed as they are read: there may be millions.
    fn list_entries(&self, opened: &[Recording]) -> Result<ExitCode, String> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let (mut left, mut damaged) = (self.limit.unwrap_or(usize::MAX), 0u64);
        let head = format!(
            "{:>9}  {:<24}  {:>10}  {:<8}  {:<6}  {:>6}  {:<12}  REQUEST",
            "SEQUENCE", "STARTED", "TOOK", "SIDE", "STATUS", "BYTES", "ACCOUNT"
        );
        let mut lines = |line: &str| writeln!(out, "{line}");
        if self.format == Format::Text && lines(&head).is_err() {
            return Ok(ExitCode::SUCCESS);
        }
        for recording in opened {
            let wanted = self.filter.of(recording);
            for entry in recording.entries(&wanted.query) {
                let entry = match entry {
                    Ok(entry) if wanted.matches(&entry) => entry,
                    Ok(_) => continue,
                    Err(problem) => {
                        eprintln!("warning: {problem}");
                        damaged += 1;
                        continue;
                    }
                };
                if left == 0 {
                    return Ok(ExitCode::SUCCESS);
                }
                left -= 1;
                let line = match self.format {
                    Format::Text => entry_text(&entry),
                    Format::Json => entry_document(&entry).to_string(),
                };
                // A reader that closed the pipe (`| head`) has seen enough.
                if lines(&line).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
        }
        Ok(if damaged > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

/// The request in few words.
fn request(entry: &Entry) -> String {
    match entry.request_head() {
        Some(head) => format!("{} {}{}", plain(&head.method), plain(&head.authority), plain(&head.target)),
        None => "(no head)".into(),
    }
}

fn entry_text(entry: &Entry) -> String {
    let started = moment::text(entry.started_ns);
    let mut line = format!(
        "{:>9}  {:<24}  {:>10}  {:<8}  {:<6}  {:>6}  {:<12}  {}",
        entry.sequence,
        started.get(..23).map_or_else(String::new, |text| format!("{text}Z")),
        span(entry.duration_ns),
        entry.direction.as_str(),
        entry.status,
        entry.response.bytes,
        plain(entry.account_id.as_bytes()),
        request(entry),
    );
    if !entry.is_whole() {
        line.push_str("  (truncated)");
    }
    if !entry.cause.is_empty() {
        line.push_str(&format!("  ({})", plain(entry.cause.as_bytes())));
    }
    line
}

/// An entry in a line of JSON, without its content.
pub(super) fn entry_document(entry: &Entry) -> Value {
    let head = entry.request_head();
    let text = |bytes: Option<&bytes::Bytes>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    json!({
        "sequence": entry.sequence,
        "started": moment::text(entry.started_ns),
        "duration_ns": entry.duration_ns,
        "first_byte_ns": entry.first_byte_ns,
        "direction": entry.direction.as_str(),
        "connection": entry.connection,
        "stream": entry.stream,
        "http_version": entry.version.as_str(),
        "method": text(head.map(|head| &head.method)),
        "scheme": text(head.map(|head| &head.scheme)),
        "authority": text(head.map(|head| &head.authority)),
        "target": text(head.map(|head| &head.target)),
        "status": entry.status,
        "grpc_status": entry.grpc_status,
        "cause": entry.cause,
        "trace_id": hex(&entry.trace_id),
        "span_id": hex(&entry.span_id),
        "request_id": entry.request_id,
        "user_id": entry.user_id,
        "account_id": entry.account_id,
        "license": entry.license,
        "route": entry.route,
        "cluster": entry.cluster,
        "endpoint": entry.endpoint,
        "request_bytes": entry.request.bytes,
        "response_bytes": entry.response.bytes,
        "is_truncated": !entry.is_whole(),
        "redactions": entry.redactions,
        "kept_by": entry.kept_by,
    })
}

fn entries_of(blocks: &[crate::record::segment::index::Block]) -> (u64, u64, u64) {
    let mut sum = (0, u64::MAX, 0);
    for block in blocks.iter().filter(|block| block.entries > 0) {
        sum = (sum.0 + u64::from(block.entries), sum.1.min(block.first_ns), sum.2.max(block.last_ns));
    }
    sum
}

/// Of a segment that was not ended, which has no index: entries, and when the first and the last began.
fn scanned(path: &std::path::Path) -> (u64, u64, u64) {
    let mut sum = (0, u64::MAX, 0);
    let Ok(recording) = Recording::open(path) else { return sum };
    for entry in recording.entries(&Query::default()) {
        match entry {
            Ok(entry) => sum = (sum.0 + 1, sum.1.min(entry.started_ns), sum.2.max(entry.started_ns)),
            // It counts; when it was, only its key would tell.
            Err(problem) if problem.is_sealed => sum.0 += 1,
            Err(_) => {}
        }
    }
    sum
}

fn document(recording: &Recording) -> Value {
    let segments: Vec<Value> = recording
        .segments()
        .iter()
        .map(|segment| {
            let blocks = segment.blocks.as_deref();
            let (entries, first_ns, last_ns) = blocks.map_or_else(|| scanned(&segment.path), entries_of);
            let moment = |at: u64| (entries > 0 && first_ns != u64::MAX).then(|| moment::text(at));
            json!({
                "file": segment.path.display().to_string(),
                "recording": segment.header.recording,
                "segment": segment.header.segment,
                "service": segment.header.service,
                "instance": segment.header.instance,
                "source": segment.header.source,
                "first": moment(first_ns),
                "last": moment(last_ns),
                "entries": entries,
                "bytes": segment.bytes,
                "is_ended": segment.blocks.is_some(),
                "is_sealed": segment.header.is_sealed,
            })
        })
        .collect();
    let [first_ns, last_ns] = bounds(recording);
    json!({
        "path": recording.path().display().to_string(),
        "first": moment::text(first_ns),
        "last": moment::text(last_ns),
        "segments": segments,
        "books": recording.books(),
        "is_balanced": recording.books().is_balanced(),
    })
}

fn text(recording: &Recording) -> String {
    let mut rows = Vec::new();
    let (mut total, mut bytes) = (0, 0);
    for segment in recording.segments() {
        let blocks = segment.blocks.as_deref();
        let (entries, first_ns, last_ns) = blocks.map_or_else(|| scanned(&segment.path), entries_of);
        (total, bytes) = (total + entries, bytes + segment.bytes);
        let short = |at: u64| moment::text(at).get(..19).map_or_else(String::new, |text| format!("{text}Z"));
        let moment = |at: u64| if entries > 0 && first_ns != u64::MAX { short(at) } else { "-".into() };
        let state = match (segment.header.is_sealed, segment.blocks.is_some()) {
            (true, true) => "sealed",
            (true, false) => "sealed, not ended",
            (false, true) => "ended",
            (false, false) => "not ended",
        };
        rows.push(vec![
            segment.path.file_name().map_or_else(String::new, |name| plain(name.as_encoded_bytes())),
            moment(first_ns),
            moment(last_ns),
            entries.to_string(),
            size_text(segment.bytes),
            state.into(),
            plain(segment.header.source.as_bytes()),
            plain(segment.header.service.as_bytes()),
        ]);
    }
    let head = ["SEGMENT", "FIRST", "LAST", "ENTRIES", "BYTES", "STATE", "SOURCE", "SERVICE"];
    let books = recording.books();
    let mut out = table(&head, &rows);
    out.push_str(&format!("{total} entries, {} bytes\n", bytes));
    if books.seen > 0 {
        let dropped: Vec<String> = books
            .dropped
            .iter()
            .map(|(reason, count)| format!("{} {count}", plain(reason.as_bytes())))
            .collect();
        let dropped = if dropped.is_empty() { "0".into() } else { dropped.join(", ") };
        out.push_str(&format!(
            "books: seen {} = recorded {} + sampled out {} + filtered {} + dropped {dropped} + pending {}{}\n",
            books.seen,
            books.recorded,
            books.sampled_out,
            books.filtered,
            books.pending,
            if books.is_balanced() { "" } else { "  NOT BALANCED" }
        ));
    }
    out
}
