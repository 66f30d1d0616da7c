//! Broken files, and exactly what is shown for each: `golden.txt`.
//!
//! A case has a title, a file, and what is shown for it. After `--- file NAME` comes a file beside it; only then are the
//! files looked at that a configuration names. To write down anew what is shown, and then read the difference:
//! `SIDELIGHT_GOLDEN=write cargo test --lib config::tests::golden`.

use crate::config::{load, parse};

const SHOWS: &str = "--- shows\n";
const FILE: &str = "--- file ";

#[test]
fn each_broken_file_is_explained() {
    let cases: Vec<&str> = include_str!("golden.txt").split("=== ").skip(1).collect();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let (mut anew, mut different) = (String::new(), Vec::new());
    for case in cases {
        let (title, case) = case.split_once('\n').unwrap();
        let (input, wanted) = case.split_once(SHOWS).unwrap();
        // Where files are looked at, sinks are made, and one that is not built in is refused for that.
        let is_built = cfg!(all(feature = "kafka", feature = "nats"));
        let has_optional = input.contains("kafka:") || input.contains("nats:");
        if has_optional && !is_built {
            anew.push_str(&format!("=== {title}\n{input}{SHOWS}{wanted}"));
            continue;
        }
        let shown = shown(input);
        if shown.trim_end() != wanted.trim_end() {
            different.push(format!("=== {title}\n{input}--- shows now\n{}", shown.trim_end()));
        }
        let end = if shown.is_empty() { "" } else { "\n" };
        anew.push_str(&format!("=== {title}\n{input}{SHOWS}{}{end}", shown.trim_end()));
    }
    if std::env::var_os("SIDELIGHT_GOLDEN").is_some_and(|what| what == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/golden.txt");
        std::fs::write(path, anew).unwrap();
        return;
    }
    assert!(different.is_empty(), "{} cases differ:\n{}", different.len(), different.join("\n"));
}

/// What is shown for a case, with its directory cut out.
fn shown(input: &str) -> String {
    let mut parts = input.split(FILE);
    let text = parts.next().unwrap();
    let files: Vec<_> = parts.map(|part| part.split_once('\n').unwrap()).collect();
    let loaded = if files.is_empty() {
        parse("test.yaml", text)
    } else {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files.iter().chain(&[("test.yaml", text)]) {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        let loaded = load(directory.path().join("test.yaml"));
        let problems = loaded.map(|loaded| loaded.warnings).unwrap_or_else(|problems| problems);
        let directory = format!("{}/", directory.path().display());
        return problems.render(false).replace(&directory, "");
    };
    loaded.map(|loaded| loaded.warnings).unwrap_or_else(|problems| problems).render(false)
}
