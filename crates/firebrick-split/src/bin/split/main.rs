//! Splits a CSV file, says what is in each part, looks for leaks, and writes the lists and their certificate.

mod arguments;
mod audit;
mod files;
mod outcome;
mod report;
mod table;

use arguments::{Arguments, USAGE};
use firebrick_split::{RowHashes, Rows, Warning, encode};
use report::{describe, named, names, shares};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use table::Table;

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
        Ok(text) => match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // A reader that closed the pipe is no failure.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                eprintln!("error: cannot print the result: {error}");
                ExitCode::from(2)
            }
            _ => ExitCode::SUCCESS,
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
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
    let outcome =
        outcome::split(arguments, &rows, parts).map_err(|error| named(error, labels.as_ref()))?;

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
    let report = audit::audit(&outcome, n, &|mut audit| {
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
    files::write_files(arguments, &outcome, &report)?;
    writeln!(
        text,
        "written to {}: manifest.json, audit.json and {} lists",
        arguments.out.display(),
        outcome.lists.len()
    )?;
    Ok(text)
}
