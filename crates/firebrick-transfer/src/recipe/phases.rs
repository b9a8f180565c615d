//! The phases of a recipe: a pure function of the recipe, the groups, the number of epochs and the rate.

use super::{Recipe, Shape};
use crate::TransferError;
use crate::group::{Groups, Mode, NormMode, Place, Plan, places};
use burn::module::Module;
use firebrick_core::{ConfigError, check};
use serde::{Deserialize, Serialize};

/// What becomes of the optimizer's state where a phase begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OptimizerState {
    /// The state of parameters that trained in the phase before goes on, that of all others begins anew: moments of
    /// long ago would make a thawed weight jump.
    #[default]
    DropThawed,
    /// All of it goes on, also that of parameters that were frozen in between.
    Keep,
    /// All of it begins anew, as fastai has it.
    Fresh,
}

/// One phase of a recipe: a plan that holds throughout, a number of epochs, a peak rate and its course.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Phase {
    /// What it is: `probe`, `all`.
    pub name: String,
    /// What happens to each group. Those to be re-initialised are drawn anew when the phase begins.
    pub plan: Plan,
    /// Passes over the training data.
    pub epochs: usize,
    /// The peak of the learning rate, before the factors of the groups.
    pub rate: f64,
    /// Its course.
    pub shape: Shape,
    /// What becomes of the optimizer's state at the start.
    pub state: OptimizerState,
}

impl Phase {
    fn new(name: impl Into<String>, plan: Plan, epochs: usize, rate: f64, shape: Shape) -> Self {
        Self { name: name.into(), plan, epochs, rate, shape, state: OptimizerState::default() }
    }
}

/// The factors `max(min_scale, decay^(L - 1 - i))` of L layers, from the input to the head, counted over the whole
/// model whatever is frozen in it.
///
/// K. Clark et al., "ELECTRA", ICLR 2020; as in timm's `param_groups_layer_decay`.
///
/// # Errors
/// When there is no layer or a number lies outside [0, 1] (`decay` 0 is refused too).
///
/// ```
/// assert_eq!(firebrick_transfer::layer_decay(3, 0.5, 0.3)?, [0.3, 0.5, 1.0]);
/// # Ok::<(), firebrick_core::ConfigError>(())
/// ```
pub fn layer_decay(layers: usize, decay: f64, min_scale: f64) -> Result<Vec<f64>, ConfigError> {
    check::at_least("layers", layers, 1)?;
    check::positive("decay", check::range("decay", decay, 0.0..=1.0)?)?;
    check::range("min_scale", min_scale, 0.0..=1.0)?;
    let factor = |layer: usize| decay.powi((layers - 1 - layer) as i32).max(min_scale);
    Ok((0..layers).map(factor).collect())
}

/// The factors of L layers, from the input to the head, that lie geometrically between `1 / mult` and 1:
/// `mult^(i / (L - 1) - 1)`; fastai's `even_mults` and, with `mult = ratio^(L - 1)`, ULMFiT's discriminative rates.
///
/// # Errors
/// When there is no layer or `mult` is not above 0.
pub fn spread(layers: usize, mult: f64) -> Result<Vec<f64>, ConfigError> {
    check::at_least("layers", layers, 1)?;
    check::positive("mult", mult)?;
    let last = (layers - 1).max(1) as f64;
    let factor = |layer: usize| mult.powf((layer as f64 - (layers - 1) as f64) / last);
    Ok((0..layers).map(factor).collect())
}

impl Recipe {
    /// What is trained when, for a model in these groups; `epochs` and `rate` are those of the recipe's main phase.
    ///
    /// # Errors
    /// When the groups do not fit the model, a number of the recipe is out of range, or nothing would train.
    pub fn phases<M: Module>(
        &self,
        groups: &Groups,
        model: &M,
        epochs: usize,
        rate: f64,
    ) -> Result<Vec<Phase>, TransferError> {
        groups.check(model)?;
        check::at_least("epochs", epochs, 1)?;
        check::positive("rate", rate)?;
        let (layers, head) = (groups.len(), groups.head());
        let plan = || Plan::new(groups.clone());
        let only_head = || plan().with_all(Mode::Frozen).with(head, Mode::Trainable);
        let shape = self.shape();
        let phase = |name: &str, plan: Plan| Phase::new(name, plan, epochs, rate, shape);
        let fewer = |field: &str, k: usize, low: usize, high: usize| {
            if (low..=high).contains(&k) {
                return Ok(());
            }
            let expected =
                format!("from {low} to {high}: there are {layers} groups, {}", groups.known());
            Err(ConfigError::new(field, k, expected))
        };
        Ok(match self {
            Self::HeadOnly => vec![phase("head", only_head()?)],
            Self::LastK { k } => {
                fewer("k", *k, 1, layers)?;
                vec![phase("last", plan().with_first(layers - k, Mode::Frozen)?)]
            }
            Self::FreezeFirst { k, redraw } => {
                fewer("k", *k, 0, layers - 1)?;
                let rest = if *redraw { Mode::Reinitialised } else { Mode::Trainable };
                vec![phase("rest", plan().with_all(rest).with_first(*k, Mode::Frozen)?)]
            }
            Self::OneGroup { group } => {
                let name = group.as_deref().unwrap_or(groups.names()[0]);
                vec![phase(name, plan().with_all(Mode::Frozen).with(name, Mode::Trainable)?)]
            }
            Self::Full { head_rate } => {
                check::positive("head_rate", *head_rate)?;
                vec![phase("all", plan().with_rate(head, *head_rate)?)]
            }
            Self::LpFt { probe_epochs, probe_rate } => {
                let probe = probe_epochs.unwrap_or(epochs);
                check::at_least("probe_epochs", probe, 1)?;
                check::positive("probe_rate", *probe_rate)?;
                vec![
                    Phase::new("probe", only_head()?, probe, *probe_rate, shape),
                    phase("all", plan()),
                ]
            }
            Self::Scratch => vec![phase("all", plan().with_all(Mode::Reinitialised))],
            Self::FineTune { freeze_epochs, mult, div, start, train_norms } => {
                check::at_least("freeze_epochs", *freeze_epochs, 1)?;
                check::positive("mult", *mult)?;
                let mut first = only_head()?;
                for name in groups.names().into_iter().filter(|name| *name != head) {
                    first = first.with_rate(name, 0.1)?;
                    if *train_norms {
                        first = first.with_norm(name, NormMode::Adaptive)?;
                    }
                }
                let all = plan().with_rates(&spread(layers, *mult)?)?;
                let cycle = |start, div| Shape::OneCycle { start, div, div_final: 1e5 };
                let (rise, main) = (cycle(0.99, 25.0), cycle(*start, *div));
                rise.check()?;
                main.check()?;
                let mut phases = vec![
                    Phase::new("frozen", first, *freeze_epochs, rate, rise),
                    Phase::new("all", all, epochs, rate / 2.0, main),
                ];
                phases.iter_mut().for_each(|phase| phase.state = OptimizerState::Fresh);
                phases
            }
            Self::Gradual { stages, ratio } => {
                let stages = stages.unwrap_or(layers).min(epochs);
                check::at_least("stages", stages, 1)?;
                let mult = check::positive("ratio", *ratio)?.powi(layers as i32 - 1);
                let rates = spread(layers, mult)?;
                let stage = |number: usize| {
                    let all = number == stages;
                    let frozen = if all { 0 } else { layers.saturating_sub(number) };
                    let plan = plan().with_rates(&rates)?.with_first(frozen, Mode::Frozen)?;
                    let epochs = if all { epochs + 1 - stages } else { 1 };
                    let name = format!("last {}", layers - frozen);
                    Ok(Phase::new(name, plan, epochs, rate, shape))
                };
                (1..=stages).map(stage).collect::<Result<_, TransferError>>()?
            }
            Self::ChainThaw { later } => {
                let later = rate * check::positive("later", *later)?;
                let mut phases = vec![phase("head", only_head()?)];
                // The head has had its turn; DeepMoji's code goes on from the first group to the one before it.
                for name in groups.names().into_iter().filter(|name| *name != head) {
                    let alone = plan().with_all(Mode::Frozen).with(name, Mode::Trainable)?;
                    phases.push(Phase::new(name, alone, epochs, later, shape));
                }
                phases.push(Phase::new("all", plan(), epochs, later, shape));
                // That code compiles the model anew for each phase, and with it the optimizer.
                phases.iter_mut().for_each(|phase| phase.state = OptimizerState::Fresh);
                phases
            }
            Self::Discriminative { ratio } => {
                let mult = check::positive("ratio", *ratio)?.powi(layers as i32 - 1);
                vec![phase("all", plan().with_rates(&spread(layers, mult)?)?)]
            }
            Self::LayerDecay { decay, min_scale, no_opt_scale } => {
                check::range("no_opt_scale", *no_opt_scale, 0.0..=1.0)?;
                let factors = layer_decay(layers, *decay, *min_scale)?;
                let mut all = plan().with_rates(&factors)?;
                for (name, factor) in groups.names().into_iter().zip(&factors) {
                    if factor < no_opt_scale {
                        all = all.with(name, Mode::Frozen)?;
                    }
                }
                vec![phase("all", all)]
            }
            Self::BitFit { norms } => {
                let biases = plan().with_all(Mode::Biases { norms: *norms });
                vec![phase("biases", biases.with(head, Mode::Trainable)?)]
            }
            Self::Rifle { cycles } => {
                fewer_cycles(*cycles, epochs)?;
                let cycle = |number: usize| {
                    let epochs = epochs * (number + 1) / cycles - epochs * number / cycles;
                    let plan = plan().with(head, Mode::Reinitialised)?;
                    Ok(Phase::new(format!("cycle {}", number + 1), plan, epochs, rate, shape))
                };
                (0..*cycles).map(cycle).collect::<Result<_, TransferError>>()?
            }
            Self::Adapters => vec![phase("adapters", adapters(groups, model, None)?)],
            Self::LoraPlus { ratio } => {
                check::positive("ratio", *ratio)?;
                let plan = adapters(groups, model, Some(FACTOR_B))?;
                vec![phase("adapters", plan.with_ending_rate(FACTOR_B, *ratio)?)]
            }
        })
    }
}

/// How the path of a low-rank adapter's second factor ends, that of burn's own adapter too.
const FACTOR_B: &str = "lora.b";

/// Trains the adapters of `model` and its head; of a head that has adapters itself, those alone. One of them must have
/// a path that ends in `ending`, where that is given: a factor on a rate that nobody has would be silently in vain.
fn adapters<M: Module>(
    groups: &Groups,
    model: &M,
    ending: Option<&str>,
) -> Result<Plan, TransferError> {
    let places = places(model);
    let adapted: Vec<&Place> = places.iter().filter(|place| place.in_adapter()).collect();
    let has = |ending: &str| adapted.iter().any(|place| place.path.ends_with(ending));
    let reason = match ending {
        _ if adapted.is_empty() => Some("no weight of the model has an adapter"),
        Some(ending) if !has(ending) => Some("no weight of the model has a low-rank adapter"),
        _ => None,
    };
    if let Some(reason) = reason {
        return Err(TransferError::NothingToTrain { reason: reason.into() });
    }
    let mut plan = Plan::new(groups.clone()).with_all(Mode::Frozen);
    for group in groups.groups() {
        if adapted.iter().any(|place| group.covers(&place.path)) {
            plan = plan.with(group.name(), Mode::Adapted)?;
        }
    }
    match plan.treatment(groups.head())?.mode {
        Mode::Frozen => plan.with(groups.head(), Mode::Trainable),
        _ => Ok(plan),
    }
}

fn fewer_cycles(cycles: usize, epochs: usize) -> Result<(), ConfigError> {
    if (1..=epochs).contains(&cycles) {
        return Ok(());
    }
    Err(ConfigError::new("cycles", cycles, format!("from 1 to {epochs}, the number of epochs")))
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::residual;
    use burn::tensor::Device;
    use std::f64::consts::PI;

    /// Ten groups: stem, eight blocks, head.
    fn phases(recipe: &Recipe, epochs: usize, rate: f64) -> Vec<Phase> {
        let model = residual(&Device::flex().autodiff(), 8);
        let groups = Groups::propose(&model).expect("has groups");
        recipe.phases(&groups, &model, epochs, rate).expect("fits")
    }

    /// The rate of every group at every step of a phase.
    fn rates(phase: &Phase, steps: u64) -> Vec<Vec<f64>> {
        let schedule = phase.shape.schedule(phase.rate, steps).expect("valid");
        let factors: Vec<f64> = phase.plan.treatments().iter().map(|t| t.rate).collect();
        (0..steps).map(|k| factors.iter().map(|f| f * schedule.rate(k)).collect()).collect()
    }

    /// Equal to a few roundings of numbers as large as `top`, the peak that both are computed from.
    fn close(found: f64, expected: f64, top: f64, what: &str) {
        let bound = 8.0 * f64::EPSILON * top;
        assert!((found - expected).abs() <= bound, "{what}: {found} {expected}");
    }

    #[test]
    fn fine_tune_is_fastais_at_every_step_of_every_group() {
        let phases = phases(&Recipe::fine_tune(), 3, 2e-3);
        assert_eq!((phases[0].epochs, phases[1].epochs), (1, 3));
        assert!(phases.iter().all(|phase| phase.state == OptimizerState::Fresh));
        let cosine =
            |from: f64, to: f64, p: f64| from + (1.0 + (PI * (1.0 - p)).cos()) * (to - from) / 2.0;
        let cycle = |top: f64, div: f64, start: f64, k: u64, n: u64| {
            let p = k as f64 / n as f64;
            if p < start {
                cosine(top / div, top, p / start)
            } else {
                cosine(top, top / 1e5, (p - start) / (1.0 - start))
            }
        };
        for (k, rates) in rates(&phases[0], 50).iter().enumerate() {
            for (group, rate) in rates.iter().enumerate() {
                let top = if group == 9 { 2e-3 } else { 2e-4 };
                close(*rate, cycle(top, 25.0, 0.99, k as u64, 50), top, "frozen");
            }
        }
        for (k, rates) in rates(&phases[1], 150).iter().enumerate() {
            for (group, rate) in rates.iter().enumerate() {
                let top = 1e-5 * 100f64.powf(group as f64 / 9.0);
                close(*rate, cycle(top, 5.0, 0.3, k as u64, 150), top, "all");
            }
        }
        let norms: Vec<_> = phases[0].plan.treatments().iter().map(|t| t.norm).collect();
        assert!(
            norms[..9].iter().all(|norm| *norm == Some(NormMode::Adaptive)) && norms[9].is_none()
        );
        assert_eq!(phases[0].plan.in_mode(Mode::Frozen).len(), 9);
    }

    #[test]
    fn gradual_thaws_one_group_an_epoch_with_a_triangle_each() {
        let phases = phases(&Recipe::gradual(), 12, 0.01);
        assert_eq!(phases.len(), 10);
        assert_eq!(phases.iter().map(|phase| phase.epochs).sum::<usize>(), 12);
        for (index, phase) in phases.iter().enumerate() {
            assert_eq!(phase.plan.in_mode(Mode::Trainable).len(), index + 1);
            for (k, rates) in rates(phase, 40).iter().enumerate() {
                let p = if k < 4 { k as f64 / 4.0 } else { 1.0 - (k as f64 - 4.0) / 36.0 };
                for (group, rate) in rates.iter().enumerate() {
                    let top = 0.01 / 2.6f64.powi(9 - group as i32);
                    close(*rate, top * (1.0 + p * 31.0) / 32.0, top, "gradual");
                }
            }
        }
        // ULMFiT's reference script: the last, the last two, all.
        let three = Recipe::Gradual { stages: Some(3), ratio: 2.6 };
        let counts = |epochs| {
            let phases = self::phases(&three, epochs, 0.01);
            phases
                .iter()
                .map(|p| (p.plan.in_mode(Mode::Trainable).len(), p.epochs))
                .collect::<Vec<_>>()
        };
        assert_eq!(counts(5), [(1, 1), (2, 1), (10, 3)]);
        assert_eq!(counts(2), [(1, 1), (10, 1)]);
    }

    #[test]
    fn factors_are_timms() {
        for case in crate::testing::recorded::cases("layer_decay") {
            let (decay, floor) = (case.number("decay"), case.number("min_scale"));
            case.outputs(&layer_decay(case.number("layers") as usize, decay, floor).expect("fine"));
        }
    }

    #[test]
    fn layer_decay_counts_over_the_whole_model() {
        let decay =
            |no_opt_scale| Recipe::LayerDecay { decay: 0.65, min_scale: 0.05, no_opt_scale };
        let all = phases(&decay(0.0), 1, 1e-3);
        for rates in rates(&all[0], 30) {
            for (group, rate) in rates.iter().enumerate() {
                let factor = 0.65f64.powi(9 - group as i32).max(0.05);
                close(*rate, factor * rates[9], rates[9], "decay");
            }
        }
        // Freezing the low ones does not move the others' factors.
        let cut = phases(&decay(0.2), 1, 1e-3);
        assert_eq!(cut[0].plan.in_mode(Mode::Frozen).len(), 6);
        assert_eq!(cut[0].plan.treatments()[6].rate, all[0].plan.treatments()[6].rate);
        assert_eq!(layer_decay(1, 0.5, 0.0).expect("fine"), [1.0]);
        assert!(layer_decay(0, 0.5, 0.0).is_err() && layer_decay(3, f64::NAN, 0.0).is_err());
    }

    #[test]
    fn spread_is_geometric_and_one_group_has_the_whole_rate() {
        assert_eq!(spread(1, 100.0).expect("fine"), [1.0]);
        let factors = spread(3, 100.0).expect("fine");
        for (found, expected) in factors.iter().zip([0.01, 0.1, 1.0]) {
            close(*found, expected, 1.0, "spread");
        }
        let phase = &phases(&Recipe::Discriminative { ratio: 2.6 }, 1, 1e-2)[0];
        for (group, treatment) in phase.plan.treatments().iter().enumerate() {
            close(treatment.rate, 2.6f64.powi(group as i32 - 9), 1.0, "discriminative");
        }
    }

    #[test]
    fn chain_thaw_and_rifle_have_a_phase_for_each_part() {
        let chain = phases(&Recipe::ChainThaw { later: 0.1 }, 2, 1e-3);
        // As published: the last, the first, .. up to the second last, each once and alone, then all.
        let names = |phase: &Phase| -> Vec<String> {
            phase.plan.in_mode(Mode::Trainable).into_iter().map(String::from).collect()
        };
        let groups = chain[0].plan.groups().clone();
        let order: Vec<&str> = std::iter::once("head").chain(groups.names()).take(10).collect();
        assert_eq!((chain.len(), order[1], groups.head()), (11, "stem", "head"));
        for (phase, name) in chain.iter().zip(&order) {
            assert_eq!(names(phase), [*name]);
        }
        assert_eq!(names(&chain[10]), groups.names());
        assert!(chain.iter().all(|phase| phase.state == OptimizerState::Fresh));
        assert_eq!(chain[0].rate, 1e-3);
        assert!(chain[1..].iter().all(|phase| (phase.rate - 1e-4).abs() < 1e-18));
        let rifle = phases(&Recipe::Rifle { cycles: 3 }, 8, 1e-3);
        assert_eq!(rifle.iter().map(|phase| phase.epochs).collect::<Vec<_>>(), [2, 3, 3]);
        assert!(rifle.iter().all(|phase| phase.plan.in_mode(Mode::Reinitialised) == ["head"]));
        let text = serde_json::to_string(&rifle).expect("JSON");
        assert_eq!(serde_json::from_str::<Vec<Phase>>(&text).expect("JSON"), rifle);
    }
}
