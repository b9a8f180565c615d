//! An optimizer that is still there when its training is over.

use crate::TransferError;
use crate::group::Plan;
use crate::near::{Anchor, pull_by};
use burn::module::Module;
use burn::optim::GradientsParams;
use firebrick_core::ConfigError;
use firebrick_optim::schedule::Schedule;
use firebrick_optim::{Elementwise, FusedOptimizer};
use firebrick_train::{Optimize, OptimizerStateError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Shared = Arc<Mutex<FusedOptimizer>>;

/// An optimizer in whose slot the one stands that stepped last, after rollbacks too.
#[derive(Debug)]
pub(super) struct Carried {
    optimizer: Shared,
    slot: Arc<Mutex<Shared>>,
    around: Around,
    /// As it began: a momentum that moves is not what tells two trainings apart.
    rules: String,
}

/// What is done around each step.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    /// Decoupled L2-SP: the source, the strength, and the plan whose factors the rate has.
    pub(super) pull: Option<(Anchor, f64, Plan)>,
    /// A momentum that moves with the schedule.
    pub(super) momentum: Option<Moving>,
}

type Rule = dyn Fn(f64) -> Result<Elementwise, ConfigError> + Send + Sync;

/// The rule at each momentum.
#[derive(Clone)]
pub(super) struct RuleAt(pub(super) Arc<Rule>);

impl std::fmt::Debug for RuleAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RuleAt")
    }
}

/// The momentum of each step.
#[derive(Debug, Clone)]
pub(super) struct Moving {
    pub(super) rule: RuleAt,
    pub(super) schedule: Arc<dyn Schedule>,
    /// A parameter that steps each time, by which steps are counted, also after a resume.
    pub(super) counted: String,
    pub(super) plan: Plan,
}

impl Moving {
    /// The optimizer with the momentum of its next step.
    pub(super) fn retuned<M: Module>(
        &self,
        optimizer: &FusedOptimizer,
        model: &M,
    ) -> Result<FusedOptimizer, TransferError> {
        let step = optimizer.steps_of(&self.counted).unwrap_or(0);
        let momentum = self.schedule.momentum(step).unwrap_or_default();
        let new = self.plan.optimizer(model, &(self.rule.0)(momentum)?)?;
        Ok(new.from_bytes(optimizer.into_bytes()?, model)?)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the optimizer can be taken from once its training is over.
#[derive(Debug)]
pub(super) struct Slot(Arc<Mutex<Shared>>);

impl Slot {
    pub(super) fn take(self) -> FusedOptimizer {
        let last = lock(&self.0).clone();
        lock(&last).clone()
    }
}

impl Carried {
    pub(super) fn new(optimizer: FusedOptimizer, around: Around) -> (Self, Slot) {
        let strength = around.pull.as_ref().map(|(_, strength, _)| strength);
        let rules = format!("{} {strength:?}", optimizer.rules());
        let optimizer = Arc::new(Mutex::new(optimizer));
        let slot = Arc::new(Mutex::new(optimizer.clone()));
        (Self { optimizer, slot: slot.clone(), around, rules }, Slot(slot))
    }

    fn is_last(&self) {
        *lock(&self.slot) = self.optimizer.clone();
    }
}

impl Clone for Carried {
    fn clone(&self) -> Self {
        let optimizer = lock(&self.optimizer).clone();
        let (slot, around) = (self.slot.clone(), self.around.clone());
        let rules = self.rules.clone();
        Self { optimizer: Arc::new(Mutex::new(optimizer)), slot, around, rules }
    }
}

impl Optimize for Carried {
    fn step<M: Module>(&mut self, lr: f64, model: M, gradients: GradientsParams) -> M {
        self.is_last();
        let model = match &self.around.pull {
            Some((anchor, strength, plan)) => {
                let strength = |path: &str| lr * strength * plan.rate_of(path).unwrap_or(1.0);
                pull_by(model, anchor, &strength)
            }
            None => model,
        };
        let mut optimizer = lock(&self.optimizer);
        // It was tried before the run; a rule that refuses a momentum later on keeps the one before.
        let moving = self.around.momentum.as_ref();
        if let Some(Ok(retuned)) = moving.map(|moving| moving.retuned(&optimizer, &model)) {
            *optimizer = retuned;
        }
        Optimize::step(&mut *optimizer, lr, model, gradients)
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.rules.clone())
    }

    fn state(&self) -> Result<Vec<u8>, OptimizerStateError> {
        Optimize::state(&*lock(&self.optimizer))
    }

    fn take_over<M: Module>(&mut self, state: &[u8], model: &M) -> Result<(), OptimizerStateError> {
        self.is_last();
        Optimize::take_over(&mut *lock(&self.optimizer), state, model)
    }
}
