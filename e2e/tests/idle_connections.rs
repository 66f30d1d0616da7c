//! Ten thousand connections that do nothing cost little, and go away again.

use e2e::{Setup, Sidelight, StrictBackend, binary, process, wait_for};
use std::io::{Read, Write};
use std::net::TcpStream;

const CONNECTIONS: usize = 10_000;

/// Allows as many descriptors as the system lets this process have; children inherit it.
fn raise_descriptors() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to one `rlimit` that lives longer than they do.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    usize::try_from(limit.rlim_max).unwrap_or(usize::MAX)
}

fn connect(proxy: &Sidelight, count: usize) -> Vec<TcpStream> {
    let mut space = [0; 1024];
    (0..count)
        .map(|number| {
            let mut client = TcpStream::connect(proxy.inbound())
                .unwrap_or_else(|error| panic!("connection {number}: {error}"));
            client.write_all(b"GET / HTTP/1.1\r\nHost: app.example\r\n\r\n").expect("a proxy that reads");
            let read = client.read(&mut space).expect("an answer");
            assert!(space[..read].starts_with(b"HTTP/1.1 200"), "connection {number}");
            client
        })
        .collect()
}

#[test]
fn ten_thousand_idle_connections_are_cheap() {
    let allowed = raise_descriptors();
    let count = CONNECTIONS.min(allowed.saturating_sub(500));
    assert!(count >= CONNECTIONS, "only {allowed} descriptors are allowed: ulimit -Hn 12000 or more");
    let is_release = binary().components().any(|part| part.as_os_str() == "release");
    let most: u64 = if is_release { 10 * 1024 } else { 16 * 1024 };
    let backend = StrictBackend::start();
    let limits = format!("connections_max: {}\nidle_timeout: 120s", count + 1000);
    let proxy = Sidelight::start(&Setup::app(backend.address()).section("limits", &limits));
    let pid = proxy.pid();
    drop(connect(&proxy, 200)); // what is allocated once is no cost of a connection
    wait_for("the first connections to be gone", || (process::descriptors(pid) < 100).then_some(()));
    let (before, descriptors) = (proxy.resident_bytes(), process::descriptors(pid));
    let clients = connect(&proxy, count);
    let each = proxy.resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle connections: {each} bytes each (at most {most}), {} KiB at start", before / 1024);
    assert!(each <= most, "{each} bytes for each idle connection");
    let answer = e2e::RawClient::get(proxy.inbound(), "/").unwrap();
    assert_eq!(answer.status, 200);
    drop(clients);
    wait_for("the connections to be gone", || (process::descriptors(pid) <= descriptors + 5).then_some(()));
}
