//! The page: the four cells as plots, the regrets, every number.

use crate::goal::Goal;
use crate::regret::{Regret, known_similar};
use crate::shift::Shift;
use crate::summary::{Combination, Mean, Summary};
use firebrick::transfer::advise::{Cell, QuadrantRule, Tuning};
use firebrick_examples::chart::{Chart, Scale, Unit, escape};
use firebrick_examples::page::{figure, legend, page, percent, points, section, table, tile};
use std::fmt::Write;

/// The whole page.
pub(crate) fn html(summary: &Summary) -> String {
    let body = [
        head(summary),
        section("The four cells", &cells(summary)),
        section("What choosing costs", &regrets(summary)),
        section("What the adviser is held to", &goals(summary)),
        section("Where the table is wrong", &wrong(summary)),
        section("All numbers", &numbers(summary)),
        section("Differences declared before the run", &claims(summary)),
        section("How it was measured", &method(summary)),
    ];
    page(&format!("Which fine-tuning, seed {}", summary.plan.seed), &body.concat())
}

fn head(summary: &Summary) -> String {
    let of = |name: &str| summary.held_out.iter().find(|regret| regret.name == name);
    let lost = |name: &str| of(name).map_or("not run".into(), |r| number(r.mean));
    let gap = summary.claims.iter().find(|claim| claim.text.ends_with("head only less scratch"));
    let gap = gap.map_or("not run".into(), |claim| points(claim.difference.mean));
    let tiles = [
        tile(
            " test",
            "Regret, measuring",
            &lost("adviser, measuring"),
            "points below the best recipe",
        ),
        tile("", "Regret, not measuring", &lost("adviser, not measuring"), "the revised rule"),
        tile(
            "",
            "Regret, the table",
            &lost("table, similarity by lift"),
            "the survey's four cells",
        ),
        tile("", "Head only less scratch", &gap, "points, identity, 5 labels a class"),
    ];
    format!(
        "<header>\n<p class=\"soft\">Few or many, similar or not: {} shifts, {} sizes, {} repetitions</p>\n\
         <h1>Which fine-tuning fits, and what choosing another costs</h1>\n\
         <p>A small network is pre-trained on digits. The target is digits that are the same, turned, inverted or \
         scrambled, with 5 to 150 labels of each class. Five recipes are run on every target; the figures below say \
         which would have been right and what each way of choosing would have cost.</p>\n\
         <div class=\"tiles\">\n{}</div>\n<p class=\"soft\">Regrets are means over the half of the combinations that \
         no border was fixed on.</p>\n</header>\n",
        summary.plan.shifts.len(),
        summary.plan.sizes.len(),
        summary.plan.repetitions,
        tiles.concat()
    )
}

fn number(share: f64) -> String {
    format!("{:.2}", 100.0 * share)
}

fn cells(summary: &Summary) -> String {
    let (few, many) = (summary.plan.sizes.first(), summary.plan.sizes.last());
    let figures: String = Cell::ALL
        .iter()
        .filter_map(|&cell| {
            let few_cell = matches!(cell, Cell::FewSimilar | Cell::FewDifferent);
            let size = if few_cell { few } else { many };
            let similar = matches!(cell, Cell::FewSimilar | Cell::ManySimilar);
            let part: Vec<&Combination> = summary
                .combinations
                .iter()
                .filter(|row| Some(&row.per_class) == size && known_similar(row.shift) == similar)
                .filter(|row| row.shift != Shift::OtherDigits)
                .collect();
            (!part.is_empty()).then(|| cell_figure(cell, &part))
        })
        .collect();
    format!("<div class=\"figures\">\n{figures}</div>\n")
}

/// One cell: for each recipe its accuracy under each shift of the cell.
fn cell_figure(cell: Cell, part: &[&Combination]) -> String {
    const ROW: f64 = 17.0;
    let step = 1.0 / (part.len() as f64 + 1.2);
    let row_height = ROW * (part.len() as f64 + 1.2);
    let ends = part.iter().flat_map(|row| row.accuracy.values().flat_map(|m| [m.low, m.high]));
    let (low, high) = ends.fold((1.0f64, 0.0f64), |(a, b), v| (a.min(v), b.max(v)));
    let x = Scale::exact((low - 0.02).max(0.0), (high + 0.02).min(1.0));
    let mut chart = Chart::rows(Tuning::ALL.len(), row_height, (x, Unit::Percent, "test accuracy"));
    let mut description = String::new();
    for (index, tuning) in Tuning::ALL.into_iter().enumerate() {
        let says = tuning == cell.survey();
        let name = if says { format!("{tuning} (the table's)") } else { tuning.to_string() };
        let at = (8.0, 2.0 + index as f64 * row_height + 12.0);
        chart.text(if says { "name chosen" } else { "name" }, "start", at, &name);
        for (place, row) in part.iter().enumerate() {
            let y = index as f64 + step * (place as f64 + 1.25);
            let Mean { mean, low, high } = row.accuracy[&tuning];
            let class = CLASSES[place % CLASSES.len()];
            chart.error_bar(class, false, y, low, high);
            chart.mark(class, mean, y);
            let best = if row.best == tuning { ", the best" } else { "" };
            let _ = write!(description, "{name}, {}: {}{best}. ", row.shift, percent(mean));
        }
    }
    let names = part.iter().enumerate().map(|(place, row)| {
        let text = format!("{}, {} a class; best: {}", row.shift, row.per_class, row.best);
        (CLASSES[place % CLASSES.len()], text)
    });
    let names: Vec<(&str, String)> = names.collect();
    let legend = legend(names.iter().map(|(class, text)| (*class, text.as_str())));
    let title = format!("{cell}: the table says {}", cell.survey());
    let title: String =
        title.chars().take(1).flat_map(char::to_uppercase).chain(title.chars().skip(1)).collect();
    let id = format!("cell-{}", cell.to_string().replace(' ', "-"));
    figure(
        &title,
        "Mean and 90 % interval over the repetitions.",
        &legend,
        &chart.finish(&id, &title, &description),
    )
}

/// Classes of the page's style that tell shifts apart, each with a mark of its own colour.
const CLASSES: [&str; 3] = ["held", "layer-1", "layer-3"];

fn regrets(summary: &Summary) -> String {
    let title = "Mean regret by who chooses";
    let caption = "Points of accuracy below the best of the five recipes, on the combinations that no border was fixed \
                   on (diamonds) and on all with the borders of the library (dots). The best in hindsight is chosen \
                   on the test images themselves, so part of it is luck.";
    const ROW: f64 = 30.0;
    let values =
        |list: &[Regret]| list.iter().map(|regret| 100.0 * regret.mean).collect::<Vec<_>>();
    let x = Scale::linear(values(&summary.held_out).into_iter().chain(values(&summary.all)));
    let mut chart = Chart::rows(summary.held_out.len(), ROW, (x, Unit::Plain, "points"));
    let mut description = String::new();
    for (index, held) in summary.held_out.iter().enumerate() {
        let at = (8.0, 2.0 + index as f64 * ROW + 11.0);
        let class = if index == 0 { "name chosen" } else { "name" };
        chart.text(class, "start", at, &held.name);
        if let Some(all) = summary.all.iter().find(|regret| regret.name == held.name) {
            chart.mark("train", 100.0 * all.mean, index as f64 + 0.68);
        }
        chart.mark("held", 100.0 * held.mean, index as f64 + 0.68);
        let _ = write!(description, "{}: {} points. ", held.name, number(held.mean));
    }
    let legend = legend([("held", "held-out combinations"), ("train", "all combinations")]);
    let drawing = chart.finish("regrets", title, &description);
    let heads = ["who chooses", "mean", "without luck", "90 %", "worst", "by labels a class"];
    let rows = |list: &[Regret]| -> String {
        list.iter()
            .map(|regret| {
                let sizes: Vec<String> =
                    regret.by_size.iter().map(|(n, mean)| format!("{n}: {}", number(*mean))).collect();
                format!(
                    "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                    escape(&regret.name),
                    number(regret.mean),
                    number(regret.without_luck),
                    number(regret.ninety),
                    number(regret.worst),
                    sizes.join(", ")
                )
            })
            .collect()
    };
    format!(
        "<div class=\"figures\">\n{}</div>\n<p class=\"note\">Held-out combinations, in points. Without luck: against \
         the recipe that is best in the other repetitions.</p>\n{}\n<p class=\"note\">All combinations.</p>\n{}",
        figure(title, caption, &legend, &drawing),
        table("Regret on held-out combinations", &heads, &rows(&summary.held_out)),
        table("Regret on all combinations", &heads, &rows(&summary.all))
    )
}

fn goals(summary: &Summary) -> String {
    let row = |goal: &Goal| {
        format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            goal.text,
            number(goal.held),
            number(goal.all),
            goal.bound,
            if goal.met { "met" } else { "missed" }
        )
    };
    let rows: String = summary.goals.iter().map(row).collect();
    let heads = ["points", "held-out combinations", "all", "bound", "on the held-out ones"];
    table("Bounds and what this run gives", &heads, &rows)
}

fn wrong(summary: &Summary) -> String {
    let rule = QuadrantRule::default();
    let rows: String = summary
        .combinations
        .iter()
        .map(|row| {
            let Mean { mean, low, high } = row.table_behind;
            let says = if row.best == row.table {
                "right"
            } else if low > 0.0 {
                "wrong"
            } else {
                "not told apart"
            };
            let cell = rule.cell(row.per_class as f64, row.lift);
            format!(
                "<tr{}><th scope=\"row\">{}, {} a class</th><td>{:+.2}</td><td>{cell}</td><td>{}</td><td>{}</td>\
                 <td>{} [{}, {}]</td><td>{says}</td></tr>\n",
                if says == "wrong" { " class=\"chosen\"" } else { "" },
                row.shift,
                row.per_class,
                row.lift,
                row.table,
                row.best,
                points(-mean),
                points(-high),
                points(-low)
            )
        })
        .collect();
    let heads = [
        "target",
        "lift",
        "cell by the lift",
        "the table's choice",
        "best in the mean",
        "table less best, points",
        "the table is",
    ];
    table("The table against the best recipe", &heads, &rows)
}

fn numbers(summary: &Summary) -> String {
    let rows: String = summary
        .combinations
        .iter()
        .map(|row| {
            let cells: String = Tuning::ALL
                .iter()
                .map(|tuning| {
                    let Mean { mean, high, .. } = row.accuracy[tuning];
                    let text = format!("{} ± {}", number(mean), number(high - mean));
                    if *tuning == row.best { format!("<td><b>{text}</b></td>") } else { format!("<td>{text}</td>") }
                })
                .collect();
            let measured = row.measured.map_or("\u{2013}".into(), |tuning| tuning.to_string());
            format!(
                "<tr><th scope=\"row\">{}, {} a class</th>{cells}<td>{}</td><td>{measured}</td></tr>\n",
                row.shift, row.per_class, row.revised
            )
        })
        .collect();
    let names: Vec<String> = Tuning::ALL.iter().map(Tuning::to_string).collect();
    let mut heads = vec!["target"];
    heads.extend(names.iter().map(String::as_str));
    heads.extend(["adviser, not measuring", "adviser, measuring"]);
    format!(
        "{}<p class=\"soft note\">Test accuracy in percent with half the width of the 90 % interval; the best of a row \
         is bold. The adviser's choices are the most frequent ones over the repetitions.</p>\n",
        table("Accuracy of every recipe", &heads, &rows)
    )
}

fn claims(summary: &Summary) -> String {
    let rows: String = summary
        .claims
        .iter()
        .map(|claim| {
            let Mean { mean, low, high } = claim.difference;
            format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{} to {}</td><td>{} of {}</td></tr>\n",
                escape(&claim.text),
                points(mean),
                points(low),
                points(high),
                claim.above,
                claim.repetitions
            )
        })
        .collect();
    table("Declared differences", &["difference", "points", "90 % interval", "above 0"], &rows)
}

fn method(summary: &Summary) -> String {
    let sources: Vec<String> = summary
        .source
        .iter()
        .map(|(name, value)| format!("{} {}", escape(name), percent(*value)))
        .collect();
    let (table, revised) = (&summary.table, &summary.revised);
    format!(
        "<p>Images of 14 x 14 pixels; two convolutions, a dense layer, a head: 23,946 weights. Each repetition draws 250 \
         images of each class for the source, 100 for the test and 150 to be labelled, renames the classes, trains the \
         source and runs all recipes on the same rows. Sources, on images they have not seen: {}. The recipes are those \
         of firebrick-transfer, at rates that were tuned on other repetitions, for each recipe and size. The head alone is \
         logistic regression to its end on features that are computed once; where it comes first, the rest goes on from \
         it. What lies below a frozen border is computed once too.</p>\n\
         <p>Intervals are corrected for overlapping repetitions (Nadeau and Bengio, with a test share of a quarter). \
         The borders fixed on every other combination: similar above a lift of {:.2}; head above {:.2}, scratch below \
         {:.2}, else {}. The measurement runs the adviser's short list on folds of the labelled images, 5, 3 or 2 of them; the choice \
         without measuring stands unless the best of the list is more than a standard error ahead of it.</p>\n\
         <footer>Seed {}. Written by firebrick's transfer example. The file holds all it shows.</footer>\n",
        sources.join(", "),
        table.similar_above,
        revised.head_above,
        revised.scratch_below,
        revised.otherwise,
        summary.plan.seed
    )
}
