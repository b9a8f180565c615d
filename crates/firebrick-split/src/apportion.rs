//! Shares of classes in parts of exact size: largest remainders with lower and upper bounds.

/// Distributes `total` over classes in proportion to `weights`, each result within its bounds.
///
/// Whole quotas first, then one more by descending remainder with ties to the earlier class; bounds shift
/// what does not fit to the classes whose share is farthest below (or above) its quota. The bounds must allow
/// `total`.
pub(crate) fn largest_remainder(
    weights: &[usize],
    total: usize,
    low: usize,
    high: &[usize],
) -> Vec<usize> {
    let sum: u128 = weights.iter().map(|&w| w as u128).sum();
    let quota = |class: usize| weights[class] as u128 * total as u128;
    let mut shares: Vec<usize> = (0..weights.len())
        .map(|class| {
            ((quota(class) / sum.max(1)) as usize).clamp(low.min(high[class]), high[class])
        })
        .collect();
    loop {
        let given: usize = shares.iter().sum();
        // Quota minus share, scaled by `sum` so that it stays an integer.
        let gap = |class: usize, share: usize| quota(class) as i128 - (share as u128 * sum) as i128;
        let mut order: Vec<usize> = if given < total {
            (0..weights.len()).filter(|&class| shares[class] < high[class]).collect()
        } else if given > total {
            (0..weights.len()).filter(|&class| shares[class] > low).collect()
        } else {
            return shares;
        };
        if order.is_empty() {
            return shares;
        }
        let missing = given.abs_diff(total).min(order.len());
        if given < total {
            order.sort_by_key(|&class| (std::cmp::Reverse(gap(class, shares[class])), class));
            order[..missing].iter().for_each(|&class| shares[class] += 1);
        } else {
            order.sort_by_key(|&class| (gap(class, shares[class]), std::cmp::Reverse(class)));
            order[..missing].iter().for_each(|&class| shares[class] -= 1);
        }
    }
}

/// Rows of each class in train, validation, test and the excluded part: test against the rest, then
/// validation against the rest, then what is left out against training.
pub(crate) fn apportion_classes(
    counts: &[usize],
    sizes: [usize; 3],
    min: usize,
) -> Vec<[usize; 4]> {
    let n: usize = counts.iter().sum();
    let left_out = n - sizes.iter().sum::<usize>();
    let mut table = vec![[0usize; 4]; counts.len()];
    let mut remaining = counts.to_vec();
    // Parts still to come that must keep `min` rows of each class.
    let mut later = sizes.iter().filter(|&&size| size > 0).count();
    for (part, size) in [(2, sizes[2]), (1, sizes[1]), (3, left_out)] {
        if size == 0 {
            continue;
        }
        let low = if part == 3 { 0 } else { min };
        later -= usize::from(part != 3);
        let high: Vec<usize> =
            remaining.iter().map(|&rows| rows.saturating_sub(later * min)).collect();
        let shares = largest_remainder(&remaining, size, low, &high);
        for (class, share) in shares.into_iter().enumerate() {
            table[class][part] = share;
            remaining[class] -= share;
        }
    }
    for (row, rest) in table.iter_mut().zip(remaining) {
        row[0] = rest;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sizes_are_exact_and_shares_within_one(counts in prop::collection::vec(1usize..60, 1..9), a in 0usize..100, b in 0usize..100, c in 0usize..100) {
            let n: usize = counts.iter().sum();
            let test = n * a / 250;
            let validation = n * b / 250;
            let left = (n - test - validation) * c / 200;
            let sizes = [n - test - validation - left, validation, test];
            let table = apportion_classes(&counts, sizes, 0);
            for part in 0..3 {
                prop_assert_eq!(table.iter().map(|row| row[part]).sum::<usize>(), sizes[part]);
            }
            for (row, &count) in table.iter().zip(&counts) {
                prop_assert_eq!(row.iter().sum::<usize>(), count);
                let share = |size: usize, of: usize, rows: usize| (rows * size) as f64 / of as f64;
                prop_assert!((row[2] as f64 - share(test, n, count)).abs() < 1.0);
                if validation > 0 {
                    let second = share(validation, n - test, count - row[2]);
                    prop_assert!((row[1] as f64 - second).abs() < 1.0);
                }
            }
        }

        #[test]
        fn bounds_hold(counts in prop::collection::vec(6usize..60, 1..6), parts in 1usize..40) {
            let n: usize = counts.iter().sum();
            let floor = 2 * counts.len();
            let test = floor + (n - 3 * floor) * parts / 80;
            let validation = floor + (n - 3 * floor) * (40 - parts) / 100;
            let table = apportion_classes(&counts, [n - test - validation, validation, test], 2);
            for row in &table {
                prop_assert!(row[..3].iter().all(|&share| share >= 2), "{:?}", table);
            }
            prop_assert_eq!(table.iter().map(|row| row[2]).sum::<usize>(), test);
            prop_assert_eq!(table.iter().map(|row| row[1]).sum::<usize>(), validation);
        }
    }
}
