//! Broken files, and exactly what is shown for each: `golden.txt`.

use crate::config::parse;

#[test]
fn each_broken_file_is_explained() {
    let cases: Vec<&str> = include_str!("golden.txt").split("=== ").skip(1).collect();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for case in cases {
        let (title, case) = case.split_once('\n').unwrap();
        let (input, wanted) = case.split_once("--- shows\n").unwrap();
        let problems =
            parse("test.yaml", input).map(|loaded| loaded.warnings).unwrap_or_else(|problems| problems);
        let shown = problems.render(false);
        assert_eq!(shown.trim_end(), wanted.trim_end(), "\n=== {title}\n{input}");
    }
}
