//! A forward server by script: it reads what it is sent as any MessagePack reader does, and answers what a test wants.

use crate::pipeline::sinks::kit::PATIENCE;
use rmp_serde::decode::Error;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{Cursor, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// Bytes, however they are spelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[derive(serde::Deserialize)]
#[serde(rename = "_ExtStruct")]
struct Extension((i8, Blob));

#[derive(serde::Deserialize)]
struct Options {
    size: usize,
    chunk: Option<String>,
}

/// One message, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    pub(super) tag: String,
    pub(super) chunk: Option<String>,
    /// Seconds, nanoseconds, record.
    pub(super) entries: Vec<(u32, u32, Value)>,
}

impl Message {
    /// The numbers in the ids of its events.
    pub(super) fn sequences(&self) -> Vec<u64> {
        self.entries.iter().map(|(_, _, record)| record["id"]["sequence"].as_u64().unwrap()).collect()
    }

    fn read((tag, Blob(bytes), options): (String, Blob, Options)) -> Message {
        let mut cursor = Cursor::new(bytes.as_slice());
        let mut entries = Vec::new();
        while usize::try_from(cursor.position()).unwrap() < bytes.len() {
            let (Extension((kind, Blob(time))), record): (Extension, Value) =
                rmp_serde::from_read(&mut cursor).unwrap();
            assert_eq!((kind, time.len()), (0, 8), "EventTime");
            let half = |range: std::ops::Range<usize>| u32::from_be_bytes(time[range].try_into().unwrap());
            entries.push((half(0..4), half(4..8), record));
        }
        assert_eq!(entries.len(), options.size);
        Message { tag, chunk: options.chunk, entries }
    }
}

/// The server's end of a connection.
pub(super) struct End<S> {
    stream: S,
    unread: Vec<u8>,
}

impl<S: Read + Write> End<S> {
    pub(super) fn new(stream: S) -> End<S> {
        End { stream, unread: Vec::new() }
    }

    /// The next value; `None`: the client is gone.
    pub(super) fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Option<T> {
        loop {
            let mut cursor = Cursor::new(self.unread.as_slice());
            match rmp_serde::from_read(&mut cursor) {
                Ok(value) => {
                    let len = usize::try_from(cursor.position()).unwrap();
                    self.unread.drain(..len);
                    return Some(value);
                }
                Err(Error::InvalidMarkerRead(error) | Error::InvalidDataRead(error))
                    if error.kind() == ErrorKind::UnexpectedEof => {}
                Err(error) => panic!("{error}"),
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.unread.extend_from_slice(&bytes[..len]),
            }
        }
    }

    pub(super) fn message(&mut self) -> Option<Message> {
        self.next().map(Message::read)
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    pub(super) fn say(&mut self, value: &impl serde::Serialize) {
        self.send(&rmp_serde::to_vec(value).unwrap());
    }

    pub(super) fn ack(&mut self, message: &Message) {
        self.say(&serde_json::json!({ "ack": message.chunk }));
    }

    /// Acknowledges everything, until the client is gone.
    pub(super) fn ack_all(&mut self, told: &Sender<Message>) {
        while let Some(message) = self.message() {
            if message.chunk.is_some() {
                self.ack(&message);
            }
            let _ = told.send(message);
        }
    }
}

/// A server: each connection is treated by the script, which knows how many there were before.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    told: Receiver<Message>,
}

impl Server {
    pub(super) fn start(script: impl Fn(usize, TcpStream, &Sender<Message>) + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, told) = channel();
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                script(index, stream, &tell);
            }
        });
        Server { address, told }
    }

    /// One that acknowledges everything.
    pub(super) fn good() -> Server {
        Server::start(|_, stream, told| End::new(stream).ack_all(told))
    }

    /// The next message that it was sent.
    #[track_caller]
    pub(super) fn next(&self) -> Message {
        self.told.recv_timeout(PATIENCE).expect("a message")
    }

    /// Whether it has nothing more to tell.
    pub(super) fn is_done(&self) -> bool {
        self.told.try_recv().is_err()
    }
}
