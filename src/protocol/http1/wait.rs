//! Waiting for a request's head.

use super::settings::Settings;
use crate::error::Error;
use crate::exchange::Connection;
use crate::http1::{self, Request};
use crate::svc::{Method, Scheme};
use bytes::{Buf, BytesMut};
use tokio::time::Instant;

/// What waiting for a head came to.
pub(super) enum Head {
    Request(Request, Instant),
    Refused(Error, Instant, Option<Method>),
    Closed,
}

/// Where waiting for a head is.
#[derive(Default)]
pub(super) struct Wait {
    /// When the first byte of the head was seen.
    started: Option<Instant>,
    /// How much of the input was looked at in vain.
    pub(super) parsed_len: usize,
    deadline: Option<Instant>,
    is_deadline_of_head: bool,
}

impl Wait {
    pub(super) fn started(&self) -> Instant {
        self.started.unwrap_or_else(Instant::now)
    }

    /// Until when this wait may last: a head that has begun has less time than an idle connection.
    pub(super) fn deadline(&mut self, is_idle: bool, settings: &Settings) -> Instant {
        if let (Some(deadline), true) = (self.deadline, self.is_deadline_of_head != is_idle) {
            return deadline;
        }
        let timeout = if is_idle { settings.idle_timeout } else { settings.header_timeout };
        self.is_deadline_of_head = !is_idle;
        *self.deadline.insert(Instant::now() + timeout)
    }
}

/// Looks for a head at the start of `input`.
pub(super) fn parse(
    input: &mut BytesMut,
    wait: &mut Wait,
    settings: &Settings,
    connection: &Connection,
) -> Option<Head> {
    if input.is_empty() {
        return None;
    }
    let started = *wait.started.get_or_insert_with(Instant::now);
    let is_worth_it = wait.parsed_len == 0
        || input.len() >= settings.head.head_bytes_max
        || http1::may_be_complete(input, wait.parsed_len);
    wait.parsed_len = input.len();
    if !is_worth_it {
        return None;
    }
    match http1::parse_request(input, &settings.head, scheme(connection)) {
        Ok(Some(request)) => {
            input.advance(request.head_bytes);
            Some(Head::Request(request, started))
        }
        Ok(None) => None,
        Err(error) => Some(Head::Refused(error, started, method_of(input))),
    }
}

/// The method of a request that could not be parsed, where its first word is one.
pub(super) fn method_of(input: &[u8]) -> Option<Method> {
    Method::from_known(input.split(|byte| *byte == b' ').next()?)
}

pub(super) fn scheme(connection: &Connection) -> Scheme {
    if connection.is_tls { Scheme::Https } else { Scheme::Http }
}

/// RFC 9112 §2.2: empty lines in front of a request are ignored.
pub(super) fn skip_empty_lines(input: &mut BytesMut) {
    while input.starts_with(b"\r\n") {
        input.advance(2);
    }
}
