//! Header fields that a route names: their syntax (RFC 9110 §5), and the ones that are not a route's to change.

use super::Check;
use crate::config::node::{Entry, Node, Span, excerpt};

/// Fields that the proxy writes itself (RFC 9110 §7.6.1, RFC 9112 §6); a route that changed them would break framing.
const OWN: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

impl<'a> Check<'a, '_> {
    pub(super) fn header_edits(&mut self, route: &'a Node) {
        for side in ["request", "response"] {
            for kind in ["set", "append"] {
                let edits = route.at(&["headers", side, kind]).map_or(&[][..], Node::entries);
                edits.iter().for_each(|entry| self.header_edit(entry));
            }
            for node in route.at(&["headers", side, "remove"]).map_or(&[][..], Node::items) {
                if let Some(name) = node.text() {
                    self.header_name(name, node.span);
                    self.own_header(name, node.span);
                }
            }
        }
        let own = route.at(&["respond", "headers"]).map_or(&[][..], Node::entries);
        own.iter().for_each(|entry| self.header_edit(entry));
        for entry in route.at(&["match", "headers"]).map_or(&[][..], Node::entries) {
            self.header_name(&entry.key, entry.key_span);
        }
    }

    fn header_edit(&mut self, entry: &Entry) {
        self.header_name(&entry.key, entry.key_span);
        self.own_header(&entry.key, entry.key_span);
        if let Some(value) = entry.value.text()
            && http::HeaderValue::from_str(value).is_err()
        {
            let message = format!("`{}` cannot be the value of a header field", excerpt(value));
            self.error(entry.value.span, message, "a value is one line, without control characters");
        }
    }

    pub(super) fn header_name(&mut self, name: &str, span: Span) {
        if name.starts_with(':') || http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let message = format!("`{}` is not the name of a header field", excerpt(name));
            self.error(span, message, "a name has letters, digits and `-`, as in `x-account-id`");
        }
    }

    fn own_header(&mut self, name: &str, span: Span) {
        let name = name.to_ascii_lowercase();
        if !OWN.contains(&name.as_str()) {
            return;
        }
        let help = match name.as_str() {
            "host" => "use `rewrite: { host: … }`",
            _ => "remove it: the proxy writes it as the message needs it",
        };
        self.error(span, format!("`{name}` is not a route's to change"), help);
    }
}
