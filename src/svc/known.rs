//! The fields that sidelight knows by name, classified by length and first letter, then compared once.

/// A field name that some part of sidelight reads or writes. Everything else is carried by name only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // each variant is the field's own name
pub enum Known {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Te,
    Trailer,
    Upgrade,
    Expect,
    KeepAlive,
    ProxyConnection,
    ProxyAuthorization,
    ProxyAuthenticate,
    ProxyStatus,
    MaxForwards,
    Http2Settings,
    ContentType,
    ContentEncoding,
    Date,
    Server,
    Via,
    Cookie,
    Authorization,
    Accept,
    UserAgent,
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XRequestId,
    XUserId,
    XAccountId,
    XLicense,
    XRequestType,
    XFeatureFlags,
    Traceparent,
    Tracestate,
    Baggage,
    GrpcTimeout,
    GrpcStatus,
    GrpcMessage,
    RetryAfter,
    IdempotencyKey,
    Location,
    SecWebsocketKey,
    SecWebsocketAccept,
    SecWebsocketVersion,
    SetCookie,
    GrpcRetryPushbackMs,
    XEnvoyExpectedRqTimeoutMs,
}

impl Known {
    /// How many there are.
    pub const COUNT: usize = 48;

    /// Every known field, in the order of the enum.
    pub const ALL: [Known; 48] = [
        Known::Host,
        Known::Connection,
        Known::ContentLength,
        Known::TransferEncoding,
        Known::Te,
        Known::Trailer,
        Known::Upgrade,
        Known::Expect,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::ProxyAuthorization,
        Known::ProxyAuthenticate,
        Known::ProxyStatus,
        Known::MaxForwards,
        Known::Http2Settings,
        Known::ContentType,
        Known::ContentEncoding,
        Known::Date,
        Known::Server,
        Known::Via,
        Known::Cookie,
        Known::Authorization,
        Known::Accept,
        Known::UserAgent,
        Known::Forwarded,
        Known::XForwardedFor,
        Known::XForwardedProto,
        Known::XRequestId,
        Known::XUserId,
        Known::XAccountId,
        Known::XLicense,
        Known::XRequestType,
        Known::XFeatureFlags,
        Known::Traceparent,
        Known::Tracestate,
        Known::Baggage,
        Known::GrpcTimeout,
        Known::GrpcStatus,
        Known::GrpcMessage,
        Known::RetryAfter,
        Known::IdempotencyKey,
        Known::Location,
        Known::SecWebsocketKey,
        Known::SecWebsocketAccept,
        Known::SecWebsocketVersion,
        Known::SetCookie,
        Known::GrpcRetryPushbackMs,
        Known::XEnvoyExpectedRqTimeoutMs,
    ];

    /// The name in lower case, as HTTP/2 writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Known::Host => "host",
            Known::Connection => "connection",
            Known::ContentLength => "content-length",
            Known::TransferEncoding => "transfer-encoding",
            Known::Te => "te",
            Known::Trailer => "trailer",
            Known::Upgrade => "upgrade",
            Known::Expect => "expect",
            Known::KeepAlive => "keep-alive",
            Known::ProxyConnection => "proxy-connection",
            Known::ProxyAuthorization => "proxy-authorization",
            Known::ProxyAuthenticate => "proxy-authenticate",
            Known::ProxyStatus => "proxy-status",
            Known::MaxForwards => "max-forwards",
            Known::Http2Settings => "http2-settings",
            Known::ContentType => "content-type",
            Known::ContentEncoding => "content-encoding",
            Known::Date => "date",
            Known::Server => "server",
            Known::Via => "via",
            Known::Cookie => "cookie",
            Known::Authorization => "authorization",
            Known::Accept => "accept",
            Known::UserAgent => "user-agent",
            Known::Forwarded => "forwarded",
            Known::XForwardedFor => "x-forwarded-for",
            Known::XForwardedProto => "x-forwarded-proto",
            Known::XRequestId => "x-request-id",
            Known::XUserId => "x-user-id",
            Known::XAccountId => "x-account-id",
            Known::XLicense => "x-license",
            Known::XRequestType => "x-request-type",
            Known::XFeatureFlags => "x-feature-flags",
            Known::Traceparent => "traceparent",
            Known::Tracestate => "tracestate",
            Known::Baggage => "baggage",
            Known::GrpcTimeout => "grpc-timeout",
            Known::GrpcStatus => "grpc-status",
            Known::GrpcMessage => "grpc-message",
            Known::RetryAfter => "retry-after",
            Known::IdempotencyKey => "idempotency-key",
            Known::Location => "location",
            Known::SecWebsocketKey => "sec-websocket-key",
            Known::SecWebsocketAccept => "sec-websocket-accept",
            Known::SecWebsocketVersion => "sec-websocket-version",
            Known::SetCookie => "set-cookie",
            Known::GrpcRetryPushbackMs => "grpc-retry-pushback-ms",
            Known::XEnvoyExpectedRqTimeoutMs => "x-envoy-expected-rq-timeout-ms",
        }
    }

    /// The known field of this name, in any case. `name` is a token (RFC 9110 §5.6.2), as every parsed name is.
    pub fn classify(name: &[u8]) -> Option<Known> {
        let first = name.first()? | 0x20;
        let candidate = match (name.len(), first) {
            (2, b't') => Known::Te,
            (3, b'v') => Known::Via,
            (4, b'd') => Known::Date,
            (4, b'h') => Known::Host,
            (6, b'a') => Known::Accept,
            (6, b'c') => Known::Cookie,
            (6, b'e') => Known::Expect,
            (6, b's') => Known::Server,
            (7, b'b') => Known::Baggage,
            (7, b't') => Known::Trailer,
            (7, b'u') => Known::Upgrade,
            (8, b'l') => Known::Location,
            (9, b'f') => Known::Forwarded,
            (9, b'x') => match name[2] | 0x20 {
                b'u' => Known::XUserId,
                b'l' => Known::XLicense,
                _ => return None,
            },
            (10, b'c') => Known::Connection,
            (10, b'k') => Known::KeepAlive,
            (10, b's') => Known::SetCookie,
            (10, b't') => Known::Tracestate,
            (10, b'u') => Known::UserAgent,
            (11, b'g') => Known::GrpcStatus,
            (11, b'r') => Known::RetryAfter,
            (11, b't') => Known::Traceparent,
            (12, b'c') => Known::ContentType,
            (12, b'g') => match name[5] | 0x20 {
                b't' => Known::GrpcTimeout,
                b'm' => Known::GrpcMessage,
                _ => return None,
            },
            (12, b'm') => Known::MaxForwards,
            (12, b'p') => Known::ProxyStatus,
            (12, b'x') => match name[2] | 0x20 {
                b'r' => Known::XRequestId,
                b'a' => Known::XAccountId,
                _ => return None,
            },
            (13, b'a') => Known::Authorization,
            (14, b'c') => Known::ContentLength,
            (14, b'h') => Known::Http2Settings,
            (14, b'x') => Known::XRequestType,
            (15, b'i') => Known::IdempotencyKey,
            (15, b'x') => match name[3] | 0x20 {
                b'o' => Known::XForwardedFor,
                b'e' => Known::XFeatureFlags,
                _ => return None,
            },
            (16, b'c') => Known::ContentEncoding,
            (16, b'p') => Known::ProxyConnection,
            (17, b's') => Known::SecWebsocketKey,
            (17, b't') => Known::TransferEncoding,
            (17, b'x') => Known::XForwardedProto,
            (18, b'p') => Known::ProxyAuthenticate,
            (19, b'p') => Known::ProxyAuthorization,
            (20, b's') => Known::SecWebsocketAccept,
            (21, b's') => Known::SecWebsocketVersion,
            (22, b'g') => Known::GrpcRetryPushbackMs,
            (30, b'x') => Known::XEnvoyExpectedRqTimeoutMs,
            _ => return None,
        };
        is_name(name, candidate.name().as_bytes()).then_some(candidate)
    }
}

/// Whether `name`, a token, is `known` in any case; of the same length, which is at least 2.
///
/// Eight bytes at a time: setting bit 5 folds the case of letters, and leaves digits and `-` alone. It would also take
/// CR for `-` and some controls for digits, which a token does not have.
#[inline]
fn is_name(name: &[u8], known: &[u8]) -> bool {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    let word = |bytes: &[u8], at: usize| -> u64 {
        let piece = bytes.get(at..at + 8).and_then(|piece| piece.try_into().ok()).unwrap_or_default();
        u64::from_le_bytes(piece)
    };
    let len = name.len();
    if len < 8 {
        return name.iter().zip(known).all(|(byte, known)| byte | 0x20 == *known);
    }
    let mut at = 0;
    while at + 8 <= len {
        if word(name, at) | FOLD != word(known, at) {
            return false;
        }
        at += 8;
    }
    // The last eight again, whatever was compared already.
    word(name, len - 8) | FOLD == word(known, len - 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_other() {
        for (index, known) in Known::ALL.into_iter().enumerate() {
            assert_eq!(known as usize, index);
            assert_eq!(Known::classify(known.name().as_bytes()), Some(known));
            assert_eq!(Known::classify(known.name().to_ascii_uppercase().as_bytes()), Some(known));
            let mut other = known.name().as_bytes().to_vec();
            *other.last_mut().unwrap() ^= 1;
            assert_eq!(Known::classify(&other), None);
        }
        assert_eq!(Known::classify(b""), None);
    }
}
