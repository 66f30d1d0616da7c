//! The configuration's JSON Schema, from the types that read it.
//!
//! schemars leaves out the default of what is skipped when it is written; it is put back here, so that every key that
//! may be absent says what absence means.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::Config;

/// JSON Schema (draft 2020-12) with every key, default and description.
pub fn schema() -> Value {
    compiled().clone()
}

/// The same, made once.
pub(super) fn compiled() -> &'static Value {
    static SCHEMA: OnceLock<Value> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schemars::schema_for!(Config).to_value();
        if let Some(root) = schema.as_object_mut() {
            root.insert("title".into(), json!("sidelight configuration"));
            root.insert("description".into(), json!("What a sidelight sidecar does, in one file."));
        }
        let read = schema.clone();
        add_defaults(&mut schema, &read);
        refuse_null(&mut schema);
        schema
    })
}

fn add_defaults(schema: &mut Value, root: &Value) {
    let Some(object) = schema.as_object_mut() else { return };
    let is_choice = object.get("properties").and_then(Value::as_object).is_some_and(|keys| keys.len() == 1)
        && object.get("required").and_then(Value::as_array).is_some_and(|keys| keys.len() == 1);
    let required: Vec<Value> = object.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(keys) = object.get_mut("properties").and_then(Value::as_object_mut).filter(|_| !is_choice) {
        for (name, key) in keys.iter_mut() {
            if !required.contains(&json!(name)) {
                add_default(key, root);
            }
        }
    }
    for value in object.values_mut() {
        match value {
            Value::Object(_) => add_defaults(value, root),
            Value::Array(items) => items.iter_mut().for_each(|item| add_defaults(item, root)),
            _ => {}
        }
    }
}

/// An absent key is `None` for serde, so schemars allows `null` too; a key without a value is a slip, not a choice.
fn refuse_null(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(refuse_null),
        Value::Object(object) => {
            object.values_mut().for_each(refuse_null);
            if let Some(Value::Array(kinds)) = object.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [kind] = kinds.as_slice() {
                    let kind = kind.clone();
                    object.insert("type".into(), kind);
                }
            }
            let Some(Value::Array(forms)) = object.get_mut("anyOf") else { return };
            forms.retain(|form| form.get("type") != Some(&json!("null")));
            if let [Value::Object(form)] = forms.as_mut_slice() {
                let form = std::mem::take(form);
                object.remove("anyOf");
                for (name, value) in form {
                    object.entry(name).or_insert(value);
                }
            }
        }
        _ => {}
    }
}

fn add_default(key: &mut Value, root: &Value) {
    let absent = absent(key, root);
    if let Some(key) = key.as_object_mut().filter(|key| !key.contains_key("default")) {
        key.insert("default".into(), absent);
    }
}

/// What is read where nothing is written.
fn absent(schema: &Value, root: &Value) -> Value {
    let Some(object) = resolve(schema, root) else { return Value::Null };
    match object.get("type").and_then(Value::as_str) {
        Some("object") => json!({}),
        Some("array") => json!([]),
        Some("string") => json!(""),
        _ if is_one_or_many(object) => json!([]),
        _ => Value::Null,
    }
}

fn is_one_or_many(object: &Map<String, Value>) -> bool {
    let forms = object.get("anyOf").and_then(Value::as_array);
    forms.is_some_and(|forms| forms.iter().any(|form| form.get("type") == Some(&json!("array"))))
}

/// The object that a schema, or the `$ref` in it, stands for.
pub(super) fn resolve<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    let object = schema.as_object()?;
    match object.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.strip_prefix('#')?)?.as_object(),
        None => Some(object),
    }
}
