//! What a run writes down as it goes: named numbers by epoch and step, as JSON lines.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};

/// The names under which every crate records and looks for the common numbers.
pub mod names {
    /// Mean loss over the training samples, without penalties.
    pub const TRAIN_LOSS: &str = "train_loss";
    /// Share of training samples that were misclassified.
    pub const TRAIN_ERROR: &str = "train_error";
    /// Mean loss over the validation samples.
    pub const VALIDATION_LOSS: &str = "validation_loss";
    /// Share of validation samples that were misclassified.
    pub const VALIDATION_ERROR: &str = "validation_error";
    /// Loss of the batch of one step.
    pub const BATCH_LOSS: &str = "batch_loss";
    /// What the penalties added to the training loss.
    pub const PENALTY: &str = "penalty";
    /// Learning rate of the step.
    pub const LEARNING_RATE: &str = "lr";
    /// Global gradient norm before clipping.
    pub const GRADIENT_NORM: &str = "grad_norm";
    /// Steps that a guard skipped.
    pub const SKIPPED: &str = "skipped_steps";
}

/// One line of a [`History`]: numbers by name at a step of an epoch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    /// Epoch, counted from 1; 0 before training.
    pub epoch: usize,
    /// Optimizer steps taken so far.
    pub step: u64,
    /// The numbers. NaN and infinities are kept, as the texts "NaN", "inf" and "-inf" in JSON.
    #[serde(serialize_with = "write_values", deserialize_with = "read_values")]
    pub values: BTreeMap<String, f64>,
}

impl Record {
    /// A record without numbers yet.
    #[must_use]
    pub fn new(epoch: usize, step: u64) -> Self {
        Self { epoch, step, values: BTreeMap::new() }
    }

    /// The same record with one number more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        self.values.insert(name.into(), value);
        self
    }

    /// The number called `name`, if the record has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }
}

/// The records of a run in the order in which they were made.
///
/// ```
/// use firebrick_core::{History, Record, names};
///
/// let mut history = History::default();
/// history.push(Record::new(1, 20).with(names::TRAIN_LOSS, 0.7));
/// history.push(Record::new(2, 40).with(names::TRAIN_LOSS, f64::NAN));
/// let text = history.to_json_lines();
/// assert!(text.ends_with("{\"epoch\":2,\"step\":40,\"values\":{\"train_loss\":\"NaN\"}}\n"));
/// assert_eq!(History::read(text.as_bytes())?.series(names::TRAIN_LOSS)[0], 0.7);
/// # Ok::<(), firebrick_core::HistoryError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History {
    /// The records, oldest first.
    pub records: Vec<Record>,
}

/// A history that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The source failed.
    #[error("history cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not a record.
    #[error("line {line} of the history is damaged: {source}")]
    Damaged {
        /// Line number, from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
}

impl History {
    /// Appends a record.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The values called `name`, oldest first; records without it are left out.
    #[must_use]
    pub fn series(&self, name: &str) -> Vec<f64> {
        self.records.iter().filter_map(|record| record.get(name)).collect()
    }

    /// The last value called `name`.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<f64> {
        self.records.iter().rev().find_map(|record| record.get(name))
    }

    /// Every name that occurs, in alphabetical order.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.records.iter().flat_map(|record| record.values.keys().map(String::as_str)).collect()
    }

    /// The history as JSON lines, one record a line.
    #[must_use]
    pub fn to_json_lines(&self) -> String {
        let mut lines = Vec::new();
        for record in &self.records {
            // Writing to memory cannot fail, and every record can be serialized.
            let _ = Self::write_line(&mut lines, record);
        }
        String::from_utf8_lossy(&lines).into_owned()
    }

    /// Writes one record as a JSON line and flushes, so that a killed run loses nothing before it.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn write_line(sink: &mut impl Write, record: &Record) -> std::io::Result<()> {
        serde_json::to_writer(&mut *sink, record)?;
        sink.write_all(b"\n")?;
        sink.flush()
    }

    /// Reads JSON lines; empty lines are skipped.
    ///
    /// # Errors
    /// When the source fails or a line is no record; the error names the line.
    pub fn read(source: impl BufRead) -> Result<Self, HistoryError> {
        let mut records = Vec::new();
        for (index, line) in source.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let record = serde_json::from_str(&line)
                .map_err(|source| HistoryError::Damaged { line: index + 1, source })?;
            records.push(record);
        }
        Ok(Self { records })
    }
}

/// A number, or the text that stands for a non-finite one: JSON has no NaN.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Text(String),
}

fn write_values<S: Serializer>(values: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(values.iter().map(|(name, &value)| {
        let number =
            if value.is_finite() { Number::Finite(value) } else { Number::Text(value.to_string()) };
        (name, number)
    }))
}

fn read_values<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    BTreeMap::<String, Number>::deserialize(from)?
        .into_iter()
        .map(|(name, number)| match number {
            Number::Finite(value) => Ok((name, value)),
            Number::Text(text) => match text.as_str() {
                "NaN" => Ok((name, f64::NAN)),
                "inf" => Ok((name, f64::INFINITY)),
                "-inf" => Ok((name, f64::NEG_INFINITY)),
                _ => Err(serde::de::Error::custom(format!("`{name}` is not a number: {text:?}"))),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_numbers_survive_a_round_trip() {
        let record = Record::new(3, 9)
            .with("a", f64::INFINITY)
            .with("b", f64::NEG_INFINITY)
            .with("c", 0.1 + 0.2)
            .with("d", f64::NAN);
        let history = History { records: vec![record] };
        let back = History::read(history.to_json_lines().as_bytes()).expect("reads back");
        assert_eq!(back.last("a"), Some(f64::INFINITY));
        assert_eq!(back.last("b"), Some(f64::NEG_INFINITY));
        assert_eq!(back.last("c"), Some(0.1 + 0.2));
        assert!(back.last("d").is_some_and(f64::is_nan));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let text = "{\"epoch\":1,\"step\":1,\"values\":{}}\n\n{\"epoch\":2,";
        let error = History::read(text.as_bytes()).expect_err("line 3 is cut off").to_string();
        assert!(error.starts_with("line 3 of the history is damaged"), "{error}");
        let word = "{\"epoch\":1,\"step\":1,\"values\":{\"a\":\"much\"}}";
        assert!(History::read(word.as_bytes()).is_err());
    }

    #[test]
    fn series_skip_records_without_the_name() {
        let mut history = History::default();
        history.push(Record::new(1, 1).with("a", 1.0));
        history.push(Record::new(1, 2).with("b", 2.0));
        history.push(Record::new(2, 3).with("a", 3.0));
        assert_eq!(history.series("a"), [1.0, 3.0]);
        assert_eq!(history.names().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(history.last("c"), None);
    }
}
