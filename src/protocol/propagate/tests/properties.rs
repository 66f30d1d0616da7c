//! What holds for any request under any configuration.

mod given;

use super::trust::{KEYS, PSEUDONYMS, VERIFIES, file};
use super::*;
use crate::context::config::{Config, EdgeRequestId, EdgeTrace, Pseudonyms, Sign, Unsigned};
use crate::context::{Rng, TraceParent, baggage, extra, sampling as rates, signature, tracestate};
use crate::error::Error;
use crate::exchange::{Phase, Text};
use given::{List, Setting, requests, settings};
use proptest::prelude::*;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// The names of the further fields, where there are any: header, and key in baggage.
const EXTRA: [(&str, &str); 2] = [("x-lang", "lang"), ("x-tenant", "tenant")];

struct Passed {
    fields: Fields,
    record: Record,
    refused: Option<Error>,
}

fn pass(layer: &Propagate, list: &[(String, Vec<u8>)], direction: Direction, is_trusted: bool) -> Passed {
    let mut fields = Fields::new();
    for (name, value) in list {
        fields.push(name.as_bytes(), value);
    }
    let mut record = Record::new();
    record.direction = direction;
    record.started = Instant::now();
    record.started_at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_000);
    record.identity = Some("spiffe://mesh/ns/x".into());
    let refused = layer.state.borrow_mut().carry(&mut fields, &mut record, is_trusted).err();
    Passed { fields, record, refused }
}

impl Passed {
    /// The values of a header.
    fn all(&self, name: &str) -> Vec<Vec<u8>> {
        self.fields.named(name.as_bytes()).map(<[u8]>::to_vec).collect()
    }

    fn one(&self, name: &str) -> Option<Vec<u8>> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} comes {} times", all.len());
        all.into_iter().next()
    }

    fn list(&self) -> List {
        self.fields
            .iter()
            .map(|(name, value, _)| (String::from_utf8(name.to_vec()).unwrap(), value.to_vec()))
            .collect()
    }

    /// The decoded value of the last member of `baggage` with this key.
    fn in_baggage(&self, key: &str) -> Option<Vec<u8>> {
        let raw = baggage::entries(self.fields.all(Known::Baggage))
            .filter(|(own, _)| *own == key.as_bytes())
            .filter_map(|(_, raw)| raw)
            .last()?;
        Some(baggage::decode(raw, &mut Vec::new()).to_vec())
    }

    fn main(&self) -> [Text; CARRIERS.len()] {
        let record = &self.record;
        [record.user_id, record.account_id, record.license, Text::default(), record.flags]
    }

    /// All without what is new at each hop: ids of spans and of what begins here.
    fn normal(&self) -> Vec<(String, Vec<u8>)> {
        let is_new = |name: &str| {
            name == "traceparent" || name == "x-request-id" || formats::is_header(name.as_bytes())
        };
        let mut list = self.list();
        list.retain_mut(|(name, _)| {
            name.make_ascii_lowercase();
            !is_new(name) || name.starts_with("uberctx-") || name == "jaeger-baggage"
        });
        list.sort();
        list
    }
}

/// What SDKs make of a key: decoded, with nothing around it.
fn generous(key: &[u8]) -> String {
    let mut bytes = Vec::new();
    let plus: Vec<u8> = key.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    let text = String::from_utf8_lossy(baggage::decode(&plus, &mut bytes)).into_owned();
    let latin: String = key.iter().map(|byte| char::from(*byte)).collect();
    let text = if key.contains(&b'%') { text } else { latin };
    text.trim_matches(|char: char| char.is_whitespace() || char.is_control() || char == '\u{feff}').to_owned()
}

/// What is written keeps our own rules.
fn check(setting: &Setting, came: &[(String, Vec<u8>)], passed: &Passed) {
    let Passed { fields, record, .. } = passed;
    let parent =
        TraceParent::parse(&passed.one("traceparent").expect("each has a trace")).expect("that is valid");
    assert_eq!((parent.trace_id, parent.parent_id), (record.trace.trace_id, record.trace.parent_id));
    assert_eq!(parent.is_sampled(), record.trace.is_sampled());
    let id = passed.one("x-request-id").expect("each has an id");
    assert!(Field::RequestId.is_valid(&id) && id == record.text(record.request_id));
    let mut given = came.iter().filter(|(name, _)| name == "x-request-id");
    if let (Some((_, own)), None) = (given.next(), given.next())
        && Field::RequestId.is_valid(own)
        && (setting.is_trusted || !setting.replaces)
    {
        assert_eq!(id, *own, "an id is never rewritten");
    }
    if setting.has_sink && fields.has(Known::Tracestate) {
        let value = passed.one("tracestate").unwrap();
        assert!(matches!(
            tracestate::accept([&*value], &mut Vec::new()),
            tracestate::Outcome::Accepted { .. }
        ));
    }
    for (index, (field, _)) in CARRIERS.into_iter().enumerate() {
        let plain = passed.one(field.header());
        assert_eq!(plain, passed.in_baggage(field.baggage_key().unwrap()), "{field:?}: both carriers agree");
        if let Some(plain) = &plain {
            assert!(field.is_valid(plain), "{field:?}: {}", plain.escape_ascii());
        }
        if index == REQUEST_TYPE {
            let kind = plain.map(|plain| RequestType::parse(&plain).unwrap());
            assert_eq!(kind.unwrap_or_default(), record.request_type);
        } else {
            assert_eq!(plain.unwrap_or_default(), record.text(passed.main()[index]), "{field:?}");
        }
    }
    let names: Vec<_> = CARRIERS.iter().filter_map(|(field, _)| field.baggage_key()).collect();
    for (key, _) in baggage::entries(fields.all(Known::Baggage)) {
        let read = generous(key);
        let is_extra = setting.has_extra && EXTRA.iter().any(|(_, key)| *key == read);
        let is_token = setting.sign.is_some() && read == signature::BAGGAGE_KEY;
        if names.contains(&&*read) || is_extra || is_token {
            assert_eq!(read.as_bytes(), key, "nothing is disguised");
        }
    }
    assert!(fields.all(Known::Baggage).map(<[u8]>::len).sum::<usize>() <= 8192);
    if setting.has_extra {
        for (name, key) in EXTRA {
            assert_eq!(passed.one(name), passed.in_baggage(key), "{name}");
        }
    }
    if setting.sign.is_some() {
        assert_eq!(passed.one(signature::HEADER), passed.in_baggage(signature::BAGGAGE_KEY));
    }
    if !setting.is_trusted {
        let set = |value: &'static str| setting.sets.then(|| value.as_bytes().to_vec());
        let identity = setting.identity.then(|| b"spiffe://mesh/ns/x".to_vec());
        let want = [None, identity, set("free"), set("TRACE"), None];
        let got = CARRIERS.map(|(field, _)| passed.one(field.header()));
        assert_eq!(got, want, "only rules give fields to a stranger");
        assert!(passed.all("x_user_id").is_empty() && passed.all("uberctx-user.id").is_empty());
        if setting.has_extra {
            assert_eq!((passed.one("x-tenant"), passed.all("x_tenant").len()), (None, 0));
        }
        if setting.restarts {
            assert!(parent.trace_id != TraceParent::parse(TRACE.as_bytes()).unwrap().trace_id);
        }
        if setting.sign.is_some_and(|(_, can_sign, _)| can_sign) {
            assert!(record.notes.as_ref().unwrap().signature.as_ref().unwrap().is_signed);
        }
    }
    if setting.has_pseudonyms
        && let Some(user) = passed.one("x-user-id")
    {
        assert!(user.starts_with(b"p1_") && user.len() == 31, "{}", user.escape_ascii());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_comes_what_goes_on_is_valid(setting in settings(), came in requests()) {
        check(&setting, &came, &pass(&setting.layer(), &came, setting.direction, setting.is_trusted));
    }

    /// A second hop under the same rules changes nothing but the span.
    #[test]
    fn a_second_hop_changes_nothing_but_the_span(setting in settings(), came in requests()) {
        let first = pass(&setting.layer(), &came, setting.direction, setting.is_trusted);
        // Who has no key cannot make the next hop believe what it set, and what is refused or dropped has no next hop like it.
        let is_signed = setting.sign.is_none_or(|(unsigned, can_sign, _)| {
            let note = first.record.notes.as_ref().and_then(|notes| notes.signature.clone()).unwrap_or_default();
            let is_reported = unsigned == Unsigned::Report && !first.record.account_id.is_empty();
            can_sign && (note.is_signed || note.found == Some("valid") || is_reported)
        });
        if !is_signed || first.refused.is_some() {
            return Ok(());
        }
        let second = pass(&setting.layer(), &first.list(), Direction::Inbound, true);
        prop_assert!(second.refused.is_none());
        prop_assert_eq!(first.normal(), second.normal());
        prop_assert_eq!(first.one("x-request-id"), second.one("x-request-id"));
        let (one, other) = (first.record.trace, second.record.trace);
        prop_assert_eq!((one.trace_id, one.flags), (other.trace_id, other.flags));
        prop_assert_eq!(second.record.parent_id, Some(if setting.has_sink { one.parent_id } else { other.parent_id }));
        prop_assert_eq!((second.record.context_disagreed, first.record.request_type), (0, second.record.request_type));
    }

    /// What a worker kept of one request says nothing in the next one.
    #[test]
    fn a_worker_treats_each_request_as_if_it_were_the_first(
        setting in settings(), came in prop::collection::vec((requests(), any::<bool>()), 1..6),
    ) {
        let used = setting.layer();
        for (list, is_trusted) in came {
            let (one, other) = (&used, &setting.layer());
            let [one, other] = [one, other].map(|layer| {
                let mut list = list.clone();
                list.retain(|(name, _)| name != "traceparent");
                list.push(("traceparent".into(), TRACE.into()));
                let is_continued = is_trusted || !setting.restarts;
                let passed = pass(layer, &list, Direction::Inbound, is_trusted);
                let mut normal = passed.normal();
                if !is_continued {
                    // Bound to a trace of its own.
                    normal.retain(|(name, _)| name != signature::HEADER && name != "baggage");
                }
                let refused = passed.refused.as_ref().map(Error::kind);
                (normal, passed.all(signature::HEADER).len(), refused, passed.record.context_dropped)
            });
            prop_assert_eq!(one, other);
        }
    }

    #[test]
    fn what_others_carry_goes_on_byte_for_byte_and_in_order(
        setting in settings(), came in requests(),
        foreign in prop::collection::vec("z_[a-z]{0,6}=[!#-+.-:<-Z~-~]{0,9}(;p=1)?", 1..12), at in any::<prop::sample::Index>(),
        vendors in prop::collection::vec("[ -+--<>-~]{0,20}[!-+--<>-~]", 1..12),
    ) {
        let mut list: List = came;
        list.retain(|(name, value)| name != "tracestate" && name != "traceparent" && value.len() < 200);
        let own = foreign.join(",").into_bytes();
        list.insert(at.index(list.len() + 1), ("baggage".into(), own));
        let vendors: Vec<_> = vendors.iter().enumerate().map(|(at, value)| format!("v{at}={value}")).collect();
        list.push(("traceparent".into(), TRACE.into()));
        list.push(("tracestate".into(), vendors.join(" , ").into_bytes()));
        let passed = pass(&setting.layer(), &list, setting.direction, setting.is_trusted);
        let values: Vec<_> = passed.fields.all(Known::Baggage).collect();
        let left: Vec<_> = values.iter().flat_map(|value| value.split(|byte| *byte == b','))
            .filter(|member| member.starts_with(b"z_")).map(|member| String::from_utf8_lossy(member).into_owned()).collect();
        prop_assert_eq!(left, foreign);
        let is_restarted = setting.restarts && !setting.is_trusted;
        let want = (!is_restarted).then(|| vendors.join(" , ").into_bytes());
        prop_assert_eq!(passed.one("tracestate"), want);
    }

    /// Requests overlap, end and are cut at any time, and calls copy what they like: a call has the context of the exchange that
    /// it serves, or none.
    #[test]
    fn no_call_is_given_the_context_of_another_exchange(
        steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>(), 0..6_u8), 1..60), signs in any::<bool>(),
    ) {
        let mut context = Config::default();
        context.correlate.echo = "x-correlation-id".into();
        context.sign = signs.then(|| Sign {
            keys: file("properties-model", KEYS), unsigned: Unsigned::Drop, ttl: Duration::from_secs(300),
            skew: Duration::from_secs(30), for_app: false,
        });
        let edge = Config { edge: crate::context::config::Edge { identity: "user_id".into(), ..Default::default() }, ..context };
        let layer = configured(&edge);
        let (mut live, mut cut): (Vec<(usize, Passed)>, Vec<List>) = (Vec::new(), Vec::new());
        for (number, (step, which, copies)) in steps.into_iter().enumerate() {
            let call = |list: List, want: Option<&str>| {
                let call = pass(&layer, &list, Direction::Outbound, true);
                let user = call.one("x-user-id").map(|user| String::from_utf8(user).unwrap());
                assert!(user.is_none() || user.as_deref() == want, "{user:?} for {want:?}: {copies}");
            };
            match step {
                0 | 1 => {
                    let mut fields = Fields::new();
                    fields.push(b"x-correlation-id", format!("c-{number}").as_bytes());
                    fields.push(b"x-request-id", format!("r-{number}").as_bytes());
                    let mut record = Record::new();
                    (record.started, record.started_at) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_000));
                    record.identity = Some(format!("u{number}").into());
                    layer.state.borrow_mut().carry(&mut fields, &mut record, false).unwrap();
                    live.push((number, Passed { fields, record, refused: None }));
                }
                2 | 3 if !live.is_empty() => {
                    let (number, served) = &live[which.index(live.len())];
                    call(copied(served, copies), Some(&format!("u{number}")));
                }
                4 if !live.is_empty() => {
                    let (_, mut served) = live.swap_remove(which.index(live.len()));
                    if copies < 3 {
                        (served.record.phase, served.record.attempts) = (Phase::Done, 1);
                    } else {
                        cut.push(copied(&served, copies));
                        (served.record.phase, served.record.attempts) = (Phase::Response, 1);
                    }
                    served.record.end(Instant::now());
                }
                // The application still works for one whose client left.
                5 if !cut.is_empty() => call(cut[which.index(cut.len())].clone(), None),
                _ => {}
            }
        }
    }
}

/// What an application copies of the request that it serves.
fn copied(served: &Passed, copies: u8) -> List {
    let of = |names: &[&str]| -> List {
        let value = |name: &&str| Some(((*name).to_owned(), served.one(name)?));
        names.iter().filter_map(value).collect()
    };
    match copies {
        0 | 3 => Vec::new(),
        1 => of(&["x-request-id"]),
        2 => of(&["x-correlation-id"]),
        4 => of(&["traceparent", "x-correlation-id"]),
        _ => {
            // Below a span of the application's own.
            let mut list = of(&["traceparent"]);
            for (_, value) in &mut list {
                value[36..52].copy_from_slice(b"00aa00aa00aa00aa");
            }
            list
        }
    }
}
