//! Which tensor of the file a parameter of the model is, by the names of both and what is declared.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::config::LoadConfig;
use super::error::{LoadError, Problem};
use super::inventory::Slot;
use super::names::{Rename, is_under, nearest};

/// Whether a path of the configuration means this parameter or a layer above it.
pub(super) fn means(slot: &Slot, path: &str) -> bool {
    is_under(&slot.path, path) || is_under(&slot.plain, path)
}

/// Every path and name of the configuration must exist.
pub(super) fn check_paths(
    config: &LoadConfig,
    file: &Checkpoint,
    slots: &[Slot],
) -> Result<(), LoadError> {
    let model = |field: &'static str, path: &str| {
        if !path.is_empty() && slots.iter().any(|slot| means(slot, path)) {
            return Ok(());
        }
        let nearest = nearest(path, slots.iter().map(|slot| slot.path.as_str()), 3);
        Err(LoadError::NoSuchPath { field, path: path.to_owned(), nearest })
    };
    let tensor = |name: &str| {
        if file.shape(name).is_some() {
            return Ok(());
        }
        Err(LoadError::NoSuchTensor {
            name: name.to_owned(),
            nearest: nearest(name, file.names(), 3),
        })
    };
    for (path, name) in &config.names {
        model("with_name", path)?;
        tensor(name)?;
    }
    for (path, name, _) in &config.rows {
        model("with_rows", path)?;
        tensor(name)?;
    }
    for head in &config.heads {
        model("with_head", &head.prefix)?;
    }
    for (path, _) in &config.channels {
        model("with_input_channels", path)?;
    }
    for (path, _) in &config.positions {
        model("with_positions", path)?;
    }
    for path in &config.reshapes {
        model("with_reshape", path)?;
    }
    for path in &config.fresh {
        model("with_fresh", path)?;
    }
    for (path, other) in &config.tied {
        model("with_tied", path)?;
        model("with_tied", other)?;
    }
    Ok(())
}

/// The file's names after the rules, with the original names.
pub(super) fn renamed(
    rules: &[Rename],
    file: &Checkpoint,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut matched = vec![false; rules.len()];
    for original in file.names() {
        let mut name = original.to_owned();
        for (rule, matched) in rules.iter().zip(&mut matched) {
            if let Some(renamed) = rule.apply(&name) {
                (name, *matched) = (renamed, true);
            }
        }
        if let Some(first) = names.insert(name.clone(), original.to_owned()) {
            problems.push(Problem::Collision { first, second: original.to_owned(), name });
        }
    }
    let idle = rules.iter().zip(matched).filter(|(_, matched)| !matched);
    problems.extend(idle.map(|(rule, _)| Problem::IdleRule { rule: rule.to_string() }));
    names
}

/// The file's tensor for a parameter: declared by name, or under one of the parameter's names.
pub(super) fn find(
    config: &LoadConfig,
    file: &Checkpoint,
    names: &BTreeMap<String, String>,
    slot: &Slot,
) -> Option<String> {
    let is = |path: &str| path == slot.path || path == slot.plain;
    if let Some((_, name)) = config.names.iter().find(|(path, _)| is(path)) {
        return Some(name.clone());
    }
    if let Some((_, name, _)) = config.rows.iter().find(|(path, ..)| is(path)) {
        return Some(name.clone());
    }
    let torch = |path: &str| {
        format!("{}{}", path.strip_suffix(slot.leaf()).unwrap_or(path), slot.torch_leaf())
    };
    [slot.path.clone(), slot.plain.clone(), torch(&slot.plain), torch(&slot.path)]
        .iter()
        .find_map(|name| names.get(name).cloned())
        .filter(|name| file.shape(name).is_some())
}
