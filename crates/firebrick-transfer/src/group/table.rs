//! A plan as a table.

use super::{Mode, NormMode, Place, Plan};
use std::fmt;

/// One layer group in a [`Table`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TableRow {
    /// Name of the group.
    pub group: String,
    /// Paths of parameters and modules that it covers.
    pub prefixes: Vec<String>,
    /// Elements of its parameters, running statistics not counted.
    pub parameters: usize,
    /// How many of them train.
    pub trainable: usize,
    /// What it does.
    pub mode: Mode,
    /// What its norms do, where that was set.
    pub norm: Option<NormMode>,
    /// The factor on its learning rate.
    pub rate: f64,
}

/// What happens to which layer group: [`Plan::table`](crate::Plan::table) makes it, `Display` prints it.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// One row a group, from the input to the head.
    pub rows: Vec<TableRow>,
}

impl Table {
    pub(super) fn new(plan: &Plan, places: &[Place]) -> Self {
        let row = |(group, treatment): (&super::Group, &super::Treatment)| {
            let inside = || places.iter().filter(|place| group.covers(&place.path));
            TableRow {
                group: group.name().into(),
                prefixes: group.prefixes().to_vec(),
                parameters: inside().map(Place::elements).sum(),
                trainable: inside().filter(|place| plan.trains(place)).map(Place::elements).sum(),
                mode: treatment.mode,
                norm: treatment.norm,
                rate: treatment.rate,
            }
        };
        Self { rows: plan.groups().groups().iter().zip(plan.treatments()).map(row).collect() }
    }

    /// Elements of all parameters.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.rows.iter().map(|row| row.parameters).sum()
    }

    /// Elements of the parameters that train: the number to compare the number of samples with.
    #[must_use]
    pub fn trainable(&self) -> usize {
        self.rows.iter().map(|row| row.trainable).sum()
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Trainable => "trainable",
            Self::Frozen => "frozen",
            Self::Adapted => "adapted",
            Self::Reinitialised => "re-initialised",
            Self::Biases { norms: false } => "biases",
            Self::Biases { norms: true } => "biases, norms",
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["group", "parameters", "trainable", "mode", "norms", "lr x", "covers"];
        let mut rows = vec![head.map(String::from)];
        for row in &self.rows {
            let norm = row.norm.map_or("", |norm| match norm {
                NormMode::Frozen => "frozen",
                NormMode::StatsFrozen => "statistics frozen",
                NormMode::Adaptive => "adaptive",
            });
            rows.push([
                row.group.clone(),
                row.parameters.to_string(),
                row.trainable.to_string(),
                row.mode.to_string(),
                norm.into(),
                row.rate.to_string(),
                row.prefixes.join(" "),
            ]);
        }
        let (all, trainable) = (self.parameters(), self.trainable());
        let share = 100.0 * trainable as f64 / all.max(1) as f64;
        let mut sums: [String; 7] = std::array::from_fn(|_| String::new());
        sums[1] = all.to_string();
        sums[2] = trainable.to_string();
        sums[3] = format!("{share:.1} %");
        rows.push(sums);
        let widths: [usize; 7] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in rows {
            let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
                let right = matches!(column, 1 | 2);
                if right { format!("{cell:>width$}") } else { format!("{cell:width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}
