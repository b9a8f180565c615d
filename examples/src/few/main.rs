//! Few labels: plain training against each regularizer, augmentation, semi-supervised methods and down-sampling, on
//! digits with 5 to 50 labels a class.
//!
//! `cargo run --bin few` needs no argument; `--help` lists them all.

mod model;
mod pieces;
mod print;
mod recipe;
mod report;
mod run;
mod summary;
mod training;

#[cfg(test)]
mod tests;

use crate::recipe::{PLAIN, Recipe};
use crate::run::Request;
use clap::Parser;
use firebrick::prelude::DeviceSpec;
use firebrick_examples::backend::BackendArgument;
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;
use firebrick_examples::output::{Target, end, say, usage};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Compares what can be done with few labels, with intervals, and draws it.
#[derive(Debug, Parser)]
#[command(name = "few", version)]
struct Cli {
    /// Seed of every random choice
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    seed: u64,
    /// Labels a class, smallest first [default: 5,10,20,50, quick: 5,20]
    #[arg(long, value_name = "N,..", value_delimiter = ',', allow_negative_numbers = true)]
    labels: Vec<usize>,
    /// How often rows are given labels in each fold, whose error is the mean [default: 2, quick: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    draws: Option<usize>,
    /// Steps of a training [default: 1000, quick: 200]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    steps: Option<usize>,
    /// Compare these recipes with the plain one [default: all]
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    recipes: Vec<String>,
    /// Trainings that run at once [default: one a core]; the result does not depend on it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    threads: Option<usize>,
    #[command(flatten)]
    backend: BackendArgument,
    /// Fewer settings and steps: a result in seconds
    #[arg(long)]
    quick: bool,
    /// Folder for the finished trainings and report.html [default: runs/few/seed-SEED]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write everything that is printed as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Go on from the trainings that an interrupted run left in the folder
    #[arg(long)]
    resume: bool,
}

fn main() -> ExitCode {
    end(Cli::try_parse().map_or_else(usage, |cli| start(&cli)))
}

fn start(cli: &Cli) -> Result<(), Failure> {
    let request = request(cli)?;
    let data = Data::load(None)?;
    let device = request.backend.open()?.autodiff();
    let json = cli.json.as_deref().map(Target::new).transpose()?;
    std::fs::create_dir_all(&request.out).map_err(|error| Failure::file(&request.out, &error))?;
    let page = Target::new(&request.out.join("report.html"))?;
    let interrupt = request.interrupt.clone();
    // A second handler cannot be set; this is the first.
    let _ = ctrlc::set_handler(move || interrupt.store(true, Ordering::Relaxed));

    let summary = run::run(&request, &recipes(&cli.recipes)?, &data, &device)?;
    page.write(&report::html(&summary))?;
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&summary).map_err(Failure::run)?;
        json.write(&(text + "\n"))?;
    }
    say(&print::text(&summary, &request.out))
}

/// The plain recipe and those with these names, or all.
fn recipes(names: &[String]) -> Result<Vec<Recipe>, Failure> {
    let all = Recipe::all();
    if let Some(name) = names.iter().find(|name| all.iter().all(|recipe| recipe.name != **name)) {
        let known: Vec<&str> = all.iter().map(|recipe| recipe.name).collect();
        let known = known.join("; ");
        return Err(Failure::input(format_args!("unknown recipe `{name}`; known are {known}")));
    }
    let wanted = |recipe: &Recipe| {
        names.is_empty() || recipe.name == PLAIN || names.iter().any(|name| name == recipe.name)
    };
    let chosen: Vec<Recipe> = all.into_iter().filter(wanted).collect();
    if chosen.len() < 2 {
        return Err(Failure::input("`recipes` must name one besides the plain one"));
    }
    Ok(chosen)
}

/// The pool of a fold has about 140 rows of each digit.
const MOST_LABELS: usize = 100;

fn request(cli: &Cli) -> Result<Request, Failure> {
    let backend = cli.backend.spec()?;
    let at_least_one = |name: &str, value: usize| {
        firebrick::core::check::at_least(name, value, 1).map_err(Failure::from)
    };
    let steps = at_least_one("steps", cli.steps.unwrap_or(if cli.quick { 200 } else { 1000 }))?;
    let draws = at_least_one("draws", cli.draws.unwrap_or(if cli.quick { 1 } else { 2 }))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = at_least_one("threads", cli.threads.unwrap_or(cores))?;
    let labels = match (cli.labels.as_slice(), cli.quick) {
        ([], true) => vec![5, 20],
        ([], false) => vec![5, 10, 20, 50],
        (labels, _) => labels.to_vec(),
    };
    let ascending = labels.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || labels.iter().any(|labels| !(1..=MOST_LABELS).contains(labels)) {
        return Err(Failure::input(format_args!(
            "`labels` must be ascending numbers from 1 to {MOST_LABELS}, got {labels:?}"
        )));
    }
    Ok(Request {
        out: cli.out.clone().unwrap_or_else(|| folder(cli, &backend)),
        backend,
        seed: cli.seed,
        labels,
        steps,
        draws,
        threads,
        resume: cli.resume,
        interrupt: Arc::new(AtomicBool::new(false)),
    })
}

/// The default folder: one for each run with another result.
fn folder(cli: &Cli, backend: &DeviceSpec) -> PathBuf {
    let mut name = format!("seed-{}", cli.seed);
    if cli.quick {
        name.push_str("-quick");
    }
    if let Some(steps) = cli.steps {
        name.push_str(&format!("-steps-{steps}"));
    }
    if let Some(draws) = cli.draws {
        name.push_str(&format!("-draws-{draws}"));
    }
    if !cli.recipes.is_empty() {
        name.push_str("-some");
    }
    for labels in &cli.labels {
        name.push_str(&format!("-{labels}"));
    }
    if backend.to_string() != "flex" {
        name.push_str(&format!("-{}", backend.backend()));
    }
    Path::new("runs").join("few").join(name)
}
