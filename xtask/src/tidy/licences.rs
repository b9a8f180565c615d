//! The rules on licences: of the packages, their texts, and of every data file in the checkout.

use std::path::Path;

use super::Finding;
use super::manifest::Package;

const LICENCE: &str = "MIT OR Apache-2.0";
/// The texts at the root, with a phrase that each must hold.
const TEXTS: &[(&str, &str)] = &[
    ("LICENSE-MIT", "Permission is hereby granted, free of charge"),
    ("LICENSE-APACHE", "Version 2.0, January 2004"),
];
/// Endings of files that hold data which somebody measured, drew or trained.
const DATA: &[&str] = &[
    "csv",
    "tsv",
    "gz",
    "zip",
    "npy",
    "npz",
    "parquet",
    "arff",
    "png",
    "jpg",
    "jpeg",
    "wav",
    "safetensors",
    "pt",
    "pth",
    "mpk",
    "onnx",
];

/// Checks the packages and the files of the checkout at `root`.
pub(crate) fn check(packages: &[Package], files: &[String], root: &Path) -> Vec<Finding> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let mut findings = manifests(packages);
    findings.extend(texts(read));
    findings.extend(data(files, read));
    findings
}

fn manifests(packages: &[Package]) -> Vec<Finding> {
    packages
        .iter()
        .filter(|package| package.license.as_deref() != Some(LICENCE))
        .map(|package| {
            let message = format!("the licence is `{LICENCE}`, not {:?}", package.license);
            Finding::new(&package.manifest, 0, message)
        })
        .collect()
}

fn texts(read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    TEXTS
        .iter()
        .filter(|(path, phrase)| !read(path).is_some_and(|text| text.contains(phrase)))
        .map(|(path, _)| Finding::new(path, 0, "the licence's text is missing"))
        .collect()
}

/// A data file is named in the README.md of its folder, which states an origin and a licence.
fn data(files: &[String], read: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in files {
        let name = path.rsplit('/').next().unwrap_or(path);
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        if !DATA.contains(&ending.to_ascii_lowercase().as_str()) {
            continue;
        }
        let note = format!("{}README.md", &path[..path.len() - name.len()]);
        let text = read(&note).unwrap_or_default();
        let lower = text.to_lowercase();
        let missing: Vec<&str> = [
            ("the file's name", text.contains(name)),
            ("its origin", lower.contains("origin")),
            ("its licence", lower.contains("licence") || lower.contains("license")),
        ]
        .into_iter()
        .filter_map(|(what, there)| (!there).then_some(what))
        .collect();
        if !missing.is_empty() {
            let message = format!("{note} beside it lacks {}", missing.join(", "));
            findings.push(Finding::new(path, 0, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_without_the_licence_is_found() {
        let package = |license: Option<&str>| Package {
            manifest: "a/Cargo.toml".into(),
            license: license.map(str::to_owned),
            ..Package::default()
        };
        assert_eq!(manifests(&[package(Some(LICENCE))]), []);
        assert_eq!(manifests(&[package(None), package(Some("MIT"))]).len(), 2);
    }

    #[test]
    fn both_texts_must_be_there() {
        let all = |path: &str| {
            TEXTS.iter().find(|(name, _)| *name == path).map(|(_, text)| format!("A\n{text}\nB"))
        };
        assert_eq!(texts(all), []);
        assert_eq!(texts(|_| None).len(), 2);
        assert_eq!(texts(|_| Some("MIT".into())).len(), 2);
    }

    #[test]
    fn a_data_file_has_origin_and_licence_beside_it() {
        let files = ["examples/data/digits.csv.gz".to_owned(), "src/lib.rs".to_owned()];
        let beside = |text: &'static str| {
            move |path: &str| (path == "examples/data/README.md").then(|| text.to_owned())
        };
        let good = "`digits.csv.gz`. Origin: a paper. Licence: CC BY 4.0";
        assert_eq!(data(&files, beside(good)), []);
        let found = data(&files, beside("digits.csv.gz, found somewhere"));
        assert_eq!(found.len(), 1);
        assert!(found[0].message.ends_with("lacks its origin, its licence"), "{}", found[0]);
        let nothing = data(&files, |_: &str| None);
        assert!(nothing[0].message.ends_with("lacks the file's name, its origin, its licence"));
    }
}
