//! One row of a table of raw requests: what is sent, what must come back, and what may reach the backend.

use std::time::Duration;

use crate::backend::Script;
use crate::message::{Request, Response};

/// What the client does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends these bytes one at a time, with a pause after each.
    Split(Vec<u8>, Duration),
    /// Does nothing for so long.
    Pause(Duration),
    /// Ends the sending direction.
    HalfClose,
}

/// What must come back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The proxy's own answer, with one of these statuses.
    Own(Vec<u16>),
    /// The backend's answer, with this status.
    Relayed(u16),
    /// The backend's answer with this status if it was let through, else one of the proxy's own.
    Either(u16, Vec<u16>),
    /// The head of an answer with this status and a body that visibly never ends, or a 502 where the proxy knew in time.
    Cut(u16),
    /// Nothing but the end of the connection.
    Closed,
}

/// What may reach the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not one byte.
    Nothing,
    /// A head may, since bodies stream, but never a whole request.
    NothingWhole,
    /// One whole request.
    Once,
    /// One whole request, or a part of it: the app answered before its end.
    AtMostOnce,
    /// One whole request, or nothing: as the answer is relayed or the proxy's own.
    AsAnswered,
}

/// One more demand.
#[derive(Clone, Debug)]
pub enum Check {
    /// The backend saw this method.
    Method(&'static str),
    /// The backend saw this target.
    Target(String),
    /// The backend saw this field once, with this value.
    Saw(&'static str, &'static str),
    /// The backend did not see this field.
    SawNo(&'static str),
    /// The backend saw this body.
    SawBody(Vec<u8>),
    /// The backend saw this trailer with this value.
    SawTrailer(&'static str, &'static str),
    /// The backend did not see this trailer.
    SawNoTrailer(&'static str),
    /// The answer has this field with this value.
    Got(&'static str, &'static str),
    /// The answer lacks this field.
    GotNo(&'static str),
    /// The answer has this body.
    GotBody(Vec<u8>),
    /// The answer has this trailer.
    GotTrailer(&'static str, &'static str),
    /// These interim answers came first.
    GotInterim(&'static [u16]),
    /// The answer says `Connection: close`, and the connection ends.
    Closes,
    /// The connection stays open for the next request.
    StaysOpen,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Case {
    pub(crate) name: String,
    pub(crate) acts: Vec<Act>,
    pub(crate) script: Option<Script>,
    pub(crate) answer: Answer,
    pub(crate) reach: Reach,
    pub(crate) checks: Vec<Check>,
}

impl Case {
    /// The request is refused with `status`, nothing reaches the backend, the connection ends: framing is lost.
    pub fn refuse(name: &str, status: &[u16], bytes: impl AsRef<[u8]>) -> Self {
        Case::deny(name, status, bytes).check(Check::Closes)
    }

    /// The request is refused with `status` and nothing reaches the backend; the connection may go on.
    pub fn deny(name: &str, status: &[u16], bytes: impl AsRef<[u8]>) -> Self {
        Case {
            name: name.to_owned(),
            acts: vec![Act::Send(bytes.as_ref().to_vec())],
            script: None,
            answer: Answer::Own(status.to_vec()),
            reach: Reach::Nothing,
            checks: Vec::new(),
        }
    }

    /// The fault is in the body: refused, the connection ends, and the backend never gets a whole request.
    pub fn refuse_body(name: &str, status: &[u16], bytes: impl AsRef<[u8]>) -> Self {
        Case { reach: Reach::NothingWhole, ..Case::refuse(name, status, bytes) }
    }

    /// The request goes through to the backend, its 200 comes back, and the connection stays open.
    pub fn pass(name: &str, bytes: impl AsRef<[u8]>) -> Self {
        Case { answer: Answer::Relayed(200), reach: Reach::Once, ..Case::deny(name, &[], bytes) }
    }

    /// The request goes through whole and clean, or is refused with `status`: the RFC allows both.
    pub fn pass_or(name: &str, status: &[u16], bytes: impl AsRef<[u8]>) -> Self {
        Case {
            answer: Answer::Either(200, status.to_vec()),
            reach: Reach::AsAnswered,
            ..Case::deny(name, &[], bytes)
        }
    }

    /// A plain `GET /c`, which the backend answers by `script`: the proxy says 502.
    pub fn upstream(name: &str, script: Script) -> Self {
        Case {
            answer: Answer::Own(vec![502]),
            ..Case::pass(name, "GET /c HTTP/1.1\r\nHost: app.example\r\n\r\n").script(script)
        }
    }

    /// Another name.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// The backend answers `/c` so.
    #[must_use]
    pub fn script(mut self, script: Script) -> Self {
        self.script = Some(script);
        self
    }

    /// Another expectation of the answer.
    #[must_use]
    pub fn answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Another expectation of what reaches the backend.
    #[must_use]
    pub fn reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// Another request.
    #[must_use]
    pub fn request(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.acts = vec![Act::Send(bytes.as_ref().to_vec())];
        self
    }

    /// Does this after what was sent.
    #[must_use]
    pub fn then(mut self, act: Act) -> Self {
        self.acts.push(act);
        self
    }

    /// Sends the bytes one at a time.
    #[must_use]
    pub fn split(mut self, pause: Duration) -> Self {
        for act in &mut self.acts {
            if let Act::Send(bytes) = act {
                *act = Act::Split(std::mem::take(bytes), pause);
            }
        }
        self
    }

    /// Demands more.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// The backend saw this target.
    #[must_use]
    pub fn target(self, target: impl Into<String>) -> Self {
        self.check(Check::Target(target.into()))
    }

    /// The backend saw this field once with this value.
    #[must_use]
    pub fn saw(self, name: &'static str, value: &'static str) -> Self {
        self.check(Check::Saw(name, value))
    }

    /// The backend did not see this field.
    #[must_use]
    pub fn saw_no(self, name: &'static str) -> Self {
        self.check(Check::SawNo(name))
    }

    /// The backend saw this body.
    #[must_use]
    pub fn saw_body(self, body: impl AsRef<[u8]>) -> Self {
        self.check(Check::SawBody(body.as_ref().to_vec()))
    }

    /// The request id that the client sends itself, if it does.
    pub(crate) fn own_request_id(&self) -> Option<String> {
        let text = String::from_utf8_lossy(self.opening());
        text.split("\r\n").find_map(|line| line.strip_prefix("x-request-id: ").map(str::to_owned))
    }

    /// The bytes that are sent first, to know method and version.
    pub(crate) fn opening(&self) -> &[u8] {
        self.acts
            .iter()
            .find_map(|act| match act {
                Act::Send(bytes) | Act::Split(bytes, _) => Some(bytes.as_slice()),
                Act::Pause(_) | Act::HalfClose => None,
            })
            .unwrap_or_default()
    }
}

impl Check {
    /// Whether it holds; `Err` says what was there instead. What is said of a request holds when there is none.
    pub(crate) fn holds(&self, seen: Option<&Request>, got: Option<&Response>) -> Result<(), String> {
        let same = |what: &str, is: String, should: String| {
            if is == should { Ok(()) } else { Err(format!("{what} is {is}, not {should}")) }
        };
        let values =
            |fields: &crate::Fields, name: &str| fields.all(name).map(str::to_owned).collect::<Vec<_>>();
        match (self, seen, got) {
            (Check::Method(method), Some(seen), _) => {
                same("method", seen.method.clone(), (*method).to_owned())
            }
            (Check::Target(target), Some(seen), _) => same("target", seen.target.clone(), target.clone()),
            (Check::Saw(name, value), Some(seen), _) => {
                same(name, format!("{:?}", values(&seen.fields, name)), format!("{:?}", [value]))
            }
            (Check::SawNo(name), Some(seen), _) => {
                same(name, format!("{:?}", values(&seen.fields, name)), "[]".to_owned())
            }
            (Check::SawBody(body), Some(seen), _) => same(
                "body at the backend",
                seen.body.escape_ascii().to_string(),
                body.escape_ascii().to_string(),
            ),
            (Check::SawTrailer(name, value), Some(seen), _) => {
                same(name, format!("{:?}", values(&seen.trailers, name)), format!("{:?}", [value]))
            }
            (Check::SawNoTrailer(name), Some(seen), _) => {
                same(name, format!("{:?}", values(&seen.trailers, name)), "[]".to_owned())
            }
            (Check::Got(name, value), _, Some(got)) => {
                same(name, format!("{:?}", values(&got.fields, name)), format!("{:?}", [value]))
            }
            (Check::GotNo(name), _, Some(got)) => {
                same(name, format!("{:?}", values(&got.fields, name)), "[]".to_owned())
            }
            (Check::GotBody(body), _, Some(got)) => same(
                "body at the client",
                got.body.escape_ascii().to_string(),
                body.escape_ascii().to_string(),
            ),
            (Check::GotTrailer(name, value), _, Some(got)) => {
                same(name, format!("{:?}", values(&got.trailers, name)), format!("{:?}", [value]))
            }
            (Check::GotInterim(statuses), _, Some(got)) => {
                let interim: Vec<u16> = got.interim.iter().map(|head| head.status).collect();
                same("interim", format!("{interim:?}"), format!("{statuses:?}"))
            }
            (Check::Closes | Check::StaysOpen, _, Some(got)) => {
                let should = matches!(self, Check::Closes);
                let closes = got.fields.list("connection").iter().any(|option| option == "close");
                if should == closes {
                    Ok(())
                } else {
                    Err(format!("Connection: close is {closes}, not {should}"))
                }
            }
            _ => Ok(()),
        }
    }
}
