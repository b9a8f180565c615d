//! One training by hand: the loop that the pieces of a recipe take part in, and what it leaves to predict with.

use crate::model::{Net, as_images};
use crate::pieces::{Pieces, strong, weak};
use crate::recipe::{Method, Piece, Recipe};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use firebrick::core::{ConfigError, Philox, Record};
use firebrick::optim::wrapper::{Ema, EmaConfig, Swa};
use firebrick::prelude::*;
use firebrick::regularize::{
    ImageAugment, MaskSource, PseudoReport, Ramp, RegularizeError, Snapshots, SnapshotsConfig,
    bootstrap_rows, ensemble_probabilities, fixmatch_loss, mean_teacher_loss, model_soup,
    pi_model_loss, pseudo_label_loss, uda_loss,
};
use firebrick::train::Score;
use firebrick_examples::data::Data;

const RATE: f64 = 3e-3;
const BATCH: usize = 32;
/// Rows without labels for each one with.
const RATIO: usize = 3;
/// Confidence from which a prediction counts as a label; UDA's is lower, as its targets are soft.
const THRESHOLD: f64 = 0.95;
const UDA_THRESHOLD: f64 = 0.8;
/// How often the rate of a snapshot ensemble falls, and how many of the last models are used.
const CYCLES: usize = 4;
const LAST: usize = 3;

/// Why a training gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrainingError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Regularize(#[from] RegularizeError),
    #[error("cannot read from the device: {0}")]
    Read(#[from] burn::tensor::TensorReadError),
    #[error("interrupted")]
    Interrupted,
}

/// Rows of one training: with labels, without, and those that judge it.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) labelled: Data,
    /// Their labels are used for the report on pseudo-labels alone.
    pub(crate) unlabelled: Data,
    pub(crate) test: Data,
}

/// What a training came to.
#[derive(Debug)]
pub(crate) struct Trained {
    pub(crate) train: Score,
    pub(crate) test: Score,
    /// Steps, labelled rows that were augmented, and what the predictions on the rows without labels were at the end.
    pub(crate) record: Record,
}

/// Row numbers in shuffled order, again and again.
struct Order {
    rows: Vec<u32>,
    at: usize,
    generator: Philox,
}

impl Order {
    fn new(rows: Vec<u32>, seed: Seed, purpose: &str) -> Self {
        Self { at: rows.len(), rows, generator: seed.stream(purpose) }
    }

    fn next(&mut self, count: usize) -> Vec<u32> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && !self.rows.is_empty() {
            if self.at == self.rows.len() {
                self.generator.shuffle(&mut self.rows);
                self.at = 0;
            }
            taken.push(self.rows[self.at]);
            self.at += 1;
        }
        taken
    }
}

/// Trains `recipe` for `steps` steps; `cancelled` is asked now and then.
pub(crate) fn train(
    recipe: &Recipe,
    rows: &Rows,
    steps: usize,
    seed: Seed,
    device: &Device,
    cancelled: impl Fn() -> bool,
) -> Result<Trained, TrainingError> {
    let scale = rows.labelled.scale();
    let mut run = Run {
        recipe,
        labelled: rows.labelled.tensors(scale, device),
        unlabelled: rows.unlabelled.tensors(scale, device),
        classes: rows.labelled.classes,
        steps,
        device,
        augmented: 0,
    };
    let all = |rows: usize| (0..rows as u32).collect::<Vec<u32>>();
    let several = |piece| match piece {
        Piece::Ensemble(trainings) | Piece::Bagging(trainings) => Some(trainings),
        _ => None,
    };
    let trainings = recipe.find(several).unwrap_or(1);
    let bagged = recipe.has(Piece::Bagging(trainings));
    let mut members = Vec::with_capacity(trainings);
    for member in 0..trainings as u64 {
        // The first member of an ensemble is the plain training.
        let own = if member == 0 { seed } else { seed.child(member) };
        let taken = if bagged {
            let drawn = bootstrap_rows(rows.labelled.len(), &MaskSource::named(own, "bootstrap"));
            drawn.into_iter().map(|row| row as u32).collect()
        } else {
            all(rows.labelled.len())
        };
        members.extend(run.once(own, taken, all(rows.unlabelled.len()), &cancelled)?);
    }

    let judged = |data: &Data| -> Result<Score, TrainingError> {
        let data = data.tensors(scale, &device.clone().inner());
        Ok(Score::classification(logits(&members, &data.inputs)?, data.targets)?)
    };
    let mut record = Record::new(1, steps as u64);
    record = record.with("steps", steps as f64).with("augmented", run.augmented as f64);
    if let Some(method) = recipe.method() {
        let labels: Vec<usize> = rows.unlabelled.labels.iter().map(|&l| l as usize).collect();
        let logits = logits(&members, &run.unlabelled.inputs.clone().inner())?;
        let threshold = if method == Method::Uda { UDA_THRESHOLD } else { THRESHOLD };
        let report = PseudoReport::of(logits, threshold, Some(&labels))?;
        record = record.with("kept_share", report.kept_share());
        for (name, value) in
            [("pseudo_accuracy", report.accuracy()), ("largest_share", report.largest_share())]
        {
            record = value.into_iter().fold(record, |record, value| record.with(name, value));
        }
    }
    Ok(Trained { train: judged(&rows.labelled)?, test: judged(&rows.test)?, record })
}

/// What the members say together: the logarithm of their mean probabilities, or one's own logits.
fn logits(members: &[Net], inputs: &Tensor<2>) -> Result<Tensor<2>, RegularizeError> {
    if let [alone] = members {
        return Ok(alone.forward(inputs.clone()));
    }
    let each = members.iter().map(|member| member.forward(inputs.clone()));
    Ok(ensemble_probabilities(each)?.clamp_min(1e-30).log())
}

/// One training of a recipe, its rows on the device.
struct Run<'a> {
    recipe: &'a Recipe,
    labelled: Labelled<2>,
    unlabelled: Labelled<2>,
    classes: usize,
    steps: usize,
    device: &'a Device,
    /// Labelled rows that were augmented so far.
    augmented: usize,
}

impl Run<'_> {
    /// What predicts in the end, in evaluation state.
    fn once(
        &mut self,
        seed: Seed,
        labelled: Vec<u32>,
        unlabelled: Vec<u32>,
        cancelled: &impl Fn() -> bool,
    ) -> Result<Vec<Net>, TrainingError> {
        let (recipe, steps) = (self.recipe, self.steps);
        let masks = MaskSource::new(seed);
        let sizes = [self.labelled.inputs.dims()[1], self.classes, labelled.len()];
        let mut net = Net::new(recipe, sizes, seed, &masks, self.device)?;
        let pieces = Pieces::new(recipe, self.classes, steps, seed, &masks)?;
        let mut others = Others::new(seed, &net)?;
        let mut averages = Averages::new(recipe, steps, &net)?;
        let schedule = CosineConfig::new(RATE, steps).build()?;
        let mut optimizer = AdamWConfig::new().with_weight_decay(0.0).fused()?;
        let size = BATCH.min(labelled.len());
        let mut order = Order::new(labelled, seed, "labelled");
        let mut other = Order::new(unlabelled, seed, "unlabelled");
        for step in 0..steps as u64 {
            if step.is_multiple_of(20) && cancelled() {
                return Err(TrainingError::Interrupted);
            }
            pieces.before(step)?;
            let rows = self.labelled.select(&order.next(size));
            let (mut loss, augmented) = pieces.loss(&net, rows)?;
            self.augmented += augmented;
            if let Some(method) = recipe.method() {
                let rows = self.unlabelled.select(&other.next(RATIO * size)).inputs;
                loss = loss + others.loss(method, &net, rows, step, steps as u64)?;
            }
            if let Some(term) = pieces.on_weights(&net) {
                loss = loss + term;
            }
            let mut gradients = GradientsParams::from_grads(loss.backward(), &net);
            pieces.on_gradients(&net, &mut gradients, step);
            let rate = averages.rate(step).unwrap_or_else(|| schedule.rate(step));
            net = pieces.after(optimizer.step(rate, net, gradients), rate)?;
            net = averages.after(step, others.after(recipe.method(), net));
        }
        if recipe.method() == Some(Method::MeanTeacher) {
            return Ok(vec![others.teacher.model(&net).valid()]);
        }
        averages.members(recipe, &net)
    }
}

/// What becomes of the weights on their way, for recipes that average weights or let several models vote.
struct Averages {
    ema: Option<Ema>,
    swa: Option<(Swa, u64)>,
    snapshots: Option<Snapshots<Net>>,
}

impl Averages {
    fn new(recipe: &Recipe, steps: usize, net: &Net) -> Result<Self, ConfigError> {
        let ema = recipe
            .find(|piece| if let Piece::Ema(decay) = piece { Some(decay) } else { None })
            .map(|decay| EmaConfig::new().with_decay(decay).init(net))
            .transpose()?;
        let swa = recipe.has(Piece::Swa).then(|| (Swa::new(), 3 * steps as u64 / 4));
        let snapshots = (recipe.has(Piece::Snapshots) || recipe.has(Piece::Soup))
            .then(|| {
                let config = SnapshotsConfig::new(steps).with_cycles(CYCLES.min(steps));
                config.with_peak(RATE).init()
            })
            .transpose()?;
        Ok(Self { ema, swa, snapshots })
    }

    /// The rate of `step`, where it is another than usual.
    fn rate(&self, step: u64) -> Option<f64> {
        self.snapshots.as_ref().map(|snapshots| snapshots.rate(step))
    }

    fn after(&mut self, step: u64, mut net: Net) -> Net {
        if let Some(ema) = &mut self.ema {
            net = ema.update(net);
        }
        if let Some((swa, _)) = self.swa.as_mut().filter(|(_, from)| step >= *from) {
            net = swa.update(net);
        }
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.after_step(step, &net);
        }
        net
    }

    /// The models that vote.
    fn members(self, recipe: &Recipe, net: &Net) -> Result<Vec<Net>, TrainingError> {
        if let Some(ema) = self.ema {
            return Ok(vec![ema.model(net).valid()]);
        }
        if let Some((swa, _)) = self.swa {
            return Ok(vec![swa.model(net).valid()]);
        }
        let Some(snapshots) = self.snapshots else { return Ok(vec![net.valid()]) };
        let members = snapshots.members();
        let last = members[members.len().saturating_sub(LAST)..].to_vec();
        Ok(if recipe.has(Piece::Soup) { vec![model_soup(last)?] } else { last })
    }
}

/// What the rows without labels are used by.
struct Others {
    weak: ImageAugment,
    strong: ImageAugment,
    teacher: Ema,
}

impl Others {
    fn new(seed: Seed, net: &Net) -> Result<Self, ConfigError> {
        let masks = MaskSource::named(seed, "unlabelled views");
        let (weak, strong) = (weak(&masks)?, strong(&masks)?);
        Ok(Self { weak, strong, teacher: EmaConfig::new().with_decay(0.99).init(net)? })
    }

    fn after(&mut self, method: Option<Method>, net: Net) -> Net {
        if method == Some(Method::MeanTeacher) { self.teacher.update(net) } else { net }
    }

    /// The weighted loss on rows without labels.
    fn loss(
        &mut self,
        method: Method,
        net: &Net,
        rows: Tensor<2>,
        step: u64,
        steps: u64,
    ) -> Result<Tensor<1>, TrainingError> {
        let shape = rows.dims();
        let view = |augment: &ImageAugment| -> Result<Tensor<2>, RegularizeError> {
            Ok(augment.labelled(as_images(rows.clone()))?.reshape(shape))
        };
        let (weak, strong) = (&self.weak, &self.strong);
        // Targets need no graph.
        let target = |net: &Net| -> Result<Tensor<2>, TrainingError> {
            Ok(Tensor::from_inner(net.valid().forward(view(weak)?.inner())))
        };
        let gaussian = Ramp::Gaussian { over: steps / 2 };
        let (found, weight) = match method {
            Method::PseudoLabel => {
                let ramp = Ramp::Linear { from: steps / 10, to: steps / 2 };
                (pseudo_label_loss(net.forward(view(weak)?), THRESHOLD)?, ramp.factor(step))
            }
            Method::PiModel => {
                let found = pi_model_loss(net.forward(view(weak)?), net.forward(view(weak)?))?;
                (found, 20.0 * gaussian.factor(step))
            }
            Method::MeanTeacher => {
                let target = target(&self.teacher.model(net))?;
                let found = mean_teacher_loss(net.forward(view(weak)?), target)?;
                (found, 20.0 * gaussian.factor(step))
            }
            Method::Uda => {
                (uda_loss(target(net)?, net.forward(view(strong)?), 0.4, UDA_THRESHOLD)?, 1.0)
            }
            Method::FixMatch => {
                (fixmatch_loss(target(net)?, net.forward(view(strong)?), THRESHOLD)?, 1.0)
            }
        };
        Ok(found.loss.mul_scalar(weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{AUGMENTED, Kind, PLAIN};

    /// Two rows of each digit with labels, six without, four to judge.
    fn rows() -> Rows {
        let data = Data::load(None).expect("embedded");
        let part = |from: usize, count: usize| {
            let of = |class: u32| {
                let own = data.labels.iter().enumerate().filter(|entry| *entry.1 == class);
                own.map(|(row, _)| row as u32).skip(from).take(count).collect::<Vec<u32>>()
            };
            data.select(&(0..10).flat_map(of).collect::<Vec<u32>>())
        };
        Rows { labelled: part(0, 2), unlabelled: part(2, 6), test: part(8, 4) }
    }

    fn run(recipe: &Recipe, rows: &Rows, steps: usize) -> Trained {
        let device = Device::flex().autodiff();
        train(recipe, rows, steps, Seed(3), &device, || false).expect("trains")
    }

    #[test]
    fn every_recipe_trains_repeats_and_is_another_than_the_one_it_is_compared_with() {
        let rows = rows();
        let all = Recipe::all();
        let here: Vec<&Recipe> = all
            .iter()
            .filter(|recipe| !matches!(recipe.kind, Kind::Skewed | Kind::Unlabelled))
            .collect();
        let losses: Vec<f64> =
            here.iter().map(|recipe| run(recipe, &rows, 8).test.loss()).collect();
        let of =
            |name: &str| losses[here.iter().position(|recipe| recipe.name == name).expect("there")];
        for (recipe, &loss) in here.iter().zip(&losses) {
            assert!(loss.is_finite() && loss > 0.0, "{}: {loss}", recipe.name);
            if recipe.name != PLAIN {
                assert_ne!(loss, of(recipe.against), "{} does nothing", recipe.name);
            }
        }
        for name in [PLAIN, "concrete dropout", "manifold mixup", "bagging"] {
            let recipe = here.iter().find(|recipe| recipe.name == name).expect("there");
            assert_eq!(run(recipe, &rows, 8).test.loss(), of(name), "{name}");
        }
    }

    #[test]
    fn what_uses_unlabelled_rows_has_the_augmentation_and_the_steps_of_its_baseline() {
        let rows = rows();
        let all = Recipe::all();
        let baseline = all.iter().find(|recipe| recipe.name == AUGMENTED).expect("there");
        assert!(baseline.method().is_none(), "learns from labelled rows alone");
        let drawn = |trained: &Trained| {
            let value = |name: &str| trained.record.get(name).expect("recorded");
            [value("steps"), value("augmented")]
        };
        // A batch is all twenty labelled rows.
        let (short, long) = (run(baseline, &rows, 3), run(baseline, &rows, 60));
        assert_eq!((drawn(&short), drawn(&long)), ([3.0, 60.0], [60.0, 1200.0]));
        let methods: Vec<&Recipe> =
            all.iter().filter(|recipe| recipe.kind == Kind::Unlabelled).collect();
        assert_eq!(methods.len(), 5);
        for recipe in methods {
            assert_eq!(recipe.against, AUGMENTED);
            let (first, last) = (run(recipe, &rows, 3), run(recipe, &rows, 60));
            let all = (drawn(&first), drawn(&last));
            assert_eq!(all, (drawn(&short), drawn(&long)), "{}", recipe.name);
            // Until a prediction is confident such a method is its baseline to the last bit: the same rows in the same
            // order, changed in the same way.
            if matches!(recipe.method(), Some(Method::PseudoLabel | Method::Uda | Method::FixMatch))
            {
                assert_eq!(first.test.loss(), short.test.loss(), "{}", recipe.name);
            }
            assert_ne!(last.test.loss(), long.test.loss(), "{} does nothing", recipe.name);
        }
        let plain = all.iter().find(|recipe| recipe.name == PLAIN).expect("there");
        assert_eq!(drawn(&run(plain, &rows, 3)), [3.0, 0.0]);
    }
}
