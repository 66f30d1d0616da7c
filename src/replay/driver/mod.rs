//! A driver: one thread that sends what the pacing thread hands it, and reads the answers.
//!
//! All exchanges of an account, and all of a connection, are on one driver, so that their order is decided here without
//! a lock: [`order`] says what has to end first, [`lines`] what a connection carries next. The thread runs a
//! current-thread runtime; an exchange is a task on it.

mod exchange;
mod http1;
mod http2;
mod lines;
mod order;
mod upload;
mod websocket;

use super::Answer;
use super::pace::Shared;
use super::request::Dressing;
use super::seam::{Actor, Session};
use super::source::Source;
use super::tally::Tally;
use super::target::Target;
use crate::record::{Entry, Side};
use bytes::Bytes;
use exchange::{Content, Cut, Exchanged, Outgoing, Place, is_http2};
use lines::{LineKey, Lines, Mux};
use order::Order;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, SyncSender, TrySendError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The largest content that a session may rewrite.
const REWRITE_BYTES_MAX: usize = 1 << 20;

/// How often a driver tells what it counted.
const TELL: Duration = Duration::from_secs(1);

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// An exchange whose time has come.
pub(super) struct Job {
    pub id: u64,
    pub intended_ns: u64,
    /// When it was recorded to start and end, on one line of time for all passes.
    pub start_ns: u64,
    pub end_ns: u64,
    pub entry: Arc<Entry>,
    pub bytes: u32,
    pub actor: u64,
    pub connection: u64,
    pub is_last: bool,
    pub clone: u32,
    pub pass: u32,
}

/// What is the same for all exchanges of a run.
pub(super) struct Settings {
    pub targets: Vec<Target>,
    pub dressing: Dressing,
    pub timeout: Duration,
    pub drain: Duration,
    pub keep_body_bytes: usize,
    /// Pieces come when they did, so many times as fast.
    pub piece_speed: Option<f64>,
    /// Connections are those of the loop, not those that were recorded.
    pub is_closed_loop: bool,
    /// Whether anybody looks at answers.
    pub wants_content: bool,
}

/// What goes to the collector.
pub(super) type Compared = (Arc<Entry>, Vec<Option<Answer>>);

pub(super) struct Driver {
    pub shared: Arc<Shared>,
    pub settings: Arc<Settings>,
    pub source: Arc<dyn Source>,
    pub jobs: mpsc::Receiver<Job>,
    pub session: Option<Box<dyn Session>>,
    pub tell: Sender<Vec<Tally>>,
    pub compare: Option<SyncSender<Compared>>,
    pub not_compared: Arc<AtomicU64>,
}

/// One exchange with one target.
pub(super) struct Task {
    job: Rc<Job>,
    target: u32,
    line: LineKey,
    actor: Actor,
    /// Exchanges that have to end first.
    blockers: u32,
    /// Exchanges that wait for this one.
    waiters: Vec<u64>,
    ready_ns: u64,
    is_started: bool,
}

/// What tasks tell the driver.
enum Done {
    Exchange(u64, Box<Exchanged>),
    Connected(LineKey, Result<http2::Sender, &'static str>),
}

struct State {
    places: Vec<Rc<Place>>,
    tasks: Map<u64, Task>,
    order: Order,
    lines: Lines,
    session: Option<Box<dyn Session>>,
    tallies: Vec<Tally>,
    joins: Map<u64, (Vec<Option<Answer>>, usize)>,
    done: mpsc::UnboundedSender<Done>,
    compare: Option<SyncSender<Compared>>,
    not_compared: Arc<AtomicU64>,
    /// When the last of what is under way is over at the latest.
    latest: Instant,
}

impl Driver {
    /// Runs until all jobs are over.
    pub(super) fn run(self) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(64).build();
        match runtime {
            Ok(runtime) => {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, self.main());
                // A thread that still reads the recording is not waited for.
                drop(local);
                runtime.shutdown_background();
            }
            Err(error) => tracing::error!(%error, "a replay thread has no runtime"),
        }
    }

    async fn main(self) {
        let Driver { shared, settings, source, mut jobs, session, tell, compare, not_compared } = self;
        let (done, mut finished) = mpsc::unbounded_channel();
        let places: Vec<Rc<Place>> = (0..settings.targets.len() as u32)
            .map(|target| {
                Rc::new(Place {
                    settings: Arc::clone(&settings),
                    source: Arc::clone(&source),
                    shared: Arc::clone(&shared),
                    target,
                    abandon: tokio::sync::Notify::new(),
                    is_abandoned: std::cell::Cell::new(false),
                })
            })
            .collect();
        let mut state = State {
            tallies: vec![Tally::default(); places.len()],
            places,
            tasks: Map::default(),
            order: Order::default(),
            lines: Lines::default(),
            session,
            joins: Map::default(),
            done,
            compare,
            not_compared,
            latest: Instant::now(),
        };
        let mut tick = tokio::time::interval(TELL);
        let (mut is_open, mut deadline) = (true, None);
        while is_open || !state.tasks.is_empty() {
            // By turns: under overload answers must not wait behind requests, nor the tick behind both.
            tokio::select! {
                job = jobs.recv(), if is_open => match job {
                    Some(job) => state.arrive(job),
                    None => {
                        is_open = false;
                        if shared.stop.is_stopped() {
                            state.drop_waiting("stopped");
                            deadline = Some(Instant::now() + settings.drain);
                        } else {
                            deadline = Some(state.latest.max(Instant::now() + settings.drain));
                        }
                    }
                },
                done = finished.recv() => if let Some(done) = done { state.settle(done) },
                _ = tick.tick() => {
                    let told = tell.send(std::mem::replace(&mut state.tallies, vec![Tally::default(); state.places.len()]));
                    state.lines.close_idle();
                    if told.is_err() {
                        return;
                    }
                    if deadline.is_none() && shared.stop.is_stopped() && !is_open {
                        deadline = Some(Instant::now() + settings.drain);
                    }
                    if !is_open && shared.stop.is_stopped() {
                        state.drop_waiting("stopped");
                        deadline = deadline.map(|at| at.min(Instant::now() + settings.drain));
                    }
                    if shared.stop.is_urgent() || deadline.is_some_and(|at| Instant::now() >= at) {
                        state.drop_waiting(if shared.stop.is_stopped() { "stopped" } else { "drained" });
                        state.abandon();
                    }
                }
            }
        }
        let _ = tell.send(std::mem::take(&mut state.tallies));
    }
}

impl State {
    fn arrive(&mut self, job: Job) {
        let job = Rc::new(job);
        let targets = self.places.len();
        if targets > 1 || self.compare.is_some() {
            self.joins.insert(job.id, (vec![None; targets], targets));
        } else {
            self.joins.insert(job.id, (Vec::new(), targets));
        }
        for target in 0..targets as u32 {
            let id = job.id * targets as u64 + u64::from(target);
            let place = self.places.get(target as usize);
            if let Some(place) = place {
                let bound = exchange::bound(&job.entry, &place.settings);
                self.latest = self.latest.max(Instant::now() + bound + Duration::from_secs(1));
            }
            let is_closed = place.is_some_and(|place| place.settings.is_closed_loop);
            let line = LineKey::of(&job, target, is_closed);
            let actor = Actor { key: job.actor, clone: job.clone, target };
            let mut task = Task {
                target,
                line,
                actor,
                blockers: 0,
                waiters: Vec::new(),
                ready_ns: job.intended_ns,
                is_started: false,
                job: Rc::clone(&job),
            };
            for before in self.order.enter(&task.job, actor, line, id) {
                if let Some(before) = self.tasks.get_mut(&before) {
                    before.waiters.push(id);
                    task.blockers += 1;
                }
            }
            self.tasks.insert(id, task);
            self.lines.queue(line, id);
            self.advance(line);
            if let Some(task) = self.tasks.get_mut(&id)
                && !task.is_started
            {
                // From here on its time is when what it waits for is over.
                task.ready_ns = u64::MAX;
            }
        }
    }

    /// Starts what may start on a line.
    fn advance(&mut self, key: LineKey) {
        while let Some(id) = self.lines.head(key) {
            let Some(task) = self.tasks.get(&id) else {
                self.lines.pop(key);
                continue;
            };
            if task.blockers > 0 {
                return;
            }
            let Some(place) = self.places.get(task.target as usize).map(Rc::clone) else { return };
            if !is_http2(&task.job.entry) {
                let Some(idle) = self.lines.take_http1(key) else { return };
                self.start(id, &place, |place, out, intended_ns| {
                    Box::pin(exchange::over_http1(place, idle, out, intended_ns))
                });
                continue;
            }
            match self.lines.mux(key) {
                Mux::Ready(send) => {
                    self.lines.pop(key);
                    self.lines.begin_stream(key);
                    self.start(id, &place, |place, out, intended_ns| {
                        Box::pin(exchange::over_http2(place, send, out, intended_ns))
                    });
                }
                Mux::Connecting => return,
                Mux::None => {
                    self.lines.set_connecting(key);
                    let done = self.done.clone();
                    tokio::task::spawn_local(async move {
                        let result = http2::connect(&place).await;
                        let _ = done.send(Done::Connected(key, result));
                    });
                    return;
                }
            }
        }
    }

    fn start<F>(&mut self, id: u64, place: &Rc<Place>, exchange: impl FnOnce(Rc<Place>, Outgoing, u64) -> F)
    where
        F: Future<Output = Exchanged> + 'static,
    {
        let now_ns = place.now_ns();
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.is_started = true;
        if task.ready_ns == u64::MAX {
            task.ready_ns = now_ns;
        }
        let intended_ns = task.job.intended_ns;
        let done = self.done.clone();
        match outgoing(&task.job, task.actor, place, self.session.as_deref_mut()) {
            Ok(out) => {
                let future = exchange(Rc::clone(place), out, intended_ns);
                tokio::task::spawn_local(async move {
                    let exchanged = future.await;
                    let _ = done.send(Done::Exchange(id, Box::new(exchanged)));
                });
            }
            Err(reason) => {
                let answer = Answer {
                    intended_ns,
                    ended_ns: now_ns,
                    error: Some(reason.to_owned()),
                    ..Answer::default()
                };
                let exchanged = Exchanged { answer, connect_ns: 0, connection: None };
                let _ = done.send(Done::Exchange(id, Box::new(exchanged)));
            }
        }
    }

    fn settle(&mut self, done: Done) {
        match done {
            Done::Connected(key, Ok(send)) => {
                self.lines.set_ready(key, send);
                self.advance(key);
            }
            Done::Connected(key, Err(reason)) => {
                self.lines.set_unconnected(key);
                if let Some(id) = self.lines.head(key) {
                    self.lines.pop(key);
                    self.refuse(id, reason);
                }
                self.advance(key);
            }
            Done::Exchange(id, exchanged) => {
                let Exchanged { answer, connect_ns, connection } = *exchanged;
                if let Some(task) = self.tasks.get(&id) {
                    let (line, is_last, is_http2) = (task.line, task.job.is_last, is_http2(&task.job.entry));
                    self.lines.give_back(line, connection, is_http2, is_last);
                    self.finish(id, answer, connect_ns);
                    self.advance(line);
                    self.lines.close(line);
                }
            }
        }
    }

    /// Ends a task that was not sent.
    fn refuse(&mut self, id: u64, reason: &str) {
        let Some(task) = self.tasks.get(&id) else { return };
        let now_ns = self.places.get(task.target as usize).map_or(0, |place| place.now_ns());
        let answer = Answer {
            intended_ns: task.job.intended_ns,
            ended_ns: now_ns,
            error: Some(reason.to_owned()),
            ..Answer::default()
        };
        self.finish(id, answer, 0);
    }

    fn finish(&mut self, id: u64, answer: Answer, connect_ns: u64) {
        let Some(task) = self.tasks.remove(&id) else { return };
        self.order.leave(task.actor, task.line, id);
        if let Some(tally) = self.tallies.get_mut(task.target as usize) {
            if answer.sent_ns == 0 {
                tally.not_sent(answer.error.as_deref().unwrap_or("unknown"));
            } else {
                let ready_ns = if task.ready_ns == u64::MAX { answer.sent_ns } else { task.ready_ns };
                tally.sent(&task.job.entry, &answer, ready_ns.saturating_add(connect_ns));
            }
        }
        if let Some(session) = &mut self.session {
            session.learn(&task.actor, &task.job.entry, &answer);
        }
        self.join(&task.job, task.target, answer);
        let mut lines: Vec<LineKey> = Vec::new();
        for waiter in &task.waiters {
            if let Some(waiter) = self.tasks.get_mut(waiter) {
                waiter.blockers = waiter.blockers.saturating_sub(1);
                if waiter.blockers == 0 && waiter.line != task.line {
                    lines.push(waiter.line);
                }
            }
        }
        for line in lines {
            self.advance(line);
        }
    }

    /// The answers of all targets go on together.
    fn join(&mut self, job: &Rc<Job>, target: u32, answer: Answer) {
        let Some((answers, left)) = self.joins.get_mut(&job.id) else { return };
        *left -= 1;
        if let Some(slot) = answers.get_mut(target as usize) {
            *slot = (answer.sent_ns > 0).then_some(answer);
        }
        if *left > 0 {
            return;
        }
        let Some((answers, _)) = self.joins.remove(&job.id) else { return };
        if let Some(compare) = &self.compare {
            match compare.try_send((Arc::clone(&job.entry), answers)) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.not_compared.fetch_add(1, Ordering::AcqRel);
                }
            }
        }
        if let Some(place) = self.places.first() {
            let shared = &place.shared;
            shared.in_flight.fetch_sub(1, Ordering::AcqRel);
            shared.in_flight_bytes.fetch_sub(u64::from(job.bytes), Ordering::AcqRel);
            if place.settings.is_closed_loop
                && let Some(pacer) = shared.pacer.get()
            {
                pacer.unpark();
            }
        }
    }

    /// Gives up what was not started.
    fn drop_waiting(&mut self, reason: &str) {
        let waiting: Vec<u64> =
            self.tasks.iter().filter(|(_, task)| !task.is_started).map(|(id, _)| *id).collect();
        // Nothing may start because something before it was dropped.
        for id in &waiting {
            if let Some(task) = self.tasks.get_mut(id) {
                task.blockers = u32::MAX;
            }
        }
        for id in waiting {
            self.refuse(id, reason);
        }
    }

    fn abandon(&mut self) {
        for place in &self.places {
            place.is_abandoned.set(true);
            place.abandon.notify_waiters();
        }
    }
}

/// What goes out for a job.
fn outgoing(
    job: &Job,
    actor: Actor,
    place: &Place,
    session: Option<&mut (dyn Session + 'static)>,
) -> Result<Outgoing, &'static str> {
    let entry = &job.entry;
    let cut = Cut::of(entry);
    let is_piecewise = !entry.is_tunnel() && exchange::is_piecewise(entry, cut, &place.settings);
    let whole = if is_piecewise || entry.is_tunnel() { Bytes::new() } else { entry.body(Side::Request) };
    let is_small = !is_piecewise && whole.len() <= REWRITE_BYTES_MAX;
    let mut request = place.settings.dressing.dress(
        entry,
        job.clone,
        job.pass,
        (session.is_some() && is_small).then(|| whole.clone()),
    )?;
    if let Some(session) = session {
        session.rewrite(&actor, entry, &mut request);
    }
    let content = if is_piecewise {
        Content::Pieces
    } else {
        let trailers = if entry.is_tunnel() { Vec::new() } else { entry.trailers(Side::Request).to_vec() };
        Content::Whole(request.body.unwrap_or(whole), trailers)
    };
    Ok(Outgoing { entry: Arc::clone(entry), head: request.head, content, cut })
}
