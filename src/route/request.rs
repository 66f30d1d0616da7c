//! What routes look at in a request.

use crate::context::RequestType;
use crate::exchange::{Direction, Record};
use crate::svc::RequestHead;
use std::borrow::Cow;

/// A request, as routes see it: borrowed from the exchange, or made up by `explain`.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Host, path, query, method and fields.
    pub head: &'a RequestHead,
    /// Which listener it came to.
    pub direction: Direction,
    /// Whom it belongs to.
    pub context: ContextView<'a>,
    /// A random number, for a split that is not sticky; unused otherwise.
    pub random: u64,
}

/// The context fields that routes match; an empty text is an absent field.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContextView<'a> {
    /// What they bought.
    pub license: &'a [u8],
    /// Which customer.
    pub account_id: &'a [u8],
    /// Who.
    pub user_id: &'a [u8],
    /// The feature flags that are on, separated by commas.
    pub flags: &'a [u8],
    /// Real work or a tracer bullet.
    pub request_type: RequestType,
}

impl<'a> ContextView<'a> {
    /// The context that was read into a record.
    pub fn of(record: &'a Record) -> ContextView<'a> {
        ContextView {
            license: record.text(record.license),
            account_id: record.text(record.account_id),
            user_id: record.text(record.user_id),
            flags: record.text(record.flags),
            request_type: record.request_type,
        }
    }
}

impl<'a> RequestView<'a> {
    /// The host without its port and without the final dot of an absolute name, in the case that the client wrote.
    pub(super) fn host(&self) -> &'a [u8] {
        let host = self.head.host();
        host.strip_suffix(b".").unwrap_or(host)
    }

    /// The same in lower case. Clients nearly always write it so; only another case costs an allocation.
    pub(super) fn lower_host(&self) -> Cow<'a, [u8]> {
        let authority = self.head.authority();
        let mut has_upper = false;
        let mut end = authority.len();
        for (at, byte) in authority.iter().enumerate() {
            if matches!(byte, b':' | b'[') {
                end = if *byte == b'[' { self.head.host().len() } else { at };
                break;
            }
            has_upper |= byte.is_ascii_uppercase();
        }
        let host = authority.get(..end).unwrap_or_default();
        let host = host.strip_suffix(b".").unwrap_or(host);
        if has_upper || host.starts_with(b"[") {
            Cow::Owned(host.to_ascii_lowercase())
        } else {
            Cow::Borrowed(host)
        }
    }

    /// The path.
    pub(super) fn path(&self) -> &'a [u8] {
        self.head.path()
    }
}
