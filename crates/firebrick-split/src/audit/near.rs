//! Nearly equal rows: SimHash for vectors and images, MinHash for texts, candidates verified.

use super::duplicates::equal;
use super::{Audit, Check, Verdict};
use crate::{hash_bytes, hash_f32};
use rayon::prelude::*;
use std::collections::BTreeSet;

const NAME: &str = "near duplicates";
/// Vectors of fewer columns have close neighbours by nature.
const LEAST_COLUMNS: usize = 8;
/// A pair is near when its distance is below this share of the typical one.
const NEAR: f64 = 0.05;
/// Larger buckets are compared with neighbours in hash order only.
const BUCKET: usize = 400;

pub(super) fn run(audit: &Audit<'_>, pairs: &mut Vec<(u32, u32)>) -> Vec<Check> {
    let mut check = Check::new(NAME);
    let mut cut_short = 0;
    let mut left_out: Vec<String> = Vec::new();
    let wide = audit.features.filter(|(_, columns)| *columns >= LEAST_COLUMNS);
    // Numbers and texts are two sides of a row: where there are both, both must agree.
    let found = match (wide, audit.texts) {
        (Some((values, columns)), texts) => {
            let mut found = vectors(audit, values, columns, &mut cut_short);
            if let Some(texts) = texts {
                found.retain(|&(a, b)| alike(texts[a as usize], texts[b as usize]));
                left_out.push("rows with near numbers whose texts differ".into());
            }
            found
        }
        (None, Some(texts)) => {
            if audit.features.is_some() {
                left_out.push("rows with near texts whose numbers differ".into());
            }
            texts_near(audit, texts, &mut cut_short)
        }
        (None, None) if audit.features.is_some() => {
            return vec![Check::skipped(
                NAME,
                "vectors of fewer than 8 columns have close neighbours by nature",
            )];
        }
        (None, None) => {
            return vec![Check::skipped(NAME, "neither features nor texts were given")];
        }
    };
    if cut_short > 0 {
        left_out.push(format!("most pairs within {cut_short} crowded buckets"));
    }
    check.not_checked = left_out.join("; ");
    let mut rows = BTreeSet::new();
    for &(a, b) in &found {
        // Training comes before validation, validation before the test.
        let early_is_a = audit.parts[a as usize] < audit.parts[b as usize];
        let (early, late) = if early_is_a { (a, b) } else { (b, a) };
        if rows.insert(late) {
            check.example(|| {
                if audit.parts[early as usize] == 0 {
                    format!("held-out row {late} nearly equals training row {early}")
                } else {
                    format!("test row {late} nearly equals validation row {early}")
                }
            });
        }
    }
    pairs.extend(found);
    let held_out = (0..audit.parts.len()).filter(|&row| audit.held_out(row)).count();
    let mut check = check.of(rows.len(), held_out, Verdict::Warning);
    if check.share <= 0.001 {
        check.verdict = Verdict::Clean;
    }
    vec![check]
}

/// Pairs across parts that share a key, `near` deciding; keys come as (key, row).
fn candidates(
    mut keyed: Vec<(u64, u32)>,
    audit: &Audit<'_>,
    near: &(impl Fn(usize, usize) -> bool + Sync),
    cut_short: &mut usize,
) -> Vec<(u32, u32)> {
    keyed.par_sort_unstable();
    let runs: Vec<&[(u64, u32)]> =
        keyed.chunk_by(|a, b| a.0 == b.0).filter(|run| run.len() > 1).collect();
    *cut_short += runs.iter().filter(|run| run.len() > BUCKET).count();
    runs.par_iter()
        .flat_map_iter(|run| {
            let reach = if run.len() > BUCKET { 8 } else { run.len() };
            (0..run.len()).flat_map(move |i| {
                run[i + 1..].iter().take(reach).map(move |&(_, b)| (run[i].1, b))
            })
        })
        .filter(|&(a, b)| audit.across(a as usize, b as usize) && near(a as usize, b as usize))
        .map(|(a, b)| (a.min(b), a.max(b)))
        .collect()
}

/// Signs of 64 random projections of the standardized rows; near pairs differ in at most three of them.
fn vectors(
    audit: &Audit<'_>,
    values: &[f32],
    columns: usize,
    cut_short: &mut usize,
) -> Vec<(u32, u32)> {
    let n = audit.parts.len();
    let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
    let mut means = vec![0.0f64; columns];
    for row in values.chunks_exact(columns) {
        means.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(finite(value)));
    }
    means.iter_mut().for_each(|sum| *sum /= n as f64);
    // Standardized, so that no column decides alone by its unit; a constant column says nothing.
    let mut scales = vec![0.0f64; columns];
    for row in values.chunks_exact(columns) {
        let squares = scales.iter_mut().zip(row).zip(&means);
        squares.for_each(|((sum, &value), mean)| *sum += (f64::from(finite(value)) - mean).powi(2));
    }
    for scale in &mut scales {
        let deviation = (*scale / n as f64).sqrt();
        *scale = if deviation > 0.0 && deviation.is_finite() { 1.0 / deviation } else { 0.0 };
    }
    let mut stream = audit.seed.stream("audit/simhash");
    let planes: Vec<f32> = (0..64 * columns).map(|_| stream.normal() as f32).collect();
    let hashes: Vec<u64> = values
        .par_chunks_exact(columns)
        .map(|row| {
            let standard: Vec<f32> = (0..columns)
                .map(|c| ((f64::from(finite(row[c])) - means[c]) * scales[c]) as f32)
                .collect();
            planes.chunks_exact(columns).enumerate().fold(0, |hash, (bit, plane)| {
                let dot: f32 = plane.iter().zip(&standard).map(|(a, b)| a * b).sum();
                hash | u64::from(dot > 0.0) << bit
            })
        })
        .collect();
    let distance = |a: usize, b: usize| {
        let (a, b) = (&values[a * columns..][..columns], &values[b * columns..][..columns]);
        let squares =
            (0..columns).map(|c| (f64::from(finite(a[c])) - f64::from(finite(b[c]))) * scales[c]);
        squares.map(|difference| difference * difference).sum::<f64>().sqrt()
    };
    // The typical distance: the median over random pairs.
    let mut sample: Vec<f64> = (0..999)
        .map(|_| distance(stream.below(n as u64) as usize, stream.below(n as u64) as usize))
        .collect();
    sample.sort_by(f64::total_cmp);
    let limit = NEAR * sample[sample.len() / 2];
    let near =
        |a: usize, b: usize| (hashes[a] ^ hashes[b]).count_ones() <= 3 && distance(a, b) <= limit;
    // Of four bands of 16 bits at least one is untouched by three changes.
    let mut found = Vec::new();
    for band in 0..4 {
        let key = |hash: u64| hash >> (16 * band) & 0xffff;
        let keyed = hashes.iter().enumerate().map(|(row, &hash)| (key(hash), row as u32)).collect();
        found.extend(candidates(keyed, audit, &near, cut_short));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Hashes of runs of three words, lower case; of the whole text where it has fewer words.
fn shingles(text: &str) -> Vec<u64> {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    let mut hashes: Vec<u64> = if words.len() < 3 {
        vec![hash_bytes(words.join(" ").as_bytes())]
    } else {
        words.windows(3).map(|three| hash_bytes(three.join(" ").as_bytes())).collect()
    };
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

/// Whether two ascending sets of shingles have a Jaccard similarity of 0.8 and more.
fn similar(left: &[u64], right: &[u64]) -> bool {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    while i < left.len() && j < right.len() {
        match left[i].cmp(&right[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, shared) = (i + 1, j + 1, shared + 1),
        }
    }
    let union = left.len() + right.len() - shared;
    5 * shared >= 4 * union && union > 0
}

/// Whether two texts are equal or near.
fn alike(left: &str, right: &str) -> bool {
    left == right || similar(&shingles(left), &shingles(right))
}

/// The least hash in each of 128 bins; an empty bin takes that of the next filled one.
fn signature(shingles: &[u64]) -> [u64; 128] {
    let mut bins = [u64::MAX; 128];
    for &hash in shingles {
        let bin = &mut bins[(hash >> 57) as usize];
        *bin = (*bin).min(hash);
    }
    let filled = bins;
    for (place, bin) in bins.iter_mut().enumerate() {
        if *bin == u64::MAX {
            let next = (1..128)
                .map(|step| (step, filled[(place + step) % 128]))
                .find(|(_, h)| *h != u64::MAX);
            *bin = next.map_or(u64::MAX, |(step, hash)| hash.wrapping_add(step as u64));
        }
    }
    bins
}

/// Texts whose sets of shingles are similar, of rows whose numbers are equal: 16 bands of 8 bins.
fn texts_near(audit: &Audit<'_>, texts: &[&str], cut_short: &mut usize) -> Vec<(u32, u32)> {
    let sets: Vec<Vec<u64>> = texts.par_iter().map(|text| shingles(text)).collect();
    let signatures: Vec<[u64; 128]> = sets.par_iter().map(|set| signature(set)).collect();
    let numbers =
        |row: usize| audit.features.map(|(values, width)| &values[row * width..(row + 1) * width]);
    // Part of each key, so that a column of few categories does not crowd the buckets.
    let marks: Vec<u64> = (0..texts.len())
        .into_par_iter()
        .map(|row| numbers(row).map_or(0, |values| hash_f32(values, None)))
        .collect();
    let near = |a: usize, b: usize| {
        numbers(a).zip(numbers(b)).is_none_or(|(a, b)| equal(a, b)) && similar(&sets[a], &sets[b])
    };
    let mut found = Vec::new();
    for band in 0..16 {
        let key = |row: usize| {
            let bytes: Vec<u8> = signatures[row][8 * band..8 * band + 8]
                .iter()
                .chain([&marks[row]])
                .flat_map(|hash| hash.to_le_bytes())
                .collect();
            hash_bytes(&bytes)
        };
        let keyed = (0..texts.len()).map(|row| (key(row), row as u32)).collect();
        found.extend(candidates(keyed, audit, &near, cut_short));
    }
    found.sort_unstable();
    found.dedup();
    found
}
