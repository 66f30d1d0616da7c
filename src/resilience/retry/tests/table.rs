//! Every condition against everything that an attempt can come to.

use super::super::condition::{Reason, needs_copy, of_answer, of_error};
use super::default_policy;
use crate::error::{Error, Kind, Replay};
use crate::exchange::{RetryOn, RetryPolicy};

fn with(set: impl Fn(&mut RetryOn)) -> RetryPolicy {
    let mut on = RetryOn::default();
    set(&mut on);
    RetryPolicy { on, ..default_policy() }
}

/// The conditions by their names in a configuration.
fn conditions() -> Vec<(&'static str, RetryPolicy)> {
    vec![
        ("connect_failure", with(|on| on.connect_failure = true)),
        ("refused_stream", with(|on| on.refused_stream = true)),
        ("reset", with(|on| on.reset = true)),
        ("gateway_error", with(|on| on.gateway_error = true)),
        ("5xx", with(|on| on.server_error = true)),
        ("retriable_4xx", with(|on| on.retriable_4xx = true)),
        ("rate_limited", with(|on| on.rate_limited = true)),
        ("cancelled", with(|on| on.grpc_cancelled = true)),
        ("deadline_exceeded", with(|on| on.grpc_deadline_exceeded = true)),
        ("internal", with(|on| on.grpc_internal = true)),
        ("resource_exhausted", with(|on| on.grpc_resource_exhausted = true)),
        ("unavailable", with(|on| on.grpc_unavailable = true)),
        ("425", RetryPolicy { statuses: [425].into(), ..with(|_| {}) }),
    ]
}

#[test]
fn statuses() {
    for (status, wanted) in [
        (200, &[][..]),
        (304, &[]),
        (400, &[]),
        (404, &[]),
        (409, &["retriable_4xx"]),
        (425, &["425"]),
        (429, &["rate_limited"]),
        (500, &["5xx"]),
        (501, &["5xx"]),
        (502, &["gateway_error", "5xx"]),
        (503, &["gateway_error", "5xx"]),
        (504, &["gateway_error", "5xx"]),
        (599, &["5xx"]),
    ] {
        for (name, retry) in conditions() {
            let reason = of_answer(status, None, false, &retry);
            let expected = wanted.contains(&name).then_some(Reason::Status(status));
            assert_eq!(reason, expected, "{status} {name}");
        }
    }
}

#[test]
fn grpc_statuses() {
    for (status, wanted) in [
        (0, None),
        (1, Some("cancelled")),
        (2, None),
        (3, None),
        (4, Some("deadline_exceeded")),
        (7, None),
        (8, Some("resource_exhausted")),
        (13, Some("internal")),
        (14, Some("unavailable")),
        (15, None),
        (16, None),
    ] {
        for (name, retry) in conditions() {
            let expected = (wanted == Some(name)).then_some(Reason::Grpc(status));
            assert_eq!(of_answer(200, Some(status), true, &retry), expected, "{status} {name}");
            assert_eq!(
                of_answer(200, Some(status), false, &retry),
                None,
                "a field of that name in another protocol"
            );
        }
    }
    let unavailable = with(|on| on.grpc_unavailable = true);
    assert_eq!(of_answer(503, None, true, &unavailable), Some(Reason::Status(503)), "a proxy on the way");
    assert_eq!(of_answer(503, None, false, &unavailable), None);
    assert_eq!(of_answer(500, None, true, &unavailable), None);
}

#[test]
fn failures() {
    const NO_ANSWER: &[&str] = &["reset", "gateway_error", "5xx"];
    const NO_CONNECTION: &[&str] = &["connect_failure", "gateway_error", "5xx"];
    for kind in Kind::ALL {
        let (wanted, grpc): (&[&str], &str) = match kind {
            Kind::ConnectFailed | Kind::ConnectTimeout | Kind::TlsFailed | Kind::TlsCertificate => {
                (NO_CONNECTION, "unavailable")
            }
            Kind::UpstreamRefused => (&["refused_stream", "gateway_error", "5xx"], "unavailable"),
            Kind::UpstreamClosed | Kind::UpstreamReset | Kind::ResponseIncomplete => {
                (NO_ANSWER, "unavailable")
            }
            Kind::UpstreamProtocol => (NO_ANSWER, "internal"),
            Kind::PerTryTimeout => (&["gateway_error", "5xx"], "deadline_exceeded"),
            Kind::Overflow => (&["connect_failure"], ""),
            _ => (&[], ""),
        };
        for (name, retry) in conditions() {
            let reason = Some(Reason::Cause(kind));
            let error = Error::from(kind);
            let is_wanted = wanted.contains(&name);
            assert_eq!(of_error(&error, false, &retry), reason.filter(|_| is_wanted), "{kind:?} {name}");
            let is_wanted = is_wanted || name == grpc;
            assert_eq!(
                of_error(&error, true, &retry),
                reason.filter(|_| is_wanted),
                "{kind:?} {name} in gRPC"
            );
        }
    }
}

#[test]
fn a_connection_that_was_closed_before_anything_was_written_is_none() {
    let error = Error::from(Kind::UpstreamClosed).with_replay(Replay::Safe);
    for (name, retry) in conditions() {
        let wanted = ["connect_failure", "refused_stream", "reset", "gateway_error", "5xx"].contains(&name);
        assert_eq!(of_error(&error, false, &retry).is_some(), wanted, "{name}");
    }
}

#[test]
fn only_conditions_beyond_the_usual_need_a_copy() {
    assert!(!needs_copy(&default_policy()) && !needs_copy(&RetryPolicy::default()));
    for (name, retry) in conditions() {
        assert_eq!(needs_copy(&retry), !["connect_failure", "refused_stream"].contains(&name), "{name}");
    }
    let never = RetryPolicy { retries_max: 0, ..with(|on| on.server_error = true) };
    assert!(!needs_copy(&never));
}

#[test]
fn reasons_have_stable_names() {
    let names =
        [Reason::Cause(Kind::PerTryTimeout), Reason::Status(503), Reason::Grpc(14)].map(|it| it.to_string());
    assert_eq!(names, ["per_try_timeout", "503", "grpc-14"]);
}
