//! Replays recorded cases of other libraries through firebrick: `cargo xtask replay FILE`.
//!
//! The file is JSON, `{"optimizers":[..],"schedules":[..],"clips":[..],"splits":[..],"penalties":[..],"constraints":[..],
//! "losses":[..],"calibration":[..],"mixing":[..],"augmentation":[..],"dropout":[..]}`, any of them absent. Each case is
//! run and compared with what it recorded. Exit code 0: all within the tolerance; 1: one is not, or could not be run;
//! 2: a case of a kind or name that firebrick does not know, an unreadable file, or a wrong command line.

#![allow(clippy::print_stdout, reason = "the comparison is the program's output")]

mod clips;
mod optimizers;
mod outcome;
mod regularizers;
mod schedules;
mod splits;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use firebrick::backend::DeviceSpec;
use serde_json::Value;

use crate::outcome::{Context, Outcome, Summary};

/// Runs recorded cases of other libraries and prints each one's largest absolute difference.
#[derive(Debug, Parser)]
#[command(name = "replay")]
struct Arguments {
    /// The recorded cases.
    file: PathBuf,
    /// The device: flex, ndarray, wgpu, cuda, remote:HOST:PORT, with :INDEX for one of several; else what
    /// FIREBRICK_BACKEND names.
    #[arg(long, value_name = "NAME")]
    backend: Option<DeviceSpec>,
    /// What the largest absolute difference may be; else each kind's own, which grows with the recorded values.
    #[arg(long, value_name = "T", value_parser = tolerance)]
    tolerance: Option<f64>,
    /// Run optimizers by tensor operations, even where the fused pass could run.
    #[arg(long)]
    operations: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| format!("a number of at least 0 is wanted, not `{text}`"))
}

/// Runs one case of a kind.
type Replay = fn(&Value, &Context) -> Outcome;

/// A list in the file: its name, the field that names a case, and what runs one.
struct Kind {
    list: &'static str,
    name: &'static str,
    replay: Replay,
}

const KINDS: &[Kind] = &[
    Kind { list: "optimizers", name: "name", replay: optimizers::replay },
    Kind { list: "schedules", name: "name", replay: schedules::replay },
    Kind { list: "clips", name: "name", replay: clips::replay },
    Kind { list: "splits", name: "kind", replay: splits::replay },
    Kind { list: "penalties", name: "name", replay: regularizers::replay },
    Kind { list: "constraints", name: "name", replay: regularizers::replay },
    Kind { list: "losses", name: "name", replay: regularizers::replay },
    Kind { list: "calibration", name: "name", replay: regularizers::replay },
    Kind { list: "mixing", name: "name", replay: regularizers::replay },
    Kind { list: "augmentation", name: "name", replay: regularizers::replay },
    Kind { list: "dropout", name: "name", replay: regularizers::replay },
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match replay(&arguments) {
        Ok(summary) => {
            print!("{}", if arguments.json { summary.json() } else { summary.text() });
            ExitCode::from(summary.exit_code())
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn replay(arguments: &Arguments) -> Result<Summary, Box<dyn Error>> {
    let path = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file)
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    let spec = match &arguments.backend {
        Some(spec) => spec.clone(),
        None => DeviceSpec::from_environment()?,
    };
    let context = Context {
        device: spec.open()?,
        tolerance: arguments.tolerance,
        fused: !arguments.operations,
    };
    cases(&text, &context).map_err(|error| format!("{path}: {error}").into())
}

/// Runs every case in the text of a file.
fn cases(text: &str, context: &Context) -> Result<Summary, String> {
    let file: Value =
        serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
    let lists = file.as_object().ok_or("the file holds no JSON object")?;
    let mut summary = Summary::default();
    for (list, value) in lists {
        let cases = value.as_array().ok_or_else(|| format!("`{list}` is no list"))?;
        let kind = KINDS.iter().find(|kind| kind.list == list);
        for (index, case) in cases.iter().enumerate() {
            let name = kind.map_or("name", |kind| kind.name);
            let name = case.get(name).and_then(Value::as_str).unwrap_or("(no name)");
            let outcome = match kind {
                Some(kind) => (kind.replay)(case, context),
                None => Outcome::Unknown(format!("firebrick replays no `{list}`")),
            };
            summary.add(list, name, index, outcome);
        }
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> Result<Summary, String> {
        cases(text, &outcome::on_flex(None))
    }

    #[test]
    fn the_references_of_the_repository_replay() {
        for text in [
            include_str!("../../../tests/references/optim.json"),
            include_str!("../../../tests/references/optim_random.json"),
            include_str!("../../../tests/references/schedule.json"),
            include_str!("../../../tests/references/stabilize_clip.json"),
            include_str!("../../../tests/references/split_sklearn.json"),
            include_str!("../../../tests/references/regularize.json"),
            include_str!("../../../tests/references/regularize_random.json"),
            include_str!("../../../tests/references/regularize_keras.json"),
        ] {
            let summary = summary(text).expect("well-formed");
            assert_eq!(summary.exit_code(), 0, "{}", summary.text());
        }
    }

    #[test]
    fn a_kind_or_name_that_is_not_known_is_named_and_exits_with_2() {
        let text = r#"{"moons":[{"name":"l1"}],"splits":[{"kind":"by_moon","n":4,"folds":[]},
            {"kind":"kfold","n":4,"k":2,"folds":[[[2,3],[0,1]],[[0,1],[2,3]]]}]}"#;
        let summary = summary(text).expect("well-formed");
        assert_eq!(summary.exit_code(), 2);
        let text = summary.text();
        assert!(
            text.contains("l1") && text.contains("by_moon") && text.contains("unknown"),
            "{text}"
        );
        let json: Value = serde_json::from_str(&summary.json()).expect("its own JSON");
        assert_eq!(
            (&json["ok"], &json["failed"], &json["unknown"]),
            (&1.into(), &0.into(), &2.into())
        );
        assert_eq!(json["cases"][2]["kind"], "splits");
        assert_eq!(json["cases"][2]["ok"], true);
    }

    #[test]
    fn no_cases_is_fine_and_what_is_no_file_of_cases_is_an_error() {
        assert_eq!(summary("{}").expect("nothing to do").exit_code(), 0);
        for bad in ["", "[]", "{\"splits\":{}}", "{\"splits\":[}"] {
            assert!(summary(bad).is_err(), "{bad}");
        }
        let failed = summary("{\"splits\":[3]}").expect("a list");
        assert_eq!(failed.exit_code(), 1);
    }

    #[test]
    fn a_tolerance_is_a_number_of_at_least_zero() {
        assert_eq!(tolerance("1e-6"), Ok(1e-6));
        for bad in ["-1", "inf", "NaN", "small"] {
            assert!(tolerance(bad).is_err(), "{bad}");
        }
    }
}
