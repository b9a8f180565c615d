//! The plan as a page of text.

use std::fmt;

use super::names::collapse;
use super::plan::{Class, Entry, LoadPlan};

/// Names of one class that are printed.
const SHOWN: usize = 8;

impl fmt::Display for LoadPlan {
    /// File, layout, counts and shares by class, coverage, what is transformed, and whatever is not in order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "file      {} ({}, {} bytes)", self.path.display(), self.format, self.bytes)?;
        writeln!(f, "sha256    {}", self.file_digest)?;
        writeln!(f, "layout    {}, since {}", self.layout.name(), self.layout_reason)?;
        let all: usize = self.entries.iter().map(Entry::elements).sum();
        writeln!(f, "{:<14} {:>8} {:>12} {:>8}", "", "tensors", "elements", "share")?;
        for class in Class::ALL {
            let members: Vec<&Entry> =
                self.entries.iter().filter(|entry| entry.class == class).collect();
            if members.is_empty() {
                continue;
            }
            let elements: usize = members.iter().map(|entry| entry.elements()).sum();
            let share = 100.0 * elements as f64 / all.max(1) as f64;
            writeln!(f, "{:<14} {:>8} {elements:>12} {share:>6.1} %", class.name(), members.len())?;
        }
        let (coverage, floor) = (100.0 * self.coverage(), 100.0 * self.min_coverage);
        writeln!(
            f,
            "coverage  {coverage:.1} % of the elements outside the head, floor {floor:.1} %"
        )?;
        self.transformed(f)?;
        for class in
            [Class::Renamed, Class::Reinitialized, Class::Tied, Class::Missing, Class::Conflict]
        {
            let members = self.entries.iter().filter(|entry| entry.class == class);
            section(f, class.name(), collapse(members.map(|entry| entry.path.as_str())))?;
        }
        let left = |declared| self.unused.iter().filter(move |unused| unused.declared == declared);
        section(f, "left aside", collapse(left(true).map(|unused| unused.name.as_str())))?;
        section(f, "unexpected", collapse(left(false).map(|unused| unused.name.as_str())))?;
        let odd = |suspicion: &super::plan::Suspicion| {
            format!("{}: {}", suspicion.path, suspicion.reason)
        };
        section(f, "suspicious", self.suspicions.iter().map(odd).collect())?;
        section(f, "suggestions, not applied", self.suggestions.clone())?;
        let problems: Vec<String> = self.problems.iter().map(ToString::to_string).collect();
        section(f, "problems, so it will be refused", problems)
    }
}

impl LoadPlan {
    fn transformed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.entries.iter().filter(|entry| entry.class == Class::Transformed);
        let (plain, special): (Vec<&Entry>, Vec<&Entry>) =
            members.partition(|entry| is_plain(entry));
        section(
            f,
            "transposed or cast only",
            collapse(plain.iter().map(|entry| entry.path.as_str())),
        )?;
        let line = |entry: &&Entry| {
            let from = entry.file_shape.as_deref().unwrap_or_default();
            let norm = |norm: Option<f64>| norm.map_or("-".to_owned(), |norm| format!("{norm:.4}"));
            format!(
                "{} {from:?} -> {:?}: {}; norm {} -> {}",
                entry.path,
                entry.shape,
                entry.steps.join(", "),
                norm(entry.norm_before),
                norm(entry.norm_after)
            )
        };
        section(f, "transformed", special.iter().map(line).collect())
    }
}

fn is_plain(entry: &Entry) -> bool {
    entry.steps.iter().all(|step| step == "transposed" || step.starts_with("cast "))
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: Vec<String>) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{title}")?;
    for line in lines.iter().take(SHOWN) {
        writeln!(f, "  {line}")?;
    }
    match lines.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}
