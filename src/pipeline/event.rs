//! An encoded event, read again: for sinks that say it in another form.
//!
//! What: the members of one JSON object in their order, without a copy: texts as they stand between their quotes, numbers
//! read, arrays and objects as they are written. Why not a general reader: an event has some forty members, each sink
//! looks at each once, and a tree of owned values costs several times what encoding the event did.
//! How it fails: what is not a JSON object ends the iteration early, and [`Members::is_whole`] says so. Never panics.

use std::borrow::Cow;

/// A JSON text, as it stands between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    has_escapes: bool,
}

impl<'a> Text<'a> {
    /// What the text says. Allocates only where something was escaped.
    pub(crate) fn get(self) -> Cow<'a, str> {
        if !self.has_escapes {
            return String::from_utf8_lossy(self.raw);
        }
        let mut quoted = Vec::with_capacity(self.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.raw);
        quoted.push(b'"');
        match serde_json::from_slice::<String>(&quoted) {
            Ok(text) => Cow::Owned(text),
            Err(_) => Cow::Owned(String::from_utf8_lossy(self.raw).into_owned()),
        }
    }

    /// The bytes between the quotes: what the text says, if nothing in it was escaped (names of members never are).
    pub(crate) fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Whether [`Text::raw`] is not what the text says.
    pub(crate) fn has_escapes(self) -> bool {
        self.has_escapes
    }
}

/// The value of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// A text.
    Text(Text<'a>),
    /// A number without fraction and exponent.
    Int(i64),
    /// Any other number.
    Double(f64),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An array, as it is written.
    Array(&'a [u8]),
    /// An object, as it is written: [`members`] reads it.
    Object(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The text, if it is one.
    pub(crate) fn text(self) -> Option<Text<'a>> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub(crate) fn number(self) -> Option<f64> {
        match self {
            Value::Int(number) => Some(number as f64),
            Value::Double(number) => Some(number),
            _ => None,
        }
    }
}

/// The members of an object, in their order.
pub(crate) fn members(json: &[u8]) -> Members<'_> {
    let json = json.trim_ascii();
    let (at, state) = match json.first() {
        Some(b'{') => (1, State::First),
        _ => (0, State::Broken),
    };
    Members { json, at, state }
}

/// The items of an array, in their order.
pub(crate) fn items(json: &[u8]) -> impl Iterator<Item = Value<'_>> {
    let json = json.trim_ascii();
    let mut at = usize::from(json.first() == Some(&b'['));
    let mut is_over = at == 0;
    std::iter::from_fn(move || {
        at = skip_space(json, at);
        if is_over || json.get(at) == Some(&b']') {
            return None;
        }
        let Some((value, end)) = value(json, at) else {
            is_over = true;
            return None;
        };
        at = skip_space(json, end);
        match json.get(at) {
            Some(b',') => at += 1,
            _ => is_over = true,
        }
        Some(value)
    })
}

/// The first member `name`.
pub(crate) fn member<'a>(json: &'a [u8], name: &str) -> Option<Value<'a>> {
    members(json).find(|(key, _)| key.raw() == name.as_bytes()).map(|(_, value)| value)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    First,
    Next,
    Whole,
    Broken,
}

/// See [`members`].
pub(crate) struct Members<'a> {
    json: &'a [u8],
    at: usize,
    state: State,
}

impl Members<'_> {
    /// After the last member: whether all that was given was one object.
    pub(crate) fn is_whole(&self) -> bool {
        self.state == State::Whole
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (Text<'a>, Value<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if matches!(self.state, State::Whole | State::Broken) {
            return None;
        }
        let found = self.step();
        if found.is_none() && self.state != State::Whole {
            self.state = State::Broken;
        }
        found
    }
}

impl<'a> Members<'a> {
    #[inline]
    fn step(&mut self) -> Option<(Text<'a>, Value<'a>)> {
        let json = self.json;
        let mut at = skip_space(json, self.at);
        match (json.get(at)?, self.state) {
            (b'}', _) => {
                self.state = if at + 1 == json.len() { State::Whole } else { State::Broken };
                return None;
            }
            (b',', State::Next) => at = skip_space(json, at + 1),
            (_, State::First) => {}
            _ => return None,
        }
        let (key, end) = text(json, at)?;
        at = skip_space(json, end);
        if json.get(at) != Some(&b':') {
            return None;
        }
        let (value, end) = value(json, skip_space(json, at + 1))?;
        self.at = end;
        self.state = State::Next;
        Some((key, value))
    }
}

#[inline]
fn skip_space(json: &[u8], mut at: usize) -> usize {
    while matches!(json.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The text whose quote is at `at`, and where it ends.
#[inline]
fn text(json: &[u8], at: usize) -> Option<(Text<'_>, usize)> {
    if json.get(at) != Some(&b'"') {
        return None;
    }
    let start = at + 1;
    let mut end = start;
    let mut has_escapes = false;
    loop {
        end += memchr::memchr2(b'"', b'\\', json.get(end..)?)?;
        if json.get(end) == Some(&b'"') {
            return Some((Text { raw: json.get(start..end)?, has_escapes }, end + 1));
        }
        has_escapes = true;
        end += 2;
    }
}

#[inline]
fn value(json: &[u8], at: usize) -> Option<(Value<'_>, usize)> {
    match json.get(at)? {
        b'"' => text(json, at).map(|(text, end)| (Value::Text(text), end)),
        b'{' => nested(json, at).map(|end| (Value::Object(&json[at..end]), end)),
        b'[' => nested(json, at).map(|end| (Value::Array(&json[at..end]), end)),
        b't' => word(json, at, b"true", Value::Bool(true)),
        b'f' => word(json, at, b"false", Value::Bool(false)),
        b'n' => word(json, at, b"null", Value::Null),
        _ => number(json, at),
    }
}

fn word<'a>(json: &[u8], at: usize, word: &[u8], value: Value<'a>) -> Option<(Value<'a>, usize)> {
    json.get(at..)?.starts_with(word).then_some((value, at + word.len()))
}

#[inline]
fn number(json: &[u8], at: usize) -> Option<(Value<'_>, usize)> {
    let rest = json.get(at..)?;
    let is_of_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    let len = rest.iter().position(|byte| !is_of_number(byte)).unwrap_or(rest.len());
    let raw = rest.get(..len)?;
    if raw.len() < 19 && !raw.is_empty() && raw.iter().all(u8::is_ascii_digit) {
        let number = raw.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        return Some((Value::Int(number), at + len));
    }
    let raw = str::from_utf8(raw).ok()?;
    let value = match raw.parse::<i64>() {
        Ok(number) => Value::Int(number),
        Err(_) => Value::Double(raw.parse().ok()?),
    };
    Some((value, at + len))
}

/// Where the array or object that begins at `at` ends.
fn nested(json: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        match json.get(at)? {
            b'"' => {
                at = text(json, at)?.1;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    fn tree(value: Value<'_>) -> Json {
        match value {
            Value::Text(text) => text.get().into(),
            Value::Int(number) => number.into(),
            Value::Double(number) => number.into(),
            Value::Bool(flag) => flag.into(),
            Value::Null => Json::Null,
            Value::Array(raw) => items(raw).map(tree).collect(),
            Value::Object(raw) => object(raw),
        }
    }

    fn object(raw: &[u8]) -> Json {
        Json::Object(members(raw).map(|(key, value)| (key.get().into_owned(), tree(value))).collect())
    }

    #[test]
    fn what_an_event_says_is_read_in_order() {
        let event = br#"{"schema":"sidelight/exchange/1","id":{"instance":"a","sequence":7},"n":-3,"d":1.5e2,"b":true,"t":"a\"b\u00e9","l":["x",{"y":[]}],"z":null}"#;
        assert_eq!(object(event), serde_json::from_slice::<Json>(event).unwrap());
        let mut all = members(event);
        assert_eq!(all.by_ref().count(), 8);
        assert!(all.is_whole());
        assert_eq!(member(event, "n"), Some(Value::Int(-3)));
        assert_eq!(member(event, "d").and_then(Value::number), Some(150.0));
        assert_eq!(member(event, "nothing"), None);
    }

    #[test]
    fn what_is_no_object_is_said() {
        let broken: [&[u8]; 12] = [
            b"",
            b"[]",
            b"{",
            b"{\"a\"",
            b"{\"a\":",
            b"{\"a\":1",
            b"{\"a\":1,}",
            b"{\"a\":1}x",
            b"{,}",
            b"{\"a\\",
            b"{\"a\":[}",
            b"{\"a\":tru}",
        ];
        for json in broken {
            let mut all = members(json);
            all.by_ref().for_each(drop);
            assert!(!all.is_whole(), "{}", String::from_utf8_lossy(json));
        }
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Json::from),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::hash_map("[a-z.]{1,8}", inner, 0..5)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_reads_what_a_general_reader_reads(members in prop::collection::btree_map("[a-z.]{1,8}", any_json(), 0..8)) {
            let json = Json::Object(members.into_iter().collect());
            prop_assert_eq!(object(json.to_string().as_bytes()), json.clone());
            prop_assert_eq!(object(serde_json::to_string_pretty(&json).unwrap().as_bytes()), json);
        }

        #[test]
        fn no_bytes_whatever_make_it_panic(given: Vec<u8>, cut in 0_usize..60) {
            let _ = object(&given);
            let event = br#"{"a":{"b":["\"",1.5,{}]},"c":"\u00e9\\","d":-1}"#;
            let _ = object(event.get(..cut).unwrap_or(event));
        }
    }
}
