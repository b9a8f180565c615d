//! Saving the module-level optimizer, in the format of burn's own optimizer records.
//!
//! A record that one door saved, the other loads: the state of each parameter is a [`RuleState`](crate::RuleState)
//! under the parameter's number.

use crate::error::OptimError;
use crate::module::{Entry, FusedOptimizer, Slots, State};
use crate::state::fingerprint;
use burn::module::Module;
use burn::tensor::{Bytes, Tensor, TensorData};
use burn_pack::{Reader, Scalar, Tensor as Packed, Writer};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

pub(crate) fn unreadable(reason: impl std::fmt::Display) -> OptimError {
    OptimError::Record { reason: reason.to_string() }
}

impl FusedOptimizer {
    /// The state as bytes, in the format of burn's `ModuleOptimizer::into_bytes`.
    ///
    /// # Errors
    /// When the format cannot hold it.
    pub fn into_bytes(&self) -> Result<Bytes, OptimError> {
        self.writer().into_bytes().map_err(unreadable)
    }

    /// Saves the state to `path` (`.bpk` is appended), replacing what is there in one move.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), OptimError> {
        self.writer().write_to_file(path).map_err(unreadable)
    }

    /// Takes over a saved state for the parameters of `module`; one that is not in the record starts anew.
    ///
    /// A parameter is found by its number, which burn's own module records keep; else by its path, so that a
    /// model read from SafeTensors or built anew finds its state too. Bits are kept exactly, unless the parameter has
    /// another float type now: its next step takes the state over into that.
    ///
    /// # Errors
    /// When the bytes are no record, a parameter of the record is not in the module or has another shape there,
    /// or its state was saved by another rule. `self` is gone then; a clone of it is as it was.
    pub fn from_bytes<M: Module>(self, bytes: Bytes, module: &M) -> Result<Self, OptimError> {
        self.take_over(Reader::from_bytes(bytes).map_err(unreadable)?, module)
    }

    /// Loads what [`save`](Self::save) wrote; as [`from_bytes`](Self::from_bytes).
    ///
    /// # Errors
    /// As `from_bytes`, and when the file cannot be read.
    pub fn load<M: Module>(self, path: impl AsRef<Path>, module: &M) -> Result<Self, OptimError> {
        self.take_over(Reader::from_file(path).map_err(unreadable)?, module)
    }

    fn writer(&self) -> Writer {
        let mut tensors = Vec::new();
        let mut scalars: Vec<(String, Scalar)> = Vec::new();
        let mut paths = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.state.time > 0) {
            let id = entry.id.val();
            let state = &entry.state;
            paths.push((id.to_string(), entry.path.clone()));
            let slots = entry.slots();
            scalars.push((format!("{id}.__rank"), entry.shape.len().into()));
            scalars.push((format!("{id}.time"), state.time.into()));
            scalars.push((format!("{id}.rule"), fingerprint(self.rule_of(entry).name()).into()));
            scalars.push((format!("{id}.slots"), (slots.len() as u64).into()));
            for (k, &size) in entry.shape.iter().enumerate() {
                scalars.push((format!("{id}.shape_{k}"), (size as u64).into()));
            }
            scalars.push((format!("{id}.memory"), (state.memory.len() as u64).into()));
            for (k, &value) in state.memory.iter().enumerate() {
                scalars.push((format!("{id}.memory_{k}"), value.into()));
            }
            for (k, data) in slots.into_iter().enumerate() {
                let (bytes, shape, dtype) = data.into_parts();
                tensors.push(Packed::new(format!("{id}.slot_{k}"), dtype, shape, Some(id), bytes));
            }
        }
        let mut writer = Writer::new(tensors);
        for (name, value) in scalars {
            writer = writer.with_scalar(&name, value);
        }
        for (id, path) in paths {
            writer = writer.with_metadata(&id, &path);
        }
        writer
    }

    fn take_over<M: Module>(mut self, reader: Reader, module: &M) -> Result<Self, OptimError> {
        self.register(module);
        let paths = reader.metadata().clone();
        let scalars = reader.scalars().clone();
        let mut tensors = HashMap::new();
        for tensor in reader.into_tensors().map_err(unreadable)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(unreadable)?;
            tensors.insert(name, TensorData::from_bytes(bytes, shape, dtype));
        }
        let mut loaded = Vec::new();
        for id in scalars.keys().filter_map(|name| name.strip_suffix(".__rank")) {
            let path = paths.get(id).cloned().unwrap_or_default();
            let same_id = |entry: &Entry| entry.id.val().to_string() == id;
            let at = self.entries.iter().position(same_id);
            let at = at.or_else(|| self.entries.iter().position(|entry| entry.path == path));
            let Some(at) = at else {
                let path = if path.is_empty() { id.to_owned() } else { path };
                return Err(OptimError::NoSuchParameter { path });
            };
            loaded.push((at, self.state(at, id, &scalars, &mut tensors)?));
        }
        for entry in &mut self.entries {
            entry.state = State::default();
        }
        for (at, state) in loaded {
            self.entries[at].state = state;
        }
        Ok(self)
    }

    fn state(
        &self,
        at: usize,
        id: &str,
        scalars: &BTreeMap<String, Scalar>,
        tensors: &mut HashMap<String, TensorData>,
    ) -> Result<State, OptimError> {
        let entry = &self.entries[at];
        let rule = self.rule_of(entry);
        let other = || OptimError::OtherRule { path: entry.path.clone(), rule: rule.name().into() };
        let count = |name: &str| -> Option<u64> {
            scalars.get(&format!("{id}.{name}")).copied()?.try_into().ok()
        };
        let fits = count("rule") == Some(fingerprint(rule.name()))
            && count("slots") == Some(rule.slots().len() as u64)
            && count("memory") == Some(rule.memory().len() as u64);
        if !fits {
            return Err(other());
        }
        let time = count("time").ok_or_else(other)?;
        let mut memory = Vec::new();
        for k in 0..rule.memory().len() {
            let value = scalars.get(&format!("{id}.memory_{k}")).copied();
            let value: Option<f64> = value.and_then(|value| value.try_into().ok());
            memory.push(value.ok_or_else(other)?);
        }
        let rank = count("__rank").unwrap_or_default();
        let saved: Vec<usize> =
            (0..rank).map(|k| count(&format!("shape_{k}")).unwrap_or_default() as usize).collect();
        if saved != entry.shape {
            return Err(OptimError::OtherShape {
                path: entry.path.clone(),
                saved,
                shape: entry.shape.clone(),
            });
        }
        let mut slots = Vec::new();
        for k in 0..rule.slots().len() {
            slots.push(tensors.remove(&format!("{id}.slot_{k}")).ok_or_else(other)?);
        }
        let lengths: Vec<usize> = slots.iter().map(TensorData::num_elements).collect();
        if !rule.fits(&entry.shape, &lengths) {
            return Err(other());
        }
        Ok(State { time, memory, slots: Slots::Saved(slots) })
    }
}

impl Entry {
    /// The state's numbers, flat.
    pub(crate) fn slots(&self) -> Vec<TensorData> {
        match &self.state.slots {
            Slots::New => Vec::new(),
            Slots::Saved(data) => data.clone(),
            Slots::Host(slots) => {
                let flat = slots.iter().map(|slot| slot.as_slice().to_vec());
                flat.map(|values| TensorData::new(values.clone(), [values.len()])).collect()
            }
            Slots::Line(slots) => slots.iter().map(Tensor::to_data).collect(),
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing;
    use crate::{AdamConfig, AmsGrad, Elementwise, SgdConfig};
    use burn::module::ParamGroup;
    use burn::tensor::{DType, Device};

    fn rule() -> Elementwise {
        AdamConfig::new().with_amsgrad(AmsGrad::Raw).build().expect("valid")
    }

    #[test]
    fn resuming_is_exact_in_every_type_through_both_doors() {
        for dtype in [DType::F32, DType::F64, DType::BF16] {
            let mut model = testing::net_of(&Device::flex().autodiff(), dtype);
            let mut fused = rule().fused();
            for k in 0..3 {
                let grads = testing::grads(&model, k);
                model = fused.step(0.01, model, grads);
            }
            let bytes = fused.into_bytes().expect("bytes");
            let mut again = rule().fused().from_bytes(bytes.clone(), &model).expect("loads");
            let mut burn = rule().init().from_bytes(bytes).expect("loads");
            let back = burn.into_bytes().expect("bytes");
            let mut third = rule().fused().from_bytes(back, &model).expect("loads");
            let mut models = [model.clone(), model.clone(), model.clone(), model];
            for k in 3..6 {
                let grads = models.each_ref().map(|model| testing::grads(model, k));
                let [a, b, c, d] = models;
                let [ga, gb, gc, gd] = grads;
                models = [
                    fused.step(0.01, a, ga),
                    again.step(0.01, b, gb),
                    burn.step(0.01, c, gc),
                    third.step(0.01, d, gd),
                ];
                let first = testing::values(&models[0]);
                assert!(
                    models.iter().all(|model| testing::values(model) == first),
                    "{dtype:?} {k}"
                );
            }
        }
    }

    #[test]
    fn a_model_built_anew_finds_its_state_by_path() {
        let device = Device::flex().autodiff();
        let mut model = testing::net(&device);
        let mut optimizer = rule().fused();
        let grads = testing::grads(&model, 0);
        model = optimizer.step(0.01, model, grads);
        let bytes = optimizer.into_bytes().expect("bytes");
        let other = testing::net(&device);
        assert_ne!(other.linear.weight.id, model.linear.weight.id);
        let resumed = rule().fused().from_bytes(bytes, &other).expect("loads");
        assert_eq!(resumed.steps_of("linear.weight"), Some(1));
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let device = Device::flex().autodiff();
        let model = testing::net(&device);
        let mut optimizer = rule().fused();
        let grads = testing::grads(&model, 0);
        let model = optimizer.step(0.01, model, grads);
        let bytes = optimizer.into_bytes().expect("bytes");
        let refuse =
            |result: Result<FusedOptimizer, OptimError>| result.expect_err("refused").to_string();
        let adam = AdamConfig::new().fused().expect("valid");
        assert!(
            refuse(adam.from_bytes(bytes.clone(), &model))
                .ends_with("than `adam`, which steps it now")
        );
        let small = burn::nn::LinearConfig::new(2, 2).init(&device);
        assert!(
            refuse(rule().fused().from_bytes(bytes.clone(), &small))
                .contains("which the module does not have")
        );
        assert!(
            refuse(rule().fused().from_bytes(Bytes::from_elems(vec![1u8, 2, 3]), &model))
                .contains("cannot be read")
        );
        let group = ParamGroup::from_regex("bias").expect("regex");
        let sgd = SgdConfig::new().build().expect("valid");
        let grouped = rule().fused().with_group("bias", group, sgd);
        assert!(refuse(grouped.from_bytes(bytes, &model)).contains("than `sgd`"));
    }

    #[test]
    fn files_are_written_and_read() {
        let model = testing::net(&Device::flex().autodiff());
        let mut optimizer = rule().fused();
        let grads = testing::grads(&model, 0);
        let model = optimizer.step(0.01, model, grads);
        let folder = std::env::temp_dir().join(format!("firebrick-optim-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("folder");
        optimizer.save(folder.join("optimizer")).expect("writes");
        let read = rule().fused().load(folder.join("optimizer"), &model).expect("reads");
        assert_eq!(read.steps_of("norm.gamma"), Some(1));
        assert!(rule().fused().load(folder.join("missing"), &model).is_err());
        std::fs::remove_dir_all(folder).expect("removes");
    }

    #[test]
    fn what_a_record_does_not_hold_starts_anew() {
        let model = testing::net(&Device::flex().autodiff());
        let mut trained = rule().fused();
        let grads = testing::grads(&model, 0);
        let model = trained.step(0.01, model, grads);
        let of_nothing = rule().fused().into_bytes().expect("bytes");
        let mut one = rule().fused();
        let id = model.linear.bias.as_ref().expect("there").id;
        let mut grads = burn::optim::GradientsParams::new();
        grads.register(id, Tensor::<1>::ones([2], &Device::flex()));
        let _ = one.step(0.01, model.clone(), grads);
        let of_one = one.into_bytes().expect("bytes");
        for (bytes, of_bias) in [(of_nothing, 0), (of_one, 1)] {
            let loaded = trained.clone().from_bytes(bytes.clone(), &model).expect("loads");
            assert_eq!(loaded.steps_of("linear.bias"), Some(of_bias));
            assert_eq!(loaded.steps_of("linear.weight"), Some(0));
            let fresh = rule().fused().from_bytes(bytes, &model).expect("loads");
            let [a, b] = [loaded, fresh].map(|mut optimizer| {
                let grads = testing::grads(&model, 1);
                testing::values(&optimizer.step(0.01, model.clone(), grads))
            });
            assert_eq!(a, b);
        }
    }
}
