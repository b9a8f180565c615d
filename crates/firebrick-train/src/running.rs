//! What moves on while a training runs.

use crate::average::Average;
use crate::checkpoint::Store;
use crate::judge::Judged;
use crate::{CheckpointError, EarlyStopping, Outcome, Resumed, Warning};
use firebrick_core::History;
use firebrick_optim::wrapper::Lookahead;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The state of a running training, but for the model, the optimizer and the guards.
pub(crate) struct Run<M> {
    /// The running epoch, from 1.
    pub(crate) epoch: usize,
    /// Batches of the running epoch that are done.
    pub(crate) batch: usize,
    /// Optimizer steps taken.
    pub(crate) step: u64,
    /// Epochs that are done.
    pub(crate) epochs: usize,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) history: History,
    /// Losses and penalties of the running epoch's steps.
    pub(crate) losses: Vec<f64>,
    pub(crate) penalties: Vec<f64>,
    /// Whether a loss of the running epoch was finite.
    pub(crate) seen_finite: bool,
    pub(crate) stopping: Option<EarlyStopping>,
    pub(crate) best: Option<Judged<M>>,
    pub(crate) average: Option<Average<M>>,
    pub(crate) lookahead: Option<Lookahead>,
    /// Windows that ran through the model in this process, those that were skipped or undone included.
    pub(crate) passes: u64,
    pub(crate) store: Option<Store>,
    /// Where the last checkpoint stands.
    pub(crate) saved_at: Option<Place>,
    pub(crate) resumed: Option<Resumed>,
    pub(crate) warnings: Vec<Warning>,
    /// What was seen of the hidden values in the running step.
    pub(crate) watched: BTreeMap<String, f64>,
    /// Checkpoints that could not be written.
    pub(crate) failures: u64,
    pub(crate) rollbacks: u64,
    /// What rollbacks have left of the rate.
    pub(crate) rate_factor: f64,
    pub(crate) has_buffers: bool,
    /// Whether a float parameter does not train: running statistics, a codebook, a frozen weight.
    pub(crate) keeps_state: bool,
    pub(crate) warned_of_one: bool,
    pub(crate) looked_for_gradients: bool,
    /// The step after which the model was judged last.
    pub(crate) judged_at: Option<u64>,
    /// What the observers have not seen yet.
    pub(crate) saved: Vec<PathBuf>,
    pub(crate) not_saved: Vec<CheckpointError>,
    /// How many of the warnings they have seen.
    pub(crate) told: usize,
}

/// Epoch, batch, step, and whether the training ended there for good.
pub(crate) type Place = (usize, usize, u64, bool);

impl<M> Run<M> {
    pub(crate) fn place(&self) -> Place {
        let ended = self.outcome == Some(Outcome::EarlyStopped);
        (self.epoch, self.batch, self.step, ended)
    }

    /// Whether the losses of the running epoch tell of weights that broke, also where nobody judges.
    pub(crate) fn broke(&self) -> bool {
        if self.losses.is_empty() {
            !self.seen_finite
        } else {
            self.losses.iter().all(|loss| !loss.is_finite())
        }
    }

    /// Warns of the first epoch of which no step was taken.
    pub(crate) fn warn_of_no_step(&mut self) {
        let known = self.warnings.iter().any(|known| matches!(known, Warning::NoStep { .. }));
        if self.losses.is_empty() && !known {
            self.warn(Warning::NoStep { epoch: self.epoch });
        }
    }

    pub(crate) fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn end(&mut self, outcome: Outcome) {
        self.outcome.get_or_insert(outcome);
    }
}
