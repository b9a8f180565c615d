//! `cargo xtask check`: everything that CI runs, cheapest first.

use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::failure::Failure;
use crate::{backend, cargo, smoke, tidy};

pub(crate) const HELP: &str = "\
usage: cargo xtask check [--skip STEP]... [--keep-going] [--budget MINUTES]

Runs what CI runs, cheapest first, and stops at the first failure:
  fmt       every file is formatted
  tidy      the rules of `cargo xtask tidy`
  clippy    no warning, in tests and binaries too
  doc       rustdoc without a warning
  test      cargo test: unit tests, properties, doctests
  smoke     the main job in quick mode
  backends  the same training on ndarray, on wgpu and on remote servers (builds them: about half an hour the first time)

  --skip STEP        leaves a step out; may be repeated
  --keep-going       runs the later steps after a failure too
  --budget MINUTES   does not start `backends` later than this, and says so
";

struct Step {
    name: &'static str,
    run: fn() -> Result<(), Failure>,
}

const STEPS: &[Step] = &[
    Step { name: "fmt", run: || cargo::run(&mut cargo::cargo_with(["fmt", "--all", "--check"])) },
    Step { name: "tidy", run: || tidy::run(&[]) },
    Step { name: "clippy", run: clippy },
    Step { name: "doc", run: doc },
    Step { name: "test", run: || cargo::run(&mut cargo::cargo_with(["test"])) },
    Step { name: "smoke", run: || smoke::run(&[]) },
    Step { name: "backends", run: backends },
];
/// The step that a budget may leave out: by far the longest from nothing.
const LONGEST: &str = "backends";

/// The same training on each back-end. All other device tests run by `xtask test`: on a software Vulkan driver they take
/// eight minutes.
fn backends() -> Result<(), Failure> {
    let words = ["backends", "remote"].map(str::to_owned);
    backend::test(&["ndarray", "wgpu", "remote"], &words)
}

fn clippy() -> Result<(), Failure> {
    cargo::run(&mut cargo::cargo_with(["clippy", "--all-targets", "--", "-D", "warnings"]))
}

fn doc() -> Result<(), Failure> {
    cargo::run(cargo::cargo_with(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let arguments = Arguments::read(words, &["--keep-going"], &["--skip", "--budget"], 0)?;
    let skip: Vec<&str> = arguments.all("--skip").collect();
    if let Some(unknown) = skip.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        return Err(Failure::usage(format!(
            "unknown step `{unknown}`; known are: {}",
            known.join(", ")
        )));
    }
    let budget = arguments.option("--budget")?.map(minutes).transpose()?;
    steps(STEPS, &skip, arguments.flag("--keep-going"), budget)
}

fn minutes(text: &str) -> Result<Duration, Failure> {
    match text.parse::<u32>() {
        Ok(minutes) => Ok(Duration::from_secs(60 * u64::from(minutes))),
        Err(_) => {
            Err(Failure::usage(format!("`--budget` takes a whole number of minutes, not `{text}`")))
        }
    }
}

fn steps(
    steps: &[Step],
    skip: &[&str],
    keep_going: bool,
    budget: Option<Duration>,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut table: Vec<(&str, String, f64)> = Vec::new();
    let mut failed: Vec<&str> = Vec::new();
    let mut left_out: Vec<&str> = Vec::new();
    for step in steps {
        let late = step.name == LONGEST && budget.is_some_and(|budget| start.elapsed() > budget);
        if skip.contains(&step.name) || late {
            let why = if late { "NOT RUN: over budget" } else { "skipped" };
            table.push((step.name, why.to_owned(), 0.0));
            left_out.push(step.name);
            continue;
        }
        println!("\n== {}", step.name);
        let began = Instant::now();
        let result = (step.run)();
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                println!("== {}: ok, {seconds:.1} s", step.name);
                table.push((step.name, "ok".to_owned(), seconds));
            }
            Err(failure) => {
                let why = failure.message().unwrap_or("see above").to_owned();
                println!("== {}: FAILED after {seconds:.1} s: {why}", step.name);
                table.push((step.name, "FAILED".to_owned(), seconds));
                failed.push(step.name);
                if !keep_going {
                    break;
                }
            }
        }
    }
    println!();
    for (name, result, seconds) in &table {
        println!("{name:<10} {result:<22} {seconds:>8.1} s");
    }
    let total = start.elapsed().as_secs_f64();
    let without = match left_out.as_slice() {
        [] => String::new(),
        names => format!(" WITHOUT {}", names.join(", ")),
    };
    if failed.is_empty() {
        println!("check: passed{without}, {total:.0} s");
        Ok(())
    } else {
        let failed = failed.join(", ");
        Err(Failure::failed(format!("check: {failed} failed{without}, {total:.0} s")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Step = Step { name: "good", run: || Ok(()) };
    const BAD: Step = Step { name: "bad", run: || Err(Failure::failed("broken")) };
    const NEVER: Step = Step { name: "never", run: || unreachable!("after a failure") };
    const LATE: Step = Step { name: LONGEST, run: || unreachable!("over budget") };

    #[test]
    fn stops_at_the_first_failure_unless_told_otherwise() {
        assert_eq!(steps(&[GOOD], &[], false, None), Ok(()));
        let failure = steps(&[GOOD, BAD, NEVER], &[], false, None).expect_err("bad fails");
        assert_eq!(failure.code(), 1);
        let failure = steps(&[BAD, GOOD, BAD], &[], true, None).expect_err("bad fails twice");
        assert!(failure.message().is_some_and(|text| text.starts_with("check: bad, bad failed")));
    }

    #[test]
    fn what_is_left_out_is_said() {
        assert_eq!(steps(&[GOOD, NEVER], &["never"], false, None), Ok(()));
        assert_eq!(steps(&[GOOD, LATE], &[], false, Some(Duration::ZERO)), Ok(()));
        let failure = steps(&[BAD, LATE], &[], true, Some(Duration::ZERO)).expect_err("bad fails");
        assert!(failure.message().is_some_and(|text| text.contains("WITHOUT backends")));
    }

    #[test]
    fn unknown_steps_and_budgets_are_usage_errors() {
        for line in ["--skip nothing", "--budget soon", "--budget -1", "extra"] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(run(&words).expect_err(line).code(), 2, "{line}");
        }
        let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert!(known.iter().all(|name| HELP.contains(&format!("  {name} "))));
        assert!(known.contains(&LONGEST));
    }
}
