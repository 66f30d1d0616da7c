//! `proxy-config`: every file there passes, and `full.yaml` tells every key and its default.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cluster::config::Endpoint;
use crate::config::{Config, load, parse, schema, to_yaml};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy-config")
}

fn examples() -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect()
}

fn full() -> String {
    std::fs::read_to_string(directory().join("full.yaml")).unwrap()
}

#[test]
fn every_example_passes_without_a_warning() {
    let examples = examples();
    assert!(examples.len() >= 10);
    for path in examples {
        let loaded = load(&path).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        let again =
            parse("effective", &to_yaml(&loaded.config)).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(again.config, loaded.config, "{}", path.display());
        assert!(again.warnings.is_empty(), "what is written with its default is no slip: {}", again.warnings);
    }
}

#[test]
fn full_is_the_defaults() {
    let mut wanted = Config::default();
    wanted.service.app = Some("127.0.0.1:8080".parse().unwrap());
    assert_eq!(parse("full.yaml", &full()).unwrap().config, wanted);
}

/// A line that is a key, or an item that begins with one, behind `# `.
fn uncommented(line: &str) -> Option<String> {
    let (indent, rest) = line.split_once("# ")?;
    let key = rest.trim_start().trim_start_matches("- ").trim_start_matches("{ ");
    let name = key.split_once(':')?.0;
    let is_key = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b));
    (indent.trim().is_empty() && is_key).then(|| format!("{indent}{rest}"))
}

/// The keys in comments exist and have values of the right type; only that some exclude each other is left to say.
#[test]
fn full_is_right_in_its_comments() {
    let text: Vec<String> = full().lines().map(|line| uncommented(line).unwrap_or(line.to_owned())).collect();
    let problems = parse("full.yaml", &text.join("\n")).unwrap_err();
    for problem in problems.list() {
        let is_choice = problem.message.contains("exclude each other");
        assert!(is_choice, "{problems}");
    }
}

#[test]
fn full_has_every_key() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let properties = map.get("properties").and_then(Value::as_object);
                found.extend(properties.into_iter().flatten().map(|(name, _)| name.clone()));
                map.iter().filter(|(name, _)| *name != "default").for_each(|(_, value)| keys(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }
    let (mut found, text) = (Vec::new(), full());
    keys(&schema(), &mut found);
    let is_written =
        |name: &String| text.contains(&format!(" {name}:")) || text.contains(&format!("\n{name}:"));
    // The forms of a path are alternatives of one key; the comment beside it names them.
    let missing: Vec<_> = found.iter().filter(|name| !is_written(name) && *name != "exact").collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn endpoint_files_are_lists_of_endpoints() {
    let text = std::fs::read_to_string(directory().join("file-discovery/payments.yaml")).unwrap();
    let endpoints: Vec<Endpoint> = serde_yaml::from_str(&text).unwrap();
    assert_eq!(endpoints.len(), 2);
    assert_eq!(endpoints[1].weight, 2);
}
