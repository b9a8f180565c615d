//! The rule on tests/COVERAGE.md: each test that it names exists.

use super::Finding;
use std::collections::BTreeSet;

/// The page that says what is shown where.
pub(crate) const PAGE: &str = "tests/COVERAGE.md";

/// Where the crates' sources stand, and the name that the page gives each.
const ROOTS: [(&str, &str); 3] =
    [("crates/", ""), ("tests/suite/", "across"), ("examples/src/", "examples")];

/// The tests of one source file, as the page names them.
pub(crate) fn tests(path: &str, text: &str) -> Vec<String> {
    let Some(module) = module(path) else { return Vec::new() };
    let mut names = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line == "#[test]"
            && let Some(line) = lines.by_ref().find(|line| !line.starts_with("#["))
            && let Some(name) = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next())
        {
            names.push(format!("{module}::{name}"));
        }
    }
    names
}

/// `crates/firebrick-split/src/audit/tests.rs` is `split::audit::tests`.
fn module(path: &str) -> Option<String> {
    let (root, name) = ROOTS.into_iter().find(|(root, _)| path.starts_with(root))?;
    let inside = path.strip_prefix(root)?.strip_suffix(".rs")?;
    let inside = match inside.strip_prefix("firebrick-") {
        Some(rest) => rest.replacen("/src/", "/", 1),
        None => inside.to_owned(),
    };
    let mut words: Vec<&str> = [name].into_iter().chain(inside.split('/')).collect();
    words.retain(|word| !word.is_empty());
    if words.last().is_some_and(|last| ["mod", "lib", "main"].contains(last)) {
        words.pop();
    }
    Some(words.join("::"))
}

/// Checks the page against the names of all tests.
pub(crate) fn check(text: &str, known: &BTreeSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.starts_with("| ")) {
        let cell = line.trim_end_matches(" |").rsplit("| ").next().unwrap_or_default();
        let spans = cell.split('`').skip(1).step_by(2);
        for test in spans.filter(|test| !known.contains(*test)) {
            findings.push(Finding::new(PAGE, number, format!("there is no test `{test}`")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named_by_file() {
        let text = "#[test]\nfn one() {}\n    #[test]\n    #[cfg(unix)]\n    fn two(a: u8) {}\nfn three() {}\n";
        let named = |path: &str| tests(path, text);
        assert_eq!(named("crates/firebrick-a/src/b/mod.rs"), ["a::b::one", "a::b::two"]);
        assert_eq!(named("tests/suite/c.rs"), ["across::c::one", "across::c::two"]);
        assert_eq!(named("examples/src/d/main.rs"), ["examples::d::one", "examples::d::two"]);
        assert!(named("xtask/src/main.rs").is_empty());
    }

    #[test]
    fn a_test_that_is_not_there_is_found() {
        let known = BTreeSet::from(["a::b::one".to_owned()]);
        let page = "`a::b::no`, in a sentence\n| `x::y` | `a::b::one` |\n| z | `a::b::one`, `a::b::two` |\n";
        let findings = check(page, &known);
        assert_eq!(findings, [Finding::new(PAGE, 3, "there is no test `a::b::two`")]);
    }
}
