//! Splits a CSV file, says what is in each part, looks for leaks, and writes the lists and their certificate.

mod arguments;
mod table;

use arguments::{Arguments, Scheme, USAGE};
use firebrick_split::{
    Audit, AuditReport, FoldMap, GroupKFold, GroupUnit, HoldOut, KFold, LeavePGroupsOut,
    ListManifest, Predefined, Roles, RowHashes, Rows, Spec, Split, SplitError, Splits, Splitter,
    StratifiedGroupKFold, StratifiedKFold, TimeSeries, TimeUnit, Verdict, Warning, encode,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use table::Table;

/// Most rows that all lists together may hold: 1 GiB of row numbers.
const MOST_LISTED: u128 = 1 << 28;

fn main() -> ExitCode {
    let words: Result<Vec<String>, std::ffi::OsString> =
        std::env::args_os().skip(1).map(std::ffi::OsString::into_string).collect();
    let words = match words {
        Ok(words) => words,
        Err(word) => {
            eprintln!("error: the argument {word:?} is not UTF-8 text");
            return ExitCode::from(2);
        }
    };
    let mut out = std::io::stdout().lock();
    if words.is_empty() || words.iter().any(|word| word == "--help" || word == "-h") {
        let _ = out.write_all(USAGE.as_bytes());
        return if words.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    match Arguments::parse(&words).map_err(Into::into).and_then(|arguments| run(&arguments)) {
        // A reader that closed the pipe is no failure.
        Ok(text) => {
            let _ = out.write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// A split of any scheme: its splits, its parts by name, its recipe and certificate.
struct Outcome {
    /// Name and rows of each part that is written.
    lists: Vec<(String, Vec<u32>)>,
    splits: Vec<Split>,
    warnings: Vec<Warning>,
    spec: Spec,
    manifest: serde_json::Value,
    map: Option<FoldMap>,
    /// The roles of a hold-out, whose validation and test part the audit tells apart.
    roles: Option<Roles>,
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

fn split(
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
            if arguments.validation() != "0" {
                scheme = scheme.with_validation(arguments.validation());
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

/// Classes are numbered by first appearance; what the file calls them.
fn names(codes: impl Iterator<Item = u32>, labels: &encode::Encoded<String>) -> String {
    let name = |code: u32| Some(format!("{code} is {:?}", labels.values.get(code as usize)?));
    codes.take(10).filter_map(name).collect::<Vec<_>>().join(", ")
}

/// The error with the names of the classes that it numbers, and what may be done here.
fn named(error: Box<dyn Error>, labels: Option<&encode::Encoded<String>>) -> Box<dyn Error> {
    let (
        Some(labels),
        Some(
            SplitError::ClassTooSmall { classes, .. } | SplitError::ClassesTooSmall { classes, .. },
        ),
    ) = (labels, error.downcast_ref())
    else {
        return error;
    };
    let names = names(classes.iter().map(|(code, _)| *code), labels);
    format!("{error}; class {names}; here: --rare pool, --rare ignore or --scheme k_fold").into()
}

fn run(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let table = Table::read(&arguments.csv, arguments.header, &arguments.columns())?;
    let n = table.rows.len();
    let column = |name: &Option<String>| name.as_deref().map(|name| table.column(name)).transpose();
    let label = column(&arguments.label)?;
    let (group, time) = (column(&arguments.group)?, column(&arguments.time)?);
    let filled = |column: Option<usize>| column.map(|at| table.filled(at)).transpose();
    let labels = filled(label)?.map(encode::by_appearance);
    let groups = filled(group)?.map(encode::sorted);
    let times = time.map(|at| table.times(at)).transpose()?;
    let written: Vec<String> = time.map_or_else(Vec::new, |at| table.texts(at).collect());
    let part = column(&arguments.part)?;
    let used: Vec<usize> = [label, group, time, part].into_iter().flatten().collect();
    let content = table.content(&used);
    let lines: Vec<String> = table.rows.iter().map(|row| row.join("\u{1f}")).collect();
    let hashes = RowHashes::from_bytes(&lines);

    let mut rows = Rows::new(n).with_fingerprint(hashes.fingerprint());
    rows.labels = labels.as_ref().map(|l| l.codes.as_slice());
    rows.groups = groups.as_ref().map(|g| g.codes.as_slice());
    rows.times = times.as_deref();
    let parts = part.map(|at| table.texts(at).collect());
    let outcome = split(arguments, &rows, parts).map_err(|error| named(error, labels.as_ref()))?;

    let mut text = String::new();
    writeln!(text, "{n} rows, {} columns; {}", table.header.len(), describe(&outcome.spec))?;
    shares(&mut text, &outcome, labels.as_ref())?;
    for warning in &outcome.warnings {
        writeln!(text, "warning: {warning}")?;
        if let Warning::SmallClasses { classes, .. } | Warning::PooledClasses { classes } = warning
            && let Some(labels) = &labels
        {
            writeln!(text, "  class {}", names(classes.iter().map(|(code, _)| *code), labels))?;
        }
        if let Warning::DominantGroup { group, .. } = warning
            && let Some(groups) = &groups
        {
            writeln!(text, "  group {}", names(std::iter::once(*group), groups))?;
        }
    }
    let texts: Vec<&str> = content.texts.iter().map(String::as_str).collect();
    let label_names = labels.as_ref().map(|labels| labels.values.as_slice()).unwrap_or_default();
    let group_names = groups.as_ref().map(|groups| groups.values.as_slice()).unwrap_or_default();
    let report = audit(&outcome, n, &|mut audit| {
        audit = audit.with_rows(&rows).with_names(label_names, group_names, &written);
        if !content.numeric.is_empty() {
            audit = audit.with_features(&content.values, content.numeric.len());
        }
        if !texts.is_empty() {
            audit = audit.with_texts(&texts);
        }
        if outcome.spec.algorithm == "time_series" {
            audit = audit.with_time_split(0);
        }
        audit.run()
    })?;
    writeln!(text, "\naudit (the worst of {} splits):\n{report}", outcome.splits.len())?;
    for (columns, remark) in [
        (&content.identifiers, "not looked at, since no value occurs twice"),
        (&content.wide, "compared as texts, since 32-bit floats do not keep the values apart"),
    ] {
        let names: Vec<&str> =
            columns.iter().map(|&column| table.header[column].as_str()).collect();
        if !names.is_empty() {
            writeln!(text, "{remark}: {}", names.join(", "))?;
        }
    }
    write_files(arguments, &outcome, &report)?;
    writeln!(
        text,
        "written to {}: manifest.json, audit.json and {} lists",
        arguments.out.display(),
        outcome.lists.len()
    )?;
    Ok(text)
}

fn describe(spec: &Spec) -> String {
    let parameters: Vec<String> =
        spec.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let seed = spec.seed.map_or(String::new(), |seed| format!(", seed {seed}"));
    format!("{} ({}{seed})", spec.algorithm, parameters.join(", "))
}

/// Size of each part and the share of each class in it.
fn shares(
    text: &mut String,
    outcome: &Outcome,
    labels: Option<&encode::Encoded<String>>,
) -> std::fmt::Result {
    for (name, rows) in &outcome.lists {
        write!(text, "{name:20}{:>9} rows", rows.len())?;
        if let Some(labels) = labels {
            let mut counts = BTreeMap::new();
            for &row in rows {
                *counts.entry(labels.codes[row as usize]).or_insert(0usize) += 1;
            }
            for (&code, &count) in counts.iter().take(12) {
                let share = 100.0 * count as f64 / rows.len() as f64;
                write!(text, "  {} {share:.1} %", labels.values[code as usize])?;
            }
            if counts.len() > 12 {
                write!(text, "  and {} more classes", counts.len() - 12)?;
            }
        }
        writeln!(text)?;
    }
    Ok(())
}

/// For each check the worst verdict over all splits, and all pairs that were found.
fn audit<'a>(
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

/// Whether this command writes lists or a map of that name.
fn is_list(name: &str) -> bool {
    let fold = name.strip_prefix("fold-").and_then(|rest| rest.split_once('-'));
    let is_fold = fold.is_some_and(|(number, part)| {
        number.parse::<usize>().is_ok() && matches!(part, "train.txt" | "validation.txt")
    });
    is_fold || matches!(name, "folds.map" | "train.txt" | "validation.txt" | "test.txt")
}

/// Removes the lists of a former run, so that none of them passes for one of this run.
fn remove_former(folder: &Path, csv: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| {
        format!("cannot remove {} of a former run: {error}", path.display())
    };
    let input = csv.canonicalize().ok();
    let mut lists = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(is_list);
        if is_ours && path.is_file() {
            if path.canonicalize().ok() == input {
                return Err(format!("{} is the input: give another --out", path.display()));
            }
            lists.push(path);
        }
    }
    // Only a former run leaves a manifest; files without one are somebody else's.
    if folder.join("manifest.json").is_file() {
        for path in lists {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

fn write_files(
    arguments: &Arguments,
    outcome: &Outcome,
    report: &AuditReport,
) -> Result<(), Box<dyn Error>> {
    let folder = arguments.out.as_path();
    let place = |name: &str, error: std::io::Error| {
        format!("cannot write {}: {error}", folder.join(name).display())
    };
    std::fs::create_dir_all(folder).map_err(|error| place("", error))?;
    remove_former(folder, &arguments.csv)?;
    if let Some(map) = &outcome.map {
        map.save(folder.join("folds.map"))?;
    }
    let mut files = vec![
        ("manifest.json".to_owned(), serde_json::to_string_pretty(&outcome.manifest)?),
        ("audit.json".to_owned(), serde_json::to_string_pretty(report)?),
    ];
    for (name, rows) in &outcome.lists {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        files.push((format!("{name}.txt"), lines));
    }
    for (name, content) in files {
        std::fs::write(folder.join(&name), content).map_err(|error| place(&name, error))?;
    }
    Ok(())
}
