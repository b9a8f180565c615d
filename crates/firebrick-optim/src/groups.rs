//! Which parameter is stepped how, as a table.

use crate::elementwise::Elementwise;
use burn::module::{Module, ParamGroup};
use burn::optim::ModuleOptimizer;
use firebrick_backend::{Role, parameters};
use std::fmt;

/// How one parameter is stepped.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GroupRow {
    /// Path of the parameter: `layers.0.weight`.
    pub path: String,
    /// What it is for.
    pub role: Role,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Name of its group.
    pub group: String,
    /// Name of the rule that steps it.
    pub rule: String,
    /// Factor of the learning rate.
    pub lr_factor: f64,
    /// Strength of weight decay; 0 where none applies.
    pub weight_decay: f64,
}

/// Which parameter is in which group: [`FusedOptimizer::table`](crate::FusedOptimizer::table) makes it, `Display`
/// prints it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GroupTable {
    /// One row per parameter that trains, in the module's order.
    pub rows: Vec<GroupRow>,
}

impl fmt::Display for GroupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head =
            ["parameter", "role", "shape", "group", "rule", "lr x", "decay"].map(String::from);
        let rows: Vec<[String; 7]> = std::iter::once(head)
            .chain(self.rows.iter().map(|row| {
                [
                    row.path.clone(),
                    row.role.to_string(),
                    format!("{:?}", row.shape),
                    row.group.clone(),
                    row.rule.clone(),
                    row.lr_factor.to_string(),
                    row.weight_decay.to_string(),
                ]
            }))
            .collect();
        let width = |k: usize| rows.iter().map(|row| row[k].chars().count()).max().unwrap_or(0);
        let widths: [usize; 7] = std::array::from_fn(width);
        for row in &rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// burn's optimizer for `model`, with a group for the parameters whose decay the rank alone would get wrong.
pub(crate) fn module_optimizer<M: Module>(optimizer: &Elementwise, model: &M) -> ModuleOptimizer {
    let on = optimizer.decay_on();
    let wrong = parameters(model)
        .into_iter()
        .filter(|parameter| on.by_rank(parameter.shape.len()) && !on.applies(parameter.role));
    let ids: Vec<_> = wrong.map(|parameter| parameter.id).collect();
    let all = optimizer.init();
    if ids.is_empty() {
        return all;
    }
    all.with_group(ParamGroup::from_ids(ids), optimizer.clone().without_decay(), None)
}
