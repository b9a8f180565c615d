//! Times one case for us and for its peers, in rounds that alternate, so that a drift of the machine meets all alike.
//!
//! Each contender runs twice untimed, then once a round; the order rotates from round to round. A run that is shorter than
//! two milliseconds is repeated within its round, and the round counts the mean. Beside peers in another process every turn
//! begins with a pause and an untimed run: the workers of the peer before it go on spinning for a while (OpenMP's for some
//! 10 ms) and would take a core from whoever comes next.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::machine::Machine;
use crate::python::Python;
use crate::quartiles::Quartiles;
use crate::report::{Report, Row};

/// Why an area could not be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BenchError {
    /// The interpreter did not start.
    #[error("cannot start the Python interpreter {path}: {source}")]
    Interpreter {
        /// As given.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The peer script failed.
    #[error("the Python peer failed: {0} (its packages: bench/peers/requirements.txt)")]
    Peer(String),
    /// The area's own preparation failed.
    #[error("{0}")]
    Area(String),
    /// A case lacks the closure that times ours.
    #[error("case `{0}` has no timing of ours")]
    NoOurs(String),
}

/// One timed run: sets up, times its own work, and returns that time.
type Timed<'a> = Box<dyn FnMut() -> Duration + 'a>;

enum Runner<'a> {
    Here(Timed<'a>),
    Python,
}

/// One row of the table: a name, a unit, ours and the peers.
#[must_use]
pub(crate) struct Case<'a> {
    name: String,
    unit: String,
    scale: f64,
    bytes: Option<f64>,
    rounds: usize,
    ours: Option<Timed<'a>>,
    peers: Vec<(String, Runner<'a>)>,
}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("unit", &self.unit).finish()
    }
}

impl<'a> Case<'a> {
    /// A case whose figures are in `unit`; seconds unless [`scale`](Self::scale) says otherwise.
    pub(crate) fn new(name: impl Into<String>, unit: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            unit: unit.into(),
            scale: 1.0,
            bytes: None,
            rounds: 0,
            ours: None,
            peers: Vec::new(),
        }
    }

    /// What a second of run time is in the row's unit.
    pub(crate) fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Bytes that one run of ours reads and writes, for the bandwidth beside the time.
    pub(crate) fn bytes(mut self, bytes: f64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// More rounds than usual within the same time, and their own ratios beside that of the medians: for contenders that
    /// lie a few percent apart.
    pub(crate) fn rounds(mut self, most: usize) -> Self {
        self.rounds = most;
        self
    }

    /// Ours.
    pub(crate) fn ours(mut self, run: impl FnMut() -> Duration + 'a) -> Self {
        self.ours = Some(Box::new(run));
        self
    }

    /// A peer in this process.
    pub(crate) fn peer(mut self, name: &str, run: impl FnMut() -> Duration + 'a) -> Self {
        self.peers.push((name.to_owned(), Runner::Here(Box::new(run))));
        self
    }

    /// A peer in the area's Python script; left out where no interpreter is given.
    pub(crate) fn python(mut self, name: &str) -> Self {
        self.peers.push((name.to_owned(), Runner::Python));
        self
    }
}

/// How many rounds a row gets, and how long it may take.
#[derive(Clone, Copy, Debug)]
struct Effort {
    least: usize,
    most: usize,
    budget: Duration,
}

const THOROUGH: Effort = Effort { least: 5, most: 15, budget: Duration::from_secs(20) };
const QUICK: Effort = Effort { least: 3, most: 5, budget: Duration::from_secs(3) };
/// Rounds shorter than this are repeated, seconds.
const SHORTEST: f64 = 2e-3;
/// Until the workers of another process sleep.
const PAUSE: Duration = Duration::from_millis(60);

/// Measures the rows of one area.
#[derive(Debug)]
pub(crate) struct Harness {
    quick: bool,
    filter: Option<String>,
    python: Option<Python>,
    report: Report,
}

impl Harness {
    /// Prepares an area: measures the machine, starts the peer script if an interpreter is given.
    pub(crate) fn start(
        area: &str,
        quick: bool,
        filter: Option<String>,
        interpreter: Option<&Path>,
        scripts: &Path,
    ) -> Result<Self, BenchError> {
        let machine = Machine::measure(quick);
        let script = scripts.join(format!("{area}.py"));
        // An area without a script has no peers in Python.
        let interpreter = interpreter.filter(|_| script.exists());
        let python =
            interpreter.map(|path| Python::start(path, &script, machine.cores)).transpose()?;
        let versions = python.as_ref().map(|peer| peer.versions().clone());
        let report = Report::new(area, quick, machine, versions);
        print!("{}", report.head());
        Ok(Self { quick, filter, python, report })
    }

    /// Whether smaller sizes are asked for.
    pub(crate) fn quick(&self) -> bool {
        self.quick
    }

    /// Whether the filter lets this case through: spare the work of building inputs for one that it does not.
    pub(crate) fn wants(&self, case: &str) -> bool {
        self.filter.as_ref().is_none_or(|text| case.contains(text.as_str()))
    }

    /// Bytes a second that a copy on all cores reads and writes.
    #[allow(dead_code, reason = "for areas that judge themselves by bandwidth")]
    pub(crate) fn copy_bandwidth(&self) -> f64 {
        self.report.machine.copy_bytes_per_second
    }

    /// A line under the table.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.report.notes.push(text.into());
    }

    /// Measures one case and adds its row.
    pub(crate) fn row(&mut self, case: Case<'_>) -> Result<(), BenchError> {
        if !self.wants(&case.name) {
            return Ok(());
        }
        let Some(ours) = case.ours else { return Err(BenchError::NoOurs(case.name)) };
        let mut contenders = vec![Contender::new("ours".to_owned(), Runner::Here(ours))];
        for (name, runner) in case.peers {
            let known = match (&runner, &mut self.python) {
                (Runner::Here(_), _) => true,
                (Runner::Python, None) => false,
                (Runner::Python, Some(python)) => python.prepare(&name, &case.name, self.quick)?,
            };
            if known {
                contenders.push(Contender::new(name, runner));
            }
        }
        let mut effort = if self.quick { QUICK } else { THOROUGH };
        if !self.quick {
            effort.most = effort.most.max(case.rounds);
        }
        self.alternate(&case.name, &mut contenders, effort)?;
        if let Some(python) = &mut self.python {
            python.forget()?;
        }
        let rounds = if case.rounds > 0 { by_round(&contenders) } else { BTreeMap::new() };
        let measured = contenders.into_iter().filter_map(|contender| {
            Some((contender.name, Quartiles::of(&contender.seconds)?.scaled(case.scale)))
        });
        if let Some(mut row) = Row::new(case.name, case.unit, measured, case.bytes, case.scale) {
            row.rounds = rounds;
            println!("{}", row.line());
            self.report.rows.push(row);
        }
        Ok(())
    }

    /// What was measured; each row has been printed when it was ready.
    pub(crate) fn finish(self) -> Report {
        print!("{}", self.report.foot());
        self.report
    }

    fn alternate(
        &mut self,
        case: &str,
        contenders: &mut [Contender<'_>],
        effort: Effort,
    ) -> Result<(), BenchError> {
        for contender in &mut *contenders {
            contender.run(case, self.python.as_mut())?;
            let seconds = contender.run(case, self.python.as_mut())?;
            contender.repeats = (SHORTEST / seconds.max(1e-7)).ceil().clamp(1.0, 1e4) as u32;
        }
        let alone = contenders.iter().all(|contender| matches!(contender.runner, Runner::Here(_)));
        let start = Instant::now();
        for round in 0..effort.most {
            if round >= effort.least && start.elapsed() >= effort.budget {
                break;
            }
            for turn in 0..contenders.len() {
                let contender = &mut contenders[(round + turn) % contenders.len()];
                if !alone {
                    std::thread::sleep(PAUSE);
                    contender.run(case, self.python.as_mut())?;
                }
                let seconds = contender.run(case, self.python.as_mut())?;
                contender.seconds.push(seconds);
            }
        }
        Ok(())
    }
}

/// Each peer's time over ours within a round, where both met the same state of the machine.
fn by_round(contenders: &[Contender<'_>]) -> BTreeMap<String, Quartiles> {
    let Some((ours, peers)) = contenders.split_first() else { return BTreeMap::new() };
    let ratios = |peer: &Contender<'_>| {
        let pairs = peer.seconds.iter().zip(&ours.seconds);
        let ratios: Vec<f64> = pairs.map(|(peer, ours)| peer / ours).collect();
        Some((peer.name.clone(), Quartiles::of(&ratios)?))
    };
    peers.iter().filter_map(ratios).collect()
}

struct Contender<'a> {
    name: String,
    runner: Runner<'a>,
    repeats: u32,
    seconds: Vec<f64>,
}

impl<'a> Contender<'a> {
    fn new(name: String, runner: Runner<'a>) -> Self {
        Self { name, runner, repeats: 1, seconds: Vec::new() }
    }

    fn run(&mut self, case: &str, python: Option<&mut Python>) -> Result<f64, BenchError> {
        match (&mut self.runner, python) {
            (Runner::Here(run), _) => {
                let total: Duration = (0..self.repeats).map(|_| run()).sum();
                Ok(total.as_secs_f64() / f64::from(self.repeats))
            }
            (Runner::Python, Some(python)) => python.run(&self.name, case, self.repeats),
            (Runner::Python, None) => Err(BenchError::Peer("it is not running".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn harness(filter: Option<&str>) -> Harness {
        let scripts = Path::new("unused");
        Harness::start("test", true, filter.map(str::to_owned), None, scripts).expect("no peer")
    }

    #[test]
    fn contenders_alternate_and_the_ratio_is_peer_over_ours() {
        let order = RefCell::new(String::new());
        let mut bench = harness(None);
        let log = |who, millis| {
            order.borrow_mut().push(who);
            Duration::from_millis(millis)
        };
        let case = Case::new("two", "ms")
            .scale(1e3)
            .bytes(4e9)
            .ours(|| log('o', 4))
            .peer("slow", || log('s', 12))
            .python("absent");
        bench.row(case).expect("nothing fails");
        let report = bench.finish();
        let row = &report.rows[0];
        assert!(row.rounds.is_empty());
        assert_eq!(row.ours, Quartiles { median: 4.0, q1: 4.0, q3: 4.0 });
        assert_eq!(row.peers.keys().collect::<Vec<_>>(), ["slow"]);
        assert_eq!(row.speedup["slow"], 3.0);
        assert_eq!(row.bytes_per_second, Some(1e12));
        // Two warm-up runs each, then five rounds in rotating order.
        assert_eq!(*order.borrow(), "ooss".to_owned() + "os" + "so" + "os" + "so" + "os");
    }

    #[test]
    fn near_contenders_are_compared_round_by_round() {
        // The machine slows down all the while, which the ratio of a round does not see.
        let machine = RefCell::new(10.0_f64);
        let work = |share: f64| {
            *machine.borrow_mut() *= 1.1;
            Duration::from_secs_f64(1e-3 * share * *machine.borrow())
        };
        let mut bench = harness(None);
        let case = Case::new("near", "s").rounds(9).ours(|| work(1.0)).peer("hand", || work(0.9));
        bench.row(case).expect("nothing fails");
        let rounds = bench.finish().rows[0].rounds["hand"];
        // Five rounds that begin with ours, then the peer, in turn.
        assert!((rounds.q3 - 0.9 * 1.1).abs() < 1e-6, "{rounds:?}");
        assert!((rounds.q1 - 0.9 / 1.1).abs() < 1e-6, "{rounds:?}");
    }

    #[test]
    fn short_runs_are_repeated() {
        let mut bench = harness(None);
        let mut count = 0;
        let case = Case::new("short", "s").ours(|| {
            count += 1;
            Duration::from_micros(500)
        });
        bench.row(case).expect("nothing fails");
        let measured = bench.finish().rows[0].ours.median;
        assert!((measured - 5e-4).abs() < 1e-12, "{measured}");
        assert_eq!(count, 2 + 5 * 4);
    }

    #[test]
    fn the_filter_skips_a_row_and_ours_is_required() {
        let mut bench = harness(Some("adam"));
        assert!(bench.quick() && bench.wants("adamw 500") && !bench.wants("sgd"));
        bench.row(Case::new("sgd", "s").ours(|| unreachable!("filtered"))).expect("skipped");
        let error = bench.row(Case::new("adam", "s")).expect_err("no closure");
        assert!(error.to_string().contains("adam"));
        assert!(BenchError::Area("no data".into()).to_string().contains("no data"));
        assert!(bench.finish().rows.is_empty());
    }
}
