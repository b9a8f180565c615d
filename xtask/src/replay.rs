//! `cargo xtask replay`: hands over to the `replay` binary of the bench package.

use crate::arguments::Arguments;
use crate::backend::known;
use crate::cargo;
use crate::failure::Failure;

pub(crate) const HELP: &str = "\
usage: cargo xtask replay FILE [--backend NAME] [--tolerance T] [--operations] [--json]

Runs the recorded cases of FILE, {\"optimizers\":[..],\"schedules\":[..],\"clips\":[..],\"splits\":[..]},
any of them absent, and prints each case's largest absolute difference.

  --backend NAME   the device: flex (default), ndarray, wgpu, cuda, with `:INDEX` where there are several
  --tolerance T    what the largest absolute difference may be; else each kind's own
  --operations     optimizers run by tensor operations, even where the fused pass could run
  --json           prints {\"cases\":[{\"kind\",\"name\",\"index\",\"max_abs_diff\",\"ok\",\"error\"}],\"ok\",\"failed\",\"unknown\"}

Exit codes: 0 all within the tolerance, 1 one is not, 2 a case or a flag is not known.
";

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let arguments =
        Arguments::read(words, &["--json", "--operations"], &["--backend", "--tolerance"], 1)?;
    let Some(file) = arguments.word(0) else {
        return Err(Failure::usage("which FILE? see `cargo xtask replay --help`"));
    };
    let backend = arguments.option("--backend")?;
    let feature = backend.map(known).transpose()?;
    let tolerance = arguments.option("--tolerance")?;
    if let Some(text) = tolerance {
        let number = text.parse::<f64>().ok().filter(|t| t.is_finite() && *t >= 0.0);
        number.ok_or_else(|| {
            Failure::usage(format!("`--tolerance` takes a number of at least 0, not `{text}`"))
        })?;
    }
    let mut command = cargo::cargo_run("replay", feature);
    command.arg(file);
    for (name, value) in [("--backend", backend), ("--tolerance", tolerance)] {
        if let Some(value) = value {
            command.args([name, value]);
        }
    }
    for flag in ["--operations", "--json"] {
        if arguments.flag(flag) {
            command.arg(flag);
        }
    }
    cargo::hand_over(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_words_are_usage_errors() {
        for (line, part) in [
            ("--json", "which FILE"),
            ("a.json --backend tpu", "known are flex"),
            ("a.json --tolerance small", "`small`"),
            ("a.json --tolerance -1", "`-1`"),
            ("a.json --tolerance NaN", "`NaN`"),
            ("a.json b.json", "`b.json`"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let failure = run(&words).expect_err(line);
            assert_eq!(failure.code(), 2, "{line}");
            assert!(failure.message().is_some_and(|text| text.contains(part)), "{failure:?}");
        }
    }
}
