//! A collector of HTTP/1.1 whose mood changes: what it does with a request.

use super::{LONG, patiently};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What the other side does with a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    /// Takes everything.
    Take,
    /// Reads the request and never answers.
    Hang,
    /// Answers with this status, and a number of seconds in `Retry-After`.
    Refuse(u16, Option<u32>),
    /// Answers with something that is no HTTP.
    Babble,
    /// Answers 400 if the request has this text.
    Gag(&'static str),
}

struct Shared {
    mood: Mutex<Mood>,
    /// What was taken.
    bodies: Mutex<Vec<Vec<u8>>>,
    /// Requests that were met with the present mood.
    met: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// A collector of HTTP/1.1, whose mood changes.
pub struct Collector {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

impl Collector {
    pub fn start(mood: Mood) -> Collector {
        Collector::at("127.0.0.1:0".parse().expect("an address"), mood)
    }

    pub fn at(address: SocketAddr, mood: Mood) -> Collector {
        let listener = TcpListener::bind(address).expect("bind on loopback");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            bodies: Mutex::default(),
            met: AtomicUsize::new(0),
            open: Mutex::default(),
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&all);
                shared.open.lock().expect("the lock").push(stream.try_clone().expect("a socket"));
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Collector { address, shared }
    }

    /// Another mood, once the present one was met so often. Those that wait for an answer are hung up on.
    pub fn turn(&self, met: usize, mood: Mood) {
        let before = *self.shared.mood.lock().expect("the lock");
        patiently(&format!("{met} requests to be met with {before:?}"), LONG, || {
            (self.shared.met.load(Ordering::SeqCst) >= met).then_some(())
        });
        *self.shared.mood.lock().expect("the lock") = mood;
        self.shared.met.store(0, Ordering::SeqCst);
        for stream in self.shared.open.lock().expect("the lock").drain(..) {
            // One that is closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Requests that were met with the present mood.
    pub fn met(&self) -> usize {
        self.shared.met.load(Ordering::SeqCst)
    }

    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.shared.bodies.lock().expect("the lock").clone()
    }

    /// The events in what was taken, as Splunk's collector is sent them.
    pub fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for body in self.bodies() {
            let objects = serde_json::Deserializer::from_slice(&body).into_iter::<Value>();
            all.extend(objects.map(|object| object.expect("whole objects")["event"].take()));
        }
        all
    }
}

fn serve(shared: &Shared, stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut is_head = true;
        while is_head {
            let mut line = String::new();
            if !matches!(reader.read_line(&mut line), Ok(bytes) if bytes > 0) {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            is_head = line != "\r\n";
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let mood = *shared.mood.lock().expect("the lock");
        let has = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
        let answer = match mood {
            Mood::Take => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"code\":0}".to_owned(),
            Mood::Hang => String::new(),
            Mood::Refuse(status, after) => {
                let after = after.map_or(String::new(), |seconds| format!("Retry-After: {seconds}\r\n"));
                format!("HTTP/1.1 {status} No\r\n{after}Content-Length: 6\r\n\r\nnot me")
            }
            Mood::Babble => "\u{1}\u{2}SSH-2.0-nonsense\r\n\r\n\r\n".to_owned(),
            Mood::Gag(text) if has(text) => {
                "HTTP/1.1 400 No\r\nContent-Length: 9\r\n\r\nmalformed".to_owned()
            }
            Mood::Gag(_) => "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        let is_taken = matches!(mood, Mood::Take | Mood::Gag(_)) && !answer.contains("400");
        if is_taken {
            shared.bodies.lock().expect("the lock").push(body);
        }
        shared.met.fetch_add(1, Ordering::SeqCst);
        if mood == Mood::Hang {
            // Until somebody closes it.
            let _ = reader.read(&mut [0]);
            return;
        }
        if reader.get_mut().write_all(answer.as_bytes()).is_err() || mood == Mood::Babble {
            return;
        }
    }
}
