//! The application that is started beside: signals go to it, its end is ours, and what it prints is read to its end.

use super::output::{self, Output};
use crate::admin::Pending;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How often the application is asked whether it listens.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

/// How long what the application printed last may take on its way into the pipeline. The readers give up before.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(4);

/// The running application.
pub(super) struct Child {
    process: tokio::process::Child,
    /// What reads its output, where that is collected.
    output: Option<Output>,
}

impl Child {
    /// Starts the application; `None` when there is none to start. Without `output` it prints where we do.
    pub(super) fn start(command: &[String], output: Option<&output::Setup>) -> io::Result<Option<Child>> {
        let Some((program, arguments)) = command.split_first() else { return Ok(None) };
        // A process group of its own: a Ctrl-C of the terminal reaches it through us, once, after draining.
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        // SAFETY: between fork and exec only this one system call is made, which allocates nothing.
        unsafe {
            command.pre_exec(|| {
                super::set_huge_pages_disabled(false);
                Ok(())
            });
        }
        let pipes = match output.filter(|output| output.config.collect) {
            Some(output) => {
                let (pipes, stdout, stderr) = output::pipes(output)?;
                command.stdout(stdout).stderr(stderr);
                Some(pipes)
            }
            None => None,
        };
        let process = command.spawn()?;
        // It holds the writing ends of the pipes, which would never end.
        drop(command);
        tracing::info!(pid = process.id(), program, "the application was started");
        let output = pipes.map(output::Pipes::read).transpose()?;
        Ok(Some(Child { process, output }))
    }

    /// Completes with the exit status when the application ends; never when there is none.
    pub(super) async fn ended(child: &mut Option<Child>) -> u8 {
        match child {
            Some(child) => {
                let status = child.process.wait().await;
                child.finish_output().await;
                status.map_or(1, exit_of)
            }
            None => std::future::pending().await,
        }
    }

    /// Passes `signal` on and waits; kills at the deadline.
    pub(super) async fn stop(&mut self, signal: i32, deadline: Instant) -> Option<u8> {
        if let Ok(Some(status)) = self.process.try_wait() {
            self.finish_output().await;
            return Some(exit_of(status));
        }
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: a signal to the process group that we made; the child is not reaped yet, so the number is its own.
            unsafe { libc::kill(-pid, signal) };
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let exit = match tokio::time::timeout(left, self.process.wait()).await {
            Ok(Ok(status)) => exit_of(status),
            Ok(Err(_)) => 1,
            Err(_) => {
                tracing::warn!("the application did not end in time and was killed");
                self.kill();
                exit_of(ExitStatus::from_raw(libc::SIGKILL))
            }
        };
        self.finish_output().await;
        Some(exit)
    }

    /// The application has ended: waits until all that it printed is handed over.
    async fn finish_output(&mut self) {
        if let Some(output) = &mut self.output
            && !output.finish(OUTPUT_TIMEOUT).await
        {
            tracing::warn!("what the application printed last is lost: the pipeline did not take it in time");
        }
    }

    /// Ends the application now, with everything in its process group.
    pub(super) fn kill(&mut self) {
        if let Some(pid) = self.process.id().and_then(|pid| i32::try_from(pid).ok()) {
            // SAFETY: as in `stop`.
            unsafe { libc::kill(-pid, libc::SIGKILL) };
        }
        let _ = self.process.start_kill();
    }
}

/// The status as shells tell it: 128 and the signal's number for one that was killed.
fn exit_of(status: ExitStatus) -> u8 {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    u8::try_from(code).unwrap_or(1)
}

/// Holds `pending` until somebody accepts connections at `address`.
pub(super) async fn wait_until_listening(address: String, pending: Pending) {
    let _pending = pending;
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}
