//! An order of rows in which every beginning holds each class in proportion.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The class of each place of an order of all rows in which, among the first k rows, the number of rows of class c
/// differs from `k counts[c] / n` by less than one, for every k and c.
///
/// Row j of a class may come from place `(j + e) n / counts[c]` on and must have come by `(j + 1 - e) n / counts[c]`,
/// with `e = 1 / (2 C - 2)` for C classes; the open row with the earliest deadline comes first. Tijdeman, "The chairman
/// assignment problem", 1980, shows that no deadline is missed.
pub(crate) fn fair_order(counts: &[usize]) -> Vec<u32> {
    let n: usize = counts.iter().sum();
    let scale = 2 * counts.iter().filter(|&&count| count > 0).count().max(2) as u128 - 2;
    // In places times `counts[class] * scale`, so that it is exact.
    let claim = |j: usize, part: u128| (j as u128 * scale + part) * n as u128;
    let first = |class: usize, j| claim(j, 1).div_ceil(counts[class] as u128 * scale);
    let last = |class: usize, j| claim(j, scale - 1) / (counts[class] as u128 * scale) + 1;
    let mut waiting: BinaryHeap<Reverse<(u128, usize, usize)>> = (0..counts.len())
        .filter(|&class| counts[class] > 0)
        .map(|class| Reverse((first(class, 0), class, 0)))
        .collect();
    let mut open: BinaryHeap<Reverse<(u128, usize, usize)>> = BinaryHeap::new();
    let mut order = Vec::with_capacity(n);
    while order.len() < n {
        let place = order.len() as u128 + 1;
        while let Some(&Reverse((release, class, j))) = waiting.peek() {
            if release > place && !open.is_empty() {
                break;
            }
            waiting.pop();
            open.push(Reverse((last(class, j), class, j)));
        }
        let Some(Reverse((_, class, j))) = open.pop() else { break };
        order.push(class as u32);
        if j + 1 < counts[class] {
            waiting.push(Reverse((first(class, j + 1), class, j + 1)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_beginning_is_fair(counts in prop::collection::vec(0usize..60, 1..12)) {
            let n: usize = counts.iter().sum();
            let order = fair_order(&counts);
            prop_assert_eq!(order.len(), n);
            let mut taken = vec![0usize; counts.len()];
            for (place, &class) in order.iter().enumerate() {
                taken[class as usize] += 1;
                for (count, taken) in counts.iter().zip(&taken) {
                    // |taken - k count / n| < 1 without a division
                    let claim = (place + 1) * count;
                    prop_assert!((taken * n).abs_diff(claim) < n, "{place}: {taken} of {count}");
                }
            }
            prop_assert_eq!(taken, counts);
        }
    }

    #[test]
    fn a_crowd_of_small_classes_does_not_come_at_once() {
        let mut counts = vec![10; 10];
        counts[0] = 910;
        let order = fair_order(&counts);
        assert_eq!(order[..50].iter().filter(|&&class| class == 0).count(), 46);
        assert_eq!(order[..100].iter().filter(|&&class| class == 0).count(), 91);
    }
}
