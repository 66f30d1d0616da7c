//! JSON, value by value: the order of an object's members means nothing (RFC 8259 §4), that of an array does unless a
//! rule says that it is a set.

use super::difference::{Found, Kind};
use super::rules::Rules;
use serde_json::Value;

/// An array of more elements that is a set is compared in the order of the elements' texts.
const SET_MATCHED_MAX: usize = 128;

/// Walks two values side by side. `path` is where they are as it is reported, `place` with indexes as rules see it.
pub(super) fn compare(rules: &Rules, path: &str, left: &Value, right: &Value, found: &mut Found) {
    if found.is_full() || left == right || rules.is_ignored(path) {
        return;
    }
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            for (name, value) in a {
                let at = format!("{path}/{name}");
                match b.get(name) {
                    Some(other) => compare(rules, &at, value, other, found),
                    None if rules.is_ignored(&at) => {}
                    None => found.add(&at, Kind::Missing, &value.to_string(), ""),
                }
            }
            for (name, value) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                let at = format!("{path}/{name}");
                if !rules.is_ignored(&at) {
                    found.add(&at, Kind::Added, "", &value.to_string());
                }
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            if rules.is_presence(path) {
                return;
            }
            let at = format!("{path}/*");
            if a.len() != b.len() {
                found.add(
                    path,
                    Kind::Count,
                    &format!("{} elements", a.len()),
                    &format!("{} elements", b.len()),
                );
            }
            if rules.is_set(path) {
                sets(rules, &at, a, b, found);
            } else {
                a.iter().zip(b).for_each(|(left, right)| compare(rules, &at, left, right, found));
            }
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            // 1 and 1.0 are one number; beyond 2^53 only their digits tell.
            let is_same = a == b && a.abs() < 9_007_199_254_740_992.0;
            if !is_same
                && !rules.is_near(path, a, b)
                && !rules.is_equal(path, &left.to_string(), &right.to_string())
            {
                found.add(path, Kind::Value, &left.to_string(), &right.to_string());
            }
        }
        (Value::String(a), Value::String(b)) => {
            if !rules.is_equal(path, a, b) {
                found.add(path, Kind::Value, a, b);
            }
        }
        (Value::Bool(_), Value::Bool(_)) => {
            if !rules.is_presence(path) {
                found.add(path, Kind::Value, &left.to_string(), &right.to_string());
            }
        }
        _ => {
            if !rules.is_presence(path) {
                found.add(path, Kind::Type, &left.to_string(), &right.to_string());
            }
        }
    }
}

/// Takes away what is equal under the rules, and compares what is left, in order.
fn sets(rules: &Rules, path: &str, left: &[Value], right: &[Value], found: &mut Found) {
    let mut left: Vec<&Value> = left.iter().collect();
    let mut right: Vec<&Value> = right.iter().collect();
    if left.len().max(right.len()) > SET_MATCHED_MAX {
        left.sort_by_cached_key(|value| value.to_string());
        right.sort_by_cached_key(|value| value.to_string());
    } else {
        left.retain(|value| {
            let equal = right.iter().position(|other| {
                let mut inner = Found::default();
                compare(rules, path, value, other, &mut inner);
                inner.is_empty()
            });
            equal.map(|at| right.remove(at)).is_none()
        });
    }
    left.iter().zip(&right).for_each(|(left, right)| compare(rules, path, left, right, found));
}
