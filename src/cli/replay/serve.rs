//! `sidelight replay --serve`: the calls of the application, answered from a recording.

use super::Replay;
use crate::cli::{Format, print};
use crate::exchange::Direction;
use crate::record::{Query, Recording};
use crate::replay::stub;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

impl Replay {
    /// Answers from the recording until it is interrupted.
    pub(super) fn stub(&self, recording: &Recording, address: SocketAddr) -> ExitCode {
        let query = Query { direction: Some(Direction::Outbound), ..Query::default() };
        let mut problems = 0;
        let entries = recording.entries(&query).filter_map(|entry| match entry {
            Ok(entry) => Some(entry),
            Err(problem) => {
                problems += 1;
                eprintln!("{problem}");
                None
            }
        });
        let answers = Arc::new(stub::Answers::load(entries));
        if answers.is_empty() {
            eprintln!(
                "error: {}: no call of the application to others is in it (record the outbound side)",
                self.recording.display()
            );
            return ExitCode::FAILURE;
        }
        let latency = if self.recorded_latency { stub::Latency::Recorded } else { stub::Latency::None };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("error: {error}");
                return ExitCode::FAILURE;
            }
        };
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await?;
            eprintln!("{} calls are answered on {}", answers.len(), listener.local_addr()?);
            let stop = async {
                let _ = tokio::signal::ctrl_c().await;
            };
            stub::serve(listener, Arc::clone(&answers), stub::Options { latency }, stop).await;
            Ok::<(), std::io::Error>(())
        });
        if let Err(error) = served {
            eprintln!("error: {address}: {error}");
            return ExitCode::FAILURE;
        }
        let report = answers.report();
        let printed = match self.result.format {
            Format::Text => print(&report.to_string()),
            Format::Json => print(&serde_json::to_string_pretty(&report).unwrap_or_default()),
        };
        if problems > 0 { ExitCode::FAILURE } else { printed }
    }
}
