//! The sink: batches to a stream, acknowledgements back.

use super::Config;
use super::session::{Session, Wanted};
use super::target::Target;
use crate::pipeline::Service;
use crate::pipeline::sinks::heading::Heading;
use crate::pipeline::sinks::settled::Settled;
use crate::pipeline::sinks::sink::{Failure, Pace, Sent, Sink};
use crate::pipeline::sinks::template::Template;
use crate::pipeline::spool::{Batch, Event};
use async_nats::jetstream;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use std::error::Error as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep_until, timeout_at};

/// The sink.
pub struct Nats {
    target: Target,
    subject: Template,
    wanted: Option<Wanted>,
    timeout: Duration,
    runtime: Option<Runtime>,
    session: Option<Session>,
    settled: Settled,
}

impl Nats {
    /// Reads the files that the configuration names; connects when there is something to send.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn new(config: &Config, about: &Service, base_dir: &Path) -> Result<Nats, String> {
        let subject = Template::new(&config.subject, &about.name).map_err(|why| format!("subject: {why}"))?;
        let subjects = subjects(&subject);
        let is_empty = subjects.split('.').any(str::is_empty);
        if is_empty || config.subject.contains(['*', '>']) || subjects.starts_with('$') {
            return Err(format!(
                "subject: `{}`: parts between dots, without `*` and `>`, not `$…`",
                config.subject
            ));
        }
        let wanted = match (&config.stream, config.create_stream) {
            (None, false) => None,
            (None, true) => return Err("create_stream: `stream` must name it".into()),
            (Some(name), _) if name.is_empty() || name.contains(is_no_name) => {
                return Err(format!(
                    "stream: `{}`: no spaces, `.`, `*`, `>`, `/`, `\\`",
                    name.escape_debug()
                ));
            }
            (Some(name), is_made) => {
                Some(Wanted { name: name.clone(), subjects: is_made.then_some(subjects) })
            }
        };
        Ok(Nats {
            target: Target::new(config, about, base_dir)?,
            subject,
            wanted,
            timeout: config.timeout,
            runtime: None,
            session: None,
            settled: Settled::default(),
        })
    }

    /// A session that is connected, and its connection's number.
    async fn connect(&mut self, deadline: Instant) -> Result<(Session, u64), String> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let opened =
                    timeout_at(deadline.into(), Session::open(&self.target, self.wanted.as_ref())).await;
                opened.map_err(|_| "no answer in time".to_owned())??
            }
        };
        let connected = timeout_at(deadline.into(), session.connected()).await;
        match connected {
            Ok(connection) => Ok((session, connection)),
            Err(_) => {
                let why = session.complaint();
                // It goes on looking for a server.
                self.session = Some(session);
                Err(format!("not connected to any server{why}"))
            }
        }
    }

    fn message(&self, event: Event<'_>) -> (String, PublishMessage) {
        let heading = Heading::of(event.payload);
        let mut message = PublishMessage::build().payload(Bytes::copy_from_slice(event.payload));
        if let Some(id) = heading.id('-') {
            message = message.message_id(id);
        }
        if let Some(wanted) = &self.wanted {
            message = message.expected_stream(&wanted.name);
        }
        (self.subject.name(heading.kind()), message)
    }

    /// Publishes everything, then waits for the acknowledgements of all.
    async fn exchange(
        &mut self,
        (session, connection): (&mut Session, u64),
        batch: &Batch,
        deadline: Instant,
    ) -> Result<(), String> {
        let mut failure = None;
        let mut acks = Vec::with_capacity(batch.len());
        for event in batch.events() {
            if self.settled.has(event.sequence) {
                continue;
            }
            let (subject, message) = self.message(event);
            match timeout_at(deadline.into(), session.context.send_publish(subject, message)).await {
                Ok(Ok(ack)) => acks.push((event.sequence, ack)),
                Ok(Err(error)) => match refusal(&error) {
                    Some(why) => self.settled.refuse(event.sequence, why),
                    None => failure = Some(self.explain(&error)),
                },
                Err(_) => failure = Some("the server reads nothing".into()),
            }
            if failure.is_some() {
                break;
            }
        }
        for (sequence, ack) in acks {
            match self.wait_for(session, ack, connection, deadline).await {
                Ok(None) => self.settled.deliver(sequence),
                Ok(Some(why)) => self.settled.refuse(sequence, why),
                // Those that are acknowledged already count, whatever became of this one.
                Err(why) => failure = failure.or(Some(why)),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// `Ok(None)`: acknowledged; `Ok(Some(why))`: refused.
    async fn wait_for(
        &self,
        session: &mut Session,
        ack: PublishAckFuture,
        connection: u64,
        deadline: Instant,
    ) -> Result<Option<String>, String> {
        let complaint = session.complaint();
        tokio::select! {
            biased;
            answer = ack.into_future() => match answer {
                Ok(_) => Ok(None),
                Err(error) => refusal(&error).map_or_else(|| Err(self.explain(&error)), |why| Ok(Some(why))),
            },
            () = session.lost(connection) => {
                Err("the connection broke before the stream had acknowledged all".into())
            }
            () = sleep_until(deadline.into()) => Err(format!("the stream has not acknowledged in time{complaint}")),
        }
    }

    fn explain(&self, error: &PublishError) -> String {
        let subjects = subjects(&self.subject);
        match (error.kind(), error.source()) {
            (PublishErrorKind::StreamNotFound, _) => format!(
                "no stream takes the subject: make one (`nats stream add --subjects '{subjects}'`), or set `stream` and `create_stream`"
            ),
            (_, Some(source)) => format!("{source}"),
            (_, None) => format!("{error}"),
        }
    }
}

impl Sink for Nats {
    fn pace(&self) -> Pace {
        Pace { timeout: self.timeout, ..Pace::default() }
    }

    fn send(&mut self, batch: &Batch, deadline: Instant) -> Result<Sent, Failure> {
        self.settled.begin(batch);
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => {
                let mut builder = Builder::new_multi_thread();
                let made = builder.worker_threads(1).thread_name("nats").enable_all().build();
                made.map_err(|error| Failure::retry(format!("cannot make a runtime: {error}")))?
            }
        };
        let result = runtime.block_on(async {
            let (mut session, connection) = self.connect(deadline).await?;
            let result = self.exchange((&mut session, connection), batch, deadline).await;
            self.session = Some(session);
            result
        });
        self.runtime = Some(runtime);
        match result {
            Ok(()) => Ok(self.settled.finish(batch)),
            Err(why) => Err(Failure::retry(format!("{}: {why}", self.target.text))),
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // The client ends when its last handle is gone; nothing of it is waited for.
        self.session = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why the server or the stream will never have the event, if that is what the error says.
fn refusal(error: &PublishError) -> Option<String> {
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        return Some(error.to_string());
    }
    let answer = error.source()?.downcast_ref::<jetstream::Error>()?;
    (answer.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM).then(|| answer.to_string())
}

/// The subjects of all kinds of events.
fn subjects(subject: &Template) -> String {
    let any = |part| if str::contains(part, '*') { "*" } else { part };
    subject.name("*").split('.').map(any).collect::<Vec<_>>().join(".")
}

fn is_no_name(c: char) -> bool {
    c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\')
}
