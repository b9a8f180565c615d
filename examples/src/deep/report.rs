//! The report: one HTML file with its figures inside.

use crate::print::{least, median, number};
use crate::story::{Effect, Flow, Summary};
use firebrick_examples::chart::{Chart, Scale, Unit, escape};
use firebrick_examples::page::{figure, legend, page, section, table, tile};
use std::fmt::Write;

/// The whole page.
pub(crate) fn html(summary: &Summary) -> String {
    let body = [
        head(summary),
        section("Where the gradients go", &flows(summary)),
        section("What each measure does alone", &effects(summary)),
        section("How it was measured", &origin(summary)),
    ]
    .concat();
    page("Deep nets that train", &body)
}

fn head(summary: &Summary) -> String {
    let holds = summary.effects.iter().filter(|effect| effect.holds()).count();
    let seeds = summary.seeds.len();
    let total = summary.effects.len();
    let mut tiles = vec![tile(
        " test",
        "Effects that hold",
        &format!("{holds} of {total}"),
        &format!("with each of {seeds} seeds"),
    )];
    for (name, note, effect) in [
        ("He initialization", "median accuracy, 10 ReLU layers", "initialization: He"),
        ("Pre-training", "median accuracy, 4 sigmoid layers", "greedy layer-wise pre-training"),
    ] {
        if let Some(effect) = summary.effects.iter().find(|other| other.measure == effect) {
            let (without, with) = (median(&effect.without), median(&effect.with));
            let change = format!("{} \u{2192} {}", number(effect, without), number(effect, with));
            tiles.push(tile("", name, &change, note));
        }
    }
    format!(
        "<header>\n<p class=\"soft\">UCI optical recognition of handwritten digits, and the adding problem</p>\n\
         <h1>Deep nets that do not train, and what makes them</h1>\n\
         <p>A gradient that shrinks or grows by the same factor in every layer has vanished or exploded after a dozen. \
         Each measure against it is tried alone: same rows, same seeds, one thing changed.</p>\n\
         <div class=\"tiles\">\n{}</div>\n</header>\n",
        tiles.concat()
    )
}

fn colour(index: usize) -> &'static str {
    ["held", "layer-1", "layer-3", "mark", "layer-5", "layer-7", "layer-0", "layer-2"][index % 8]
}

fn flows(summary: &Summary) -> String {
    let drawn: String =
        summary.flows.iter().enumerate().map(|(id, flow)| one_flow(id, flow)).collect();
    format!("<div class=\"figures\">\n{drawn}</div>\n")
}

fn one_flow(id: usize, flow: &Flow) -> String {
    // A logarithmic axis has no place for 0, and a line a gap.
    let drawn = |value: f64| (value.is_finite() && value > 0.0).then_some(value);
    let points = || flow.lines.iter().flat_map(|line| line.points.iter());
    let last = points().map(|point| point.0).max().unwrap_or(1);
    let first = points().map(|point| point.0).min().unwrap_or(0);
    let x = Scale::exact(first as f64, last as f64);
    let y = Scale::log(points().filter_map(|point| drawn(point.1)));
    let number = format!("{} (logarithmic)", flow.number);
    let mut chart = Chart::new(250.0, (x, Unit::Plain, &flow.axis), (y, Unit::Plain, &number));
    let mut description = String::new();
    for (index, line) in flow.lines.iter().enumerate() {
        let points = line.points.iter().map(|&(x, y)| (x as f64, drawn(y).unwrap_or(f64::NAN)));
        chart.line(colour(index), points);
        let mut known = line.points.iter().filter(|(_, y)| y.is_finite());
        let ends = [known.next(), known.next_back()];
        let ends: Vec<String> =
            ends.into_iter().flatten().map(|(x, y)| format!("{y:.1e} at {x}")).collect();
        let _ = write!(description, "{}: {}. ", line.name, ends.join(", "));
    }
    let legend = legend(
        flow.lines.iter().enumerate().map(|(index, line)| (colour(index), line.name.as_str())),
    );
    figure(
        &flow.title,
        &flow.note,
        &legend,
        &chart.finish(&format!("flow-{id}"), &flow.title, &description),
    )
}

fn effects(summary: &Summary) -> String {
    let mut subjects: Vec<&str> = Vec::new();
    for effect in &summary.effects {
        if !subjects.contains(&effect.subject.as_str()) {
            subjects.push(&effect.subject);
        }
    }
    let part = |subject: &&str| {
        let rows: String =
            summary.effects.iter().filter(|effect| effect.subject == **subject).map(row).collect();
        let heads = ["measure", "number", "without", "with", "least change", "asked for"];
        format!("<h3>{}</h3>\n{}", escape(subject), table(&escape(subject), &heads, &rows))
    };
    subjects.iter().map(part).collect()
}

fn row(effect: &Effect) -> String {
    let asked = match effect.share {
        true => format!("{:+.0} points", 100.0 * effect.margin),
        false => format!("x {}", effect.margin),
    };
    let each = |values: &[f64]| {
        let all: Vec<String> = values.iter().map(|&value| number(effect, value)).collect();
        format!("<b>{}</b><br><small>{}</small>", number(effect, median(values)), all.join(", "))
    };
    let class = if effect.holds() { "good" } else { "held" };
    format!(
        "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{}</td><td>{asked}</td></tr>\n",
        escape(&effect.measure),
        escape(&effect.number),
        each(&effect.without),
        each(&effect.with),
        least(effect),
    )
}

fn origin(summary: &Summary) -> String {
    let seeds: Vec<String> = summary.seeds.iter().map(ToString::to_string).collect();
    let quick = if summary.quick { " --quick" } else { "" };
    let first = summary.seeds.first().copied().unwrap_or(0);
    format!(
        "<p>Medians over seeds {}; the small numbers are the seeds one by one. SGD with momentum 0.9 (for the \
         deep ReLU net by a rate that falls to 0, and clipped at 1 where batch normalization is judged) on 1,000 rows of \
         the digits (100 where it says so), batches of 64, nothing else against a broken step. The recurrent nets learn the adding problem: the sum of two \
         marked numbers of a sequence; the last two by Adam at 0.01, clipped at 1.</p>\n\
         <p><code>cargo run --bin deep -- --seed {first}{quick}</code> draws this page again.</p>\n",
        seeds.join(", ")
    )
}
