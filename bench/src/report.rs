//! What a run of an area measured: as a table for a terminal and as the JSON that every area shares.
//!
//! ```json
//! {"area": "optim", "rows": [{"case": "..", "unit": "ns/parameter", "ours": {"median": 1.0, "q1": 0.9, "q3": 1.1},
//!  "peers": {"burn": {"median": 4.0, "q1": 3.9, "q3": 4.1}}, "speedup": {"burn": 4.0}}]}
//! ```
//! `speedup` is the peer's median over ours: above 1, ours is faster.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::machine::Machine;
use crate::quartiles::Quartiles;

/// One measured case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) unit: String,
    pub(crate) ours: Quartiles,
    pub(crate) peers: BTreeMap<String, Quartiles>,
    /// Peer's median over ours.
    pub(crate) speedup: BTreeMap<String, f64>,
    /// Peer's time over ours in each round, where the case asks for them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rounds: BTreeMap<String, Quartiles>,
    /// Bytes that ours moved a second, where the case knows its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_per_second: Option<f64>,
}

impl Row {
    /// A row of the contenders' figures, ours first; `None` without any.
    pub(crate) fn new(
        case: String,
        unit: String,
        measured: impl IntoIterator<Item = (String, Quartiles)>,
        bytes: Option<f64>,
        scale: f64,
    ) -> Option<Self> {
        let mut measured = measured.into_iter();
        let (_, ours) = measured.next()?;
        let peers: BTreeMap<_, _> = measured.collect();
        let speedup = peers
            .iter()
            .map(|(name, peer)| (name.clone(), peer.median / ours.median))
            .filter(|(_, ratio)| ratio.is_finite())
            .collect();
        let bytes_per_second =
            bytes.map(|bytes| bytes * scale / ours.median).filter(|rate| rate.is_finite());
        let rounds = BTreeMap::new();
        Some(Self { case, unit, ours, peers, speedup, rounds, bytes_per_second })
    }

    /// The row for a terminal.
    pub(crate) fn line(&self) -> String {
        let Quartiles { median, q1, q3 } = self.ours;
        let mut line = format!(
            "{:<56} {:>9} [{}, {}] {}",
            self.case,
            figure(median),
            figure(q1),
            figure(q3),
            self.unit
        );
        for (name, peer) in &self.peers {
            let _ = write!(line, "  | {name} {}", figure(peer.median));
            if let Some(ratio) = self.speedup.get(name) {
                let _ = write!(line, " ({ratio:.2}x)");
            }
            if let Some(Quartiles { median, q1, q3 }) = self.rounds.get(name) {
                let _ = write!(line, ", by rounds {median:.3}x [{q1:.3}, {q3:.3}]");
            }
        }
        if let Some(rate) = self.bytes_per_second {
            let _ = write!(line, "  | {:.1} GB/s", rate / 1e9);
        }
        line
    }
}

/// Everything that an area measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) area: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) quick: bool,
    pub(crate) machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) python: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(area: &str, quick: bool, machine: Machine, python: Option<Value>) -> Self {
        Self { area: area.to_owned(), rows: Vec::new(), quick, machine, python, notes: Vec::new() }
    }

    /// What stands above the rows: what is measured, and on which machine.
    pub(crate) fn head(&self) -> String {
        let Machine { cores, cpu, os, copy_bytes_per_second } = &self.machine;
        let copy = copy_bytes_per_second / 1e9;
        let mut text = format!("{}: {cores} cores, {cpu}, {os}, copy {copy:.1} GB/s\n", self.area);
        if let Some(versions) = &self.python {
            let _ = writeln!(text, "python peers: {versions}");
        }
        text.push_str("median [first, third quartile]  | peer's median (times as long as ours)\n");
        text
    }

    /// What stands below the rows.
    pub(crate) fn foot(&self) -> String {
        let mut text = String::new();
        if self.rows.is_empty() {
            text.push_str("no case matches the filter\n");
        }
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        if self.quick {
            text.push_str("quick mode: small sizes and few rounds, not figures to quote\n");
        }
        text
    }
}

/// Four significant digits, plain where that is short.
fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.3e}"),
        size => {
            let digits = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
            format!("{value:.digits$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(median: f64) -> Quartiles {
        Quartiles { median, q1: median - 0.5, q3: median + 0.5 }
    }

    fn row() -> Row {
        let measured =
            [("ours".to_owned(), q(2.0)), ("torch".to_owned(), q(3.0)), ("burn".into(), q(9.0))];
        Row::new("adam".into(), "ns".into(), measured, None, 1e9).expect("ours is there")
    }

    #[test]
    fn json_has_the_shared_form() {
        let value = serde_json::to_value(row()).expect("plain data");
        assert_eq!(
            value,
            serde_json::json!({
                "case": "adam", "unit": "ns",
                "ours": {"median": 2.0, "q1": 1.5, "q3": 2.5},
                "peers": {
                    "burn": {"median": 9.0, "q1": 8.5, "q3": 9.5},
                    "torch": {"median": 3.0, "q1": 2.5, "q3": 3.5}
                },
                "speedup": {"burn": 4.5, "torch": 1.5}
            })
        );
    }

    #[test]
    fn the_table_names_machine_rows_and_quick_mode() {
        let machine =
            Machine { cores: 2, cpu: "a cpu".into(), os: "linux", copy_bytes_per_second: 20e9 };
        let mut report = Report::new("optim", true, machine, None);
        assert!(report.foot().contains("no case matches"));
        report.rows.push(row());
        report.rows[0].rounds.insert("burn".into(), q(4.5));
        report.notes.push("a note".into());
        let table = report.head() + &report.rows[0].line() + &report.foot();
        let ratio = "burn 9.000 (4.50x), by rounds 4.500x [4.000, 5.000]";
        for part in ["2 cores", "copy 20.0 GB/s", "adam", ratio, "a note", "quick mode"] {
            assert!(table.contains(part), "{part} is missing in\n{table}");
        }
        assert!(!table.contains("no case"));
    }

    #[test]
    fn a_ratio_that_is_no_number_is_left_out() {
        let measured = [("ours".to_owned(), q(0.0)), ("torch".to_owned(), q(3.0))];
        let row = Row::new("c".into(), "s".into(), measured, Some(1.0), 1.0).expect("ours");
        assert!(row.speedup.is_empty() && row.bytes_per_second.is_none());
        assert!(Row::new("c".into(), "s".into(), [], None, 1.0).is_none());
    }

    #[test]
    fn figures_keep_four_digits() {
        assert_eq!(figure(0.61234), "0.6123");
        assert_eq!(figure(12.3456), "12.35");
        assert_eq!(figure(123_456.7), "123457");
        assert_eq!(figure(1.5e-7), "1.500e-7");
        assert_eq!(figure(0.0), "0");
    }
}
