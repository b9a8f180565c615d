//! What the adviser is held to, and whether a run bears it out.

use crate::regret::Regret;
use crate::summary::Claim;
use serde::Serialize;
use std::fmt;

/// A figure with its bound.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Goal {
    pub(crate) text: String,
    /// On the combinations that no border was fixed on, as a share.
    pub(crate) held: f64,
    /// On all of them.
    pub(crate) all: f64,
    pub(crate) bound: Bound,
    /// Whether `held` keeps the bound.
    pub(crate) met: bool,
}

/// On which side of what a figure has to lie, in shares.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Above(f64),
}

impl Bound {
    fn kept(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Above(bound) => value > bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, bound) = match self {
            Self::AtMost(bound) => ("at most", bound),
            Self::AtLeast(bound) => ("at least", bound),
            Self::Above(bound) => ("above", bound),
        };
        f.pad(&format!("{words} {:.1}", 100.0 * bound))
    }
}

/// The goals whose figures this run has.
pub(crate) fn goals(held_out: &[Regret], all: &[Regret], claims: &[Claim]) -> Vec<Goal> {
    let (measuring, not, table) =
        ("adviser, measuring", "adviser, not measuring", "table, similarity by lift");
    let goal = |text: &str, [held, all]: [Option<f64>; 2], bound: Bound| {
        let held = held?;
        Some(Goal { text: text.into(), held, all: all?, bound, met: bound.kept(held) })
    };
    let of = |list: &[Regret], name: &str| list.iter().find(|regret| regret.name == name).cloned();
    let both = |name: &str, value: fn(&Regret) -> f64| {
        [held_out, all].map(|list| of(list, name).map(|regret| value(&regret)))
    };
    let mean: fn(&Regret) -> f64 = |regret| regret.mean;
    let fair: fn(&Regret) -> f64 = |regret| regret.without_luck;
    // Where one of the two chose in other cells, nothing is compared.
    let behind = |name: &str| {
        [held_out, all].map(|list| {
            let (table, other) = (of(list, table)?, of(list, name)?);
            (table.cells == other.cells).then_some(table.mean - other.mean)
        })
    };
    let few_and_similar = "identity, 5 a class: head only less scratch";
    let gap = claims.iter().find(|claim| claim.text == few_and_similar);
    let gap = gap.map(|claim| claim.difference.mean);
    let list = [
        goal("regret, measuring", both(measuring, mean), Bound::AtMost(0.009)),
        goal(
            "regret, measuring, without luck (an aim)",
            both(measuring, fair),
            Bound::AtMost(0.005),
        ),
        goal("regret, not measuring", both(not, mean), Bound::AtMost(0.014)),
        goal("the table's regret less that, measuring", behind(measuring), Bound::Above(0.0)),
        goal("the table's regret less that, not measuring", behind(not), Bound::Above(0.0)),
        goal("head only less scratch, few and similar", [gap; 2], Bound::AtLeast(0.1)),
    ];
    list.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::Mean;

    fn regret(name: &str, mean: f64, without_luck: f64) -> Regret {
        let (name, by_size) = (name.to_owned(), Default::default());
        Regret { name, cells: 4, mean, without_luck, ninety: mean, worst: mean, by_size }
    }

    #[test]
    fn a_goal_is_met_on_the_held_out_half_alone() {
        let list = |measuring: f64| {
            vec![
                regret("adviser, measuring", measuring, 0.006),
                regret("adviser, not measuring", 0.014, 0.01),
                regret("table, similarity by lift", 0.014, 0.01),
            ]
        };
        let found = goals(&list(0.008), &list(0.02), &[]);
        let mut fewer = list(0.008);
        fewer[0].cells = 2;
        assert_eq!(goals(&fewer, &fewer, &[]).len(), 4, "measured in other cells than the table");
        let met: Vec<bool> = found.iter().map(|goal| goal.met).collect();
        // Equal to the table is not below it.
        assert_eq!(met, [true, false, true, true, false]);
        assert_eq!((found[0].held, found[0].all), (0.008, 0.02));
        assert_eq!(found[0].bound.to_string(), "at most 0.9");
    }

    #[test]
    fn what_was_not_run_is_no_goal() {
        assert!(goals(&[], &[], &[]).is_empty());
        let claim = |text: &str, mean: f64| Claim {
            text: text.into(),
            difference: Mean { mean, low: mean, high: mean },
            above: 1,
            repetitions: 1,
        };
        let claims = [
            claim("rotation 20, 5 a class: head only less scratch", 0.5),
            claim("identity, 5 a class: head only less scratch", 0.09),
        ];
        let found = goals(&[], &[], &claims);
        assert_eq!((found.len(), found[0].met, found[0].held), (1, false, 0.09));
    }
}
