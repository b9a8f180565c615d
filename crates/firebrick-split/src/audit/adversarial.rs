//! Adversarial validation: a classifier that should not be able to tell training rows from held-out rows.

use super::model::{SAMPLE, left_out, sample};
use super::{Audit, Check, Verdict};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};

/// Rows on either side below which nothing could be seen.
const LEAST_ROWS: usize = 50;
/// The same for groups, whose rows are alike and count as one.
const LEAST_GROUPS: usize = 20;

/// A row of the problem: its number, whether it is held out, and its group, which is its own where none were given.
#[derive(Debug, Clone, Copy)]
struct Case {
    row: usize,
    held_out: bool,
    group: u32,
}

/// How well the rows of both sides can be told apart.
struct Told {
    area: f64,
    /// Of the area, by chance.
    deviation: f64,
    /// How far above one half chance gets once in 30,000 times: four deviations, more where few groups tell of them.
    reach: f64,
    /// Rows that were looked at, and columns.
    rows: usize,
    used: usize,
}

/// Warns where the AUC is above 0.55 and beyond what chance reaches.
pub(super) fn adversarial(audit: &Audit<'_>) -> Check {
    let name = "adversarial validation";
    let told = match tell(audit) {
        Ok(told) => told,
        Err(reason) => return Check::skipped(name, reason),
    };
    let Told { area, deviation, reach, rows, used } = told;
    let limit = (0.5 + reach).max(0.55);
    if limit >= 1.0 {
        return Check::skipped(
            name,
            "too few groups that differ too much: chance could do anything",
        );
    }
    let mut check = Check::new(name);
    check.share = area;
    check.not_checked = left_out(audit, rows, used, audit.features.map_or(0, |f| f.1));
    if area > limit {
        check.verdict = Verdict::Warning;
        check.count = rows;
    }
    check.example(|| {
        format!(
            "training and held-out rows are told apart with AUC {area:.3}; by chance 0.500, deviation {deviation:.4}; from {limit:.3} on it is a warning"
        )
    });
    check
}

/// A logistic regression on standardized features and their squares, each half judged by the model of the other; or why
/// there is none.
///
/// By chance each half has a mean AUC of 1/2 and a known deviation, given the other half's model. The models are not
/// independent, though: each half decides what the other is judged by, so that both AUCs move together, and their mean
/// deviates as much as one of them. The mean of both deviations bounds it.
fn tell(audit: &Audit<'_>) -> Result<Told, &'static str> {
    let (values, columns) = audit.features.ok_or("no features were given")?;
    // As many columns as keep the fit within a second.
    let used = columns.min(256);
    let most = (SAMPLE * 64 / used.max(64)).max(500);
    let (train, held_out) = (sample(audit, false, most), sample(audit, true, most));
    if train.len() < LEAST_ROWS || held_out.len() < LEAST_ROWS {
        return Err("it takes 50 rows on either side");
    }
    let halves = halves(audit, &train, &held_out).ok_or("it takes 20 groups on either side")?;
    let rows = train.len() + held_out.len();
    let inputs = inputs(values, columns, used, &halves.concat());
    let width = 2 * used;
    let (first, second) = inputs.split_at(halves[0].len() * width);
    let inputs = [first, second];
    let grouped = audit.rows.groups.is_some();
    let (mut area, mut deviation, mut reach) = (0.0, 0.0, 0.0);
    for (fit, judge) in [(0, 1), (1, 0)] {
        let weights = logistic(inputs[fit], &halves[fit], width);
        let score = |input: &[f32]| -> f64 {
            input.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum()
        };
        let scores: Vec<f64> = inputs[judge].chunks_exact(width).map(score).collect();
        // Two models: their AUCs are averaged, not their scores mixed.
        let half = Area::of(&scores, &halves[judge]);
        let share = halves[judge].len() as f64 / rows as f64;
        area += share * half.area;
        let (by_chance, times) = half.deviation(grouped);
        deviation += share * by_chance;
        reach += share * by_chance * times;
    }
    Ok(Told { area, deviation, reach, rows, used })
}

/// The rows in two halves with as many groups of each side; none where a side has too few groups.
fn halves(audit: &Audit<'_>, train: &[usize], held_out: &[usize]) -> Option<[Vec<Case>; 2]> {
    let group = |row: usize| audit.rows.groups.map_or(row as u32, |groups| groups[row]);
    let mut home: HashMap<u32, usize> = HashMap::new();
    let mut halves = [Vec::new(), Vec::new()];
    for (side, rows) in [train, held_out].into_iter().enumerate() {
        let mut groups: Vec<u32> = rows.iter().map(|&row| group(row)).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.len() < LEAST_GROUPS {
            return None;
        }
        audit.seed.child(side as u64).stream("audit/adversarial").shuffle(&mut groups);
        for (place, &group) in groups.iter().enumerate() {
            // A group on both sides stays where its training rows are.
            home.entry(group).or_insert(place % 2);
        }
        for &row in rows {
            let case = Case { row, held_out: side == 1, group: group(row) };
            halves[home[&case.group]].push(case);
        }
    }
    let both_sides = |half: &Vec<Case>| {
        half.first().is_some_and(|case| !case.held_out)
            && half.last().is_some_and(|case| case.held_out)
    };
    halves.iter().all(both_sides).then_some(halves)
}

/// The area under a ROC curve, ties counted half, and what its deviation takes.
struct Area {
    area: f64,
    /// Rows of either side.
    train: f64,
    held_out: f64,
    /// Variance by groups, and how many of them the side has that has fewer.
    variance: f64,
    groups: f64,
}

impl Area {
    fn of(scores: &[f64], cases: &[Case]) -> Self {
        let mut order: Vec<usize> = (0..cases.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let held_out = cases.iter().filter(|case| case.held_out).count() as f64;
        let train = cases.len() as f64 - held_out;
        // The share of the other side that each row is on the right side of.
        let mut placements = vec![0.0; cases.len()];
        let (mut train_below, mut held_out_below) = (0.0, 0.0);
        for run in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            let hits = run.iter().filter(|&&place| cases[place].held_out).count() as f64;
            let misses = run.len() as f64 - hits;
            for &place in run {
                placements[place] = if cases[place].held_out {
                    (train_below + 0.5 * misses) / train
                } else {
                    (held_out - held_out_below - 0.5 * hits) / held_out
                };
            }
            (train_below, held_out_below) = (train_below + misses, held_out_below + hits);
        }
        let judged = || cases.iter().zip(&placements);
        let area =
            judged().filter(|(case, _)| case.held_out).map(|(_, p)| p).sum::<f64>() / held_out;
        // In order of the groups, so that the sum is the same each time.
        let mut sums: BTreeMap<u32, f64> = BTreeMap::new();
        for (case, placement) in judged() {
            let rows = if case.held_out { held_out } else { train };
            *sums.entry(case.group).or_insert(0.0) += (placement - area) / rows;
        }
        let groups = |side: bool| {
            let mut groups: Vec<u32> =
                cases.iter().filter(|case| case.held_out == side).map(|case| case.group).collect();
            groups.sort_unstable();
            groups.dedup();
            groups.len() as f64
        };
        let fewer = groups(false).min(groups(true));
        let variance = sums.values().map(|sum| sum * sum).sum::<f64>() * fewer / (fewer - 1.0);
        Self { area, train, held_out, variance, groups: fewer }
    }

    /// The deviation by chance, and how many of it chance reaches once in 30,000 times.
    ///
    /// For independent rows it is that of Mann and Whitney, `sqrt((a + b + 1) / (12 a b))`, and four times that is reached.
    /// Where rows come in groups it is at least that between groups (N. A. Obuchowski, "Nonparametric analysis of clustered
    /// ROC curve data", Biometrics 1997), known from a few of them only: Student's quantile in place of four, by its
    /// expansion in the degrees of freedom.
    fn deviation(&self, grouped: bool) -> (f64, f64) {
        let (a, b) = (self.train, self.held_out);
        let independent = (a + b + 1.0) / (12.0 * a * b);
        if grouped && self.variance > independent {
            let freedom = self.groups - 1.0;
            (self.variance.sqrt(), 4.0 + 17.0 / freedom + 64.0 / freedom.powi(2))
        } else {
            (independent.sqrt(), 4.0)
        }
    }
}

/// Standardized features and squares, the squares centred; what is not finite counts as the mean.
fn inputs(values: &[f32], columns: usize, used: usize, cases: &[Case]) -> Vec<f32> {
    let width = 2 * used;
    let mut inputs = vec![0.0f32; cases.len() * width];
    for column in 0..used {
        let value = |case: &Case| f64::from(values[case.row * columns + column]);
        let finite = || cases.iter().map(value).filter(|v| v.is_finite());
        let count = finite().count().max(1) as f64;
        let mean = finite().sum::<f64>() / count;
        let deviation = (finite().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt();
        if deviation <= 0.0 || !deviation.is_finite() {
            continue;
        }
        for (place, case) in cases.iter().enumerate() {
            let x = (value(case) - mean) / deviation;
            let x = if x.is_finite() { x.clamp(-5.0, 5.0) } else { 0.0 };
            inputs[place * width + column] = x as f32;
            inputs[place * width + used + column] = ((x * x - 1.0) / 2.0) as f32;
        }
    }
    inputs
}

/// Gradient descent with momentum on the penalized logistic loss, classes weighted equally.
fn logistic(inputs: &[f32], cases: &[Case], width: usize) -> Vec<f64> {
    let positives = cases.iter().filter(|case| case.held_out).count().max(1) as f64;
    let negatives = (cases.len() as f64 - positives).max(1.0);
    let (mut weights, mut speed) = (vec![0.0f64; width], vec![0.0f64; width]);
    for _ in 0..60 {
        let gradient = cases
            .par_chunks(512)
            .zip(inputs.par_chunks(512 * width))
            .map(|(cases, inputs)| {
                let mut gradient = vec![0.0f64; width];
                for (case, input) in cases.iter().zip(inputs.chunks_exact(width)) {
                    let score: f64 =
                        input.iter().zip(&weights).map(|(x, w)| f64::from(*x) * w).sum();
                    let chance = 1.0 / (1.0 + (-score).exp());
                    let error =
                        if case.held_out { (chance - 1.0) / positives } else { chance / negatives };
                    gradient.iter_mut().zip(input).for_each(|(g, x)| *g += error * f64::from(*x));
                }
                gradient
            })
            .collect::<Vec<_>>();
        // Summed in order, so that the number of threads does not show.
        for place in 0..width {
            let slope: f64 = gradient.iter().map(|g| g[place]).sum::<f64>() + 1e-3 * weights[place];
            speed[place] = 0.8 * speed[place] - 0.05 * slope;
            weights[place] += speed[place];
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupUnit, HoldOut, Roles, Rows, Splitter};
    use firebrick_core::Seed;

    fn area(scores: &[(f64, bool)]) -> f64 {
        let case = |(row, &(_, held_out)): (usize, &(f64, bool))| Case {
            row,
            held_out,
            group: row as u32,
        };
        let cases: Vec<Case> = scores.iter().enumerate().map(case).collect();
        let scores: Vec<f64> = scores.iter().map(|(score, _)| *score).collect();
        Area::of(&scores, &cases).area
    }

    #[test]
    fn the_area_under_the_curve_counts_ties_half() {
        assert_eq!(area(&[(0.0, false), (1.0, true)]), 1.0);
        assert_eq!(area(&[(0.5, false), (0.5, true), (0.5, true)]), 0.5);
        assert_eq!(area(&[(0.1, true), (0.2, false), (0.3, true), (0.3, false)]), 0.375);
    }

    fn roles(n: usize, seed: u64) -> Roles {
        HoldOut::new(0.5).with_shuffle(Seed(seed)).split(&Rows::new(n)).expect("splits")
    }

    fn noise(n: usize, columns: usize, seed: u64) -> Vec<f32> {
        let mut stream = Seed(seed).stream("adversarial-test");
        (0..n * columns).map(|_| stream.normal() as f32).collect()
    }

    /// AUCs of equal sides over their deviation: mean and root of the mean square.
    fn by_chance(trials: u64, told: impl Fn(u64) -> Told) -> (f64, f64) {
        let excess: Vec<f64> = (0..trials)
            .map(|seed| {
                let told = told(seed);
                assert!(told.area < 0.5 + told.reach, "an alarm for seed {seed}");
                (told.area - 0.5) / told.deviation
            })
            .collect();
        let mean = |f: fn(f64) -> f64| excess.iter().map(|&e| f(e)).sum::<f64>() / trials as f64;
        (mean(|e| e), mean(|e| e * e).sqrt())
    }

    #[test]
    fn the_deviation_by_chance_holds_over_both_models() {
        let (n, columns, trials) = (240, 6, 200);
        let (mean, spread) = by_chance(trials, |seed| {
            let (values, roles) = (noise(n, columns, seed), roles(n, seed));
            let audit = Audit::of_roles(&roles).with_features(&values, columns);
            tell(&audit.with_seed(Seed(seed))).expect("enough rows")
        });
        // Five standard errors. Were the halves independent, they would spread by 0.71.
        let error = 1.0 / (trials as f64).sqrt();
        assert!(mean.abs() < 5.0 * error, "{mean}");
        assert!((0.8..1.0 + 5.0 * error / 2f64.sqrt()).contains(&spread), "{spread}");
    }

    #[test]
    fn rows_of_a_group_count_as_one() {
        // 40 groups of 8 rows that are nearly alike; whole groups on either side.
        let (groups, rows, columns) = (40, 8, 10);
        let n = groups * rows;
        let column: Vec<u32> = (0..n).map(|row| (row / rows) as u32).collect();
        let of = Rows::new(n).with_groups(&column);
        let scheme = HoldOut::new(0.5).with_groups(GroupUnit::Groups);
        let problem = |seed: u64| {
            let (own, shared) = (noise(n, columns, seed), noise(groups, columns, seed + 1000));
            let value =
                |at: usize| 0.3 * own[at] + shared[at / columns / rows * columns + at % columns];
            let values: Vec<f32> = (0..n * columns).map(value).collect();
            let roles = scheme.clone().with_shuffle(Seed(seed)).split(&of).expect("splits");
            (values, roles)
        };
        let (mean, spread) = by_chance(60, |seed| {
            let (values, roles) = problem(seed);
            let audit = Audit::of_roles(&roles).with_features(&values, columns);
            tell(&audit.with_rows(&of)).expect("enough groups")
        });
        assert!(mean.abs() < 5.0 / 60f64.sqrt() && spread < 1.5, "{mean} {spread}");
        // Who does not know of the groups takes what their rows have in common for a shift.
        let alarm = |seed: &u64| {
            let (values, roles) = problem(*seed);
            let check = adversarial(&Audit::of_roles(&roles).with_features(&values, columns));
            check.verdict == Verdict::Warning
        };
        assert!((0..10).filter(alarm).count() > 5);
    }

    #[test]
    fn what_is_well_above_the_limit_is_found() {
        // A shift by one deviation in one column of six is an AUC of 0.76; the limit for 400 + 400 rows is 0.62.
        let (n, columns) = (800, 6);
        for seed in 0..20 {
            let (mut values, roles) = (noise(n, columns, seed), roles(n, seed));
            for row in roles.test() {
                values[row as usize * columns + 2] += 1.0;
            }
            let check = adversarial(&Audit::of_roles(&roles).with_features(&values, columns));
            assert_eq!((check.verdict, check.count), (Verdict::Warning, n), "{check:?}");
            assert!(check.examples[0].contains("from 0.61"), "{check:?}");
        }
    }

    #[test]
    fn sides_that_are_too_small_are_skipped() {
        let few = roles(98, 1);
        let check = adversarial(&Audit::of_roles(&few).with_features(&noise(98, 2, 1), 2));
        assert!(check.not_checked.contains("50 rows on either side"), "{check:?}");
        // Every group on both sides: it is judged where its training rows are.
        let n = 120;
        let numbers: Vec<u8> = (0..n).map(|row| (row % 2) as u8).collect();
        let (roles, values) = (Roles::from_numbers(&numbers).expect("valid"), noise(n, 2, 1));
        let of = |rows: usize| {
            let groups: Vec<u32> = (0..n).map(|row| (row / rows) as u32).collect();
            let audit = Audit::of_roles(&roles).with_features(&values, 2);
            adversarial(&audit.with_rows(&Rows::new(n).with_groups(&groups)))
        };
        assert_eq!(of(6).verdict, Verdict::Clean);
        assert!(of(7).not_checked.contains("20 groups on either side"));
    }
}
