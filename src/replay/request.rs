//! What a replayed request says of itself: fresh trace ids, that it is a replay and of what, and who it is for.
//!
//! Ids are made from the run's seed and the recorded ones, so that the exchanges of one trace stay in one trace, and so
//! that clones and passes do not meet. Trace formats beside W3C's are left out, for two sets of ids would disagree.

use super::plan::mix;
use super::seam::Request;
use crate::context::ids::{span_id_hex, trace_id_hex, write_hex};
use crate::record::{Entry, Field, RequestHead};
use crate::svc::fields::{is_field_value, is_token_byte};
use bytes::Bytes;

/// What is the same for all requests of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Dressing {
    pub run: String,
    pub seed: u64,
    pub as_recorded: bool,
    pub host: Option<Bytes>,
}

/// Fields that carry ids of the recorded trace, or of an earlier replay.
const DROPPED: [&[u8]; 8] = [
    b"tracestate",
    b"b3",
    b"x-sidelight-replay",
    b"host",
    b"x-b3-traceid",
    b"x-b3-spanid",
    b"x-b3-parentspanid",
    b"x-sidelight-context",
];

impl Dressing {
    /// The head as it is sent; framing is made by the protocol.
    ///
    /// # Errors
    /// Something in the recorded head cannot be sent by any protocol.
    pub(super) fn dress(
        &self,
        entry: &Entry,
        clone: u32,
        pass: u32,
        body: Option<Bytes>,
    ) -> Result<Request, &'static str> {
        let recorded = entry.request_head().ok_or("no_head")?;
        let is_plain = |bytes: &[u8]| bytes.iter().all(|byte| (0x21..0x7f).contains(byte) || *byte >= 0x80);
        if recorded.method.is_empty()
            || !recorded.method.iter().all(|byte| is_token_byte(*byte))
            || recorded.target.is_empty()
            || !is_plain(&recorded.target)
            || !is_plain(&recorded.authority)
            || !recorded.upgrade.iter().all(|byte| is_token_byte(*byte))
        {
            return Err("malformed_head");
        }
        let mut fields = Vec::with_capacity(recorded.fields.len() + 4);
        let (mut has_trace, mut has_type, mut baggage_at) = (false, false, None);
        let mut baggage: Vec<u8> = Vec::new();
        for field in &recorded.fields {
            let name = &*field.name;
            if name.is_empty()
                || !name.iter().all(|byte| is_token_byte(*byte))
                || !is_field_value(&field.value)
                || DROPPED.iter().any(|dropped| field.is(dropped))
            {
                continue;
            }
            if field.is(b"traceparent") {
                if !has_trace {
                    fields.push(Field::new(field.name.clone(), self.traceparent(entry, clone, pass)));
                }
                has_trace = true;
            } else if field.is(b"x-request-type") && !self.as_recorded {
                if !has_type {
                    fields.push(Field::new(field.name.clone(), &b"TRACE"[..]));
                }
                has_type = true;
            } else if field.is(b"baggage") {
                self.carry(&mut baggage, &field.value, clone);
                if baggage_at.is_none() {
                    baggage_at = Some(fields.len());
                    fields.push(field.clone());
                }
            } else if clone > 0 && (field.is(b"x-account-id") || field.is(b"x-user-id")) {
                fields.push(Field::new(field.name.clone(), suffixed(&field.value, clone)));
            } else if (clone > 0 || pass > 0) && field.is(b"x-request-id") {
                let mut value = field.value.to_vec();
                value.extend_from_slice(format!("-{pass}-{clone}").as_bytes());
                fields.push(Field::new(field.name.clone(), value));
            } else {
                fields.push(field.clone());
            }
        }
        if !has_trace {
            fields.push(Field::new(&b"traceparent"[..], self.traceparent(entry, clone, pass)));
        }
        if !has_type && !self.as_recorded {
            fields.push(Field::new(&b"x-request-type"[..], &b"TRACE"[..]));
        }
        if !baggage.is_empty() {
            baggage.push(b',');
        }
        baggage.extend_from_slice(b"replay.run=");
        baggage.extend_from_slice(self.run.as_bytes());
        baggage.extend_from_slice(b",user_agent.synthetic.type=test");
        match baggage_at.and_then(|at| fields.get_mut(at)) {
            Some(field) => field.value = baggage.into(),
            None => fields.push(Field::new(&b"baggage"[..], baggage)),
        }
        fields.push(Field::new(&b"x-sidelight-replay"[..], self.link(entry)));
        let head = RequestHead {
            method: recorded.method.clone(),
            scheme: recorded.scheme.clone(),
            authority: self.host.clone().unwrap_or_else(|| recorded.authority.clone()),
            target: recorded.target.clone(),
            upgrade: recorded.upgrade.clone(),
            fields,
        };
        Ok(Request { head, body, pass })
    }

    /// A new trace for each recorded one, clone and pass; a new span for each exchange.
    fn traceparent(&self, entry: &Entry, clone: u32, pass: u32) -> Vec<u8> {
        let turn = self.seed ^ (u64::from(clone) << 32) ^ u64::from(pass);
        let (high, low) = entry.trace_id.split_at(8);
        let half = |half: &[u8]| u64::from_be_bytes(half.try_into().unwrap_or([0; 8]));
        let (mut high, mut low) = (half(high), half(low));
        if high == 0 && low == 0 {
            low = entry.sequence;
        }
        high = mix(high ^ mix(turn));
        low = mix(low ^ mix(turn.wrapping_add(1))).max(1);
        let trace = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        let span = mix(entry.sequence ^ mix(turn.wrapping_add(2))).max(1).to_be_bytes();
        let mut value = b"00-".to_vec();
        value.extend_from_slice(&trace_id_hex(&trace));
        value.push(b'-');
        value.extend_from_slice(&span_id_hex(&span));
        value.extend_from_slice(b"-01");
        value
    }

    /// What this is a replay of.
    fn link(&self, entry: &Entry) -> Vec<u8> {
        let mut value = Vec::with_capacity(128);
        value.extend_from_slice(b"run=");
        value.extend_from_slice(self.run.as_bytes());
        if entry.trace_id != [0; 16] {
            value.extend_from_slice(b";trace=");
            value.extend_from_slice(&trace_id_hex(&entry.trace_id));
            value.extend_from_slice(b";span=");
            value.extend_from_slice(&span_id_hex(&entry.span_id));
        }
        value.extend_from_slice(format!(";entry={}", entry.sequence).as_bytes());
        value
    }

    /// The members of recorded baggage that go on.
    fn carry(&self, into: &mut Vec<u8>, value: &[u8], clone: u32) {
        for member in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|m| !m.is_empty()) {
            let key = member.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            if matches!(key, b"replay.run" | b"user_agent.synthetic.type") {
                continue;
            }
            if !into.is_empty() {
                into.push(b',');
            }
            match key {
                b"request.type" if !self.as_recorded => into.extend_from_slice(b"request.type=TRACE"),
                b"account.id" | b"user.id" if clone > 0 => {
                    // Before the properties, if it has any.
                    let end = member.iter().position(|byte| *byte == b';').unwrap_or(member.len());
                    let (plain, properties) = member.split_at(end);
                    into.extend_from_slice(&suffixed(plain.trim_ascii_end(), clone));
                    into.extend_from_slice(properties);
                }
                _ => into.extend_from_slice(member),
            }
        }
    }
}

fn suffixed(value: &[u8], clone: u32) -> Vec<u8> {
    let mut value = value.to_vec();
    value.extend_from_slice(format!("~{clone}").as_bytes());
    value
}

/// A run's id: 16 hex digits.
pub(super) fn run_id(seed: u64) -> String {
    let mut digits = [0; 16];
    write_hex(&seed.to_be_bytes(), &mut digits);
    String::from_utf8_lossy(&digits).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Event, What, entry::field};

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let head = RequestHead {
            method: "GET".into(),
            authority: "shop".into(),
            target: "/a".into(),
            fields: fields.iter().map(|(n, v)| Field::new(n.to_string(), v.to_string())).collect(),
            ..RequestHead::default()
        };
        let events = vec![Event { at_ns: 0, what: What::Request(head) }];
        Entry { sequence: 7, trace_id: [1; 16], span_id: [2; 8], events, ..Entry::default() }
    }

    fn dressed(fields: &[(&str, &str)], clone: u32, as_recorded: bool) -> Vec<Field> {
        let dressing = Dressing { run: "r1".into(), seed: 5, as_recorded, host: None };
        dressing.dress(&entry(fields), clone, 0, None).unwrap().head.fields
    }

    fn text<'a>(fields: &'a [Field], name: &str) -> &'a str {
        std::str::from_utf8(field(fields, name.as_bytes()).unwrap_or_default()).unwrap()
    }

    #[test]
    fn a_replay_says_that_it_is_one() {
        let fields = dressed(
            &[
                ("Accept", "x"),
                ("Traceparent", "00-01010101010101010101010101010101-0303030303030303-01"),
                ("tracestate", "a=b"),
                ("x-account-id", "acme"),
                ("baggage", "account.id=acme;p=1, request.type=STANDARD ,k=v"),
                ("X-Request-Type", "STANDARD"),
                ("user-agent", "curl"),
            ],
            0,
            false,
        );
        let names: Vec<&[u8]> = fields.iter().map(|field| &*field.name).collect();
        assert_eq!(
            names,
            [
                &b"Accept"[..],
                b"Traceparent",
                b"x-account-id",
                b"baggage",
                b"X-Request-Type",
                b"user-agent",
                b"x-sidelight-replay"
            ]
        );
        assert_eq!(text(&fields, "x-request-type"), "TRACE");
        assert_eq!(
            text(&fields, "baggage"),
            "account.id=acme;p=1,request.type=TRACE,k=v,replay.run=r1,user_agent.synthetic.type=test"
        );
        assert_eq!(
            text(&fields, "x-sidelight-replay"),
            "run=r1;trace=01010101010101010101010101010101;span=0202020202020202;entry=7"
        );
        let trace = text(&fields, "traceparent");
        assert!(trace.len() == 55 && trace.ends_with("-01") && !trace.contains("0101010101"), "{trace}");
        assert_eq!(text(&dressed(&[("x-request-type", "STANDARD")], 0, true), "x-request-type"), "STANDARD");
    }

    #[test]
    fn clones_are_others() {
        let recorded = [
            ("x-account-id", "acme"),
            ("x-user-id", "u"),
            ("x-request-id", "q"),
            ("baggage", "account.id=acme;p"),
        ];
        let (one, two) = (dressed(&recorded, 0, false), dressed(&recorded, 2, false));
        assert_eq!(text(&one, "x-account-id"), "acme");
        assert_eq!((text(&two, "x-account-id"), text(&two, "x-user-id")), ("acme~2", "u~2"));
        assert_eq!(text(&two, "x-request-id"), "q-0-2");
        assert!(text(&two, "baggage").starts_with("account.id=acme~2;p,"));
        assert_ne!(text(&one, "traceparent"), text(&two, "traceparent"));
    }

    #[test]
    fn nothing_is_smuggled_out_of_a_hostile_recording() {
        let fields = dressed(&[("a\r\nb", "1"), ("c", "2\r\nd: 3"), ("", "x"), ("ok", "1")], 0, false);
        assert!(fields.iter().all(|field| !field.value.contains(&b'\n') && !field.name.contains(&b'\n')));
        let mut hostile = entry(&[]);
        if let What::Request(head) = &mut hostile.events[0].what {
            head.target = "/ HTTP/1.1\r\nx: 1\r\n\r\n".into();
        }
        assert_eq!(Dressing::default().dress(&hostile, 0, 0, None), Err("malformed_head"));
    }
}
