//! The rare part of a record: what resilience decided.

use super::{json, millis, number, text, word};
use crate::context::ids::{span_id_hex, trace_id_hex};
use crate::error::Refusal;
use crate::exchange::{Notes, SignatureNote};

/// Writes what was noted.
pub(super) fn write(notes: &Notes, out: &mut Vec<u8>) {
    if let Some(refusal) = &notes.refusal {
        write_refusal(refusal, out);
    }
    retries(notes, out);
    balance(notes, out);
    if let Some(deadline) = notes.deadline {
        millis(out, br#","sidelight.deadline_ms":"#, deadline);
    }
    if let Some(source) = notes.deadline_source {
        word(out, br#","sidelight.deadline.source":""#, source.as_str());
    }
    if let Some((name, remaining)) = &notes.rate_limit {
        text(out, br#","sidelight.rate_limit":""#, name.as_bytes());
        number(out, br#","sidelight.rate_limit.remaining":"#, u64::from(*remaining));
    }
    if let Some(wait) = notes.admission_wait {
        millis(out, br#","sidelight.admission_wait_ms":"#, wait);
    }
    if let Some(wait) = notes.pool_wait {
        millis(out, br#","sidelight.pool_wait_ms":"#, wait);
    }
    if !notes.links.is_empty() {
        links(&notes.links, out);
    }
    if let Some(note) = &notes.signature {
        signature(note, out);
    }
    if let Some(mirror) = notes.mirror {
        word(out, br#","sidelight.mirror":""#, mirror.as_str());
    }
}

fn links(links: &[([u8; 16], [u8; 8])], out: &mut Vec<u8>) {
    let mut between = br#","sidelight.links":["#.as_slice();
    for (trace_id, span_id) in links {
        out.extend_from_slice(between);
        out.extend_from_slice(br#"{"trace_id":""#);
        out.extend_from_slice(&trace_id_hex(trace_id));
        out.extend_from_slice(br#"","span_id":""#);
        out.extend_from_slice(&span_id_hex(span_id));
        out.extend_from_slice(br#""}"#);
        between = b",";
    }
    out.push(b']');
}

fn signature(note: &SignatureNote, out: &mut Vec<u8>) {
    if let Some(found) = note.found {
        word(out, br#","sidelight.context.signature":""#, found);
    }
    if let Some((key, issuer)) = &note.by {
        word(out, br#","sidelight.context.signature.key":""#, key);
        word(out, br#","sidelight.context.signature.issuer":""#, issuer);
    }
    if note.is_signed {
        flag(out, br#","sidelight.context.signed":"#, true);
    }
}

fn write_refusal(refusal: &Refusal, out: &mut Vec<u8>) {
    word(out, br#","sidelight.breaker":""#, refusal.breaker);
    word(out, br#","sidelight.breaker.scope":""#, refusal.scope);
    text(out, br#","sidelight.breaker.name":""#, refusal.name.as_bytes());
    number(out, br#","sidelight.breaker.limit":"#, refusal.limit);
    number(out, br#","sidelight.breaker.current":"#, refusal.current);
    if let Some(time) = refusal.retry_after {
        millis(out, br#","sidelight.breaker.retry_after_ms":"#, time);
    }
}

fn retries(notes: &Notes, out: &mut Vec<u8>) {
    if !notes.retry_reasons.is_empty() {
        let mut between = br#","sidelight.retry.reasons":[""#.as_slice();
        for reason in notes.retry_reasons.split(',') {
            out.extend_from_slice(between);
            json::text(out, reason.as_bytes());
            between = br#"",""#;
        }
        out.extend_from_slice(br#""]"#);
        millis(out, br#","sidelight.retry.backoff_ms":"#, notes.backoff);
    }
    if let Some(why) = notes.retry_denied {
        word(out, br#","sidelight.retry.denied":""#, why);
    }
    if notes.hedges > 0 {
        number(out, br#","sidelight.hedges":"#, u64::from(notes.hedges));
        flag(out, br#","sidelight.hedged":"#, notes.is_hedge_answer);
    }
}

fn balance(notes: &Notes, out: &mut Vec<u8>) {
    if notes.is_panic {
        flag(out, br#","sidelight.balance.panic":"#, true);
    }
    if notes.priority > 0 {
        number(out, br#","sidelight.endpoint.priority":"#, u64::from(notes.priority));
    }
    if let Some(is_local) = notes.is_local_zone {
        flag(out, br#","sidelight.endpoint.local_zone":"#, is_local);
    }
    if notes.is_hash_missing {
        flag(out, br#","sidelight.balance.hash_missing":"#, true);
    }
    if notes.is_subset_fallback {
        flag(out, br#","sidelight.balance.subset_fallback":"#, true);
    }
}

fn flag(out: &mut Vec<u8>, key: &[u8], value: bool) {
    out.extend_from_slice(key);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{DeadlineSource, MirrorNote};
    use std::time::Duration;

    #[test]
    fn everything_that_was_noted_is_written_once_as_json() {
        let ms = Duration::from_millis;
        let mut refusal = Refusal::new("requests", "account", &"a \"quoted\" one".into(), 3, 4);
        refusal.retry_after = Some(ms(1500));
        let notes = Notes {
            refusal: Some(refusal),
            retry_reasons: "connect_failed,503".into(),
            retry_denied: Some("budget"),
            backoff: ms(12),
            hedges: 1,
            is_hedge_answer: true,
            is_panic: true,
            priority: 1,
            is_local_zone: Some(false),
            is_hash_missing: true,
            is_subset_fallback: true,
            deadline_source: Some(DeadlineSource::GrpcTimeout),
            deadline: Some(ms(250)),
            rate_limit: Some(("per-account".into(), 7)),
            admission_wait: Some(ms(3)),
            mirror: Some(MirrorNote::TooMany),
            pool_wait: Some(ms(4)),
            links: vec![([1; 16], [2; 8]), ([3; 16], [4; 8])],
            signature: Some(SignatureNote {
                found: Some("valid"),
                by: Some(("k1".into(), "edge".into())),
                is_signed: true,
            }),
            resends: Vec::new(),
            extra: Vec::new(),
        };
        let mut out = br#"{"a":1"#.to_vec();
        write(&notes, &mut out);
        out.push(b'}');
        let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            event,
            serde_json::json!({
                "a": 1,
                "sidelight.breaker": "requests",
                "sidelight.breaker.scope": "account",
                "sidelight.breaker.name": "a \"quoted\" one",
                "sidelight.breaker.limit": 3,
                "sidelight.breaker.current": 4,
                "sidelight.breaker.retry_after_ms": 1500.0,
                "sidelight.retry.reasons": ["connect_failed", "503"],
                "sidelight.retry.backoff_ms": 12.0,
                "sidelight.retry.denied": "budget",
                "sidelight.hedges": 1,
                "sidelight.hedged": true,
                "sidelight.balance.panic": true,
                "sidelight.endpoint.priority": 1,
                "sidelight.endpoint.local_zone": false,
                "sidelight.balance.hash_missing": true,
                "sidelight.balance.subset_fallback": true,
                "sidelight.deadline_ms": 250.0,
                "sidelight.deadline.source": "grpc-timeout",
                "sidelight.rate_limit": "per-account",
                "sidelight.rate_limit.remaining": 7,
                "sidelight.admission_wait_ms": 3.0,
                "sidelight.pool_wait_ms": 4.0,
                "sidelight.links": [
                    { "trace_id": "01".repeat(16), "span_id": "02".repeat(8) },
                    { "trace_id": "03".repeat(16), "span_id": "04".repeat(8) },
                ],
                "sidelight.context.signature": "valid",
                "sidelight.context.signature.key": "k1",
                "sidelight.context.signature.issuer": "edge",
                "sidelight.context.signed": true,
                "sidelight.mirror": "too_many",
            })
        );
        let mut nothing = Vec::new();
        write(&Notes::default(), &mut nothing);
        assert!(nothing.is_empty(), "what was not noted is left out");
    }
}
