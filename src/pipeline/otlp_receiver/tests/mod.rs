mod round_trip;
mod wire;

use super::*;
use std::sync::Mutex;

/// A pipeline with so much room.
pub(super) struct Store {
    pub(super) events: Arc<Mutex<Vec<Incoming>>>,
}

impl Store {
    pub(super) fn new(room: usize) -> (Store, Take) {
        let events = Arc::<Mutex<Vec<Incoming>>>::default();
        let put = Arc::clone(&events);
        let take = move |event: Incoming| {
            let mut events = put.lock().unwrap();
            let has_room = events.len() < room;
            if has_room {
                events.push(event);
            }
            has_room
        };
        (Store { events }, Arc::new(take))
    }

    pub(super) fn take(&self) -> Vec<Incoming> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

/// With the head that the pipeline puts before its members.
pub(super) fn with_head(event: &Incoming) -> Vec<u8> {
    let members = event.json.strip_prefix(b"{").unwrap();
    let mut all = format!(
        r#"{{"schema":"{}","id":{{"instance":"h","epoch":1,"sequence":1}},"timestamp":"{}","service.name":"checkout""#,
        event.schema,
        crate::pipeline::encode::rfc3339(event.at)
    )
    .into_bytes();
    if members != b"}" {
        all.push(b',');
    }
    all.extend_from_slice(members);
    all
}
