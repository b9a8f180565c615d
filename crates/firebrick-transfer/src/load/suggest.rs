//! What might be declared so that a plan with problems becomes one without. Suggestions are printed, never applied.

use std::collections::BTreeMap;

use super::inventory::Slot;
use super::names::likeness;
use super::plan::{Class, LoadPlan};

/// Names must be at least this alike for one to be suggested for the other.
const ALIKE: f64 = 0.6;
/// Suggestions of one kind that are printed.
const MOST: usize = 8;

/// What the shapes of a parameter and of the file's tensor (in the model's layout) hint at; begins with a colon.
pub(super) fn shape_hint(slot: &Slot, found: &[usize]) -> String {
    let (path, model) = (&slot.path, &slot.shape);
    let layer = path.rsplit_once('.').map_or(path.as_str(), |(layer, _)| layer);
    let differing = model.iter().zip(found).filter(|(a, b)| a != b).count();
    let reversed: Vec<usize> = found.iter().rev().copied().collect();
    if slot.is_matrix() && *model == reversed {
        return ": the transpose would fit, see `with_layout`".to_owned();
    }
    if model.len() == 4 && found.len() == 4 && differing == 1 && model[1] != found[1] {
        return format!(": `with_input_channels(\"{layer}\", ...)` fits other channels");
    }
    if model.iter().product::<usize>() == found.iter().product::<usize>() {
        return format!(": the elements would fit, see `with_reshape(\"{path}\")`");
    }
    if model.len() == found.len()
        && model.len() == 3
        && model[0] == 1
        && found[0] == 1
        && model[2] == found[2]
    {
        return format!(": `with_positions(\"{path}\", ...)` resamples positions");
    }
    let classes = if slot.is_matrix() { 1 } else { 0 };
    if model.len() == found.len() && differing == 1 && model.get(classes) != found.get(classes) {
        return format!(": `with_head(Head::fresh(\"{layer}\"))` drops a head of other classes");
    }
    String::new()
}

/// Rules and names that would match what is missing with what is unused.
pub(super) fn suggestions(
    plan: &LoadPlan,
    slots: &[Slot],
    names: &BTreeMap<String, String>,
) -> Vec<String> {
    let missing: Vec<&Slot> = plan
        .entries
        .iter()
        .zip(slots)
        .filter(|(entry, _)| entry.class == Class::Missing)
        .map(|(_, slot)| slot)
        .collect();
    let unused: Vec<(&str, &[usize])> = names
        .iter()
        .filter_map(|(name, original)| {
            let unused =
                plan.unused.iter().find(|unused| unused.name == *original && !unused.declared)?;
            Some((name.as_str(), unused.shape.as_slice()))
        })
        .collect();
    let (mut found, matched) = rules(&missing, &unused);
    found.extend(singles(&missing, &unused, &matched));
    found
}

/// Whether a tensor of the file could be the parameter, as it stands or transposed.
fn fits(slot: &Slot, shape: &[usize]) -> bool {
    shape == slot.shape || slot.is_matrix() && shape.iter().rev().eq(slot.shape.iter())
}

/// Prefix rules that would match at least two tensors, the best first, and what they match.
fn rules<'a>(missing: &[&'a Slot], unused: &[(&str, &[usize])]) -> (Vec<String>, Vec<&'a str>) {
    let mut tally: BTreeMap<(String, String), Vec<&'a str>> = BTreeMap::new();
    for slot in missing {
        let torch = format!(
            "{}{}",
            slot.plain.strip_suffix(slot.leaf()).unwrap_or_default(),
            slot.torch_leaf()
        );
        for (name, _) in unused.iter().filter(|(_, shape)| fits(slot, shape)) {
            let rule = [&torch, &slot.plain].into_iter().find_map(|wanted| prefixes(name, wanted));
            if let Some(rule) = rule {
                tally.entry(rule).or_default().push(slot.path.as_str());
            }
        }
    }
    let mut ranked: Vec<((String, String), Vec<&str>)> =
        tally.into_iter().filter(|(_, paths)| paths.len() > 1).collect();
    ranked.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then_with(|| a.0.cmp(&b.0)));
    let (mut lines, mut matched): (Vec<String>, Vec<&str>) = (Vec::new(), Vec::new());
    for ((from, to), paths) in ranked {
        let new = paths.iter().filter(|path| !matched.contains(path)).count();
        if new > 1 && lines.len() < MOST {
            lines.push(format!("with_rename(\"{from}\", \"{to}\") would match {new} tensors"));
            matched.extend(paths);
        }
    }
    (lines, matched)
}

/// What stands before the common last segments of two names; none where the last segments differ.
fn prefixes(name: &str, wanted: &str) -> Option<(String, String)> {
    let (parts, wanted): (Vec<&str>, Vec<&str>) =
        (name.split('.').collect(), wanted.split('.').collect());
    let common = wanted.iter().rev().zip(parts.iter().rev()).take_while(|(a, b)| a == b).count();
    let before = |names: &[&str]| names[..names.len() - common].join(".");
    (common > 0).then(|| (before(&parts), before(&wanted)))
}

/// For each missing parameter that no rule would match the most alike tensor that fits.
fn singles(missing: &[&Slot], unused: &[(&str, &[usize])], matched: &[&str]) -> Vec<String> {
    let open = missing.iter().filter(|slot| !matched.contains(&slot.path.as_str()));
    let line = |slot: &&&Slot| {
        let fitting = unused.iter().filter(|(_, shape)| fits(slot, shape));
        let best = fitting
            .map(|(name, _)| (likeness(&slot.plain, name), *name))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (_, name) = best.filter(|(alike, _)| *alike >= ALIKE)?;
        Some(format!("with_name(\"{}\", \"{name}\")", slot.path))
    };
    open.take(200).filter_map(|slot| line(&slot)).take(MOST).collect()
}
