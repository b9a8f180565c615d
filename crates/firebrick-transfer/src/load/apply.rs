//! Carries a plan out: as a whole, or not at all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::module::Module;
use burn::store::{Applier, bridge};
use burn::tensor::TensorData;
use serde::Serialize;

use super::error::LoadError;
use super::inventory::{Slot, inventory};
use super::plan::{Class, Entry, LoadPlan, digest};

/// What was done to a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// Number of parameters whose values come from the file.
    pub loaded: usize,
    /// Number of their elements.
    pub elements: usize,
    /// Number of parameters of fresh heads and of what was declared fresh.
    pub reinitialized: usize,
    /// Share of the elements outside the heads that come from the file, 0 to 1.
    pub coverage: f64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub file_digest: String,
}

impl LoadPlan {
    /// Carries the plan out. Afterwards the digest of every tensor in the model is compared with the plan's.
    ///
    /// Burn's identities of the parameters, whether they train and where they are stay as they were. Load before
    /// making an optimizer. Running statistics are shared by burn's clones of a model and change with it.
    ///
    /// # Errors
    ///
    /// [`LoadError::Refused`] for a plan with problems, [`LoadError::OtherModel`] for a model of another structure,
    /// [`LoadError::Write`] and [`LoadError::Verification`]. The model is then as it was, bit for bit.
    pub fn apply<M: Module>(&self, model: &mut M) -> Result<LoadReport, LoadError> {
        self.carry_out(model, |_| Ok(()))
    }

    /// As [`apply`](Self::apply), and then compares the model's output on a reference input with the recorded one.
    ///
    /// `output` computes it; the largest absolute difference to `expected` may be `tolerance`. A model is left in the
    /// mode in which it is: give one that does not train, or turn it in `output` with `valid()`.
    ///
    /// # Errors
    ///
    /// As [`apply`](Self::apply), and [`LoadError::Reference`]; the model is then as it was.
    pub fn apply_with_reference<M: Module>(
        &self,
        model: &mut M,
        expected: &[f32],
        tolerance: f64,
        output: impl FnOnce(&M) -> TensorData,
    ) -> Result<LoadReport, LoadError> {
        firebrick_core::check::non_negative("tolerance", tolerance)?;
        self.carry_out(model, |loaded| {
            let values: Vec<f64> = output(loaded).iter::<f64>().collect();
            let difference = |(got, want): (&f64, &f32)| {
                let off = (got - f64::from(*want)).abs();
                if off.is_nan() { f64::INFINITY } else { off }
            };
            let difference = match values.len() == expected.len() {
                true => values.iter().zip(expected).map(difference).fold(0.0, f64::max),
                false => f64::INFINITY,
            };
            if difference <= tolerance {
                Ok(())
            } else {
                Err(LoadError::Reference { difference, tolerance })
            }
        })
    }

    fn carry_out<M: Module>(
        &self,
        model: &mut M,
        accept: impl FnOnce(&M) -> Result<(), LoadError>,
    ) -> Result<LoadReport, LoadError> {
        self.check()?;
        let before = inventory(model);
        self.same_model(&before)?;
        let originals = |entry: &&Entry| entry.data.is_some();
        let back: Vec<(String, TensorData)> = self
            .entries
            .iter()
            .zip(&before)
            .filter(|(entry, _)| originals(entry))
            .map(|(_, slot)| (slot.path.clone(), slot.data.clone()))
            .collect();
        // A batch norm keeps its newest update aside and would prefer it to what is loaded; this takes it in first.
        drop(model.valid());
        let new =
            self.entries.iter().filter_map(|entry| Some((entry.path.clone(), entry.data.clone()?)));
        let outcome = write(model, new.collect()).and_then(|loaded| {
            self.verify(&inventory(&loaded))?;
            accept(&loaded)?;
            Ok(loaded)
        });
        match outcome {
            Ok(loaded) => {
                *model = loaded;
                Ok(self.report())
            }
            Err(error) => {
                // `model` still has its own tensors; only running statistics, which clones share, must be put back.
                drop(write(model, back)?);
                Err(error)
            }
        }
    }

    fn same_model(&self, slots: &[Slot]) -> Result<(), LoadError> {
        if slots.len() != self.entries.len() {
            let difference =
                format!("it has {} parameters, the plan {}", slots.len(), self.entries.len());
            return Err(LoadError::OtherModel { difference });
        }
        for (slot, entry) in slots.iter().zip(&self.entries) {
            let dtype = format!("{:?}", slot.dtype);
            if slot.path != entry.path || slot.shape != entry.shape || dtype != entry.dtype {
                let difference = format!(
                    "it has `{}` {:?} {dtype}, the plan `{}` {:?} {}",
                    slot.path, slot.shape, entry.path, entry.shape, entry.dtype
                );
                return Err(LoadError::OtherModel { difference });
            }
        }
        Ok(())
    }

    fn verify(&self, slots: &[Slot]) -> Result<(), LoadError> {
        let differs = |(entry, slot): &(&Entry, &Slot)| {
            entry.digest.as_ref().is_some_and(|planned| *planned != digest(&slot.data))
        };
        let paths: Vec<String> = self
            .entries
            .iter()
            .zip(slots)
            .filter(differs)
            .map(|(entry, _)| entry.path.clone())
            .collect();
        if paths.is_empty() { Ok(()) } else { Err(LoadError::Verification { paths }) }
    }

    fn report(&self) -> LoadReport {
        let loaded = || self.entries.iter().filter(|entry| entry.class.is_loaded());
        LoadReport {
            loaded: loaded().count(),
            elements: loaded().map(Entry::elements).sum(),
            reinitialized: self.count(Class::Reinitialized),
            coverage: self.coverage(),
            file_digest: self.file_digest.clone(),
        }
    }
}

/// A copy of the model with these values at these paths; a panic in burn becomes an error.
fn write<M: Module>(model: &M, values: Vec<(String, TensorData)>) -> Result<M, LoadError> {
    let expected = values.len();
    let tensors =
        values.into_iter().map(|(path, data)| bridge::from_data(data, path, None)).collect();
    let mut applier = Applier::new(tensors, None, None, false);
    let copy = model.clone();
    let mapped = catch_unwind(AssertUnwindSafe(|| copy.map(&mut applier)));
    let mapped =
        mapped.map_err(|_| LoadError::Write { reason: "burn gave up in the middle".to_owned() })?;
    let result = applier.into_result();
    if let Some(error) = result.errors.first() {
        return Err(LoadError::Write { reason: error.to_string() });
    }
    if result.applied.len() != expected {
        let reason = format!("{} of {expected} tensors were taken", result.applied.len());
        return Err(LoadError::Write { reason });
    }
    Ok(mapped)
}
