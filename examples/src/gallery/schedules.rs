//! Every schedule of the registry as a curve.

use firebrick::optim::schedule::{NamedSchedule, SCHEDULES, ScheduleCard, ScheduleError};
use serde_json::Value;

/// Updates that the page shows.
pub(crate) const STEPS: u64 = 120;

/// A schedule and its rates.
#[derive(Debug)]
pub(crate) struct Curve {
    pub(crate) card: &'static ScheduleCard,
    /// The configuration that is drawn.
    pub(crate) config: Value,
    pub(crate) rates: Vec<f64>,
}

/// The curves of all schedules, with the example configuration of each.
pub(crate) fn curves() -> Result<Vec<Curve>, ScheduleError> {
    SCHEDULES
        .iter()
        .map(|card| {
            let mut config = (card.example)();
            let rates = match card.build(&config)? {
                NamedSchedule::Function(schedule) => {
                    (0..=STEPS).map(|k| schedule.rate(k)).collect()
                }
                NamedSchedule::Plateau(_) => {
                    config["factor"] = 0.5.into();
                    reduced_on_plateau(card, &config)?
                }
            };
            Ok(Curve { card, config, rates })
        })
        .collect()
}

/// The plateau needs a metric: a loss that falls for 30 epochs and then stays.
fn reduced_on_plateau(card: &ScheduleCard, config: &Value) -> Result<Vec<f64>, ScheduleError> {
    let NamedSchedule::Plateau(mut plateau) = card.build(config)? else { return Ok(Vec::new()) };
    let first = plateau.rate();
    let losses = (0..STEPS).map(|epoch| 1.0 / (1.0 + epoch.min(30) as f64));
    Ok(std::iter::once(first).chain(losses.map(|loss| plateau.observe(loss))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_is_drawn_whole() {
        let curves = curves().expect("the examples are valid");
        assert_eq!(curves.len(), SCHEDULES.len());
        for curve in curves {
            assert_eq!(curve.rates.len() as u64, STEPS + 1, "{}", curve.card.name);
            assert!(curve.rates.iter().all(|rate| rate.is_finite()), "{}", curve.card.name);
            let varies = curve.rates.iter().any(|&rate| rate != curve.rates[0]);
            assert_eq!(varies, curve.card.name != "constant", "{}", curve.card.name);
        }
    }
}
