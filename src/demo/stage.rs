//! Where the demo plays: a directory and the processes, both gone when it ends, however it ends.

use super::process::Processes;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// What a shell calls the status of a process that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// See the module.
#[derive(Debug)]
pub(super) struct Stage {
    /// Configurations and events of the sidecars.
    pub(super) directory: PathBuf,
    /// The sidecars' processes.
    pub(super) processes: Processes,
    exit: Arc<AtomicU8>,
}

impl Stage {
    /// Makes the directory, and clears up when the demo is interrupted.
    pub(super) fn set() -> Result<Stage, String> {
        let directory = std::env::temp_dir().join(format!("sidelight-demo-{}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let stage =
            Stage { directory, processes: Processes::default(), exit: Arc::new(AtomicU8::new(INTERRUPTED)) };
        stage.clear_on_signal().map_err(|error| format!("signal handlers: {error}"))?;
        Ok(stage)
    }

    /// From here on a signal is how the demo is meant to end.
    pub(super) fn end_on_signal(&self, exit: u8) {
        self.exit.store(exit, Ordering::Relaxed);
    }

    fn clear_on_signal(&self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (directory, processes) = (self.directory.clone(), self.processes.clone());
        let exit = Arc::clone(&self.exit);
        let (mut interrupt, mut terminate) = {
            let _entered = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            processes.kill_all();
            let _ = std::fs::remove_dir_all(&directory);
            std::process::exit(i32::from(exit.load(Ordering::Relaxed)));
        })?;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.processes.kill_all();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
