//! The packages of the workspace as their manifests describe them, and the rules on the text of a manifest.

use serde_json::Value;

use super::Finding;
use crate::cargo;
use crate::failure::Failure;

/// What tidy needs to know of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// The manifest's path from the workspace's root.
    pub(crate) manifest: String,
    pub(crate) license: Option<String>,
    /// What the `default` feature turns on.
    pub(crate) default_features: Vec<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) development: bool,
    pub(crate) optional: bool,
    pub(crate) requirement: String,
}

/// The workspace's members, as `cargo metadata` reads their manifests.
pub(crate) fn packages() -> Result<Vec<Package>, Failure> {
    let words = ["metadata", "--no-deps", "--format-version", "1", "--offline"];
    let text = cargo::output(&mut cargo::cargo_with(words))?;
    let metadata: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::failed(format!("cargo metadata: {error}")))?;
    let root = metadata["workspace_root"].as_str().unwrap_or_default();
    Ok(array(&metadata["packages"]).iter().map(|value| package(value, root)).collect())
}

fn package(value: &Value, root: &str) -> Package {
    let manifest = value["manifest_path"].as_str().unwrap_or_default();
    Package {
        name: text(&value["name"]),
        manifest: manifest.strip_prefix(root).unwrap_or(manifest)[..]
            .trim_start_matches(['/', '\\'])
            .replace('\\', "/"),
        license: value["license"].as_str().map(str::to_owned),
        default_features: array(&value["features"]["default"]).iter().map(text).collect(),
        dependencies: array(&value["dependencies"]).iter().map(dependency).collect(),
    }
}

fn dependency(value: &Value) -> Dependency {
    Dependency {
        name: text(&value["name"]),
        development: value["kind"] == "dev",
        optional: value["optional"] == true,
        requirement: text(&value["req"]),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The rules on a manifest's text: the workspace's lints apply, and unsafe code is forbidden there.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let section = |header: &str, line: &str| {
        let mut lines = text.lines().map(str::trim).skip_while(|line| *line != header).skip(1);
        lines.by_ref().take_while(|found| !found.starts_with('[')).any(|found| found == line)
    };
    let mut findings = Vec::new();
    if path == "Cargo.toml" {
        if !section("[workspace.lints.rust]", "unsafe_code = \"forbid\"") {
            let message = "`[workspace.lints.rust]` must hold `unsafe_code = \"forbid\"`";
            findings.push(Finding::new(path, 0, message));
        }
    } else if !section("[lints]", "workspace = true") {
        let message = "`[lints]` must hold `workspace = true`";
        findings.push(Finding::new(path, 0, message));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_says() {
        let value = serde_json::json!({
            "name": "firebrick-select", "license": "MIT OR Apache-2.0",
            "manifest_path": "/w/crates/firebrick-select/Cargo.toml",
            "features": {"default": ["burn"]},
            "dependencies": [
                {"name": "burn", "kind": null, "optional": true, "req": "=0.22.1"},
                {"name": "tempfile", "kind": "dev", "optional": false, "req": "^3"}
            ]
        });
        let read = package(&value, "/w");
        assert_eq!(read.manifest, "crates/firebrick-select/Cargo.toml");
        assert_eq!(read.license.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(read.default_features, ["burn"]);
        let burn = &read.dependencies[0];
        assert!(burn.optional && !burn.development && burn.requirement == "=0.22.1");
        assert!(read.dependencies[1].development);
    }

    #[test]
    fn this_workspace_is_read() {
        let packages = packages().expect("cargo is there");
        assert!(packages.iter().any(|package| package.manifest == "xtask/Cargo.toml"));
    }

    #[test]
    fn lints_must_apply() {
        let good = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(check("crates/a/Cargo.toml", good), []);
        let elsewhere = "[lints]\n[dependencies]\nworkspace = true\n";
        assert_eq!(check("crates/a/Cargo.toml", elsewhere).len(), 1);
        let root = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";
        assert_eq!(check("Cargo.toml", root), []);
        assert_eq!(check("Cargo.toml", &root.replace("forbid", "warn")).len(), 1);
    }
}
