//! Where finished records go.

use super::{Connection, Record, Tap};

/// The pipeline, as the data path sees it: one for each worker, on the worker's thread.
pub trait Sink {
    /// An exchange ended. Never blocks; what does not fit is dropped and counted by the sink.
    fn exchange(&self, record: Box<Record>);

    /// A record to fill, recycled where there is one.
    fn spare(&self) -> Box<Record> {
        Box::new(Record::new())
    }

    /// An opaque connection or tunnel moved so many bytes; counted while it is still open.
    fn transferred(&self, _received_bytes: u64, _sent_bytes: u64) {}

    /// What is to hear of an exchange that begins on this connection, if anything is.
    fn tap(&self, _connection: &Connection) -> Option<Box<dyn Tap>> {
        None
    }
}

/// A sink that forgets: for benchmarks of single layers and for tests that look elsewhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSink;

impl Sink for NoSink {
    fn exchange(&self, _record: Box<Record>) {}
}
