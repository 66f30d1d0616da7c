//! Who the telemetry is about, and who says it: one `Resource` and one `InstrumentationScope` for everything of ours.

use super::proto;
use crate::pipeline::Service;
use opentelemetry_semantic_conventions::attribute as otel;

/// The scope of what sidelight itself tells.
pub(super) const SCOPE: &str = "sidelight";

/// The attributes of the resource. Labels are `sidelight.labels.NAME`; what is empty is left out.
pub(super) fn attributes(service: &Service) -> Vec<(String, String)> {
    let own = [
        (otel::SERVICE_NAME, service.name.as_str()),
        (otel::SERVICE_VERSION, &service.version),
        (otel::SERVICE_NAMESPACE, &service.namespace),
        (otel::SERVICE_INSTANCE_ID, &service.instance),
        (otel::DEPLOYMENT_ENVIRONMENT_NAME, &service.environment),
        (otel::CLOUD_AVAILABILITY_ZONE, &service.zone),
        (otel::TELEMETRY_DISTRO_NAME, SCOPE),
        (otel::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION")),
    ];
    let labels =
        service.labels.iter().map(|(name, value)| (format!("sidelight.labels.{name}"), value.clone()));
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.chain(labels).filter(|(_, value)| !value.is_empty()).collect()
}

/// The field `resource` of `ResourceSpans` and `ResourceLogs`, encoded.
pub(super) fn encoded(service: &Service) -> Box<[u8]> {
    let mut out = Vec::new();
    let resource = proto::open(&mut out, 1);
    for (name, value) in attributes(service) {
        proto::text_attribute(&mut out, 1, name.as_bytes(), value.as_bytes());
    }
    proto::close(&mut out, resource);
    out.into()
}

/// The field `scope` of `ScopeSpans` and `ScopeLogs`, encoded.
pub(super) fn scope() -> Box<[u8]> {
    let mut out = Vec::new();
    let scope = proto::open(&mut out, 1);
    proto::bytes(&mut out, 1, SCOPE.as_bytes());
    proto::bytes(&mut out, 2, env!("CARGO_PKG_VERSION").as_bytes());
    proto::close(&mut out, scope);
    out.into()
}

/// A member that says again what the resource says. What differs is an attribute of the event: it was written by an
/// earlier process, for another version.
pub(super) struct Known {
    texts: [(&'static [u8], Box<[u8]>); 5],
}

impl Known {
    pub(super) fn new(service: &Service) -> Known {
        let text = |name: &'static str, value: &str| (name.as_bytes(), value.as_bytes().into());
        Known {
            texts: [
                text(otel::SERVICE_NAME, &service.name),
                text(otel::SERVICE_VERSION, &service.version),
                text(otel::SERVICE_NAMESPACE, &service.namespace),
                text(otel::DEPLOYMENT_ENVIRONMENT_NAME, &service.environment),
                text(otel::CLOUD_AVAILABILITY_ZONE, &service.zone),
            ],
        }
    }

    /// Whether the resource has the text under that name. `value` is plain.
    #[inline]
    pub(super) fn has(&self, name: &[u8], value: &[u8]) -> bool {
        self.texts.iter().any(|(known, text)| *known == name && **text == *value)
    }
}
