//! Replays of recordings that are made here, against real sockets.

mod http1;
mod http2;
mod order;
mod run;
mod server;
mod websocket;

use super::schedule::Timing;
use super::seam::Hooks;
use super::verdict::Run;
use super::{Options, Source, Stop, Target, run};
use crate::record::{Entry, Event, Field, RequestHead, ResponseHead, Side, What};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

pub(super) const MS: u64 = 1_000_000;

/// A recorded exchange of 1 ms.
pub(super) fn entry(sequence: u64, at_ms: u64, connection: u64, account: &str, head: &str) -> Entry {
    let mut lines =
        head.split("\r\n").flat_map(|line| line.split('\n')).map(str::trim).filter(|line| !line.is_empty());
    let mut first = lines.next().unwrap().split(' ');
    let head = RequestHead {
        method: first.next().unwrap().to_owned().into(),
        scheme: "http".into(),
        authority: "shop.example".into(),
        target: first.next().unwrap().to_owned().into(),
        upgrade: Bytes::new(),
        fields: lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| Field::new(name.to_owned(), value.to_owned()))
            .collect(),
    };
    Entry {
        sequence,
        connection,
        stream: sequence,
        started_ns: 1_700_000_000_000_000_000 + at_ms * MS,
        duration_ns: MS,
        account_id: account.into(),
        route: "r".into(),
        trace_id: [9; 16],
        span_id: [8; 8],
        status: 200,
        events: vec![
            Event { at_ns: 0, what: What::Request(head) },
            Event { at_ns: 0, what: What::End(Side::Request) },
            Event { at_ns: MS, what: What::Response(ResponseHead { status: 200, fields: Vec::new() }) },
            Event { at_ns: MS, what: What::End(Side::Response) },
        ],
        ..Entry::default()
    }
}

/// The entry with this content of the request.
pub(super) fn with_body(mut entry: Entry, body: &[u8]) -> Entry {
    entry.request.bytes = body.len() as u64;
    entry.events.insert(1, Event { at_ns: 0, what: What::Data(Side::Request, Bytes::copy_from_slice(body)) });
    entry
}

pub(super) fn options(address: std::net::SocketAddr) -> Options {
    let mut options = Options {
        targets: vec![Target::open("target", &format!("http://{address}"), None).unwrap()],
        timeout: Duration::from_secs(5),
        drain: Duration::from_secs(5),
        // Tests share two cores with each other.
        lag_p99_max: Duration::from_secs(5),
        timing: Timing::Recorded { speed: 1.0 },
        ..Options::default()
    };
    options.wanted.unsafe_methods = vec!["*".into()];
    options
}

pub(super) fn replay(entries: Vec<Entry>, options: &Options) -> Run {
    replay_with(entries, options, Hooks::default())
}

pub(super) fn replay_with(entries: Vec<Entry>, options: &Options, hooks: Hooks) -> Run {
    let source: Arc<dyn Source> = Arc::new(entries);
    let run = run(&source, options, hooks, &Stop::default(), &mut |_| ()).unwrap();
    assert!(run.adds_up(), "{run:#?}");
    run
}
