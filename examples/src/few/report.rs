//! The report: one HTML file with its figures inside.

use crate::recipe::{AUGMENTED, Kind, PLAIN, SKEWED};
use crate::summary::{Cell, Estimate, Row, Summary};
use firebrick_examples::chart::{Chart, Scale, Unit, escape};
use firebrick_examples::page::{figure, legend, page, percent, points, rate, section, table, tile};

/// The whole page.
pub(crate) fn html(summary: &Summary) -> String {
    let body = [
        head(summary),
        section("Error by number of labels", &curves(summary)),
        section("What each recipe changes", &forests(summary)),
        section("Rows without labels", &unlabelled(summary)),
        section("A skewed set", &skewed(summary)),
        section("Other networks", &networks(summary)),
        section("All numbers", &numbers(summary)),
        section("How it was measured", &origin(summary)),
    ]
    .concat();
    page(&format!("Few labels, seed {}", summary.seed), &body)
}

fn fewest(summary: &Summary) -> usize {
    summary.labels.first().copied().unwrap_or(0)
}

fn head(summary: &Summary) -> String {
    let best = &summary.best;
    let error = |name: &str| {
        let cell = summary.row(name).and_then(|row| row.cells.first());
        cell.map_or(f64::NAN, |cell| cell.error.mean)
    };
    let few = format!("{} labels a class", fewest(summary));
    let tiles = [
        tile("", "Plain training", &percent(error(PLAIN)), &format!("test error, {few}")),
        tile("", &best.name, &percent(error(&best.name)), &format!("test error, {few}")),
        tile(
            " test",
            "Difference in points",
            &points(best.gain.mean),
            &format!("to plain; {} to {}", points(best.gain.low), points(best.gain.high)),
        ),
        tile(
            "",
            "At worst",
            &points(-best.margin),
            "95 %, on folds that had no part in the choice",
        ),
    ]
    .concat();
    let title = match best.margin > 0.0 {
        true => format!("{} makes the most of them", escape(&best.name)),
        false => "nothing is surely better than plain training".to_owned(),
    };
    format!(
        "<header>\n<p class=\"soft\">UCI optical recognition of handwritten digits</p>\n\
         <h1>Few labels: {title}</h1>\n\
         <p>{} recipes, each with {} labels of each digit, {} times on test rows that no other fold tests on. Within a \
         fold all recipes have the same labelled rows, first weights and order, so differences are taken pair by pair. Of \
         those, {} has the smallest error of the first fold, over all numbers of labels; it is judged on the others.</p>\n\
         <div class=\"tiles\">\n{tiles}</div>\n</header>\n",
        summary.rows.len(),
        list(&summary.labels),
        summary.folds,
        escape(&best.name)
    )
}

fn list(numbers: &[usize]) -> String {
    let all: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

/// Error against labels for some recipes.
fn curve(summary: &Summary, id: &str, title: &str, names: &[&str]) -> String {
    let rows: Vec<&Row> = names.iter().filter_map(|name| summary.row(name)).collect();
    let all = || rows.iter().flat_map(|row| row.cells.iter());
    let x = Scale::log(summary.labels.iter().map(|&labels| labels as f64));
    let y = Scale::linear(all().map(|cell| cell.error.high));
    let mut chart = Chart::new(
        250.0,
        (x, Unit::Plain, "labels a class (logarithmic)"),
        (y, Unit::Percent, "test error"),
    );
    let mut description = String::new();
    for (index, row) in rows.iter().enumerate() {
        let class = colour(index);
        if row.cells.len() > 1 {
            chart.line(class, row.cells.iter().map(|cell| (cell.labels as f64, cell.error.mean)));
        }
        for cell in &row.cells {
            // Side by side, so that none hides another.
            let x = cell.labels as f64 * (1.0 + 0.03 * (index as f64 - 1.5));
            chart.error_bar(class, true, x, cell.error.low.max(0.0), cell.error.high);
            chart.mark(class, x, cell.error.mean);
        }
        let errors: Vec<String> = row.cells.iter().map(|cell| rate(cell.error.mean)).collect();
        description.push_str(&format!("{}: {} percent. ", row.name, errors.join(", ")));
    }
    let legend = legend(rows.iter().enumerate().map(|(i, row)| (colour(i), row.name.as_str())));
    figure(
        title,
        "Mean over the folds with its 95 % interval.",
        &legend,
        &chart.finish(id, title, &description),
    )
}

fn colour(index: usize) -> &'static str {
    ["held", "layer-1", "layer-3", "layer-5", "mark", "layer-7", "layer-0", "layer-2"][index % 8]
}

fn curves(summary: &Summary) -> String {
    let mut best: Vec<&Row> = summary.rows.iter().filter(|row| row.regularizer).collect();
    let sum = |row: &Row| row.cells.iter().map(|cell| cell.error.mean).sum::<f64>();
    best.sort_by(|a, b| sum(a).total_cmp(&sum(b)));
    let regularizers: Vec<&str> =
        std::iter::once(PLAIN).chain(best.iter().take(3).map(|row| row.name.as_str())).collect();
    format!(
        "<div class=\"figures\">\n{}{}</div>\n",
        curve(
            summary,
            "curve-data",
            "More data from the same labels",
            &[PLAIN, "augmentation", "mean teacher", "FixMatch"],
        ),
        curve(summary, "curve-regularizers", "The three best regularizers", &regularizers),
    )
}

/// One row a recipe: the paired difference to plain training.
fn forest(summary: &Summary, at: usize, labels: usize) -> String {
    const ROW: f64 = 24.0;
    let rows: Vec<(&Row, &Estimate)> = summary
        .rows
        .iter()
        .filter_map(|row| Some((row, row.cells.get(at)?.over_plain.as_ref()?)))
        .collect();
    let low = rows.iter().map(|(_, over)| over.low).fold(0.0, f64::min);
    let high = rows.iter().map(|(_, over)| over.high).fold(0.0, f64::max);
    let more = 0.04 * (high - low);
    let mut chart = Chart::rows(
        rows.len(),
        ROW,
        (Scale::exact(low - more, high + more), Unit::Percent, "error less that of plain training"),
    );
    if let Some(zero) = chart.x.at(0.0) {
        let bottom = 2.0 + rows.len() as f64 * ROW;
        chart.raw(format_args!(
            "<line class=\"line train\" x1=\"{zero:.1}\" y1=\"2\" x2=\"{zero:.1}\" y2=\"{bottom:.1}\" stroke-dasharray=\"3 3\"/>"
        ));
    }
    let mut better = Vec::new();
    for (index, (row, over)) in rows.iter().enumerate() {
        let top = index as f64;
        let class = if over.high < 0.0 {
            better.push(row.name.as_str());
            "good"
        } else if over.low > 0.0 {
            "held"
        } else {
            "quiet"
        };
        chart.text("name", "start", (8.0, 2.0 + top * ROW + 11.0), &row.name);
        chart.error_bar(class, false, top + 0.7, over.low, over.high);
        chart.mark(if class == "held" { "held" } else { class }, over.mean, top + 0.7);
    }
    let description = if better.is_empty() {
        "No recipe's interval lies below 0.".to_owned()
    } else {
        format!("Better than plain training beyond doubt: {}.", better.join(", "))
    };
    let title = format!("{labels} labels a class");
    figure(
        &title,
        "Paired difference with its 95 % interval: to the left is better.",
        "",
        &chart.finish(&format!("forest-{labels}"), &title, &description),
    )
}

fn forests(summary: &Summary) -> String {
    let all: String = summary
        .labels
        .iter()
        .enumerate()
        .map(|(at, &labels)| forest(summary, at, labels))
        .collect();
    format!("<div class=\"figures\">\n{all}</div>\n")
}

fn share(share: Option<f64>) -> String {
    share.map_or("\u{2013}".into(), percent)
}

fn over(estimate: Option<&Estimate>) -> String {
    estimate.map_or("\u{2013}".into(), |over| {
        format!("{} ({} to {})", points(over.mean), points(over.low), points(over.high))
    })
}

/// A row for each number of labels of each recipe that `wanted` is true of.
fn compared(
    summary: &Summary,
    wanted: impl Fn(&Row) -> bool,
    cells: impl Fn(&Cell) -> Vec<String>,
) -> String {
    let row = |row: &Row, cell: &Cell| {
        let cells: String =
            cells(cell).into_iter().map(|text| format!("<td>{text}</td>")).collect();
        format!(
            "<tr><th scope=\"row\">{}, {} labels</th><td>{}</td><td>{}</td>{cells}</tr>\n",
            escape(&row.name),
            cell.labels,
            percent(cell.error.mean),
            over(cell.over_against.as_ref())
        )
    };
    let rows = summary.rows.iter().filter(|row| wanted(row));
    rows.flat_map(|one| one.cells.iter().map(move |cell| row(one, cell))).collect()
}

fn unlabelled(summary: &Summary) -> String {
    let semi = |row: &Row| row.kind == Kind::Unlabelled.name();
    let rows = compared(summary, semi, |cell| {
        let mut cells = vec![format!("{:.0}", cell.augmented)];
        cells.extend([cell.kept_share, cell.pseudo_accuracy, cell.largest_share].map(share));
        cells
    });
    let baseline: Vec<String> = summary
        .row(AUGMENTED)
        .into_iter()
        .flat_map(|row| &row.cells)
        .map(|cell| format!("{:.0} with {} labels a class", cell.augmented, cell.labels))
        .collect();
    let baseline = if baseline.is_empty() {
        String::new()
    } else {
        format!(" Its augmented rows: {}.", baseline.join(", "))
    };
    let heads = [
        "method",
        "test error",
        "against augmentation alone, points",
        "labelled rows augmented",
        "predictions kept",
        "of these right",
        "of these in the largest class",
    ];
    format!(
        "<p>Each method sees the labelled rows with the same augmentation and for as many steps as the recipe \
         <em>augmentation</em>, which is the baseline here.{baseline} At the end the model predicts all rows without labels: a \
         prediction of a confidence of at least 0.95 (UDA: 0.8) is kept. Were one class to take all, its share would \
         show it; the true share of the largest class is a little above 10 percent.</p>\n{}",
        table("Methods that use rows without labels", &heads, &rows)
    )
}

fn skewed(summary: &Summary) -> String {
    let skewed = |row: &Row| row.kind == Kind::Skewed.name();
    let rows = compared(summary, skewed, |cell| vec![percent(cell.train_error)]);
    let heads = ["set", "test error", "against skewed, points", "training error"];
    format!(
        "<p>Ten times as many labels of the digits 0 to 4 as of 5 to 9, as far as there are rows, while the test rows \
         hold all digits alike. Down-sampled: rows of the common digits are left out at random until the classes follow \
         the distribution of the test rows.</p>\n{}",
        table("A skewed set and its down-sampled form", &heads, &rows)
    )
}

fn networks(summary: &Summary) -> String {
    let known = [PLAIN, AUGMENTED, SKEWED];
    let rows = compared(
        summary,
        |row| !known.contains(&row.against),
        |cell| vec![percent(cell.train_error)],
    );
    let heads = ["recipe", "test error", "against its network alone, points", "training error"];
    format!(
        "<p>Penalties on slopes need a smooth network, DropPath one with a shortcut, and alpha dropout one of SELU units: \
         each is compared with its network without it.</p>\n{}",
        table("Regularizers of other networks", &heads, &rows)
    )
}

fn numbers(summary: &Summary) -> String {
    let mut heads = vec!["recipe".to_owned()];
    heads.extend(summary.labels.iter().map(|labels| format!("{labels} labels")));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let row = |row: &Row| {
        let cells: String = row
            .cells
            .iter()
            .map(|cell| {
                let over = match &cell.over_plain {
                    Some(over) => {
                        format!("<br><small>{}</small>", self::over(Some(over)))
                    }
                    None => String::new(),
                };
                format!("<td>{}{over}</td>", percent(cell.error.mean))
            })
            .collect();
        let class = if row.name == summary.best.name { " class=\"chosen\"" } else { "" };
        format!(
            "<tr{class}><th scope=\"row\">{}<br><small>{}</small></th>{cells}</tr>\n",
            escape(&row.name),
            escape(&row.description)
        )
    };
    let rows: String = summary.rows.iter().map(row).collect();
    format!(
        "<p>Test error, and below it the difference to plain training in points with its 95 % interval.</p>\n{}",
        table("All recipes", &heads, &rows)
    )
}

fn origin(summary: &Summary) -> String {
    format!(
        "<p>{} folds of {} test rows and {} others, of which some have labels, drawn {} times; the error of a fold is the \
         mean. A multi-layer perceptron of {} parameters, \
         more than there are labelled rows in every setting; AdamW without decay, {} steps, cosine from 0.003 to 0. \
         Intervals are those of Nadeau and Bengio: no two folds test on the same row, and they are taken to be correlated by \
         the share of labelled rows that they have in common. Hyper-parameters are usual \
         values, none was tuned on these rows. Seed {}, back-end {}, {:.1} s in all.</p>\n\
         <footer>Written by firebrick's example few. The file holds all it shows.</footer>\n",
        summary.folds,
        summary.test_rows,
        summary.pool_rows,
        summary.draws,
        summary.parameters,
        summary.steps,
        summary.seed,
        escape(&summary.backend),
        summary.seconds
    )
}
