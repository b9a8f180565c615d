//! Every schedule of the registry inside burn-train's Learner, for a whole model and by parameter group: the rates that
//! it uses are those of the pure function of the step, and so are the weights that it comes to.

use crate::net::{classified, data};
use crate::places::{ROWS, loader};
use burn::lr_scheduler::module_lr_scheduler::{ModuleLearningRate, ModuleLrScheduler};
use burn::module::{Module, ParamGroup};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use burn::train::metric::LossMetric;
use burn::train::{
    ClassificationOutput, InferenceStep, Learner, SupervisedTraining, TrainOutput, TrainStep,
};
use firebrick::optim::SgdConfig;
use firebrick::optim::schedule::{
    NamedSchedule, PlateauScheduler, SCHEDULES, ScheduleCard, Scheduler,
};
use firebrick::prelude::*;
use firebrick::stabilize::{Scheme, initialize};
use std::sync::{Arc, Mutex};

const BATCH: usize = 8;
pub(crate) const STEPS: usize = ROWS / BATCH;

/// The loss that the plateau is told after every update: it falls, and from the fifth on it stays.
fn metric(step: usize) -> f64 {
    1.0 / (1.0 + step.min(4) as f64)
}

fn named(card: &ScheduleCard) -> NamedSchedule {
    let mut config = (card.example)();
    match card.name {
        "multi_step" => config["milestones"] = vec![5, 12].into(),
        "plateau" => config["patience"] = 3.into(),
        "step" => config["step_size"] = 6.into(),
        _ => {}
    }
    card.build(&config).expect("the example is valid")
}

/// The rates of the pure function, or of the plateau that is told the metric.
fn rates(card: &ScheduleCard) -> Vec<f64> {
    match named(card) {
        NamedSchedule::Function(schedule) => (0..STEPS as u64).map(|k| schedule.rate(k)).collect(),
        NamedSchedule::Plateau(mut plateau) => {
            let first = plateau.rate();
            let later = (0..STEPS - 1).map(|step| plateau.observe(metric(step)));
            std::iter::once(first).chain(later).collect()
        }
    }
}

/// One layer a schedule, each of which sees all features.
#[derive(Module, Debug)]
pub(crate) struct Layers {
    layers: Vec<Linear>,
    #[module(skip)]
    plateaus: Vec<PlateauScheduler>,
    /// The rate of each layer at each update.
    #[module(skip)]
    used: Arc<Mutex<Vec<Vec<f64>>>>,
}

impl Layers {
    pub(crate) fn new(count: usize, plateaus: Vec<PlateauScheduler>, device: &Device) -> Self {
        let layers = (0..count).map(|_| LinearConfig::new(8, 3).with_bias(false).init(device));
        let model = Self { layers: layers.collect(), plateaus, used: Arc::default() };
        initialize(model, Scheme::KaimingNormal, Seed(5))
    }

    pub(crate) fn weights(&self) -> Vec<f32> {
        let read = |layer: &Linear| layer.weight.val().try_to_vec_as::<f32>().expect("reads");
        self.layers.iter().flat_map(read).collect()
    }

    fn output(&self, batch: Labelled<2>) -> ClassificationOutput {
        let outputs = self.layers.iter().map(|layer| layer.forward(batch.inputs.clone()));
        let output = outputs.reduce(|sum: Tensor<2>, next| sum + next).expect("a layer");
        classified(output, batch.targets)
    }

    fn rates(&self, rate: &ModuleLearningRate) -> Vec<f64> {
        let of = |(k, layer): (usize, &Linear)| {
            rate.lr_from_param(layer.weight.id, Some(&format!("layers.{k}.weight")))
        };
        self.layers.iter().enumerate().map(of).collect()
    }
}

impl TrainStep for Layers {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> TrainOutput<ClassificationOutput> {
        let output = self.output(batch);
        TrainOutput::new(self, output.loss.clone().backward(), output)
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        let used = self.rates(&rate);
        let model = optimizer.step(rate, self, gradients);
        let mut all = model.used.lock().expect("one thread trains");
        for plateau in &model.plateaus {
            plateau.observe(metric(all.len()));
        }
        all.push(used);
        drop(all);
        model
    }
}

impl InferenceStep for Layers {
    type Input = Labelled<2>;
    type Output = ClassificationOutput;

    fn step(&self, batch: Labelled<2>) -> ClassificationOutput {
        self.output(batch)
    }
}

fn optimizer() -> ModuleOptimizer {
    SgdConfig::new().init().expect("valid")
}

/// The rates that the Learner used, update by update, and the weights at the end.
pub(crate) fn learned(
    model: Layers,
    optimizer: ModuleOptimizer,
    rates: ModuleLrScheduler,
) -> (Vec<Vec<f64>>, Vec<f32>) {
    let (device, folder) =
        (Device::flex().autodiff(), tempfile::tempdir().expect("a folder for the run"));
    let used = model.used.clone();
    let (train, valid) = (loader(BATCH, &device), loader(ROWS, &Device::flex()));
    let result = SupervisedTraining::new(folder.path(), train, valid)
        .metrics((LossMetric::new(),))
        .num_epochs(1)
        .with_application_logger(None)
        .launch(Learner::new(model, optimizer, rates));
    assert!(result.error.is_none());
    let used = used.lock().expect("training is over").clone();
    (used, result.model.weights())
}

/// The weights after the same updates in a loop written by hand.
pub(crate) fn by_hand(
    mut model: Layers,
    mut optimizer: ModuleOptimizer,
    rates: &[f64],
) -> Vec<f32> {
    let data = data(ROWS, &Device::flex().autodiff());
    for (step, rate) in rates.iter().enumerate() {
        let rows: Vec<u32> = (step * BATCH..(step + 1) * BATCH).map(|row| row as u32).collect();
        let loss = model.output(data.select(&rows)).loss;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(*rate, model, gradients);
    }
    model.weights()
}

/// What burn takes, and the plateau to be told the metric, if it is one.
fn scheduler(card: &ScheduleCard) -> Result<Scheduler, PlateauScheduler> {
    match named(card) {
        NamedSchedule::Function(schedule) => Ok(Scheduler::new(schedule)),
        NamedSchedule::Plateau(plateau) => Err(plateau.into()),
    }
}

#[test]
fn the_learner_uses_the_rates_of_the_function() {
    for card in SCHEDULES {
        let device = Device::flex().autodiff();
        let (rates, plateaus) = match scheduler(card) {
            Ok(schedule) => (ModuleLrScheduler::new(schedule), Vec::new()),
            Err(plateau) => (ModuleLrScheduler::new(plateau.clone()), vec![plateau]),
        };
        let (used, weights) = learned(Layers::new(1, plateaus, &device), optimizer(), rates);
        let expected = self::rates(card);
        assert_eq!(used.concat(), expected, "{}", card.name);
        let by_hand = by_hand(Layers::new(1, Vec::new(), &device), optimizer(), &expected);
        assert_eq!(weights, by_hand, "{}: same rates, same bits", card.name);
        let varies = expected.iter().any(|rate| *rate != expected[0]);
        assert_eq!(varies, card.name != "constant", "{} in {STEPS} updates", card.name);
    }
}

#[test]
fn each_parameter_group_has_its_own_schedule() {
    let device = Device::flex().autodiff();
    let (mut groups, mut plateaus) = (ModuleLrScheduler::new(7.0), Vec::new());
    for (k, card) in SCHEDULES.iter().enumerate() {
        let layer = ParamGroup::from_regex(format!(r"^layers\.{k}\.")).expect("a regex");
        groups = match scheduler(card) {
            Ok(schedule) => groups.with_group(layer, schedule),
            Err(plateau) => {
                plateaus.push(plateau.clone());
                groups.with_group(layer, plateau)
            }
        };
    }
    let (used, _) = learned(Layers::new(SCHEDULES.len(), plateaus, &device), optimizer(), groups);
    assert_eq!(used.len(), STEPS);
    for (k, card) in SCHEDULES.iter().enumerate() {
        let of_layer: Vec<f64> = used.iter().map(|rates| rates[k]).collect();
        assert_eq!(of_layer, rates(card), "{}", card.name);
    }
}
