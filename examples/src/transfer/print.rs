//! The run in text.

use crate::regret::Regret;
use crate::summary::{Mean, Summary};
use firebrick::transfer::advise::Tuning;
use std::fmt::Write;

/// All tables. Writing to a string cannot fail.
pub(crate) fn text(summary: &Summary) -> String {
    let mut out = String::new();
    let plan = &summary.plan;
    let sources: Vec<String> =
        summary.source.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
    let _ = writeln!(
        out,
        "Test accuracy in percent, mean of {} repetitions with 90 % intervals; sources: {}.\n",
        plan.repetitions,
        sources.join(", ")
    );
    let heads: Vec<String> = Tuning::ALL.iter().map(|tuning| format!("{tuning:>15}")).collect();
    let _ = writeln!(out, "{:<13}{:>4}{}  lift", "shift", "n", heads.concat());
    for row in &summary.combinations {
        let cells = Tuning::ALL.iter().map(|tuning| {
            let mark = if *tuning == row.best { '*' } else { ' ' };
            let Mean { mean, high, .. } = row.accuracy[tuning];
            format!("{:>15}", format!("{:.1} ±{:.1}{mark}", 100.0 * mean, 100.0 * (high - mean)))
        });
        let cells: String = cells.collect();
        let _ = writeln!(out, "{:<13}{:>4}{cells}  {:+.2}", row.shift, row.per_class, row.lift);
    }
    let _ = writeln!(
        out,
        "\nWho chooses what (the most frequent choice) and loses how much, in points:\n"
    );
    let _ = writeln!(
        out,
        "{:<13}{:>4}  {:<16}{:<38}{:<22}measuring",
        "shift", "n", "best", "the table", "not measuring"
    );
    for row in &summary.combinations {
        let lost = |name: &str| {
            let found = row.regrets.iter().find(|(chooser, _)| chooser.as_str() == name);
            found.map_or(String::new(), |(_, regret)| format!("{:.1}", 100.0 * regret))
        };
        let measured = row.measured.map_or("not run".into(), |tuning| tuning.to_string());
        let _ = writeln!(
            out,
            "{:<13}{:>4}  {:<16}{:<16}{:<22}{:<16}{:<6}{:<16}{}",
            row.shift,
            row.per_class,
            row.best.to_string(),
            row.table.to_string(),
            format!(
                "{} ({:+.1} ±{:.1})",
                lost("table, similarity by lift"),
                -100.0 * row.table_behind.mean,
                100.0 * (row.table_behind.high - row.table_behind.mean)
            ),
            row.revised.to_string(),
            lost("adviser, not measuring"),
            measured,
            lost("adviser, measuring"),
        );
    }
    let (table, revised) = (&summary.table, &summary.revised);
    let _ = writeln!(
        out,
        "\nRegret in points on the half of the combinations that the borders were not fixed on (similar above {:.2}; \
         head above {:.2}, scratch below {:.2}, else {}):\n",
        table.similar_above, revised.head_above, revised.scratch_below, revised.otherwise
    );
    regrets(&mut out, &summary.held_out);
    let _ = writeln!(
        out,
        "\nRegret in points over all combinations, with the borders of the library:\n"
    );
    regrets(&mut out, &summary.all);
    let _ = writeln!(
        out,
        "\nWhat the adviser is held to, in points on the held-out half (on all combinations):\n"
    );
    for goal in &summary.goals {
        let _ = writeln!(
            out,
            "{:<46}{:>6.2} {:>8}  {:<14}{}",
            goal.text,
            100.0 * goal.held,
            format!("({:.2})", 100.0 * goal.all),
            goal.bound,
            if goal.met { "met" } else { "missed" }
        );
    }
    let _ = writeln!(
        out,
        "\nDifferences in points that were declared before, 90 % interval, repetitions above 0:\n"
    );
    for claim in &summary.claims {
        let Mean { mean, low, high } = claim.difference;
        let _ = writeln!(
            out,
            "{:<58}{:+6.1} [{:+.1}, {:+.1}]  {}/{}",
            claim.text,
            100.0 * mean,
            100.0 * low,
            100.0 * high,
            claim.above,
            claim.repetitions
        );
    }
    let _ = writeln!(
        out,
        "\nKendall's tau of each score with the gain of the best transfer over scratch, by labels a class:\n"
    );
    for (name, by_size) in &summary.scores {
        let values: Vec<String> =
            by_size.iter().map(|(size, tau)| format!("{size}: {tau:+.2}")).collect();
        let _ = writeln!(out, "{name:<25}{}", values.join("  "));
    }
    out
}

fn regrets(out: &mut String, list: &[Regret]) {
    let _ = writeln!(
        out,
        "{:<26}{:>6}{:>13}{:>7}{:>7}   by labels a class",
        "who chooses", "mean", "without luck", "90 %", "worst"
    );
    for regret in list {
        let sizes: Vec<String> = regret
            .by_size
            .iter()
            .map(|(size, mean)| format!("{size}: {:.1}", 100.0 * mean))
            .collect();
        let _ = writeln!(
            out,
            "{:<26}{:>6.2}{:>13.2}{:>7.1}{:>7.1}   {}",
            regret.name,
            100.0 * regret.mean,
            100.0 * regret.without_luck,
            100.0 * regret.ninety,
            100.0 * regret.worst,
            sizes.join("  ")
        );
    }
}
