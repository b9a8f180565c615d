//! Draws how the optimizers walk on four surfaces, and writes the catalog of every optimizer and schedule; prints the
//! steps each walk needs.
//!
//! `cargo run --bin gallery` writes `runs/gallery.html` and `runs/catalog.html`, which hold all they need: no network, light
//! and dark, any width.

mod catalog;
mod page;
mod plot;
mod runs;
mod schedules;
#[cfg(test)]
mod statements;
mod surface;
mod trajectory;

use crate::runs::Walked;
use crate::surface::SURFACES;
use clap::Parser;
use firebrick::optim::schedule::ScheduleError;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Draws how the optimizers walk on four surfaces, and writes the catalog of every optimizer and schedule.
#[derive(Debug, Parser)]
#[command(name = "gallery", version)]
struct Arguments {
    /// File to write the walks to.
    #[arg(long, default_value = "runs/gallery.html")]
    out: PathBuf,
    /// File to write the catalog to.
    #[arg(long, default_value = "runs/catalog.html")]
    catalog: PathBuf,
}

/// Why there is no gallery.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] firebrick::core::ConfigError),
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

fn main() -> ExitCode {
    match draw(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn draw(arguments: &Arguments) -> Result<(), Failure> {
    let mut walked = Vec::new();
    for surface in SURFACES {
        walked.push((surface, runs::walk_all(surface)?));
    }
    write(&arguments.out, &page::render(&walked))?;
    write(&arguments.catalog, &catalog::render(&schedules::curves()?))?;
    let mut out = std::io::stdout().lock();
    for (surface, runs) in &walked {
        print_table(&mut out, surface, runs)?;
    }
    writeln!(out, "Drawn in {}", arguments.out.display())?;
    writeln!(out, "Every optimizer and schedule: {}", arguments.catalog.display())?;
    Ok(())
}

fn write(path: &Path, html: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, html));
    written.map_err(|source| Failure::Write { path: path.to_owned(), source })
}

fn print_table(
    out: &mut impl Write,
    surface: &surface::Surface,
    runs: &[Walked],
) -> std::io::Result<()> {
    let [x, y] = surface.start;
    writeln!(out, "{}: {} from ({x}, {y}), {}", surface.name, surface.formula, surface.aim())?;
    let width = runs.iter().map(|run| run.label.len()).max().unwrap_or(0);
    for run in runs {
        writeln!(
            out,
            "  {:width$}  {:<24}  ends at {}",
            run.label,
            run.trajectory.outcome.to_string(),
            run.trajectory.ends_at()
        )?;
    }
    writeln!(out)
}
