//! The one rate that is no function of the step: it falls when what is judged no longer improves.

use crate::bits::Bits;
use burn::lr_scheduler::LrSchedulerRecord;
use firebrick_core::{ConfigError, Record};
use firebrick_optim::schedule::{Plateau, ScheduleError};
use serde::{Deserialize, Serialize};

/// A plateau and the name of what it is told.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) plateau: Plateau,
    pub(crate) monitor: String,
}

impl Watched {
    /// Tells the plateau what a judgement found.
    ///
    /// # Errors
    /// When the judgement knows nothing of this name.
    pub(crate) fn observe(&mut self, record: &Record) -> Result<(), ConfigError> {
        let Some(value) = record.get(&self.monitor) else {
            let names: Vec<&str> = record.values.keys().map(String::as_str).collect();
            let expected = format!("what a judgement finds: {}", names.join(", "));
            return Err(ConfigError::new("monitor", &self.monitor, expected));
        };
        self.plateau.observe(value);
        Ok(())
    }
}

/// What a checkpoint keeps of a plateau.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlateauState {
    rate: Bits,
    best: Option<Bits>,
    bad: u64,
    cooldown: u64,
    config: u64,
}

impl PlateauState {
    pub(crate) fn of(plateau: &Plateau) -> Self {
        let record = plateau.to_record();
        let number = |name: &str| record.scalar::<u64>(name).unwrap_or_default();
        Self {
            rate: Bits(plateau.rate()),
            best: plateau.best().map(Bits),
            bad: number("bad"),
            cooldown: number("cooldown"),
            config: number("config"),
        }
    }

    /// What tells one configuration from another.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.config
    }

    /// Brings `plateau` to where this was taken.
    pub(crate) fn restore(&self, plateau: &mut Plateau) -> Result<(), ScheduleError> {
        let record = LrSchedulerRecord::new()
            .with_scalar("rate", self.rate.0)
            .with_scalar("bad", self.bad)
            .with_scalar("cooldown", self.cooldown)
            .with_scalar("config", self.config);
        let record = match self.best {
            Some(Bits(best)) => record.with_scalar("best", best),
            None => record,
        };
        plateau.try_load_record(&record)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::testing::{full, same, store, train_with};
    use crate::{FitConfig, Fitted, Outcome, TrainError};
    use firebrick_core::names;
    use firebrick_optim::AdamWConfig;
    use firebrick_optim::schedule::{Plateau, PlateauConfig};
    use std::path::Path;

    /// Falls wherever a judgement is not better by a fifth.
    fn plateau() -> Plateau {
        let config = PlateauConfig::new(0.05).with_patience(0).with_factor(0.5);
        config.with_threshold(0.2).build().expect("valid")
    }

    fn run(
        config: FitConfig,
        plateau: Plateau,
        monitor: &str,
        folder: Option<&Path>,
        stop_after: Option<u64>,
    ) -> Result<Fitted<crate::testing::Deep>, TrainError> {
        let optimizer = AdamWConfig::new().fused().expect("valid");
        train_with(optimizer, config, folder.map(store), stop_after, 8, |settings| {
            settings.rate = crate::settings::Rate::plateau(plateau, monitor.into());
            settings.momentum_reset = None;
        })
    }

    #[test]
    fn the_rate_is_that_of_a_plateau_that_is_told_every_judgement() {
        let fitted = run(full(6), plateau(), names::VALIDATION_LOSS, None, None).expect("trains");
        let mut by_hand = plateau();
        let mut falls = 0;
        for record in &fitted.history.records {
            // The rate of the steps before this judgement.
            assert_eq!(record.get(names::LEARNING_RATE), Some(by_hand.rate()));
            if let Some(loss) = record.get(names::VALIDATION_LOSS) {
                let before = by_hand.rate();
                falls += u32::from(by_hand.observe(loss) < before);
            }
        }
        assert!(falls > 0, "{:?}", fitted.history.series(names::VALIDATION_LOSS));
    }

    #[test]
    fn a_plateau_is_resumed_to_the_bit() {
        let whole = run(full(6), plateau(), names::VALIDATION_LOSS, None, None).expect("trains");
        for pieces in [1, 4] {
            let folder = tempfile::tempdir().expect("writable");
            let piece = || {
                let folder = Some(folder.path());
                run(full(6), plateau(), names::VALIDATION_LOSS, folder, Some(pieces))
            };
            let mut last = piece().expect("trains");
            while last.outcome == Outcome::Interrupted {
                last = piece().expect("resumes");
            }
            same(&last, &whole);
        }
    }

    #[test]
    fn another_plateau_and_an_unknown_monitor_are_refused() {
        let folder = tempfile::tempdir().expect("writable");
        let config = || full(2).with_max_steps(Some(2));
        let again = |plateau, monitor| {
            let result = run(config(), plateau, monitor, Some(folder.path()), None);
            result.map(drop).map_err(|error| error.to_string())
        };
        again(plateau(), names::VALIDATION_LOSS).expect("trains");
        let other = PlateauConfig::new(0.04).build().expect("valid");
        let error = again(other, names::VALIDATION_LOSS).expect_err("another one");
        assert!(error.contains("another configuration: `schedule` was"), "{error}");
        let error = again(plateau(), names::TRAIN_LOSS).expect_err("another one");
        assert!(error.contains("another configuration: `monitor` was"), "{error}");
        let error = run(config(), plateau(), "auroc", None, None).expect_err("nobody measures it");
        assert!(error.to_string().starts_with("`monitor` must be what a judgement finds: "));
    }
}
