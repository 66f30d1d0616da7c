//! `sidelight demo`.

use clap::Args;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight demo
  KEEP=1 sidelight demo

Everything listens on 127.0.0.1, on ports that the system chooses. It ends by itself, with 0 when everything was observed
that should be.";

/// The arguments of `demo`.
#[derive(Args)]
pub(super) struct Demo {
    /// Leave the mesh up until Ctrl-C, and print where to look; also KEEP=1
    #[arg(long)]
    keep: bool,
}

impl Demo {
    pub(super) fn execute(self) -> ExitCode {
        let is_asked = std::env::var("KEEP").is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
        match crate::demo::run(crate::demo::Options { keep: self.keep || is_asked }) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(problem) => {
                eprintln!("error: {problem}");
                ExitCode::FAILURE
            }
        }
    }
}
