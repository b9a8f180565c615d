//! Splits a CSV file, says what is in each part, looks for leaks, and writes the lists and their certificate.

mod arguments;
mod table;

use arguments::{Arguments, USAGE};
use firebrick_split::{
    Audit, AuditReport, FoldMap, GroupKFold, GroupUnit, HoldOut, KFold, LeavePGroupsOut,
    Predefined, Roles, RowHashes, Rows, Spec, Split, SplitError, Splits, Splitter,
    StratifiedGroupKFold, StratifiedKFold, TimeSeries, TimeUnit, Verdict, Warning, encode,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use table::Table;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
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

/// A split of any scheme: its splits, its parts by name, its recipe.
struct Outcome {
    /// Name and rows of each part that is written.
    lists: Vec<(String, Vec<u32>)>,
    splits: Vec<Split>,
    warnings: Vec<Warning>,
    spec: Spec,
    map: Option<FoldMap>,
    /// The roles of a hold-out, whose validation and test part the audit tells apart.
    roles: Option<Roles>,
}

fn roles_outcome(roles: &Roles, spec: Spec) -> Outcome {
    let lists =
        [("train", roles.train()), ("validation", roles.validation()), ("test", roles.test())];
    Outcome {
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
    }
}

fn folds_outcome<S: Splitter>(
    scheme: &S,
    rows: &Rows<'_>,
    map: impl Fn(&S::Output) -> Option<FoldMap>,
) -> Result<Outcome, SplitError> {
    let output = scheme.split(rows)?;
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
        map: map(&output),
        splits,
        roles: None,
    })
}

/// A split that stands in the file: roles by name, or folds by number or any text; an empty cell or -1 is never held out.
fn given(cells: Vec<String>, rows: &Rows<'_>) -> Result<Outcome, SplitError> {
    let role = |cell: &String| match cell.to_lowercase().as_str() {
        "train" | "training" => Some(0),
        "validation" | "valid" | "val" | "dev" => Some(1),
        "test" => Some(2),
        _ => None,
    };
    if let Some(roles) = cells.iter().map(role).collect::<Option<Vec<u8>>>() {
        let roles = Roles::from_numbers(&roles)?;
        return Ok(roles_outcome(&roles, roles.map().spec().clone()));
    }
    let never = |cell: &String| cell.is_empty() || cell == "-1";
    let folds = encode::sorted(cells.iter().filter(|cell| !never(cell)).cloned());
    let mut codes = folds.codes.into_iter();
    let folds = cells.iter().map(|cell| if never(cell) { None } else { codes.next() }).collect();
    folds_outcome(&Predefined::new(folds), rows, |_| None)
}

fn split(
    arguments: &Arguments,
    rows: &Rows<'_>,
    parts: Option<Vec<String>>,
) -> Result<Outcome, Box<dyn Error>> {
    if let Some(cells) = parts {
        return Ok(given(cells, rows)?);
    }
    let (k, seed) = (arguments.k, arguments.seed);
    let keep = |map: &FoldMap| Some(map.clone());
    let scheme = arguments.scheme.as_deref().unwrap_or(if rows.times.is_some() {
        "time_series"
    } else {
        "hold_out"
    });
    Ok(match scheme {
        "hold_out" => {
            let mut scheme = HoldOut::new(arguments.test.as_str()).with_shuffle(seed);
            if arguments.validation != "0" {
                scheme = scheme.with_validation(arguments.validation.as_str());
            }
            if rows.labels.is_some() {
                scheme = scheme.with_stratified().with_rare(arguments.rare);
            }
            if rows.groups.is_some() {
                scheme = scheme.with_groups(GroupUnit::Rows);
            }
            roles_outcome(&scheme.split(rows)?, scheme.spec())
        }
        "k_fold" => folds_outcome(&KFold::new(k).with_shuffle(seed), rows, keep)?,
        "stratified_k_fold" => {
            folds_outcome(&StratifiedKFold::new(k).with_shuffle(seed), rows, keep)?
        }
        "group_k_fold" => folds_outcome(&GroupKFold::new(k).with_shuffle(seed), rows, keep)?,
        "stratified_group_k_fold" => {
            folds_outcome(&StratifiedGroupKFold::new(k).with_shuffle(seed), rows, keep)?
        }
        "leave_one_group_out" => folds_outcome(&LeavePGroupsOut::one(), rows, |_| None)?,
        "time_series" => {
            let unit = if rows.times.is_some() { TimeUnit::Times } else { TimeUnit::Rows };
            folds_outcome(
                &TimeSeries::new(k).with_unit(unit).with_gap(arguments.gap),
                rows,
                |_| None,
            )?
        }
        other => return Err(format!("unknown scheme {other:?}\n\n{USAGE}").into()),
    })
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
    let table = Table::read(&arguments.csv)?;
    let n = table.rows.len();
    let column = |name: &Option<String>| name.as_deref().map(|name| table.column(name)).transpose();
    let label = column(&arguments.label)?;
    let (group, time) = (column(&arguments.group)?, column(&arguments.time)?);
    let labels = label.map(|at| encode::by_appearance(table.texts(at)));
    let groups = group.map(|at| encode::sorted(table.texts(at)));
    let times = time.map(|at| table.times(at)).transpose()?;
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
    }
    let texts: Vec<&str> = content.texts.iter().map(String::as_str).collect();
    let report = audit(&outcome, n, &|mut audit| {
        audit = audit.with_rows(&rows);
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
    let names: Vec<&str> =
        content.identifiers.iter().map(|&column| table.header[column].as_str()).collect();
    if !names.is_empty() {
        writeln!(text, "not looked at, since no value occurs twice: {}", names.join(", "))?;
    }
    write_files(&arguments.out, &outcome, &report, &hashes)?;
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

fn write_files(
    folder: &Path,
    outcome: &Outcome,
    report: &AuditReport,
    hashes: &RowHashes,
) -> Result<(), Box<dyn Error>> {
    let place = |name: &str, error: std::io::Error| {
        format!("cannot write {}: {error}", folder.join(name).display())
    };
    std::fs::create_dir_all(folder).map_err(|error| place("", error))?;
    let manifest = match &outcome.map {
        Some(map) => {
            map.save(folder.join("folds.map"))?;
            serde_json::to_value(map.manifest())?
        }
        None => serde_json::json!({
            "format": 1,
            "spec": outcome.spec,
            "rows": hashes.len(),
            "fingerprint": hashes.fingerprint(),
            "sizes": outcome.splits.iter().map(|s| [s.train.len(), s.valid.len()]).collect::<Vec<_>>(),
            "warnings": outcome.warnings,
        }),
    };
    let mut files = vec![
        ("manifest.json".to_owned(), serde_json::to_string_pretty(&manifest)?),
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
