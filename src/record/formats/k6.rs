//! A script for k6 (<https://grafana.com/docs/k6/latest/using-k6/scenarios/>): requests at their recorded times, or at a rate.
//!
//! Requests are literals of JSON, so that nothing of what was recorded is code. Content that is no text is Base64.

use super::make;
use super::{Export, Notes, base64};
use crate::record::Entry;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

const HEAD: &str = r#"// Recorded requests, written by sidelight. Run:
//   k6 run FILE                          at their recorded times
//   k6 run -e SPEED=10 FILE              ten times as fast
//   k6 run -e RATE=50 -e DURATION=1m FILE   50 a second, from the first again and again
//   k6 run -e BASE=http://127.0.0.1:8080 FILE   to another place
import http from 'k6/http';
import encoding from 'k6/encoding';
import exec from 'k6/execution';
import { sleep } from 'k6';

// [milliseconds since the first, method, scheme and authority, path, headers, text or null, Base64 or null]
const requests = [
"#;

const TAIL: &str = r#"];
requests.sort((a, b) => a[0] - b[0]);

const speed = Number(__ENV.SPEED || 1);
const vus = Number(__ENV.VUS || Math.min(100, Math.max(1, requests.length)));

export const options = {
  discardResponseBodies: true,
  scenarios: {
    recorded: __ENV.RATE
      ? { executor: 'constant-arrival-rate', rate: Number(__ENV.RATE), timeUnit: '1s',
          duration: __ENV.DURATION || '1m', preAllocatedVUs: vus }
      : { executor: 'shared-iterations', vus, iterations: Math.max(1, requests.length), maxDuration: '24h' },
  },
};

export default function () {
  if (requests.length === 0) return;
  const number = exec.scenario.iterationInTest;
  const [at, method, base, path, headers, text, binary] = requests[number % requests.length];
  if (!__ENV.RATE) {
    const wait = exec.scenario.startTime + (at - requests[0][0]) / speed - Date.now();
    if (wait > 0) sleep(wait / 1000);
  }
  const body = binary !== null ? encoding.b64decode(binary, 'std') : text;
  http.request(method, (__ENV.BASE || base) + path, body, { headers, redirects: 0, tags: { name: path.split('?')[0] } });
}
"#;

/// Writes a script.
pub(super) struct Writer<W> {
    out: W,
    first_ns: Option<u64>,
    notes: Notes,
}

impl<W: Write> Writer<W> {
    pub fn new(mut out: W) -> io::Result<Writer<W>> {
        out.write_all(HEAD.as_bytes())?;
        Ok(Writer { out, first_ns: None, notes: Notes::default() })
    }
}

/// JSON that is also JavaScript of any age: two line ends of Unicode are escaped.
fn literal(value: &Value) -> String {
    value.to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

impl<W: Write> Export for Writer<W> {
    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let Some((head, body)) = make::sendable(entry, &mut self.notes) else { return Ok(()) };
        let first_ns = *self.first_ns.get_or_insert(entry.started_ns);
        let at_ms = (entry.started_ns as i128 - first_ns as i128) as f64 / 1e6;
        let mut fields: Map<String, Value> = Map::new();
        for field in head.fields.iter().filter(|field| !make::is_framing(field)) {
            let name = make::text_of(&field.name, &mut self.notes);
            let value = make::text_of(&field.value, &mut self.notes);
            match fields.get_mut(&name) {
                Some(Value::String(known)) => {
                    self.notes.add("headers that are there more than once are put together with a comma");
                    known.push_str(", ");
                    known.push_str(&value);
                }
                _ => {
                    fields.insert(name, value.into());
                }
            }
        }
        let url = make::text_of(make::url(head).as_bytes(), &mut self.notes);
        let (scheme, authority, target) = make::split_url(&url).unwrap_or(("http", "localhost", "/"));
        let text = std::str::from_utf8(&body).ok();
        let (text, binary) = match text {
            _ if body.is_empty() => (Value::Null, Value::Null),
            Some(text) => (text.into(), Value::Null),
            None => (Value::Null, base64::encode(&body).into()),
        };
        let method = make::text_of(&head.method, &mut self.notes);
        let request = json!([at_ms, method, format!("{scheme}://{authority}"), target, fields, text, binary]);
        writeln!(self.out, "  {},", literal(&request))
    }

    fn finish(mut self: Box<Self>) -> io::Result<Notes> {
        self.out.write_all(TAIL.as_bytes())?;
        self.out.flush()?;
        Ok(self.notes)
    }
}
