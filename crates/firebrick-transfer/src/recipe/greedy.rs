//! Greedy pre-training of the hidden layers without labels, then fine-tuning by a recipe.

use super::{Phase, Tune, Tuned};
use crate::TransferError;
use crate::group::{Mode, listed, places};
use burn::nn::Linear;
use burn::nn::activation::Activation;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;
use firebrick_regularize::Penalty;
use firebrick_stabilize::Guard;
use firebrick_train::{LayerFit, Learn, Pretraining, Source, TrainError, pretrain};

/// The child of the run's seed that the pre-training has: the phases count from 0, and the last is the fresh head's.
const CHILD: u64 = u64::MAX - 1;

/// A model whose hidden layers stand one upon the other, so that they can be pre-trained one after another.
pub trait Stacked: Learn {
    /// What the first hidden layer sees of a batch, `[samples, features]`.
    fn inputs(&self, batch: Self::Batch) -> Tensor<2>;

    /// The hidden layers, from the input on: clones of the model's own, without the head.
    fn hidden(&self) -> Vec<Linear>;

    /// What stands behind each of them.
    fn activation(&self) -> Activation;

    /// The model with other hidden layers, as many and of the same shapes.
    #[must_use]
    fn with_hidden(self, layers: Vec<Linear>) -> Self;
}

/// What pre-training and fine-tuning give back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Greedy<M> {
    /// How the pre-training of each hidden layer went.
    pub layers: Vec<LayerFit>,
    /// The fine-tuning.
    pub tuned: Tuned<M>,
}

impl<G: Guard + Clone, P: Penalty + Clone> Tune<G, P> {
    /// Pre-trains the hidden layers one after another on samples whose labels are not looked at, then runs the recipe
    /// from there.
    ///
    /// A resumed run does the pre-training once more, to the same weights, and then goes on where it was; with another
    /// `how` or other unlabelled data it is refused.
    ///
    /// Whether it helps is to be measured against [`run`](Self::run): as a rule it does with deep sigmoid nets and few
    /// labels, and does not with ReLU.
    ///
    /// # Errors
    /// Before any work as [`run`](Self::run), for a Boltzmann machine under another activation than the sigmoid, when a
    /// hidden layer is no part of the model, and for a recipe that draws one anew; then when there is no unlabelled
    /// sample or one is not finite, and as `firebrick_train::pretrain` and [`run`](Self::run).
    ///
    /// ```
    /// use burn::module::Module;
    /// use burn::nn::activation::Activation;
    /// use burn::nn::{Linear, LinearConfig, Sigmoid, loss::CrossEntropyLossConfig};
    /// use burn::tensor::{Device, Tensor, TensorReadError, activation::sigmoid};
    /// use firebrick_core::Seed;
    /// use firebrick_optim::AdamWConfig;
    /// use firebrick_train::{DenoiseConfig, Labelled, Learn, Pretraining, Score, TensorBatches};
    /// use firebrick_transfer::{Recipe, Stacked, Tune};
    ///
    /// #[derive(Module, Debug)]
    /// struct Net {
    ///     hidden: Vec<Linear>,
    ///     head: Linear,
    /// }
    ///
    /// impl Net {
    ///     fn logits(&self, inputs: Tensor<2>) -> Tensor<2> {
    ///         let top = self.hidden.iter().fold(inputs, |x, layer| sigmoid(layer.forward(x)));
    ///         self.head.forward(top)
    ///     }
    /// }
    ///
    /// impl Learn for Net {
    ///     type Batch = Labelled<2>;
    ///
    ///     fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
    ///         let logits = self.logits(batch.inputs);
    ///         CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
    ///     }
    ///
    ///     fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
    ///         Score::classification(self.logits(batch.inputs), batch.targets)
    ///     }
    /// }
    ///
    /// impl Stacked for Net {
    ///     fn inputs(&self, batch: Labelled<2>) -> Tensor<2> {
    ///         batch.inputs
    ///     }
    ///
    ///     fn hidden(&self) -> Vec<Linear> {
    ///         self.hidden.clone()
    ///     }
    ///
    ///     fn activation(&self) -> Activation {
    ///         Sigmoid::new().into()
    ///     }
    ///
    ///     fn with_hidden(mut self, layers: Vec<Linear>) -> Self {
    ///         self.hidden = layers;
    ///         self
    ///     }
    /// }
    ///
    /// let device = Device::flex().autodiff();
    /// let batches = |rows: Tensor<2>, classes: Tensor<1, burn::tensor::Int>| {
    ///     TensorBatches::new(Labelled { inputs: rows, targets: classes }, 2, Seed(1))
    /// };
    /// // The classes of these are not looked at.
    /// let rows = [[0., 0., 1., 1.], [1., 1., 0., 0.], [0., 0., 1., 0.], [1., 0., 0., 0.]];
    /// let unlabelled = batches(Tensor::from_floats(rows, &device), Tensor::zeros([4], &device))?;
    /// let few = Tensor::from_floats([[0., 0., 1., 1.], [1., 1., 0., 0.]], &device);
    /// let train = batches(few, Tensor::from_ints([0, 1], &device))?;
    /// let net = Net {
    ///     hidden: vec![LinearConfig::new(4, 6).init(&device), LinearConfig::new(6, 5).init(&device)],
    ///     head: LinearConfig::new(5, 2).init(&device),
    /// };
    ///
    /// let how = Pretraining::Denoise(DenoiseConfig::new().with_epochs(20));
    /// let done = Tune::new(Recipe::full(), 100, AdamWConfig::new().build()?)
    ///     .rate(1e-2)
    ///     .run_greedy(net, &how, &unlabelled, &train, None)?;
    /// assert!(done.layers.iter().all(|fit| fit.errors.last() < fit.errors.first()));
    /// assert_eq!(done.tuned.train.error(), 0.0);
    /// # Ok::<(), firebrick_transfer::TransferError>(())
    /// ```
    pub fn run_greedy<M: Stacked<Batch = S::Batch>, S: Source>(
        &self,
        model: M,
        how: &Pretraining,
        unlabelled: &impl Source<Batch = S::Batch>,
        train: &S,
        validation: Option<&S>,
    ) -> Result<Greedy<M>, TransferError> {
        let phases = self.possible(&model, train.length())?;
        let layers = self.stack(&model, how, &phases)?;
        let mut tune = self.clone();
        let (count, data) = (layers.len(), unlabelled.fingerprint());
        tune.before = Some(format!("{how:?} of {count} layers on data {data:016x}"));
        // Not only when the recipe begins: the pre-training may take long.
        tune.unclaimed(&phases)?;
        let inputs = gathered(&model, unlabelled)?;
        let done = pretrain(layers, &model.activation(), inputs, how, self.seed.child(CHILD))?;
        let tuned = tune.run(model.with_hidden(done.layers), train, validation)?;
        Ok(Greedy { layers: done.fits, tuned })
    }

    /// The hidden layers, of which the pre-training can make something that the recipe goes on from.
    fn stack<M: Stacked>(
        &self,
        model: &M,
        how: &Pretraining,
        phases: &[Phase],
    ) -> Result<Vec<Linear>, TransferError> {
        let sigmoid = matches!(model.activation(), Activation::Sigmoid(_));
        if matches!(how, Pretraining::Rbm(_)) && !sigmoid {
            let expected = "the sigmoid: the units of a Boltzmann machine have no other";
            return Err(ConfigError::new("activation", "another one", expected).into());
        }
        let (layers, places) = (model.hidden(), places(model));
        for (depth, layer) in layers.iter().enumerate() {
            let bias = layer.bias.as_ref().map(|bias| bias.id);
            for id in std::iter::once(layer.weight.id).chain(bias) {
                let Some(place) = places.iter().find(|place| place.id == id) else {
                    return Err(TransferError::NoSuchParameter {
                        path: format!("hidden layer {depth}"),
                        known: listed(places.iter().map(|place| place.path.as_str())),
                    });
                };
                self.keeps(&place.path, phases)?;
            }
        }
        Ok(layers)
    }

    /// Refuses phases that draw the parameter at `path` anew.
    fn keeps(&self, path: &str, phases: &[Phase]) -> Result<(), TransferError> {
        for (index, phase) in phases.iter().enumerate() {
            let groups = phase.plan.groups();
            let Some(group) = groups.group_of(path) else { continue };
            let expected = || format!("one that keeps the pre-trained `{path}`");
            if phase.plan.in_mode(Mode::Reinitialised).contains(&group) {
                let drawn = format!("{}, which draws group `{group}` anew", self.recipe);
                return Err(ConfigError::new("recipe", drawn, expected()).into());
            }
            if index == 0 && self.fresh_head && group == groups.head() {
                let drawn = format!("a fresh head, which draws group `{group}` anew");
                return Err(ConfigError::new("recipe", drawn, expected()).into());
            }
        }
        Ok(())
    }
}

/// The inputs of all samples, on the device without autodiff.
fn gathered<M: Stacked<Batch = S::Batch>, S: Source>(
    model: &M,
    source: &S,
) -> Result<Tensor<2>, TransferError> {
    let model = model.valid();
    let mut parts = Vec::new();
    for batch in source.read_whole() {
        let part = model.inputs(batch.map_err(TrainError::Data)?).inner();
        if part.dims()[0] > 0 {
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return Err(TransferError::Data { reason: "there is no unlabelled sample".into() });
    }
    let inputs: Tensor<2> = Tensor::cat(parts, 0);
    let sum: f64 = inputs.clone().sum().try_into_scalar()?;
    if !sum.is_finite() {
        let what = "the sum of the unlabelled inputs".into();
        return Err(TransferError::NotFinite { what, value: sum });
    }
    Ok(inputs)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{bits, cross_entropy, data, device};
    use crate::{Groups, Recipe};
    use burn::module::Module;
    use burn::nn::{LinearConfig, Relu, Sigmoid};
    use burn::tensor::{TensorReadError, activation::sigmoid};
    use firebrick_core::Seed;
    use firebrick_optim::AdamWConfig;
    use firebrick_stabilize::{Scheme, initialize};
    use firebrick_train::{
        Batches, CheckpointConfig, DenoiseConfig, Labelled, Outcome, RbmConfig, Score,
        TensorBatches,
    };
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    /// Two hidden layers and a head.
    #[derive(Module, Debug)]
    struct Deep {
        hidden: Vec<Linear>,
        activation: Activation,
        head: Linear,
        /// Shows layers that are not its own.
        #[module(skip)]
        foreign: bool,
    }

    impl Deep {
        fn logits(&self, inputs: Tensor<2>) -> Tensor<2> {
            let layer = |x: Tensor<2>, layer: &Linear| self.activation.forward(layer.forward(x));
            self.head.forward(self.hidden.iter().fold(inputs, layer))
        }
    }

    impl Learn for Deep {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            cross_entropy(self.logits(batch.inputs), batch.targets)
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.logits(batch.inputs), batch.targets)
        }
    }

    impl Stacked for Deep {
        fn inputs(&self, batch: Labelled<2>) -> Tensor<2> {
            batch.inputs
        }

        fn hidden(&self) -> Vec<Linear> {
            if self.foreign { layers() } else { self.hidden.clone() }
        }

        fn activation(&self) -> Activation {
            self.activation.clone()
        }

        fn with_hidden(mut self, layers: Vec<Linear>) -> Self {
            self.hidden = layers;
            self
        }
    }

    fn layers() -> Vec<Linear> {
        vec![LinearConfig::new(2, 5).init(&device()), LinearConfig::new(5, 4).init(&device())]
    }

    fn deep(activation: Activation, foreign: bool) -> Deep {
        let head = LinearConfig::new(4, 2).init(&device());
        let net = Deep { hidden: layers(), activation, head, foreign };
        initialize(net, Scheme::XavierUniform, Seed(4))
    }

    fn net() -> Deep {
        deep(Sigmoid::new().into(), false)
    }

    fn tune(recipe: Recipe) -> Tune {
        Tune::new(recipe, 2, AdamWConfig::new().build().expect("valid")).seed(Seed(5))
    }

    fn denoise(epochs: usize) -> Pretraining {
        Pretraining::Denoise(DenoiseConfig::new().with_epochs(epochs))
    }

    #[test]
    fn it_is_the_pre_training_and_the_recipe_to_the_bit() {
        let (train, rows) = (data(&device(), 1.0), data(&device(), 0.5).data().clone());
        for how in [denoise(3), Pretraining::Rbm(RbmConfig::new().with_epochs(3))] {
            let mut rows = rows.clone();
            if matches!(how, Pretraining::Rbm(_)) {
                // Its units take probabilities.
                rows.inputs = sigmoid(rows.inputs);
            }
            let unlabelled = TensorBatches::new(rows, 7, Seed(5)).expect("valid");
            for recipe in [Recipe::full(), Recipe::lp_ft()] {
                let (net, tune) = (net(), tune(recipe));
                let before = bits(&net);
                let greedy = tune.run_greedy(net.clone(), &how, &unlabelled, &train, Some(&train));
                let greedy = greedy.expect("trains");
                let inputs = unlabelled.data().inputs.clone();
                let seed = Seed(5).child(u64::MAX - 1);
                let done = pretrain(net.hidden(), &net.activation(), inputs, &how, seed);
                let done = done.expect("trains");
                assert_eq!(greedy.layers, done.fits);
                assert_eq!((greedy.layers.len(), greedy.layers[0].errors.len()), (2, 4));
                let by_hand = tune.run(net.clone().with_hidden(done.layers), &train, Some(&train));
                let by_hand = by_hand.expect("trains");
                assert_eq!(bits(&greedy.tuned.model), bits(&by_hand.model));
                assert_eq!(greedy.tuned.train, by_hand.train);
                let without = tune.run(net.clone(), &train, Some(&train)).expect("trains");
                assert_ne!(bits(&greedy.tuned.model), bits(&without.model));
                assert_eq!(bits(&net), before, "the model that was given is as it was");
            }
        }
    }

    #[test]
    fn a_resumed_run_is_the_whole_one_and_other_pre_training_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = CheckpointConfig::new(folder.path().to_owned()).with_resume(true);
        let (train, unlabelled) = (data(&device(), 1.0), data(&device(), 0.5));
        let run =
            |tune: Tune, how: &Pretraining| tune.run_greedy(net(), how, &unlabelled, &train, None);
        let saved = || tune(Recipe::full()).checkpoints(config.clone());
        let whole = run(tune(Recipe::full()), &denoise(3)).expect("trains");
        let cut = saved().interrupt(Arc::new(AtomicBool::new(true)));
        let cut = run(cut, &denoise(3)).expect("trains");
        assert_eq!(cut.tuned.outcome, Outcome::Interrupted);
        let refused = run(saved(), &denoise(4)).expect_err("refused").to_string();
        assert!(refused.contains("pre-training was") && refused.contains("epochs: 4"), "{refused}");
        let plain = saved().run(net(), &train, None).expect_err("refused").to_string();
        assert!(plain.contains("pre-training was") && plain.ends_with("is None"), "{plain}");
        let resumed = run(saved(), &denoise(3)).expect("goes on");
        assert_eq!(bits(&resumed.tuned.model), bits(&whole.tuned.model));
        assert_eq!((resumed.layers, resumed.tuned.train), (whole.layers, whole.tuned.train));
    }

    /// A source without a sample.
    struct Nothing;

    impl Batches for Nothing {
        type Batch = Labelled<2>;

        fn epoch(&self, _: usize) -> impl Iterator<Item = Labelled<2>> {
            std::iter::empty::<Labelled<2>>()
        }

        fn batches_per_epoch(&self) -> usize {
            0
        }

        fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
            std::iter::empty::<Labelled<2>>()
        }
    }

    #[test]
    fn what_could_not_last_is_refused_before_any_work() {
        let (train, broken) = (data(&device(), 1.0), data(&device(), f32::NAN));
        // The unlabelled data cannot be used: whoever comes to them has begun.
        let refused = |tune: Tune, net: Deep, how: Pretraining| {
            let error = tune.run_greedy(net, &how, &broken, &train, None);
            error.expect_err("refused").to_string()
        };
        let machine = || Pretraining::Rbm(RbmConfig::new());
        let relu = deep(Relu::new().into(), false);
        assert_eq!(
            refused(tune(Recipe::full()), relu, machine()),
            "`activation` must be the sigmoid: the units of a Boltzmann machine have no other, got another one"
        );
        let foreign = deep(Sigmoid::new().into(), true);
        let text = refused(tune(Recipe::full()), foreign, denoise(1));
        assert!(text.contains("no parameter `hidden layer 0`; it has `hidden.0.weight`"), "{text}");
        let text = refused(tune(Recipe::Scratch), net(), denoise(1));
        assert!(text.contains("got scratch, which draws group `hidden.0` anew"), "{text}");
        let redraw = Recipe::FreezeFirst { k: 1, redraw: true };
        let text = refused(tune(redraw), net(), denoise(1));
        assert!(text.contains("keeps the pre-trained `hidden.1.weight`"), "{text}");
        let groups = Groups::propose(&net()).expect("has groups");
        let top = groups.merge(&["hidden.1", "head"], "top").expect("fine");
        let text = refused(tune(Recipe::full()).groups(top).fresh_head(true), net(), denoise(1));
        assert!(text.contains("got a fresh head, which draws group `top` anew"), "{text}");
        let text = refused(tune(Recipe::LastK { k: 0 }), net(), denoise(1));
        assert!(text.contains("`k`"), "{text}");
        // The data come after.
        let text = refused(tune(Recipe::full()).fresh_head(true), net(), denoise(1));
        assert!(text.contains("the sum of the unlabelled inputs is NaN"), "{text}");
        let none = tune(Recipe::full()).run_greedy(net(), &denoise(1), &Nothing, &train, None);
        let text = none.expect_err("refused").to_string();
        assert!(text.contains("there is no unlabelled sample"), "{text}");
    }
}
