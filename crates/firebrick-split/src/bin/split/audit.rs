//! One audit of many splits.

use crate::outcome::Outcome;
use firebrick_split::{Audit, AuditReport, SplitError, Verdict};

/// For each check the worst verdict over all splits, and all pairs that were found.
pub(crate) fn audit<'a>(
    outcome: &Outcome,
    n: usize,
    run: &dyn Fn(Audit<'a>) -> Result<AuditReport, SplitError>,
) -> Result<AuditReport, SplitError> {
    let rank = |verdict: Verdict| match verdict {
        Verdict::Error => 3,
        Verdict::Warning => 2,
        Verdict::Clean => 1,
        _ => 0,
    };
    if let Some(roles) = &outcome.roles {
        return run(Audit::of_roles(roles));
    }
    let mut worst: Option<AuditReport> = None;
    // More than 20 splits overlap so much that the first ones tell.
    for split in outcome.splits.iter().take(20) {
        let report = run(Audit::of_split(split, n)?)?;
        match &mut worst {
            None => worst = Some(report),
            Some(worst) => {
                for (known, check) in worst.checks.iter_mut().zip(report.checks) {
                    let seconds = known.seconds + check.seconds;
                    if (rank(check.verdict), check.count) > (rank(known.verdict), known.count) {
                        *known = check;
                    }
                    known.seconds = seconds;
                }
                worst.pairs.extend(report.pairs);
            }
        }
    }
    let mut report = worst.ok_or(SplitError::NoSuchSplit { index: 0, count: 0 })?;
    report.pairs.sort_unstable();
    report.pairs.dedup();
    Ok(report)
}
