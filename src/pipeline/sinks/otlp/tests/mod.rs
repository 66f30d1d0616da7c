mod encoding;
mod sending;

use super::*;
use crate::pipeline::spool::{self, Class, Cursor, Spool, Start, Writer};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use std::collections::BTreeMap;

/// Batches of events, numbered from 1.
pub(crate) struct Source {
    writer: Writer,
    cursor: Cursor,
    _spool: Spool,
}

impl Source {
    pub(crate) fn new() -> Source {
        let (spool, writer) = Spool::open(&spool::Config::default(), "test", 1).unwrap();
        let cursor = spool.cursor("otlp", Start::Beginning).unwrap();
        Source { writer, cursor, _spool: spool }
    }

    /// The next batch has these events.
    pub(crate) fn batch(&mut self, events: &[impl AsRef<[u8]>]) -> Batch {
        for event in events {
            self.writer.append(Class::Event, event.as_ref());
        }
        self.writer.tick(Instant::now());
        let mut batch = Batch::new(8 << 20, events.len());
        assert_eq!(self.cursor.read(&mut batch), events.len());
        batch
    }
}

pub(crate) fn service() -> Service {
    Service {
        name: "checkout".into(),
        version: "1.2".into(),
        environment: "prod".into(),
        instance: "host-1".into(),
        labels: BTreeMap::from([("team".into(), "pay".into())]),
        ..Service::default()
    }
}

pub(crate) fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, Any> {
    let value = |pair: &KeyValue| pair.value.clone().and_then(|AnyValue { value }| value).unwrap();
    let all: BTreeMap<_, _> = pairs.iter().map(|pair| (pair.key.clone(), value(pair))).collect();
    assert_eq!(all.len(), pairs.len(), "an attribute twice");
    all
}

/// An inbound exchange as the proxy writes it, with this `sampled` and these members at its end.
pub(crate) fn exchange(is_sampled: bool, more: &str) -> String {
    format!(
        r#"{{"schema":"sidelight/exchange/1","id":{{"instance":"host-1","epoch":1700000000000000,"sequence":7}},"timestamp":"2025-01-01T00:00:00.123456Z","trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"0102030405060708","parent_id":"aaaaaaaaaaaaaaaa","sampled":{is_sampled},"request_id":"0190-abc","user_id":"u1","account_id":"a1","license":"gold","request_type":"TRACE","flags":["beta","x"],"tenant":"t","service.name":"checkout","service.version":"1.1","deployment.environment.name":"prod","sidelight.labels":{{"team":"pay"}},"http.request.method":"GET","url.scheme":"https","network.protocol.version":"2","url.path":"/orders/42 \"\u00e9","http.route":"/orders/{{id}}","server.address":"shop.example","server.port":8443,"client.address":"127.0.0.1","client.port":40000,"http.request.body.size":0,"http.response.status_code":503,"error.type":"503","http.response.body.size":1024,"sidelight.direction":"inbound","sidelight.route":"gold","sidelight.cluster":"app","sidelight.attempts":2,"sidelight.outcome":"complete","sidelight.detail":"10.0.0.7:8080: \"refused\"","sidelight.links":[{{"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331"}}],"sidelight.duration_ms":12.345,"sidelight.queue_ms":0.250{more}}}"#
    )
}
