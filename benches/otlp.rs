//! The OTLP sink's encoder: an event of some 1.2 KB as a span. Bar: 1 µs.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sidelight::pipeline::{OtlpEncoder, Service};
use std::hint::black_box;

/// Events in a message, as the sink has by default.
const EVENTS: u64 = 512;

/// An exchange as the proxy writes it.
const EXCHANGE: &[u8] = br#"{"schema":"sidelight/exchange/1","id":{"instance":"checkout-7d9f8b6c5-x2k4p","epoch":1735689600000000,"sequence":123456},"timestamp":"2025-01-01T00:00:00.123456Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","parent_id":"b7ad6b7169203331","sampled":true,"request_id":"01941f29-7c00-7aaa-8bbb-ccccdddd0000","user_id":"u-184467","account_id":"acme","license":"gold","request_type":"STANDARD","flags":["beta"],"service.name":"checkout","service.version":"1.2.3","deployment.environment.name":"production","cloud.availability_zone":"eu-1a","http.request.method":"GET","url.scheme":"http","network.protocol.version":"1.1","url.path":"/orders/42","http.route":"/orders/{id}","server.address":"checkout","server.port":8080,"client.address":"10.1.2.3","client.port":40312,"http.request.body.size":0,"http.response.status_code":200,"http.response.body.size":1024,"sidelight.route":"orders","sidelight.cluster":"app","sidelight.endpoint":"127.0.0.1:8080","sidelight.config.revision":"a1b2c3d4","sidelight.direction":"inbound","sidelight.upstream.protocol.version":"1.1","sidelight.attempts":1,"sidelight.retries":0,"sidelight.outcome":"complete","sidelight.parent.source":"header","sidelight.duration_ms":12.345,"sidelight.queue_ms":0.104,"sidelight.upstream_first_byte_ms":11.870}"#;

fn encode(criterion: &mut Criterion) {
    let service = Service {
        name: "checkout".into(),
        version: "1.2.3".into(),
        environment: "production".into(),
        zone: "eu-1a".into(),
        instance: "checkout-7d9f8b6c5-x2k4p".into(),
        ..Service::default()
    };
    let mut encoder = OtlpEncoder::new(&service);
    let mut group = criterion.benchmark_group("otlp");
    group.throughput(Throughput::Elements(EVENTS));
    println!("an event of {} bytes", EXCHANGE.len());
    for (name, is_span) in [("span", true), ("log record", false)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                encoder.clear();
                for _ in 0..EVENTS {
                    let event = black_box(EXCHANGE);
                    black_box(if is_span { encoder.span(event) } else { encoder.log(event) });
                }
                black_box(encoder.finish().len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, encode);
criterion_main!(benches);
