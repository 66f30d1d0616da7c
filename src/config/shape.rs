//! What a schema allows at one place, in the form that [`super::walk`] and its messages need.
//!
//! The subset of JSON Schema that schemars writes for our types: `$ref`, `type`, `const`, `enum`, `anyOf`/`oneOf`,
//! `properties`, `required`, `additionalProperties`, `items`, `minItems`, `minimum`, `maximum` and `format`. An enum whose
//! variants are partly plain words and partly mappings of one key is one shape with `choices` and `keys`.

use serde_json::{Map, Value};

use super::nearest::listed;
use super::schema::resolve;

/// What is allowed at one place; several forms may be.
#[derive(Debug, Default)]
pub struct Shape<'a> {
    /// `true` and `false`.
    pub boolean: bool,
    /// A whole number between two.
    pub integer: Option<(i128, i128)>,
    /// A number between two.
    pub number: Option<(f64, f64)>,
    /// Any text, of this format if there is one.
    pub text: Option<Option<&'a str>>,
    /// Some texts.
    pub choices: Vec<&'a str>,
    /// A list of this, with at least so many items.
    pub list: Option<(&'a Value, u64)>,
    /// A mapping of any key to this.
    pub any_key: Option<&'a Value>,
    /// A mapping of some keys.
    pub keys: Option<Keys<'a>>,
}

/// The keys of a mapping.
#[derive(Debug, Default)]
pub struct Keys<'a> {
    /// Name, schema, and whether it must be there.
    pub known: Vec<(&'a str, &'a Value, bool)>,
    /// Exactly one of them must be there.
    pub exactly_one: bool,
}

impl<'a> Shape<'a> {
    /// Of a schema; `root` holds its `$defs`.
    pub fn of(schema: &'a Value, root: &'a Value) -> Self {
        let mut shape = Shape::default();
        shape.add(schema, root);
        shape
    }

    fn add(&mut self, schema: &'a Value, root: &'a Value) {
        let Some(object) = resolve(schema, root) else { return };
        for forms in ["anyOf", "oneOf"] {
            let forms = object.get(forms).and_then(Value::as_array);
            forms.into_iter().flatten().for_each(|form| self.add(form, root));
        }
        self.choices.extend(object.get("const").and_then(Value::as_str));
        let choices = object.get("enum").and_then(Value::as_array);
        self.choices.extend(choices.into_iter().flatten().filter_map(Value::as_str));
        let is_choice = object.contains_key("const") || object.contains_key("enum");
        match object.get("type") {
            Some(Value::String(kind)) if !(is_choice && kind == "string") => self.add_type(kind, object),
            Some(Value::Array(kinds)) => {
                kinds.iter().filter_map(Value::as_str).for_each(|kind| self.add_type(kind, object));
            }
            _ => {}
        }
    }

    fn add_type(&mut self, kind: &str, object: &'a Map<String, Value>) {
        let number = |key: &str| object.get(key).and_then(Value::as_i64).map(i128::from);
        match kind {
            "boolean" => self.boolean = true,
            "integer" => {
                let max = number("maximum").unwrap_or(i128::from(u32::MAX));
                self.integer = Some((number("minimum").unwrap_or(0), max));
            }
            "number" => {
                let bound = |key: &str| object.get(key).and_then(Value::as_f64);
                self.number = Some((bound("minimum").unwrap_or(0.0), bound("maximum").unwrap_or(f64::MAX)));
            }
            "string" => self.text = Some(object.get("format").and_then(Value::as_str)),
            "array" => {
                let least = object.get("minItems").and_then(Value::as_u64).unwrap_or(0);
                self.list = object.get("items").map(|items| (items, least));
            }
            "object" => self.add_object(object),
            _ => {}
        }
    }

    fn add_object(&mut self, object: &'a Map<String, Value>) {
        if let Some(value) = object.get("additionalProperties").filter(|value| value.is_object()) {
            self.any_key = Some(value);
            return;
        }
        let properties = object.get("properties").and_then(Value::as_object);
        let required = object.get("required").and_then(Value::as_array);
        let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|it| it == name));
        let known: Vec<_> = properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str(), schema, is_required(name)))
            .collect();
        let keys = self.keys.get_or_insert_default();
        keys.exactly_one = !keys.known.is_empty(); // a second form: they are alternatives
        keys.known.extend(known);
    }

    /// Whether exactly one of `keys` must be there: they are alternatives of each other, or of plain words.
    pub fn is_choice(&self, keys: &Keys<'_>) -> bool {
        keys.exactly_one || (keys.known.len() == 1 && !self.choices.is_empty())
    }

    /// For a message: "a duration, as in `250ms`".
    pub fn expected(&self) -> String {
        let mut forms: Vec<String> = Vec::new();
        if let Some(format) = self.text {
            forms.push(super::format::described(format).into());
        }
        if !self.choices.is_empty() {
            forms.push(match self.choices.as_slice() {
                [one] => format!("`{one}`"),
                several => format!("one of {}", listed(several.iter().copied(), "and")),
            });
        }
        if self.boolean {
            forms.push("`true` or `false`".into());
        }
        if self.integer.is_some() && self.text.is_none() {
            forms.push("a whole number".into());
        }
        if self.number.is_some() && self.text.is_none() {
            forms.push("a number".into());
        }
        if self.list.is_some() {
            forms.push("a list".into());
        }
        match &self.keys {
            Some(keys) if self.is_choice(keys) && keys.known.len() == 1 => {
                forms.push(format!("a mapping with {}", listed(keys.names(), "and")));
            }
            Some(keys) if keys.exactly_one => {
                forms.push(format!("a mapping with one of {}", listed(keys.names(), "and")));
            }
            Some(_) => forms.push("a mapping".into()),
            None if self.any_key.is_some() => forms.push("a mapping".into()),
            None => {}
        }
        forms.join(" or ")
    }
}

impl<'a> Keys<'a> {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &'a str> + Clone + '_ {
        self.known.iter().map(|(name, _, _)| *name)
    }
}
