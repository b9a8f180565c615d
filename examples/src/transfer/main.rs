//! Few or many, similar or not: which fine-tuning fits, and what choosing the wrong one costs, on real digits.
//!
//! `cargo run --bin transfer` needs no argument; `--help` lists them all.

mod cell;
mod data;
mod goal;
mod net;
mod plan;
mod print;
mod regret;
mod report;
mod scene;
mod shift;
mod store;
mod summary;
mod train;
mod tune;
mod work;

use clap::Parser;
use firebrick::core::ConfigError;
use firebrick_examples::failure::Failure;
use firebrick_examples::output::{Target, end, say, usage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use plan::Plan;
use scene::Library;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use store::Store;
use summary::Summary;

/// Pre-trains a small network on digits, makes the target's similarity a dial and its labels few or many, runs five
/// ways of fine-tuning on each, and says which fits and what choosing another costs.
#[derive(Parser, Debug)]
#[command(version)]
struct Cli {
    /// Seed of every random choice.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// A look in under a minute: two repetitions, three shifts, half the steps.
    #[arg(long)]
    quick: bool,
    /// Take the jobs that an interrupted run of the same seed has finished.
    #[arg(long)]
    resume: bool,
    /// Folder of the report and of finished jobs; `runs/transfer/seed-N` if not given.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Write all numbers here too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Trainings at once; as many as there are processors if not given. The numbers do not depend on it.
    #[arg(long)]
    threads: Option<usize>,
    /// Print the search for each recipe's rate on so many repetitions that report nothing else, and end.
    #[arg(long, value_name = "REPETITIONS")]
    tune: Option<u64>,
}

fn main() -> ExitCode {
    end(match Cli::try_parse() {
        Ok(cli) => run(&cli),
        Err(error) => usage(error),
    })
}

/// The processors to use.
fn threads(cli: &Cli) -> Result<usize, Failure> {
    match cli.threads {
        Some(0) => Err(Failure::input(ConfigError::new("threads", 0, "at least 1"))),
        Some(threads) => Ok(threads),
        None => Ok(std::thread::available_parallelism().map_or(1, usize::from)),
    }
}

fn folder(cli: &Cli) -> PathBuf {
    cli.out.clone().unwrap_or_else(|| {
        let quick = if cli.quick { "-quick" } else { "" };
        Path::new("runs").join("transfer").join(format!("seed-{}{quick}", cli.seed))
    })
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let (plan, threads) = (Plan::new(cli.seed, cli.quick), threads(cli)?);
    if let Some(repetitions) = cli.tune {
        if repetitions == 0 {
            return Err(Failure::input(ConfigError::new("tune", 0, "at least 1")));
        }
        let library = Library::new().map_err(Failure::run)?;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(Failure::run)?;
        let table = pool.install(|| tune::table(&plan, &library, repetitions));
        return say(&table.map_err(Failure::run)?);
    }
    let folder = folder(cli);
    std::fs::create_dir_all(&folder).map_err(|error| Failure::file(&folder, &error))?;
    let page = folder.join("report.html");
    let report = Target::new(&page)?;
    let json = cli.json.as_deref().map(Target::new).transpose()?;
    let store = Store::open(&folder, &plan).map_err(Failure::input)?;
    if !cli.resume {
        store.clear().map_err(Failure::input)?;
    }
    let library = Library::new().map_err(Failure::run)?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    // Without a handler Ctrl-C still ends the program; only the message is another.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst));
    let show = Show::new(plan.repetitions as usize * plan.shifts.len());
    let cells = work::all(&plan, &library, &store, threads, &stop, &|done, total, what| {
        show.tell(done, total, what);
    });
    show.finish();
    let cells = cells?;
    let summary = Summary::new(&plan, cells);
    say(&print::text(&summary))?;
    report.write(&report::html(&summary))?;
    if let Some(json) = json {
        let text = serde_json::to_string_pretty(&summary).map_err(Failure::run)?;
        json.write(&(text + "\n"))?;
    }
    say(&format!("\nThe page: {}\n", page.display()))
}

/// Progress on the standard error stream: a bar on a terminal, lines elsewhere.
struct Show {
    bar: Option<ProgressBar>,
    start: Instant,
}

impl Show {
    fn new(total: usize) -> Self {
        let start = Instant::now();
        if !std::io::stderr().is_terminal() {
            return Self { bar: None, start };
        }
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let template = "targets [{bar:30}] {pos}/{len} {msg}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar: Some(bar), start }
    }

    fn tell(&self, done: usize, total: usize, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(done as u64);
                bar.set_message(what.to_owned());
            }
            None => {
                let seconds = self.start.elapsed().as_secs_f64();
                // A closed stream must not end the run.
                let _ = writeln!(std::io::stderr(), "[{done:>3}/{total}] {what}, {seconds:.0} s");
            }
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
