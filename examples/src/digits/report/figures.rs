//! The figures of the report, each a function from the summary to a `<figure>`.

use crate::summary::{CandidateSummary, Summary};
use firebrick::core::{History, names};
use firebrick::select::Spread;
use firebrick_examples::chart::{Chart, Scale, Unit, WIDTH, svg};
use firebrick_examples::page::{figure, legend, percent, rate};
use std::fmt::Write;

const TRAIN: (&str, &str) = ("train", "training rows");
const HELD: (&str, &str) = ("held", "validation rows");

fn empty(title: &str, why: &str) -> String {
    figure(title, why, "", "")
}

/// Training and validation number of the winner by epoch.
pub(super) fn learning(summary: &Summary, error: bool) -> String {
    let (id, title, train, held, unit, axis) = if error {
        let names = (names::TRAIN_ERROR, names::VALIDATION_ERROR);
        ("learning-error", "Error by epoch", names.0, names.1, Unit::Percent, "error rate")
    } else {
        let names = (names::TRAIN_LOSS, names::VALIDATION_LOSS);
        ("learning-loss", "Loss by epoch", names.0, names.1, Unit::Plain, "cross-entropy")
    };
    let (train, held) = (by_epoch(&summary.learning, train), by_epoch(&summary.learning, held));
    let last = train.iter().chain(&held).map(|point| point.0).fold(1.0, f64::max);
    if train.is_empty() && held.is_empty() {
        return empty(title, "The history holds no such numbers.");
    }
    let y = Scale::linear(train.iter().chain(&held).map(|point| point.1));
    let x = Scale::exact(if last > 1.0 { 1.0 } else { 0.0 }, last);
    let mut chart = Chart::new(230.0, (x, Unit::Count, "epoch"), (y, unit, axis));
    chart.line("train dash", train.iter().copied());
    chart.line("held", held.iter().copied());
    for (class, points) in [("train", &train), ("held", &held)] {
        points.last().into_iter().for_each(|&(x, y)| chart.mark(class, x, y));
    }
    let write = |points: &[(f64, f64)]| {
        points.last().map_or("none".into(), |&(_, value)| match unit {
            Unit::Percent => percent(value),
            _ => format!("{value:.4}"),
        })
    };
    let description = format!(
        "Over {last} epochs the training rows end at {}, the validation rows at {}.",
        write(&train),
        write(&held)
    );
    let caption = format!("The chosen candidate. {description}");
    let legend = legend([(TRAIN.0, TRAIN.1), (HELD.0, HELD.1)]);
    figure(title, &caption, &legend, &chart.finish(id, title, &description))
}

fn by_epoch(history: &History, name: &str) -> Vec<(f64, f64)> {
    let point = |record: &firebrick::core::Record| {
        record.get(name).map(|value| (record.epoch as f64, value))
    };
    history.records.iter().filter_map(point).collect()
}

/// The mean error of each candidate with its deviation over the folds.
pub(super) fn candidates(summary: &Summary) -> String {
    const ROW: f64 = 50.0;
    let title = "Error by candidate";
    let ends = |c: &CandidateSummary| {
        [&c.train_error, &c.validation_error].map(|s| s.as_ref().map_or(0.0, |s| s.mean + s.sd))
    };
    let x = Scale::linear(summary.candidates.iter().flat_map(ends));
    let mut chart = Chart::rows(
        summary.candidates.len(),
        ROW,
        (x, Unit::Percent, "mean error ± one standard deviation"),
    );
    let mut description = String::new();
    for (index, candidate) in summary.candidates.iter().enumerate() {
        let chosen = candidate.name == summary.chosen;
        let name =
            if chosen { format!("{} (chosen)", candidate.name) } else { candidate.name.clone() };
        let top = index as f64;
        let at = (8.0, 2.0 + top * ROW + 13.0);
        chart.text(if chosen { "name chosen" } else { "name" }, "start", at, &clip(&name, 44));
        if let Some(why) = &candidate.disqualified {
            let below = (8.0, at.1 + 16.0);
            chart.text("", "start", below, &clip(&format!("disqualified: {why}"), 44));
        }
        for (class, spread, row) in
            [("train", &candidate.train_error, 0.5), ("held", &candidate.validation_error, 0.74)]
        {
            let Some(Spread { mean, sd, .. }) = spread else { continue };
            chart.error_bar(class, false, top + row, mean - sd, mean + sd);
            chart.mark(class, *mean, top + row);
        }
        let _ = write!(
            description,
            "{name}: training {}, validation {}. ",
            spread(&candidate.train_error),
            spread(&candidate.validation_error)
        );
    }
    let caption = format!(
        "{}-fold cross-validation; training and validation error are averaged apart.",
        summary.data.folds
    );
    let legend = legend([(TRAIN.0, "training folds"), (HELD.0, "validation folds")]);
    figure(title, &caption, &legend, &chart.finish("candidates", title, &description))
}

fn spread(spread: &Option<Spread>) -> String {
    spread.as_ref().map_or("none".into(), |s| format!("{} ± {}", percent(s.mean), rate(s.sd)))
}

fn clip(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Error against the number of parameters.
pub(super) fn complexity(summary: &Summary) -> String {
    let title = "Error against complexity";
    let mut field: Vec<(&CandidateSummary, &Spread, &Spread)> = summary
        .candidates
        .iter()
        .filter_map(|c| Some((c, c.train_error.as_ref()?, c.validation_error.as_ref()?)))
        .collect();
    field.sort_by_key(|(candidate, ..)| candidate.parameters);
    let x = Scale::log(field.iter().map(|(candidate, ..)| candidate.parameters as f64));
    let y = Scale::linear(field.iter().flat_map(|(_, a, b)| [a.mean + a.sd, b.mean + b.sd]));
    let mut chart = Chart::new(
        250.0,
        (x, Unit::Count, "parameters (logarithmic)"),
        (y, Unit::Percent, "mean error"),
    );
    let parameters = |candidate: &CandidateSummary| candidate.parameters as f64;
    chart.line("train dash", field.iter().map(|(c, a, _)| (parameters(c), a.mean)));
    chart.line("held", field.iter().map(|(c, _, b)| (parameters(c), b.mean)));
    for (candidate, train, held) in &field {
        for (class, spread) in [("train", train), ("held", held)] {
            let (low, high) = (spread.mean - spread.sd, spread.mean + spread.sd);
            chart.error_bar(class, true, parameters(candidate), low, high);
            chart.mark(class, parameters(candidate), spread.mean);
        }
        let centre = chart.x.at(parameters(candidate)).zip(chart.y.at(held.mean));
        if let Some((x, y)) = centre.filter(|_| candidate.name == summary.chosen) {
            let ring =
                format_args!("<circle class=\"ring\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8.5\"/>");
            chart.raw(ring);
        }
    }
    let description = field
        .iter()
        .map(|(c, a, b)| {
            format!(
                "{} parameters: training {}, validation {}.",
                c.parameters,
                percent(a.mean),
                percent(b.mean)
            )
        })
        .collect::<Vec<_>>()
        .join(" ");
    let caption = "Candidates differ in more than their size; the ring marks the chosen one.";
    let legend = legend([(TRAIN.0, "training folds"), (HELD.0, "validation folds")]);
    figure(title, caption, &legend, &chart.finish("complexity", title, &description))
}

/// Rows by true class, columns by predicted class.
pub(super) fn confusion(summary: &Summary) -> String {
    let title = "Confusion on the test part";
    let matrix = &summary.test.confusion;
    let n = matrix.len();
    if n == 0 {
        return empty(title, "There are no counts.");
    }
    let (left, top) = (44.0, 32.0);
    let size = (WIDTH - left - 8.0) / n as f64;
    // Numbers that do not fit into their cell are left to its tooltip.
    let labelled = n <= 12;
    let mut body = format!(
        "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"11\">predicted</text>\
         <text text-anchor=\"middle\" transform=\"translate(11 {:.1}) rotate(-90)\">true</text>",
        left + size * n as f64 / 2.0,
        top + size * n as f64 / 2.0
    );
    let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
    for (class, row) in matrix.iter().enumerate() {
        let total = row.iter().sum::<usize>().max(1) as f64;
        let middle = (class as f64 + 0.5) * size;
        if labelled {
            let _ = write!(
                body,
                "<text class=\"name\" text-anchor=\"middle\" x=\"{:.1}\" y=\"26\">{class}</text>\
                 <text class=\"name\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{class}</text>",
                left + middle,
                left - 7.0,
                top + middle + 4.0
            );
        }
        for (predicted, &count) in row.iter().enumerate() {
            let (x, y) = (left + predicted as f64 * size, top + class as f64 * size);
            let share = count as f64 / total;
            let (kind, strength) = match (class == predicted, count) {
                (_, 0) => ("cell", 1.0),
                (true, _) => ("hit", 0.12 + 0.38 * share),
                // One miss among many must be seen too.
                (false, _) => ("miss", (0.35 + 2.0 * share).min(0.9)),
            };
            if class != predicted && count > 0 {
                pairs.push((count, class, predicted));
            }
            let _ = write!(
                body,
                "<g><title>true {class}, predicted {predicted}: {count}</title><rect class=\"{kind}\" \
                 fill-opacity=\"{strength:.2}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
                x + 1.0,
                y + 1.0,
                (size - 2.0).max(0.5),
                (size - 2.0).max(0.5)
            );
            if labelled {
                let zero = if count == 0 { " zero" } else { "" };
                let _ = write!(
                    body,
                    "<text class=\"count{zero}\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{count}</text>",
                    x + size / 2.0,
                    y + size / 2.0 + 4.0
                );
            }
            body.push_str("</g>");
        }
    }
    pairs.sort_by(|a, b| b.0.cmp(&a.0).then(a.cmp(b)));
    let wrong: usize = pairs.iter().map(|pair| pair.0).sum();
    let worst: Vec<String> = pairs
        .iter()
        .take(3)
        .map(|(count, class, predicted)| format!("{class} taken for {predicted} ({count})"))
        .collect();
    let mut caption = format!("{wrong} of {} rows are wrong.", summary.test.n);
    if !worst.is_empty() {
        let _ = write!(caption, " Most often {}.", worst.join(", "));
    }
    let drawing = svg("confusion", top + size * n as f64 + 6.0, title, &caption, &body);
    figure(title, &caption, "", &drawing)
}

/// Gradient norms by layer over the steps of the final training.
pub(super) fn gradients(summary: &Summary) -> String {
    const MOST: usize = 8;
    let title = "Gradient norm by layer";
    let prefix = format!("{}/", names::GRADIENT_NORM);
    let all: Vec<&str> =
        summary.gradients.names().into_iter().filter(|name| name.starts_with(&prefix)).collect();
    if all.is_empty() {
        return empty(title, "The history holds no gradient norms by layer.");
    }
    // More lines than colours: evenly chosen, the first and the last among them.
    let shown: Vec<&str> = if all.len() <= MOST {
        all.clone()
    } else {
        (0..MOST).filter_map(|i| all.get(i * (all.len() - 1) / (MOST - 1)).copied()).collect()
    };
    let series: Vec<Vec<(f64, f64)>> = shown
        .iter()
        .map(|name| {
            let point = |record: &firebrick::core::Record| {
                record.get(name).map(|norm| (record.step as f64, norm))
            };
            summary.gradients.records.iter().filter_map(point).collect()
        })
        .collect();
    let reduced: Vec<Vec<(f64, f64, f64, f64)>> = series.iter().map(|s| buckets(s, 60)).collect();
    let y = Scale::log(reduced.iter().flatten().flat_map(|b| [b.1, b.3]));
    let last = series.iter().flatten().map(|p| p.0).fold(1.0, f64::max);
    let mut chart = Chart::new(
        250.0,
        (Scale::exact(0.0, last), Unit::Count, "step"),
        (y, Unit::Plain, "norm before clipping (logarithmic)"),
    );
    let classes: Vec<String> =
        (0..shown.len()).map(|i| format!("layer-{}", i * MOST / shown.len())).collect();
    for (class, points) in classes.iter().zip(&reduced) {
        let band: Vec<(f64, f64, f64)> = points.iter().map(|b| (b.0, b.1, b.3)).collect();
        chart.band(class, &band);
    }
    for (class, points) in classes.iter().zip(&reduced) {
        chart.line(class, points.iter().map(|b| (b.0, b.2)));
    }
    let short: Vec<&str> = shown.iter().map(|name| &name[prefix.len()..]).collect();
    let ends: Vec<String> = short
        .iter()
        .zip(&reduced)
        .filter_map(|(name, points)| {
            Some(format!("{name} from {:.3} to {:.3}", points.first()?.2, points.last()?.2))
        })
        .collect();
    let mut caption =
        "The final training. Lines are medians of neighbouring steps, bands their range."
            .to_owned();
    if shown.len() < all.len() {
        let _ = write!(caption, " {} of {} layers are drawn.", shown.len(), all.len());
    }
    let legend = legend(classes.iter().map(String::as_str).zip(short.iter().copied()));
    let drawing = chart.finish("gradients", title, &format!("{}.", ends.join("; ")));
    figure(title, &caption, &legend, &drawing)
}

/// Some `most` groups of neighbours as (x, least, median, greatest), without what has no logarithm; so few
/// points that they can be drawn one by one stay alone.
fn buckets(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64, f64, f64)> {
    let good: Vec<(f64, f64)> =
        points.iter().copied().filter(|(_, y)| y.is_finite() && *y > 0.0).collect();
    let size = if good.len() <= most { 1 } else { good.len().div_ceil(most).max(3) };
    good.chunks(size)
        .map(|group| {
            let mut sorted: Vec<f64> = group.iter().map(|p| p.1).collect();
            sorted.sort_by(f64::total_cmp);
            let last = sorted.len() - 1;
            let x = group.iter().map(|p| p.0).sum::<f64>() / group.len() as f64;
            let median = 0.5 * sorted[last / 2] + 0.5 * sorted[sorted.len() / 2];
            (x, sorted[0], median, sorted[last])
        })
        .collect()
}
