//! `sidelight check`.

use super::{Format, is_terminal, print};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// The arguments of `check`.
#[derive(Args)]
pub(super) struct Check {
    /// Configuration files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// How problems are printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl Check {
    pub(super) fn execute(self) -> ExitCode {
        let mut is_refused = false;
        let mut documents = Vec::new();
        for file in &self.files {
            let name = file.display();
            let (problems, revision) = match crate::config::load(file) {
                Ok(loaded) => (loaded.warnings, Some(loaded.revision)),
                Err(problems) => (problems, None),
            };
            is_refused |= revision.is_none();
            if self.format == Format::Json {
                documents.push(serde_json::json!({
                    "file": name.to_string(), "ok": revision.is_some(), "revision": revision, "problems": problems.to_json(),
                }));
                continue;
            }
            if !problems.is_empty() {
                eprint!("{}", problems.render(is_terminal()));
            }
            if let Some(revision) = revision {
                print(&format!("{name}: ok (revision {revision})"));
            }
        }
        if self.format == Format::Json {
            print(&format!("{:#}", serde_json::Value::from(documents)));
        }
        if is_refused { ExitCode::from(crate::app::EXIT_CONFIG) } else { ExitCode::SUCCESS }
    }
}
