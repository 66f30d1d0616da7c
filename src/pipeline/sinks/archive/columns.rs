//! The columns of a Parquet file, and which member of an event each holds.
//!
//! All are optional. A column has the name of its member with `_` for `.`, since BigQuery, Athena and Redshift have no dots
//! in names; no column has the name of a partition's key, which BigQuery refuses: so `schema` is in `event_schema`. What
//! has no column is in the last one, `event`, which is the whole event. A column that is added later comes before `event`,
//! and readers unite files by name. How it fails: a value of another type than its column's is null there.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// BYTE_ARRAY, as text.
    Text,
    /// INT32.
    Int32,
    /// INT64.
    Int64,
    /// DOUBLE.
    Double,
    /// BOOLEAN.
    Bool,
    /// INT64, microseconds since 1970, UTC.
    Time,
}

/// Members of `id` that have columns.
pub(super) const ID: [(&str, Kind); 3] =
    [("instance", Kind::Text), ("epoch", Kind::Int64), ("sequence", Kind::Int64)];

/// Members that have columns.
pub(super) const MEMBERS: [(&str, Kind); 63] = [
    ("schema", Kind::Text),
    ("timestamp", Kind::Time),
    ("trace_id", Kind::Text),
    ("span_id", Kind::Text),
    ("parent_id", Kind::Text),
    ("sampled", Kind::Bool),
    ("request_id", Kind::Text),
    ("user_id", Kind::Text),
    ("account_id", Kind::Text),
    ("license", Kind::Text),
    ("request_type", Kind::Text),
    ("service.name", Kind::Text),
    ("service.version", Kind::Text),
    ("service.namespace", Kind::Text),
    ("deployment.environment.name", Kind::Text),
    ("cloud.availability_zone", Kind::Text),
    ("kind", Kind::Text),
    ("name", Kind::Text),
    ("severity_text", Kind::Text),
    ("body", Kind::Text),
    ("http.request.method", Kind::Text),
    ("http.request.resend_count", Kind::Int32),
    ("url.scheme", Kind::Text),
    ("url.path", Kind::Text),
    ("http.route", Kind::Text),
    ("network.protocol.version", Kind::Text),
    ("server.address", Kind::Text),
    ("server.port", Kind::Int32),
    ("client.address", Kind::Text),
    ("client.port", Kind::Int32),
    ("http.request.body.size", Kind::Int64),
    ("http.response.status_code", Kind::Int32),
    ("error.type", Kind::Text),
    ("rpc.system.name", Kind::Text),
    ("rpc.response.status_code", Kind::Text),
    ("http.response.body.size", Kind::Int64),
    ("sidelight.direction", Kind::Text),
    ("sidelight.route", Kind::Text),
    ("sidelight.cluster", Kind::Text),
    ("sidelight.endpoint", Kind::Text),
    ("sidelight.endpoint.zone", Kind::Text),
    ("sidelight.config.revision", Kind::Text),
    ("sidelight.client.identity", Kind::Text),
    ("sidelight.attempts", Kind::Int32),
    ("sidelight.retries", Kind::Int32),
    ("sidelight.hedged", Kind::Bool),
    ("sidelight.outcome", Kind::Text),
    ("sidelight.response_flags", Kind::Text),
    ("sidelight.cause", Kind::Text),
    ("sidelight.detail", Kind::Text),
    ("sidelight.parent.source", Kind::Text),
    ("sidelight.sampled.by", Kind::Text),
    ("sidelight.kept.by", Kind::Text),
    ("sidelight.breaker", Kind::Text),
    ("sidelight.rate_limit", Kind::Text),
    ("sidelight.received_bytes", Kind::Int64),
    ("sidelight.sent_bytes", Kind::Int64),
    ("sidelight.duration_ms", Kind::Double),
    ("sidelight.queue_ms", Kind::Double),
    ("sidelight.connect_ms", Kind::Double),
    ("sidelight.upstream_first_byte_ms", Kind::Double),
    ("sidelight.pool_wait_ms", Kind::Double),
    ("duration_ms", Kind::Double),
];

/// The column with the whole event: the last.
pub(super) const EVENT: &str = "event";

/// All columns but the last, in order.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Kind)> {
    ID.into_iter().chain(MEMBERS)
}

/// The name of the column of a member.
pub(super) fn name_of(member: &str) -> String {
    match member {
        "schema" => "event_schema".to_owned(),
        _ => member.replace('.', "_"),
    }
}
