//! Where exchanges come from: a recording, read in file order as often as it takes.

use crate::record::{Entry, Event, Query, Recording, Side, What};

/// Entries, or what is wrong with one: behind damage it goes on.
pub type Entries<'s> = Box<dyn Iterator<Item = Result<Entry, String>> + Send + 's>;

/// Events, or why there are no more.
pub type Events<'s> = Box<dyn Iterator<Item = Result<Event, String>> + Send + 's>;

/// A recording, as the engine needs it. Each reading yields the same entries in the same order, and holds none.
pub trait Source: Send + Sync {
    /// All entries, in file order.
    fn entries(&self) -> Entries<'_>;

    /// All events of an entry: those of its parts, then its own.
    fn events<'s>(&'s self, entry: &'s Entry) -> Events<'s>;

    /// The authorities that the recording says it was made for.
    fn authorities(&self) -> Vec<String>;
}

/// Entries in memory.
impl Source for Vec<Entry> {
    fn entries(&self) -> Entries<'_> {
        Box::new(self.iter().cloned().map(Ok))
    }

    fn events<'s>(&'s self, entry: &'s Entry) -> Events<'s> {
        Box::new(entry.events.iter().cloned().map(Ok))
    }

    fn authorities(&self) -> Vec<String> {
        Vec::new()
    }
}

/// About how many bytes of memory an entry takes.
pub(super) fn held_bytes(entry: &Entry) -> usize {
    let events = entry.events.iter().map(|event| {
        std::mem::size_of_val(event)
            + match &event.what {
                What::Request(head) => fields_bytes(&head.fields) + head.target.len() + 64,
                What::Response(head) => fields_bytes(&head.fields),
                What::Data(_, bytes) => bytes.len(),
                What::Trailers(_, fields) => fields_bytes(fields),
                What::End(_) | What::Reset(..) => 0,
            }
    });
    std::mem::size_of::<Entry>() + 256 + events.sum::<usize>()
}

fn fields_bytes(fields: &[crate::record::Field]) -> usize {
    fields.iter().map(|field| field.name.len() + field.value.len() + std::mem::size_of_val(field)).sum()
}

/// Whether any content of this side is in the entry itself.
pub(super) fn has_data(entry: &Entry, side: Side) -> bool {
    entry.events.iter().any(|event| matches!(&event.what, What::Data(of, _) if *of == side))
}

impl Source for Recording {
    fn entries(&self) -> Entries<'_> {
        let found = Recording::entries(self, &Query::default());
        Box::new(found.map(|entry| entry.map_err(|problem| problem.to_string())))
    }

    fn events<'s>(&'s self, entry: &'s Entry) -> Events<'s> {
        Box::new(Recording::events(self, entry).map(|event| event.map_err(|problem| problem.to_string())))
    }

    fn authorities(&self) -> Vec<String> {
        self.headers().flat_map(|header| header.authorities.iter().cloned()).collect()
    }
}
