//! Times one area of firebrick against its peers: `cargo xtask bench AREA`, or `cargo run --bin bench -- AREA`.

#![allow(clippy::print_stdout, reason = "the table is what the program is for")]

mod harness;
mod machine;
mod optim;
mod python;
mod quartiles;
mod regularize;
mod report;
mod split;
mod stabilize;
mod train;
mod transfer;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::harness::{BenchError, Harness};

/// Times firebrick against its peers in one run: warm-up, then rounds that alternate; medians and quartiles.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    /// What to measure.
    area: Area,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Small sizes and few rounds: checks that everything runs, gives no figures to quote.
    #[arg(long)]
    quick: bool,
    /// Only the cases whose name contains this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// A Python interpreter with the packages of bench/peers/requirements.txt; without it, peers in Rust only.
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

/// Every area is a module here; one with peers in Python has a script of the same name in `peers/`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Area {
    /// Optimizers: one step over all parameters, against burn's own and torch's.
    Optim,
    /// Dropout, mixing, augmentation, projections, against torch and torchvision.
    Regularize,
    /// Splitting, against scikit-learn.
    Split,
    /// The guards, clips and monitors between backward and step.
    Stabilize,
    /// `Fit` against a loop written by hand.
    Train,
    /// Fine-tuning: the head on cached features, a frozen body, everything, against torch.
    Transfer,
}

/// Measures one area.
type Run = fn(&mut Harness) -> Result<(), BenchError>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Not after minutes of measuring: the file must be writable.
    if let Some(path) = &arguments.json {
        std::fs::write(path, "")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let (name, run): (&str, Run) = match arguments.area {
        Area::Optim => ("optim", optim::run),
        Area::Regularize => ("regularize", regularize::run),
        Area::Split => ("split", split::run),
        Area::Stabilize => ("stabilize", stabilize::run),
        Area::Train => ("train", train::run),
        Area::Transfer => ("transfer", transfer::run),
    };
    let filter = arguments.filter.clone();
    let mut bench =
        Harness::start(name, arguments.quick, filter, arguments.python.as_deref(), &scripts)?;
    run(&mut bench)?;
    let report = bench.finish();
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n")?;
    }
    Ok(())
}
