//! From a configuration to rules: names that must exist, values that must be possible, key files that must be right.
//!
//! Everything that is wrong is collected, with the keys that lead there. What is in a key file is told by its line and the id
//! of the key; of its values nothing is ever shown.

use super::{Correlation, Edge, Pseudonyms, Signing, Target};
use crate::context::config::{Config, EdgeRequestId, EdgeTrace};
use crate::context::extra::{Extra, ExtraField, Problem};
use crate::context::fields::{FLAG_BYTES_MAX, FLAGS_BYTES_MAX, FLAGS_MAX, ID_BYTES_MAX, LICENSE_BYTES_MAX};
use crate::context::pseudonym::{self, Pseudonymizer};
use crate::context::signature::{Issuer, KeyError, Keys, TTL_MAX_S};
use crate::context::{Field, is_context_header};
use crate::protocol::propagate::CARRIERS;
use crate::svc::fields::is_token_byte;
use crate::units::{AUTO, NONE};
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

/// Bytes of a key file that are read: more than it may have, so that its length is refused and not its end.
const KEY_FILE_BYTES_MAX: u64 = 1 << 20;

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The keys that lead there; of a list, the number of the item, from 0 on.
    pub path: Vec<String>,
    /// Whether the last key is wrong itself, rather than its value.
    pub is_key: bool,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path.join("."), self.message, self.help)
    }
}

impl Wrong {
    fn at(path: &[&str], message: impl Into<String>, help: impl Into<String>) -> Wrong {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Wrong { path, is_key: false, message: message.into(), help: help.into() }
    }

    fn of_field(problem: &Problem) -> Wrong {
        let path = ["context", "fields", &problem.field].into_iter().chain(problem.key);
        let path: Vec<&str> = path.collect();
        let is_key = problem.key.is_none();
        Wrong { is_key, ..Wrong::at(&path, problem.message.clone(), problem.help.clone()) }
    }
}

/// One compilation.
pub(super) struct Compiler<'a> {
    context: &'a Config,
    /// `None` where the further fields are wrong themselves.
    extra: Option<&'a Extra>,
    /// Where relative paths begin; without it, no file is read.
    base: Option<&'a Path>,
    pub wrong: Vec<Wrong>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        context: &'a Config,
        extra: &'a Result<Extra, Vec<Problem>>,
        base: Option<&'a Path>,
    ) -> Compiler<'a> {
        let problems = extra.as_ref().err().map_or(&[][..], Vec::as_slice);
        let told = problems.iter().filter(|problem| !is_echo(context, problem, problems));
        let wrong = told.map(Wrong::of_field).collect();
        Compiler { context, extra: extra.as_ref().ok(), base, wrong }
    }

    /// The field of this name. `is_key`: the name is a key and not a value.
    fn target(&mut self, path: &[&str], name: &str, is_key: bool) -> Option<Target> {
        let main = CARRIERS.iter().position(|(field, _)| field.name() == name).map(Target::Main);
        let further = || self.extra?.iter().position(|field| *field.name == *name).map(Target::Extra);
        let target = main.or_else(further);
        // Fields that are wrong themselves are reported once.
        if target.is_none() && !self.context.fields.contains_key(name) {
            let help = "write `user_id`, `account_id`, `license`, `request_type`, `flags`, or add it to `context.fields`";
            let wrong = Wrong::at(path, format!("there is no field `{name}`"), help);
            self.wrong.push(Wrong { is_key, ..wrong });
        }
        target
    }

    fn extra(&self, index: usize) -> Option<&'a ExtraField> {
        self.extra?.get(index)
    }

    /// What values a field takes, for a message.
    fn values(&self, target: Target) -> String {
        const WORD: &str = "visible ASCII without `,`, `;`, quotes and `\\`";
        match target {
            Target::Main(index) => match CARRIERS.get(index).map(|(field, _)| *field) {
                Some(Field::RequestType) => "write `STANDARD` or `TRACE`".to_owned(),
                Some(Field::Flags) => {
                    format!(
                        "write flags with `,` between them: {WORD}, at most {FLAGS_MAX}, {FLAG_BYTES_MAX} bytes each and {FLAGS_BYTES_MAX} together"
                    )
                }
                Some(Field::License) => format!("write {WORD}, 1 to {LICENSE_BYTES_MAX} bytes"),
                _ => format!("write {WORD}, 1 to {ID_BYTES_MAX} bytes"),
            },
            Target::Extra(index) => self.extra(index).map_or_else(String::new, |field| {
                format!("keep to its `alphabet` and its `length_max` of {} bytes", field.bytes_max)
            }),
        }
    }

    pub(super) fn edge(&mut self) -> Edge {
        let edge = &self.context.edge;
        let mut set = Vec::new();
        for (name, value) in &edge.set {
            let path = ["context", "edge", "set", name];
            let Some(target) = self.target(&path, name, true) else { continue };
            if target.takes(value.as_bytes(), self.extra) {
                set.push((target, value.as_bytes().into()));
            } else {
                let message = format!("`{name}` cannot have this value");
                self.wrong.push(Wrong::at(&path, message, self.values(target)));
            }
        }
        let identity = match edge.identity.as_str() {
            NONE => None,
            name => self.target(&["context", "edge", "identity"], name, false),
        };
        Edge {
            restarts_trace: edge.trace == EdgeTrace::Restart,
            replaces_request_id: edge.request_id == EdgeRequestId::Replace,
            set,
            identity,
        }
    }

    pub(super) fn correlation(&mut self) -> Option<Correlation> {
        let config = &self.context.correlate;
        let echo = match config.echo.as_str() {
            NONE => "",
            name => name,
        };
        let path = ["context", "correlate", "echo"];
        let extra_header = |extra: &Extra| extra.from_header(echo.as_bytes()).is_some();
        if !echo.bytes().all(is_token_byte) {
            let message = format!("`{echo}` cannot be the name of a header");
            self.wrong.push(Wrong::at(&path, message, "write a name such as `x-correlation-id`, or `none`"));
        } else if is_context_header(echo.as_bytes()) || self.extra.is_some_and(extra_header) {
            let message =
                format!("`{echo}` carries a part of the context, which is read without being named here");
            let help = "write the name of a header of the application's own, or `none`";
            self.wrong.push(Wrong::at(&path, message, help));
        }
        let is_on = config.request_id || config.sole || !echo.is_empty();
        is_on.then(|| Correlation {
            by_request_id: config.request_id,
            echo: echo.to_ascii_lowercase().into_bytes().into(),
            by_sole: config.sole,
        })
    }

    pub(super) fn signing(&mut self, service: &str) -> Option<Signing> {
        let sign = self.context.sign.as_ref()?;
        let ttl_max = Duration::from_secs(TTL_MAX_S);
        if sign.ttl > ttl_max {
            let message = "a signature cannot live for so long: whoever has it may use it again as long";
            self.wrong.push(Wrong::at(&["context", "sign", "ttl"], message, "write 1s to 5m"));
        } else if sign.ttl < Duration::from_secs(1) {
            let message = "no signature would arrive before its end";
            self.wrong.push(Wrong::at(&["context", "sign", "ttl"], message, "write 1s to 5m"));
        }
        for (name, time) in [("ttl", sign.ttl), ("skew", sign.skew)] {
            // What is below a second has been said.
            if time.subsec_nanos() > 0 && (name == "skew" || time.as_secs() > 0) {
                let (message, help) = ("signatures tell the time in seconds", "write whole seconds");
                self.wrong.push(Wrong::at(&["context", "sign", name], message, help));
            }
        }
        let keys = self.keys(&["context", "sign", "keys"], &sign.keys, Keys::parse)?;
        Some(Signing {
            keys,
            issuer: Issuer::new(service),
            ttl_s: sign.ttl.as_secs(),
            skew_s: sign.skew.as_secs(),
            unsigned: sign.unsigned,
            for_app: sign.for_app,
        })
    }

    pub(super) fn pseudonyms(&mut self) -> Option<Pseudonyms> {
        let config = self.context.pseudonyms.as_ref()?;
        let mut targets = Vec::new();
        for (at, name) in config.fields.iter().enumerate() {
            let at = at.to_string();
            let path = ["context", "pseudonyms", "fields", &at];
            let Some(target) = self.target(&path, name, false) else { continue };
            if self.holds_pseudonyms(target) {
                targets.push(target);
            } else {
                let message = format!("a pseudonym cannot be the value of `{name}`");
                let help = "write `user_id`, `account_id`, or a further field whose alphabet is word, token or visible, \
                            and whose `length_max` has room";
                let room = format!("{help} for {} bytes", pseudonym::BYTES_MAX);
                self.wrong.push(Wrong::at(&path, message, room));
            }
        }
        let path = ["context", "pseudonyms", "keys"];
        if self.context.sign.as_ref().is_some_and(|sign| sign.keys == config.keys) {
            let message = "signatures have the same key file: whoever verifies them could find out names";
            self.wrong.push(Wrong::at(&path, message, "write another file, with keys of its own"));
            return None;
        }
        let maker = self.keys(&path, &config.keys, Pseudonymizer::parse)?;
        Some(Pseudonyms { maker, targets })
    }

    /// Ids can be pseudonyms; a license, a request type and flags are no names of persons.
    fn holds_pseudonyms(&self, target: Target) -> bool {
        match target {
            Target::Main(index) => {
                matches!(CARRIERS.get(index), Some((Field::UserId | Field::AccountId, _)))
            }
            Target::Extra(index) => self.extra(index).is_some_and(|field| {
                field.alphabet.holds_pseudonyms() && field.bytes_max >= pseudonym::BYTES_MAX
            }),
        }
    }

    /// Reads a key file.
    fn keys<T>(
        &mut self,
        path: &[&str],
        file: &Path,
        parse: impl Fn(&str) -> Result<T, KeyError>,
    ) -> Option<T> {
        let full = self.base?.join(file);
        let text = match read(&full) {
            Ok(text) => text,
            Err(error) => {
                let (message, help) = unreadable(file, &full, &error);
                self.wrong.push(Wrong::at(path, message, help));
                return None;
            }
        };
        parse(&text)
            .map_err(|error| {
                let place = if error.line > 0 {
                    format!(", line {}, column {}", error.line, error.column)
                } else {
                    String::new()
                };
                let key = error.key.as_ref().map_or_else(String::new, |key| format!(", key `{key}`"));
                let message = format!("key file `{}`{place}{key}: {}", file.display(), error.message);
                self.wrong.push(Wrong::at(path, message, error.help));
            })
            .ok()
    }
}

/// Whether a problem of a carrier comes from the name alone, which is told already.
fn is_echo(context: &Config, problem: &Problem, all: &[Problem]) -> bool {
    let is_auto = context.fields.get(&problem.field).is_some_and(|field| match problem.key {
        Some("header") => field.header == AUTO,
        Some("baggage") => field.baggage == AUTO,
        _ => false,
    });
    is_auto && all.iter().any(|other| other.field == problem.field && other.key.is_none())
}

/// A regular file's text: a pipe would never end, and cannot be read again when it changes.
fn read(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn unreadable(file: &Path, full: &Path, error: &io::Error) -> (String, String) {
    let (shown, full) = (file.display(), full.display());
    match error.kind() {
        ErrorKind::NotFound => {
            (format!("there is no key file `{shown}`"), format!("looked for {full}; docs/trust.md shows one"))
        }
        ErrorKind::IsADirectory => {
            (format!("`{shown}` is a directory"), "write the path of a key file in it".to_owned())
        }
        ErrorKind::PermissionDenied => (
            format!("the key file `{shown}` may not be read"),
            format!("let the user of the proxy read {full}, and nobody else"),
        ),
        ErrorKind::InvalidInput => {
            (format!("`{shown}` is not a regular file"), "write the path of a key file".to_owned())
        }
        ErrorKind::InvalidData => {
            (format!("the key file `{shown}` is not UTF-8 text"), "write keys in base64 or PEM".to_owned())
        }
        _ => (format!("the key file `{shown}` cannot be read: {error}"), format!("looked at {full}")),
    }
}
