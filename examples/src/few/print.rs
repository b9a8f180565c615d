//! The result as text for a terminal.

use crate::summary::{Estimate, Summary};
use std::fmt::Write;
use std::path::Path;

/// The result; `out` is where the report lies.
pub(crate) fn text(summary: &Summary, out: &Path) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(&mut text, summary, out);
    text
}

fn write(text: &mut String, summary: &Summary, out: &Path) -> std::fmt::Result {
    writeln!(
        text,
        "{} test rows and {} others in each of {} folds, {} draws of labels; {} steps; seed {}, back-end {}",
        summary.test_rows,
        summary.pool_rows,
        summary.folds,
        summary.draws,
        summary.steps,
        summary.seed,
        summary.backend
    )?;
    writeln!(
        text,
        "test error in %, and the difference to plain training with its 95 % interval, paired by fold;\n\
         * where the interval leaves 0 out\n"
    )?;
    let heads: String = summary
        .labels
        .iter()
        .map(|labels| format!(" {:<26}", format!("{labels} labels a class")))
        .collect();
    writeln!(text, "{:<39}{}", "recipe", heads.trim_end())?;
    let mut kind = "";
    for row in &summary.rows {
        if row.kind != kind && !kind.is_empty() {
            writeln!(text)?;
        }
        kind = row.kind;
        let cells: String = row
            .cells
            .iter()
            .map(|cell| {
                let over = cell.over_plain.as_ref().map_or(String::new(), difference);
                format!(" {:>5.1} {over:<20}", 100.0 * cell.error.mean)
            })
            .collect();
        writeln!(text, "{:<39}{}", row.name, cells.trim_end())?;
    }
    writeln!(text, "\nagainst another recipe than the plain one:")?;
    for row in summary.rows.iter().filter(|row| row.cells.iter().any(|c| c.over_against.is_some()))
    {
        let name = format!("{} against {}", row.name, row.against);
        let cells: String = row
            .cells
            .iter()
            .map(|cell| {
                format!(" {:<26}", cell.over_against.as_ref().map_or(String::new(), difference))
            })
            .collect();
        writeln!(text, "{:<39}{}", name, cells.trim_end())?;
    }
    writeln!(
        text,
        "\npseudo-labels at the end: share kept, share of those right, share in the largest class:"
    )?;
    for row in summary.rows.iter().filter(|row| row.kind == "semi-supervised") {
        let share = |share: Option<f64>| share.map_or("-".into(), |s| format!("{s:.2}"));
        let cells: String = row
            .cells
            .iter()
            .map(|cell| {
                let all = [cell.kept_share, cell.pseudo_accuracy, cell.largest_share].map(share);
                format!(" {:<26}", all.join(" "))
            })
            .collect();
        writeln!(text, "{:<39}{}", row.name, cells.trim_end())?;
    }
    let best = &summary.best;
    writeln!(
        text,
        "\nbest on the first fold: {}; on the others, with {} labels a class, {:.1} points better than plain, at least {:.1} at 95 %",
        best.name,
        summary.labels.first().copied().unwrap_or(0),
        -100.0 * best.gain.mean,
        // Not -0.0, where the bound rounds to nothing.
        (1000.0 * best.margin).round() / 10.0 + 0.0
    )?;
    writeln!(text, "{:.1} s; {}", summary.seconds, out.join("report.html").display())
}

/// `-3.1 [-4.0, -2.2]*`
fn difference(over: &Estimate) -> String {
    let star = if over.low > 0.0 || over.high < 0.0 { "*" } else { "" };
    format!("{:+.1} [{:+.1}, {:+.1}]{star}", 100.0 * over.mean, 100.0 * over.low, 100.0 * over.high)
}
