//! A NATS server by script (<https://docs.nats.io/reference/reference-protocols/nats-protocol>): it speaks as much of the
//! protocol as a publisher sees, and answers what is published as a stream does, or as a test wants.

use crate::pipeline::sinks::kit::PATIENCE;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// What was published.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Published {
    pub(super) subject: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) payload: String,
}

impl Published {
    /// The number at the end of its message id.
    pub(super) fn sequence(&self) -> u64 {
        self.headers["Nats-Msg-Id"].rsplit('-').next().unwrap().parse().unwrap()
    }
}

/// What a server does with something that was published.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// Acknowledge it.
    Ack,
    /// Answer this.
    Answer(&'static str),
    /// Say that nobody takes the subject.
    NoResponders,
    /// Nothing.
    Silence,
    /// Close the connection.
    Close,
}

/// Decides by the connection's number and what was published.
pub(super) type Script = dyn Fn(usize, &Published) -> Deed + Send + Sync;

/// A server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    published: Receiver<Published>,
    connects: Arc<Mutex<Vec<serde_json::Value>>>,
}

impl Server {
    pub(super) fn start(script: impl Fn(usize, &Published) -> Deed + Send + Sync + 'static) -> Server {
        Server::with_info("", script)
    }

    /// With more members in its INFO: `,"max_payload":100`.
    pub(super) fn with_info(
        info: &'static str,
        script: impl Fn(usize, &Published) -> Deed + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, published) = channel();
        let (script, connects): (Arc<Script>, Arc<Mutex<Vec<_>>>) = (Arc::new(script), Arc::default());
        let noted = connects.clone();
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let (script, tell, noted) = (script.clone(), tell.clone(), noted.clone());
                thread::spawn(move || {
                    let max = if info.contains("max_payload") { "" } else { r#","max_payload":1048576"# };
                    let info = format!(
                        r#"{{"server_id":"S","server_name":"S","version":"2.10.0","go":"","host":"127.0.0.1","port":4222,"headers":true,"proto":1,"client_id":1{max}{info}}}"#
                    );
                    Connection { stream, inbox: None }.serve(index, &info, &*script, &tell, &noted)
                });
            }
        });
        Server { address, published, connects }
    }

    /// The next thing that was published, acknowledged or not.
    #[track_caller]
    pub(super) fn next(&self) -> Published {
        self.published.recv_timeout(PATIENCE).expect("something published")
    }

    /// What was published so far, and not asked for yet.
    pub(super) fn rest(&self) -> Vec<Published> {
        self.published.try_iter().collect()
    }

    /// What clients said when they connected.
    pub(super) fn connects(&self) -> Vec<serde_json::Value> {
        self.connects.lock().unwrap().clone()
    }
}

struct Connection {
    stream: TcpStream,
    /// The subscription that answers go to.
    inbox: Option<String>,
}

impl Connection {
    fn serve(
        mut self,
        index: usize,
        info: &str,
        script: &Script,
        tell: &Sender<Published>,
        connects: &Mutex<Vec<serde_json::Value>>,
    ) {
        let mut reader = BufReader::new(self.stream.try_clone().unwrap());
        self.write(&format!("INFO {info}\r\n"));
        let mut line = String::new();
        loop {
            line.clear();
            if !reader.read_line(&mut line).is_ok_and(|len| len > 0) {
                return;
            }
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words.as_slice() {
                ["PING"] => self.write("PONG\r\n"),
                ["CONNECT", ..] => {
                    let options = line.split_once(' ').unwrap().1;
                    connects.lock().unwrap().push(serde_json::from_str(options).unwrap());
                }
                ["SUB", subject, .., sid] if subject.starts_with("_INBOX.") => {
                    self.inbox = Some((*sid).to_owned());
                }
                ["HPUB", subject, reply, head, all] => {
                    let (head, all): (usize, usize) = (head.parse().unwrap(), all.parse().unwrap());
                    let mut bytes = vec![0; all + 2];
                    reader.read_exact(&mut bytes).unwrap();
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    let published = Published {
                        subject: (*subject).to_owned(),
                        headers: headers(&text(&bytes[..head])),
                        payload: text(&bytes[head..all]),
                    };
                    let reply = (*reply).to_owned();
                    let deed = script(index, &published);
                    let _ = tell.send(published);
                    if !self.answer(&reply, &deed) {
                        return self.end(reader);
                    }
                }
                ["PUB", subject, reply, len] => {
                    let mut bytes = vec![0; len.parse::<usize>().unwrap() + 2];
                    reader.read_exact(&mut bytes).unwrap();
                    assert!(subject.starts_with("$JS.API."), "{subject}");
                    let published = Published {
                        subject: (*subject).to_owned(),
                        headers: HashMap::new(),
                        payload: String::new(),
                    };
                    let reply = (*reply).to_owned();
                    let deed = script(index, &published);
                    if !self.answer(&reply, &deed) {
                        return self.end(reader);
                    }
                }
                ["PONG" | "UNSUB", ..] => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// `false`: the connection is at its end.
    fn answer(&mut self, reply: &str, deed: &Deed) -> bool {
        let sid = self.inbox.clone().expect("a subscription of answers");
        let message = match deed {
            Deed::Ack => r#"{"stream":"EVENTS","seq":7}"#,
            Deed::Answer(text) => text,
            Deed::NoResponders => {
                self.write(&format!("HMSG {reply} {sid} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"));
                return true;
            }
            Deed::Silence => return true,
            Deed::Close => return false,
        };
        self.write(&format!("MSG {reply} {sid} {}\r\n{message}\r\n", message.len()));
        true
    }

    /// Closes it, but lets the client read what was written: a socket that is closed with bytes unread resets.
    fn end(self, mut reader: BufReader<TcpStream>) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    }

    fn write(&mut self, text: &str) {
        // A client that is gone is found when it is read from.
        let _ = self.stream.write_all(text.as_bytes());
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// `NATS/1.0`, then lines as in HTTP.
fn headers(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}
