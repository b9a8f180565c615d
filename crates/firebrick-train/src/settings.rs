//! What a training is set up with besides its optimizer, guards, penalty and constraint.

use crate::event::{Event, Flow};
use crate::{Averaging, CheckpointConfig, FitConfig, RollbackConfig};
use burn::tensor::Device;
use firebrick_optim::schedule::Schedule;
use firebrick_optim::wrapper::{LookaheadConfig, SamConfig};
use firebrick_regularize::{DropSchedule, MaskSource};
use firebrick_stabilize::{MomentumReset, NoiseScale};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The learning rate by step.
pub(crate) enum Rate {
    Closure(Box<dyn Fn(u64) -> f64 + Send>),
    Schedule(Box<dyn Schedule>),
}

impl Rate {
    pub(crate) fn at(&self, step: u64) -> f64 {
        match self {
            Self::Closure(rate) => rate(step),
            Self::Schedule(schedule) => schedule.rate(step),
        }
    }

    /// What tells one schedule from another; a closure has nothing.
    pub(crate) fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::Closure(_) => None,
            Self::Schedule(schedule) => Some(schedule.fingerprint()),
        }
    }
}

type Observer = Box<dyn FnMut(&Event<'_>) -> Flow + Send>;

/// What the types of optimizer, guards and penalty do not touch.
pub(crate) struct Settings {
    pub(crate) config: FitConfig,
    pub(crate) rate: Rate,
    pub(crate) sink: Option<Box<dyn Write + Send>>,
    pub(crate) history_file: Option<PathBuf>,
    /// The same file, open while the training runs.
    pub(crate) history_open: Option<BufWriter<File>>,
    pub(crate) interrupt: Arc<AtomicBool>,
    pub(crate) observers: Vec<Observer>,
    pub(crate) masks: Vec<MaskSource>,
    pub(crate) checkpoints: Option<CheckpointConfig>,
    pub(crate) averaging: Option<Averaging>,
    pub(crate) rollback: Option<RollbackConfig>,
    pub(crate) drop_schedules: Vec<(MaskSource, DropSchedule)>,
    pub(crate) momentum_reset: Option<MomentumReset>,
    pub(crate) noise_scale: Option<NoiseScale>,
    pub(crate) sharpness: Option<SamConfig>,
    pub(crate) lookahead: Option<LookaheadConfig>,
    pub(crate) devices: Option<Vec<Device>>,
}

impl Settings {
    /// The constant learning rate 1e-3 and nothing besides.
    pub(crate) fn new(config: FitConfig) -> Self {
        Self {
            config,
            rate: Rate::Closure(Box::new(|_| 1e-3)),
            sink: None,
            history_file: None,
            history_open: None,
            interrupt: Arc::default(),
            observers: Vec::new(),
            masks: Vec::new(),
            checkpoints: None,
            averaging: None,
            rollback: None,
            drop_schedules: Vec::new(),
            momentum_reset: None,
            noise_scale: None,
            sharpness: None,
            lookahead: None,
            devices: None,
        }
    }
}
