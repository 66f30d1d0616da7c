//! The business fields: read from both carriers, filled, set, replaced by pseudonyms, and written into both.

use super::rules::{Pseudonyms, Rules, Target};
use super::{CARRIERS, REQUEST_TYPE, State, correlate};
use crate::context::extra::{Believe, FIELDS_MAX};
use crate::context::fields::{Field, RequestType, merge};
use crate::context::pseudonym::Applied;
use crate::context::{baggage, signature, trim_ows};
use crate::exchange::{Record, Text};
use crate::svc::{Fields, Known};

/// The fields of a request, in the record's texts; empty ones are absent.
#[derive(Clone, Copy, Default)]
pub(super) struct Values {
    /// The built-in ones, in the order of [`CARRIERS`].
    pub main: [Text; CARRIERS.len()],
    /// Whether the header has to be written or removed.
    rewrites: [bool; CARRIERS.len()],
    /// The further ones, in the order of the rules.
    pub extra: [Text; FIELDS_MAX],
    /// Whether baggage has members of ours.
    is_in_baggage: bool,
    /// Whether baggage has to be written, because it does not say just what the headers do.
    rewrites_baggage: bool,
    /// Whether there is, or was, anything at all.
    is_touched: bool,
}

impl Values {
    /// Whether a field has a value.
    pub fn is_empty(&self) -> bool {
        self.main.iter().chain(&self.extra).all(|value| value.is_empty())
    }

    fn get(&self, target: Target) -> Text {
        let value = match target {
            Target::Main(index) => self.main.get(index),
            Target::Extra(index) => self.extra.get(index),
        };
        value.copied().unwrap_or_default()
    }

    fn set(&mut self, target: Target, value: Text) {
        (self.is_touched, self.rewrites_baggage) = (true, true);
        match target {
            Target::Main(index) => {
                if let (Some(slot), Some(rewrites)) = (self.main.get_mut(index), self.rewrites.get_mut(index))
                {
                    *slot = value;
                    *rewrites = true;
                }
            }
            Target::Extra(index) => {
                if let Some(slot) = self.extra.get_mut(index) {
                    *slot = value;
                }
            }
        }
    }

    /// Takes every value away that is believed of trusted peers only, but for a tracer bullet's type: it destroys nothing,
    /// and without it real work would be done.
    pub fn drop_claims(&mut self, record: &mut Record, rules: &Rules) {
        for index in 0..CARRIERS.len() {
            let value = self.get(Target::Main(index));
            let is_bullet = index == REQUEST_TYPE && is_trace(record.text(value));
            if !value.is_empty() && !is_bullet {
                record.context_dropped += 1;
                self.set(Target::Main(index), Text::default());
            }
        }
        for (index, field) in rules.extra.iter().enumerate() {
            if field.believe == Believe::Trusted && !self.get(Target::Extra(index)).is_empty() {
                record.context_dropped += 1;
                self.set(Target::Extra(index), Text::default());
            }
        }
    }

    /// Takes every value away, to put others in their place.
    pub fn clear(&mut self) {
        for index in 0..CARRIERS.len() {
            self.set(Target::Main(index), Text::default());
        }
        self.extra = Default::default();
    }
}

impl State {
    /// Reads the fields. `serves`: what is missing comes from the inbound exchange in the scratch.
    pub(super) fn read_fields(
        &mut self,
        fields: &Fields,
        record: &mut Record,
        rules: &Rules,
        is_trusted: bool,
        serves: bool,
    ) -> Values {
        let mut values = Values::default();
        let has_baggage = fields.has(Known::Baggage);
        if has_baggage {
            // What does not fit is to be shortened.
            values.is_in_baggage = !baggage::fits(fields.all(Known::Baggage), rules.baggage_bytes_max);
            (values.is_touched, values.rewrites_baggage) = (values.is_in_baggage, values.is_in_baggage);
        }
        if has_baggage || CARRIERS.iter().any(|(_, known)| fields.has(*known)) {
            self.read_main(fields, record, &mut values, is_trusted);
        }
        if rules.has_more_in_baggage() {
            self.read_more(fields, record, &mut values, rules, is_trusted);
        }
        if serves {
            self.fill(record, &mut values, rules);
        }
        if !is_trusted {
            for (target, value) in &rules.edge.set {
                let value = match target {
                    Target::Main(REQUEST_TYPE) => canonical(Field::RequestType, value),
                    _ => value,
                };
                let value = record.store(value);
                values.set(*target, value);
            }
            if let Some(target) = rules.edge.identity
                && let Some(identity) = record.identity.clone()
                && target.takes(identity.as_bytes(), Some(&rules.extra))
            {
                let value = record.store(identity.as_bytes());
                values.set(target, value);
            }
        }
        if let Some(pseudonyms) = &rules.pseudonyms {
            self.replace(record, &mut values, rules, pseudonyms);
            // Nor does the event tell the name in the certificate, where it is the value of such a field.
            let named =
                rules.edge.identity.filter(|target| !is_trusted && pseudonyms.targets.contains(target));
            if let Some(target) = named
                && record.identity.is_some()
            {
                let pseudonym = String::from_utf8_lossy(record.text(values.get(target))).into_owned();
                record.identity = Some(pseudonym.into());
            }
        }
        note(record, &values);
        values
    }

    fn read_main(&mut self, fields: &Fields, record: &mut Record, values: &mut Values, is_trusted: bool) {
        let found = match fields.has(Known::Baggage) {
            true => baggage::find(fields.all(Known::Baggage)),
            false => baggage::Found::default(),
        };
        values.is_in_baggage |= !found.is_empty();
        values.is_touched |= values.is_in_baggage;
        record.context_dropped += u32::from(found.is_disguised);
        values.rewrites_baggage |= found.is_disguised || found.has_properties || found.repeated > 0;
        for (index, (field, known)) in CARRIERS.into_iter().enumerate() {
            let plain = fields.get(known);
            let in_baggage = found.raw(field).map(|raw| baggage::decode(raw, &mut self.scratch.decoded));
            if plain.is_none() && in_baggage.is_none() {
                continue;
            }
            values.is_touched = true;
            if !is_trusted {
                record.context_dropped += 1;
                values.rewrites[index] = plain.is_some();
                values.rewrites_baggage |= in_baggage.is_some();
                continue;
            }
            // Twice is ambiguous: the application might read the other one.
            let is_repeated = fields.is_repeated(known);
            let merged = merge(field, plain.filter(|_| !is_repeated), in_baggage);
            record.context_dropped += u32::from(merged.invalid || is_repeated);
            record.context_disagreed += u32::from(merged.disagreement);
            let mut value = merged.value.map(|(value, _)| canonical(field, value));
            // Whatever else is said beside it: what is a tracer bullet to somebody must not be real work.
            let mut said = fields.all(known).chain(in_baggage);
            if field == Field::RequestType && said.any(is_trace) {
                value = Some(RequestType::Trace.as_str().as_bytes());
            }
            values.main[index] = value.map(|value| record.store(value)).unwrap_or_default();
            values.rewrites[index] = is_repeated || value != plain;
            values.rewrites_baggage |= value != in_baggage;
        }
    }

    /// Further fields, and the signature: where their members are in baggage.
    fn read_more(
        &mut self,
        fields: &Fields,
        record: &mut Record,
        values: &mut Values,
        rules: &Rules,
        is_trusted: bool,
    ) {
        let mut in_baggage: [Option<&[u8]>; FIELDS_MAX] = [None; FIELDS_MAX];
        for (key, raw) in baggage::entries(fields.all(Known::Baggage)) {
            let own = rules.extra.from_baggage_key(key).and_then(|at| in_baggage.get_mut(at));
            let is_exact = own.is_some() || key == signature::BAGGAGE_KEY.as_bytes();
            if let Some(slot) = own {
                *slot = raw;
            }
            if is_ours(key, rules) {
                values.is_in_baggage = true;
                record.context_dropped += u32::from(!is_exact);
            }
        }
        values.is_touched |=
            values.is_in_baggage || fields.named(signature::HEADER.as_bytes()).next().is_some();
        for (index, field) in rules.extra.iter().enumerate() {
            let name = field.header.as_deref().unwrap_or_default().as_bytes();
            let mut headers = fields.named(name);
            let (plain, is_repeated) = (headers.next(), headers.next().is_some());
            let raw = in_baggage.get(index).copied().flatten();
            if plain.is_none() && raw.is_none() {
                continue;
            }
            values.is_touched = true;
            if !is_trusted && field.believe == Believe::Trusted {
                record.context_dropped += 1;
                continue;
            }
            let decoded = raw.map(|raw| baggage::decode(raw, &mut self.scratch.decoded));
            let merged = field.merge(plain.filter(|_| !is_repeated), decoded);
            record.context_dropped += u32::from(merged.invalid || is_repeated);
            record.context_disagreed += u32::from(merged.disagreement);
            if let (Some((value, _)), Some(slot)) = (merged.value, values.extra.get_mut(index)) {
                *slot = record.store(value);
            }
        }
    }

    /// What is missing comes from the exchange that it serves. A tracer bullet stays one, whatever the application says.
    pub(super) fn fill(&self, record: &mut Record, values: &mut Values, rules: &Rules) {
        let kept = &self.scratch.found.context;
        let names = rules.extra_names.iter().enumerate().map(|(at, name)| (Target::Extra(at), Some(name)));
        for (target, name) in (0..CARRIERS.len()).map(|at| (Target::Main(at), None)).chain(names) {
            if !values.get(target).is_empty() {
                continue;
            }
            let value = match (target, name) {
                (Target::Main(index), _) => correlate::main(kept, index),
                (Target::Extra(_), name) => name.map_or(&[][..], |name| correlate::extra(kept, name)),
            };
            // The rules may have changed since it was kept.
            if !value.is_empty() && target.takes(value, Some(&rules.extra)) {
                let value = record.store(value);
                values.set(target, value);
            }
        }
        let own = RequestType::parse(record.text(values.main[REQUEST_TYPE]));
        if correlate::is_trace(kept) && own != Some(RequestType::Trace) {
            record.context_disagreed += 1;
            let value = record.store(RequestType::Trace.as_str().as_bytes());
            values.set(Target::Main(REQUEST_TYPE), value);
        }
    }

    fn replace(&mut self, record: &mut Record, values: &mut Values, rules: &Rules, pseudonyms: &Pseudonyms) {
        for target in pseudonyms.targets.iter().copied() {
            let value = values.get(target);
            let name = match target {
                Target::Main(index) => CARRIERS.get(index).map_or("", |(field, _)| field.name()),
                Target::Extra(index) => rules.extra.get(index).map_or("", |field| &field.name),
            };
            if value.is_empty() {
                continue;
            }
            let out = &mut self.scratch.decoded;
            out.clear();
            if pseudonyms.maker.write(name, record.text(value), out) == Applied::Made {
                // The record keeps no name beside the pseudonym.
                record.erase(value);
                let value = record.store(out);
                values.set(target, value);
            }
        }
    }

    /// Writes both carriers.
    pub(super) fn write_fields(
        &mut self,
        fields: &mut Fields,
        record: &mut Record,
        rules: &Rules,
        values: &Values,
    ) {
        let has_token = !self.scratch.token.is_empty();
        if !values.is_touched && !has_token {
            return;
        }
        let is_due = values.rewrites_baggage || rules.has_more_in_baggage();
        if is_due && (values.is_in_baggage || !values.is_empty() || has_token) {
            self.write_baggage(fields, record, rules, values);
        }
        for (index, (_, known)) in CARRIERS.into_iter().enumerate() {
            let value = values.main[index];
            match (values.rewrites[index], value.is_empty()) {
                (true, false) => fields.set(known, record.text(value)),
                (true, true) => {
                    fields.remove(known);
                }
                (false, _) => {}
            }
        }
        if rules.has_more_in_baggage() {
            self.write_more(fields, record, rules, values);
        }
    }

    /// Further fields and the signature, as headers.
    fn write_more(&self, fields: &mut Fields, record: &mut Record, rules: &Rules, values: &Values) {
        for (index, field) in rules.extra.iter().enumerate() {
            let value = values.get(Target::Extra(index));
            let Some(name) = field.header.as_deref().map(str::as_bytes) else { continue };
            if value.is_empty() {
                fields.remove_named(name);
            } else {
                set(fields, name, record.text(value));
            }
        }
        if rules.signing.is_some() {
            let name = signature::HEADER.as_bytes();
            if self.scratch.token.is_empty() {
                fields.remove_named(name);
            } else {
                set(fields, name, &self.scratch.token);
            }
        }
        for (index, name) in rules.extra_names.iter().enumerate() {
            let value = values.get(Target::Extra(index));
            if !value.is_empty() {
                record.note().extra.push((name.clone(), value));
            }
        }
    }

    fn write_baggage(&mut self, fields: &mut Fields, record: &mut Record, rules: &Rules, values: &Values) {
        let list = &mut self.scratch.list;
        list.clear();
        let main = CARRIERS
            .iter()
            .zip(&values.main)
            .filter_map(|((field, _), value)| baggage::Member::of(*field, record.text(*value)));
        let written = if rules.has_more_in_baggage() {
            let extra = rules.extra.iter().zip(&values.extra);
            let extra = extra.filter_map(|(field, value)| {
                Some(baggage::Member::new(field.baggage_key.as_deref()?, record.text(*value)))
            });
            let token = baggage::Member::new(signature::BAGGAGE_KEY, &self.scratch.token);
            baggage::write_members(
                rules.baggage_bytes_max,
                fields.all(Known::Baggage),
                main.chain(extra).chain([token]),
                |key| is_ours(key, rules),
                list,
            )
        } else {
            let existing = fields.all(Known::Baggage);
            baggage::write_members(rules.baggage_bytes_max, existing, main, |_| false, list)
        };
        record.context_dropped += u32::try_from(written.dropped).unwrap_or(u32::MAX);
        let is_as_it_came =
            fields.get(Known::Baggage) == Some(list.as_slice()) && !fields.is_repeated(Known::Baggage);
        if list.is_empty() {
            fields.remove(Known::Baggage);
        } else if !is_as_it_came {
            fields.set(Known::Baggage, list);
        }
    }
}

/// Sets a header, unless it is there once with this value.
fn set(fields: &mut Fields, name: &[u8], value: &[u8]) {
    let mut there = fields.named(name);
    let is_as_it_came = there.next() == Some(value) && there.next().is_none();
    drop(there);
    if !is_as_it_came {
        fields.set_named(name, value);
    }
}

/// A value as it goes on. A request type has one spelling: applications compare bytes, and the signature does not tell.
fn canonical(field: Field, value: &[u8]) -> &[u8] {
    match field {
        Field::RequestType => RequestType::parse(value).map_or(value, |known| known.as_str().as_bytes()),
        _ => value,
    }
}

/// Whether this is the type of a tracer bullet.
fn is_trace(value: &[u8]) -> bool {
    RequestType::parse(trim_ows(value)) == Some(RequestType::Trace)
}

/// Whether a key in baggage may be taken for that of a further field, or of the signature where there are any.
fn is_ours(key: &[u8], rules: &Rules) -> bool {
    rules.extra.claims_baggage_key(key)
        && (rules.signing.is_some() || key != signature::BAGGAGE_KEY.as_bytes())
}

/// Puts the built-in fields into the record.
pub(super) fn note(record: &mut Record, values: &Values) {
    for (value, (field, _)) in values.main.into_iter().zip(CARRIERS) {
        match field {
            Field::UserId => record.user_id = value,
            Field::AccountId => record.account_id = value,
            Field::License => record.license = value,
            Field::Flags => record.flags = value,
            Field::RequestType => {
                record.request_type = RequestType::parse(record.text(value)).unwrap_or_default();
            }
            Field::RequestId => {}
        }
    }
}
