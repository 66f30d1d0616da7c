//! An HTTP/1.1 server that things are posted to: a collector, an intake. It takes them, or fails as the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::message::{Request, read_request_body, read_request_head};
use crate::raw_server::RawServer;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// It is taken, with these bytes for an answer.
    Take(Vec<u8>),
    /// It is not, with these bytes for an answer; then the connection is closed.
    Fail(Vec<u8>),
    /// It is not, and nothing is ever said.
    Hang,
}

impl Reply {
    /// Taken: 200 with this content.
    pub fn ok(content_type: &str, content: impl AsRef<[u8]>) -> Reply {
        let content = content.as_ref();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        Reply::Take([head.as_bytes(), content].concat())
    }

    /// Not taken: this status line and these fields, each with its CRLF.
    pub fn status(status: &str, fields: &str) -> Reply {
        Reply::Fail(
            format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n")
                .into_bytes(),
        )
    }
}

/// A request that came whole.
#[derive(Clone, Debug)]
pub struct Post {
    /// The request.
    pub request: Request,
    /// When it was whole.
    pub at: Instant,
    /// Whether it was taken.
    pub is_taken: bool,
}

/// The server; it accepts no more when dropped.
#[derive(Debug)]
pub struct Intake {
    server: RawServer,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Intake {
    /// Starts on a free port of loopback; `answer` says what becomes of each request.
    ///
    /// # Panics
    /// When loopback has no port left.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Intake {
        let posts = Arc::<Mutex<Vec<Post>>>::default();
        let kept = posts.clone();
        let server = RawServer::start(move |mut wire, _| {
            while let Ok(mut request) = read_request_head(&mut wire) {
                if read_request_body(&mut wire, &mut request).is_err() {
                    return;
                }
                let reply = answer(&request);
                let is_taken = matches!(reply, Reply::Take(_));
                let post = Post { request, at: Instant::now(), is_taken };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(post);
                match reply {
                    Reply::Take(bytes) => {
                        if wire.send(&bytes).is_err() {
                            return;
                        }
                    }
                    Reply::Fail(bytes) => {
                        let _ = wire.send(&bytes);
                        wire.close();
                        return;
                    }
                    // Until the other side goes, or for as long as a wire is read from.
                    Reply::Hang => {
                        let _ = wire.is_closed();
                        return;
                    }
                }
            }
        });
        Intake { server, posts }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Every request so far.
    pub fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests to this path that were taken.
    pub fn taken(&self, path: &str) -> Vec<Request> {
        let posts = self.posts().into_iter().filter(|post| post.is_taken && post.request.path() == path);
        posts.map(|post| post.request).collect()
    }
}
