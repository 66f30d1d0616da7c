//! The one table from [`Kind`] to everything that is said about it: status, gRPC code, Envoy's response flag, RFC 9209
//! error token, cause, and the sentence of the problem document.

use super::Kind;

/// What a [`Kind`] looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status (RFC 9209 §2.3 recommends most of them; 499 is only ever logged).
    pub status: u16,
    /// gRPC status code, for calls that speak gRPC.
    pub grpc: u8,
    /// Envoy's short response flag.
    pub flag: ResponseFlags,
    /// RFC 9209 §2.3 error type.
    pub token: &'static str,
    /// The stable name in events and metrics.
    pub cause: &'static str,
    /// One sentence for the caller: what is wrong and, where there is something, what to do.
    pub title: &'static str,
    /// The connection cannot be used for a further request.
    pub is_fatal: bool,
}

/// Envoy's response flags, as their short string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(pub &'static str);

const fn row(
    status: u16,
    grpc: u8,
    flag: &'static str,
    token: &'static str,
    cause: &'static str,
    title: &'static str,
) -> Answer {
    Answer { status, grpc, flag: ResponseFlags(flag), token, cause, title, is_fatal: false }
}

const fn fatal(mut answer: Answer) -> Answer {
    answer.is_fatal = true;
    answer
}

// gRPC codes by their names in the specification, so that the table reads.
const CANCELLED: u8 = 1;
const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;

impl Kind {
    /// Every kind, in the order of the table; for tests, documentation and pre-registered metrics.
    pub const ALL: [Kind; 46] = [
        Kind::MalformedRequest,
        Kind::RequestRefused,
        Kind::ProtectedFieldNominated,
        Kind::ContextRefused,
        Kind::RequestHeadTooLarge,
        Kind::TargetTooLong,
        Kind::RequestBodyTooLarge,
        Kind::HeaderTimeout,
        Kind::RequestBodyTimeout,
        Kind::ExpectationFailed,
        Kind::MethodRefused,
        Kind::NotImplemented,
        Kind::VersionNotSupported,
        Kind::MaxForwards,
        Kind::ClientGone,
        Kind::ClientAbuse,
        Kind::RouteNotFound,
        Kind::LoopDetected,
        Kind::NoEndpoint,
        Kind::NoHealthyEndpoint,
        Kind::DnsFailed,
        Kind::ConnectFailed,
        Kind::ConnectTimeout,
        Kind::TlsFailed,
        Kind::TlsCertificate,
        Kind::Overflow,
        Kind::BreakerOpen,
        Kind::UpstreamClosed,
        Kind::UpstreamReset,
        Kind::UpstreamRefused,
        Kind::UpstreamProtocol,
        Kind::ResponseHeadTooLarge,
        Kind::ResponseIncomplete,
        Kind::ResponseBodyTimeout,
        Kind::UpgradeFailed,
        Kind::RequestTimeout,
        Kind::PerTryTimeout,
        Kind::DeadlineExceeded,
        Kind::StreamTimeout,
        Kind::RateLimited,
        Kind::ConcurrencyLimit,
        Kind::LoadShed,
        Kind::Overloaded,
        Kind::Draining,
        Kind::ConnectionLimit,
        Kind::Internal,
    ];

    /// The row of the table.
    #[rustfmt::skip]
    pub const fn answer(self) -> Answer {
        match self {
            Kind::MalformedRequest => fatal(row(400, INTERNAL, "DPE", "http_request_error", "malformed_request", "The request is not well-formed HTTP.")),
            Kind::RequestRefused => row(400, INVALID_ARGUMENT, "DPE", "http_request_denied", "request_refused", "The request breaks a rule of this proxy."),
            Kind::ProtectedFieldNominated => row(400, INVALID_ARGUMENT, "DPE", "http_request_denied", "protected_field_nominated", "The Connection field names a field that must not be removed on the way."),
            Kind::ContextRefused => row(403, PERMISSION_DENIED, "UAEX", "http_request_denied", "context_refused", "The context of the request is not signed, or its signature does not hold."),
            Kind::RequestHeadTooLarge => fatal(row(431, RESOURCE_EXHAUSTED, "DPE", "http_request_error", "request_head_too_large", "The request's header section is too large.")),
            Kind::TargetTooLong => fatal(row(414, RESOURCE_EXHAUSTED, "DPE", "http_request_error", "target_too_long", "The request's target is too long.")),
            Kind::RequestBodyTooLarge => fatal(row(413, RESOURCE_EXHAUSTED, "DPE", "http_request_error", "request_body_too_large", "The request's content is too large.")),
            Kind::HeaderTimeout => fatal(row(408, DEADLINE_EXCEEDED, "DT", "http_request_error", "header_timeout", "The request's header section did not arrive in time.")),
            Kind::RequestBodyTimeout => fatal(row(408, DEADLINE_EXCEEDED, "DT", "http_request_error", "request_body_timeout", "The request's content did not arrive in time.")),
            Kind::ExpectationFailed => row(417, INVALID_ARGUMENT, "DPE", "http_request_error", "expectation_failed", "Only 100-continue can be expected."),
            Kind::MethodRefused => fatal(row(405, UNIMPLEMENTED, "DPE", "http_request_denied", "method_refused", "This method is not carried by this proxy.")),
            Kind::NotImplemented => fatal(row(501, UNIMPLEMENTED, "DPE", "http_request_error", "not_implemented", "The request uses a transfer coding that this proxy does not implement.")),
            Kind::VersionNotSupported => fatal(row(505, UNIMPLEMENTED, "DPE", "http_request_error", "version_not_supported", "This HTTP version is not spoken here.")),
            Kind::MaxForwards => row(200, INTERNAL, "", "http_request_denied", "max_forwards", "Max-Forwards reached zero at this proxy."),
            Kind::ClientGone => fatal(row(499, CANCELLED, "DC", "connection_terminated", "client_gone", "The client went away.")),
            Kind::ClientAbuse => fatal(row(400, RESOURCE_EXHAUSTED, "DPE", "http_request_denied", "client_abuse", "The connection was used in an abusive way.")),
            Kind::RouteNotFound => row(404, UNIMPLEMENTED, "NR", "destination_not_found", "route_not_found", "No route matches this request."),
            Kind::LoopDetected => row(502, UNAVAILABLE, "NR", "proxy_loop_detected", "loop_detected", "The request came back to this proxy."),
            Kind::NoEndpoint => row(503, UNAVAILABLE, "UH", "destination_unavailable", "no_endpoint", "The destination has no endpoint."),
            Kind::NoHealthyEndpoint => row(503, UNAVAILABLE, "UH", "destination_unavailable", "no_healthy_endpoint", "The destination has no healthy endpoint."),
            Kind::DnsFailed => row(502, UNAVAILABLE, "UH", "dns_error", "dns_failed", "The destination's name could not be resolved."),
            Kind::ConnectFailed => row(502, UNAVAILABLE, "UF", "connection_refused", "connect_failed", "The destination could not be reached."),
            Kind::ConnectTimeout => row(504, UNAVAILABLE, "UF", "connection_timeout", "connect_timeout", "The destination did not accept a connection in time."),
            Kind::TlsFailed => row(502, UNAVAILABLE, "UF", "tls_protocol_error", "tls_failed", "The TLS handshake with the destination failed."),
            Kind::TlsCertificate => row(502, UNAVAILABLE, "UF", "tls_certificate_error", "tls_certificate", "The destination's certificate is not acceptable."),
            Kind::Overflow => row(503, UNAVAILABLE, "UO", "connection_limit_reached", "overflow", "The destination is at its limit."),
            Kind::BreakerOpen => row(503, UNAVAILABLE, "UO", "destination_unavailable", "breaker_open", "The destination failed lately, and is not asked for now."),
            Kind::UpstreamClosed => row(502, UNAVAILABLE, "UC", "connection_terminated", "upstream_closed", "The destination closed the connection before it answered."),
            Kind::UpstreamReset => row(502, UNAVAILABLE, "UR", "connection_terminated", "upstream_reset", "The destination reset the stream."),
            Kind::UpstreamRefused => row(503, UNAVAILABLE, "UR", "destination_unavailable", "upstream_refused", "The destination refused the stream."),
            Kind::UpstreamProtocol => row(502, INTERNAL, "UPE", "http_protocol_error", "upstream_protocol", "The destination's answer is not well-formed HTTP."),
            Kind::ResponseHeadTooLarge => row(502, INTERNAL, "UPE", "http_response_header_section_size", "response_head_too_large", "The destination's header section is too large."),
            Kind::ResponseIncomplete => row(502, UNAVAILABLE, "UC", "http_response_incomplete", "response_incomplete", "The destination's answer was cut."),
            Kind::ResponseBodyTimeout => row(504, DEADLINE_EXCEEDED, "UT", "http_response_timeout", "response_body_timeout", "The destination's answer stalled."),
            Kind::UpgradeFailed => row(502, INTERNAL, "UPE", "http_upgrade_failed", "upgrade_failed", "The destination switched protocols in a way that was not asked for."),
            Kind::RequestTimeout => row(504, DEADLINE_EXCEEDED, "UT", "http_response_timeout", "request_timeout", "The destination did not answer in time."),
            Kind::PerTryTimeout => row(504, DEADLINE_EXCEEDED, "UT", "http_response_timeout", "per_try_timeout", "The destination did not answer one try in time."),
            Kind::DeadlineExceeded => row(504, DEADLINE_EXCEEDED, "DT", "http_response_timeout", "deadline_exceeded", "The deadline of the caller passed."),
            Kind::StreamTimeout => row(504, DEADLINE_EXCEEDED, "UMSDR", "http_response_timeout", "stream_timeout", "The exchange took longer than it may."),
            Kind::RateLimited => row(429, RESOURCE_EXHAUSTED, "RL", "http_request_denied", "rate_limited", "Too many requests: try again after the time in Retry-After."),
            Kind::ConcurrencyLimit => row(503, UNAVAILABLE, "OM", "http_request_denied", "concurrency_limit", "Too many requests are under way."),
            Kind::LoadShed => row(503, UNAVAILABLE, "OM", "http_request_denied", "load_shed", "Turned away in favour of more important requests."),
            Kind::Overloaded => row(503, UNAVAILABLE, "OM", "http_request_denied", "overloaded", "This proxy is out of memory."),
            Kind::Draining => fatal(row(503, UNAVAILABLE, "LH", "destination_unavailable", "draining", "This proxy is shutting down.")),
            Kind::ConnectionLimit => fatal(row(503, UNAVAILABLE, "OM", "connection_limit_reached", "connection_limit", "This proxy has too many connections.")),
            Kind::Internal => fatal(row(500, INTERNAL, "", "proxy_internal_error", "internal", "This proxy failed; the defect was logged.")),
        }
    }

    /// The stable name in events, metrics and problem documents.
    pub const fn cause(self) -> &'static str {
        self.answer().cause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_kind_is_listed_once_with_a_name_of_its_own() {
        let kinds: HashSet<Kind> = Kind::ALL.into_iter().collect();
        let causes: HashSet<&str> = Kind::ALL.iter().map(|kind| kind.cause()).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        assert_eq!(causes.len(), Kind::ALL.len());
        assert_eq!(Kind::Internal as usize, Kind::ALL.len() - 1, "a new Kind is missing in ALL");
    }

    #[test]
    fn statuses_follow_rfc_9209() {
        assert_eq!(Kind::ConnectFailed.answer().status, 502);
        assert_eq!(Kind::ConnectTimeout.answer().status, 504);
        assert_eq!(Kind::NoHealthyEndpoint.answer().status, 503);
        assert_eq!(Kind::UpstreamProtocol.answer().token, "http_protocol_error");
    }
}
