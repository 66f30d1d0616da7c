//! The signature of the context: verified where it is required, made where this proxy may.

use super::correlate::{self, Serves};
use super::fields::{Values, note};
use super::rules::Signing;
use super::{CACHE_ENTRIES, CARRIERS, State};
use crate::context::RequestType;
use crate::context::baggage;
use crate::context::config::Unsigned;
use crate::context::extra::FIELDS_MAX;
use crate::context::signature::{BAGGAGE_KEY, Cache, Claims, HEADER, Refused, UNSIGNED, Verified};
use crate::error::{Error, Kind, Result};
use crate::exchange::{Direction, Record, SignatureNote};
use crate::svc::{Fields, Known};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What is known of the fields before a token is asked.
enum Word {
    /// A signature holds.
    Valid,
    /// They are those of the inbound exchange that the request serves, which were judged when it came.
    InFlight,
    /// Nothing is claimed.
    Nothing,
    /// They are not believed, for this reason.
    Refused(&'static str),
}

impl State {
    /// Verifies the signature of a trusted peer's fields or the application's, drops what does not hold, and leaves the token
    /// that goes on in the scratch.
    pub(super) fn check_signature(
        &mut self,
        fields: &Fields,
        record: &mut Record,
        values: &mut Values,
        signing: &Signing,
        is_trusted: bool,
        serves: Serves,
    ) -> Result<()> {
        let now_s = record.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.scratch.token.clear();
        let mut said = SignatureNote::default();
        // Of a peer that is not trusted nothing is left but what rules of our own set.
        let word = if is_trusted {
            self.word(fields, record, values, signing, serves, now_s, &mut said)
        } else {
            Word::Nothing
        };
        let is_app = record.direction == Direction::Outbound;
        let (mut may_sign, mut result) = (true, Ok(()));
        match word {
            Word::Valid => may_sign = false, // it goes on as it is
            Word::InFlight => {
                said.found = Some("in_flight");
                may_sign = !self.take_kept(record, values, signing, now_s);
            }
            Word::Nothing => {}
            Word::Refused(reason) => {
                said.found = Some(reason);
                self.scratch.token.clear();
                may_sign = is_app && signing.for_app && reason == UNSIGNED;
                if !may_sign {
                    match signing.unsigned {
                        Unsigned::Report => {}
                        Unsigned::Drop => {
                            let rules = std::rc::Rc::clone(&self.rules);
                            values.drop_claims(record, &rules);
                            if serves.is_known {
                                // What the application may not say is gone. What it serves was judged when it came, and
                                // counts: a tracer bullet must not become real work here.
                                values.clear();
                                self.fill(record, values, &rules);
                            }
                            note(record, values);
                            if serves.is_known {
                                may_sign = !self.take_kept(record, values, signing, now_s);
                            }
                        }
                        Unsigned::Refuse => {
                            let detail = format!("the signature of the context: {reason}");
                            result = Err(Error::new(Kind::ContextRefused, detail));
                        }
                    }
                }
            }
        }
        if may_sign {
            let mut extra = [("", &b""[..]); FIELDS_MAX];
            let claims = claims(record, values, &self.rules.extra_names, &mut extra);
            let (ttl_s, issuer) = (signing.ttl_s, &signing.issuer);
            self.scratch.token.clear();
            said.is_signed = signing.keys.sign(&claims, issuer, now_s, ttl_s, &mut self.scratch.token);
        }
        if said != SignatureNote::default() {
            record.note().signature = Some(said);
        }
        result
    }

    /// What is to be thought of the fields; the token that came, or was kept, is in the scratch.
    #[expect(clippy::too_many_arguments, reason = "one step of a longer one, with its state")]
    fn word(
        &mut self,
        fields: &Fields,
        record: &Record,
        values: &Values,
        signing: &Signing,
        serves: Serves,
        now_s: u64,
        said: &mut SignatureNote,
    ) -> Word {
        let kept = &self.scratch.found.context;
        let is_kept = serves.is_known && is_same(record, values, &self.rules.extra_names, kept);
        // An empty one is none: frameworks forward what they did not get.
        let mut headers = fields.named(HEADER.as_bytes()).filter(|value| !value.is_empty());
        let (in_header, is_repeated) = (headers.next(), headers.next().is_some());
        let token = &mut self.scratch.token;
        match in_header {
            Some(value) => token.extend_from_slice(value),
            None => {
                // What the application did not send says nothing of what it claims.
                let found = baggage::entries(fields.all(Known::Baggage))
                    .filter(|(key, _)| *key == BAGGAGE_KEY.as_bytes() && !serves.gave_baggage)
                    .filter_map(|(_, raw)| raw.filter(|raw| !raw.is_empty()))
                    .last();
                match found {
                    Some(raw) => token.extend_from_slice(baggage::decode(raw, &mut self.scratch.decoded)),
                    None if is_kept => token.extend_from_slice(correlate::token(kept)),
                    None => {}
                }
            }
        }
        let reason = if token.is_empty() {
            let claims_nothing = values.is_empty() && record.request_type == RequestType::Standard;
            if claims_nothing
                && (signing.unsigned != Unsigned::Refuse || record.direction == Direction::Outbound)
            {
                return Word::Nothing;
            }
            UNSIGNED
        } else if is_repeated {
            Refused::Malformed.as_str()
        } else {
            match self.verify(record, values, signing, now_s) {
                Ok(verified) => {
                    said.found = Some("valid");
                    said.by = Some((verified.key_id.into(), verified.issuer.into()));
                    return Word::Valid;
                }
                Err(refused) => refused.as_str(),
            }
        };
        // Judged when they came: an application that forgot the token, or worked longer than it lives.
        if is_kept { Word::InFlight } else { Word::Refused(reason) }
    }

    /// Judges the token in the scratch.
    fn verify(
        &mut self,
        record: &Record,
        values: &Values,
        signing: &Signing,
        now_s: u64,
    ) -> std::result::Result<Verified<'_>, Refused> {
        let mut extra = [("", &b""[..]); FIELDS_MAX];
        let claims = claims(record, values, &self.rules.extra_names, &mut extra);
        let cache = self.cache.get_or_insert_with(|| Cache::new(CACHE_ENTRIES, self.rng.next_u64()));
        cache.verify(&signing.keys, &self.scratch.token, &claims, now_s, signing.skew_s)
    }

    /// Puts the token of the exchange that is served into the scratch, for the fields are that exchange's. `false`, with none
    /// there, where it had one that no longer holds, so that a new one may be made; what came without goes on without.
    fn take_kept(&mut self, record: &Record, values: &Values, signing: &Signing, now_s: u64) -> bool {
        self.scratch.token.clear();
        self.scratch.token.extend_from_slice(correlate::token(&self.scratch.found.context));
        if self.scratch.token.is_empty() || self.verify(record, values, signing, now_s).is_ok() {
            return true;
        }
        self.scratch.token.clear();
        // Rules that changed since may have left out what it covers.
        !is_same(record, values, &self.rules.extra_names, &self.scratch.found.context)
    }
}

/// Whether all fields are those of a kept context.
fn is_same(record: &Record, values: &Values, names: &[Arc<str>], kept: &[u8]) -> bool {
    let main = values.main.iter().enumerate();
    let extra = || names.iter().zip(&values.extra).map(|(name, value)| (name, record.text(*value)));
    main.into_iter().all(|(at, value)| record.text(*value) == correlate::main(kept, at))
        && extra().all(|(name, value)| value == correlate::extra(kept, name))
        && extra().filter(|(_, value)| !value.is_empty()).count() == correlate::extras(kept).count()
}

/// What a signature speaks of, here.
fn claims<'a>(
    record: &'a Record,
    values: &Values,
    names: &'a [Arc<str>],
    extra: &'a mut [(&'a str, &'a [u8]); FIELDS_MAX],
) -> Claims<'a> {
    for ((slot, name), value) in extra.iter_mut().zip(names).zip(&values.extra) {
        *slot = (name, record.text(*value));
    }
    const _: () = assert!(CARRIERS.len() == 5);
    Claims {
        trace_id: record.trace.trace_id,
        user_id: record.text(values.main[0]),
        account_id: record.text(values.main[1]),
        license: record.text(values.main[2]),
        request_type: record.request_type,
        flags: record.text(values.main[4]),
        extra: extra.get(..names.len()).unwrap_or_default(),
    }
}
