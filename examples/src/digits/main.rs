//! The main job on real data: split, seal the test part, choose by cross-validation, train, open once, report.
//!
//! `cargo run --bin digits` needs no argument; `--help` lists them all.

mod candidate;
mod model;
mod print;
mod report;
mod run;
mod summary;
mod training;

use crate::run::Request;
use clap::Parser;
use firebrick::backend::capability_table;
use firebrick::core::{ConfigError, check};
use firebrick::prelude::DeviceSpec;
use firebrick_examples::backend::BackendArgument;
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;
use firebrick_examples::output::{Target, end, say, usage};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A horizon far beyond use, so that a slip of a finger ends at once and not in years.
const MOST_EPOCHS: usize = 10_000;

/// Chooses, trains and judges a classifier of handwritten digits, and opens the test part once.
#[derive(Debug, Parser)]
#[command(name = "digits", version)]
struct Cli {
    /// Seed of every random choice
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    seed: u64,
    /// Most epochs of a training, the horizon of its schedule [default: 40, quick: 12]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    epochs: Option<usize>,
    /// Trainings that run at once [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
    #[command(flatten)]
    backend: BackendArgument,
    /// Tell which back-ends this build and this machine offer, and end
    #[arg(long)]
    list_backends: bool,
    /// Fewer epochs: a result in seconds
    #[arg(long)]
    quick: bool,
    /// CSV file to use instead of the embedded digits: numbers and a label from 0 to 9 in each row, no header
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Folder for the finished folds, the ledger of test openings and report.html [default: runs/digits/seed-SEED, with
    /// -quick, -epochs-N, the back-end and the data file where they are given]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write everything that is printed as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Go on from the folds that an interrupted run left in the folder
    #[arg(long)]
    resume: bool,
    /// Open the test part although it was opened for another model; the reason is recorded and reported
    #[arg(long, value_name = "REASON")]
    reopen: Option<String>,
}

fn main() -> ExitCode {
    end(Cli::try_parse().map_or_else(usage, |cli| start(&cli)))
}

fn start(cli: &Cli) -> Result<(), Failure> {
    if cli.list_backends {
        return say(&capability_table());
    }
    let request = request(cli)?;
    let data = Data::load(request.data.as_deref())?;
    let device = request.backend.open()?.autodiff();
    let json = cli.json.as_deref().map(Target::new).transpose()?;
    std::fs::create_dir_all(&request.out).map_err(|error| Failure::file(&request.out, &error))?;
    let page = Target::new(&request.out.join("report.html"))?;
    let interrupt = request.interrupt.clone();
    // A second handler cannot be set; this is the first.
    let _ = ctrlc::set_handler(move || interrupt.store(true, Ordering::Relaxed));

    let summary = run::run(&request, data, device)?;
    page.write(&report::html(&summary))?;
    if let Some(json) = json {
        let mut text = serde_json::to_string_pretty(&summary).map_err(Failure::run)?;
        text.push('\n');
        json.write(&text)?;
    }
    say(&print::text(&summary, &request.out))
}

fn request(cli: &Cli) -> Result<Request, Failure> {
    let backend = cli.backend.spec()?;
    let epochs = cli.epochs.unwrap_or(if cli.quick { 12 } else { 40 });
    check::at_least("epochs", epochs, 1)?;
    if epochs > MOST_EPOCHS {
        return Err(ConfigError::new("epochs", epochs, format!("at most {MOST_EPOCHS}")).into());
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = check::at_least("threads", cli.threads.unwrap_or(cores), 1)?;
    if cli.reopen.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Failure::input("`reopen` must be a reason in words, got nothing"));
    }
    Ok(Request {
        out: cli.out.clone().unwrap_or_else(|| folder(cli, &backend)),
        data: cli.data.clone(),
        backend,
        seed: cli.seed,
        epochs,
        threads,
        resume: cli.resume,
        reopen: cli.reopen.clone(),
        interrupt: Arc::new(AtomicBool::new(false)),
    })
}

/// The default folder: one for each run that opens the test part for another model.
fn folder(cli: &Cli, backend: &DeviceSpec) -> PathBuf {
    let mut name = format!("seed-{}", cli.seed);
    if cli.quick {
        name.push_str("-quick");
    }
    if let Some(epochs) = cli.epochs {
        name.push_str(&format!("-epochs-{epochs}"));
    }
    if backend.to_string() != "flex" {
        name.push_str(&format!("-{}", backend.backend()));
    }
    if let Some(stem) = cli.data.as_deref().and_then(Path::file_stem) {
        name.push_str(&format!("-{}", stem.to_string_lossy()));
    }
    Path::new("runs").join("digits").join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(arguments: &[&str]) -> (String, u8) {
        let cli = Cli::try_parse_from([&["digits"], arguments].concat());
        let failure = match cli {
            Err(error) => usage(error).expect_err("refused"),
            Ok(cli) => request(&cli).expect_err("refused"),
        };
        (failure.to_string(), failure.exit_code())
    }

    #[test]
    fn bad_arguments_are_one_line_and_exit_code_2() {
        for (arguments, part) in [
            (&["--seed", "x"][..], "invalid value 'x' for '--seed <SEED>'"),
            (&["--seed", "-1"], "--seed"),
            (&["--flag"], "unexpected argument '--flag' found"),
            (&["--epochs", "0"], "`epochs` must be at least 1, got 0"),
            (&["--epochs", "18446744073709551615"], "`epochs` must be at most 10000, got 1844"),
            (&["--threads", "0"], "`threads` must be at least 1, got 0"),
            (&["--backend", "tpu"], "unknown back-end `tpu`; known are flex, ndarray"),
            (&["--backend", "wgpu:x"], "`x` in `wgpu:x` is no device number"),
            (&["--reopen", " "], "`reopen` must be a reason in words"),
        ] {
            let (message, code) = refused(arguments);
            assert!(message.contains(part), "{arguments:?}: {message}");
            assert_eq!((message.lines().count(), code), (1, 2), "{message}");
        }
    }

    #[test]
    fn runs_that_open_for_another_model_have_another_folder() {
        let folder = |arguments: &[&str]| {
            let cli = Cli::try_parse_from([&["digits"], arguments].concat()).expect("parses");
            request(&cli).expect("valid").out
        };
        let base = folder(&[]);
        assert_eq!(base, Path::new("runs/digits/seed-42"));
        for arguments in [
            &["--seed", "1"][..],
            &["--quick"],
            &["--epochs", "7"],
            &["--backend", "ndarray"],
            &["--data", "a.csv"],
        ] {
            assert_ne!(folder(arguments), base, "{arguments:?}");
        }
        assert_eq!(folder(&["--threads", "1"]), base);
    }
}
