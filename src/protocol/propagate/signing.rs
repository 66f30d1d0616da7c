//! The signature of the context: verified where it is required, made where this proxy may.

use super::correlate;
use super::fields::{Values, note};
use super::rules::Signing;
use super::{CACHE_ENTRIES, CARRIERS, State};
use crate::context::RequestType;
use crate::context::baggage;
use crate::context::config::Unsigned;
use crate::context::extra::FIELDS_MAX;
use crate::context::signature::{BAGGAGE_KEY, Cache, Claims, HEADER, Refused, UNSIGNED};
use crate::error::{Error, Kind, Result};
use crate::exchange::{Direction, Record, SignatureNote};
use crate::svc::{Fields, Known};
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
        serves: bool,
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
            Word::InFlight => said.found = Some("in_flight"),
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
                            note(record, values);
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
        serves: bool,
        now_s: u64,
        said: &mut SignatureNote,
    ) -> Word {
        let kept = &self.scratch.found.context;
        let is_kept = serves && is_same(record, values, kept, self.rules.extra_tag);
        let mut headers = fields.named(HEADER.as_bytes());
        let (in_header, is_repeated) = (headers.next(), headers.next().is_some());
        let token = &mut self.scratch.token;
        match in_header {
            Some(value) => token.extend_from_slice(value),
            None => {
                let found = baggage::entries(fields.all(Known::Baggage))
                    .filter(|(key, _)| *key == BAGGAGE_KEY.as_bytes())
                    .last();
                match found {
                    Some((_, raw)) => {
                        token.extend_from_slice(baggage::decode(raw, &mut self.scratch.decoded))
                    }
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
            let mut extra = [("", &b""[..]); FIELDS_MAX];
            let claims = claims(record, values, &self.rules.extra_names, &mut extra);
            let cache = self.cache.get_or_insert_with(|| Cache::new(CACHE_ENTRIES, self.rng.next_u64()));
            match cache.verify(&signing.keys, token, &claims, now_s, signing.skew_s) {
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
}

/// Whether all fields are those of a kept context.
fn is_same(record: &Record, values: &Values, kept: &[u8], extra_tag: u16) -> bool {
    let main = values.main.iter().enumerate();
    let mut extra = values.extra.iter().take(values.extra_count).enumerate();
    main.into_iter().all(|(at, value)| record.text(*value) == correlate::main(kept, at))
        && extra.all(|(at, value)| record.text(*value) == correlate::extra(kept, extra_tag, at))
}

/// What a signature speaks of, here.
fn claims<'a>(
    record: &'a Record,
    values: &Values,
    names: &'a [std::sync::Arc<str>],
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
