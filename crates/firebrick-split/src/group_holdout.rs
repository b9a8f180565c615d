//! Parts of whole groups that come as near as they can to sizes in rows.

use crate::classes::Dense;
use crate::stratified_group::{ClassCounts, weights};

/// Marks a group that no part asks for.
const LEFT_OUT: u8 = u8::MAX;

/// Fills the test part, then the validation part, then a training part of its own size.
///
/// Groups come in `order`, each taken if it still fits; then the exchange of one group (or the addition of
/// one) that comes nearest to the size is made.
pub(crate) fn fill(counts: &[usize], order: &[u32], sizes: [usize; 3]) -> Vec<u8> {
    let n: usize = counts.iter().sum();
    let left_out = n - sizes.iter().sum::<usize>().min(n);
    let mut parts = vec![0u8; counts.len()];
    let mut free: Vec<u32> = order.to_vec();
    let mut still_needed = sizes.iter().filter(|&&size| size > 0).count();
    for (part, size) in [(2u8, sizes[2]), (1, sizes[1]), (LEFT_OUT, left_out)] {
        if size == 0 {
            continue;
        }
        still_needed -= usize::from(part != LEFT_OUT);
        // Every part to come keeps at least one group.
        let (taken, rest) = take(counts, &free, size, still_needed, part != LEFT_OUT);
        for group in taken {
            parts[group as usize] = part;
        }
        free = rest;
    }
    parts
}

/// Groups of about `size` rows out of `free`, in order, leaving at least `keep` groups.
fn take(
    counts: &[usize],
    free: &[u32],
    size: usize,
    keep: usize,
    need_one: bool,
) -> (Vec<u32>, Vec<u32>) {
    let rows = |group: u32| counts[group as usize];
    let (mut taken, mut rest, mut got) = (Vec::new(), Vec::new(), 0);
    for (seen, &group) in free.iter().enumerate() {
        let others = rest.len() + (free.len() - seen - 1);
        if got + rows(group) <= size && others >= keep {
            got += rows(group);
            taken.push(group);
        } else {
            rest.push(group);
        }
    }
    let missing = size - got;
    let empty = taken.is_empty() && need_one;
    if missing > 0 || empty {
        exchange(counts, &mut taken, &mut rest, missing, keep, empty);
    }
    (taken, rest)
}

/// The exchange of one taken group for one that is not, or the addition of one, that misses least.
fn exchange(
    counts: &[usize],
    taken: &mut Vec<u32>,
    rest: &mut Vec<u32>,
    missing: usize,
    keep: usize,
    must_add: bool,
) {
    let rows = |group: u32| counts[group as usize];
    // Places in `rest` by size, the earlier place first among equals.
    let mut by_size: Vec<u32> = (0..rest.len() as u32).collect();
    by_size.sort_by_key(|&place| (rows(rest[place as usize]), place));
    let nearest = |wanted: usize| {
        let above = by_size.partition_point(|&place| rows(rest[place as usize]) < wanted);
        let candidates = [above.checked_sub(1), Some(above)];
        candidates
            .into_iter()
            .flatten()
            .filter_map(|index| by_size.get(index))
            .map(|&place| (rows(rest[place as usize]).abs_diff(wanted), place as usize))
            .min()
    };
    let mut best = (if must_add { usize::MAX } else { missing }, None, 0);
    if rest.len() > keep
        && let Some((miss, place)) = nearest(missing)
        && miss < best.0
    {
        best = (miss, None, place + 1);
    }
    let mut tried = std::collections::HashSet::new();
    for (index, &group) in taken.iter().enumerate() {
        if tried.insert(rows(group))
            && let Some((miss, place)) = nearest(rows(group) + missing)
            && miss < best.0
        {
            best = (miss, Some(index), place + 1);
        }
    }
    let (_, out, place) = best;
    match (out, place.checked_sub(1)) {
        (None, Some(place)) => taken.push(rest.remove(place)),
        (Some(index), Some(place)) => std::mem::swap(&mut taken[index], &mut rest[place]),
        (_, None) => {}
    }
}

/// Groups one by one to the part in which the squared class shares, divided by the part's share, grow least.
pub(crate) fn stratified(
    counts: &ClassCounts,
    classes: &Dense,
    sizes_of_groups: &[usize],
    order: &[u32],
    sizes: [usize; 3],
) -> Vec<u8> {
    let n: usize = sizes_of_groups.iter().sum();
    let left_out = n - sizes.iter().sum::<usize>().min(n);
    let wanted = [sizes[0], sizes[1], sizes[2], left_out];
    let weights = weights(classes);
    let mut placed = vec![[0u32; 4]; classes.len()];
    let mut members = [0usize; 4];
    let mut parts = vec![0u8; sizes_of_groups.len()];
    let mut pairs = Vec::new();
    for &group in order {
        counts.read(group as usize, &mut pairs);
        // Minus the change that an even spread makes, over the part's share: sum of (2 F + g) g / n_c^2 / a.
        let score = |part: usize| -> u128 {
            let change: u128 = pairs
                .iter()
                .map(|&(class, count)| {
                    let there = u128::from(placed[class as usize][part]);
                    (2 * there + u128::from(count)) * u128::from(count) * weights[class as usize]
                })
                .sum();
            change / wanted[part] as u128
        };
        let best = (0..4).filter(|&part| wanted[part] > 0).min_by_key(|&part| (score(part), part));
        let best = best.unwrap_or(0);
        for &(class, count) in &pairs {
            placed[class as usize][best] += count;
        }
        members[best] += 1;
        parts[group as usize] = if best == 3 { LEFT_OUT } else { best as u8 };
    }
    for part in 0..3 {
        if wanted[part] > 0 && members[part] == 0 {
            let index = |part: u8| if part == LEFT_OUT { 3 } else { usize::from(part) };
            let donor = (0..parts.len())
                .filter(|&group| members[index(parts[group])] > 1)
                .min_by_key(|&group| (sizes_of_groups[group], group));
            if let Some(group) = donor {
                members[index(parts[group])] -= 1;
                members[part] += 1;
                parts[group] = part as u8;
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use crate::{GroupUnit, HoldOut, Rows, SplitError, Splitter, Warning};
    use firebrick_core::Seed;

    /// 300 groups of Zipf sizes.
    fn zipf() -> Vec<u32> {
        (0..300u32).flat_map(|g| vec![g; (600 / (g as usize + 2)).max(1)]).collect()
    }

    #[test]
    fn sizes_in_rows_are_met() {
        let groups = zipf();
        let rows = Rows::new(groups.len()).with_groups(&groups);
        for seed in 0..50 {
            let split = HoldOut::new(0.2).with_groups(GroupUnit::Rows).with_shuffle(Seed(seed));
            let roles = split.split(&rows).expect("splits");
            let asked = groups.len().div_ceil(5);
            assert!(roles.sizes()[2].abs_diff(asked) <= 1, "{:?} for {asked}", roles.sizes());
            let train: std::collections::HashSet<u32> =
                roles.train().iter().map(|&row| groups[row as usize]).collect();
            assert!(roles.test().iter().all(|&row| !train.contains(&groups[row as usize])));
        }
    }

    #[test]
    fn sizes_in_groups_are_exact() {
        let groups = zipf();
        let rows = Rows::new(groups.len()).with_groups(&groups);
        let split = HoldOut::new(0.2)
            .with_validation(0.1)
            .with_groups(GroupUnit::Groups)
            .with_shuffle(Seed(1));
        let roles = split.split(&rows).expect("splits");
        let count = |rows: Vec<u32>| {
            rows.iter()
                .map(|&row| groups[row as usize])
                .collect::<std::collections::HashSet<_>>()
                .len()
        };
        assert_eq!(
            (count(roles.test()), count(roles.validation()), count(roles.train())),
            (60, 30, 210)
        );
        assert!(roles.map().warnings().is_empty());
    }

    #[test]
    fn large_groups_leave_no_part_empty() {
        let groups = [0, 0, 0, 1, 1, 1, 2, 2, 2];
        let rows = Rows::new(9).with_groups(&groups).with_labels(&[0, 1, 0, 1, 0, 1, 0, 1, 0]);
        for split in [HoldOut::new(1usize), HoldOut::new(1usize).with_stratified()] {
            let roles = split
                .with_groups(GroupUnit::Rows)
                .with_validation(1usize)
                .split(&rows)
                .expect("splits");
            assert_eq!(roles.sizes(), [3, 3, 3]);
            assert!(
                roles
                    .map()
                    .warnings()
                    .iter()
                    .any(|w| matches!(w, Warning::SizeMissed { asked: 1, got: 3, .. }))
            );
        }
        let two = Rows::new(2).with_groups(&[4, 5]);
        let error =
            HoldOut::new(1usize).with_validation(1usize).with_groups(GroupUnit::Rows).split(&two);
        assert!(
            matches!(error, Err(SplitError::TooFewGroups { groups: 2, need: 3, .. })),
            "{error:?}"
        );
    }

    #[test]
    fn stratified_groups_keep_shares() {
        // 400 groups of 5, each mostly of one class; 30 % of the rows are of class 1.
        let groups: Vec<u32> = (0..2000).map(|row| row / 5).collect();
        let labels: Vec<u32> = groups.iter().map(|g| u32::from(g % 10 < 3)).collect();
        let rows = Rows::new(2000).with_groups(&groups).with_labels(&labels);
        for seed in 0..10 {
            let split = HoldOut::new(0.2)
                .with_validation(0.15)
                .with_stratified()
                .with_groups(GroupUnit::Rows);
            let roles = split.with_shuffle(Seed(seed)).split(&rows).expect("splits");
            for (part, size) in
                [(roles.train(), 1300), (roles.validation(), 300), (roles.test(), 400)]
            {
                let ones = part.iter().filter(|&&row| labels[row as usize] == 1).count();
                assert!(part.len().abs_diff(size) <= 25, "{:?}", roles.sizes());
                assert!((ones as f64 / part.len() as f64 - 0.3).abs() < 0.03);
            }
        }
    }
}
