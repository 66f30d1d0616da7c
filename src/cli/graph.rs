//! `sidelight graph`.

use super::print;
use crate::pipeline::graph::diff::{self, Change};
use crate::pipeline::graph::review::{self, Verdict};
use crate::pipeline::graph::{Aliases, Format, Graph, Manifest, Map, source};
use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight graph --from http://127.0.0.1:15000 http://127.0.0.1:16000
  sidelight graph --from /var/log/sidelight/*.ndjson* --format dot | dot -Tsvg > graph.svg
  kubectl logs -l mesh=shop -c sidelight | sidelight graph --from - --format mermaid
  sidelight graph --from http://127.0.0.1:15000 --format json > monday.json
  sidelight graph diff monday.json tuesday.json
  sidelight graph check --declared dependencies.yaml --from http://127.0.0.1:15000

A source is an event file (what the sinks `file` and `stdout` wrote, also packed with zstd), `-` for the
standard input, a graph that was saved with --format json, or the URL of an admin port. Any number of them,
of any number of sidecars, in any order: an event or a sidecar that is there twice counts once.

Formats: table, json, dot (Graphviz), mermaid, vizceral, spigo (simianviz), jaeger and zipkin (what their
dependency APIs answer), prometheus (the metrics that Kiali and Grafana read), declared (the file that
`graph check` reads, made of what was observed).";

const DIFF_EXAMPLES: &str = "\
Examples:
  sidelight graph diff monday.json tuesday.json
  sidelight graph diff monday.json http://127.0.0.1:15000 --fail-on new,gone,errors,latency --format json

Links are compared by who calls whom over which protocol. `errors`: the share of failed calls grew by 0.01 and
doubled; `latency`: p99 grew by half and by 5 ms; both of at least 20 calls.

Exit status: 1 when there is a difference that --fail-on names.";

const CHECK_EXAMPLES: &str = "\
Examples:
  sidelight graph check --declared dependencies.yaml --from http://127.0.0.1:15000 http://127.0.0.1:16000
  sidelight graph check --declared dependencies.yaml --from *.ndjson --fail-on undeclared,drifted --format json

The file says for each service what it depends on, as `service.depends_on` does for one:
  checkout:
    - payments
    - { service: stock, clusters: [stock-eu, stock-us], criticality: soft, max_rps: 50, timeout: 250ms }

`undeclared`: was called, and the file does not say so; `unused`: the file says so, and it was not called;
`drifted`: more calls a second, more failures or a longer p99 than the file allows, of at least 20 calls.
Services whose sidecars were not asked are not judged. `--format declared` of `sidelight graph` writes such a file.

Exit status: 1 when there is a finding that --fail-on names.";

/// The arguments of `graph`.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct GraphCommand {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    draw: Draw,
}

#[derive(Subcommand)]
enum Command {
    /// Compare two graphs: new and gone links, more errors, longer latencies
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Diff),
    /// Hold what was observed against what was declared
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
}

#[derive(Args)]
struct Sources {
    /// Event files, saved graphs, - for the standard input, URLs of admin ports
    #[arg(long, required = true, num_args = 1.., value_name = "SOURCE")]
    from: Vec<String>,
    #[command(flatten)]
    names: Names,
}

#[derive(Args)]
struct Names {
    /// Which service a cluster is, where it has another name: payments-gold=payments; may be repeated
    #[arg(long, value_name = "CLUSTER=SERVICE", value_parser = alias)]
    alias: Vec<(String, String)>,
}

fn alias(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((cluster, service)) if !cluster.is_empty() && !service.is_empty() => {
            Ok((cluster.to_owned(), service.to_owned()))
        }
        _ => Err("write CLUSTER=SERVICE, as in payments-gold=payments".into()),
    }
}

impl Names {
    fn aliases(&self) -> Aliases {
        self.alias.iter().cloned().collect()
    }
}

#[derive(Args)]
struct Draw {
    #[command(flatten)]
    sources: Sources,
    /// How the graph is written
    #[arg(long, default_value = "table", value_parser = PossibleValuesParser::new(Format::ALL.map(Format::name)))]
    format: String,
}

#[derive(Args)]
struct Diff {
    /// The graph before: a file or URL, as for --from
    #[arg(value_name = "OLD")]
    old: String,
    /// The graph after: a file or URL, as for --from
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    names: Names,
    /// Differences for which the exit status is 1
    #[arg(
        long, value_name = "CHANGE,…", value_delimiter = ',', default_values = ["new", "gone"],
        value_parser = PossibleValuesParser::new(Change::ALL.map(Change::name).into_iter().chain(["none"]))
    )]
    fail_on: Vec<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = super::Format::Text)]
    format: super::Format,
}

#[derive(Args)]
struct Check {
    /// YAML file with what each service depends on
    #[arg(long, value_name = "FILE")]
    declared: PathBuf,
    #[command(flatten)]
    sources: Sources,
    /// Findings for which the exit status is 1
    #[arg(
        long, value_name = "VERDICT,…", value_delimiter = ',', default_values = ["undeclared"],
        value_parser = PossibleValuesParser::new(Verdict::ALL.map(Verdict::name).into_iter().chain(["none"]))
    )]
    fail_on: Vec<String>,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = super::Format::Text)]
    format: super::Format,
}

impl GraphCommand {
    pub(super) fn execute(self) -> ExitCode {
        let done = match &self.command {
            None => self.draw.execute(),
            Some(Command::Diff(diff)) => diff.execute(),
            Some(Command::Check(check)) => check.execute(),
        };
        done.unwrap_or_else(|problem| {
            eprintln!("error: {problem}");
            ExitCode::FAILURE
        })
    }
}

/// Reads sources, and says on standard error what should be known of them.
fn read(sources: &[String]) -> Result<Graph, String> {
    let reading = source::read(sources)?;
    for note in &reading.notes {
        eprintln!("note: {note}");
    }
    if reading.graph.reports().len() == 0 {
        return Err(format!("neither an event nor a graph in {}", sources.join(", ")));
    }
    Ok(reading.graph)
}

impl Draw {
    fn execute(&self) -> Result<ExitCode, String> {
        let format = Format::named(&self.format).ok_or_else(|| format!("no format {}", self.format))?;
        let graph = read(&self.sources.from)?;
        let aliases = self.sources.names.aliases();
        Ok(print(&format.render(&Map::of(&graph, &aliases), &graph)))
    }
}

impl Diff {
    fn execute(&self) -> Result<ExitCode, String> {
        let (old, new) = (read(std::slice::from_ref(&self.old))?, read(std::slice::from_ref(&self.new))?);
        let aliases = self.names.aliases();
        let (old, new) = (Map::of(&old, &aliases), Map::of(&new, &aliases));
        let differences = diff::diff(&old, &new);
        let is_failure =
            differences.iter().any(|it| self.fail_on.iter().any(|name| name == it.change.name()));
        let document = json!({
            "schema": "sidelight/graph-diff/1",
            "before": old.at,
            "after": new.at,
            "differences": differences,
        });
        Ok(answer(self.format, &document, &diff::text(&differences), is_failure))
    }
}

impl Check {
    fn execute(&self) -> Result<ExitCode, String> {
        let declared = Manifest::load(&self.declared)?;
        let graph = read(&self.sources.from)?;
        let aliases = self.sources.names.aliases();
        let judged = review::review(&Map::of(&graph, &aliases), &declared);
        let is_failure = judged.iter().any(|it| self.fail_on.iter().any(|name| name == it.verdict.name()));
        let document = json!({ "schema": "sidelight/graph-check/1", "findings": judged });
        Ok(answer(self.format, &document, &review::text(&judged), is_failure))
    }
}

fn answer(format: super::Format, document: &impl Serialize, text: &str, is_failure: bool) -> ExitCode {
    let printed = match format {
        super::Format::Json => print(&serde_json::to_string_pretty(document).unwrap_or_default()),
        super::Format::Text => print(text),
    };
    if is_failure { ExitCode::FAILURE } else { printed }
}
