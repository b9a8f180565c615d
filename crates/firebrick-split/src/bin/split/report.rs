//! What the command says of a split: its recipe, sizes and shares, and the names behind the numbers.

use crate::outcome::Outcome;
use firebrick_split::{Spec, SplitError, encode};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

/// Classes are numbered by first appearance; what the file calls them.
pub(crate) fn names(codes: impl Iterator<Item = u32>, labels: &encode::Encoded<String>) -> String {
    let name = |code: u32| Some(format!("{code} is {:?}", labels.values.get(code as usize)?));
    codes.take(10).filter_map(name).collect::<Vec<_>>().join(", ")
}

/// The error with the names of the classes that it numbers, and what may be done here.
pub(crate) fn named(
    error: Box<dyn Error>,
    labels: Option<&encode::Encoded<String>>,
) -> Box<dyn Error> {
    let (
        Some(labels),
        Some(
            SplitError::ClassTooSmall { classes, .. } | SplitError::ClassesTooSmall { classes, .. },
        ),
    ) = (labels, error.downcast_ref())
    else {
        return error;
    };
    let names = names(classes.iter().map(|(code, _)| *code), labels);
    format!("{error}; class {names}; here: --rare pool, --rare ignore or --scheme k_fold").into()
}

/// The recipe in one line.
pub(crate) fn describe(spec: &Spec) -> String {
    let parameters: Vec<String> =
        spec.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let seed = spec.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
    format!("{} ({}{seed})", spec.algorithm, parameters.join(", "))
}

/// Size of each part and the share of each class in it.
pub(crate) fn shares(
    text: &mut String,
    outcome: &Outcome,
    labels: Option<&encode::Encoded<String>>,
) -> std::fmt::Result {
    for (name, rows) in &outcome.lists {
        write!(text, "{name:20}{:>9} rows", rows.len())?;
        if let Some(labels) = labels {
            let mut counts = BTreeMap::new();
            for &row in rows {
                *counts.entry(labels.codes[row as usize]).or_insert(0usize) += 1;
            }
            for (&code, &count) in counts.iter().take(12) {
                let share = 100.0 * count as f64 / rows.len() as f64;
                write!(text, "  {} {share:.1} %", labels.values[code as usize])?;
            }
            if counts.len() > 12 {
                write!(text, "  and {} more classes", counts.len() - 12)?;
            }
        }
        writeln!(text)?;
    }
    Ok(())
}
