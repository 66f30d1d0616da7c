//! `sidelight run`.

use super::{Source, print};
use clap::Args;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight run --config sidelight.yaml
  sidelight run --config sidelight.yaml -- ./my-service --port 8080
  sidelight run --app 127.0.0.1:8080 --cluster payments=10.0.0.7:8080 --print-config

Traffic to the application goes to port 15006, traffic from it to 127.0.0.1:15001 with the cluster's name as Host.
With an app, each line that it prints becomes an event too (`app_output`), and its exit status is the sidecar's.
SIGHUP reads the configuration again, SIGTERM drains, a second SIGTERM stops at once.";

/// The arguments of `run`.
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    source: Source,
    /// Print the configuration with every default, and exit
    #[arg(long)]
    print_config: bool,
    /// The application to start beside, and its arguments
    #[arg(last = true, value_name = "APP ARGS")]
    command: Vec<String>,
}

impl Run {
    pub(super) fn execute(self) -> ExitCode {
        let loaded = match self.source.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        if self.print_config {
            return print(&crate::config::to_yaml(&loaded.config));
        }
        let set_log_level = crate::app::init_log();
        let run = crate::app::Run { loaded, file: self.source.config, app: self.command, set_log_level };
        match crate::app::run(run) {
            Ok(exit) => ExitCode::from(exit),
            Err(error) => {
                eprintln!("error: {}", error.message);
                ExitCode::from(error.exit)
            }
        }
    }
}
