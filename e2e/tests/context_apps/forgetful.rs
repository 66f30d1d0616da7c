//! Applications that copy one header, or none: the sidecar finds whom a call serves, or says that it does not know.

use crate::mesh::{CALLERS, CALLS, Mesh, id, request};
use crate::seen::{LINKS_MAX, Seen, events, span};
use e2e::RawClient;

/// Either of them is enough: the sidecar knows the request by it, and adds all that the application left behind.
#[test]
fn the_request_id_alone_carries_the_context() {
    let mesh = Mesh::around("plain_app.py", &[("COPY", "x-request-id")]);
    for number in 1..=3 {
        let hop = mesh.follow(number);
        hop.crossed("x-request-id", number);
        hop.kept_its_id("x-request-id", number);
        hop.is_child("x-request-id", "request_id");
    }
}

#[test]
fn the_traceparent_alone_carries_the_context() {
    let mesh = Mesh::around("plain_app.py", &[("COPY", "traceparent")]);
    for number in 1..=3 {
        let hop = mesh.follow(number);
        hop.crossed("traceparent", number);
        hop.kept_its_id("traceparent", number);
        hop.is_child("traceparent", "header");
    }
}

/// A tracer bullet that were taken for a usual request on its way would do damage; so would the reverse.
#[test]
fn a_call_for_a_tracer_bullet_is_a_tracer_bullet_by_the_request_id_alone() {
    let mesh = Mesh::around("plain_app.py", &[("COPY", "x-request-id")]);
    let (bullets, others): (Vec<usize>, Vec<usize>) = (1..=10).partition(|number| number % 2 == 1);
    mesh.overlap(1..=10, id);
    let seen = mesh.seen(10);
    let next = events(&mesh.next_proxy, "inbound", 10);
    for (numbers, kind, route) in [(bullets, "TRACE", "tracer"), (others, "STANDARD", "gold")] {
        for number in numbers {
            let call = &seen.outbound[&number];
            assert_eq!(call["request_type"], kind, "{call}");
            assert_eq!(call["sidelight.route"], route, "{call}");
            assert_eq!(next[&number]["request_type"], kind, "{}", next[&number]);
            let fields = &seen.requests[&number].fields;
            assert_eq!(fields.get("x-request-type"), Some(kind), "call {number}");
            let member = format!("request.type={}", kind.to_lowercase());
            assert!(fields.list("baggage").contains(&member), "call {number}: {:?}", fields.list("baggage"));
        }
    }
}

#[test]
fn the_request_id_is_exact_also_in_a_crowd() {
    let mesh = Mesh::around("plain_app.py", &[("COPY", "x-request-id")]);
    let seen = mesh.crowd();
    for number in 1..=CALLERS * CALLS {
        seen.is_given(number, "request_id");
    }
}

/// A caller that tries again while its first try is still being served, or one that gives every request the same id.
#[test]
fn a_request_id_that_two_have_tells_nothing() {
    let mesh = Mesh::around("plain_app.py", &[("COPY", "x-request-id")]);
    mesh.overlap(1..=2, |_| "the-same".into());
    let seen = mesh.seen(2);
    for number in 1..=2 {
        assert_eq!(seen.is_lost(number), seen.spans_of(1..=2), "call {number}");
        assert_eq!(seen.outbound[&number]["request_id"], "the-same", "the id that it came with stays");
    }
}

#[test]
fn one_at_a_time_needs_nothing_from_the_application() {
    let mesh = Mesh::around("plain_app.py", &[]);
    for number in 1..=3 {
        let hop = mesh.follow(number);
        hop.crossed("nothing", number);
        hop.kept_its_id("nothing", number);
        hop.is_child("nothing", "sole");
    }
}

/// Without a pause between an answer and the next request, and on one connection.
#[test]
fn one_after_the_other_keeps_its_parents() {
    const ALL: usize = 200;
    let mesh = Mesh::around("plain_app.py", &[]);
    let mut client = RawClient::connect(mesh.proxy.inbound());
    for number in 1..=ALL {
        let answer = client.ask(request(number, "", &id(number))).unwrap();
        assert_eq!(answer.status, 200, "call {number}: {}", answer.text());
    }
    let seen = mesh.seen(ALL);
    let is_sole = |number: &usize| seen.outbound[number]["sidelight.parent.source"] == "sole";
    let (kept, lost): (Vec<usize>, Vec<usize>) = (1..=ALL).partition(is_sole);
    for number in &kept {
        seen.is_given(*number, "sole");
    }
    for number in &lost {
        let links = seen.is_lost(*number);
        assert!(
            links.contains(&span(&seen.inbound[number])),
            "call {number}: its own is not among {links:?}"
        );
    }
    println!("{} of {ALL} calls kept their parent", kept.len());
    assert!(kept.len() * 100 >= ALL * 95, "only {} of {ALL} calls kept their parent", kept.len());
}

#[test]
fn in_a_crowd_nobody_gets_a_parent_that_is_not_its_own() {
    let mesh = Mesh::around("plain_app.py", &[]);
    let seen = mesh.crowd();
    let mut lost = 0;
    for (number, call) in &seen.outbound {
        if call["sidelight.parent.source"] == "sole" {
            seen.is_given(*number, "sole");
            continue;
        }
        lost += 1;
        let links = seen.is_lost(*number);
        seen.has_new_request_id(*number);
        // With fewer than may be named, all that were under way are.
        let has_own = links.contains(&span(&seen.inbound[number]));
        assert!(has_own || links.len() == LINKS_MAX, "call {number}: its own is not among {links:?}");
    }
    println!("{lost} of {} calls have no parent, and no call has a false one", seen.outbound.len());
    assert!(lost > 0, "with {CALLERS} under way, nobody could know every parent");
}

#[test]
fn a_call_that_may_be_for_several_names_all_of_them() {
    let mesh = Mesh::around("plain_app.py", &[]);
    let mut total = 0;
    for count in [2, LINKS_MAX, LINKS_MAX + 4] {
        let numbers = total + 1..=total + count;
        mesh.overlap(numbers.clone(), id);
        total += count;
        // Their events are written when they are no longer under way.
        events(&mesh.proxy, "inbound", total);
    }
    let seen = mesh.seen(total);
    let rounds = [1..=2, 3..=2 + LINKS_MAX, 3 + LINKS_MAX..=total];
    for (number, numbers) in rounds.iter().flat_map(|numbers| numbers.clone().map(move |n| (n, numbers))) {
        let (links, served) = (seen.is_lost(number), seen.spans_of(numbers.clone()));
        seen.has_new_request_id(number);
        assert_eq!(links.len(), served.len().min(LINKS_MAX), "call {number}");
        assert!(links.is_subset(&served), "call {number} names one that was not under way");
    }
}

/// A caller leaves, its sidecar forgets the exchange, and the application works on for it while it serves another.
#[test]
fn work_for_a_caller_that_left_is_not_given_to_the_next() {
    let mesh = Mesh::around("plain_app.py", &[]);
    let mut leaver = RawClient::connect(mesh.proxy.inbound());
    leaver.send(request(1, "?after=began:2", &id(1)));
    mesh.app.wait_for_line("the first call to begin", |line| line["step"] == "began:1");
    leaver.reset();
    let left = mesh.proxy.events().of(&id(1));
    assert_eq!(left["sidelight.cause"], "client_gone", "{left}");
    // Now the first call is made, while the second exchange is the only one that the sidecar knows of.
    mesh.ask(request(2, "?after=called:1", &id(2)));
    let seen = mesh.seen(2);
    for number in 1..=2 {
        assert_eq!(seen.is_lost(number), seen.spans_of(2..=2), "call {number}");
        seen.has_new_request_id(number);
    }
}

/// A timer, a queue: what calls while nobody is served may call at any time, also while one is.
#[test]
fn an_application_with_work_of_its_own_is_not_believed_to_work_for_the_one_it_serves() {
    let mesh = Mesh::around("plain_app.py", &[]);
    mesh.ask(request(1, "", &id(1)));
    events(&mesh.proxy, "inbound", 1);
    // Nobody is served any more, and the application calls.
    let own = "GET /seen/2 HTTP/1.1\r\nHost: next\r\n\r\n";
    let answer = RawClient::connect(mesh.proxy.outbound()).ask(own).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    mesh.ask(request(3, "", &id(3)));
    let seen = Seen::of(&mesh, 2, 3);
    seen.is_given(1, "sole");
    let own = &seen.outbound[&2];
    assert_eq!(own["sidelight.parent.source"], "root", "{own}");
    assert!(own.get("parent_id").is_none() && own.get("sidelight.links").is_none(), "{own}");
    assert_eq!(seen.is_lost(3), seen.spans_of(3..=3));
}
