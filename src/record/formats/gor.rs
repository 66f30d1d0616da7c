//! GoReplay's `.gor`: text, a record for each request and each answer.
//!
//! A record is `<type> <id> <time> [latency]`, a line end, HTTP/1.1 as it was on the wire, and a separator. Type 1 is a
//! request, 2 its answer, 3 the answer to a replay of it; requests and answers meet by their id. Times are nanoseconds: since
//! 1970, and how long it took. Source:
//! <https://github.com/buger/goreplay/wiki/Saving-and-Replaying-from-file>. How it fails: the format has no lengths and no
//! checksums, so a damaged record ends at the next separator; what came after it is read. Requests that wait for their
//! answers are bounded, the oldest go first. Files that end in `.gz` come through [`packed`](super::packed).

use super::http1;
use super::make::{self, Message};
use super::{
    ENTRY_BYTES_MAX, Export, Import, Notes, PENDING_BYTES_MAX, PENDING_MAX, Problem, RECORD_BYTES_MAX,
};
use crate::exchange::Direction;
use crate::record::entry::field;
use crate::record::{Entry, Field, RequestHead, Side, What};
use crate::svc::Version;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, Write};

/// Between records.
const SEPARATOR: &[u8] = "\n🐵🙈🙉\n".as_bytes();

/// The longest id; GoReplay's have 24 or 40 digits.
const ID_BYTES_MAX: usize = 128;

/// A request that waits for its answer.
struct Waiting {
    number: u64,
    started_ns: u64,
    took_ns: u64,
    version: Version,
    request: Message<RequestHead>,
}

impl Waiting {
    fn bytes(&self) -> usize {
        let fields: usize =
            self.request.head.fields.iter().map(|field| field.name.len() + field.value.len()).sum();
        self.request.body.len() + fields + 512
    }

    fn entry(&self) -> Entry {
        Entry {
            sequence: self.number,
            direction: Direction::Inbound,
            connection: self.number,
            stream: 1,
            started_ns: self.started_ns,
            version: self.version,
            ..Entry::default()
        }
    }
}

/// What was cut out of the file.
enum Cut {
    Record { offset: u64, line: u64, bytes: Bytes, is_ended: bool },
    TooLong { offset: u64, line: u64, bytes: u64 },
    End,
}

/// Reads a `.gor` file.
pub(super) struct Reader<R> {
    input: R,
    offset: u64,
    line: u64,
    buffer: Vec<u8>,
    is_ended: bool,
    waiting: HashMap<Bytes, Waiting>,
    /// In the order in which they came; those that were answered stay until they are met.
    order: VecDeque<(Bytes, u64)>,
    waiting_bytes: usize,
    number: u64,
    ready: VecDeque<Result<Entry, Problem>>,
    notes: Notes,
}

impl<R: BufRead> Reader<R> {
    pub fn new(input: R) -> Reader<R> {
        Reader {
            input,
            offset: 0,
            line: 1,
            buffer: Vec::new(),
            is_ended: false,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            waiting_bytes: 0,
            number: 0,
            ready: VecDeque::new(),
            notes: Notes::default(),
        }
    }

    /// Cuts the next record out.
    fn cut(&mut self) -> io::Result<Cut> {
        let (offset, line) = (self.offset, self.line);
        self.buffer.clear();
        let mut passed_over = 0;
        loop {
            let piece = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let (piece_len, old) = (piece.len(), self.buffer.len());
            if piece_len == 0 {
                break;
            }
            self.buffer.extend_from_slice(piece);
            let from = old.saturating_sub(SEPARATOR.len() - 1);
            let found = memchr::memmem::find(self.buffer.get(from..).unwrap_or_default(), SEPARATOR);
            let used = match found {
                Some(at) => (from + at + SEPARATOR.len()).saturating_sub(old),
                None => piece_len,
            };
            self.input.consume(used);
            self.offset += used as u64;
            self.line += memchr::memchr_iter(b'\n', self.buffer.get(old..old + used).unwrap_or_default())
                .count() as u64;
            if let Some(at) = found {
                self.buffer.truncate(from + at);
                let bytes = passed_over + self.buffer.len() as u64;
                if bytes > RECORD_BYTES_MAX as u64 {
                    return Ok(Cut::TooLong { offset, line, bytes });
                }
                let bytes = Bytes::copy_from_slice(&self.buffer);
                return Ok(Cut::Record { offset, line, bytes, is_ended: true });
            }
            if passed_over > 0 || self.buffer.len() > RECORD_BYTES_MAX {
                let gone = self.buffer.len().saturating_sub(SEPARATOR.len() - 1);
                passed_over += gone as u64;
                self.buffer.drain(..gone);
            }
        }
        let bytes = passed_over + self.buffer.len() as u64;
        Ok(match bytes {
            0 => Cut::End,
            _ if passed_over > 0 => Cut::TooLong { offset, line, bytes },
            _ => {
                Cut::Record { offset, line, bytes: std::mem::take(&mut self.buffer).into(), is_ended: false }
            }
        })
    }

    /// Lets the oldest go without an answer until the rest is within the bounds.
    fn bound(&mut self, bytes_max: usize, count_max: usize) {
        while self.waiting_bytes > bytes_max || self.waiting.len() > count_max {
            let Some((id, number)) = self.order.pop_front() else { return };
            if self.waiting.get(&id).is_some_and(|waiting| waiting.number == number)
                && let Some(waiting) = self.waiting.remove(&id)
            {
                self.give(&waiting);
            }
        }
    }

    /// A request without its answer.
    fn give(&mut self, waiting: &Waiting) {
        self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.bytes());
        self.notes.add("requests without an answer in the file");
        let entry = Entry { duration_ns: waiting.took_ns, ..waiting.entry() };
        self.ready.push_back(Ok(make::entry(entry, &waiting.request, None)));
    }

    fn take(&mut self, record: &Bytes, is_ended: bool) -> Result<(), String> {
        let record = match record.strip_prefix(b"\n") {
            Some(rest) => record.slice_ref(rest),
            None => record.clone(),
        };
        if record.trim_ascii().is_empty() {
            return Ok(());
        }
        let end = memchr::memchr(b'\n', &record).ok_or("a record without a message")?;
        let raw = record.slice(end + 1..);
        let head = std::str::from_utf8(record.get(..end).unwrap_or_default()).unwrap_or_default();
        let mut words = head.split_ascii_whitespace();
        let (kind, id, at) = (words.next(), words.next(), words.next());
        let is_id = |id: &&str| {
            id.len() <= ID_BYTES_MAX && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let (Some(kind), Some(id), Some(at_ns)) =
            (kind, id.filter(is_id), at.and_then(|at| at.parse::<u64>().ok()))
        else {
            return Err(
                "no record: write `<1|2|3> <id> <time in ns> [<latency in ns>]` on its first line".into()
            );
        };
        let took_ns = words.next().and_then(|word| word.parse::<i64>().ok()).map_or(0, |ns| ns.max(0) as u64);
        let key = Bytes::copy_from_slice(id.as_bytes());
        match kind {
            "1" => {
                let read = http1::request(&raw)?;
                self.number += 1;
                let mut request = read.message;
                request.is_truncated |= !is_ended && is_endless(&request.head.fields, request.bytes);
                request.end_ns = took_ns;
                let waiting = Waiting {
                    number: self.number,
                    started_ns: at_ns,
                    took_ns,
                    version: read.version,
                    request,
                };
                self.waiting_bytes += waiting.bytes();
                self.order.push_back((key.clone(), self.number));
                if let Some(older) = self.waiting.insert(key, waiting) {
                    self.give(&older);
                }
                self.bound(PENDING_BYTES_MAX, PENDING_MAX);
                // Ids that were answered do not gather.
                while let Some((id, number)) = self.order.front() {
                    if self.waiting.get(id).is_some_and(|waiting| waiting.number == *number) {
                        break;
                    }
                    self.order.pop_front();
                }
                Ok(())
            }
            "2" | "3" => {
                let Some(waiting) = self.waiting.remove(&key) else {
                    return if kind == "3" {
                        self.notes.add("answers to replays are left out where the original one is there");
                        Ok(())
                    } else {
                        Err(format!("an answer without a request before it: id {id}; left out"))
                    };
                };
                let read = match http1::response(&raw, waiting.request.head.method == "HEAD") {
                    Ok(read) => read,
                    Err(problem) => {
                        self.give(&waiting);
                        return Err(problem);
                    }
                };
                self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.bytes());
                let mut response = read.message;
                response.is_truncated |= !is_ended && is_endless(&response.head.fields, response.bytes);
                // Of an answer the time is when it began; of an answer to a replay, when that was sent, at another time.
                if kind == "2" {
                    response.head_ns = at_ns.saturating_sub(waiting.started_ns);
                    response.end_ns = response.head_ns.saturating_add(took_ns);
                } else {
                    self.notes
                        .add("answers to replays stand for the original ones, which are not in the file");
                    (response.head_ns, response.end_ns) = (took_ns, took_ns);
                }
                let mut entry = make::entry(waiting.entry(), &waiting.request, Some(&response));
                if entry.is_tunnel() {
                    entry.response.is_truncated = true;
                    self.notes.add("WebSockets: .gor has only the handshake; marked truncated");
                }
                self.ready.push_back(Ok(entry));
                Ok(())
            }
            other => Err(format!("records of type {other} are not known; 1, 2 and 3 are")),
        }
    }
}

/// Whether nothing tells where the content ends: without a separator behind it, some may be missing.
fn is_endless(fields: &[Field], bytes: u64) -> bool {
    bytes > 0 && field(fields, b"content-length").is_none()
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Entry, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if self.is_ended {
                return None;
            }
            match self.cut() {
                Ok(Cut::Record { offset, line, bytes, is_ended }) => {
                    if let Err(message) = self.take(&bytes, is_ended) {
                        self.ready.push_back(Err(Problem::new(offset, Some(line), message)));
                    }
                }
                Ok(Cut::TooLong { offset, line, bytes }) => {
                    let message = format!(
                        "a record of {bytes} bytes without a separator is longer than {RECORD_BYTES_MAX}; passed over"
                    );
                    return Some(Err(Problem::new(offset, Some(line), message)));
                }
                Ok(Cut::End) => {
                    self.is_ended = true;
                    self.bound(0, 0);
                }
                Err(error) => {
                    self.is_ended = true;
                    self.bound(0, 0);
                    return Some(Err(Problem::new(
                        self.offset,
                        Some(self.line),
                        format!("cannot be read: {error}"),
                    )));
                }
            }
        }
    }
}

impl<R: BufRead> Import for Reader<R> {
    fn notes(&self) -> &Notes {
        &self.notes
    }
}

/// Writes a `.gor` file.
pub(super) struct Writer<W> {
    out: W,
    count: u64,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Writer<W> {
        Writer { out, count: 0, notes: Notes::default() }
    }

    fn record(&mut self, head: &str, message: &[u8]) -> io::Result<()> {
        self.out.write_all(head.as_bytes())?;
        self.out.write_all(message)?;
        self.out.write_all(SEPARATOR)
    }
}

/// Notes what only an [`Entry`] holds.
pub(super) fn note_lost(entry: &Entry, notes: &mut Notes) {
    let has = |is: fn(&What) -> bool| entry.events.iter().any(|event| is(&event.what));
    notes.add_if(has(|what| matches!(what, What::Trailers(..))), "trailers are left out");
    notes.add_if(has(|what| matches!(what, What::Reset(..))), "resets and cancellations are left out");
    let is_interim = |what: &What| matches!(what, What::Response(head) if (100..200).contains(&head.status) && head.status != 101);
    notes.add_if(has(is_interim), "interim answers (1xx) are left out");
    for side in [Side::Request, Side::Response] {
        let pieces =
            entry.events.iter().filter(|event| matches!(&event.what, What::Data(of, _) if *of == side));
        if pieces.count() > 1 {
            notes.add("content that came in pieces is written as a whole, without their times");
            break;
        }
    }
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(request) = http1::write_request(entry) else {
            self.notes.add("exchanges without a request's head that HTTP/1.1 could have are left out");
            return Ok(());
        };
        let response = http1::write_response(entry);
        let holds = |message: &[u8]| memchr::memmem::find(message, SEPARATOR).is_some();
        if holds(&request) || response.as_deref().is_some_and(holds) {
            self.notes.add("exchanges that hold the separator of .gor are left out");
            return Ok(());
        }
        note_lost(entry, &mut self.notes);
        self.notes.add_if(entry.is_tunnel(), "WebSockets: only the handshake is written");
        self.notes.add_if(
            entry.version == Version::Http2,
            "HTTP/2 is written as HTTP/1.1: streams of a connection are not kept together",
        );
        self.notes.add_if(entry.is_tls, "whether TLS was used is left out");
        self.notes.add_if(
            !entry.is_whole(),
            "truncated content is written as far as it was recorded, with its whole length in content-length",
        );
        self.notes.add(
            "context (account, route, trace, times of the upstream) is left out but for what headers say",
        );
        self.count += 1;
        let id = format!(
            "{:08x}{:016x}",
            entry.connection as u32,
            if entry.sequence > 0 { entry.sequence } else { self.count }
        );
        let of_request = |event: &&crate::record::Event| matches!(event.what, What::End(Side::Request));
        let sent_ns = entry.events.iter().find(of_request).map_or(0, |event| event.at_ns);
        self.record(&format!("1 {id} {} {sent_ns}\n", entry.started_ns), &request)?;
        if let Some(response) = response {
            let first_ns = entry.first_byte_ns.min(entry.duration_ns);
            let at_ns = entry.started_ns.saturating_add(first_ns);
            self.record(&format!("2 {id} {at_ns} {}\n", entry.duration_ns - first_ns), &response)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        self.out.flush()?;
        Ok(self.notes)
    }
}

const _: () = assert!(ENTRY_BYTES_MAX < RECORD_BYTES_MAX);
