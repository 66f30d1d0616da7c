//! Whose span is whose: Trace Context §4.3, and what the event says of it.

use std::collections::HashSet;

use crate::world::{World, shared};
use crate::{PARENT, SAMPLED, TRACE};

fn ids_of_three(world: &World, parent: Option<&str>) -> (HashSet<String>, HashSet<String>) {
    let fields: Vec<(&str, &str)> = parent.map(|value| ("traceparent", value)).into_iter().collect();
    let hops = (0..3).flat_map(|_| world.hops(&fields));
    hops.map(|hop| hop.parent()).map(|parent| (parent.trace_id, parent.parent_id)).unzip()
}

#[test]
fn multiple_requests_with_valid_traceparent() {
    let (traces, parents) = ids_of_three(&shared(), Some(SAMPLED));
    assert_eq!((traces.len(), parents.len()), (1, 6));
    assert!(traces.contains(TRACE) && !parents.contains(PARENT));
}

#[test]
fn multiple_requests_without_traceparent() {
    let (traces, parents) = ids_of_three(&shared(), None);
    assert_eq!((traces.len(), parents.len()), (6, 6), "nothing joins requests that brought no trace");
}

#[test]
fn multiple_requests_with_illegal_traceparent() {
    let zeros = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let (traces, parents) = ids_of_three(&shared(), Some(&zeros));
    assert_eq!((traces.len(), parents.len()), (6, 6));
    assert!(!traces.contains(&"0".repeat(32)));
}

/// A hole in the trace otherwise: nobody would know the span that the app hangs below.
#[test]
fn the_parent_that_the_app_gets_is_the_span_of_the_event() {
    let world = shared();
    for hop in world.hops(&[("traceparent", SAMPLED), ("tracestate", "foo=1")]) {
        let event = world.event(&hop);
        assert_eq!(event["trace_id"], TRACE, "{event}");
        assert_eq!(event["parent_id"], PARENT, "{event}");
        assert_eq!(event["span_id"], *hop.parent().parent_id, "{event}");
        assert_eq!(event["sidelight.parent.source"], "header", "{event}");
        assert_eq!(world.dropped(&hop), 0, "{event}");
    }
}
