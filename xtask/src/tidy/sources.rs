//! The rules on a Rust file: module doc first, length, fences, placeholders, unsafe code.

use super::Finding;
use super::documents::ignored_fence;

/// Lines that a file may have without its tests.
const LONGEST: usize = 400;

/// What may not stand in code, and why. Split so that this file does not find itself.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("to", "do!"), "a placeholder is not done"),
    (concat!("un", "implemented!"), "a placeholder is not done"),
    (concat!("db", "g!"), "a debug print is left"),
    (concat!("#[ig", "nore"), "a test that is not run proves nothing"),
    (concat!("uns", "afe {"), "unsafe code is forbidden"),
    (concat!("uns", "afe fn"), "unsafe code is forbidden"),
    (concat!("uns", "afe impl"), "unsafe code is forbidden"),
    (concat!("uns", "afe trait"), "unsafe code is forbidden"),
    (concat!("uns", "afe extern"), "unsafe code is forbidden"),
];

/// The files that `text`, the file at `path`, declares as modules for tests alone.
pub(crate) fn test_modules(path: &str, text: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = match name.trim_end_matches(".rs") {
        "lib" | "main" | "mod" => folder.to_owned(),
        stem => format!("{folder}/{stem}"),
    };
    let mut modules = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if is_test(line)
            && let Some(line) = lines.by_ref().find(|line| !line.starts_with("#["))
            && let Some(name) = line.trim().strip_prefix("mod ").and_then(|l| l.strip_suffix(';'))
        {
            modules.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]);
        }
    }
    modules
}

fn is_test(line: &str) -> bool {
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// Checks one file; `only_tests` where it holds nothing else.
pub(crate) fn check(path: &str, text: &str, only_tests: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = text.lines().find(|line| !line.trim().is_empty());
    let opens = |line: &str| line.starts_with("//!") || line.starts_with("#![doc");
    if !first.is_some_and(opens) {
        findings.push(Finding::new(path, 1, "the file opens with a module doc, `//!`"));
    }
    let length = without_tests(text);
    if !only_tests && length > LONGEST {
        let message = format!("{length} lines without the tests; at most {LONGEST}");
        findings.push(Finding::new(path, 0, message));
    }
    for (number, line) in (1..).zip(text.lines()) {
        let doc = line.trim_start();
        if let Some(doc) = doc.strip_prefix("///").or_else(|| doc.strip_prefix("//!")) {
            if ignored_fence(doc) {
                findings.push(Finding::new(path, number, "an `ignore` fence: make it compile"));
            }
            continue;
        }
        let code = code_of(line);
        for (forbidden, why) in FORBIDDEN {
            if has_word(&code, forbidden) {
                findings.push(Finding::new(path, number, format!("`{forbidden}`: {why}")));
            }
        }
    }
    findings
}

/// Lines of the file, its test modules left out: as rustfmt writes them, a module ends with a `}` at the margin.
fn without_tests(text: &str) -> usize {
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if is_test(line) {
            while lines.next_if(|line| line.starts_with("#[")).is_some() {}
            let opened = lines.next().is_some_and(|line| line.trim_end().ends_with('{'));
            if opened {
                lines.by_ref().find(|line| line.starts_with('}'));
            }
        } else {
            count += 1;
        }
    }
    count
}

/// The line without its comment and without what stands in its string literals.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut characters = line.chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' if quoted => {
                characters.next();
            }
            '\'' if !quoted && characters.peek() == Some(&'"') => {
                // The character literal '"' opens no string.
                characters.next();
            }
            '"' => {
                quoted = !quoted;
                code.push('"');
            }
            '/' if !quoted && characters.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => code.push(character),
        }
    }
    code
}

/// Whether `code` has `word` that no identifier character precedes.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(place, _)| {
        let before = code[..place].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str) -> Vec<String> {
        check("crates/a/src/lib.rs", text, false).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_module_doc_comes_first() {
        assert_eq!(messages("\n//! What it is.\n\nfn main() {}\n"), Vec::<String>::new());
        assert_eq!(messages("#![doc = include_str!(\"../README.md\")]\n"), Vec::<String>::new());
        for bad in ["", "use std::fmt;\n//! late\n", "// no doc\n", "/// of an item\nfn a() {}\n"] {
            assert_eq!(
                messages(bad),
                ["crates/a/src/lib.rs:1: the file opens with a module doc, `//!`"]
            );
        }
    }

    #[test]
    fn length_counts_without_tests() {
        let long = |lines| format!("//! A.\n{}", "fn a() {}\n".repeat(lines));
        let tests = "#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {\n    }\n}\n";
        assert_eq!(messages(&(long(399) + &tests.repeat(30))), Vec::<String>::new());
        let found = messages(&(long(400) + tests));
        assert_eq!(found, ["crates/a/src/lib.rs: 401 lines without the tests; at most 400"]);
        assert_eq!(check("tests/src/a.rs", &long(900), true), []);
        assert_eq!(without_tests("a\n#[cfg(test)]\nmod tests;\nb\n"), 2);
    }

    #[test]
    fn modules_for_tests_alone_are_found() {
        let text = "#[cfg(test)]\n#[path]\nmod laws;\nmod code;\n#[cfg(test)]\nmod tests {\n}\n";
        let laws = ["a/src/laws.rs", "a/src/laws/mod.rs"];
        assert_eq!(test_modules("a/src/lib.rs", text), laws);
        let below = ["a/src/b/laws.rs", "a/src/b/laws/mod.rs"];
        assert_eq!(test_modules("a/src/b.rs", text), below);
    }

    #[test]
    fn fences_in_docs_compile() {
        let sample = |fence| format!("//! A.\n\n/// B.\n/// ```{fence}\n/// ```\nfn b() {{}}\n");
        for good in ["", "text", "no_run", "should_panic", "rust"] {
            assert_eq!(messages(&sample(good)), Vec::<String>::new(), "{good}");
        }
        for bad in ["ignore", "rust,ignore", "ignore-wasm32"] {
            assert_eq!(messages(&sample(bad)).len(), 1, "{bad}");
        }
    }

    #[test]
    fn placeholders_prints_ignored_tests_and_unsafe_code_are_found() {
        for (forbidden, _) in FORBIDDEN {
            let found = messages(&format!("//! A.\nfn a() {{ {forbidden}(1) }}\n"));
            assert_eq!(found.len(), 1, "{forbidden}: {found:?}");
            let harmless = format!(
                "//! A {forbidden}\n// {forbidden}\nfn a() {{}} // {forbidden}\nlet b = \"{forbidden} \\\" {forbidden}\";\nlet c = '\"'; // {forbidden}\n"
            );
            assert_eq!(messages(&harmless), Vec::<String>::new(), "{forbidden}");
        }
        let name = concat!("//! A.\nlet a = my_to", "do!();\n");
        assert_eq!(messages(name), Vec::<String>::new());
    }
}
