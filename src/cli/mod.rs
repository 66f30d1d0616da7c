//! The command line. Exit status: 0 ok, 1 failed, 2 usage, 64 configuration refused.

mod check;
mod ctl;
mod demo;
mod explain;
mod graph;
mod recording;
mod replay;
mod run;
mod trace;

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// A service-mesh sidecar that explains what it does.
#[derive(Parser)]
#[command(name = "sidelight", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  sidelight run --app 127.0.0.1:8080 --cluster payments=10.0.0.7:8080,10.0.0.8:8080
  sidelight run --config sidelight.yaml -- ./my-service --port 8080
  sidelight check sidelight.yaml
  sidelight explain --config sidelight.yaml GET http://payments/charge -H 'x-license: gold'
  sidelight trace show 4bf92f35 --from storefront.ndjson checkout.ndjson
  sidelight graph --from http://127.0.0.1:15000 --format mermaid
  sidelight recording ls recording/ --entries --account acme
  sidelight replay recording/ --to http://127.0.0.1:8080 --speed 10

Exit status: 0 ok, 1 failed, 2 usage, 64 configuration refused.
The log goes to stderr as JSON lines; SIDELIGHT_LOG=debug shows more.";

#[derive(Subcommand)]
enum Command {
    /// Run the sidecar; with an app, start it beside, pass signals on, live and die with it
    #[command(after_help = run::EXAMPLES)]
    Run(run::Run),
    /// Validate configurations: every problem at once, with its line and what to write instead
    Check(check::Check),
    /// Print the JSON Schema of the configuration, with every key and default
    Schema,
    /// Say which route, cluster and endpoint a request would get, and why
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Explain),
    /// Print traces out of the event files of several sidecars
    #[command(after_help = trace::EXAMPLES)]
    Trace(trace::Trace),
    /// Look at a running sidecar and tell it what to do, through its admin API
    #[command(after_help = ctl::EXAMPLES)]
    Ctl(ctl::Ctl),
    /// Draw who calls whom, out of the events or admin ports of several sidecars
    #[command(after_help = graph::EXAMPLES)]
    Graph(graph::GraphCommand),
    /// Look at recordings of real traffic, and exchange them with other programs
    #[command(after_help = recording::EXAMPLES)]
    Recording(recording::RecordingCommand),
    /// Send recorded traffic again: to simulate usage, to load-test, to compare versions
    #[command(after_help = replay::EXAMPLES)]
    Replay(Box<replay::Replay>),
    /// Run a small mesh on loopback, and tell what was observed
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Demo),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where the configuration comes from.
#[derive(Args)]
struct Source {
    /// The configuration's file
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["app", "cluster"])]
    config: Option<PathBuf>,
    /// Without a file: where the application listens
    #[arg(long, value_name = "HOST:PORT")]
    app: Option<String>,
    /// Without a file: a cluster and its endpoints; may be repeated
    #[arg(long, value_name = "NAME=HOST:PORT,…", requires = "app")]
    cluster: Vec<String>,
}

impl Source {
    /// Loads and checks it; prints what is wrong, and the exit status for it.
    fn load(&self) -> Result<crate::config::Loaded, ExitCode> {
        let loaded = match (&self.config, &self.app) {
            (Some(file), _) => crate::config::load(file),
            (None, Some(app)) => crate::config::from_flags(app, &self.cluster),
            (None, None) => {
                eprintln!(
                    "error: neither --config FILE nor --app HOST:PORT was given; see `sidelight run --help`"
                );
                return Err(ExitCode::from(2));
            }
        };
        match loaded {
            Ok(loaded) => {
                if !loaded.warnings.is_empty() {
                    eprint!("{}", loaded.warnings.render(is_terminal()));
                }
                Ok(loaded)
            }
            Err(problems) => {
                eprint!("{}", problems.render(is_terminal()));
                Err(ExitCode::from(crate::app::EXIT_CONFIG))
            }
        }
    }
}

fn is_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stderr().is_terminal()
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version, and wrong usage; of a check that is UNKNOWN, for 2 would be CRITICAL to who asked.
        Err(problem) => {
            let _ = problem.print();
            let words: Vec<String> = std::env::args().skip(1).collect();
            let is_check =
                words.first().is_some_and(|word| word == "ctl") && words.iter().any(|word| word == "check");
            let exit = if problem.exit_code() != 0 && is_check { 3 } else { problem.exit_code() };
            return ExitCode::from(u8::try_from(exit).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Run(run) => run.execute(),
        Command::Check(check) => check.execute(),
        Command::Schema => print(&format!("{:#}", crate::config::schema())),
        Command::Explain(explain) => explain.execute(),
        Command::Trace(trace) => trace.execute(),
        Command::Ctl(ctl) => ctl.execute(),
        Command::Graph(graph) => graph.execute(),
        Command::Recording(recording) => recording.execute(),
        Command::Replay(replay) => replay.execute(),
        Command::Demo(demo) => demo.execute(),
    }
}

/// Prints a result. A reader that closed the pipe (`| head`) has seen enough.
fn print(text: &str) -> ExitCode {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
