//! `sidelight trace`.

use super::{Format, print};
use crate::pipeline::trace_view::{self, Answer, Filter, Id, Look, Source, Summary};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How wide lines may be where nobody says: room for the bars.
const COLUMNS: usize = 120;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight trace ls --from /var/log/sidelight/*.ndjson --errors
  sidelight trace show 4bf92f3577b34da6a3ce929d0e0e4736 --from storefront.ndjson checkout.ndjson
  kubectl logs -l mesh=shop -c sidelight | sidelight trace show 4bf92f35 --from -

The files are what the sinks `file` and `stdout` wrote, of any number of sidecars, in any order.";

const SHOW_EXAMPLES: &str = "\
Examples:
  sidelight trace show 4bf92f3577b34da6a3ce929d0e0e4736 --from storefront.ndjson checkout.ndjson
  sidelight trace show 4bf92f35 --from *.ndjson            # the first digits, 8 or more
  sidelight trace show 0190b8a2-7f0c-7cc1 --from *.ndjson  # x-request-id, as an answer has it
  zstdcat old.ndjson.zst | sidelight trace show 4bf92f35 --from - --format json

A line is a span: when it began (from the start of the trace), how long it took, service, SERVER (inbound)
or CLIENT (outbound), method and route, status and cause, where it went. A SERVER span hangs below the
CLIENT span that called it. Times are those of each machine's clock: a span that began before its parent is
marked, not moved.

Exit status: 1 when there is no such trace, or several that may be meant.";

const LIST_EXAMPLES: &str = "\
Examples:
  sidelight trace ls --from *.ndjson
  sidelight trace ls --from *.ndjson --account a1 --errors --slower-than 250ms --limit 5

The newest first. `longest` is the duration of the trace's longest span.";

/// The arguments of `trace`.
#[derive(Args)]
pub(super) struct Trace {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print one trace as a tree, out of the event files of several sidecars
    #[command(
        after_help = SHOW_EXAMPLES,
        override_usage = "sidelight trace show <ID> --from <FILE>... [--format <FORMAT>]"
    )]
    Show(Show),
    /// List the traces that are in event files
    #[command(after_help = LIST_EXAMPLES)]
    Ls(List),
}

#[derive(Args)]
struct Files {
    /// Event files of sidecars; - is the standard input
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    from: Vec<PathBuf>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Args)]
struct Show {
    /// A trace id, its first 8 digits or more, or a request id
    #[arg(value_parser = Id::parse)]
    id: Id,
    #[command(flatten)]
    files: Files,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    files: Files,
    /// Only traces with a span of this account
    #[arg(long, value_name = "ACCOUNT")]
    account: Option<String>,
    /// Only traces in which something went wrong
    #[arg(long)]
    errors: bool,
    /// Only traces with a span that took longer: 250ms, 1s
    #[arg(long, value_name = "DURATION", value_parser = crate::units::parse_duration)]
    slower_than: Option<Duration>,
    /// At most so many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
}

impl Trace {
    pub(super) fn execute(self) -> ExitCode {
        let answered = match &self.command {
            Command::Show(show) => show.execute(),
            Command::Ls(list) => list.execute(),
        };
        answered.unwrap_or_else(|problem| {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        })
    }
}

impl Show {
    fn execute(&self) -> Result<ExitCode, String> {
        let mut sources = Source::open(&self.files.from)?;
        let (answer, reading) = trace_view::find(&self.id, &mut sources)?;
        eprint!("{}", reading.complaint());
        let id = self.id.text();
        match answer {
            Answer::Trace(trace) => Ok(match self.files.format {
                Format::Json => print_json(&trace_view::document(&trace)),
                Format::Text => print(&trace_view::text(&trace, look())),
            }),
            Answer::Several(list, more) => {
                let beyond = if more == 0 { String::new() } else { " and more".into() };
                eprintln!("error: {id} may mean {}{beyond} traces; name one of them in full", list.len());
                let _ = match self.files.format {
                    Format::Json => print_json(
                        &json!({ "several": list.iter().map(Summary::document).collect::<Vec<_>>() }),
                    ),
                    Format::Text => print(&Summary::table(&list, look())),
                };
                Ok(ExitCode::FAILURE)
            }
            Answer::Nothing => {
                let hint =
                    if self.id.is_short() { " (too short for a trace id: 8 digits are needed)" } else { "" };
                Err(format!("no trace or request {id}{hint} in\n{}", reading.searched().trim_end()))
            }
        }
    }
}

impl List {
    fn execute(&self) -> Result<ExitCode, String> {
        let filter = Filter {
            account: self.account.clone(),
            errors: self.errors,
            slower_than: self.slower_than,
            limit: self.limit,
        };
        let mut sources = Source::open(&self.files.from)?;
        let (listing, reading) = trace_view::list(&filter, &mut sources)?;
        eprint!("{}", reading.complaint());
        if listing.forgotten > 0 {
            eprintln!("{} spans of older traces are left out", listing.forgotten);
        }
        if listing.traces.is_empty() {
            let traces = if listing.total == 1 { "trace" } else { "traces" };
            eprint!("none of {} {traces} is wanted, in\n{}", listing.total, reading.searched());
        }
        if self.files.format == Format::Json {
            return Ok(print_json(&listing.traces.iter().map(Summary::document).collect()));
        }
        if listing.traces.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let exit = print(&Summary::table(&listing.traces, look()));
        if listing.wanted > listing.traces.len() {
            eprintln!("the newest {} of {}; --limit shows more", listing.traces.len(), listing.wanted);
        }
        Ok(exit)
    }
}

fn print_json(document: &Value) -> ExitCode {
    print(&format!("{document:#}"))
}

/// Colours on a terminal only, unless `NO_COLOR` is set (<https://no-color.org>); as wide as the terminal is.
fn look() -> Look {
    let is_terminal = std::io::stdout().is_terminal();
    let is_wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let named = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let columns = named.or_else(|| is_terminal.then(terminal_columns)?).unwrap_or(COLUMNS);
    Look { columns, is_color: is_terminal && is_wanted }
}

/// What the terminal says of itself; `None` when it does not.
fn terminal_columns() -> Option<usize> {
    // SAFETY: all of it may be zero.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: `size` is what this request writes into, and lives as long as the call.
    let failed = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) } != 0;
    (!failed && size.ws_col > 0).then_some(usize::from(size.ws_col))
}
