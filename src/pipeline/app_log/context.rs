//! The context of an exchange, as the lines that belong to it are given it.

use crate::context::{Field, RequestType, TraceParent};
use crate::exchange::Record;
use crate::protocol::propagate::kept_texts;

/// Ids and business fields. Where several exchanges may be meant, what all of them agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: Option<[u8; 16]>,
    /// The exchange's own span.
    pub span_id: Option<[u8; 8]>,
    /// The fields, one behind the other.
    texts: Vec<u8>,
    /// Where each ends.
    ends: [usize; Field::COUNT],
}

impl Context {
    fn new<'a>(trace: &TraceParent, fields: impl Iterator<Item = (Field, &'a [u8])> + Clone) -> Context {
        let mut context =
            Context { trace_id: Some(trace.trace_id), span_id: Some(trace.parent_id), ..Context::default() };
        let of = |wanted: Field| {
            fields.clone().find(|(field, _)| *field == wanted).map_or(&[][..], |(_, text)| text)
        };
        context.write(|field| match field {
            Field::RequestType => RequestType::parse(of(field)).unwrap_or_default().as_str().as_bytes(),
            field => of(field),
        });
        context
    }

    /// Of an exchange that is under way, as it is kept.
    pub(super) fn kept(trace: &TraceParent, context: &[u8]) -> Context {
        let texts: Vec<(Field, &[u8])> = kept_texts(context).collect();
        Context::new(trace, texts.iter().copied())
    }

    /// Of an exchange that ended.
    pub(super) fn of(record: &Record) -> Context {
        let fields = [
            (Field::RequestId, record.text(record.request_id)),
            (Field::UserId, record.text(record.user_id)),
            (Field::AccountId, record.text(record.account_id)),
            (Field::License, record.text(record.license)),
            (Field::RequestType, record.request_type.as_str().as_bytes()),
            (Field::Flags, record.text(record.flags)),
        ];
        Context::new(&record.trace, fields.into_iter())
    }

    fn write<'a>(&mut self, text: impl Fn(Field) -> &'a [u8]) {
        self.texts.reserve_exact(Field::ALL.into_iter().map(|field| text(field).len()).sum());
        for (field, end) in Field::ALL.into_iter().zip(&mut self.ends) {
            self.texts.extend_from_slice(text(field));
            *end = self.texts.len();
        }
    }

    /// The value of a field; empty without one.
    pub fn text(&self, field: Field) -> &[u8] {
        let end = |at: usize| self.ends.get(at).copied().unwrap_or_default();
        let start = field.index().checked_sub(1).map_or(0, end);
        self.texts.get(start..end(field.index())).unwrap_or_default()
    }

    /// Whether both are of the same exchange.
    pub(super) fn is_same_exchange(&self, other: &Context) -> bool {
        self.span_id.is_some() && (self.trace_id, self.span_id) == (other.trace_id, other.span_id)
    }

    /// What both agree on.
    pub(super) fn agreed(&self, other: &Context) -> Context {
        let mut agreed = Context {
            trace_id: self.trace_id.filter(|_| self.trace_id == other.trace_id),
            span_id: self.span_id.filter(|_| self.is_same_exchange(other)),
            ..Context::default()
        };
        agreed.write(|field| match self.text(field) {
            text if text == other.text(field) => text,
            _ => &[],
        });
        agreed
    }
}
