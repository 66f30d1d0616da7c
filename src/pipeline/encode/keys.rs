//! Members as they stand in the line, made at compile time from OpenTelemetry's own constants.

use opentelemetry_semantic_conventions::attribute as otel;

/// The parts, one after the other; `N` is the sum of their lengths.
const fn join<const N: usize>(parts: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let from = parts[part].as_bytes();
        let mut index = 0;
        while index < from.len() {
            bytes[at] = from[index];
            index += 1;
            at += 1;
        }
        part += 1;
    }
    assert!(at == N);
    bytes
}

/// `,"name":"` for a text when `N` is the name's length + 5, `,"name":` for the rest when it is + 4.
const fn key<const N: usize>(name: &str) -> [u8; N] {
    join(&[",\"", name, if N == name.len() + 5 { "\":\"" } else { "\":" }])
}

pub(super) const METHOD: &[u8] = &key::<{ otel::HTTP_REQUEST_METHOD.len() + 5 }>(otel::HTTP_REQUEST_METHOD);
pub(super) const METHOD_ORIGINAL: &[u8] =
    &key::<{ otel::HTTP_REQUEST_METHOD_ORIGINAL.len() + 5 }>(otel::HTTP_REQUEST_METHOD_ORIGINAL);
pub(super) const SCHEME_HTTP: &[u8] =
    &join::<{ otel::URL_SCHEME.len() + 10 }>(&[",\"", otel::URL_SCHEME, "\":\"http\""]);
pub(super) const SCHEME_HTTPS: &[u8] =
    &join::<{ otel::URL_SCHEME.len() + 11 }>(&[",\"", otel::URL_SCHEME, "\":\"https\""]);
pub(super) const PATH: &[u8] = &key::<{ otel::URL_PATH.len() + 5 }>(otel::URL_PATH);
pub(super) const ROUTE: &[u8] = &key::<{ otel::HTTP_ROUTE.len() + 5 }>(otel::HTTP_ROUTE);
pub(super) const STATUS: &[u8] =
    &key::<{ otel::HTTP_RESPONSE_STATUS_CODE.len() + 4 }>(otel::HTTP_RESPONSE_STATUS_CODE);
pub(super) const ERROR_TYPE: &[u8] = &key::<{ otel::ERROR_TYPE.len() + 5 }>(otel::ERROR_TYPE);
pub(super) const SERVER_ADDRESS: &[u8] = &key::<{ otel::SERVER_ADDRESS.len() + 5 }>(otel::SERVER_ADDRESS);
pub(super) const SERVER_PORT: &[u8] = &key::<{ otel::SERVER_PORT.len() + 4 }>(otel::SERVER_PORT);
pub(super) const CLIENT_ADDRESS: &[u8] = &key::<{ otel::CLIENT_ADDRESS.len() + 5 }>(otel::CLIENT_ADDRESS);
pub(super) const CLIENT_PORT: &[u8] = &key::<{ otel::CLIENT_PORT.len() + 4 }>(otel::CLIENT_PORT);
pub(super) const PROTOCOL_VERSION: &[u8] =
    &key::<{ otel::NETWORK_PROTOCOL_VERSION.len() + 5 }>(otel::NETWORK_PROTOCOL_VERSION);
pub(super) const REQUEST_BODY: &[u8] =
    &key::<{ otel::HTTP_REQUEST_BODY_SIZE.len() + 4 }>(otel::HTTP_REQUEST_BODY_SIZE);
pub(super) const RESPONSE_BODY: &[u8] =
    &key::<{ otel::HTTP_RESPONSE_BODY_SIZE.len() + 4 }>(otel::HTTP_RESPONSE_BODY_SIZE);
pub(super) const RPC_SYSTEM: &[u8] = &key::<{ otel::RPC_SYSTEM_NAME.len() + 5 }>(otel::RPC_SYSTEM_NAME);
pub(super) const RPC_STATUS: &[u8] =
    &key::<{ otel::RPC_RESPONSE_STATUS_CODE.len() + 5 }>(otel::RPC_RESPONSE_STATUS_CODE);

/// Names that the head of every event uses.
pub(super) fn is_head(name: &str) -> bool {
    let names = [
        "schema",
        "id",
        "timestamp",
        otel::SERVICE_NAME,
        otel::SERVICE_VERSION,
        otel::SERVICE_NAMESPACE,
        otel::DEPLOYMENT_ENVIRONMENT_NAME,
        otel::CLOUD_AVAILABILITY_ZONE,
        LABELS,
    ];
    names.contains(&name)
}

/// The service's free labels.
pub(super) const LABELS: &str = "sidelight.labels";
