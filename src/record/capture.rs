//! A worker's side: what passes is written into a buffer, and the buffer is handed over when the exchange ends.
//!
//! Position: a [`Tap`] of the exchange, so it hears what the client sent and got. It writes events as they will lie in the
//! file; nothing is decided by it that a thread of its own could decide. How it fails: an exchange whose memory is not
//! granted, or that does not fit into the queue, is left out as a whole, and counted; the exchange itself does not notice.

use super::books::{Counts, Reason};
use super::entry::{Side, number as n, outcome_code, put_field, version_code};
use super::rules::{Rules, Verdict};
use super::wire;
use crate::context::RequestType;
use crate::error::Kind;
use crate::exchange::{Connection, Direction, Phase, Record, Recorded, Tap};
use crate::svc::fields::Span;
use crate::svc::{Fields, RequestHead, ResponseHead};
use arc_swap::ArcSwap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, UNIX_EPOCH};
use twox_hash::xxhash3_64::Hasher;

/// Memory is granted in steps: one for most exchanges.
const GRANT_BYTES: usize = 8 << 10;
/// Content that is kept beyond this is handed over in parts, where there is no lower limit.
const PART_BYTES: usize = 1 << 20;

/// What may come on top of a part before it is handed over: a piece of content as a codec reads it.
const PART_SLACK_BYTES: usize = 128 << 10;

/// How much memory of exchanges waits for the next ones, and how large a buffer may be: what most exchanges need. The
/// thread takes what a worker has in some milliseconds in one go.
const SPARES_MAX: usize = 256;
pub(super) const SPARE_BYTES_MAX: usize = 2 * GRANT_BYTES;

/// Memory of exchanges, for the next ones.
#[allow(clippy::vec_box, reason = "a box goes into the queue and comes back as it is")]
pub(super) type Spares = Vec<Box<Finished>>;

/// What the recorder and its workers share.
pub struct Shared {
    /// Whether anything is recorded: what an exchange pays while nothing is.
    pub(super) is_on: AtomicBool,
    /// What is.
    pub(super) rules: ArcSwap<Rules>,
    /// What became of all.
    pub(super) counts: Counts,
    /// Bytes that are granted.
    pub(super) granted: AtomicUsize,
    /// Bytes that may be.
    pub(super) memory_bytes_max: AtomicUsize,
    /// Captures and parts in the queue.
    pub(super) queued: AtomicUsize,
    next_token: AtomicU64,
    /// To the recorder's thread; empty until something is to be recorded for the first time.
    pub(super) queue: OnceLock<SyncSender<Message>>,
    /// Seeds the sums of content.
    pub(super) seed: AtomicU64,
    /// Buffers that the recorder is done with, for the next exchanges.
    pub(super) spares: Mutex<Spares>,
}

impl Shared {
    pub(super) fn new(rules: Rules, memory_bytes_max: usize) -> Shared {
        Shared {
            is_on: AtomicBool::new(rules.is_on()),
            rules: ArcSwap::from_pointee(rules),
            counts: Counts::default(),
            granted: AtomicUsize::new(0),
            memory_bytes_max: AtomicUsize::new(memory_bytes_max),
            queued: AtomicUsize::new(0),
            next_token: AtomicU64::new(1),
            queue: OnceLock::new(),
            seed: AtomicU64::new(0),
            spares: Mutex::default(),
        }
    }

    /// Memory of an exchange that is written: an empty buffer with room in it. Never waits.
    fn spare(&self) -> Option<Box<Finished>> {
        self.spares.try_lock().ok().and_then(|mut spares| spares.pop())
    }

    /// Gives back memory; what is too much is freed.
    pub(super) fn keep_spares(&self, spares: &mut Spares) {
        if let Ok(mut kept) = self.spares.try_lock() {
            let room = SPARES_MAX.saturating_sub(kept.len()).min(spares.len());
            kept.extend(spares.drain(..room));
        }
        spares.clear();
    }

    fn grant(&self, bytes: usize) -> bool {
        let before = self.granted.fetch_add(bytes, Ordering::Relaxed);
        let is_granted = before + bytes <= self.memory_bytes_max.load(Ordering::Relaxed);
        if !is_granted {
            self.granted.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_granted
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.granted.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Makes captures: one for each worker.
#[derive(Clone)]
pub struct Taps {
    shared: Arc<Shared>,
}

/// What the recorder's thread is sent.
pub(super) enum Message {
    /// An exchange that ended.
    Exchange(Box<Finished>),
    /// A part of one that goes on.
    Part(Box<Finished>),
    /// Something else to do.
    Do(super::recorder::Command),
}

/// An exchange, or a part of one, on its way to the disk.
pub(super) struct Finished {
    /// Its message, without what the thread adds.
    pub(super) bytes: Vec<u8>,
    /// How much memory was granted for it.
    pub(super) granted: usize,
    /// When it began, nanoseconds since 1970.
    pub(super) started_ns: u64,
    /// When it came into the queue.
    pub(super) at: Instant,
    pub(super) trace_id: [u8; 16],
    /// In `bytes`.
    pub(super) account_id: Span,
    pub(super) user_id: Span,
    pub(super) route: Span,
    /// Behind this no text follows.
    pub(super) texts_end: usize,
    /// Of its parts; 0 if it has none.
    pub(super) token: u64,
    /// Request and answer.
    pub(super) contents: [Sum; 2],
    /// Whether a rule wants it; otherwise only the flight recorder does.
    pub(super) is_wanted: bool,
    /// Why the flight recorder is to be written out, if it is.
    pub(super) trigger: Option<&'static str>,
}

/// What is known of the content of one side.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// `None`: all of it is in the buffer, and the thread sums it.
    pub(super) hash: Option<u64>,
    pub(super) is_truncated: bool,
    /// Where it is in the buffer, if it is in one piece.
    pub(super) place: Option<Span>,
    /// In how many pieces it is kept.
    pub(super) pieces: u32,
}

impl Taps {
    pub(super) fn new(shared: Arc<Shared>) -> Taps {
        Taps { shared }
    }

    /// A tap for an exchange that begins now, if anything is recorded.
    #[inline]
    pub fn begin(&self, connection: &Connection) -> Option<Box<dyn Tap>> {
        if !self.shared.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let rules = self.shared.rules.load_full();
        let body_bytes_max = rules.body_bytes_max();
        Some(Box::new(Capture {
            taps: self.clone(),
            rules,
            buffer: Vec::new(),
            spare: None,
            granted: 0,
            connection: connection.serial.number(),
            stream: connection.serial.exchanges(),
            state: State::Undecided,
            sampled_millionths: 1_000_000,
            body_bytes_max,
            sides: Default::default(),
            token: 0,
            parts: 0,
            last_ns: 0,
            heads: Default::default(),
            repeated: Vec::new(),
        }))
    }
}

/// What is to become of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its route is not known.
    Undecided,
    /// A rule wants it.
    Wanted,
    /// Only the flight recorder wants it.
    Flight,
    /// It is not kept.
    Out(Out),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    Sampled,
    Filtered,
    Dropped(Reason),
}

#[derive(Default)]
struct Content {
    bytes: u64,
    kept: u64,
    hasher: Option<Box<Hasher>>,
    /// Where the last piece is in the buffer, and how many there were.
    last: Span,
    pieces: u32,
}

/// Where something of an exchange is in its message.
#[derive(Default)]
struct Facts {
    account_id: Span,
    user_id: Span,
    route: Span,
    texts_end: usize,
}

/// One exchange.
struct Capture {
    taps: Taps,
    rules: Arc<Rules>,
    buffer: Vec<u8>,
    /// Where the message for the thread is put.
    spare: Option<Box<Finished>>,
    granted: usize,
    connection: u64,
    stream: u64,
    state: State,
    sampled_millionths: u32,
    body_bytes_max: u64,
    sides: [Content; 2],
    token: u64,
    parts: u32,
    /// When the last head of an answer or piece of content came.
    last_ns: u64,
    /// Where the heads of request and answer are in the buffer; empty: not there.
    heads: [Range<usize>; 2],
    /// The heads that went with a part: the entry has them again, so that it can be told without its parts.
    repeated: Vec<u8>,
}

fn since(record: &Record) -> u64 {
    u64::try_from(record.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Begins an event.
fn event(out: &mut Vec<u8>, at_ns: u64, kind: u64, side: Side) -> usize {
    let start = wire::begin(out, n::EVENT);
    wire::put_number(out, n::AT, at_ns);
    wire::put_number(out, n::KIND, kind);
    wire::put_number(out, n::SIDE, u64::from(side == Side::Response));
    start
}

impl Capture {
    fn shared(&self) -> &Shared {
        &self.taps.shared
    }

    fn is_out(&self) -> bool {
        matches!(self.state, State::Out(_))
    }

    /// Makes room for so many bytes more; `false`: it is left out now.
    fn reserve(&mut self, bytes: usize) -> bool {
        let needed = self.buffer.len() + bytes;
        if needed > self.granted {
            let more = (needed - self.granted).next_multiple_of(GRANT_BYTES);
            // Twice as much as before, as vectors grow: what is granted is what is allocated. Where a part went, another one comes.
            let doubled = match self.parts {
                0 => more.max(self.granted.min(PART_BYTES)),
                _ if self.granted == 0 => more.max(PART_BYTES + PART_SLACK_BYTES),
                _ => more,
            };
            let more = match self.shared().grant(doubled) {
                true => doubled,
                false if doubled > more && self.shared().grant(more) => more,
                false => {
                    self.leave(Out::Dropped(Reason::QueueFull));
                    return false;
                }
            };
            self.granted += more;
            if self.buffer.capacity() == 0 && self.granted <= SPARE_BYTES_MAX {
                self.spare = self.shared().spare();
                self.buffer =
                    self.spare.as_mut().map(|spare| std::mem::take(&mut spare.bytes)).unwrap_or_default();
            }
            self.buffer.reserve_exact(self.granted - self.buffer.len());
        }
        true
    }

    fn leave(&mut self, why: Out) {
        self.state = State::Out(why);
        self.buffer = Vec::new();
        self.shared().give_back(self.granted);
        self.granted = 0;
        self.sides.iter_mut().for_each(|side| side.hasher = None);
    }

    /// Asks the rules, once the route is known.
    fn decide(&mut self, record: &Record) {
        if self.state != State::Undecided {
            return;
        }
        match self.rules.judge(record, false) {
            Verdict::Wanted { body_bytes_max, sampled_millionths } => {
                self.state = State::Wanted;
                self.sampled_millionths = sampled_millionths;
                self.body_bytes_max = body_bytes_max;
            }
            _ if self.rules.flight.is_some() => {
                self.state = State::Flight;
                self.body_bytes_max = self.body_bytes_max.min(PART_BYTES as u64);
            }
            Verdict::SampledOut => self.leave(Out::Sampled),
            Verdict::Filtered => self.leave(Out::Filtered),
        }
    }

    fn side(&mut self, side: Side) -> &mut Content {
        let [request, response] = &mut self.sides;
        match side {
            Side::Request => request,
            Side::Response => response,
        }
    }

    /// From now on content is summed as it passes: what was kept of it first.
    fn begin_sum(&mut self, side: Side) {
        let mut hasher = Box::new(Hasher::with_seed(self.shared().seed.load(Ordering::Relaxed)));
        each_data(&self.buffer, |of, data| {
            if of == side {
                std::hash::Hasher::write(&mut *hasher, data);
            }
        });
        self.side(side).hasher = Some(hasher);
    }

    fn fields(&mut self, fields: &Fields) {
        for (name, value, _) in fields.iter() {
            put_field(&mut self.buffer, name, value);
        }
    }

    /// Hands over what is in the buffer, as a part.
    fn part(&mut self, record: &Record) {
        if self.token == 0 {
            self.token = self.shared().next_token.fetch_add(1, Ordering::Relaxed);
        }
        for side in [Side::Request, Side::Response] {
            if self.side(side).hasher.is_none() {
                self.begin_sum(side);
            }
        }
        for head in &mut self.heads {
            self.repeated.extend_from_slice(self.buffer.get(std::mem::take(head)).unwrap_or_default());
        }
        self.parts += 1;
        let (token, parts) = (self.token, self.parts);
        wire::put_number(&mut self.buffer, n::TOKEN, token);
        wire::put_number(&mut self.buffer, n::PARTS, parts.into());
        let part = self.finished(record, Instant::now(), Facts::default());
        if !self.taps.send(Message::Part(part)) {
            self.leave(Out::Dropped(Reason::QueueFull));
        }
    }

    /// What is in the buffer, to be handed over.
    fn finished(&mut self, record: &Record, at: Instant, facts: Facts) -> Box<Finished> {
        let started = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let Facts { account_id, user_id, route, texts_end } = facts;
        let finished = Finished {
            bytes: std::mem::take(&mut self.buffer),
            granted: std::mem::take(&mut self.granted),
            started_ns: u64::try_from(started.as_nanos()).unwrap_or(u64::MAX),
            at,
            trace_id: record.trace.trace_id,
            account_id,
            user_id,
            route,
            texts_end,
            token: self.token,
            contents: Default::default(),
            is_wanted: self.state != State::Flight,
            trigger: None,
        };
        match self.spare.take() {
            Some(mut spare) => {
                *spare = finished;
                spare
            }
            None => Box::new(finished),
        }
    }

    /// Everything that is known at the end. What is alike in most exchanges stands together, then what is not: so a
    /// compressor finds one long match instead of many short ones.
    fn facts(&mut self, record: &Record) -> Facts {
        let out = &mut self.buffer;
        let mut placed = |number, text: &[u8]| {
            wire::put_bytes(out, number, text);
            Span::new(out.len() - text.len(), text.len())
        };
        placed(n::REQUEST_ID, record.text(record.request_id));
        let account_id = placed(n::ACCOUNT_ID, record.text(record.account_id));
        let user_id = placed(n::USER_ID, record.text(record.user_id));
        let route = placed(n::ROUTE, record.route.as_deref().unwrap_or_default().as_bytes());
        placed(n::IDENTITY, record.identity.as_deref().unwrap_or_default().as_bytes());
        placed(n::LICENSE, record.text(record.license));
        placed(n::FLAGS, record.text(record.flags));
        if record.request_type == RequestType::Trace {
            placed(n::REQUEST_TYPE, b"TRACE");
        }
        placed(n::CAUSE, record.cause.map_or("", |kind| kind.answer().cause).as_bytes());
        placed(n::CLUSTER, record.cluster.as_deref().unwrap_or_default().as_bytes());
        placed(n::ENDPOINT, record.endpoint.as_deref().unwrap_or_default().as_bytes());
        // The tag of a number may look like a letter, so there is no text from here on.
        let texts_end = out.len();
        wire::put_number(out, n::DIRECTION, u64::from(record.direction == Direction::Outbound));
        wire::put_number(out, n::VERSION, version_code(record.version));
        wire::put_number(out, n::TLS, u64::from(record.is_tls));
        wire::put_number(out, n::ATTEMPTS, record.attempts.into());
        wire::put_number(out, n::STATUS, record.status.into());
        wire::put_number(out, n::GRPC_STATUS, record.grpc_status.map_or(0, |status| u64::from(status) + 1));
        wire::put_number(out, n::OUTCOME, outcome_code(record.outcome()));
        wire::put_number(out, n::SAMPLED, self.sampled_millionths.into());
        wire::put_number(out, n::TOKEN, self.token);
        wire::put_number(out, n::PARTS, self.parts.into());
        if let Some(peer) = record.peer {
            put_address(out, peer);
        }
        if record.trace.trace_id != [0; 16] {
            wire::put_bytes(out, n::TRACE_ID, &record.trace.trace_id);
        }
        wire::put_bytes(out, n::PARENT_ID, record.parent_id.as_ref().map_or(&[], |id| id.as_slice()));
        if record.trace.trace_id != [0; 16] {
            wire::put_bytes(out, n::SPAN_ID, &record.trace.parent_id);
        }
        wire::put_number(out, n::CONNECTION, self.connection);
        wire::put_number(out, n::STREAM, self.stream);
        let started = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        wire::put_fixed(out, n::STARTED, started.as_nanos() as u64);
        wire::put_number(out, n::DURATION, record.duration.as_nanos() as u64);
        wire::put_number(
            out,
            n::FIRST_BYTE,
            record.upstream_first_byte.map_or(0, |time| time.as_nanos() as u64),
        );
        Facts { account_id, user_id, route, texts_end }
    }
}

/// The peer, packed: 4 or 16 bytes of address, 2 of port.
fn put_address(out: &mut Vec<u8>, peer: SocketAddr) {
    let mut packed = [0; 18];
    let len = match peer.ip() {
        IpAddr::V4(ip) => {
            packed[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            packed[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    packed[len..len + 2].copy_from_slice(&peer.port().to_be_bytes());
    wire::put_bytes(out, n::PEER_ADDRESS, &packed[..len + 2]);
}

/// Calls `see` with every piece of content in a message.
pub(super) fn each_data<'a>(message: &'a [u8], mut see: impl FnMut(Side, &'a [u8])) {
    for (number, value) in wire::Fields::new(message).flatten() {
        if number != n::EVENT {
            continue;
        }
        let (mut side, mut data) = (Side::Request, None);
        for (number, value) in wire::Fields::new(value.bytes()).flatten() {
            match number {
                n::KIND if value.number() != n::KIND_DATA => break,
                n::SIDE if value.number() == 1 => side = Side::Response,
                n::DATA => data = Some(value.bytes()),
                _ => {}
            }
        }
        if let Some(data) = data {
            see(side, data);
        }
    }
}

impl Taps {
    fn send(&self, message: Message) -> bool {
        let Some(queue) = self.shared.queue.get() else { return false };
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        match queue.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                self.shared.queued.fetch_sub(1, Ordering::AcqRel);
                if let Message::Exchange(finished) | Message::Part(finished) = message {
                    self.shared.give_back(finished.granted);
                }
                false
            }
        }
    }
}

impl Tap for Capture {
    fn request(&mut self, _record: &Record, head: &RequestHead) {
        // A head that could not be read is none.
        if head.path().is_empty() || !self.reserve(head.fields.buffer().len() + 1024) {
            return;
        }
        let out = &mut self.buffer;
        let from = out.len();
        let start = event(out, 0, n::KIND_REQUEST, Side::Request);
        wire::put_bytes(out, n::METHOD, head.method_bytes());
        wire::put_bytes(out, n::SCHEME, head.scheme.as_str().as_bytes());
        wire::put_bytes(out, n::AUTHORITY, head.authority());
        match head.query() {
            None => wire::put_bytes(out, n::TARGET, head.path()),
            Some(query) => {
                wire::put_varint(out, u64::from(n::TARGET << 3 | 2));
                wire::put_varint(out, (head.path().len() + 1 + query.len()) as u64);
                out.extend_from_slice(head.path());
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        wire::put_bytes(out, n::UPGRADE, head.upgrade().unwrap_or_default());
        self.fields(&head.fields);
        wire::end(&mut self.buffer, start);
        let [request, _] = &mut self.heads;
        *request = from..self.buffer.len();
    }

    fn response(&mut self, record: &Record, head: &ResponseHead) {
        self.decide(record);
        if self.is_out() || !self.reserve(head.fields.buffer().len() + 1024) {
            return;
        }
        let from = self.buffer.len();
        // Where nothing was written since the answer came, that is the time, and no clock is asked.
        let answered = record.upstream_first_byte.filter(|_| record.cause.is_none() && head.status >= 200);
        let answered = answered.map(|time| time.as_nanos() as u64).filter(|at| *at >= self.last_ns);
        let at = answered.unwrap_or_else(|| since(record));
        self.last_ns = at;
        let start = event(&mut self.buffer, at, n::KIND_RESPONSE, Side::Response);
        wire::put_number(&mut self.buffer, n::HEAD_STATUS, head.status.into());
        self.fields(&head.fields);
        wire::end(&mut self.buffer, start);
        if head.status >= 200 || head.status == 101 {
            let [_, response] = &mut self.heads;
            *response = from..self.buffer.len();
        }
    }

    fn data(&mut self, record: &Record, side: Side, data: &[u8]) {
        self.decide(record);
        if self.is_out() || data.is_empty() {
            return;
        }
        let max = self.body_bytes_max;
        let content = self.side(side);
        let room = usize::try_from(max.saturating_sub(content.kept)).unwrap_or(usize::MAX);
        let kept = data.get(..room).unwrap_or(data);
        let is_cut = kept.len() < data.len();
        if is_cut && content.hasher.is_none() {
            self.begin_sum(side);
        }
        let content = self.side(side);
        content.bytes += data.len() as u64;
        content.kept += kept.len() as u64;
        if let Some(hasher) = &mut content.hasher {
            std::hash::Hasher::write(&mut **hasher, data);
        }
        if kept.is_empty() || !self.reserve(kept.len() + 64) {
            return;
        }
        self.last_ns = since(record);
        let start = event(&mut self.buffer, self.last_ns, n::KIND_DATA, side);
        wire::put_bytes(&mut self.buffer, n::DATA, kept);
        wire::end(&mut self.buffer, start);
        let last = Span::new(self.buffer.len() - kept.len(), kept.len());
        let content = self.side(side);
        (content.last, content.pieces) = (last, content.pieces.saturating_add(1));
        if self.buffer.len() >= PART_BYTES && self.body_bytes_max > PART_BYTES as u64 {
            self.part(record);
        }
    }

    fn trailers(&mut self, record: &Record, side: Side, fields: &Fields) {
        self.decide(record);
        if self.is_out() || !self.reserve(fields.buffer().len() + 512) {
            return;
        }
        let start = event(&mut self.buffer, since(record), n::KIND_TRAILERS, side);
        self.fields(fields);
        wire::end(&mut self.buffer, start);
    }

    fn end(mut self: Box<Self>, record: &mut Record) {
        if record.is_opaque {
            return; // bytes, not HTTP
        }
        self.shared().counts.see();
        self.decide(record);
        let is_open = self.state == State::Wanted && self.rules.depend_on_the_end();
        if is_open && !matches!(self.rules.judge(record, true), Verdict::Wanted { .. }) {
            match self.rules.flight {
                Some(_) => self.state = State::Flight,
                None => self.leave(Out::Filtered),
            }
        }
        if !self.is_out() && self.reserve(record.text.len() + self.repeated.len() + 512) {
            self.buffer.splice(0..0, std::mem::take(&mut self.repeated));
            if let Some(cause) = record.cause
                && record.phase != Phase::Done
            {
                let side = if cause == Kind::ClientGone { Side::Request } else { Side::Response };
                let start = event(&mut self.buffer, record.duration.as_nanos() as u64, n::KIND_RESET, side);
                wire::put_bytes(&mut self.buffer, n::RESET_CAUSE, cause.answer().cause.as_bytes());
                wire::end(&mut self.buffer, start);
            }
            let facts = self.facts(record);
            let mut finished = self.finished(record, (record.started + record.duration).into(), facts);
            for (sum, content) in finished.contents.iter_mut().zip(&self.sides) {
                let hash = content.hasher.as_deref().map(std::hash::Hasher::finish);
                let place = (content.pieces == 1 && self.parts == 0).then_some(content.last);
                let is_truncated = content.kept < content.bytes;
                *sum = Sum { bytes: content.bytes, hash, is_truncated, place, pieces: content.pieces };
            }
            if let Some(flight) = &self.rules.flight {
                let is_error = record.cause.is_some() || record.status >= 500;
                let is_slow = flight.slower_than.is_some_and(|time| record.duration >= time);
                finished.trigger = match (flight.on_error && is_error, is_slow) {
                    (true, _) => Some("error"),
                    (_, true) => Some("slow"),
                    _ => None,
                };
            }
            let is_wanted = finished.is_wanted || finished.trigger.is_some();
            if self.taps.send(Message::Exchange(finished)) {
                record.recorded = is_wanted.then_some(Recorded::Kept);
                return;
            }
            self.state = State::Out(Out::Dropped(Reason::QueueFull));
        }
        let counts = &self.shared().counts;
        match self.state {
            State::Out(Out::Sampled) => counts.sample_out(),
            State::Out(Out::Dropped(reason)) => {
                counts.drop(reason, 1);
                record.recorded = Some(Recorded::Dropped);
            }
            _ => counts.filter(1),
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.granted > 0 {
            self.taps.shared.give_back(self.granted);
        }
    }
}
