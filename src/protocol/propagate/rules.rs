//! What a configuration says about contexts, compiled: shared by all workers, replaced whole.
//!
//! Everything that can fail is here, before anything is replaced: names that do not exist, key files that cannot be read.
//! A key file that changed makes new rules of the same configuration.

mod compile;

use super::CARRIERS;
use crate::context::config::{Config, Unsigned};
use crate::context::extra::Extra;
use crate::context::formats::{Format, FormatSet};
use crate::context::pseudonym::Pseudonymizer;
use crate::context::sampling;
use crate::context::signature::{self, Issuer, Keys};
use crate::svc::Fields;
use compile::Compiler;
pub use compile::Wrong;
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

impl Target {
    /// Whether `value` may be a value of this field; without the further fields, none may be of one of them.
    pub fn takes(self, value: &[u8], extra: Option<&Extra>) -> bool {
        match self {
            Target::Main(index) => CARRIERS.get(index).is_some_and(|(field, _)| field.is_valid(value)),
            Target::Extra(index) => {
                extra.and_then(|extra| extra.get(index)).is_some_and(|field| field.is_valid(value))
            }
        }
    }
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

impl Rules {
    /// Compiles them; key files are read now.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn compile(source: &Source<'_>) -> Result<Rules, Vec<Wrong>> {
        let extra = Extra::compile(&source.context.fields);
        let mut compiler = Compiler::new(source.context, &extra, Some(Path::new("")));
        let (edge, correlation) = (compiler.edge(), compiler.correlation());
        let (signing, pseudonyms) = (compiler.signing(source.service), compiler.pseudonyms());
        let wrong = compiler.wrong;
        match extra {
            Ok(extra) if wrong.is_empty() => {
                Ok(Rules { edge, signing, pseudonyms, ..Rules::plain(source, extra, correlation) })
            }
            _ => Err(wrong),
        }
    }

    /// What is wrong with a configuration. Relative paths of key files are below `base`; without it, files are not looked at.
    pub fn check(context: &Config, base: Option<&Path>) -> Vec<Wrong> {
        let extra = Extra::compile(&context.fields);
        let mut compiler = Compiler::new(context, &extra, base);
        compiler.edge();
        compiler.correlation();
        compiler.signing("");
        compiler.pseudonyms();
        compiler.wrong
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

    /// Takes away what is decided by a head only: further fields and the signature, out of a trailer section.
    pub(super) fn strip(&self, trailers: &mut Fields) {
        let headers = self.extra.iter().filter_map(|field| field.header.as_deref());
        for name in headers.chain([signature::HEADER]) {
            trailers.remove_named(name.as_bytes());
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
        let extra = Ok(Extra::default());
        let correlation = Compiler::new(&context, &extra, None).correlation();
        Rules::plain(&source, Extra::default(), correlation)
    }
}
