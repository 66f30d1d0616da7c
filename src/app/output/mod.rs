//! The application's own output: two pipes, two threads, an event for each line.
//!
//! What: `run -- APP` gives the application pipes for its standard output and error. [`reader`] reads each on a thread of its
//! own, [`lines`] splits what comes, [`echo`] prints it on, where that is wanted; what a line says is
//! [`pipeline::app_log`](crate::pipeline::app_log)'s matter. Why threads and not tasks: a thread that waits holds nothing else
//! up, and a pipe's back-pressure is all that is needed towards the application.
//!
//! What it guarantees: a line is one event, in the order of its stream, whatever the application does: also when it is killed,
//! the pipe is read to its end. The application is held up by a full pipeline for `stall_max` once, and then not again
//! until there was room.
//! How it fails: see [`reader`]; without threads or pipes the application is not started.

mod echo;
mod lines;
mod reader;
#[cfg(test)]
mod tests;

use crate::pipeline::Incoming;
use crate::pipeline::app_log::{Config, Exchanges, PassThrough, Stats, Stream};
use echo::{Echo, Target};
use lines::Lines;
use reader::{Gate, Reader};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Takes an event; `false`: the pipeline is full, and the event was not taken.
pub type Accept = Arc<dyn Fn(Incoming) -> bool + Send + Sync>;

/// Room in a pipe, where the system gives so much: some 10,000 lines, for the moments in which nobody reads.
const PIPE_BYTES: libc::c_int = 1 << 20;
/// How often it is asked whether the readers are done.
const ASK_INTERVAL: Duration = Duration::from_millis(2);

/// What the readers need.
#[derive(Clone)]
pub(super) struct Setup {
    /// `app_output`.
    pub(super) config: Config,
    /// Whether a sink `stdout` is on.
    pub(super) has_stdout_sink: bool,
    /// Which exchange a line belongs to; `None`: nobody knows.
    pub(super) exchanges: Option<Arc<Exchanges>>,
    /// The pipeline.
    pub(super) accept: Accept,
    /// What became of lines.
    pub(super) stats: Arc<Stats>,
}

/// Pipes whose writing ends are not given away yet.
pub(super) struct Pipes {
    readers: Vec<Reader>,
    ended: PipeWriter,
}

/// The readers at work.
pub(super) struct Output {
    threads: Vec<JoinHandle<()>>,
    /// Dropped when the application has ended.
    ended: Option<PipeWriter>,
}

/// The pipes, and the two ends that the application is given.
///
/// # Errors
/// The system has no pipes left.
pub(super) fn pipes(setup: &Setup) -> io::Result<(Pipes, Stdio, Stdio)> {
    let (ended, ended_writer) = io::pipe()?;
    let make = |stream| {
        let (pipe, writer) = io::pipe()?;
        // SAFETY: a number for a pipe of our own. Where the system gives less, that is enough.
        unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) };
        io::Result::Ok((Reader::new(stream, pipe, ended.try_clone()?, setup), writer))
    };
    let (stdout, stdout_writer) = make(Stream::Stdout)?;
    let (stderr, stderr_writer) = make(Stream::Stderr)?;
    let pipes = Pipes { readers: vec![stdout, stderr], ended: ended_writer };
    Ok((pipes, Stdio::from(stdout_writer), Stdio::from(stderr_writer)))
}

impl Reader {
    fn new(stream: Stream, pipe: PipeReader, ended: PipeReader, setup: &Setup) -> Reader {
        let Setup { config, has_stdout_sink, exchanges, accept, stats } = setup;
        let target = match (config.pass_through, stream) {
            (PassThrough::Never, _) => None,
            (PassThrough::Auto, _) if *has_stdout_sink => None,
            (PassThrough::Always, _) if *has_stdout_sink => Some(Target::Stderr),
            (_, Stream::Stdout) => Some(Target::Stdout),
            (_, Stream::Stderr) => Some(Target::Stderr),
        };
        Reader {
            stream,
            pipe,
            ended,
            lines: Lines::new(config.line_bytes()),
            echo: target.map(|target| Echo::new(target, config.stall_max)),
            exchanges: exchanges.clone(),
            accept: Arc::clone(accept),
            stats: Arc::clone(stats),
            gate: Gate::new(config.stall_max),
        }
    }
}

impl Pipes {
    /// Starts to read.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn read(self) -> io::Result<Output> {
        let start = |reader: Reader| {
            let name = format!("app-{}", reader.stream.as_str());
            std::thread::Builder::new().name(name).spawn(move || reader.run())
        };
        let threads = self.readers.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok(Output { threads, ended: Some(self.ended) })
    }
}

impl Output {
    /// The application has ended: what is in the pipes is read, then the threads end, also where another process holds a
    /// pipe open.
    pub(super) fn close(&mut self) {
        self.ended = None;
    }

    /// Whether everything was read and handed over.
    pub(super) fn is_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits for that, as long as `patience`; whether it is so.
    pub(super) async fn finish(&mut self, patience: Duration) -> bool {
        self.close();
        let deadline = Instant::now() + patience;
        while !self.is_done() && Instant::now() < deadline {
            tokio::time::sleep(ASK_INTERVAL).await;
        }
        self.is_done()
    }
}
