//! `limits`: numbers outside of what a protocol allows, and numbers that contradict each other.

use super::{Check, size, timeout};
use crate::limits;
use crate::units::size_text;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// RFC 9113 §6.9.1.
const WINDOW_MAX: u64 = (1 << 31) - 1;

/// Key of `limits`, least and most bytes.
const SIZES: [(&[&str], u64, u64); 12] = [
    (&["request_head_bytes_max"], KIB, 16 * MIB),
    (&["request_target_bytes_max"], 64, 16 * MIB),
    (&["response_head_bytes_max"], KIB, 16 * MIB),
    (&["trailers_bytes_max"], 0, 16 * MIB),
    (&["buffer_bytes_max"], 8 * KIB, 64 * MIB),
    (&["retry_body_bytes_max"], 0, 16 * MIB),
    (&["overload", "memory"], 16 * MIB, 1 << 50),
    (&["http2", "header_list_bytes_max"], KIB, 16 * MIB),
    (&["http2", "stream_window"], 1, WINDOW_MAX),
    (&["http2", "connection_window"], 64 * KIB - 1, WINDOW_MAX), // a window cannot start smaller (RFC 9113 §6.9.2)
    (&["http2", "frame_bytes_max"], 16 * KIB, 16 * MIB - 1),
    (&["http2", "send_buffer_bytes_max"], KIB, 64 * MIB),
];

impl Check<'_, '_> {
    pub(super) fn bounds(&mut self) {
        let Some(limits) = self.root.get("limits") else { return };
        for (path, least, most) in SIZES {
            let Some(node) = limits.at(path) else { continue };
            let Some(bytes) = size(node).filter(|bytes| !(least..=most).contains(bytes)) else { continue };
            let message = format!("{} is out of range", size_text(bytes));
            let help = format!("write a size from `{}` to `{}`", size_text(least), size_text(most));
            self.error(node.span, message, help);
        }
        self.target_in_head();
        self.idle_below_all();
        for key in ["time", "interval"] {
            let node = limits.at(&["tcp_keepalive", key]);
            if let (Some(node), Some(Some(time))) = (node, timeout(node))
                && time.subsec_nanos() != 0
            {
                self.error(
                    node.span,
                    "the kernel counts keep-alive in whole seconds",
                    "write it as in `10s`",
                );
            }
        }
    }

    fn target_in_head(&mut self) {
        let defaults = limits::Config::default();
        let Some(target) = self.root.at(&["limits", "request_target_bytes_max"]) else { return };
        let head = self.root.at(&["limits", "request_head_bytes_max"]);
        let head = head.and_then(size).unwrap_or(defaults.request_head_bytes_max as u64);
        if size(target).is_some_and(|target| target > head) {
            let message =
                format!("the request target may be longer than the head it is in ({})", size_text(head));
            self.error(target.span, message, "make it smaller than `request_head_bytes_max`");
        }
    }

    fn idle_below_all(&mut self) {
        let defaults = limits::Config::default();
        let Some(idle) = self.root.at(&["limits", "idle_connections_per_endpoint_max"]) else { return };
        let all = self.root.at(&["limits", "connections_per_endpoint_max"]);
        let all =
            all.and_then(|node| node.integer()).unwrap_or(defaults.connections_per_endpoint_max as i128);
        if idle.integer().is_some_and(|idle| idle > all) {
            let message = format!("more idle connections than connections ({all})");
            self.error(idle.span, message, "make it at most `connections_per_endpoint_max`");
        }
    }
}
