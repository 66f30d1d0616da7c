//! What a peer may not do with the names of fields.
//!
//! What: nominate a further field in `Connection`, and say a field in a form that is none of ours but that an application takes
//! for one: `X_User_Id`, which CGI and WSGI give the variable of `X-User-Id`, and baggage in the manner of Jaeger or
//! OpenTracing, of which SDKs with such a propagator make W3C's, which they then send on as if it were the application's
//! word. How it fails: the first is refused, the second dropped and counted; forms of other frameworks go through.

use super::rules::Rules;
use super::{CARRIERS, State};
use crate::context::extra::Believe;
use crate::context::formats;
use crate::error::{Error, Kind, Result};
use crate::exchange::Record;
use crate::svc::fields::tokens;
use crate::svc::{Fields, Known};

impl State {
    /// Whether `Connection` names no further field; the built-in ones are known to whoever obeys it.
    pub(super) fn check_nominated(fields: &Fields, rules: &Rules) -> Result<()> {
        if rules.extra.is_empty() || !fields.has(Known::Connection) {
            return Ok(());
        }
        let mut options = fields.all(Known::Connection).flat_map(tokens);
        match options.find(|option| rules.extra.from_header(option).is_some()) {
            None => Ok(()),
            Some(option) => {
                let detail = format!("Connection names `{}`", String::from_utf8_lossy(option));
                Err(Error::new(Kind::ProtectedFieldNominated, detail))
            }
        }
    }

    /// Takes away what a peer that is not trusted says in forms that are none of ours, but that an application may take for
    /// them.
    pub(super) fn drop_disguises(fields: &mut Fields, record: &mut Record, rules: &Rules) {
        let is_disguise =
            |name: &[u8], value: &[u8]| is_twin(name, rules) || is_other_baggage(name, value, rules);
        let found = fields.iter().filter(|(name, value, known)| known.is_none() && is_disguise(name, value));
        let names: Vec<Vec<u8>> = found.map(|(name, _, _)| name.to_vec()).collect();
        for name in &names {
            record.context_dropped += u32::from(fields.remove_named(name));
        }
    }
}

/// Whether CGI, WSGI and their kin give this name the variable of a field: they write all that is no letter or digit as `_`.
fn is_twin(name: &[u8], rules: &Rules) -> bool {
    let is_same = |ours: &[u8]| {
        let same = |(one, other): (&u8, &u8)| {
            one.eq_ignore_ascii_case(other) || !(one.is_ascii_alphanumeric() || other.is_ascii_alphanumeric())
        };
        name.len() == ours.len() && name.iter().zip(ours).all(same) && !name.eq_ignore_ascii_case(ours)
    };
    let mut extra = rules.extra.iter().filter_map(|field| Some((field, field.header.as_deref()?)));
    CARRIERS.iter().any(|(field, _)| is_same(field.header().as_bytes()))
        || extra.any(|(field, header)| field.believe == Believe::Trusted && is_same(header.as_bytes()))
}

/// Whether a header is baggage in the manner of Jaeger or OpenTracing, with a field in it: SDKs that read it make W3C's of
/// that.
fn is_other_baggage(name: &[u8], value: &[u8], rules: &Rules) -> bool {
    if !formats::is_baggage_header(name) {
        return false;
    }
    let main = CARRIERS.iter().filter_map(|(field, _)| field.baggage_key());
    let extra = rules.extra.iter().filter(|field| field.believe == Believe::Trusted);
    let mut keys = main.chain(extra.filter_map(|field| field.baggage_key.as_deref())).map(str::as_bytes);
    if name.eq_ignore_ascii_case(b"jaeger-baggage") {
        return keys.any(|key| value.windows(key.len()).any(|part| part.eq_ignore_ascii_case(key)));
    }
    let prefix = [&b"uberctx-"[..], b"ot-baggage-"]
        .into_iter()
        .find(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    let own = prefix.and_then(|prefix| name.get(prefix.len()..));
    own.is_some_and(|own| keys.any(|key| own.eq_ignore_ascii_case(key)))
}
