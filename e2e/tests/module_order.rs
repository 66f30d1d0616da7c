//! The modules of sidelight stand in one order, and imports go up it only: no cycles, and data-path modules that meet
//! in words and in `stack`, never in each other.

use std::fs;
use std::path::{Path, PathBuf};

/// The lines of the order, from the top. Within a line, a module may import those before it, unless it is `PATH`.
const ORDER: &[(&str, &[&str])] = &[
    (
        "WORDS",
        &[
            "units", "limits", "error", "svc", "http1", "drain", "identity", "context", "cluster", "quota",
            "exchange",
        ],
    ),
    (PATH, &["listener", "protocol", "route", "policy", "resilience", "balance", "connect"]),
    ("FEEDS", &["discovery", "health"]),
    ("DERIVED", &["record", "pipeline", "replay"]),
    ("COMPOSE", &["config", "stack", "control", "admin", "inject", "app", "demo", "cli", "main"]),
];

/// The line whose modules never import each other.
const PATH: &str = "DATA PATH";

/// Names that stand for "I did not find the noun".
const NO_NOUNS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "shared"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src")
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Line of the order, and place within it.
fn place(module: &str) -> Option<(usize, usize)> {
    ORDER.iter().enumerate().find_map(|(line, (_, modules))| {
        modules.iter().position(|name| *name == module).map(|place| (line, place))
    })
}

/// Why `from` may not import `to`; `None` when it may.
fn objection(from: &str, to: &str) -> Option<String> {
    if from == to {
        return None;
    }
    let (Some(own), Some(other)) = (place(from), place(to)) else {
        return Some(format!("`{to}` has no place in the order of modules"));
    };
    let line = ORDER[own.0].0;
    if own.0 == other.0 && line == PATH {
        return Some(format!(
            "`{from}` and `{to}` are both on the data path: they meet in words and in `stack` only"
        ));
    }
    (other > own)
        .then(|| format!("`{to}` ({}) is below `{from}` ({line}): imports go up only", ORDER[other.0].0))
}

/// `config` composes what each component owns, so it alone may name the `config` of a module below it, and nothing else
/// of that module.
fn is_composition(from: &str, to: &str, text: &str) -> bool {
    let path = format!("{to}::");
    let code = code_of(text);
    from == "config"
        && code.match_indices(&path).all(|(at, _)| code[at + path.len()..].starts_with("config::"))
}

/// The text without comments and without the contents of strings; line breaks stay where they are.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(char) = rest.next() {
        match (char, rest.peek()) {
            ('/', Some('/')) => while rest.next_if(|&next| next != '\n').is_some() {},
            ('"', _) => {
                code.push('"');
                while let Some(inside) = rest.next() {
                    match inside {
                        '\\' => drop(rest.next()),
                        '\n' => code.push('\n'),
                        '"' => break,
                        _ => {}
                    }
                }
                code.push('"');
            }
            ('\'', Some('"')) => {
                rest.next(); // the character '"', which opens no string
            }
            _ => code.push(char),
        }
    }
    code
}

/// The names that follow `crate::`, alone or as the first parts of a braced group.
fn heads(after: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = after.strip_prefix('{') else { return vec![word(after)] };
    let mut depth = 0usize;
    let mut names = vec![String::new()];
    for char in group.chars() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(String::new()),
            _ if depth == 0 => names.last_mut().expect("there is one").push(char),
            _ => {}
        }
    }
    names.iter().map(|name| word(name.trim_start())).filter(|name| !name.is_empty()).collect()
}

/// Every module that `text` names by `crate::`, with its line number.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code = code_of(text);
    let mut found = Vec::new();
    for (at, marker) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        found.extend(heads(&code[at + marker.len()..]).into_iter().map(|name| (line, name)));
    }
    found
}

#[test]
fn imports_go_up_the_order_only() {
    let root = source();
    let mut paths = Vec::new();
    files(&root, &mut paths);
    assert!(!paths.is_empty(), "no sources in {}", root.display());
    let mut objections = Vec::new();
    for path in paths {
        let inside = path.strip_prefix(&root).expect("below the root");
        let module = inside.iter().next().and_then(|first| Path::new(first).file_stem()).expect("a name");
        let module = module.to_string_lossy();
        if module == "lib" {
            continue;
        }
        let shown = format!("src/{}", inside.display());
        if place(&module).is_none() {
            objections.push(format!("{shown}:1: `{module}` has no place in the order of modules"));
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        for (line, import) in imports(&text) {
            if is_composition(&module, &import, &text) {
                continue;
            }
            if let Some(why) = objection(&module, &import) {
                objections.push(format!("{shown}:{line}: {why}"));
            }
        }
    }
    assert!(
        objections.is_empty(),
        "{} imports against the order:\n  {}",
        objections.len(),
        objections.join("\n  ")
    );
}

#[test]
fn modules_are_named_by_nouns() {
    let root = source();
    let mut paths = Vec::new();
    files(&root, &mut paths);
    let parts = |path: &PathBuf| -> Vec<String> {
        let inside = path.strip_prefix(source()).expect("below the root").with_extension("");
        inside.iter().map(|part| part.to_string_lossy().into_owned()).collect()
    };
    let named: Vec<_> = paths
        .iter()
        .filter(|path| parts(path).iter().any(|part| NO_NOUNS.contains(&part.as_str())))
        .collect();
    assert!(named.is_empty(), "shared code lives under a noun: {named:?}");
}

#[test]
fn every_form_of_import_is_seen() {
    let text = "//! [`crate::cli`] in a comment\nuse crate::error::Kind;\nuse crate::{\n    svc::{Body, Head},\n    exchange,\n};\n\
                fn f() -> crate::connect::Pool { let s = \"crate::app\"; pub(crate) fn g() {} }\nuse other_crate::x;\n";
    let found = imports(text);
    let expected = [(2, "error"), (3, "svc"), (3, "exchange"), (7, "connect")];
    assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
}

#[test]
fn the_order_objects_to_what_it_should() {
    assert_eq!(objection("exchange", "svc"), None);
    assert_eq!(objection("stack", "connect"), None);
    assert_eq!(objection("connect", "connect"), None);
    assert!(objection("svc", "exchange").is_some(), "words stand in an order");
    assert!(objection("route", "balance").is_some_and(|why| why.contains("data path")));
    assert!(objection("balance", "route").is_some_and(|why| why.contains("data path")));
    assert!(objection("connect", "config").is_some());
    assert!(objection("connect", "unheard_of").is_some());
}
