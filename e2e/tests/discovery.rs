//! Endpoints that come from a file, which changes while traffic flows. DNS is tested with its own server in the crate.

use e2e::{Launch, RawClient, Setup, Sidelight, StrictBackend, wait_for};
use std::net::SocketAddr;
use std::path::Path;

fn write(directory: &Path, text: &str) {
    let draft = directory.join("draft");
    std::fs::write(&draft, text).expect("a file");
    std::fs::rename(draft, directory.join("endpoints.yaml")).expect("a rename");
}

fn list(endpoints: &[&StrictBackend]) -> String {
    let lines: Vec<String> =
        endpoints.iter().map(|backend| format!("- \"{}\"\n", backend.address())).collect();
    if lines.is_empty() { "[]\n".to_owned() } else { lines.concat() }
}

fn start(directory: &Path) -> Sidelight {
    let path = directory.join("endpoints.yaml");
    let cluster = format!(
        "payments:\n  discovery: {{ file: {{ path: {path:?} }} }}\n  balance: {{ policy: round_robin }}"
    );
    Sidelight::start(&Setup::bare().section("clusters", &cluster))
}

fn ask(address: SocketAddr) -> u16 {
    let request = "GET / HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n";
    RawClient::connect(address).ask(request).expect("an answer").status
}

#[test]
fn a_changed_file_moves_the_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (StrictBackend::start(), StrictBackend::start());
    write(directory.path(), &list(&[&one]));
    let proxy = start(directory.path());
    for _ in 0..4 {
        assert_eq!(ask(proxy.outbound()), 200);
    }
    assert_eq!((one.take().whole.len(), two.take().whole.len()), (4, 0));
    write(directory.path(), &list(&[&one, &two]));
    wait_for("the second endpoint to be used", || {
        assert_eq!(ask(proxy.outbound()), 200);
        (!two.take().whole.is_empty()).then_some(())
    });
    write(directory.path(), &list(&[&two]));
    wait_for("the first endpoint to be left", || {
        one.take();
        for _ in 0..4 {
            assert_eq!(ask(proxy.outbound()), 200);
        }
        one.take().whole.is_empty().then_some(())
    });
    assert!(proxy.events().exchanges().iter().all(|event| event["http.response.status_code"] == 200));
}

#[test]
fn a_broken_file_keeps_the_last_good_list() {
    let directory = tempfile::tempdir().unwrap();
    let backend = StrictBackend::start();
    write(directory.path(), &list(&[&backend]));
    let proxy = start(directory.path());
    assert_eq!(ask(proxy.outbound()), 200);
    write(directory.path(), "- { adress: nowhere }\n");
    wait_for("the problem to be shown", || {
        assert_eq!(ask(proxy.outbound()), 200);
        let text = proxy.admin("/clusters").text();
        (text.contains("adress") || proxy.log().iter().any(|line| line.to_string().contains("adress")))
            .then_some(())
    });
    std::fs::remove_file(directory.path().join("endpoints.yaml")).unwrap();
    for _ in 0..10 {
        assert_eq!(ask(proxy.outbound()), 200);
    }
    // An empty list was meant: nobody is left.
    write(directory.path(), &list(&[]));
    wait_for("no endpoint to be left", || (ask(proxy.outbound()) == 503).then_some(()));
    proxy.events().find("the cause", |event| event["sidelight.cause"] == "no_endpoint");
    write(directory.path(), &list(&[&backend]));
    wait_for("the endpoint to be back", || (ask(proxy.outbound()) == 200).then_some(()));
}

#[test]
fn a_file_that_is_not_there_is_told_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let text = "service: { name: a }\ninbound: { address: none }\n\
                clusters: { payments: { discovery: { file: { path: endpoints.yaml } } } }\n";
    std::fs::write(directory.path().join("sidelight.yaml"), text).unwrap();
    let (exit, _, errors) = Launch::run(directory.path(), &["run", "--config", "sidelight.yaml"]);
    assert_eq!((exit, errors.contains("endpoints.yaml")), (64, true), "{errors}");
}
