//! The result as text.

use crate::story::{Effect, Summary};
use std::fmt::Write;

/// A table of all effects.
pub(crate) fn text(summary: &Summary) -> String {
    let seeds: Vec<String> = summary.seeds.iter().map(ToString::to_string).collect();
    let mut text = format!("One measure at a time, seeds {}\n", seeds.join(", "));
    let mut subject = "";
    for effect in &summary.effects {
        if effect.subject != subject {
            subject = &effect.subject;
            let _ = writeln!(text, "\n{subject}");
        }
        let holds = if effect.holds() { "" } else { "  NOT WITH EVERY SEED" };
        let _ = writeln!(
            text,
            "  {:<52} {:<22} {:>9} -> {:<9} {}{holds}",
            effect.measure,
            effect.number,
            number(effect, median(&effect.without)),
            number(effect, median(&effect.with)),
            least(effect),
        );
    }
    text + "\nMedians over the seeds, and the least change of any seed, each with the same rows, weights and order.\n"
}

/// The middle value, infinities included.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A value of an effect's number.
pub(crate) fn number(effect: &Effect, value: f64) -> String {
    match value {
        _ if value.is_infinite() => "exploded".into(),
        _ if effect.share => format!("{:.1} %", 100.0 * value),
        _ if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) => format!("{value:.1e}"),
        _ => format!("{value:.3}"),
    }
}

/// The least change of any seed.
pub(crate) fn least(effect: &Effect) -> String {
    let changes = effect.without.iter().zip(&effect.with);
    let changes: Vec<f64> = if effect.share {
        changes.map(|(without, with)| with - without).collect()
    } else {
        changes.map(|(without, with)| with / without).collect()
    };
    let falls = if effect.share { effect.margin < 0.0 } else { effect.margin < 1.0 };
    let least = changes
        .into_iter()
        .reduce(|a, b| if falls { a.max(b) } else { a.min(b) })
        .unwrap_or(f64::NAN);
    if effect.share {
        format!("{:+.1} points", 100.0 * least)
    } else if least != 0.0 && !(1e-3..1e5).contains(&least) {
        format!("x {least:.1e}")
    } else {
        format!("x {least:.3}")
    }
}
