//! Deep nets that do not train, and what each measure against vanishing and exploding gradients does alone.
//!
//! `cargo run --bin deep` needs no argument; `--help` lists them all.

mod digits;
mod gates;
mod net;
mod print;
mod recurrent;
mod report;
mod story;
mod unrolled;

#[cfg(test)]
mod tests;

use crate::story::Request;
use clap::Parser;
use firebrick_examples::backend::BackendArgument;
use firebrick_examples::data::Data;
use firebrick_examples::failure::Failure;
use firebrick_examples::output::{Target, end, say, usage};
use indicatif::ProgressBar;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shows what each measure against vanishing and exploding gradients does, and draws it.
#[derive(Debug, Parser)]
#[command(name = "deep", version)]
struct Cli {
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 42, allow_negative_numbers = true)]
    seed: u64,
    /// Fewer seeds and epochs: a result in seconds
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    backend: BackendArgument,
    /// Folder for report.html [default: runs/deep/seed-SEED]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write everything that is printed as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    end(Cli::try_parse().map_or_else(usage, |cli| start(&cli)))
}

fn start(cli: &Cli) -> Result<(), Failure> {
    let backend = cli.backend.spec()?;
    let device = backend.open()?.autodiff();
    let data = Data::load(None)?;
    let json = cli.json.as_deref().map(Target::new).transpose()?;
    let out = match &cli.out {
        Some(out) => out.clone(),
        None => PathBuf::from("runs/deep").join(format!("seed-{}", cli.seed)),
    };
    std::fs::create_dir_all(&out).map_err(|error| Failure::file(&out, &error))?;
    let path = out.join("report.html");
    let page = Target::new(&path)?;
    let seeds = if cli.quick { 2 } else { 5 };
    let request = Request {
        seeds: (0..seeds).map(|index| cli.seed.wrapping_add(index)).collect(),
        quick: cli.quick,
    };
    let bar = ProgressBar::new(0);
    let summary = story::run(&request, &data, &device, |done, total, next| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(next.to_owned());
    })?;
    bar.finish_and_clear();
    page.write(&report::html(&summary))?;
    if let Some(json) = json {
        json.write(&(serde_json::to_string_pretty(&summary).map_err(Failure::run)? + "\n"))?;
    }
    say(&print::text(&summary))?;
    say(&format!("\nfigures: {}\n", path.display()))?;
    match summary.effects.iter().find(|effect| !effect.holds()) {
        None => Ok(()),
        Some(effect) => {
            let (measure, subject) = (&effect.measure, &effect.subject);
            Err(Failure::run(format_args!(
                "{subject}: {measure} does not have its effect with every seed"
            )))
        }
    }
}
