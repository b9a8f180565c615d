//! Prints what recorded runs show: `diagnose [--classes N] RUN...`, each RUN a history as JSON lines or the
//! folder of burn-train's Learner. A file `RUN.context.json` beside a history holds its `Context`.

use firebrick_core::History;
use firebrick_diagnose::{Context, diagnose, read_learner_logs};
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let mut runs: Vec<String> = std::env::args().skip(1).collect();
    let mut context = Context::new();
    if let Some(at) = runs.iter().position(|argument| argument == "--classes") {
        let classes = runs.get(at + 1).ok_or("--classes needs a number")?;
        context = context.with_classes(classes.parse()?);
        runs.drain(at..=at + 1);
    }
    if runs.is_empty() {
        return Err("usage: diagnose [--classes N] RUN...".into());
    }
    let mut out = std::io::stdout().lock();
    for run in runs {
        let path = Path::new(&run);
        let history = if path.is_dir() {
            read_learner_logs(path)?
        } else {
            History::read(BufReader::new(File::open(path)?))?
        };
        let beside = path.with_extension("context.json");
        let context = match File::open(beside) {
            Ok(file) => serde_json::from_reader(BufReader::new(file))?,
            Err(_) => context.clone(),
        };
        writeln!(out, "{run}")?;
        for finding in diagnose(&history, &context)? {
            writeln!(out, "  {finding}")?;
        }
    }
    Ok(())
}
