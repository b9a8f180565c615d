//! Running statistics as they were before a step: a forward pass moves them, also that of a step that is not taken.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use firebrick_backend::{PathStack, Role};

/// The running statistics of a model at one moment.
pub(crate) struct Statistics(GradientsParams);

impl Statistics {
    /// Those of now.
    pub(crate) fn of<M: Module>(model: &M) -> Self {
        bring_up_to_date(model);
        let mut gather = Gather { path: PathStack::default(), found: GradientsParams::new() };
        model.visit(&mut gather);
        Self(gather.found)
    }

    /// `model` with these.
    pub(crate) fn restore<M: Module>(self, model: M) -> M {
        // What the last pass left would otherwise be written over what is put here.
        bring_up_to_date(&model);
        model.map(&mut Put(self.0))
    }
}

/// burn keeps what the last pass came to apart until somebody asks.
fn bring_up_to_date<M: Module>(model: &M) {
    drop(model.valid());
}

struct Gather {
    path: PathStack,
    found: GradientsParams,
}

impl ModuleVisitor for Gather {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.path.role(D) == Role::Buffer {
            self.found.register::<D>(param.id, param.val());
        }
    }
}

struct Put(GradientsParams);

impl ModuleMapper for Put {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.remove::<D>(param.id) {
            Some(value) => param.map(|_| value),
            None => param,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::testing::{config, data, weights};
    use crate::{Batches, Fit, Labelled, Learn, Outcome, Score, TensorBatches};
    use burn::module::Module;
    use burn::nn::loss::CrossEntropyLossConfig;
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::optim::SgdConfig;
    use burn::tensor::{Device, Tensor, TensorReadError};
    use firebrick_core::{Seed, names};
    use firebrick_stabilize::{Scheme, initialize};

    #[derive(Module, Debug)]
    struct Normed {
        layer: Linear,
        norm: BatchNorm,
    }

    impl Normed {
        fn forward(&self, inputs: Tensor<2>) -> Tensor<2> {
            self.norm.forward(self.layer.forward(inputs))
        }
    }

    impl Learn for Normed {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            let logits = self.forward(batch.inputs);
            CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, batch.targets)
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            Score::classification(self.forward(batch.inputs), batch.targets)
        }
    }

    /// The usual batches, of which number 2 of each epoch, from 0, is broken, or is not there.
    struct Spoilt {
        batches: TensorBatches<2>,
        broken: bool,
    }

    impl Batches for Spoilt {
        type Batch = Labelled<2>;

        fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<2>> {
            let all = self.batches.epoch(epoch).enumerate();
            all.filter(|(index, _)| *index != 2 || self.broken).map(|(index, mut batch)| {
                if index == 2 {
                    batch.inputs = batch.inputs.mul_scalar(f64::NAN);
                }
                batch
            })
        }

        fn batches_per_epoch(&self) -> usize {
            self.batches.batches_per_epoch() - usize::from(!self.broken)
        }

        fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
            self.batches.whole()
        }
    }

    #[test]
    fn a_broken_batch_leaves_no_trace_in_running_statistics() {
        let device = Device::flex().autodiff();
        let run = |broken: bool| {
            let layer = LinearConfig::new(2, 2).init(&device);
            let model = Normed { layer, norm: BatchNormConfig::new(2).init(&device) };
            let train = Spoilt { batches: data(&device, 1.0), broken };
            Fit::new(config(3), SgdConfig::new().init())
                .rate(|_| 0.5)
                .run(initialize(model, Scheme::LecunNormal, Seed(4)), &train, None)
                .expect("runs")
        };
        let (broken, without) = (run(true), run(false));
        assert_eq!((broken.outcome, broken.steps), (Outcome::Finished, without.steps));
        assert_eq!(broken.history.last(names::SKIPPED), Some(3.0));
        assert_eq!(weights(&broken.model), weights(&without.model));
    }
}
