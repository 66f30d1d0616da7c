//! The context through applications: those that copy headers, those with an OpenTelemetry SDK as it comes, and those that
//! have never heard of it. Each stands between the two listeners of its sidecar; behind that is the sidecar of `next`.

#[path = "context_apps/forgetful.rs"]
mod forgetful;
#[path = "context_apps/mesh.rs"]
mod mesh;
#[path = "context_apps/seen.rs"]
mod seen;

use e2e::{Launch, app};
use mesh::{Mesh, trace};
use serde_json::Value;

#[test]
fn three_lines_carry_the_context_through_the_usual_frameworks() {
    for script in ["flask_app.py", "fastapi_app.py", "express_app.js"] {
        let mesh = Mesh::around(script, &[]);
        for number in 1..=3 {
            let hop = mesh.follow(number);
            hop.crossed(script, number);
            hop.kept_its_id(script, number);
            assert_eq!(hop.outbound["parent_id"], hop.inbound["span_id"], "{script}: {}", hop.outbound);
        }
    }
}

/// Their own spans stand between: sidecar, SERVER and CLIENT of the application, sidecar.
#[test]
fn an_opentelemetry_sdk_carries_the_context_by_itself() {
    for script in ["otel_flask_app.py", "otel_express_app.js"] {
        let text = app::text(script).to_lowercase();
        let words = ["sidelight", "traceparent", "baggage", "x-"];
        assert!(words.iter().all(|word| !text.contains(word)), "{script} is to know nothing of the context");
        let mesh = Mesh::around(script, &[]);
        for number in 1..=3 {
            let hop = mesh.follow(number);
            hop.crossed(script, number);
            let of = |kind: &str| {
                mesh.app.wait_for_line(&format!("the {kind} span of {script}"), |span| {
                    span["trace_id"] == trace(number) && span["kind"] == kind
                })
            };
            let (server, client) = (of("SERVER"), of("CLIENT"));
            assert_eq!(server["parent_id"], hop.inbound["span_id"], "{script}: {server}");
            assert_eq!(client["parent_id"], server["span_id"], "{script}: {client}");
            assert_eq!(hop.outbound["parent_id"], client["span_id"], "{script}: {}", hop.outbound);
        }
    }
}

#[test]
fn the_events_of_both_sidecars_are_one_tree() {
    let mesh = Mesh::around("flask_app.py", &[]);
    mesh.follow(7);
    let files = [&mesh.proxy, &mesh.next_proxy].map(|proxy| proxy.directory().join("events.ndjson"));
    let files = files.map(|path| path.display().to_string());
    let arguments = ["trace", "show", "request-7", "--format", "json", "--from", &files[0], &files[1]];
    let (exit, out, errors) = Launch::run(mesh.proxy.directory(), &arguments);
    assert_eq!(exit, 0, "{errors}");
    let tree: Value = serde_json::from_str(&out).unwrap();
    let spans = tree["spans"].as_array().unwrap();
    let drawn: Vec<String> =
        spans.iter().map(|span| format!("{} {} {}", span["depth"], span["kind"], span["path"])).collect();
    let want = [r#"0 "SERVER" "/call/7""#, r#"1 "CLIENT" "/seen/7""#, r#"2 "SERVER" "/seen/7""#];
    assert_eq!(drawn, want, "{tree:#}");
    assert_eq!(tree["context"]["account_id"], "account-7");
}

/// What the page shows is what runs here.
#[test]
fn the_lines_in_the_documentation_are_those_of_the_applications() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/propagation.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut shown = Vec::new();
    for section in page.split("\n### ").skip(1) {
        let section = section.split("\n## ").next().unwrap_or_default();
        let Some((script, _)) =
            section.split_once("(../e2e/apps/").and_then(|(_, rest)| rest.split_once(')'))
        else {
            continue;
        };
        let blocks: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
        assert!(!blocks.is_empty(), "{script} is named, but not shown");
        for block in blocks {
            let code = block.split_once('\n').map_or("", |(_, code)| code);
            assert!(code.lines().count() >= 3, "hardly any code: {code:?}");
            assert!(app::text(script).contains(code), "{script} does not have:\n{code}");
        }
        shown.push(script.to_owned());
    }
    assert_eq!(shown, ["flask_app.py", "fastapi_app.py", "express_app.js"]);
}
