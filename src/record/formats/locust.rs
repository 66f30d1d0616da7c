//! A locustfile (<https://docs.locust.io/en/stable/writing-a-locustfile.html>): a user for each account, who sends what the
//! account sent, in its order and with its pauses, once.
//!
//! Locust's client writes queries in its own way (`%41` becomes `A`) and adds a content type where there is none.
//!
//! Content and texts are Python literals of printable ASCII, so that nothing of what was recorded is code.

use super::make;
use super::{Export, Notes};
use crate::record::Entry;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// How many accounts get users of their own; the others share one.
const ACCOUNTS_MAX: usize = 10_000;

const HEAD: &str = r#""""Recorded requests, written by sidelight: a user for each account, with its requests in their order.

Run (the last lines of this file say how many users there are):
    locust -f FILE --headless --users USERS --spawn-rate USERS --host http://127.0.0.1:8080
SPEED=10 in the environment makes it ten times as fast, LOOPS=5 sends all of it five times (0: until it is stopped).
"""
import os
import time

import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser

SPEED = float(os.environ.get("SPEED", "1"))
LOOPS = int(os.environ.get("LOOPS", "1"))
RECORDED = {}


def add(account, at, method, path, headers, body):
    """Notes a request: `at` is in seconds from the first one of the file."""
    RECORDED.setdefault(account, []).append((at, method, path, headers, body))


class Recorded(FastHttpUser):
    """Sends what an account sent."""

    abstract = True
    account = ""
    done = 0

    @task
    def replay(self):
        requests = sorted(RECORDED[self.account], key=lambda request: request[0])
        loop = 0
        while LOOPS == 0 or loop < LOOPS:
            loop += 1
            start = time.monotonic()
            for at, method, path, headers, body in requests:
                gevent.sleep(max(0.0, start + (at - FIRST) / SPEED - time.monotonic()))
                with self.client.request(
                    method, path, data=body, headers=headers, name=method + " " + path.split("?")[0],
                    allow_redirects=False, catch_response=True,
                ) as response:
                    # A recorded answer may have been an error, too: what counts is that there is one.
                    if response.status_code and response.status_code < 500:
                        response.success()
        Recorded.done += 1
        if Recorded.done == len(RECORDED) and self.environment.runner:
            gevent.spawn_later(0.5, self.environment.runner.quit)
        raise StopUser()


"#;

/// Writes a locustfile.
pub(super) struct Writer<W> {
    out: W,
    first_ns: Option<u64>,
    /// When the first request of the file was sent, from the first that was written.
    earliest: f64,
    accounts: BTreeMap<String, u64>,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(HEAD.as_bytes())?;
        Ok(Writer { out, first_ns: None, earliest: 0.0, accounts: BTreeMap::new(), notes: Notes::default() })
    }
}

/// A literal of bytes.
fn bytes(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len() + 3);
    out.push_str("b\"");
    for byte in value {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push((*byte).into());
            }
            b' '..=b'~' => out.push((*byte).into()),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}

/// A literal of a text.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for char in value.chars() {
        match char {
            '"' | '\\' => {
                out.push('\\');
                out.push(char);
            }
            ' '..='~' => out.push(char),
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(char));
            }
        }
    }
    out.push('"');
    out
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some((head, body)) = make::sendable(entry, &mut self.notes) else { return Ok(()) };
        self.notes.add("hosts are left out: all requests go to the one that --host names");
        let first_ns = *self.first_ns.get_or_insert(entry.started_ns);
        let at = (entry.started_ns as i128 - first_ns as i128) as f64 / 1e9;
        self.earliest = self.earliest.min(at);
        let is_known = self.accounts.contains_key(&entry.account_id);
        let account = if is_known || self.accounts.len() < ACCOUNTS_MAX {
            entry.account_id.as_str()
        } else {
            "(others)"
        };
        *self.accounts.entry(account.to_owned()).or_default() += 1;
        let mut fields: Vec<(String, String)> = Vec::new();
        for field in head.fields.iter().filter(|field| !make::is_framing(field)) {
            let name = make::text_of(&field.name, &mut self.notes);
            let value = make::text_of(&field.value, &mut self.notes);
            match fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
                Some((_, known)) => {
                    self.notes.add("headers that are there more than once are put together with a comma");
                    known.push_str(", ");
                    known.push_str(&value);
                }
                None => fields.push((name, value)),
            }
        }
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect();
        let url = make::text_of(make::url(head).as_bytes(), &mut self.notes);
        let target = make::split_url(&url).map_or("/", |(_, _, target)| target);
        let body = if body.is_empty() { "None".into() } else { bytes(&body) };
        let method = make::text_of(&head.method, &mut self.notes);
        writeln!(
            self.out,
            "add({}, {at:.9}, {}, {}, {{{}}}, {body})",
            text(account),
            text(&method),
            text(target),
            fields.join(", ")
        )
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        writeln!(
            self.out,
            "\nFIRST = {:.9}  # when the first was sent\n# USERS: {}",
            self.earliest,
            self.accounts.len()
        )?;
        for ((account, requests), number) in self.accounts.iter().zip(1..) {
            writeln!(
                self.out,
                "\n\nclass Account{number}(Recorded):\n    \"\"\"{requests} requests.\"\"\"\n\n    account = {}\n    fixed_count = 1",
                text(account)
            )?;
        }
        self.out.flush()?;
        Ok(self.notes)
    }
}
