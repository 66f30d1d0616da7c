//! What a user sees of the configuration: messages, examples, schema, and that nothing panics.

mod documents;
mod examples;
mod files;
mod golden;
mod properties;

use super::{Config, from_flags, parse, schema, to_yaml};
use serde_json::Value;

#[test]
fn flags_stand_for_a_file() {
    let loaded =
        from_flags("127.0.0.1:8080", &["payments=10.0.0.7:8080,10.0.0.8:8080", "db=db.local:5432"]).unwrap();
    let written = parse("a.yaml", &to_yaml(&loaded.config)).unwrap();
    assert_eq!(written.config, loaded.config);
    assert_eq!(loaded.config.clusters["payments"].endpoints.len(), 2);
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn flags_tell_every_problem() {
    let shown = from_flags("8080", &["payments", "db=db.local", "a=a:1", "a=a:2"]).unwrap_err().to_string();
    let wanted = "\
error: `--app 8080`: `8080` is not a host and a port: the port is missing
 --> command line
  = help: write `127.0.0.1:8080`

error: `--cluster payments`: there is no `=`
 --> command line
  = help: write it as in `--cluster payments=10.0.0.7:8080,10.0.0.8:8080`

error: `--cluster db=db.local`: `db.local` is not a host and a port: the port is missing
 --> command line
  = help: add a port: `db.local:8080`

error: `--cluster a=a:2`: there is already a cluster `a`
 --> command line

";
    assert_eq!(shown, wanted);
}

#[test]
fn revision_follows_the_text() {
    let revision = |text: &str| parse("a.yaml", text).unwrap().revision;
    let one = revision("service: { name: a, app: \"127.0.0.1:8080\" }\n");
    assert_eq!(one.len(), 16);
    assert_eq!(one, revision("service: { name: a, app: \"127.0.0.1:8080\" }\n"));
    assert_ne!(one, revision("service: { name: b, app: \"127.0.0.1:8080\" }\n"));
}

#[test]
fn json_has_the_same_facts_as_the_text() {
    let problems = parse("a.yaml", "service: { nam: a, app: \"127.0.0.1:8080\" }\n").unwrap_err().to_json();
    let wanted = serde_json::json!([{
        "severity": "error", "message": "unknown key `nam`", "file": "a.yaml",
        "line": 1, "column": 12, "length": 3, "help": "write `name`"
    }]);
    assert_eq!(problems, wanted);
}

#[test]
fn colours_are_for_terminals() {
    let problems = parse("a.yaml", "service: { nam: a, app: \"127.0.0.1:8080\" }\n").unwrap_err();
    assert!(!problems.render(false).contains('\x1b'));
    assert!(problems.render(true).contains("\x1b[1;31merror\x1b[0m"));
}

#[test]
fn a_file_cannot_write_to_the_terminal() {
    let text =
        "service: { name: a, app: \"127.0.0.1:8080\" }\n\"a\\eb\": \"\\e[2J\"\n# \u{9b}2J\nlimits: \u{9b}2J";
    let shown =
        parse("a.yaml", text).map(|loaded| loaded.warnings).unwrap_or_else(|problems| problems).render(false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text =
        format!("service: {{ name: a, app: \"127.0.0.1:8080\", version: {}, nam: x }}", "v".repeat(1 << 20));
    let shown = parse("a.yaml", &text).unwrap_err().to_string();
    assert!(shown.len() < 1000, "{} bytes", shown.len());
    let lines: Vec<&str> = shown.lines().collect();
    let column = |line: &str, what: &str| {
        line.chars().collect::<String>().find(what).map(|at| line[..at].chars().count())
    };
    assert_eq!(column(lines[3], "nam: x"), column(lines[4], "^^^"), "{shown}");
}

#[test]
fn a_thousand_problems_are_a_hundred_and_a_number() {
    let text =
        format!("service: {{ name: a, app: \"127.0.0.1:8080\" }}\n{}", "limits: { x: 1 }\n".repeat(1000));
    let problems = parse("a.yaml", &text).unwrap_err();
    assert_eq!(problems.list().len(), 100);
    assert!(problems.to_string().ends_with("… and 900 more\n"), "{problems}");
}

/// Every key of an object in the schema that may be absent says what absence means, and every key says what it is.
#[test]
fn schema_tells_every_key_and_default() {
    fn visit(value: &Value, path: &str, missing: &mut Vec<String>, keys: &mut usize) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            let required = value.get("required").and_then(Value::as_array);
            for (name, key) in properties {
                *keys += 1;
                let is_required = required.is_some_and(|names| names.iter().any(|it| it == name));
                let is_choice = is_required && properties.len() == 1;
                if !is_required && key.get("default").is_none() {
                    missing.push(format!("{path}.{name}: default"));
                }
                if !is_choice && key.get("description").is_none() {
                    missing.push(format!("{path}.{name}: description"));
                }
            }
        }
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(name, value)| visit(value, &format!("{path}/{name}"), missing, keys))
            }
            Value::Array(items) => items.iter().for_each(|value| visit(value, path, missing, keys)),
            _ => {}
        }
    }
    let (mut missing, mut keys) = (Vec::new(), 0);
    visit(&schema(), "", &mut missing, &mut keys);
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(keys > 300, "only {keys} keys");
}

#[test]
fn the_effective_configuration_is_a_configuration() {
    let mut config = Config::default();
    config.service.app = Some("127.0.0.1:8080".parse().unwrap());
    assert_eq!(parse("a.yaml", &to_yaml(&config)).unwrap().config, config);
}

#[test]
fn a_section_without_a_value_is_an_empty_section() {
    let text = |sinks: &str| {
        format!(
            "service: {{ name: a, app: \"127.0.0.1:8080\" }}\ninbound:\nclusters:\npipeline:\n  sinks:\n{sinks}"
        )
    };
    let sinks = |text: &str| parse("a.yaml", text).unwrap().config.pipeline.sinks;
    assert!(sinks(&text("    stdout:\n")).stdout.is_some());
    assert!(sinks(&text("")).stdout.is_none(), "`sinks:` lists the sinks that are on");
    let problems = parse("a.yaml", "service: { name: a, app: }\n").unwrap_err();
    assert_eq!(problems.list()[0].message, "`app` has no value");
}
