//! A connection to a cluster of servers, as long as it lives: it moves from server to server by itself.

use super::target::Target;
use async_nats::connection::State;
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::stream;
use async_nats::{Client, Event};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Longer than any deadline: waiting is bounded by the caller.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// Acknowledgements that may be awaited at once: several batches.
const ACKS_MAX: usize = 16_384;

/// How often the client's state is looked at, besides whenever it tells of something.
const LOOK: Duration = Duration::from_millis(50);

/// The stream that is asked for.
pub(super) struct Wanted {
    /// Its name.
    pub(super) name: String,
    /// The subjects of one that is made; `None`: it must be there.
    pub(super) subjects: Option<String>,
}

/// A connection.
pub(super) struct Session {
    client: Client,
    /// Publishes.
    pub(super) context: Context,
    /// What the server or the client complained of last; changes whenever something happens.
    complaint: watch::Receiver<Option<String>>,
}

impl Session {
    /// Connects to one of the servers, and looks for the stream.
    ///
    /// # Errors
    /// One line.
    pub(super) async fn open(target: &Target, wanted: Option<&Wanted>) -> Result<Session, String> {
        let (tell, complaint) = watch::channel(None);
        let tell = Arc::new(tell);
        let options = target.options()?.event_callback(move |event| {
            let tell = Arc::clone(&tell);
            async move { tell.send_modify(|complaint| learn(complaint, &event)) }
        });
        let client = options.connect(target.servers.as_slice()).await;
        let client = client.map_err(|error| format!("cannot connect: {error}"))?;
        let context = ContextBuilder::new()
            .timeout(FOR_EVER)
            .max_ack_inflight(ACKS_MAX)
            .backpressure_on_inflight(true)
            .build(client.clone());
        if let Some(wanted) = wanted {
            look_for(wanted, &context).await?;
        }
        Ok(Session { client, context, complaint })
    }

    /// Waits until there is a connection, and says which: the client counts them.
    pub(super) async fn connected(&mut self) -> u64 {
        while self.client.connection_state() != State::Connected {
            self.look().await;
        }
        self.count()
    }

    /// Waits until that connection is gone: what was published on it is not acknowledged any more.
    pub(super) async fn lost(&mut self, connection: u64) {
        while self.client.connection_state() == State::Connected && self.count() == connection {
            self.look().await;
        }
    }

    /// What is said of a wait that was in vain.
    pub(super) fn complaint(&self) -> String {
        self.complaint.borrow().as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    }

    fn count(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Until something happened, or a little while. Events are told later than the state changes, so they only wake.
    async fn look(&mut self) {
        if let Ok(Err(_)) = timeout(LOOK, self.complaint.changed()).await {
            sleep(LOOK).await;
        }
    }
}

fn learn(complaint: &mut Option<String>, event: &Event) {
    match event {
        Event::Connected => *complaint = None,
        Event::ServerError(_) | Event::ClientError(_) | Event::LameDuckMode => {
            *complaint = Some(event.to_string());
        }
        Event::Disconnected | Event::Closed | Event::Draining | Event::SlowConsumer(_) => {}
    }
}

/// Looks for the stream, and makes it where that is wanted.
async fn look_for(wanted: &Wanted, context: &Context) -> Result<(), String> {
    let name = &wanted.name;
    match &wanted.subjects {
        Some(subjects) => {
            let config = stream::Config {
                name: name.clone(),
                subjects: vec![subjects.clone()],
                description: Some("Events of sidelight".into()),
                ..stream::Config::default()
            };
            let made = context.get_or_create_stream(config).await;
            made.map(|_| ()).map_err(|error| format!("cannot make the stream `{name}`: {error}"))
        }
        None => {
            let found = context.get_stream(name).await;
            found.map(|_| ()).map_err(|error| {
                format!("no stream `{name}`: make it, or set `create_stream: true` ({error})")
            })
        }
    }
}
