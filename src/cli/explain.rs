//! `sidelight explain`.

use super::{Format, Source, print};
use crate::control;
use clap::Args;
use std::process::ExitCode;

pub(super) const EXAMPLES: &str = "\
Examples:
  sidelight explain --config sidelight.yaml GET http://payments/charge -H 'x-license: gold'
  sidelight explain --config sidelight.yaml --direction inbound POST /checkout --format json

Nothing is sent: the answer comes from the code that routes.";

/// The arguments of `explain`.
#[derive(Args)]
pub(super) struct Explain {
    #[command(flatten)]
    source: Source,
    /// The method
    method: String,
    /// http://HOST/PATH?QUERY, HOST/PATH, or a path together with -H 'host: …'
    url: String,
    /// A header field; may be repeated
    #[arg(short = 'H', long = "header", value_name = "name: value")]
    headers: Vec<String>,
    /// Which listener the request comes to
    #[arg(long, default_value = "outbound", value_parser = ["inbound", "outbound"])]
    direction: String,
    /// How the answer is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Explain {
    pub(super) fn execute(self) -> ExitCode {
        let loaded = match self.source.load() {
            Ok(loaded) => loaded,
            Err(exit) => return exit,
        };
        let question = control::Question {
            method: self.method,
            url: self.url,
            headers: self.headers,
            direction: Some(self.direction),
        };
        match answer(&loaded, &question) {
            Ok(explanation) if self.format == Format::Json => {
                print(&serde_json::to_string_pretty(&explanation).unwrap_or_default())
            }
            Ok(explanation) => print(&explanation.to_string()),
            Err(problem) => {
                eprintln!("error: {problem}");
                ExitCode::FAILURE
            }
        }
    }
}

fn answer(
    loaded: &crate::config::Loaded,
    question: &control::Question,
) -> Result<crate::route::Explanation, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    let tables = control::offline(&loaded.config, &runtime)?;
    control::explain(&tables, question)
}
