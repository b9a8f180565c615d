//! One repetition under one shift: a source model, the target's images, and what each recipe makes of them.

use crate::data::{CLASSES, Images, PIXELS, Parts, SIDE};
use crate::net::{Classifier, FEATURES, Net};
use crate::shift::Shift;
use crate::train::{Pace, accuracy, fit};
use burn::module::{Module, Param};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use firebrick::prelude::{Labelled, Seed};
use firebrick::transfer::TransferError;
use firebrick::transfer::advise::Tuning;
use firebrick::transfer::probe::{Head, LogisticConfig, LogisticProbe, cache};
use firebrick::transfer::score::{Features, Labels};

/// Steps and batch of the source's training.
const SOURCE: Pace = Pace { steps: 900, batch: 64, rate: 1e-3, head: 1.0 };

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
    pub(crate) fn source(&self, shift: Shift, seed: Seed, steps: usize) -> Result<Source, String> {
        let parts = Parts::new(&self.mnist.labels, seed);
        let (images, held) = if shift == Shift::OtherDigits {
            let mut rows: Vec<u32> = (0..self.digits.len() as u32).collect();
            seed.stream("digits").shuffle(&mut rows);
            (self.digits.select(&rows[297..]), self.digits.select(&rows[..297]))
        } else {
            (self.mnist.select(&parts.source), self.mnist.select(&parts.test))
        };
        let net = Net::new(seed.child(1), &self.device);
        let data = self.labelled(&images);
        let net = fit(net, &data, Pace { steps, ..SOURCE }, seed.child(2))?;
        let accuracy = accuracy(&net, &self.labelled(&held))?;
        Ok(Source { net, accuracy, images })
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
    seed: Seed,
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
        let features =
            |net: &Net, inputs| cache(inputs, 250, |x| net.upper.features(net.stem.forward(x)));
        let maps = |data: &Labelled<4>| Labelled {
            inputs: Tensor::from_data(net.stem.forward(plain(data)).into_data(), &library.device),
            targets: data.targets.clone(),
        };
        let fresh = Net::new(seed.child(3), &library.device).valid();
        let probabilities =
            cache(plain(&pool), 250, |x| softmax(net.upper.logits(net.stem.forward(x)), 1))?;
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
            labels: pool_images.labels,
            test_labels: test_images.labels,
            device: &library.device,
            source: &source.net,
            seed,
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
    ) -> Result<f64, String> {
        let Setting { steps, batch, rate, .. } = setting;
        let pace = |head: f64| Pace { steps, batch, rate, head };
        let part = |pool: &Labelled<4>, test: &Labelled<4>| match judge {
            Judge::Pool(rows) => pool.select(rows),
            Judge::Test => test.clone(),
        };
        let fresh_head = |net: Net| net.with_head(seed.child(1), self.device);
        match setting.tuning {
            Tuning::HeadOnly => {
                let probe = self.probe(rows, setting.rate)?;
                let own = |rows: &[u32]| rows.iter().map(|&r| self.labels[r as usize]).collect();
                let (features, labels): (_, Vec<u32>) = match judge {
                    Judge::Pool(rows) => (self.pool_features.select(rows), own(rows)),
                    Judge::Test => (Ok(self.test_features.clone()), self.test_labels.clone()),
                };
                let features = features.map_err(|error| error.to_string())?;
                probe.accuracy(&features, &labels).map_err(|error| error.to_string())
            }
            Tuning::FreezeFirst => {
                let upper = fresh_head(self.source.clone()).upper;
                let upper = fit(upper, &self.pool_maps.select(rows), pace(setting.head), seed)?;
                accuracy(&upper, &part(&self.pool_maps, &self.test_maps))
            }
            Tuning::Full => {
                let net = fresh_head(self.source.clone());
                let net = fit(net, &self.pool.select(rows), pace(setting.head), seed)?;
                accuracy(&net, &part(&self.pool, &self.test))
            }
            Tuning::LpFt => {
                let head = self.probe(rows, setting.probe)?;
                let net = self.with_probe(&head);
                let net = fit(net, &self.pool.select(rows), pace(1.0), seed)?;
                accuracy(&net, &part(&self.pool, &self.test))
            }
            Tuning::Scratch => {
                let net = Net::new(self.seed.child(4), self.device);
                let net = fit(net, &self.pool.select(rows), pace(1.0), seed)?;
                accuracy(&net, &part(&self.pool, &self.test))
            }
        }
    }

    fn probe(&self, rows: &[u32], l2: f64) -> Result<Head, String> {
        let labels: Vec<u32> = rows.iter().map(|&row| self.labels[row as usize]).collect();
        let fit = || {
            let features = self.pool_features.select(rows)?;
            let config = LogisticConfig { l2, tolerance: 1e-5, ..Default::default() };
            LogisticProbe::fit(&features, &Labels::of_classes(&labels, CLASSES)?, &config)
        };
        fit().map(|probe| probe.head).map_err(|error| error.to_string())
    }

    /// The source with the probe as its head; classes without samples get no output of their own.
    fn with_probe(&self, head: &Head) -> Net {
        let mut net = self.source.clone();
        let (mut weights, mut bias) = (vec![0.0f32; FEATURES * CLASSES], vec![-20.0f32; CLASSES]);
        let width = head.names.len();
        for (at, &class) in head.names.iter().enumerate() {
            bias[class as usize] = head.bias[at] as f32;
            for k in 0..FEATURES {
                weights[k * CLASSES + class as usize] = head.weights[k * width + at] as f32;
            }
        }
        let weights = TensorData::new(weights, [FEATURES, CLASSES]);
        net.upper.head.weight = Param::from_data(weights, self.device);
        net.upper.head.bias = Some(Param::from_data(bias.as_slice(), self.device));
        net
    }
}
