//! `run --app … --cluster NAME=HOST:PORT,…`: a configuration without a file.

use super::diagnostics::{Diagnostic, Diagnostics};
use super::load::{Loaded, parse};
use super::{Config, format, to_yaml};
use crate::cluster;

/// The name that stands for the file in messages.
const NAME: &str = "command line";

/// Makes the configuration that the flags stand for; `to_yaml` shows it as a file. `app` is `HOST:PORT`, each of
/// `clusters` is `NAME=HOST:PORT,…`. Fails with every problem at once.
pub fn from_flags(app: &str, clusters: &[impl AsRef<str>]) -> Result<Loaded, Diagnostics> {
    let mut problems = Vec::new();
    let mut config = Config::default();
    match address(app) {
        Ok(app) => config.service.app = Some(app),
        Err(problem) => problems.push(flag(&format!("--app {app}"), problem)),
    }
    for written in clusters.iter().map(AsRef::as_ref) {
        let shown = format!("--cluster {written}");
        let Some((name, addresses)) = written.split_once('=') else {
            let problem = Diagnostic::error(format!("`{shown}`: there is no `=`"));
            problems.push(problem.help("write it as in `--cluster payments=10.0.0.7:8080,10.0.0.8:8080`"));
            continue;
        };
        let mut cluster = cluster::config::Config::default();
        for text in addresses.split(',') {
            match address(text) {
                Ok(address) => cluster.endpoints.push(address.into()),
                Err(problem) => problems.push(flag(&shown, problem)),
            }
        }
        if config.clusters.insert(name.to_owned(), cluster).is_some() {
            problems.push(Diagnostic::error(format!("`{shown}`: there is already a cluster `{name}`")));
        }
    }
    if problems.is_empty() {
        return parse(NAME, &to_yaml(&config));
    }
    Err(Diagnostics::new(NAME, "".into(), problems))
}

fn address(text: &str) -> Result<crate::units::HostPort, format::Problem> {
    format::check("host_port", text)?;
    text.parse().map_err(|why| format::Problem { message: why, help: None })
}

fn flag(shown: &str, problem: format::Problem) -> Diagnostic {
    let diagnostic = Diagnostic::error(format!("`{shown}`: {}", problem.message));
    Diagnostic { help: problem.help, ..diagnostic }
}
