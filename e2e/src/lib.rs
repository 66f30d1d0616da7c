//! The test kit: the real binary between a raw client and a strict backend.
//!
//! * [`Setup`] writes a configuration, [`Sidelight`] is the process that runs it.
//! * [`StrictBackend`] is an HTTP/1.1 server that refuses whatever RFC 9112 does not allow, keeps what it
//!   received, and answers by [`Script`].
//! * [`RawClient`] sends bytes and reads answers with a parser that is strict as well, so that a fault of the
//!   proxy in either direction is a failure of the test and not something the other side repaired.
//! * [`Case`] is one row of a table of raw requests; [`Bench`] runs the rows, each followed by a clean request.
//! * [`frames`] writes HTTP/2 frames, [`frames::Peer`] is either side of such a connection, [`FrameCase`] and
//!   [`FrameBench`] are the table and its runner for them, [`Http2Server`] and [`RawServer`] are upstreams by script,
//!   [`Intake`] is what telemetry is posted to.
//! * [`tls`] puts TLS around any of these; [`python`] and [`tool`] run the clients that people use,
//!   [`App`] the applications beside sidecars.
//!
//! Everything blocks on threads with bounded waits: a test that hangs fails with the name of what it waited for.

pub mod app;
mod backend;
mod bench;
mod case;
mod client;
mod events;
mod frame_bench;
pub mod frames;
pub mod hpack;
mod http2_server;
mod intake;
mod launch;
mod message;
mod peer;
pub mod process;
pub mod python;
mod raw_server;
mod requests;
mod rules;
mod setup;
mod sidelight;
pub mod tls;
pub mod tool;
mod upstream_process;
mod wire;

pub use app::App;
pub use backend::{Received, Script, Step, StrictBackend};
pub use bench::Bench;
pub use case::{Act, Answer, Case, Check, Reach};
pub use client::RawClient;
pub use events::Events;
pub use frame_bench::{FrameBench, FrameCase, Outcome, get_changed, get_with, post_with};
pub use http2_server::{Http2Server, answer, before_http2, to_other};
pub use intake::{Intake, Post, Reply};
pub use launch::Launch;
pub use message::{Fields, Framing, Request, Response};
pub use raw_server::RawServer;
pub use requests::{chunked, get, post};
pub use setup::Setup;
pub use sidelight::{Sidelight, binary, field};
pub use upstream_process::UpstreamProcess;
pub use wire::{Fault, Wire};

use std::time::{Duration, Instant};

/// How long anything may take before a test calls it lost. Nothing waits that long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Polls `probe` until it gives a value, for at most [`PATIENCE`]; then panics with `what` was awaited.
///
/// # Panics
/// When nothing came in time.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
