//! One thing, or a list of several: `{ path: a }` or `[{ path: a }, { path: b }]`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::marker::PhantomData;

/// The schema of such a place.
pub struct Some<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for Some<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Some{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form<T> {
    Many(Vec<T>),
    One(T),
}

/// Reads one or several.
pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Vec<T>, D::Error> {
    Ok(match Form::deserialize(d)? {
        Form::Many(all) => all,
        Form::One(one) => vec![one],
    })
}

/// Writes one as itself, several as a list.
pub fn serialize<T: Serialize, S: Serializer>(all: &[T], s: S) -> Result<S::Ok, S::Error> {
    match all {
        [one] => one.serialize(s),
        all => all.serialize(s),
    }
}
