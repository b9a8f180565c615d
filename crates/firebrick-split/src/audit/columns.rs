//! Groups, times, order and labels across parts.

use super::{Audit, Check, Verdict};
use crate::classes::Dense;

pub(super) fn groups(audit: &Audit<'_>) -> Check {
    let name = "groups across parts";
    let Some(column) = audit.rows.groups else {
        return Check::skipped(name, "no groups were given");
    };
    let groups = Dense::by_code(column);
    // One bit a part.
    let mut seen = vec![0u8; groups.len()];
    for (row, &code) in column.iter().enumerate() {
        if audit.parts[row] <= 2 {
            seen[groups.number(code)] |= 1 << audit.parts[row];
        }
    }
    let mut check = Check::new(name);
    let mut count = 0;
    for (group, parts) in seen.iter().enumerate() {
        if parts.count_ones() > 1 {
            count += 1;
            let name = audit.group(groups.codes[group]);
            check.example(|| {
                let names = ["training", "validation", "test"];
                let list: Vec<&str> =
                    (0..3).filter(|p| parts >> p & 1 == 1).map(|p| names[p]).collect();
                format!("group {name} is in the {} parts", list.join(" and "))
            });
        }
    }
    check.of(count, groups.len(), Verdict::Error)
}

pub(super) fn times(audit: &Audit<'_>) -> Check {
    let name = "times across parts";
    let Some(times) = audit.rows.times else {
        return Check::skipped(name, "no times were given");
    };
    let held_out = || (0..times.len()).filter(|&row| audit.held_out(row));
    let (Some(earliest), Some(latest)) =
        (held_out().min_by_key(|&row| times[row]), held_out().max_by_key(|&row| times[row]))
    else {
        return Check::skipped(name, "no row is held out");
    };
    let (first, last) = (times[earliest], times[latest]);
    let reach = i128::from(first) - i128::from(audit.horizon);
    let mut check = Check::new(name);
    let (mut count, mut trained) = (0, 0);
    for (row, &time) in times.iter().enumerate() {
        if audit.parts[row] != 0 {
            continue;
        }
        trained += 1;
        // A split by time forbids everything from the horizon on; any other split what lies inside.
        let late = i128::from(time) >= reach && (audit.time_split || time <= last);
        if late {
            count += 1;
            check.example(|| {
                let [at, from, to] = [row, earliest, latest].map(|row| audit.time(row, times[row]));
                format!("training row {row} at {at}, held-out rows from {from} to {to}")
            });
        }
    }
    let verdict = if audit.time_split { Verdict::Error } else { Verdict::Warning };
    check.of(count, trained, verdict)
}

/// What neighbouring rows have in common.
struct Neighbours {
    /// How many do, as a share of all pairs, or how much.
    share: f64,
    /// How many deviations above a random order that is.
    excess: f64,
    count: usize,
    text: String,
}

/// Labels of neighbouring rows agree, or their targets go together, more often than a random order would let them.
pub(super) fn order(audit: &Audit<'_>) -> Check {
    let name = "order dependence";
    if audit.rows.n < 20 {
        return Check::skipped(name, "it takes 20 rows");
    }
    let found = match (audit.rows.labels, audit.rows.target) {
        (Some(labels), _) => agreement(labels).ok_or("it takes two classes"),
        (None, Some(target)) => correlation(target).ok_or("it takes two targets, all finite"),
        (None, None) => Err("neither labels nor a target were given"),
    };
    let found = match found {
        Ok(found) => found,
        Err(reason) => return Check::skipped(name, reason),
    };
    let mut check = Check::new(name);
    check.share = found.share;
    if found.excess > 5.0 {
        check.verdict = Verdict::Warning;
        check.count = found.count;
        check.example(|| found.text);
    }
    check
}

/// How often neighbours have the same label.
///
/// The number of runs in a random order has mean `(n (n + 1) - s2) / n` and variance `(s2 (s2 + n (n + 1)) - 2 n s3 - n^3)
/// / (n^2 (n - 1))`, where `s2` and `s3` add the squares and cubes of the classes' rows. A. Wald, J. Wolfowitz, "On a test
/// whether two samples are from the same population", 1940; for several classes A. M. Mood, 1940.
fn agreement(labels: &[u32]) -> Option<Neighbours> {
    let classes = Dense::by_appearance(labels);
    if classes.len() < 2 {
        return None;
    }
    let (n, pairs) = (labels.len() as f64, labels.len() as f64 - 1.0);
    let count = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
    // In shares of n, so that little is lost.
    let power = |e| classes.counts.iter().map(|&rows| (rows as f64 / n).powi(e)).sum::<f64>();
    let (s2, s3) = (power(2), power(3));
    let variance = n * (n * (s2 * s2 + s2 - 2.0 * s3) + s2 - 1.0) / pairs;
    let chance = n * s2 - 1.0;
    // Where agreements are rare their number is Poisson's, and a few say nothing.
    let excess = (count as f64 - chance) / variance.max(1.0).sqrt();
    let (share, chance) = (count as f64 / pairs, 100.0 * chance / pairs);
    let text = format!(
        "{:.1} % of neighbouring rows agree in their label, {chance:.1} % would by chance: split by group or time",
        100.0 * share
    );
    Some(Neighbours { share, excess, count, text })
}

#[cfg(test)]
pub(super) fn excess(labels: &[u32]) -> Option<f64> {
    agreement(labels).map(|found| found.excess)
}

/// How much the targets of neighbours correlate: in a random order by `-1/n`, with a deviation of `1 / sqrt(n)`.
fn correlation(target: &[f64]) -> Option<Neighbours> {
    let n = target.len() as f64;
    let mean = target.iter().sum::<f64>() / n;
    let variance: f64 = target.iter().map(|value| (value - mean).powi(2)).sum();
    let shared: f64 = target.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
    let share = shared / variance;
    let text = format!(
        "the targets of neighbouring rows correlate by {share:.3}, by chance by 0.000 with a deviation of {:.3}: split by group or time",
        1.0 / n.sqrt()
    );
    let excess = share * n.sqrt();
    share.is_finite().then_some(Neighbours { share, excess, count: target.len() - 1, text })
}

pub(super) fn new_labels(audit: &Audit<'_>) -> Check {
    let name = "labels never trained on";
    let Some(labels) = audit.rows.labels else {
        return Check::skipped(name, "no labels were given");
    };
    let classes = Dense::by_appearance(labels);
    let mut trained = vec![false; classes.len()];
    let mut held_out = vec![0usize; classes.len()];
    for (row, &label) in labels.iter().enumerate() {
        let class = classes.number(label);
        if audit.parts[row] == 0 {
            trained[class] = true;
        } else if audit.held_out(row) {
            held_out[class] += 1;
        }
    }
    let mut check = Check::new(name);
    let mut count = 0;
    for class in (0..classes.len()).filter(|&class| !trained[class] && held_out[class] > 0) {
        count += held_out[class];
        let (label, rows) = (audit.label(classes.codes[class]), held_out[class]);
        check.example(|| format!("label {label} occurs in {rows} held-out rows only"));
    }
    check.of(count, held_out.iter().sum(), Verdict::Warning)
}
