//! Either side of an HTTP/2 connection.
//!
//! The peer answers SETTINGS and PING and gives credit for what it reads unless told otherwise; everything else is
//! the test's. What the other side sends is kept for each stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use crate::PATIENCE;
use crate::frames::*;
use crate::hpack::{Decoder, Pair};
use crate::wire::{Fault, Wire};

/// What came on one stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The fields of the first header block that is no interim answer; pseudo-header fields included.
    pub fields: Vec<Pair>,
    /// The statuses of interim answers.
    pub interim: Vec<u16>,
    /// Content.
    pub body: Vec<u8>,
    /// Content bytes, also where `body` is not kept.
    pub body_bytes: u64,
    /// Trailer fields.
    pub trailers: Vec<Pair>,
    /// The other side ended it.
    pub is_ended: bool,
    /// The other side reset it, with this code.
    pub reset: Option<u32>,
}

impl Stream {
    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a trailer field.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The status; 0 without an answer.
    pub fn status(&self) -> u16 {
        self.get(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The content as text, for messages.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One side of an HTTP/2 connection.
#[derive(Debug)]
pub struct Peer {
    wire: Wire,
    decoder: Decoder,
    streams: BTreeMap<u32, Stream>,
    block: Option<(u32, bool, Vec<u8>)>,
    fresh: Vec<u32>,
    /// The last stream and the code of a GOAWAY that came.
    pub goaway: Option<(u32, u32)>,
    /// Whether the other side has closed.
    pub is_closed: bool,
    /// Whether credit is given for DATA that was read.
    pub gives_credit: bool,
    /// Whether SETTINGS and PING are answered.
    pub acknowledges: bool,
    /// Whether content is kept, or only counted.
    pub keeps_bodies: bool,
    /// Frames of each type that came.
    pub seen: [u32; 10],
    /// The settings that came, in order.
    pub settings: Vec<(u16, u32)>,
    /// Credit that came for the connection (key 0) and the streams.
    pub credit: BTreeMap<u32, u64>,
}

impl Peer {
    /// A client that has sent nothing yet.
    pub fn raw(address: SocketAddr) -> Self {
        Peer::over(Wire::connect(address))
    }

    /// A client that has sent the preface and empty SETTINGS.
    pub fn connect(address: SocketAddr) -> Self {
        Peer::connect_with(address, &[])
    }

    /// A client that has sent the preface and these settings.
    pub fn connect_with(address: SocketAddr, pairs: &[(u16, u32)]) -> Self {
        let mut peer = Peer::raw(address);
        peer.send([PREFACE, &settings(pairs)].concat());
        peer
    }

    /// A server: reads the preface, sends `pairs` as SETTINGS.
    ///
    /// # Errors
    /// Something other than the preface came.
    pub fn accept(wire: Wire, pairs: &[(u16, u32)]) -> Result<Self, Fault> {
        let mut peer = Peer::over(wire);
        let mut preface = Vec::new();
        peer.wire.exact(PREFACE.len() as u64, "preface", &mut preface)?;
        if preface != PREFACE {
            return Err(Fault::Violation(format!("preface {:?}", preface.escape_ascii().to_string())));
        }
        peer.send(settings(pairs));
        Ok(peer)
    }

    fn over(wire: Wire) -> Self {
        Peer {
            wire,
            decoder: Decoder::default(),
            streams: BTreeMap::new(),
            block: None,
            fresh: Vec::new(),
            goaway: None,
            is_closed: false,
            gives_credit: true,
            acknowledges: true,
            keeps_bodies: true,
            seen: [0; 10],
            settings: Vec::new(),
            credit: BTreeMap::new(),
        }
    }

    /// The connection itself.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Leaves with a reset.
    pub fn abort(self) {
        self.wire.reset();
    }

    /// Sends bytes; `false` when the other side has gone, which is no error here: its frames tell.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes.as_ref()).is_ok()
    }

    /// What came on `stream` so far.
    pub fn stream(&self, stream: u32) -> Stream {
        self.streams.get(&stream).cloned().unwrap_or_default()
    }

    /// Forgets a stream, so that long tests stay small.
    pub fn forget(&mut self, stream: u32) -> Stream {
        self.streams.remove(&stream).unwrap_or_default()
    }

    /// Reads one frame; `false` at the end of the connection.
    ///
    /// # Errors
    /// Silence, a cut frame, or one that this peer cannot read.
    pub fn step(&mut self) -> Result<bool, Fault> {
        if self.is_closed {
            return Ok(false);
        }
        let mut head = Vec::new();
        match self.wire.exact(9, "frame", &mut head) {
            Err(Fault::Cut(_)) => {
                self.is_closed = true;
                return Ok(false);
            }
            other => other?,
        }
        let length = u64::from(u32::from_be_bytes([0, head[0], head[1], head[2]]));
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = Vec::new();
        if let Err(fault) = self.wire.exact(length, "frame payload", &mut payload) {
            self.is_closed = true;
            return Err(fault);
        }
        self.take(head[3], head[4], stream, payload)?;
        Ok(true)
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: Vec<u8>) -> Result<(), Fault> {
        if let Some(count) = self.seen.get_mut(usize::from(kind)) {
            *count += 1;
        }
        match kind {
            DATA => self.take_data(flags, stream, &payload),
            HEADERS => {
                let part = unpad(flags, &payload).unwrap_or_default();
                let skip = if flags & HAS_PRIORITY != 0 { 5 } else { 0 };
                let part = part.get(skip..).unwrap_or_default().to_vec();
                self.block = Some((stream, flags & END_STREAM != 0, part));
                return self.take_block(flags);
            }
            CONTINUATION => {
                if let Some((_, _, block)) = &mut self.block {
                    block.extend_from_slice(&payload);
                }
                return self.take_block(flags);
            }
            RST_STREAM => self.streams.entry(stream).or_default().reset = Some(number(&payload)),
            SETTINGS if flags & ACK == 0 => {
                for pair in payload.chunks_exact(6) {
                    self.settings.push((u16::from_be_bytes([pair[0], pair[1]]), number(&pair[2..])));
                }
                if self.acknowledges {
                    self.send(frame(SETTINGS, ACK, 0, &[]));
                }
            }
            PING if flags & ACK == 0 && self.acknowledges => {
                self.send(frame(PING, ACK, 0, &payload));
            }
            GOAWAY => self.goaway = Some((number(&payload), number(payload.get(4..).unwrap_or_default()))),
            WINDOW_UPDATE => *self.credit.entry(stream).or_default() += u64::from(number(&payload)),
            _ => {}
        }
        Ok(())
    }

    fn take_data(&mut self, flags: u8, stream: u32, payload: &[u8]) {
        let content = unpad(flags, payload).unwrap_or_default();
        let entry = self.streams.entry(stream).or_default();
        entry.body_bytes += content.len() as u64;
        if self.keeps_bodies {
            entry.body.extend_from_slice(content);
        }
        entry.is_ended |= flags & END_STREAM != 0;
        let is_open = !entry.is_ended;
        if self.gives_credit && !payload.is_empty() {
            let increment = payload.len() as u32;
            let mut credit = window_update(0, increment);
            if is_open {
                credit.extend(window_update(stream, increment));
            }
            self.send(credit);
        }
    }

    fn take_block(&mut self, flags: u8) -> Result<(), Fault> {
        if flags & END_HEADERS == 0 {
            return Ok(());
        }
        let Some((stream, ends_stream, block)) = self.block.take() else {
            return Err(Fault::Violation("CONTINUATION without HEADERS".to_owned()));
        };
        let fields = self
            .decoder
            .decode(&block)
            .ok_or_else(|| Fault::Violation("header block cannot be decoded".to_owned()))?;
        let entry = self.streams.entry(stream).or_default();
        let status = fields.iter().find(|(name, _)| name == ":status").map(|(_, value)| value.as_str());
        match status.and_then(|status| status.parse::<u16>().ok()) {
            Some(interim @ 100..=199) => entry.interim.push(interim),
            _ if entry.fields.is_empty() => {
                entry.fields = fields;
                self.fresh.push(stream);
            }
            _ => entry.trailers = fields,
        }
        entry.is_ended |= ends_stream;
        Ok(())
    }

    /// Reads until `done` holds, or the connection ends.
    ///
    /// # Errors
    /// Silence, or what the peer cannot read.
    pub fn read_until(&mut self, done: impl Fn(&Peer) -> bool) -> Result<(), Fault> {
        let mut progress = (Instant::now(), self.news());
        while !done(self) {
            if !self.step()? {
                return Ok(());
            }
            // Frames that only keep a connection alive are no progress.
            if self.news() != progress.1 {
                progress = (Instant::now(), self.news());
            } else if progress.0.elapsed() > PATIENCE {
                return Err(Fault::Silence("frame of a stream".to_owned()));
            }
        }
        Ok(())
    }

    /// Reads until `stream` has ended or was reset, or the connection ended or is going away without it.
    ///
    /// # Errors
    /// Silence, or what the peer cannot read.
    pub fn finish(&mut self, stream: u32) -> Result<Stream, Fault> {
        self.read_until(|peer| {
            let is_over =
                peer.streams.get(&stream).is_some_and(|stream| stream.is_ended || stream.reset.is_some());
            let is_lost = peer.goaway.is_some_and(|(last, code)| code != code::NO_ERROR || last < stream);
            is_over || is_lost
        })?;
        Ok(self.stream(stream))
    }

    /// How many frames came that say something of a stream or of the end.
    fn news(&self) -> u32 {
        [DATA, HEADERS, RST_STREAM, GOAWAY].iter().map(|&kind| self.seen[usize::from(kind)]).sum()
    }

    /// Sends a request without content on `stream` and reads its answer.
    ///
    /// # Errors
    /// As [`Peer::finish`].
    pub fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) -> Result<Stream, Fault> {
        self.send(headers(stream, fields, true));
        self.finish(stream)
    }

    /// Reads until the head of another message has come: the number of its stream; `None` at the end.
    ///
    /// # Errors
    /// Silence, or what the peer cannot read.
    pub fn next_head(&mut self) -> Result<Option<u32>, Fault> {
        while self.fresh.is_empty() {
            if !self.step()? {
                return Ok(None);
            }
        }
        Ok(Some(self.fresh.remove(0)))
    }
}

fn number(bytes: &[u8]) -> u32 {
    let four = bytes.get(..4).and_then(|four| four.try_into().ok()).unwrap_or_default();
    u32::from_be_bytes(four) & 0x7fff_ffff
}

fn unpad(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & PADDED == 0 {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}
