//! What a scheme, or a column of the file, makes of the rows.

use crate::arguments::{Arguments, Scheme};
use firebrick_split::{
    FoldMap, GroupKFold, GroupUnit, HoldOut, KFold, LeavePGroupsOut, ListManifest, Predefined,
    Roles, Rows, Spec, Split, SplitError, Splits, Splitter, StratifiedGroupKFold, StratifiedKFold,
    TimeSeries, TimeUnit, Warning, encode,
};
use std::error::Error;

/// Most rows that all lists together may hold: 1 GiB of row numbers.
const MOST_LISTED: u128 = 1 << 28;

/// A split of any scheme: its splits, its parts by name, its recipe and certificate.
pub(crate) struct Outcome {
    /// Name and rows of each part that is written.
    pub(crate) lists: Vec<(String, Vec<u32>)>,
    pub(crate) splits: Vec<Split>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) spec: Spec,
    pub(crate) manifest: serde_json::Value,
    pub(crate) map: Option<FoldMap>,
    /// The roles of a hold-out, whose validation and test part the audit tells apart.
    pub(crate) roles: Option<Roles>,
}

fn roles_outcome(roles: &Roles, spec: Spec) -> Result<Outcome, Box<dyn Error>> {
    let lists =
        [("train", roles.train()), ("validation", roles.validation()), ("test", roles.test())];
    Ok(Outcome {
        manifest: serde_json::to_value(roles.map().manifest())?,
        lists: lists
            .into_iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(n, r)| (n.into(), r))
            .collect(),
        splits: roles.iter().collect(),
        warnings: roles.map().warnings().to_vec(),
        spec,
        map: Some(roles.map().clone()),
        roles: Some(roles.clone()),
    })
}

fn folds_outcome<S: Splitter>(
    scheme: &S,
    rows: &Rows<'_>,
    map: impl Fn(&S::Output) -> Option<FoldMap>,
) -> Result<Outcome, Box<dyn Error>> {
    let output = scheme.split(rows)?;
    let (count, n) = (output.count(), output.rows());
    let listed = count as u128 * n as u128;
    if listed > MOST_LISTED {
        return Err(format!(
            "{count} splits of {n} rows would list {listed} rows, more than the {MOST_LISTED} that are written; the library makes one split at a time"
        )
        .into());
    }
    let map = map(&output);
    let manifest = match &map {
        Some(map) => serde_json::to_value(map.manifest())?,
        None => serde_json::to_value(ListManifest::new(&output, scheme.spec(), rows.fingerprint))?,
    };
    let splits: Vec<Split> = output.iter().collect();
    let lists = splits.iter().enumerate().flat_map(|(i, split)| {
        [
            (format!("fold-{i}-train"), split.train.to_vec()),
            (format!("fold-{i}-validation"), split.valid.to_vec()),
        ]
    });
    Ok(Outcome {
        lists: lists.collect(),
        warnings: output.warnings().to_vec(),
        spec: scheme.spec(),
        manifest,
        map,
        splits,
        roles: None,
    })
}

/// A split that stands in the file: roles by name, or folds by number or any text. An empty cell or -1 is in no part
/// where there are roles, and never held out where there are folds.
fn given(cells: &[String], rows: &Rows<'_>) -> Result<Outcome, Box<dyn Error>> {
    let role = |cell: &String| match cell.to_lowercase().as_str() {
        "train" | "training" => Some(0),
        "validation" | "valid" | "val" | "dev" => Some(1),
        "test" => Some(2),
        _ => None,
    };
    let never = |cell: &String| cell.is_empty() || cell == "-1";
    if cells.iter().any(|cell| role(cell).is_some()) {
        let mut numbers = Vec::with_capacity(cells.len());
        for (row, cell) in cells.iter().enumerate() {
            numbers.push(match role(cell) {
                Some(number) => number,
                None if never(cell) => u8::MAX,
                None => {
                    return Err(format!(
                        "row {row} of the part column is {cell:?}, but others are train, validation or test; leave it empty for a row of no part"
                    )
                    .into());
                }
            });
        }
        let roles = Roles::from_numbers(&numbers)?;
        return roles_outcome(&roles, roles.map().spec().clone());
    }
    let folds = encode::sorted(cells.iter().filter(|cell| !never(cell)).cloned());
    let mut codes = folds.codes.iter().copied();
    let numbers = cells.iter().map(|cell| if never(cell) { None } else { codes.next() }).collect();
    let outcome = folds_outcome(&Predefined::new(numbers), rows, |_| None);
    outcome.map_err(|error| -> Box<dyn Error> {
        if let Some(SplitError::OneFold { fold, n }) = error.downcast_ref() {
            let name = &folds.values[*fold as usize];
            return format!("all {n} rows are in fold {name:?}, so its training part is empty")
                .into();
        }
        error
    })
}

/// The split that was asked for, or the one that `parts` names for each row.
pub(crate) fn split(
    arguments: &Arguments,
    rows: &Rows<'_>,
    parts: Option<Vec<String>>,
) -> Result<Outcome, Box<dyn Error>> {
    if let Some(cells) = parts {
        return given(&cells, rows);
    }
    let (k, seed) = (arguments.k(), arguments.seed);
    let keep = |map: &FoldMap| Some(map.clone());
    match arguments.scheme() {
        Scheme::HoldOut => {
            let mut scheme = HoldOut::new(arguments.test()).with_shuffle(seed);
            if let Some(size) = arguments.validation() {
                scheme = scheme.with_validation(size);
            }
            if rows.labels.is_some() {
                scheme = scheme.with_stratified();
            }
            if let Some(rare) = arguments.rare {
                scheme = scheme.with_rare(rare);
            }
            if rows.groups.is_some() {
                scheme = scheme.with_groups(GroupUnit::Rows);
            }
            roles_outcome(&scheme.split(rows)?, scheme.spec())
        }
        Scheme::KFold => folds_outcome(&KFold::new(k).with_shuffle(seed), rows, keep),
        Scheme::StratifiedKFold => {
            folds_outcome(&StratifiedKFold::new(k).with_shuffle(seed), rows, keep)
        }
        Scheme::GroupKFold => folds_outcome(&GroupKFold::new(k).with_shuffle(seed), rows, keep),
        Scheme::StratifiedGroupKFold => {
            folds_outcome(&StratifiedGroupKFold::new(k).with_shuffle(seed), rows, keep)
        }
        Scheme::LeaveOneGroupOut => folds_outcome(&LeavePGroupsOut::one(), rows, |_| None),
        Scheme::TimeSeries => {
            let unit = if rows.times.is_some() { TimeUnit::Times } else { TimeUnit::Rows };
            let scheme = TimeSeries::new(k).with_unit(unit).with_gap(arguments.gap());
            folds_outcome(&scheme, rows, |_| None)
        }
    }
}
