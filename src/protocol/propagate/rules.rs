//! What a configuration says about contexts, compiled: shared by all workers, replaced whole.
//!
//! Everything that can fail is here, before anything is replaced: names that do not exist, key files that cannot be read.
//! A key file that changed makes new rules of the same configuration.

use super::CARRIERS;
use crate::context::config::{Config, EdgeRequestId, EdgeTrace, Unsigned};
use crate::context::extra::Extra;
use crate::context::formats::{Format, FormatSet};
use crate::context::pseudonym::{self, Pseudonymizer};
use crate::context::signature::{Issuer, KeyError, Keys, TTL_MAX_S};
use crate::context::{Field, is_context_header, sampling};
use crate::svc::fields::is_token_byte;
use crate::units::NONE;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// See the module.
pub struct Rules {
    pub(super) revision: Option<Arc<str>>,
    pub(super) tracestate_bytes_max: usize,
    pub(super) baggage_bytes_max: usize,
    pub(super) formats: Formats,
    pub(super) extra: Extra,
    /// The names of the further fields, for the record.
    pub(super) extra_names: Vec<Arc<str>>,
    /// Tells further fields of one configuration from those of another.
    pub(super) extra_tag: u16,
    pub(super) edge: Edge,
    pub(super) correlation: Option<Correlation>,
    pub(super) signing: Option<Signing>,
    pub(super) pseudonyms: Option<Pseudonyms>,
    pub(super) sampling: sampling::Config,
    /// Whether spans go anywhere: a proxy that tells nobody of its span must not put it into a trace.
    pub(super) has_sink: bool,
    /// Random, the same for all workers, told to nobody.
    pub(super) seed: u64,
}

/// Trace formats beside W3C's.
#[derive(Clone, Copy)]
pub(super) struct Formats {
    pub read: FormatSet,
    pub write: FormatSet,
}

/// What becomes of what peers say that are not trusted.
#[derive(Default)]
pub(super) struct Edge {
    pub restarts_trace: bool,
    pub replaces_request_id: bool,
    /// Fields that are set for them.
    pub set: Vec<(Target, Box<[u8]>)>,
    /// The field that takes their verified identity.
    pub identity: Option<Target>,
}

/// A field of the business context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The index in [`CARRIERS`].
    Main(usize),
    /// The index among the further fields.
    Extra(usize),
}

/// How the parent of an outbound request is found.
pub(super) struct Correlation {
    pub by_request_id: bool,
    /// The name of the header that applications copy; empty: none.
    pub echo: Box<[u8]>,
    pub by_sole: bool,
}

/// Signatures.
pub(super) struct Signing {
    pub keys: Keys,
    pub issuer: Issuer,
    pub ttl_s: u64,
    pub skew_s: u64,
    pub unsigned: Unsigned,
    pub for_app: bool,
}

/// Pseudonyms.
pub(super) struct Pseudonyms {
    pub maker: Pseudonymizer,
    pub targets: Vec<Target>,
}

/// What rules are made of.
pub struct Source<'a> {
    /// `context`.
    pub context: &'a Config,
    /// `pipeline.sampling`.
    pub sampling: &'a sampling::Config,
    /// What the events call this configuration; `None` where nothing runs.
    pub revision: Option<Arc<str>>,
    /// The name of the service, which issues signatures.
    pub service: &'a str,
    /// Whether there are both listeners: else there is nothing to correlate.
    pub has_both_sides: bool,
    /// Whether events go anywhere.
    pub has_sink: bool,
    /// A random number from the operating system.
    pub seed: u64,
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The keys that lead there.
    pub path: Vec<String>,
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
        Wrong { path, message: message.into(), help: help.into() }
    }
}

impl Rules {
    /// Compiles them; key files are read now.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn compile(source: &Source<'_>) -> Result<Rules, Vec<Wrong>> {
        let context = source.context;
        let mut wrong = Vec::new();
        let extra = Extra::compile(&context.fields).unwrap_or_else(|problems| {
            wrong.extend(problems.into_iter().map(|problem| {
                let mut path = vec!["context".to_owned(), "fields".to_owned(), problem.field];
                path.extend(problem.key.map(str::to_owned));
                Wrong { path, message: problem.message, help: problem.help }
            }));
            Extra::default()
        });
        let mut compiler = Compiler { context, extra: &extra, wrong };
        let (edge, correlation) = (compiler.edge(), compiler.correlation());
        let (signing, pseudonyms) = (compiler.signing(source.service), compiler.pseudonyms());
        let wrong = compiler.wrong;
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Rules { edge, signing, pseudonyms, ..Rules::plain(source, extra, correlation) })
    }

    /// Without what reads files or names fields.
    fn plain(source: &Source<'_>, extra: Extra, correlation: Option<Correlation>) -> Rules {
        let of = |list: &[Format]| list.iter().copied().collect();
        let context = source.context;
        Rules {
            revision: source.revision.clone(),
            tracestate_bytes_max: context.tracestate_bytes_max,
            baggage_bytes_max: context.baggage_bytes_max,
            formats: Formats { read: of(&context.formats.read), write: of(&context.formats.write) },
            extra_names: extra.iter().map(|field| Arc::from(&*field.name)).collect(),
            extra_tag: tag(&extra),
            extra,
            edge: Edge::default(),
            correlation: correlation.filter(|_| source.has_both_sides),
            signing: None,
            pseudonyms: None,
            sampling: source.sampling.clone(),
            has_sink: source.has_sink,
            seed: source.seed,
        }
    }

    /// Whether something beyond the built-in fields is in baggage.
    pub(super) fn has_more_in_baggage(&self) -> bool {
        !self.extra.is_empty() || self.signing.is_some()
    }
}

impl Default for Rules {
    fn default() -> Self {
        let context = Config::default();
        let source = Source {
            context: &context,
            sampling: &sampling::Config::default(),
            revision: None,
            service: "",
            has_both_sides: true,
            has_sink: true,
            seed: 0,
        };
        let mut compiler = Compiler { context: &context, extra: &Extra::default(), wrong: Vec::new() };
        Rules::plain(&source, Extra::default(), compiler.correlation())
    }
}

/// Fletcher's sum of the names, in their order.
fn tag(extra: &Extra) -> u16 {
    let bytes = extra.iter().flat_map(|field| field.name.bytes().chain([0]));
    let (low, high) = bytes.fold((0_u8, extra.len() as u8), |(low, high): (u8, u8), byte| {
        let low = low.wrapping_add(byte);
        (low, high.wrapping_add(low))
    });
    u16::from_be_bytes([high, low])
}

/// One compilation: what is wrong is collected.
struct Compiler<'a> {
    context: &'a Config,
    extra: &'a Extra,
    wrong: Vec<Wrong>,
}

impl Compiler<'_> {
    /// The field of this name.
    fn target(&mut self, path: &[&str], name: &str) -> Option<Target> {
        let main = CARRIERS.iter().position(|(field, _)| field.name() == name).map(Target::Main);
        let further = || self.extra.iter().position(|field| *field.name == *name).map(Target::Extra);
        let target = main.or_else(further);
        // Fields that are wrong themselves are reported once.
        if target.is_none() && !self.context.fields.contains_key(name) {
            let help = "write `user_id`, `account_id`, `license`, `request_type`, `flags`, or add it to `context.fields`";
            self.wrong.push(Wrong::at(path, format!("there is no field `{name}`"), help));
        }
        target
    }

    fn is_valid(&self, target: Target, value: &[u8]) -> bool {
        match target {
            Target::Main(index) => CARRIERS.get(index).is_some_and(|(field, _)| field.is_valid(value)),
            Target::Extra(index) => self.extra.get(index).is_some_and(|field| field.is_valid(value)),
        }
    }

    fn edge(&mut self) -> Edge {
        let edge = &self.context.edge;
        let mut set = Vec::new();
        for (name, value) in &edge.set {
            let path = ["context", "edge", "set", name];
            let Some(target) = self.target(&path, name) else { continue };
            if self.is_valid(target, value.as_bytes()) {
                set.push((target, value.as_bytes().into()));
            } else {
                let help = "keep to the length and the alphabet of the field (docs/trust.md)";
                self.wrong.push(Wrong::at(&path, format!("`{name}` cannot have this value"), help));
            }
        }
        let identity = match edge.identity.as_str() {
            NONE => None,
            name => self.target(&["context", "edge", "identity"], name),
        };
        Edge {
            restarts_trace: edge.trace == EdgeTrace::Restart,
            replaces_request_id: edge.request_id == EdgeRequestId::Replace,
            set,
            identity,
        }
    }

    fn correlation(&mut self) -> Option<Correlation> {
        let config = &self.context.correlate;
        let echo = match config.echo.as_str() {
            NONE => "",
            name => name,
        };
        let path = ["context", "correlate", "echo"];
        if !echo.bytes().all(is_token_byte) {
            let message = format!("`{echo}` cannot be the name of a header");
            self.wrong.push(Wrong::at(&path, message, "write a name such as `x-correlation-id`, or `none`"));
        } else if is_context_header(echo.as_bytes()) {
            let message = format!("`{echo}` is read without being named here");
            self.wrong.push(Wrong::at(&path, message, "write the name of a header of the application's own"));
        }
        let is_on = config.request_id || config.sole || !echo.is_empty();
        is_on.then(|| Correlation {
            by_request_id: config.request_id,
            echo: echo.to_ascii_lowercase().into_bytes().into(),
            by_sole: config.sole,
        })
    }

    fn signing(&mut self, service: &str) -> Option<Signing> {
        let sign = self.context.sign.as_ref()?;
        let ttl_path = ["context", "sign", "ttl"];
        if !(1..=TTL_MAX_S).contains(&sign.ttl.as_secs()) {
            self.wrong.push(Wrong::at(&ttl_path, "a signature cannot live that long", "write 1s to 5m"));
        }
        let path = ["context", "sign", "keys"];
        let keys = self.keys(&path, &sign.keys, Keys::parse)?;
        Some(Signing {
            keys,
            issuer: Issuer::new(service),
            ttl_s: sign.ttl.as_secs(),
            skew_s: sign.skew.as_secs(),
            unsigned: sign.unsigned,
            for_app: sign.for_app,
        })
    }

    fn pseudonyms(&mut self) -> Option<Pseudonyms> {
        let config = self.context.pseudonyms.as_ref()?;
        let path = ["context", "pseudonyms", "fields"];
        let mut targets = Vec::new();
        for name in &config.fields {
            let Some(target) = self.target(&path, name) else { continue };
            if self.holds_pseudonyms(target) {
                targets.push(target);
            } else {
                let message = format!("a pseudonym cannot be the value of `{name}`");
                let help = "write ids: `user_id`, `account_id`, or further fields whose alphabet and length have room";
                self.wrong.push(Wrong::at(&path, message, help));
            }
        }
        let maker = self.keys(&["context", "pseudonyms", "keys"], &config.keys, Pseudonymizer::parse)?;
        Some(Pseudonyms { maker, targets })
    }

    /// Ids can be pseudonyms; a license, a request type and flags are no names of persons.
    fn holds_pseudonyms(&self, target: Target) -> bool {
        match target {
            Target::Main(index) => {
                matches!(CARRIERS.get(index), Some((Field::UserId | Field::AccountId, _)))
            }
            Target::Extra(index) => self.extra.get(index).is_some_and(|field| {
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
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) => {
                let message = format!("the key file `{}` cannot be read: {error}", file.display());
                self.wrong.push(Wrong::at(
                    path,
                    message,
                    "write the path of a file that this proxy may read",
                ));
                return None;
            }
        };
        parse(&text)
            .map_err(|error| {
                let place = if error.line > 0 {
                    format!(" line {}, column {}:", error.line, error.column)
                } else {
                    String::new()
                };
                let key = error.key.as_ref().map_or_else(String::new, |key| format!(" key `{key}`:"));
                let message = format!("in the key file `{}`:{place}{key} {}", file.display(), error.message);
                self.wrong.push(Wrong::at(path, message, error.help));
            })
            .ok()
    }
}
