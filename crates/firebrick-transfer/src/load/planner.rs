//! Makes the plan: finds, reads, transforms and judges one tensor after the other.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::TensorData;

use super::checkpoint::Checkpoint;
use super::config::LoadConfig;
use super::error::{LoadError, Problem};
use super::head::{self, Head, HeadInit, HeadSource};
use super::inventory::Slot;
use super::layout::{self, Layout};
use super::matching::{check_paths, find, means, renamed};
use super::names::{Rename, is_under};
use super::plan::{Class, Entry, LoadPlan, Suspicion, Unused, digest};
use super::suggest;
use super::suspicion;
use super::transform;

/// Makes the plan. The configuration's ranges have been checked.
pub(super) fn plan(
    config: &LoadConfig,
    renames: &[Rename],
    file: &Checkpoint,
    slots: Vec<Slot>,
) -> Result<LoadPlan, LoadError> {
    check_paths(config, file, &slots)?;
    let mut problems = Vec::new();
    let names = renamed(renames, file, &mut problems);
    let shape = |slot: &Slot| find(config, file, &names, slot).and_then(|name| file.shape(&name));
    let (layout, layout_reason) =
        layout::decide(config.layout, file, &slots, &shape, &|name| names.contains_key(name))?;
    let mut planner = Planner {
        config,
        file,
        layout,
        slots: &slots,
        names: &names,
        problems,
        suspicions: Vec::new(),
    };
    let mut entries: Vec<Entry> = slots.iter().map(|slot| planner.entry(slot)).collect();
    planner.tie(&mut entries);
    let unused = planner.unused(&entries);
    planner.statistics(&entries);
    let Planner { problems, suspicions, .. } = planner;
    let mut plan = LoadPlan {
        path: file.path().to_path_buf(),
        format: file.format(),
        file_digest: file.digest().to_owned(),
        bytes: file.bytes(),
        layout,
        layout_reason,
        entries,
        unused,
        suspicions,
        suggestions: Vec::new(),
        problems,
        min_coverage: config.min_coverage,
    };
    let coverage = plan.coverage();
    if coverage < config.min_coverage {
        plan.problems.push(Problem::Coverage { coverage, floor: config.min_coverage });
    }
    plan.suggestions = suggest::suggestions(&plan, &slots, &names);
    Ok(plan)
}

struct Planner<'a> {
    config: &'a LoadConfig,
    file: &'a Checkpoint,
    layout: Layout,
    slots: &'a [Slot],
    names: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
    suspicions: Vec<Suspicion>,
}

impl Planner<'_> {
    fn entry(&mut self, slot: &Slot) -> Entry {
        let head = self.config.heads.iter().find(|head| means(slot, &head.prefix));
        let source = find(self.config, self.file, self.names, slot);
        let dtype = source.as_ref().and_then(|name| self.file.dtype(name));
        let mut entry = Entry {
            path: slot.path.clone(),
            source: source.clone(),
            class: Class::Missing,
            head: head.is_some(),
            shape: slot.shape.clone(),
            file_shape: source.as_ref().and_then(|name| self.file.shape(name)),
            dtype: format!("{:?}", slot.dtype),
            file_dtype: dtype.map(|dtype| format!("{dtype:?}")),
            steps: Vec::new(),
            norm_before: None,
            norm_after: None,
            digest: None,
            data: None,
        };
        let tied =
            || self.config.tied.iter().any(|(path, _)| path == &slot.path || path == &slot.plain);
        if let Some(Head { source: HeadSource::Fresh(init), .. }) = head {
            self.fresh(slot, init, &mut entry);
        } else if self.config.fresh.iter().any(|prefix| means(slot, prefix)) {
            entry.class = Class::Reinitialized;
        } else if let Some(name) = source {
            self.take(slot, &name, head, &mut entry);
        } else if !self.config.partial && !tied() {
            self.problems
                .push(Problem::Missing { path: slot.path.clone(), shape: slot.shape.clone() });
        }
        entry
    }

    /// A head's parameter that is not loaded.
    fn fresh(&mut self, slot: &Slot, init: &HeadInit, entry: &mut Entry) {
        let parent = |path: &str| path.rsplit_once('.').map_or("", |(parent, _)| parent).to_owned();
        let beside =
            |other: &&Slot| other.shape.len() > 1 && parent(&other.path) == parent(&slot.path);
        match head::fresh(slot, self.slots.iter().find(beside), init) {
            Ok(data) => {
                entry.class = Class::Reinitialized;
                entry.norm_after = data.as_ref().map(suspicion::norm);
                entry.digest = data.as_ref().map(digest);
                entry.data = data;
            }
            Err(reason) => {
                entry.class = Class::Conflict;
                self.problems.push(Problem::Transform { path: slot.path.clone(), reason });
            }
        }
    }

    /// A parameter that is loaded from `name`, or why it is not.
    fn take(&mut self, slot: &Slot, name: &str, head: Option<&Head>, entry: &mut Entry) {
        match self.load(slot, name, head, entry) {
            Ok(data) => {
                let (broken, mut odd) = suspicion::judge(slot, &data);
                let have = entry.file_shape.as_ref().and_then(|shape| shape.get(1).copied());
                let fitted = self.config.channels.iter().any(|(path, _)| means(slot, path));
                if let (true, Some(have)) = (fitted, have) {
                    odd.extend(suspicion::dead_channels(&data, have));
                }
                let suspicion = |reason| Suspicion { path: slot.path.clone(), reason };
                self.suspicions.extend(odd.into_iter().map(suspicion));
                match broken {
                    Some(reason) if self.config.broken => self.suspicions.push(suspicion(reason)),
                    Some(reason) => {
                        self.problems.push(Problem::Broken { path: slot.path.clone(), reason })
                    }
                    None => {}
                }
                let place = |path: &str| path.strip_suffix(slot.leaf()).map(str::to_owned);
                let torch = name.strip_suffix(slot.torch_leaf()).map(str::to_owned);
                let same = name == slot.path || name == slot.plain;
                let same = same
                    || torch.is_some()
                        && (torch == place(&slot.plain) || torch == place(&slot.path));
                entry.class = match (entry.steps.is_empty(), same) {
                    (false, _) => Class::Transformed,
                    (true, true) => Class::Exact,
                    (true, false) => Class::Renamed,
                };
                entry.norm_after = Some(suspicion::norm(&data));
                entry.digest = Some(digest(&data));
                entry.data = Some(data);
            }
            Err(problem) => {
                entry.class = Class::Conflict;
                self.problems.push(problem);
            }
        }
    }

    /// Reads and transforms one tensor.
    fn load(
        &self,
        slot: &Slot,
        name: &str,
        head: Option<&Head>,
        entry: &mut Entry,
    ) -> Result<TensorData, Problem> {
        let path = || slot.path.clone();
        let unfit = |reason| Problem::Transform { path: path(), reason };
        let data = self.file.read(name);
        let mut data =
            data.map_err(|reason| Problem::Unreadable { name: name.to_owned(), reason })?;
        let file = data.dtype();
        if !slot.kind.accepts(file) {
            return Err(Problem::Kind { path: path(), model: slot.dtype, file });
        }
        entry.norm_before = Some(suspicion::norm(&data));
        let steps = &mut entry.steps;
        if let Some((_, _, rows)) = self.config.rows.iter().find(|(path, ..)| means(slot, path)) {
            let rows: Vec<usize> = rows.clone().collect();
            data = transform::gather(&data, 0, &rows).map_err(unfit)?;
            steps.push(format!("{} rows of {name}", rows.len()));
        }
        if let Some(head) = head {
            data = self.classes(slot, data, head, steps).map_err(unfit)?;
        }
        if let Some((_, how)) = self.config.channels.iter().find(|(path, _)| means(slot, path))
            && slot.shape.len() == 4
            && data.shape().to_vec() != slot.shape
        {
            let have = data.shape().to_vec().get(1).copied().unwrap_or_default();
            data = transform::channels(&data, slot.shape[1], how).map_err(unfit)?;
            steps.push(format!("channels {have} -> {} ({how:?})", slot.shape[1]));
        }
        if let Some((_, how)) = self.config.positions.iter().find(|(path, _)| means(slot, path))
            && data.shape().to_vec() != slot.shape
        {
            data = transform::positions(&data, &slot.shape, *how).map_err(unfit)?;
            steps.push("positions resampled".to_owned());
        }
        let turned = slot.is_matrix() && self.layout == Layout::PyTorch;
        if self.config.reshapes.iter().any(|path| means(slot, path)) {
            let mut shape = slot.shape.clone();
            if turned {
                shape.reverse();
            }
            if data.shape().to_vec() != shape {
                steps.push(format!("reshaped from {:?}", data.shape().to_vec()));
                data = transform::reshape(data, &shape).map_err(unfit)?;
            }
        }
        if turned && data.shape().to_vec().len() == 2 {
            data = transform::transpose(&data);
            steps.push("transposed".to_owned());
        }
        let found = data.shape().to_vec();
        if found != slot.shape {
            let hint = suggest::shape_hint(slot, &found);
            return Err(Problem::Shape {
                path: path(),
                model: slot.shape.clone(),
                file: found,
                hint,
            });
        }
        if file != slot.dtype {
            if !self.config.casting {
                return Err(Problem::Precision { path: path(), model: slot.dtype, file });
            }
            data = data.convert_dtype(slot.dtype);
            steps.push(format!("cast from {file:?}"));
        }
        Ok(data)
    }

    /// The rows of a head's parameter that are kept.
    fn classes(
        &self,
        slot: &Slot,
        data: TensorData,
        head: &Head,
        steps: &mut Vec<String>,
    ) -> Result<TensorData, String> {
        let axis = usize::from(slot.is_matrix() && self.layout == Layout::Burn);
        let length = data.shape().to_vec().get(axis).copied().unwrap_or_default();
        match &head.source {
            HeadSource::Fresh(_) => Ok(data),
            HeadSource::Classes(rows) => {
                let kept = transform::gather(&data, axis, rows)?;
                steps.push(format!("{} of {length} classes", rows.len()));
                Ok(kept)
            }
            HeadSource::WithoutFirst(0) => Ok(data),
            HeadSource::WithoutFirst(count) => {
                if *count >= length {
                    return Err(format!(
                        "it has {length} classes, and {count} were to be left out"
                    ));
                }
                let rows: Vec<usize> = (*count..length).collect();
                let kept = transform::gather(&data, axis, &rows)?;
                steps.push(format!("without the first {count} of {length} classes"));
                Ok(kept)
            }
        }
    }

    /// Gives the tied parameters that the file lacks the other's values, and compares those that it has.
    fn tie(&mut self, entries: &mut [Entry]) {
        let slots = self.slots;
        let place =
            |path: &str| slots.iter().position(|slot| slot.path == path || slot.plain == path);
        for (path, other) in &self.config.tied {
            let (Some(first), Some(second)) = (place(path), place(other)) else {
                // A layer rather than a parameter: its parameters would have to be named one by one.
                let reason = "`with_tied` wants two parameters".to_owned();
                self.problems.push(Problem::Transform { path: path.clone(), reason });
                continue;
            };
            let (slot, source) = (&slots[first], entries[second].source.clone());
            match (entries[first].source.clone(), source) {
                (Some(own), Some(others)) => {
                    let same = match (self.file.read(&own), self.file.read(&others)) {
                        (Ok(own), Ok(others)) => digest(&own) == digest(&others),
                        _ => false,
                    };
                    if !same {
                        self.problems
                            .push(Problem::Untied { first: path.clone(), second: other.clone() });
                    }
                }
                (None, Some(others)) => {
                    let mut entry = entries[first].clone();
                    entry.file_shape = self.file.shape(&others);
                    entry.file_dtype = self.file.dtype(&others).map(|dtype| format!("{dtype:?}"));
                    self.take(slot, &others, None, &mut entry);
                    if entry.class.is_loaded() {
                        entry.class = Class::Tied;
                    }
                    entry.source = Some(others);
                    entries[first] = entry;
                }
                (None, None) if !self.config.partial => {
                    self.problems.push(Problem::Missing {
                        path: slot.path.clone(),
                        shape: slot.shape.clone(),
                    });
                }
                _ => {}
            }
        }
    }

    /// What the file has and the model does not take.
    fn unused(&mut self, entries: &[Entry]) -> Vec<Unused> {
        let taken = entries.iter().filter(|entry| entry.class != Class::Reinitialized);
        let taken: BTreeSet<&str> = taken.filter_map(|entry| entry.source.as_deref()).collect();
        let dropped = entries.iter().filter(|entry| entry.class == Class::Reinitialized);
        let dropped: BTreeSet<&str> = dropped.filter_map(|entry| entry.source.as_deref()).collect();
        let fresh = |head: &&Head| matches!(head.source, HeadSource::Fresh(_));
        let heads: Vec<&str> =
            self.config.heads.iter().filter(fresh).map(|head| head.prefix.as_str()).collect();
        let mut unused = Vec::new();
        for (name, original) in self.names {
            if taken.contains(original.as_str()) {
                continue;
            }
            let ignored = |prefix: &String| is_under(name, prefix) || is_under(original, prefix);
            let declared = dropped.contains(original.as_str())
                || heads.iter().any(|head| is_under(name, head))
                || self.config.fresh.iter().any(|prefix| is_under(name, prefix))
                || self.config.ignored.iter().any(ignored)
                || is_counter(name)
                || is_under(name, "optimizer");
            let shape = self.file.shape(original).unwrap_or_default();
            if !declared && !self.config.partial {
                self.problems
                    .push(Problem::Unexpected { name: original.clone(), shape: shape.clone() });
            }
            unused.push(Unused { name: original.clone(), shape, declared });
        }
        unused
    }

    /// Running statistics that were never updated.
    fn statistics(&mut self, entries: &[Entry]) {
        let loaded = |path: &str| {
            let entry =
                entries.iter().find(|entry| entry.path == path && entry.class.is_loaded())?;
            entry.data.as_ref().map(|data| (transform::floats(data), entry.source.clone()))
        };
        for entry in entries {
            let Some(layer) = entry.path.strip_suffix("running_mean") else { continue };
            let Some((means, source)) = loaded(&entry.path) else { continue };
            let mut odd = |reason: &str| {
                self.suspicions
                    .push(Suspicion { path: entry.path.clone(), reason: reason.to_owned() });
            };
            let variances = loaded(&format!("{layer}running_var"));
            let ones =
                variances.is_some_and(|(values, _)| values.iter().all(|value| *value == 1.0));
            if ones && means.iter().all(|value| *value == 0.0) {
                odd(
                    "mean 0 and variance 1 in every channel: the statistics of a layer that never saw data",
                );
            }
            let counter = source.and_then(|name| {
                Some(format!("{}num_batches_tracked", name.strip_suffix("running_mean")?))
            });
            let count = counter.and_then(|name| self.file.read(&name).ok());
            if count
                .is_some_and(|count| transform::floats(&count).iter().all(|value| *value == 0.0))
            {
                odd("its counter of batches is 0");
            }
        }
    }
}

/// PyTorch's counter of the batches that a batch norm has seen; burn has none.
fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}
