//! `cargo xtask tidy`: the rules that no compiler knows, over the files of the checkout.

mod coverage;
mod dependencies;
mod documents;
mod licences;
mod manifest;
mod sources;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::root;

pub(crate) const HELP: &str = "\
usage: cargo xtask tidy

Checks the rules that no compiler knows, and lists each place that breaks one:
  - who may depend on whom, from the manifests, dev-dependencies included; burn declared once, never by the burn-free crates
  - every .rs file opens with a module doc, and has at most 400 lines without its tests
  - no `ignore` fence in a doc comment or a document: what is shown compiles
  - no placeholder macro, no debug print, no unsafe code; every manifest takes the workspace's lints
  - licences: in each manifest, the two licence texts, and for each data file its origin and licence beside it
  - a README beside each manifest under crates/, ARCHITECTURE.md at most 150 lines
  - each test that tests/COVERAGE.md names exists
";

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// From the workspace's root.
    path: String,
    /// Counted from 1; 0 for the file as a whole.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    Arguments::read(words, &[], &[], 0)?;
    let packages = manifest::packages()?;
    let files = files(&root())?;
    let mut findings = dependencies::check(&packages);
    findings.extend(licences::check(&packages, &files, &root()));
    findings.extend(documents::check_folders(&packages, &files));
    let mut tests = Vec::new();
    let mut sources = Vec::new();
    for path in &files {
        let member = path == "Cargo.toml" || packages.iter().any(|p| &p.manifest == path);
        if path.ends_with(".rs") {
            let text = read(path)?;
            tests.extend(sources::test_modules(path, &text));
            sources.push((path, text));
        } else if path.ends_with(".md") {
            findings.extend(documents::check(path, &read(path)?));
        } else if member {
            findings.extend(manifest::check(path, &read(path)?));
        }
    }
    let named = sources.iter().flat_map(|(path, text)| coverage::tests(path, text)).collect();
    findings.extend(coverage::check(&read(coverage::PAGE)?, &named));
    for (path, text) in sources {
        let only_tests = path.starts_with("tests/") || tests.contains(path);
        findings.extend(sources::check(path, &text, only_tests));
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, {} packages, no findings", files.len(), packages.len());
            Ok(())
        }
        count => Err(Failure::failed(format!("tidy: {count} findings"))),
    }
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(root().join(path))
        .map_err(|error| Failure::failed(format!("cannot read {path}: {error}")))
}

/// Every file of the checkout, from its root, with `/`; hidden folders and build outputs left out.
fn files(root: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let unreadable =
            |error| Failure::failed(format!("cannot list {}: {error}", folder.display()));
        for entry in std::fs::read_dir(root.join(&folder)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                let built = name == "target" || name == "__pycache__" || name == "firebrick-out";
                if !(name.starts_with('.') || built) {
                    folders.push(path);
                }
            } else if root.join(&path).is_file() {
                // A link to a file counts as one; a link to a folder is not followed.
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_sees_this_file_and_no_hidden_folder() {
        let files = files(&root()).expect("the checkout is readable");
        for there in ["xtask/src/tidy/mod.rs", "README.md"] {
            assert!(files.iter().any(|path| path == there), "{there}");
        }
        assert!(files.iter().all(|path| !path.starts_with(".git/") && !path.contains("/target/")));
    }

    #[test]
    fn a_finding_says_where() {
        assert_eq!(Finding::new("a.rs", 3, "bad").to_string(), "a.rs:3: bad");
        assert_eq!(Finding::new("a.rs", 0, "bad").to_string(), "a.rs: bad");
    }
}
