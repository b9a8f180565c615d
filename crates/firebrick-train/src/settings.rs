//! What a training is set up with besides its optimizer, guards, penalty and constraint.

use crate::event::{Event, Flow};
use crate::plateau::{PlateauState, Watched};
use crate::{Averaging, CheckpointConfig, FitConfig, RollbackConfig};
use burn::tensor::Device;
use firebrick_core::{ConfigError, Record};
use firebrick_optim::schedule::{Plateau, Schedule, ScheduleError};
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
    Plateau(Box<Watched>),
}

impl Rate {
    pub(crate) fn at(&self, step: u64) -> f64 {
        match self {
            Self::Closure(rate) => rate(step),
            Self::Schedule(schedule) => schedule.rate(step),
            Self::Plateau(watched) => watched.plateau.rate(),
        }
    }

    /// A rate that is told what each judgement finds under the name `monitor`.
    pub(crate) fn plateau(plateau: Plateau, monitor: String) -> Self {
        Self::Plateau(Box::new(Watched { plateau, monitor }))
    }

    /// Takes note of a judgement.
    pub(crate) fn observe(&mut self, record: &Record) -> Result<(), ConfigError> {
        match self {
            Self::Plateau(watched) => watched.observe(record),
            Self::Closure(_) | Self::Schedule(_) => Ok(()),
        }
    }

    /// What moves on with the judgements.
    pub(crate) fn state(&self) -> Option<PlateauState> {
        match self {
            Self::Plateau(watched) => Some(PlateauState::of(&watched.plateau)),
            Self::Closure(_) | Self::Schedule(_) => None,
        }
    }

    /// Brings what moves on back to `state`.
    pub(crate) fn restore(&mut self, state: Option<&PlateauState>) -> Result<(), ScheduleError> {
        match (self, state) {
            (Self::Plateau(watched), Some(state)) => state.restore(&mut watched.plateau),
            _ => Ok(()),
        }
    }

    /// The name of what a plateau is told.
    pub(crate) fn monitor(&self) -> Option<&str> {
        match self {
            Self::Plateau(watched) => Some(&watched.monitor),
            Self::Closure(_) | Self::Schedule(_) => None,
        }
    }

    /// What tells one schedule from another; a closure has nothing.
    pub(crate) fn fingerprint(&self) -> Option<u64> {
        match self {
            Self::Closure(_) => None,
            Self::Schedule(schedule) => Some(schedule.fingerprint()),
            Self::Plateau(_) => self.state().map(|state| state.fingerprint()),
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
    /// Sets the strength of dropout to that of step `step`, counted from 0.
    pub(crate) fn drop_as_in(&self, step: u64) -> Result<(), ConfigError> {
        self.drop_schedules.iter().try_for_each(|(masks, schedule)| schedule.apply(step, masks))
    }

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
