//! One repetition under one shift: a source model, the target's images, and what each recipe makes of them.

use crate::data::{CLASSES, Images, PIXELS, Parts, SIDE};
use crate::net::{Net, Upper};
use crate::shift::Shift;
use crate::train::{Pace, Training};
use burn::module::Module;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick::prelude::{Labelled, Seed};
use firebrick::transfer::advise::Tuning;
use firebrick::transfer::probe::{Head, LogisticConfig, LogisticProbe, cache};
use firebrick::transfer::score::{Features, Labels};
use firebrick::transfer::{Groups, Recipe, TransferError};
use std::collections::BTreeMap;

/// Steps and batch of the source's training.
const SOURCE: Pace = Pace { steps: 900, batch: 64, rate: 1e-3 };

/// How a recipe is run: everything but the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Setting {
    pub(crate) tuning: Tuning,
    /// Of the optimizer; for the head alone the penalty of the logistic probe.
    pub(crate) rate: f64,
    /// Optimizer steps; none for the head alone.
    pub(crate) steps: usize,
    /// Images in a step.
    pub(crate) batch: usize,
    /// The head's rate over that of the layers below, where only the head is fresh.
    pub(crate) head: f64,
    /// Penalty of the probe that comes first in probe-then-all.
    pub(crate) probe: f64,
}

/// What a recipe is judged on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Judge<'a> {
    /// Rows of the pool.
    Pool(&'a [u32]),
    /// The test images.
    Test,
}

/// The source model of a repetition.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) net: Net,
    /// Accuracy on images of its own kind that it has not seen.
    pub(crate) accuracy: f64,
    images: Images,
}

/// What both sources need.
#[derive(Debug)]
pub(crate) struct Library {
    pub(crate) mnist: Images,
    pub(crate) digits: Images,
    pub(crate) device: Device,
}

impl Library {
    pub(crate) fn new() -> Result<Self, String> {
        let device = Device::flex().autodiff();
        Ok(Self { mnist: Images::mnist()?, digits: Images::digits()?, device })
    }

    /// Trains the source model of a repetition; `steps` is 900 but for a quick look.
    pub(crate) fn source(
        &self,
        shift: Shift,
        seed: Seed,
        steps: usize,
    ) -> Result<Source, TransferError> {
        let parts = Parts::new(&self.mnist.labels, seed);
        let (images, held) = if shift == Shift::OtherDigits {
            let mut rows: Vec<u32> = (0..self.digits.len() as u32).collect();
            seed.stream("digits").shuffle(&mut rows);
            (self.digits.select(&rows[297..]), self.digits.select(&rows[..297]))
        } else {
            (self.mnist.select(&parts.source), self.mnist.select(&parts.test))
        };
        let net = Net::new(seed.child(1), &self.device);
        let pace = Pace { steps, ..SOURCE };
        let training =
            Training { recipe: Recipe::Scratch, fresh_head: false, pace, seed: seed.child(2) };
        let (net, accuracy) = training.run(net, &self.labelled(&images), &self.labelled(&held))?;
        Ok(Source { net: net.train(), accuracy, images })
    }

    fn labelled(&self, images: &Images) -> Labelled<4> {
        let shape = [images.len(), 1, SIDE, SIDE];
        let labels: Vec<i64> = images.labels.iter().map(|label| i64::from(*label)).collect();
        Labelled {
            inputs: Tensor::from_data(TensorData::new(images.pixels.clone(), shape), &self.device),
            targets: Tensor::<1, Int>::from_data(labels.as_slice(), &self.device),
        }
    }
}

/// A source model before a target.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    device: &'a Device,
    source: &'a Net,
    pool: Labelled<4>,
    test: Labelled<4>,
    /// Maps of the source's stem, computed once: a frozen layer costs no step anything.
    pool_maps: Labelled<4>,
    test_maps: Labelled<4>,
    /// Class of each image of the pool.
    pub(crate) labels: Vec<u32>,
    test_labels: Vec<u32>,
    pub(crate) pool_features: Features,
    test_features: Features,
    /// The images of the pool as they are.
    pub(crate) raw: Features,
    /// Features of the pool under a copy with fresh weights.
    pub(crate) fresh: Features,
    /// Features of source images.
    pub(crate) source_features: Features,
    /// The source head's probabilities on the pool.
    pub(crate) probabilities: Features,
    /// Parameters that each recipe trains.
    pub(crate) trainable: BTreeMap<Tuning, usize>,
}

/// Parameters that each recipe trains in its last phase.
fn trainable(net: &Net) -> Result<BTreeMap<Tuning, usize>, TransferError> {
    let groups = Groups::propose(net)?;
    let of = |tuning: Tuning| {
        let recipe = tuning.recipe(&groups);
        let phases = recipe.phases(&groups, net, 1, recipe.rate())?;
        let last = phases.last().map(|phase| phase.plan.table(net)).transpose()?;
        Ok((tuning, last.map_or(0, |table| table.trainable())))
    };
    Tuning::ALL.into_iter().map(of).collect()
}

impl<'a> Scene<'a> {
    pub(crate) fn new(
        library: &'a Library,
        source: &'a Source,
        shift: Shift,
        seed: Seed,
    ) -> Result<Self, TransferError> {
        let parts = Parts::new(&library.mnist.labels, seed);
        let images =
            |rows: &[u32]| shift.apply(&library.mnist.select(rows)).relabelled(&parts.names);
        let (pool_images, test_images) = (images(&parts.pool), images(&parts.test));
        let (pool, test) = (library.labelled(&pool_images), library.labelled(&test_images));
        let net = source.net.valid();
        let plain = |data: &Labelled<4>| data.on_plain_device().inputs;
        let features = |net: &Net, inputs| cache(inputs, 250, |x| net.features(x));
        let maps = |data: &Labelled<4>| Labelled {
            inputs: Tensor::from_data(net.stem.forward(plain(data)).into_data(), &library.device),
            targets: data.targets.clone(),
        };
        let fresh = Net::new(seed.child(3), &library.device).valid();
        let probabilities = cache(plain(&pool), 250, |x| softmax(net.logits(x), 1))?;
        let rows: Vec<u32> = (0..500).collect();
        let own = library.labelled(&source.images.select(&rows));
        Ok(Self {
            pool_features: features(&net, plain(&pool))?,
            test_features: features(&net, plain(&test))?,
            source_features: features(&net, plain(&own))?,
            fresh: features(&fresh, plain(&pool))?,
            raw: Features::from_f32(&pool_images.pixels, PIXELS)?,
            pool_maps: maps(&pool),
            test_maps: maps(&test),
            probabilities,
            trainable: trainable(&source.net)?,
            labels: pool_images.labels,
            test_labels: test_images.labels,
            device: &library.device,
            source: &source.net,
            pool,
            test,
        })
    }

    /// Runs a recipe on rows of the pool; the share of the judged images that is right.
    pub(crate) fn run(
        &self,
        setting: Setting,
        rows: &[u32],
        judge: Judge<'_>,
        seed: Seed,
    ) -> Result<f64, TransferError> {
        let Setting { steps, batch, rate, head, .. } = setting;
        let part = |pool: &Labelled<4>, test: &Labelled<4>| match judge {
            Judge::Pool(rows) => pool.select(rows),
            Judge::Test => test.clone(),
        };
        let (pool, test) = (&self.pool, &self.test);
        let training = |recipe, fresh_head| {
            let pace = Pace { steps, batch, rate };
            Training { recipe, fresh_head, pace, seed }
        };
        let all = |training: Training, net: Net| {
            training.run(net, &pool.select(rows), &part(pool, test)).map(|(_, right)| right)
        };
        let source = || self.source.clone();
        match setting.tuning {
            Tuning::HeadOnly => {
                let (features, labels) = match judge {
                    Judge::Pool(rows) => (self.pool_features.select(rows)?, self.classes(rows)),
                    Judge::Test => (self.test_features.clone(), self.test_labels.clone()),
                };
                Ok(self.probe(rows, rate)?.accuracy(&features, &labels)?)
            }
            Tuning::FreezeFirst => {
                // All that trains, on maps of the frozen layer that were computed once.
                let Net { body, head: last, .. } = source();
                let (maps, judged) = (&self.pool_maps, part(&self.pool_maps, &self.test_maps));
                let training = training(Recipe::Full { head_rate: head }, true);
                let trained = training.run(Upper { body, head: last }, &maps.select(rows), &judged);
                trained.map(|(_, right)| right)
            }
            Tuning::Full => all(training(Recipe::Full { head_rate: head }, true), source()),
            Tuning::LpFt => {
                let mut net = source();
                net.head = self.probe(rows, setting.probe)?.linear(CLASSES, self.device)?;
                all(training(Recipe::Full { head_rate: 1.0 }, false), net)
            }
            Tuning::Scratch => all(training(Recipe::Scratch, false), source()),
        }
    }

    /// The classes of rows of the pool.
    pub(crate) fn classes(&self, rows: &[u32]) -> Vec<u32> {
        rows.iter().map(|&row| self.labels[row as usize]).collect()
    }

    /// The linear head on the source's features: logistic regression to its end.
    fn probe(&self, rows: &[u32], l2: f64) -> Result<Head, TransferError> {
        let labels = Labels::of_classes(&self.classes(rows), CLASSES)?;
        let config = LogisticConfig { l2, tolerance: 1e-5, ..Default::default() };
        Ok(LogisticProbe::fit(&self.pool_features.select(rows)?, &labels, &config)?.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_recipe_trains_as_many_parameters_as_its_layers_have() {
        let counts = trainable(&Net::new(Seed(1), &Device::flex().autodiff())).expect("fits");
        let (stem, head) = (9 * 16 + 16, 64 * 10 + 10);
        let all = stem + (16 * 9 * 32 + 32) + (288 * 64 + 64) + head;
        assert_eq!(all, 23_946);
        let counts = Tuning::ALL.map(|tuning| counts[&tuning]);
        assert_eq!(counts, [head, all - stem, all, all, all]);
    }
}
