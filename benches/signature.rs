//! What trust costs: signing and verifying a context, pseudonyms, further fields, and the sampling decision. The bounds are
//! 100 µs to verify, 2 µs for a token that was seen before, and next to nothing where none of it is configured.

use criterion::{Criterion, criterion_group, criterion_main};
use sidelight::context::extra::Extra;
use sidelight::context::pseudonym::Pseudonymizer;
use sidelight::context::sampling::{Config, Parent, Question, Sampler};
use sidelight::context::signature::{Cache, Claims, Issuer, Keys, SKEW_DEFAULT_S, TTL_MAX_S};
use sidelight::context::{RequestType, Rng, ids};
use std::collections::BTreeMap;
use std::hint::black_box;

/// 2026-11-23.
const NOW_S: u64 = 1_795_392_000;
/// Keys that nobody else may use.
const KEYS: &str = "
keys:
  h1: { algorithm: hmac_sha256, secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= }
  e1: { algorithm: ed25519, private: ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8= }
";
const CLAIMS: Claims<'static> = Claims {
    trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes(),
    user_id: b"user-8f14e45f",
    account_id: b"account-c9f0f895",
    license: b"gold",
    request_type: RequestType::Standard,
    flags: b"beta,checkout-v2",
    extra: &[],
};

fn signature(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("signature");
    let issuer = Issuer::new("edge");
    for (id, name) in [("h1", "hmac_sha256"), ("e1", "ed25519")] {
        let keys = Keys::parse(&format!("active: {id}\n{KEYS}")).expect("a key file");
        let (mut token, mut scratch, mut cache) = (Vec::new(), Vec::new(), Cache::new(1024, 1));
        group.bench_function(format!("sign, {name}"), |bencher| {
            bencher.iter(|| {
                token.clear();
                keys.sign(black_box(&CLAIMS), &issuer, NOW_S, TTL_MAX_S, &mut token)
            });
        });
        group.bench_function(format!("verify, {name}"), |bencher| {
            bencher.iter(|| {
                keys.verify(black_box(&token), &CLAIMS, NOW_S, SKEW_DEFAULT_S, &mut scratch)
                    .expect("it was just signed");
            });
        });
        group.bench_function(format!("verify what was seen before, {name}"), |bencher| {
            bencher.iter(|| {
                cache
                    .verify(&keys, black_box(&token), &CLAIMS, NOW_S, SKEW_DEFAULT_S)
                    .expect("it was just signed");
            });
        });
        group.bench_function(format!("refuse another license, {name}"), |bencher| {
            let altered = Claims { license: b"platinum", ..CLAIMS };
            bencher.iter(|| {
                cache
                    .verify(&keys, black_box(&token), &altered, NOW_S, SKEW_DEFAULT_S)
                    .expect_err("it was not signed");
            });
        });
    }
    group.finish();
}

fn pseudonym(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pseudonym");
    let by = Pseudonymizer::parse("keys: { p1: { secret: AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= } }");
    let by = by.expect("a key file");
    let (mut made, mut out) = (Vec::new(), Vec::new());
    by.write("user_id", CLAIMS.user_id, &mut made);
    for (name, value) in [("make", CLAIMS.user_id), ("keep", made.as_slice())] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                by.write("user_id", black_box(value), &mut out)
            });
        });
    }
    group.finish();
}

fn extra(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("further fields");
    let names: [&[u8]; 7] =
        [b"host", b"user-agent", b"accept", b"traceparent", b"x-tenant", b"x-request-id", b"x-feature-flags"];
    let one = BTreeMap::from([("tenant".to_owned(), Default::default())]);
    for (count, fields) in [("no field", BTreeMap::new()), ("one field", one)] {
        let extra = Extra::compile(&fields).expect("a configuration");
        group.bench_function(format!("classify 7 header names, {count}"), |bencher| {
            bencher.iter(|| names.map(|name| extra.from_header(black_box(name))));
        });
    }
    group.finish();
}

fn sampling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sampling");
    let question = Question {
        trace_id: ids::trace_id(&mut Rng::new(1)),
        is_random: true,
        parent: None,
        account_id: CLAIMS.account_id,
        user_id: CLAIMS.user_id,
        flags: CLAIMS.flags,
        request_type: RequestType::Standard,
    };
    let mut config = Config { ratio: 0.5, traces_per_second: Some(1_000_000), ..Config::default() };
    config.force.account_id.insert("a1".to_owned());
    config.force.flags.insert("slow-path".to_owned());
    let mut sampler = Sampler::new(&config, 2, 1);
    let mut now_ns = 0;
    group.bench_function("a new trace, lists and a rate", |bencher| {
        bencher.iter(|| {
            now_ns += 10_000;
            sampler.decide(black_box(&question), now_ns)
        });
    });
    let parent = Some(Parent { is_sampled: true, is_trusted: true });
    group.bench_function("a trace of a caller that is trusted", |bencher| {
        bencher.iter(|| sampler.decide(black_box(&Question { parent, ..question }), now_ns));
    });
    group.finish();
}

criterion_group!(benches, signature, pseudonym, extra, sampling);
criterion_main!(benches);
