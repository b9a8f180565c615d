//! `cargo xtask smoke`: runs the main job in quick mode, as a newcomer would, and checks what it leaves behind.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

pub(crate) const HELP: &str = "\
usage: cargo xtask smoke

Runs `cargo run --bin digits -- --quick` twice, the second time on one thread, into a temporary folder, and checks:
the fields of the JSON and that their values are plausible, that both runs agree but for the times, the self-contained
report.html, and that bad flags end with exit code 2 and one line of explanation.
";

/// The quick mode trains little: below this the job is broken rather than hasty.
const WORST_TEST_ERROR: f64 = 0.2;
/// Seconds for a quick run on a busy machine; it takes about ten on a quiet one.
const SLOWEST: f64 = 60.0;

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    Arguments::read(words, &[], &[], 0)?;
    let folder = std::env::temp_dir().join(format!("firebrick-smoke-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|error| {
        Failure::failed(format!("cannot write to {}: {error}", folder.display()))
    })?;
    let result = both_runs(&folder);
    match &result {
        // What a failed run wrote is what one wants to look at.
        Err(_) => println!("smoke: the output stays in {}", folder.display()),
        Ok(()) => drop(std::fs::remove_dir_all(&folder)),
    }
    result
}

fn both_runs(folder: &Path) -> Result<(), Failure> {
    let first = digits(folder, "first", &[])?;
    let second = digits(folder, "second", &["--threads", "1"])?;
    let mut faults = faults(&first);
    if without_times(&first) != without_times(&second) {
        faults.push("two runs with the same seed differ in more than their times".to_owned());
    }
    let report = folder.join("first/report.html");
    match std::fs::read_to_string(&report) {
        Ok(text) => faults.extend(report_faults(&text)),
        Err(error) => faults.push(format!("report.html cannot be read: {error}")),
    }
    for bad in [["--seed", "seven"], ["--backend", "tpu"], ["--epochs", "0"]] {
        faults.extend(refusal_fault(&bad)?);
    }
    match faults.as_slice() {
        [] => {
            let test = &first["test"];
            println!(
                "smoke: digits chose `{}`, test error {} on {} samples, {:.1} s",
                first["chosen"].as_str().unwrap_or_default(),
                test["error"],
                test["n"],
                first["seconds"].as_f64().unwrap_or_default()
            );
            Ok(())
        }
        faults => Err(Failure::failed(format!("smoke:\n  {}", faults.join("\n  ")))),
    }
}

fn digits(folder: &Path, name: &str, more: &[&str]) -> Result<Value, Failure> {
    let json: PathBuf = folder.join(format!("{name}.json"));
    let mut command = cargo::cargo_run("digits", None);
    command.arg("--quick").arg("--json").arg(&json).arg("--out").arg(folder.join(name));
    // A test must not depend on what the user has set.
    command.args(more).env_remove("FIREBRICK_BACKEND");
    cargo::run(&mut command)?;
    let text = std::fs::read_to_string(&json)
        .map_err(|error| Failure::failed(format!("digits left no {}: {error}", json.display())))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::failed(format!("{} is no JSON: {error}", json.display())))
}

/// What is wrong with the way in which digits refuses `words`, if anything is.
fn refusal_fault(words: &[&str]) -> Result<Option<String>, Failure> {
    let mut command = cargo::cargo_run("digits", None);
    command.args(words).env_remove("FIREBRICK_BACKEND");
    let shown = words.join(" ");
    let output =
        command.output().map_err(|error| Failure::failed(format!("cannot run digits: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(if output.status.code() != Some(2) {
        Some(format!("`digits {shown}` ended with {}, not with exit code 2", output.status))
    } else if said.contains("panicked") || !said.contains(words[1]) {
        Some(format!("`digits {shown}` does not explain itself: {}", said.trim()))
    } else {
        None
    })
}

/// The value without what depends on the clock.
fn without_times(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let timeless = |name: &str| !name.ends_with("seconds");
            let kept = fields.iter().filter(|(name, _)| timeless(name));
            kept.map(|(name, value)| (name.clone(), without_times(value))).collect()
        }
        Value::Array(values) => values.iter().map(without_times).collect(),
        other => other.clone(),
    }
}

/// What is missing in the JSON or not plausible.
fn faults(value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    let share = |value: &Value| value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share));
    let spread = |value: &Value| share(&value["mean"]) && share(&value["sd"]);
    let words = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    let empty = Vec::new();
    expect(value["seed"].is_u64(), "`seed` is no whole number");
    expect(value["backend"] == "flex", "`backend` is not flex, the default");
    let candidates = value["candidates"].as_array().unwrap_or(&empty);
    expect(candidates.len() >= 4, "`candidates` lists fewer than four");
    for candidate in candidates {
        expect(words(&candidate["name"]), "a candidate has no `name`");
        expect(spread(&candidate["train_error"]), "a candidate's `train_error` is no mean and sd");
        expect(
            spread(&candidate["validation_error"]),
            "a candidate's `validation_error` is no mean and sd",
        );
    }
    let chosen = candidates.iter().any(|candidate| candidate["name"] == value["chosen"]);
    expect(chosen, "`chosen` is none of the candidates");
    for name in ["train_error", "validation_error"] {
        expect(share(&value[name]), &format!("`{name}` is no share"));
    }
    let test = &value["test"];
    expect(test["n"].as_u64().is_some_and(|n| n >= 100), "`test.n` is below 100");
    let hopeless =
        !test["error"].as_f64().is_some_and(|error| (0.0..=WORST_TEST_ERROR).contains(&error));
    expect(
        !hopeless,
        &format!("`test.error` is {}, not in [0, {WORST_TEST_ERROR}]", test["error"]),
    );
    expect(!value["gap"].is_null(), "`gap` is missing");
    let diagnosis = value["diagnosis"].as_array();
    expect(diagnosis.is_some(), "`diagnosis` is no list");
    for finding in diagnosis.unwrap_or(&empty) {
        let whole = words(&finding["finding"]) && words(&finding["remedy"]);
        expect(
            whole && share(&finding["confidence"]),
            "a diagnosis lacks finding, confidence or remedy",
        );
    }
    let seconds = value["seconds"].as_f64();
    let in_time = seconds.is_some_and(|seconds| seconds > 0.0 && seconds <= SLOWEST);
    expect(in_time, &format!("`seconds` is {}, not in (0, {SLOWEST}]", value["seconds"]));
    faults
}

/// What is wrong with the report's page.
fn report_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if text.matches("<svg").count() < 3 {
        faults.push("report.html draws fewer than three pictures".to_owned());
    }
    for outside in ["src=\"http", "href=\"http", "url(http", "@import", "src='http", "<script src"]
    {
        if text.contains(outside) {
            faults.push(format!("report.html needs the network: `{outside}`"));
        }
    }
    if !text.trim_end().ends_with("</html>") {
        faults.push("report.html is cut off".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        let candidate = |name| {
            json!({"name": name, "train_error": {"mean": 0.01, "sd": 0.002},
                   "validation_error": {"mean": 0.03, "sd": 0.004}})
        };
        json!({
            "seed": 0, "backend": "flex",
            "candidates": [candidate("a"), candidate("b"), candidate("c"), candidate("d")],
            "chosen": "b", "train_error": 0.01, "validation_error": 0.03,
            "test": {"error": 0.02, "n": 360}, "gap": {"generalization": 0.01},
            "diagnosis": [{"finding": "fits well", "confidence": 0.8, "remedy": "none"}],
            "seconds": 8.5
        })
    }

    #[test]
    fn a_good_result_passes() {
        assert_eq!(faults(&good()), Vec::<String>::new());
    }

    #[test]
    fn every_missing_field_is_found() {
        let fields = good().as_object().expect("an object").clone();
        for name in fields.keys() {
            let mut less = fields.clone();
            less.remove(name);
            let found = faults(&Value::Object(less));
            assert!(found.iter().any(|fault| fault.contains(name)), "{name}: {found:?}");
        }
    }

    #[test]
    fn implausible_values_are_found() {
        for (path, value) in [
            ("/test/error", json!(0.9)),
            ("/test/error", json!("low")),
            ("/test/n", json!(3)),
            ("/candidates/2/train_error/mean", json!(1.5)),
            ("/candidates/0/validation_error/sd", Value::Null),
            ("/diagnosis/0/confidence", json!(80)),
            ("/diagnosis/0/remedy", json!(" ")),
            ("/chosen", json!("e")),
            ("/seconds", json!(0)),
            ("/train_error", json!(-0.1)),
        ] {
            let mut bad = good();
            *bad.pointer_mut(path).expect("the path is there") = value;
            assert_eq!(faults(&bad).len(), 1, "{path}");
        }
    }

    #[test]
    fn times_do_not_count_when_runs_are_compared() {
        let mut later = good();
        later["seconds"] = json!(9.5);
        later["candidates"][0]["train_seconds"] = json!(1.0);
        assert_eq!(without_times(&later), without_times(&good()));
        later["test"]["error"] = json!(0.021);
        assert_ne!(without_times(&later), without_times(&good()));
    }

    #[test]
    fn the_page_is_whole_and_self_contained() {
        let good = "<html><svg xmlns=\"http://www.w3.org/2000/svg\"/><svg/><svg/></html>\n";
        assert_eq!(report_faults(good), Vec::<String>::new());
        assert_eq!(report_faults("<html><svg/>").len(), 2);
        let linked = good.replace("<html>", "<html><script src=\"http://a/b.js\"></script>");
        assert_eq!(report_faults(&linked).len(), 2);
    }
}
