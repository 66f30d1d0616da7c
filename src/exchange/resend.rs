//! Further attempts at an exchange: retries and hedges, each a span of its own.
//!
//! The first attempt has the exchange's own span. Each further one has a span below it, and the endpoint is told of that one,
//! so that what it did hangs below the attempt that it served. Span ids are derived from the exchange's: unique within
//! its trace, and no generator is needed here.

use super::{Answer, Ctx};
use crate::error::Kind;
use crate::svc::{Known, RequestHead};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A further attempt, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resend {
    /// Its span; its parent is the exchange's.
    pub span_id: [u8; 8],
    /// How many attempts were made before it.
    pub count: u32,
    /// When it began, from the beginning of the exchange.
    pub started: Duration,
    /// How long it took: to the head of its answer, or to its failure.
    pub duration: Option<Duration>,
    /// The endpoint, as configured.
    pub endpoint: Option<Arc<str>>,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Why it has none.
    pub cause: Option<Kind>,
    /// Whether it was sent beside another one.
    pub is_hedge: bool,
}

impl Ctx {
    /// Another attempt begins, with `head`.
    #[cold]
    pub fn begin_resend(&self, head: &mut RequestHead, is_hedge: bool) {
        let mut record = self.recorder.edit();
        let started = record.started.elapsed();
        let count = record.note().resends.len() as u32 + 1;
        let trace = record.trace.child(derived(record.trace.parent_id, count));
        // Whoever adds no span to the trace tells of none.
        if record.sampled_by.is_some() && head.fields.has(Known::Traceparent) {
            head.fields.overwrite(Known::Traceparent, &trace.to_bytes());
        }
        record.note().resends.push(Resend {
            span_id: trace.parent_id,
            count,
            started,
            duration: None,
            endpoint: None,
            status: None,
            cause: None,
            is_hedge,
        });
    }

    /// The further attempt that is under way came to its end, if there is one.
    #[inline]
    pub fn end_resend(&self, answer: &Answer, is_hedge: bool) {
        let mut record = self.recorder.edit();
        if record.notes.as_ref().is_some_and(|notes| !notes.resends.is_empty()) {
            let picked = self.picked.borrow();
            let endpoint = picked.as_ref().map(|picked| picked.endpoint().name.clone());
            let at = Instant::now().saturating_duration_since(record.started);
            let resends = &mut record.note().resends;
            let is_under_way =
                |resend: &&mut Resend| resend.is_hedge == is_hedge && resend.duration.is_none();
            if let Some(resend) = resends.iter_mut().rev().find(is_under_way) {
                resend.duration = Some(at.saturating_sub(resend.started));
                resend.endpoint = endpoint;
                match answer {
                    Ok(response) => resend.status = Some(response.head.status),
                    Err(error) => resend.cause = Some(error.kind()),
                }
            }
        }
    }
}

/// A span id for the attempt `count` below `span_id`: SplitMix64's output function, a permutation, so that attempts of one
/// exchange never share one. Never zero.
fn derived(span_id: [u8; 8], count: u32) -> [u8; 8] {
    let z = u64::from_be_bytes(span_id).wrapping_add(u64::from(count).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1).to_be_bytes()
}
