//! The report: one HTML file with its figures inside, for a phone or a wide screen, light or dark, without
//! network and without scripts.

mod figures;

use crate::summary::{CandidateSummary, Summary};
use firebrick::diagnose::FindingKind;
use firebrick::select::Spread;
use firebrick_examples::chart::escape;
use firebrick_examples::page::{page, percent, points, rate, section, table, tile};
use std::fmt::Write;

/// The whole page. Text that comes from data is escaped; numbers that are not finite are left out of figures.
pub(crate) fn html(summary: &Summary) -> String {
    let data = &summary.data;
    let title = &data.name;
    let seed = summary.seed;
    let body = [
        head(summary),
        section("Diagnosis", &diagnosis(summary)),
        section("Errors and gaps", &errors(summary)),
        section("The chosen candidate", &winner(summary)),
        section("The candidates", &choice(summary)),
        section("Where the numbers come from", &origin(summary)),
    ]
    .concat();
    page(&format!("{title}, seed {seed}"), &body)
}

fn head(summary: &Summary) -> String {
    let (data, test) = (&summary.data, &summary.test);
    let (low, high) = test.interval;
    let trained = data.train + data.validation;
    let interval = format!("{} rows; 95 % interval {} to {}", test.n, percent(low), percent(high));
    let held = format!("{} rows, trained without them", data.validation);
    let tiles = [
        tile(" test", "Test error", &percent(test.error), &interval),
        tile("", "Validation error", &percent(summary.validation_error), &held),
        tile(
            "",
            "Training error",
            &percent(summary.train_error),
            &format!("{trained} rows, all it was trained on"),
        ),
        tile("", "Gap in points", &points(summary.gap), "test less training error"),
    ]
    .concat();
    format!(
        "<header>\n<p class=\"soft\">{}</p>\n<h1>{} of unseen rows are right</h1>\n\
         <p>The model: {}. {} candidates were compared by {}-fold cross-validation; the winner was trained \
         again for {} epochs on training and validation part together, then the sealed test part was \
         opened.</p>\n{}<div class=\"tiles\">\n{tiles}</div>\n</header>\n",
        escape(&data.name),
        percent(1.0 - test.error),
        escape(&summary.chosen),
        summary.candidates.len(),
        data.folds,
        summary.chosen_epochs,
        opening(summary),
    )
}

/// What the ledger says of this opening.
fn opening(summary: &Summary) -> String {
    let opening = &summary.opening;
    let time = escape(&opening.time);
    match &summary.test.reopened {
        Some(reason) => format!(
            "<p class=\"banner\"><strong>Opened again.</strong> These test rows had been opened before, for another \
             model or another split; this is use {}. The error below is no longer that of a first look. Reason given: \
             {}.</p>\n",
            opening.uses,
            escape(reason)
        ),
        None if opening.repetition => format!(
            "<p class=\"soft\"><strong>A repetition.</strong> The same model was opened first on {time}; the figures are \
             the same.</p>\n"
        ),
        None => format!(
            "<p class=\"soft\"><strong>First opening</strong> of the test part, on {time}.</p>\n"
        ),
    }
}

fn diagnosis(summary: &Summary) -> String {
    let mut list = String::from("<div class=\"findings\">\n");
    for finding in &summary.diagnosis {
        let healthy = if finding.finding == FindingKind::Healthy { " healthy" } else { "" };
        let name = finding.finding.to_string();
        let name: String =
            name.chars().take(1).flat_map(char::to_uppercase).chain(name.chars().skip(1)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            list,
            "<div class=\"finding{healthy}\"><h3>{} <small>confidence {:.2}</small></h3><p>{}</p><p class=\"soft\">\
             Remedy: {}</p></div>",
            escape(&name),
            finding.confidence,
            escape(&finding.evidence),
            escape(&finding.remedy)
        );
    }
    list + "</div>\n"
}

fn errors(summary: &Summary) -> String {
    let (data, gaps) = (&summary.data, &summary.gaps);
    let row = |name: &str, rows: usize, error: f64, gap: &str| {
        format!(
            "<tr><th scope=\"row\">{name}</th><td>{rows}</td><td>{}</td><td>{gap}</td></tr>\n",
            percent(error)
        )
    };
    let rows = [
        row("training", data.train + data.validation, summary.train_error, "\u{2013}"),
        row(
            "validation",
            data.validation,
            summary.validation_error,
            &points(gaps.validation_minus_train),
        ),
        row("test", summary.test.n, summary.test.error, &points(gaps.test_minus_train)),
    ]
    .concat();
    let table = table("Errors and gaps", &["error on", "rows", "error", "gap"], &rows);
    format!(
        "{table}<p class=\"soft note\">Gaps are in percentage points. Training and test: the final model. Validation: the same candidate trained \
         without those rows; its gap is to its own training error. Test less validation error: {} points.</p>\n",
        points(gaps.test_minus_validation)
    )
}

fn winner(summary: &Summary) -> String {
    format!(
        "<div class=\"figures\">\n{}{}{}{}</div>\n",
        figures::learning(summary, false),
        figures::learning(summary, true),
        figures::confusion(summary),
        figures::gradients(summary)
    )
}

fn choice(summary: &Summary) -> String {
    let rows: String = summary.candidates.iter().map(|candidate| row(summary, candidate)).collect();
    let heads = [
        "candidate",
        "training error",
        "validation error",
        "gap, points",
        "validation loss",
        "parameters",
        "hidden layers",
        "dropout",
        "weight decay",
        "label smoothing",
        "optimizer",
        "learning rate",
    ];
    format!(
        "<p>Chosen: <strong>{}</strong>, {}.</p>\n<div class=\"figures\">\n{}{}</div>\n<h2>All numbers</h2>\n{}",
        escape(&summary.chosen),
        escape(&summary.reason),
        figures::candidates(summary),
        figures::complexity(summary),
        table("Candidates", &heads, &rows)
    )
}

fn row(summary: &Summary, candidate: &CandidateSummary) -> String {
    let chosen = candidate.name == summary.chosen;
    let rates = |spread: &Option<Spread>| {
        spread
            .as_ref()
            .map_or("\u{2013}".into(), |s| format!("{} ± {}", rate(s.mean), percent(s.sd)))
    };
    let loss = candidate.validation_loss.as_ref();
    let loss = loss.map_or("\u{2013}".into(), |s| format!("{:.4} ± {:.4}", s.mean, s.sd));
    let gap = candidate.validation_error.as_ref().zip(candidate.train_error.as_ref());
    let gap = gap.map_or("\u{2013}".into(), |(held, train)| points(held.mean - train.mean));
    let name = escape(&candidate.name);
    let name = match &candidate.disqualified {
        Some(why) => format!("{name}<br/><small>disqualified: {}</small>", escape(why)),
        None if chosen => format!("{name} (chosen)"),
        None => name,
    };
    format!(
        "<tr{}><th scope=\"row\">{name}</th><td>{}</td><td>{}</td><td>{gap}</td><td>{loss}</td><td>{}</td>\
         <td>{} × {}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
        if chosen { " class=\"chosen\"" } else { "" },
        rates(&candidate.train_error),
        rates(&candidate.validation_error),
        candidate.parameters,
        candidate.depth,
        candidate.width,
        candidate.dropout,
        candidate.weight_decay,
        candidate.label_smoothing,
        escape(&candidate.optimizer),
        candidate.learning_rate,
    )
}

fn origin(summary: &Summary) -> String {
    let data = &summary.data;
    let mut text = format!(
        "<p>{} rows of {} numbers in {} classes: {} for training, {} for validation, {} sealed for the test. Seed {}, \
         back-end {}, at most {} epochs a training, {:.1} s in all. Fingerprint of the rows: <code>{}</code>.</p>\n",
        data.rows,
        data.columns,
        data.classes,
        data.train,
        data.validation,
        data.test,
        summary.seed,
        escape(&summary.backend),
        summary.epochs,
        summary.seconds,
        escape(&data.fingerprint)
    );
    if !summary.warnings.is_empty() {
        text.push_str("<p>Warnings:</p>\n<ul class=\"plain\">\n");
        for warning in &summary.warnings {
            let _ = writeln!(text, "<li>{}</li>", escape(warning));
        }
        text.push_str("</ul>\n");
    }
    text.push_str(
        "<footer>Written by firebrick's digits example. The file holds all it shows.</footer>\n",
    );
    text
}

#[cfg(test)]
pub(crate) mod tests;
