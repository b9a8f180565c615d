//! Rules on gradient norms, by layer and over time, and on skipped steps.

use super::{confidence, show};
use crate::{
    Context, Finding, FindingKind,
    curve::{Curve, median},
};
use firebrick_core::{History, names};

/// A layer's median gradient norm over the run, divided by the root of its size where that is known.
struct Depth {
    name: String,
    norm: f64,
    scaled: f64,
}

/// The layers of the context in their order, or all layers of the history in the order of their names.
fn layers(history: &History, context: &Context) -> Vec<Depth> {
    let norm_of = |name: &str| {
        let series = history.series(&format!("{}/{name}", names::GRADIENT_NORM));
        median(series.into_iter().filter(|norm| norm.is_finite() && *norm >= 0.0))
    };
    if context.layers.is_empty() {
        let prefix = format!("{}/", names::GRADIENT_NORM);
        let all = history.names();
        return all
            .into_iter()
            .filter_map(|name| name.strip_prefix(&prefix))
            .filter_map(|name| {
                norm_of(name).map(|norm| Depth { name: name.into(), norm, scaled: norm })
            })
            .collect();
    }
    let known = context.layers.iter().filter_map(|layer| {
        let norm = norm_of(&layer.name)?;
        let scaled = norm / (layer.parameters as f64).sqrt();
        Some(Depth { name: layer.name.clone(), norm, scaled })
    });
    known.collect()
}

/// Slope of `ln(norm / sqrt(n))` over the layers from input to output by least squares; at least 4 layers.
fn slope(layers: &[Depth]) -> Option<f64> {
    if layers.len() < 4 || layers.iter().any(|layer| layer.scaled <= 0.0) {
        return None;
    }
    let n = layers.len() as f64;
    let middle = (n - 1.0) / 2.0;
    let (mut up, mut down) = (0.0, 0.0);
    for (index, layer) in layers.iter().enumerate() {
        let x = index as f64 - middle;
        up += x * layer.scaled.ln();
        down += x * x;
    }
    Some(up / down)
}

/// The smallest norm is below 1e-3 of the largest and below 1e-4; or, with the order known, norms grow
/// towards the output by more than e^0.5 a layer.
pub(super) fn vanishing(history: &History, context: &Context) -> Option<Finding> {
    let layers = layers(history, context);
    let least = layers.iter().min_by(|a, b| a.norm.total_cmp(&b.norm))?;
    let most = layers.iter().max_by(|a, b| a.norm.total_cmp(&b.norm))?;
    let steep = (!context.layers.is_empty()).then(|| slope(&layers)).flatten().filter(|s| *s > 0.5);
    let tiny = least.norm < 1e-4 && least.norm < 1e-3 * most.norm;
    if !tiny && steep.is_none() {
        return None;
    }
    let mut evidence = format!(
        "the median gradient norm of `{}` is {}, that of `{}` {}",
        least.name,
        show(least.norm),
        most.name,
        show(most.norm)
    );
    if let Some(steep) = steep {
        evidence.push_str(&format!(
            "; per parameter it grows by a factor of {} a layer towards the output",
            show(steep.exp())
        ));
    }
    let r =
        steep.map_or(0.0, |s| s / 0.5).max(if tiny { 1e-3 * most.norm / least.norm } else { 0.0 });
    if least.norm == 0.0 {
        evidence.push_str(
            "; a gradient of exactly 0 means dead units, equal initial weights, or a layer that \
                           the loss does not reach",
        );
        let remedy = "lower the learning rate, draw initial weights at random (He's for ReLU), check that \
                      the loss depends on the layer, use leaky ReLU";
        return Some(Finding::new(FindingKind::VanishingGradients, 0.99, evidence, remedy));
    }
    let remedy = "use ReLU-like activations with He initialization (or SELU with LeCun's), batch or layer \
                  normalization, residual connections; LSTM gates in recurrent networks";
    Some(Finding::new(FindingKind::VanishingGradients, confidence(0.9, r), evidence, remedy))
}

/// A gradient norm that is NaN or infinite; the first layer's norm above 70 times the last one's, or a slope
/// below -0.5, with the order known; the largest above 70 times the median layer's and above 70, without;
/// a global norm that ends above 70 and at 70 times its start.
pub(super) fn exploding(history: &History, context: &Context) -> Option<Finding> {
    let remedy = "clip the global gradient norm, lower the learning rate or warm it up, use He or Xavier \
                  initialization, normalization and residual connections";
    let found = |trust, evidence: String| {
        Some(Finding::new(FindingKind::ExplodingGradients, trust, evidence, remedy))
    };
    if let Some((name, epoch, share)) = broken(history) {
        let trust = if share > 0.05 { 0.95 } else { 0.6 };
        let text = format!(
            "`{name}` was not finite for the first time in epoch {epoch}, in {} of its records",
            super::percent(share)
        );
        return found(trust, text);
    }
    let layers = layers(history, context);
    if let (Some(first), Some(last)) = (layers.first(), layers.last()) {
        let ordered = !context.layers.is_empty();
        let steep = slope(&layers).map_or(0.0, |slope| if ordered { slope / -0.5 } else { 0.0 });
        let ratio = first.norm / last.norm / 70.0;
        if ordered && (steep > 1.0 || (last.norm > 0.0 && ratio > 1.0)) {
            let text = format!(
                "the median gradient norm of the first layer `{}` is {}, that of the last `{}` {}",
                first.name,
                show(first.norm),
                last.name,
                show(last.norm)
            );
            return found(confidence(0.9, steep.max(ratio)), text);
        }
        let middle = median(layers.iter().map(|layer| layer.norm))?;
        let most = layers.iter().max_by(|a, b| a.norm.total_cmp(&b.norm))?;
        if !ordered && most.norm > 70.0 && middle > 0.0 && most.norm > 70.0 * middle {
            let text = format!(
                "the median gradient norm of `{}` is {}, that of the median layer {}",
                most.name,
                show(most.norm),
                show(middle)
            );
            return found(confidence(0.7, most.norm / middle / 70.0), text);
        }
    }
    let global = Curve::of(history, names::GRADIENT_NORM);
    let (start, end) = (global.first()?, global.tail()?);
    if global.len() >= 3 && start > 0.0 && end > 70.0 && end > 70.0 * start {
        let text = format!("the global gradient norm rose from {} to {}", show(start), show(end));
        return found(confidence(0.7, end / start / 70.0), text);
    }
    None
}

/// The gradient norm that was the first to be NaN or infinite, with the share of such records.
fn broken(history: &History) -> Option<(String, usize, f64)> {
    let prefix = format!("{}/", names::GRADIENT_NORM);
    let is_norm = |name: &str| name == names::GRADIENT_NORM || name.starts_with(&prefix);
    let (name, epoch) = history.records.iter().find_map(|record| {
        let mut bad = record.values.iter().filter(|(name, v)| is_norm(name) && !v.is_finite());
        bad.next_back().map(|(name, _)| (name.clone(), record.epoch))
    })?;
    let series = history.series(&name);
    let bad = series.iter().filter(|norm| !norm.is_finite()).count() as f64;
    let share = bad / series.len() as f64;
    // A guard that skipped these few steps has done what is to be done.
    let handled = share <= 0.05 && bad <= skipped_steps(history);
    (!handled).then_some((name, epoch, share))
}

/// How many steps the run skipped. The history counts them up, as it does the steps taken; a count that falls
/// back is a run that was resumed and counts anew.
fn skipped_steps(history: &History) -> f64 {
    let mut before = 0.0;
    let mut total = 0.0;
    for count in history.series(names::SKIPPED).into_iter().filter(|n| n.is_finite() && *n >= 0.0) {
        total += if count >= before { count - before } else { count };
        before = count;
    }
    total
}

/// More than one step in twenty was skipped.
pub(super) fn skipped(history: &History) -> Option<Finding> {
    let skipped = skipped_steps(history);
    let taken = history.records.iter().map(|record| record.step).max()? as f64;
    let share = skipped / (skipped + taken);
    if !share.is_finite() || share <= 0.05 {
        return None;
    }
    let evidence =
        format!("{skipped} steps were skipped and {taken} taken, {} of all", super::percent(share));
    let remedy = "look at what the guard saw (non-finite loss or gradients, loss spikes): check the inputs \
                  of those batches, lower the learning rate or the loss scale, clip";
    Some(Finding::new(FindingKind::SkippedSteps, confidence(0.8, share / 0.05), evidence, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{history, kinds};
    use super::*;
    use crate::diagnose;

    fn norms(values: &[(&str, f64)]) -> History {
        let names: Vec<String> =
            values.iter().map(|(name, _)| format!("grad_norm/{name}")).collect();
        let columns: Vec<[f64; 5]> = values.iter().map(|&(_, value)| [value; 5]).collect();
        let pairs: Vec<(&str, &[f64])> = names
            .iter()
            .zip(&columns)
            .map(|(name, column)| (name.as_str(), column.as_slice()))
            .collect();
        history(&pairs)
    }

    #[test]
    fn the_layer_that_vanishes_is_named() {
        let run = norms(&[("fc1", 1e-7), ("fc2", 1e-4), ("out", 0.5)]);
        let found = diagnose(&run, &Context::new()).expect("valid");
        assert_eq!(found[0].finding, FindingKind::VanishingGradients);
        let text = "the median gradient norm of `fc1` is 1.00e-7, that of `out` 0.5000";
        assert_eq!(found[0].evidence, text);
        // Small everywhere is a minimum, not a fault.
        let small = norms(&[("fc1", 1e-6), ("out", 1e-5)]);
        assert_eq!(kinds(&small, &Context::new()), [FindingKind::TooShort]);
        let dead = norms(&[("fc1", 0.0), ("out", 0.5)]);
        let found = diagnose(&dead, &Context::new()).expect("valid");
        assert_eq!(found[0].finding, FindingKind::VanishingGradients);
        assert!(found[0].evidence.contains("dead units"), "{}", found[0].evidence);
    }

    #[test]
    fn slopes_need_the_order_and_use_the_size() {
        let layers = [("z", 100), ("y", 100), ("x", 100), ("w", 100)];
        let norm = |rate: f64| {
            norms(&[
                ("z", 1.0),
                ("y", rate.exp()),
                ("x", (2.0 * rate).exp()),
                ("w", (3.0 * rate).exp()),
            ])
        };
        let context = Context::new().with_layers(layers);
        assert_eq!(kinds(&norm(0.6), &context), [FindingKind::VanishingGradients]);
        assert_eq!(kinds(&norm(-0.6), &context), [FindingKind::ExplodingGradients]);
        assert_eq!(kinds(&norm(0.45), &context), [FindingKind::TooShort]);
        assert_eq!(kinds(&norm(0.6), &Context::new()), [FindingKind::TooShort]);
        // Norms that grow as the root of the size are flat per parameter.
        let wide = Context::new().with_layers([("z", 1), ("y", 4), ("x", 16), ("w", 64)]);
        assert_eq!(kinds(&norm(2f64.ln()), &wide), [FindingKind::TooShort]);
    }

    #[test]
    fn explosions_by_layer_over_time_and_non_finite() {
        let layer = norms(&[("a", 1.0), ("b", 2.0), ("c", 900.0)]);
        let found = diagnose(&layer, &Context::new()).expect("valid");
        assert_eq!(found[0].finding, FindingKind::ExplodingGradients);
        assert!(found[0].evidence.contains("`c` is 900.0"), "{}", found[0].evidence);
        let time = history(&[("grad_norm", &[1.0, 10.0, 80.0, 100.0, 120.0])]);
        assert_eq!(kinds(&time, &Context::new()), [FindingKind::ExplodingGradients]);
        let broken = history(&[("grad_norm/a", &[1.0, f64::INFINITY, f64::NAN, 1.0])]);
        let found = diagnose(&broken, &Context::new()).expect("valid");
        let text =
            "`grad_norm/a` was not finite for the first time in epoch 2, in 50.00 % of its records";
        assert_eq!(found[0].evidence, text);
    }

    #[test]
    fn non_finite_norms_of_skipped_steps_are_no_explosion() {
        let mut norms = [0.5; 40];
        norms[7] = f64::NAN;
        let mut skipped = [1.0; 40];
        skipped[..7].fill(0.0);
        let handled = history(&[("grad_norm", &norms), (names::SKIPPED, &skipped)]);
        assert_eq!(kinds(&handled, &Context::new()), [FindingKind::TooShort]);
        let applied = history(&[("grad_norm", &norms)]);
        assert_eq!(kinds(&applied, &Context::new()), [FindingKind::ExplodingGradients]);
    }

    #[test]
    fn a_few_skipped_steps_are_no_finding() {
        // `history` takes 20 steps a record; the run was resumed after the second.
        let few = history(&[(names::SKIPPED, &[1.0, 1.0, 1.0, 2.0])]);
        assert_eq!(kinds(&few, &Context::new()), [FindingKind::TooShort]);
        let many = history(&[(names::SKIPPED, &[5.0, 10.0, 3.0, 10.0])]);
        let found = diagnose(&many, &Context::new()).expect("valid");
        assert_eq!(found[0].evidence, "20 steps were skipped and 80 taken, 20.00 % of all");
    }
}
