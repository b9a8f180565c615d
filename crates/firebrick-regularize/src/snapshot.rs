//! Snapshot ensembles: one run whose rate falls to 0 several times, and the model at each of these moments.
//!
//! # Formula
//! ```text
//! rate(t) = peak / 2 * (cos(pi * (t - s_c) / (s_{c+1} - s_c)) + 1)      s_c <= t < s_{c+1}, t from 0
//! s_c = floor(c * steps / cycles)                                       start of cycle c, from 0
//! p = mean over the last m snapshots of softmax(z)
//! ```
//! The cycles differ by a step at most, so that there are as many as asked for. Snapshots of the first cycles are poor:
//! take the last few.
//!
//! # Reference
//! G. Huang, Y. Li, G. Pleiss, Z. Liu, J. E. Hopcroft, K. Q. Weinberger, "Snapshot ensembles: train 1, get M for
//! free", ICLR 2017.

use crate::{RegularizeError, ensemble_probabilities};
use burn::config::Config;
use burn::module::Module;
use burn::tensor::Tensor;
use firebrick_core::{ConfigError, check};

/// Configuration of [`Snapshots`].
#[derive(Config, Debug)]
pub struct SnapshotsConfig {
    /// Steps of the whole run, at least `cycles`.
    pub steps: usize,
    /// How many times the rate falls, and so how many snapshots, at least 1.
    #[config(default = 5)]
    pub cycles: usize,
    /// The rate at the start of each cycle, above 0; 0.1 to 0.2 for SGD in the paper.
    #[config(default = 0.1)]
    pub peak: f64,
}

impl SnapshotsConfig {
    /// Checks the values; no snapshot has been taken yet.
    ///
    /// # Errors
    /// When `cycles` is 0, `steps` fewer than `cycles`, or `peak` not above 0.
    pub fn init<M>(&self) -> Result<Snapshots<M>, ConfigError> {
        let cycles = check::at_least("cycles", self.cycles, 1)?;
        let steps = check::at_least("steps", self.steps, cycles)?;
        let peak = check::positive("peak", self.peak)?;
        Ok(Snapshots { steps, cycles, peak, members: Vec::new() })
    }
}

/// The rate of a run with warm restarts, and the models at the ends of its cycles.
///
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use firebrick_regularize::{Snapshots, SnapshotsConfig};
///
/// let device = Device::flex().autodiff();
/// let model = LinearConfig::new(4, 2).init(&device);
/// let mut snapshots: Snapshots<Linear> = SnapshotsConfig::new(10).with_cycles(2).init()?;
/// for step in 0..10 {
///     let rate = snapshots.rate(step);
///     // ... a step at this rate ...
///     # let _ = rate;
///     snapshots.after_step(step, &model);
/// }
/// assert_eq!(snapshots.members().len(), 2);
/// let input = Tensor::<2>::ones([3, 4], &Device::flex());
/// let mean = snapshots.predict(2, |model| model.forward(input.clone()))?;
/// assert_eq!(mean.dims(), [3, 2]);
/// # Ok::<(), firebrick_regularize::RegularizeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Snapshots<M> {
    steps: usize,
    cycles: usize,
    peak: f64,
    members: Vec<M>,
}

impl<M: Module> Snapshots<M> {
    /// First step of the cycle that `step` of the run belongs to, and of the one after it.
    fn cycle(&self, step: u64) -> (u64, u64) {
        let (steps, cycles, step) = (self.steps as u128, self.cycles as u128, u128::from(step));
        // The last c with c * steps / cycles < step + 1.
        let cycle = ((step + 1) * cycles - 1) / steps;
        let start = |cycle: u128| (cycle * steps / cycles) as u64;
        (start(cycle), start(cycle + 1))
    }

    /// The learning rate of `step`, counted from 0; after the run it starts again.
    #[must_use]
    pub fn rate(&self, step: u64) -> f64 {
        let step = step % self.steps as u64;
        let (start, end) = self.cycle(step);
        let share = (step - start) as f64 / (end - start) as f64;
        self.peak / 2.0 * (libm::cos(std::f64::consts::PI * share) + 1.0)
    }

    /// Takes the model, in evaluation state and on the plain device, after the last step of each cycle; after the run
    /// it takes none.
    pub fn after_step(&mut self, step: u64, model: &M) {
        if step < self.steps as u64 && self.cycle(step).1 == step + 1 {
            self.members.push(model.valid());
        }
    }

    /// Goes on with the snapshots that an interrupted run had taken, the first one first; they are put into evaluation state.
    ///
    /// What [`members`](Self::members) gave can be saved by burn's `save_file`, one file a member.
    ///
    /// # Errors
    /// When there are more than cycles.
    pub fn with_members(self, members: Vec<M>) -> Result<Self, ConfigError> {
        if members.len() > self.cycles {
            let expected = format!("at most the {} cycles", self.cycles);
            return Err(ConfigError::new("members", members.len(), expected));
        }
        Ok(Self { members: members.iter().map(Module::valid).collect(), ..self })
    }

    /// The snapshots so far, the first one first.
    #[must_use]
    pub fn members(&self) -> &[M] {
        &self.members
    }

    /// The mean of the probabilities of the last `count` snapshots, from logits `[n, k]` each.
    ///
    /// # Errors
    /// When there are fewer snapshots, `count` is 0, or their outputs differ in shape.
    pub fn predict(
        &self,
        count: usize,
        forward: impl FnMut(&M) -> Tensor<2>,
    ) -> Result<Tensor<2>, RegularizeError> {
        let first = self.members.len().checked_sub(count).ok_or_else(|| {
            let expected = format!("at most the {} snapshots taken", self.members.len());
            ConfigError::new("count", count, expected)
        })?;
        ensemble_probabilities(self.members[first..].iter().map(forward))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::module::Param;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;

    fn model(value: f32, device: &Device) -> Linear {
        let mut layer = LinearConfig::new(1, 2).with_bias(false).init(device);
        layer.weight = Param::from_data([[value, 0.0]], device);
        layer
    }

    #[test]
    fn the_rate_restarts_and_each_cycle_leaves_a_model() {
        // 10 steps in 3 cycles: of 3, 3 and 4 steps.
        let mut snapshots: Snapshots<Linear> =
            SnapshotsConfig::new(10).with_cycles(3).with_peak(0.2).init().expect("valid");
        let rates: Vec<f64> = (0..10).map(|step| snapshots.rate(step)).collect();
        let half = 0.5f64.sqrt();
        let (three, four) = ([0.2, 0.15, 0.05], [0.2, 0.1 * (half + 1.0), 0.1, 0.1 * (1.0 - half)]);
        let fall = three.iter().chain(&three).chain(&four);
        assert!(rates.iter().zip(fall).all(|(a, b)| (a - b).abs() < 1e-12), "{rates:?}");
        assert_eq!(snapshots.rate(10), 0.2);
        for device in devices() {
            snapshots.members.clear();
            let device = device.autodiff();
            for step in 0..14 {
                snapshots.after_step(step, &model(step as f32, &device));
            }
            let weights: Vec<f32> = snapshots
                .members()
                .iter()
                .map(|member| member.weight.val().slice([0..1, 0..1]).into_scalar())
                .collect();
            assert_eq!(weights, [2.0, 5.0, 9.0]);
        }
    }

    #[test]
    fn there_are_as_many_members_as_cycles() {
        let model = model(1.0, &Device::flex().autodiff());
        for steps in 1..=13usize {
            for cycles in 1..=steps {
                let mut snapshots: Snapshots<Linear> =
                    SnapshotsConfig::new(steps).with_cycles(cycles).init().expect("valid");
                let mut starts = 0;
                for step in 0..steps as u64 {
                    let (start, end) = snapshots.cycle(step);
                    assert!(start <= step && step < end && end <= steps as u64);
                    assert!((end - start).abs_diff(steps as u64 / cycles as u64) <= 1);
                    starts += usize::from(start == step);
                    assert_eq!(start == step, snapshots.rate(step) == 0.1, "{steps} {cycles}");
                    snapshots.after_step(step, &model);
                }
                assert_eq!((starts, snapshots.members().len()), (cycles, cycles), "{steps}");
            }
        }
    }

    #[test]
    fn a_resumed_run_goes_on_with_its_members() {
        let device = Device::flex().autodiff();
        let config = SnapshotsConfig::new(6).with_cycles(3);
        let mut whole: Snapshots<Linear> = config.init().expect("valid");
        let mut first: Snapshots<Linear> = config.init().expect("valid");
        for step in 0..6u64 {
            whole.after_step(step, &model(step as f32, &device));
            if step < 4 {
                first.after_step(step, &model(step as f32, &device));
            }
        }
        // As they come from a file: with gradients, on the device of training.
        let saved: Vec<Linear> =
            first.members().iter().map(|member| member.clone().train()).collect();
        let start = || config.init::<Linear>().expect("valid");
        let mut resumed = start().with_members(saved).expect("two");
        (4..6).for_each(|step| resumed.after_step(step, &model(step as f32, &device)));
        let weights = |snapshots: &Snapshots<Linear>| -> Vec<Vec<f32>> {
            let read = |member: &Linear| member.weight.val().try_to_vec_as().expect("reads");
            snapshots.members().iter().map(read).collect()
        };
        assert_eq!(weights(&resumed), weights(&whole));
        assert!(resumed.members().iter().all(|member| !member.weight.val().is_autodiff()));
        let many = vec![model(0.0, &device); 4];
        let refused = start().with_members(many).expect_err("too many");
        assert_eq!(refused.to_string(), "`members` must be at most the 3 cycles, got 4");
    }

    #[test]
    fn the_last_members_vote_with_probabilities() {
        let device = Device::flex();
        let mut snapshots: Snapshots<Linear> =
            SnapshotsConfig::new(3).with_cycles(3).init().expect("valid");
        for (step, value) in [50.0, 0.0, -50.0].into_iter().enumerate() {
            snapshots.after_step(step as u64, &model(value, &device.clone().autodiff()));
        }
        let one = Tensor::<2>::ones([1, 1], &device);
        let vote = |count| snapshots.predict(count, |member| member.forward(one.clone()));
        let read = |count| vote(count).expect("enough").try_to_vec_as::<f32>().expect("reads");
        assert_eq!(read(2), [0.25, 0.75]);
        assert_eq!(read(3), [0.5, 0.5]);
        assert!(matches!(vote(0), Err(RegularizeError::Empty { .. })));
        let few = vote(4).expect_err("too many").to_string();
        assert_eq!(few, "`count` must be at most the 3 snapshots taken, got 4");
    }

    #[test]
    fn bad_values_are_refused() {
        assert!(SnapshotsConfig::new(10).with_cycles(0).init::<Linear>().is_err());
        assert!(SnapshotsConfig::new(4).with_cycles(5).init::<Linear>().is_err());
        assert!(SnapshotsConfig::new(4).with_peak(f64::NAN).init::<Linear>().is_err());
    }
}
