//! Requests by somebody who knows all names, and configurations.

use super::*;

pub(super) type List = Vec<(String, Vec<u8>)>;

#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub is_trusted: bool,
    pub direction: Direction,
    pub restarts: bool,
    pub replaces: bool,
    pub sets: bool,
    pub identity: bool,
    pub has_extra: bool,
    pub has_pseudonyms: bool,
    /// The policy, whether there is a key that signs, and whether the application's own fields are.
    pub sign: Option<(Unsigned, bool, bool)>,
    pub read: Vec<formats::Format>,
    pub write: Vec<formats::Format>,
    pub has_sink: bool,
    pub ratio: f64,
}

impl Setting {
    pub fn rules(&self) -> Arc<Rules> {
        let mut context = Config::default();
        context.edge.trace = if self.restarts { EdgeTrace::Restart } else { EdgeTrace::Continue };
        context.edge.request_id = if self.replaces { EdgeRequestId::Replace } else { EdgeRequestId::Keep };
        if self.sets {
            context.edge.set =
                [("license", "free"), ("request_type", "trace")].map(|(k, v)| (k.into(), v.into())).into();
        }
        if self.identity {
            context.edge.identity = "account_id".into();
        }
        if self.has_extra {
            context.fields.insert("tenant".into(), extra::Config::default());
            let all = extra::Config { believe: extra::Believe::All, ..extra::Config::default() };
            context.fields.insert("lang".into(), all);
        }
        if self.has_pseudonyms {
            let keys = file("properties-pseudonyms", PSEUDONYMS);
            context.pseudonyms = Some(Pseudonyms { keys, fields: vec!["user_id".into()] });
        }
        context.sign = self.sign.map(|(unsigned, can_sign, for_app)| Sign {
            keys: match can_sign {
                true => file("properties-signs", KEYS),
                false => file("properties-verifies", VERIFIES),
            },
            unsigned,
            ttl: Duration::from_secs(300),
            skew: Duration::from_secs(30),
            for_app,
        });
        (context.formats.read, context.formats.write) = (self.read.clone(), self.write.clone());
        let sampling = rates::Config { ratio: self.ratio, ..rates::Config::default() };
        let source = Source {
            context: &context,
            sampling: &sampling,
            revision: None,
            service: "checkout",
            has_both_sides: true,
            has_sink: self.has_sink,
            seed: 7,
        };
        Arc::new(Rules::compile(&source).unwrap())
    }

    pub fn layer(&self) -> Propagate {
        let layer = Propagate::new(Setup { rng: Rng::new(3), in_flight: InFlight::new(), workers: 1 });
        layer.configure(&self.rules());
        layer
    }
}

pub(super) fn settings() -> impl Strategy<Value = Setting> {
    let unsigned = prop::sample::select(vec![Unsigned::Report, Unsigned::Drop, Unsigned::Refuse]);
    let formats = || prop::sample::subsequence(formats::Format::ALL.to_vec(), 0..=8);
    let directions = prop::sample::select(vec![Direction::Inbound, Direction::Outbound]);
    (
        (any::<[bool; 8]>(), directions, prop::sample::select(vec![0.0, 0.5, 1.0])),
        prop::option::of((unsigned, any::<bool>(), any::<bool>())),
        formats(),
        prop_oneof![3 => Just(Vec::new()), 1 => formats()],
    )
        .prop_map(|((flags, direction, ratio), sign, read, write)| {
            let [is_trusted, restarts, replaces, sets, identity, has_extra, has_pseudonyms, has_sink] = flags;
            let is_trusted = is_trusted || direction == Direction::Outbound;
            Setting {
                is_trusted,
                direction,
                restarts,
                replaces,
                sets,
                identity,
                has_extra,
                has_pseudonyms,
                sign,
                read,
                write,
                has_sink,
                ratio,
            }
        })
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let names = [
        "x-user-id",
        "X-User-ID",
        "x_user_id",
        "x-account-id",
        "x-license",
        "x-request-type",
        "X-Request-Type",
        "x-feature-flags",
        "x-request-id",
        "traceparent",
        "tracestate",
        "baggage",
        "Baggage",
        "b3",
        "x-b3-traceid",
        "x-b3-spanid",
        "x-b3-sampled",
        "x-b3-flags",
        "x-amzn-trace-id",
        "x-cloud-trace-context",
        "uber-trace-id",
        "x-datadog-trace-id",
        "x-datadog-parent-id",
        "x-datadog-tags",
        "x-datadog-sampling-priority",
        "ot-tracer-traceid",
        "ot-tracer-spanid",
        "ot-tracer-sampled",
        "grpc-trace-bin",
        "x-context-signature",
        "x-tenant",
        "X_Tenant",
        "x-lang",
        "uberctx-user.id",
        "jaeger-baggage",
        "x-client-request-id",
        "accept",
    ];
    (prop::sample::select(names.to_vec()), value()).prop_map(|(name, value)| (name.to_owned(), value))
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let usual = [
        "",
        "root",
        "gold",
        "TRACE",
        "trace",
        "STANDARD",
        "a,b",
        "a, b",
        "r-1",
        "0",
        "1",
        "d",
        "alice+x@example.com",
        "9532127138774266268",
        "0af7651916cd43dd8448eb211c80319c",
        "b7ad6b7169203331",
        TRACE,
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff-x",
        "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-d-05e3ac9a4f6e3b90",
        "Root=1-0af76519-16cd43dd8448eb211c80319c;Sampled=1;Self=x",
        "0af7651916cd43dd8448eb211c80319c:b7ad6b7169203331:0:3",
        "a=1,b=2",
        "A=1",
        "v1.k1.1.1.e.s",
    ];
    prop_oneof![
        4 => prop::sample::select(usual.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        3 => members().prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (prop::sample::select(vec!["v", "a=1,", "%", "k=v,"]), 0..6000_usize)
            .prop_map(|(part, count)| part.repeat(count).into_bytes()),
    ]
}

/// A list of baggage by somebody who knows our names.
fn members() -> impl Strategy<Value = String> {
    let keys = [
        "user.id",
        "user%2Eid",
        "%C2%A0user.id",
        "user.id\u{a0}",
        "account.id",
        "license",
        "+license",
        "request.type",
        "feature.flags",
        "tenant",
        "t%65nant",
        "lang",
        "context.signature",
        "context%2Esignature",
        "k",
        "User.Id",
        "",
    ];
    let member = (prop::sample::select(keys.to_vec()), "[ =;]{0,2}", "[a-zA-Z%;=+ .]{0,9}")
        .prop_map(|(key, between, value)| format!("{key}{between}{value}"));
    prop::collection::vec(member, 0..8).prop_map(|list| list.join(","))
}

pub(super) fn requests() -> impl Strategy<Value = List> {
    prop::collection::vec(header(), 0..12)
}
