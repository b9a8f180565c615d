//! Who may depend on whom. The same table stands, in words, in ARCHITECTURE.md.

use super::Finding;
use super::manifest::{Dependency, Package};

/// What a package may depend on besides crates of others.
struct Rule {
    name: &'static str,
    /// Members of the workspace.
    may: &'static [&'static str],
    /// Members that may be there behind a feature only.
    behind_a_feature: &'static [&'static str],
    burn: Burn,
}

#[derive(PartialEq)]
enum Burn {
    Never,
    BehindAFeature,
    Always,
}

const CORE: &str = "firebrick-core";
const BACKEND: &str = "firebrick-backend";
const OPTIM: &str = "firebrick-optim";
const REGULARIZE: &str = "firebrick-regularize";
const STABILIZE: &str = "firebrick-stabilize";
const TRAIN: &str = "firebrick-train";
const TRANSFER: &str = "firebrick-transfer";
const SPLIT: &str = "firebrick-split";
const SELECT: &str = "firebrick-select";
const DIAGNOSE: &str = "firebrick-diagnose";
const FACADE: &str = "firebrick";

const EVERY_CRATE: &[&str] =
    &[CORE, BACKEND, OPTIM, REGULARIZE, STABILIZE, TRAIN, TRANSFER, SPLIT, SELECT, DIAGNOSE];
/// The packages that are published with nothing and depend on all.
const SUPPORT: &[&str] = &[
    FACADE, CORE, BACKEND, OPTIM, REGULARIZE, STABILIZE, TRAIN, TRANSFER, SPLIT, SELECT, DIAGNOSE,
];

const RULES: &[Rule] = &[
    rule(CORE, &[], Burn::Never),
    rule(DIAGNOSE, &[CORE], Burn::Never),
    rule(SPLIT, &[CORE], Burn::BehindAFeature),
    Rule {
        name: SELECT,
        may: &[CORE, SPLIT],
        behind_a_feature: &[TRAIN],
        burn: Burn::BehindAFeature,
    },
    rule(BACKEND, &[CORE], Burn::Always),
    rule(OPTIM, &[CORE, BACKEND], Burn::Always),
    rule(REGULARIZE, &[CORE, BACKEND], Burn::Always),
    rule(STABILIZE, &[CORE, BACKEND], Burn::Always),
    rule(TRAIN, &[CORE, BACKEND, OPTIM, REGULARIZE, STABILIZE], Burn::Always),
    rule(
        TRANSFER,
        &[CORE, BACKEND, OPTIM, REGULARIZE, STABILIZE, SPLIT, SELECT, TRAIN],
        Burn::Always,
    ),
    rule(FACADE, EVERY_CRATE, Burn::Always),
    rule("firebrick-examples", SUPPORT, Burn::Always),
    rule("firebrick-tests", SUPPORT, Burn::Always),
    rule("firebrick-bench", SUPPORT, Burn::Always),
    rule("xtask", &[], Burn::Never),
];

const fn rule(name: &'static str, may: &'static [&'static str], burn: Burn) -> Rule {
    Rule { name, may, behind_a_feature: &[], burn }
}

/// Crates of burn that are reached through its features only: back-ends, and what wraps them.
const BURNS_BACKENDS: &[&str] = &[
    "burn-autodiff",
    "burn-cpu",
    "burn-cubecl",
    "burn-cuda",
    "burn-flex",
    "burn-fusion",
    "burn-ndarray",
    "burn-remote",
    "burn-rocm",
    "burn-router",
    "burn-tch",
    "burn-wgpu",
];

/// Checks every package against its rule.
pub(crate) fn check(packages: &[Package]) -> Vec<Finding> {
    let members: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    let mut burn_requirement: Option<&str> = None;
    for package in packages {
        let mut find = |message: String| {
            findings.push(Finding::new(&package.manifest, 0, message));
        };
        let Some(rule) = RULES.iter().find(|rule| rule.name == package.name) else {
            find(format!(
                "`{}` has no line in the table of xtask/src/tidy/dependencies.rs: say there what it may depend on",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            if members.contains(&dependency.name.as_str()) {
                member(rule, dependency).into_iter().for_each(&mut find);
            } else if dependency.name == "burn" || dependency.name.starts_with("burn-") {
                burn(rule, dependency).into_iter().for_each(&mut find);
                let expected = *burn_requirement.get_or_insert(&dependency.requirement);
                if dependency.requirement != expected {
                    find(format!(
                        "`{}` is required as `{}` here and as `{expected}` elsewhere: the workspace declares it once",
                        dependency.name, dependency.requirement
                    ));
                }
            }
        }
        let default_burn = package.default_features.iter().any(|name| name.ends_with("burn"));
        if rule.burn == Burn::BehindAFeature && default_burn {
            find(format!("`{}` builds without burn by default", rule.name));
        }
    }
    findings
}

fn member(rule: &Rule, dependency: &Dependency) -> Option<String> {
    let (from, to) = (rule.name, dependency.name.as_str());
    if rule.may.contains(&to) {
        return None;
    }
    let kind = if dependency.development { "dev-dependency" } else { "dependency" };
    if rule.behind_a_feature.contains(&to) {
        let hidden = dependency.optional && !dependency.development;
        return (!hidden)
            .then(|| format!("`{from}` may depend on `{to}` behind a feature only ({kind})"));
    }
    let may = match rule.may {
        [] => "on no crate of the workspace".to_owned(),
        names => format!("on {}", names.join(", ")),
    };
    Some(format!("`{from}` may not depend on `{to}` ({kind}): it may depend {may}"))
}

fn burn(rule: &Rule, dependency: &Dependency) -> Option<String> {
    let (from, to) = (rule.name, dependency.name.as_str());
    if rule.burn == Burn::Never {
        return Some(format!("`{from}` is free of burn: `{to}` may not be there"));
    }
    if BURNS_BACKENDS.contains(&to) {
        return Some(format!("`{to}` is reached through a feature of burn"));
    }
    if dependency.development {
        let why = "its features would hold for `cargo test` alone, and burn be compiled twice";
        return Some(format!("`{to}` may not be a dev-dependency: {why}"));
    }
    if rule.burn == Burn::BehindAFeature && !dependency.optional {
        return Some(format!("`{from}` may depend on `{to}` behind a feature only"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(name: &str) -> Dependency {
        let requirement = if name.starts_with("burn") { "=0.22.1" } else { "^0.1.0" };
        Dependency { name: name.into(), requirement: requirement.into(), ..Dependency::default() }
    }

    fn package(name: &str, dependencies: Vec<Dependency>) -> Package {
        let manifest = format!("crates/{name}/Cargo.toml");
        Package { name: name.into(), manifest, dependencies, ..Package::default() }
    }

    /// The packages with one more per name that is depended on, so that each counts as a member.
    fn findings(package: Package) -> Vec<String> {
        let mut packages: Vec<Package> =
            RULES.iter().map(|rule| self::package(rule.name, Vec::new())).collect();
        packages.retain(|other| other.name != package.name);
        packages.push(package);
        check(&packages).into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn the_allowed_directions_pass() {
        let optional = |name| Dependency { optional: true, ..on(name) };
        for good in [
            package(OPTIM, vec![on("burn"), on("burn-pack"), on(CORE), on(BACKEND), on("rayon")]),
            package(TRAIN, vec![on("burn"), on(OPTIM), on(REGULARIZE), on(STABILIZE), on(BACKEND)]),
            package(SELECT, vec![optional("burn"), on(CORE), on(SPLIT), optional(TRAIN)]),
            package(FACADE, vec![on("burn"), on(SELECT), on(DIAGNOSE), on(TRANSFER)]),
            package("firebrick-tests", vec![on(FACADE), on(OPTIM)]),
            package("xtask", vec![on("serde_json")]),
        ] {
            assert_eq!(findings(good.clone()), Vec::<String>::new(), "{}", good.name);
        }
    }

    #[test]
    fn every_forbidden_direction_is_found() {
        let dev = |name| Dependency { development: true, ..on(name) };
        for (from, to, part) in [
            (OPTIM, on(STABILIZE), "may not depend on `firebrick-stabilize` (dependency)"),
            (OPTIM, dev(REGULARIZE), "(dev-dependency)"),
            (SPLIT, on(SELECT), "it may depend on firebrick-core"),
            (CORE, on(BACKEND), "on no crate of the workspace"),
            (DIAGNOSE, on(TRAIN), "may not depend"),
            (TRANSFER, on(DIAGNOSE), "may not depend"),
            (SELECT, on(TRAIN), "behind a feature only"),
            (SELECT, dev(TRAIN), "behind a feature only"),
            (TRAIN, on(FACADE), "may not depend"),
            (FACADE, on("xtask"), "may not depend"),
            (FACADE, on("firebrick-tests"), "may not depend"),
            ("xtask", on(CORE), "on no crate"),
            (CORE, on("burn"), "free of burn"),
            ("xtask", on("burn"), "free of burn"),
            (SPLIT, on("burn"), "behind a feature only"),
            (OPTIM, dev("burn"), "compiled twice"),
            (BACKEND, on("burn-wgpu"), "through a feature of burn"),
        ] {
            let found = findings(package(from, vec![to.clone()]));
            assert_eq!(found.len(), 1, "{from} on {to:?}: {found:?}");
            assert!(found[0].contains(part), "{found:?} lacks {part}");
        }
    }

    #[test]
    fn a_second_requirement_a_default_burn_and_an_unknown_package_are_found() {
        let older = Dependency { requirement: "^0.21".into(), ..on("burn") };
        let both = [package(OPTIM, vec![on("burn")]), package(TRAIN, vec![older])];
        assert!(check(&both)[0].message.contains("declares it once"));
        let split = Package { default_features: vec!["dep:burn".into()], ..package(SPLIT, vec![]) };
        assert!(findings(split)[0].contains("without burn by default"));
        assert!(findings(package("firebrick-new", vec![]))[0].contains("has no line"));
    }
}
