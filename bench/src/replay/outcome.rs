//! What became of each replayed case, and how it is printed.

use std::fmt::Write as _;

use firebrick::burn::tensor::Device;
use serde::Serialize;

/// What a case is run with.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where tensors live; splits and schedules need none.
    pub(crate) device: Device,
    /// Given on the command line, in place of the kind's default.
    pub(crate) tolerance: Option<f64>,
    /// Whether optimizers may take the fused pass; else they run by tensor operations.
    pub(crate) fused: bool,
}

/// What became of one case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// It ran; `ok` says whether the difference is within the tolerance.
    Compared {
        /// Over all recorded values.
        max_abs_diff: f64,
        /// Within the tolerance.
        ok: bool,
    },
    /// It could not be run, or not be compared.
    Failed(String),
    /// firebrick has nothing of this kind and name, or not with this keyword.
    Unknown(String),
}

#[derive(Clone, Debug, Serialize)]
struct Line {
    kind: String,
    name: String,
    index: usize,
    max_abs_diff: Option<f64>,
    ok: bool,
    error: Option<String>,
}

/// Every case, and how many of each outcome.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Summary {
    cases: Vec<Line>,
    ok: usize,
    failed: usize,
    unknown: usize,
}

impl Summary {
    /// Adds a case.
    pub(crate) fn add(&mut self, kind: &str, name: &str, index: usize, outcome: Outcome) {
        let (max_abs_diff, ok, error) = match outcome {
            Outcome::Compared { max_abs_diff, ok } => (Some(max_abs_diff), ok, None),
            Outcome::Failed(why) => (None, false, Some(why)),
            Outcome::Unknown(why) => {
                self.unknown += 1;
                (None, false, Some(format!("unknown: {why}")))
            }
        };
        if ok {
            self.ok += 1;
        }
        self.cases.push(Line {
            kind: kind.to_owned(),
            name: name.to_owned(),
            index,
            max_abs_diff,
            ok,
            error,
        });
        self.failed = self.cases.len() - self.ok - self.unknown;
    }

    /// 1 with a failed case, else 2 with an unknown one, else 0.
    pub(crate) fn exit_code(&self) -> u8 {
        match (self.failed, self.unknown) {
            (0, 0) => 0,
            (0, _) => 2,
            _ => 1,
        }
    }

    /// A line a case, and the sum.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.cases {
            let Line { kind, name, index, max_abs_diff, ok, error } = line;
            let verdict = if *ok { "ok" } else { "FAILED" };
            let _ = match (max_abs_diff, error) {
                (_, Some(error)) => writeln!(text, "{kind}[{index}] {name}: {error}"),
                (Some(diff), None) => {
                    writeln!(text, "{kind}[{index}] {name}: {diff:.3e} {verdict}")
                }
                (None, None) => writeln!(text, "{kind}[{index}] {name}: {verdict}"),
            };
        }
        let _ = writeln!(text, "{} ok, {} failed, {} unknown", self.ok, self.failed, self.unknown);
        text
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> String {
        match serde_json::to_string_pretty(self) {
            Ok(text) => text + "\n",
            Err(error) => format!("{{\"error\":\"{error}\"}}\n"),
        }
    }
}

/// What the tests of the kinds run with.
#[cfg(test)]
pub(crate) fn on_flex(tolerance: Option<f64>) -> Context {
    use firebrick::backend::{Backend, DeviceSpec};
    let device = DeviceSpec::new(Backend::Flex).open().expect("flex is always there");
    Context { device, tolerance, fused: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_outweighs_an_unknown_case() {
        let mut summary = Summary::default();
        assert_eq!(summary.exit_code(), 0);
        summary.add("splits", "kfold", 0, Outcome::Compared { max_abs_diff: 0.0, ok: true });
        assert_eq!(summary.exit_code(), 0);
        summary.add("splits", "by_moon", 1, Outcome::Unknown("no such kind".into()));
        assert_eq!(summary.exit_code(), 2);
        summary.add("clips", "clip", 0, Outcome::Compared { max_abs_diff: 0.5, ok: false });
        summary.add("clips", "clip", 1, Outcome::Failed("`before` is missing".into()));
        assert_eq!(summary.exit_code(), 1);
        let text = summary.text();
        assert!(text.ends_with("1 ok, 2 failed, 1 unknown\n"), "{text}");
        assert!(text.contains("clips[0] clip: 5.000e-1 FAILED") && text.contains("is missing"));
    }
}
