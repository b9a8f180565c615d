//! The rules on documents: fences that compile, a README a crate, a short ARCHITECTURE.md.

use super::Finding;
use super::manifest::Package;

/// Lines that ARCHITECTURE.md may have: it is read whole, or not at all.
const LONGEST_ARCHITECTURE: usize = 150;

/// Checks one Markdown file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| ignored_fence(line))
        .map(|(number, _)| Finding::new(path, number, "an `ignore` fence: make it compile"))
        .collect();
    let length = text.lines().count();
    if path == "ARCHITECTURE.md" && length > LONGEST_ARCHITECTURE {
        let message = format!("{length} lines; at most {LONGEST_ARCHITECTURE}");
        findings.push(Finding::new(path, 0, message));
    }
    findings
}

/// Checks that the documents are there.
pub(crate) fn check_folders(packages: &[Package], files: &[String]) -> Vec<Finding> {
    let there = |path: &str| files.iter().any(|file| file == path);
    let root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let missing = |path: String| Finding::new(&path, 0, "is missing");
    let of_crates = packages
        .iter()
        .filter_map(|package| package.manifest.strip_suffix("Cargo.toml"))
        .filter(|folder| folder.starts_with("crates/"))
        .map(|folder| format!("{folder}README.md"));
    root.into_iter()
        .map(str::to_owned)
        .chain(of_crates)
        .filter(|path| !there(path))
        .map(missing)
        .collect()
}

/// Whether a line (its comment marks taken off) opens a code fence that rustdoc would not even compile.
pub(crate) fn ignored_fence(line: &str) -> bool {
    let line = line.trim_start();
    let Some(words) = line.strip_prefix("```").or_else(|| line.strip_prefix("~~~")) else {
        return false;
    };
    words.split([',', ' ', '\t']).any(|word| word == "ignore" || word.starts_with("ignore-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_fence_is_found_and_others_are_not() {
        let good = "# A\n```rust\nlet a = 1; // ignore\n```\n```text\nignore\n```\n";
        assert_eq!(check("README.md", good), []);
        let bad = "# A\n\n  ```rust,ignore\n```\n~~~ ignore\n~~~\n";
        let lines: Vec<usize> = check("README.md", bad).iter().map(|found| found.line).collect();
        assert_eq!(lines, [3, 5]);
    }

    #[test]
    fn the_architecture_is_short() {
        let long = "line\n".repeat(151);
        assert_eq!(check("ARCHITECTURE.md", &long).len(), 1);
        assert_eq!(check("README.md", &long), []);
    }

    #[test]
    fn a_readme_a_crate_and_the_four_of_the_root() {
        let manifest = |path: &str| Package { manifest: path.to_owned(), ..Package::default() };
        let packages = [manifest("crates/a/Cargo.toml"), manifest("xtask/Cargo.toml")];
        let all = [
            "README.md",
            "ARCHITECTURE.md",
            "CONTRIBUTING.md",
            "CHANGELOG.md",
            "crates/a/README.md",
        ];
        let files: Vec<String> = all.map(str::to_owned).to_vec();
        assert_eq!(check_folders(&packages, &files), []);
        for path in &files {
            let others: Vec<String> = files.iter().filter(|file| *file != path).cloned().collect();
            assert_eq!(check_folders(&packages, &others), [Finding::new(path, 0, "is missing")]);
        }
    }
}
