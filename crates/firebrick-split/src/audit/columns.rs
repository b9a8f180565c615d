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

/// Labels of neighbouring rows agree more often than a random order would let them.
pub(super) fn order(audit: &Audit<'_>) -> Check {
    let name = "order dependence";
    let Some(labels) = audit.rows.labels else {
        return Check::skipped(name, "no labels were given");
    };
    let n = labels.len();
    let classes = Dense::by_appearance(labels);
    if classes.len() < 2 || n < 20 {
        return Check::skipped(name, "it takes two classes and 20 rows");
    }
    let pairs = (n - 1) as f64;
    let agreed = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
    // Agreement of neighbours in a random permutation: mean sum n_c (n_c - 1) / (n (n - 1)), deviation near that of
    // independent pairs.
    let rows = n as f64;
    let mean: f64 = classes.counts.iter().map(|&c| c as f64 * (c as f64 - 1.0)).sum::<f64>()
        / (rows * (rows - 1.0));
    let deviation = (mean * (1.0 - mean) / pairs).sqrt();
    let excess = (agreed as f64 / pairs - mean) / deviation.max(f64::MIN_POSITIVE);
    let mut check = Check::new(name);
    check.share = agreed as f64 / pairs;
    if excess > 5.0 {
        check.verdict = Verdict::Warning;
        check.count = agreed;
        check.example(|| {
            format!(
                "{:.1} % of neighbouring rows agree in their label, {:.1} % would by chance: split by group or time",
                100.0 * agreed as f64 / pairs,
                100.0 * mean
            )
        });
    }
    check
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
