//! The ledger among real processes: two that race for one sealed test part, and one that is killed at any moment.
//!
//! A child is this test binary once more: the test `child` does nothing unless the environment gives it a part to play.

use firebrick_core::Seed;
use firebrick_split::{
    Frozen, Ledger, Metrics, ModelDigest, Roles, RowHashes, Sealed, SplitError, TestReport,
};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

const PART: &str = "FIREBRICK_LEDGER_PART";
const MODEL: &str = "FIREBRICK_LEDGER_MODEL";
const FILE: &str = "FIREBRICK_LEDGER_FILE";
/// What a child says begins so, to be told from what the test harness prints.
const SAYS: &str = "child says: ";

const ROWS: u32 = 40;

fn hashes() -> RowHashes {
    RowHashes::from_bytes((0..ROWS).map(u32::to_le_bytes))
}

/// The last eight rows, sealed.
fn sealed() -> Sealed<Vec<u32>> {
    let numbers: Vec<u8> = (0..ROWS).map(|row| if row < ROWS - 8 { 0 } else { 2 }).collect();
    let roles = Roles::from_numbers(&numbers).expect("valid roles");
    roles.divide(&hashes(), |_, rows| rows.to_vec()).expect("divides").test
}

fn ledger(path: &Path) -> Result<Ledger, SplitError> {
    Ledger::open(path, hashes().fingerprint())
}

fn open(
    ledger: &mut Ledger,
    model: &str,
    metric: f64,
    meanwhile: impl FnOnce(),
) -> Result<TestReport, SplitError> {
    let digest = ModelDigest::of_bytes([model]);
    let frozen = Frozen::new((), digest, format!("candidate {model}"));
    sealed().open(ledger, &frozen, |(), _| {
        meanwhile();
        Metrics::new().with("error", metric)
    })
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{SAYS}{text}").and_then(|()| out.flush()).expect("the parent listens");
}

fn sleep_until_killed() {
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Not a test of its own: what the children do.
#[test]
fn child() {
    let Ok(part) = std::env::var(PART) else { return };
    let path = PathBuf::from(std::env::var(FILE).expect("a ledger"));
    let model = std::env::var(MODEL).expect("a model");
    match part.as_str() {
        "race" => {
            say("ready");
            while !path.with_extension("go").exists() {
                std::hint::spin_loop();
            }
            let result = ledger(&path).and_then(|mut ledger| open(&mut ledger, &model, 0.1, || ()));
            match result {
                Ok(report) if report.repetition => say("repeated"),
                Ok(_) => say("opened"),
                Err(error) => say(&format!("refused: {error}")),
            }
        }
        "stop before" => {
            let _ledger = ledger(&path).expect("opens");
            say("here");
            sleep_until_killed();
        }
        "stop after the reason" => {
            let mut ledger = ledger(&path).expect("opens");
            ledger.reopen("another look").expect("recorded");
            say("here");
            sleep_until_killed();
        }
        "stop while evaluating" => {
            let mut ledger = ledger(&path).expect("opens");
            let _ = open(&mut ledger, &model, 0.1, || {
                say("here");
                sleep_until_killed();
            });
        }
        "stop after" => {
            let mut ledger = ledger(&path).expect("opens");
            open(&mut ledger, &model, 0.1, || ()).expect("opens");
            say("here");
            sleep_until_killed();
        }
        "work on" => {
            for round in 0u32.. {
                let mut ledger = ledger(&path).expect("whole");
                ledger.reopen(format!("round {round}")).expect("recorded");
                open(&mut ledger, &format!("{round}"), round.into(), || ()).expect("granted");
                say(&format!("{round}"));
            }
        }
        "work until nothing can be written" => {
            for round in 0u32.. {
                let looked = std::cell::Cell::new(false);
                let result = ledger(&path).and_then(|mut ledger| {
                    ledger.reopen(format!("round {round}"))?;
                    open(&mut ledger, &format!("{round}"), round.into(), || looked.set(true))
                });
                match result {
                    Ok(_) => say(&format!("{round}")),
                    Err(SplitError::Io { .. }) if looked.get() => return say("failed afterwards"),
                    Err(SplitError::Io { .. }) => return say("failed before"),
                    Err(error) => return say(&format!("another error: {error}")),
                }
            }
        }
        other => panic!("unknown part {other}"),
    }
}

struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

fn start(part: &str, model: &str, path: &Path) -> Running {
    run(Command::new(std::env::current_exe().expect("this binary")), part, model, path)
}

fn run(mut command: Command, part: &str, model: &str, path: &Path) -> Running {
    let mut child = command
        .args(["ledger_processes::child", "--exact", "--nocapture", "--test-threads", "1"])
        .env(PART, part)
        .env(MODEL, model)
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    Running { child, lines }
}

impl Running {
    /// What the child says next; none when it has ended.
    fn says(&mut self) -> Option<String> {
        // Harness and child share a line where the harness has not ended its own.
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once(SAYS).map(|(_, text)| text.to_owned()))
    }

    /// SIGKILL where there is one: nothing of the child runs any more.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("it runs");
        let rest = std::iter::from_fn(|| self.says()).collect();
        self.child.wait().expect("it ended");
        rest
    }
}

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("ledger.jsonl");
    Place { _folder: folder, path }
}

/// Both wait for the same file and open at once; what each says.
fn race(models: [&str; 2], path: &Path) -> [String; 2] {
    let mut racers = models.map(|model| start("race", model, path));
    for racer in &mut racers {
        assert_eq!(racer.says().as_deref(), Some("ready"));
    }
    std::fs::write(path.with_extension("go"), "").expect("writable");
    racers.map(|mut racer| {
        let said = racer.says().expect("a result");
        assert!(racer.child.wait().expect("it ended").success());
        said
    })
}

#[test]
fn of_two_processes_with_two_models_one_is_refused() {
    for _ in 0..6 {
        let place = place();
        let said = race(["a", "b"], &place.path);
        let winner = usize::from(said[1] == "opened");
        let (model, refused) = (["a", "b"][winner], &said[1 - winner]);
        assert_eq!(said[winner], "opened", "{said:?}");
        assert!(refused.starts_with("refused: 8 of these 8 test rows"), "{refused}");
        assert!(refused.contains(&format!("candidate {model}")), "{refused}");
        let openings = ledger(&place.path).and_then(|l| l.openings()).expect("whole");
        assert_eq!(openings.len(), 1);
        assert_eq!(openings[0].choice, format!("candidate {model}"));
        assert!(openings[0].metrics.is_some());
    }
}

#[test]
fn of_two_processes_with_one_model_one_repeats() {
    let place = place();
    let mut said = race(["a", "a"], &place.path);
    said.sort();
    assert_eq!(said, ["opened", "repeated"]);
    assert_eq!(ledger(&place.path).and_then(|l| l.openings()).expect("whole").len(), 1);
}

#[test]
fn a_process_killed_between_two_writes_leaves_what_it_wrote() {
    // Where it stops, openings on record, whether their result is, whether another model may open.
    for (part, openings, result, other) in [
        ("stop before", 0, false, true),
        ("stop while evaluating", 1, false, false),
        ("stop after", 1, true, false),
    ] {
        let place = place();
        let mut child = start(part, "a", &place.path);
        assert_eq!(child.says().as_deref(), Some("here"), "{part}");
        assert!(child.kill().is_empty());
        let mut ledger = ledger(&place.path).expect("whole");
        let known = ledger.openings().expect("whole");
        assert_eq!(known.len(), openings, "{part}");
        assert_eq!(known.iter().any(|o| o.metrics.is_some()), result, "{part}");
        assert_eq!(open(&mut ledger, "b", 0.2, || ()).is_ok(), other, "{part}");
        if !other {
            // The same model may finish what it began, and its repetition is told.
            let report = open(&mut ledger, "a", 0.1, || ()).expect("the same model");
            assert_eq!((report.repetition, report.uses), (result, 1), "{part}");
        }
    }
}

#[test]
fn a_reason_whose_opening_never_came_grants_nothing_to_others() {
    let place = place();
    let mut first = ledger(&place.path).expect("opens");
    open(&mut first, "a", 0.1, || ()).expect("first opening");
    let mut child = start("stop after the reason", "b", &place.path);
    assert_eq!(child.says().as_deref(), Some("here"));
    child.kill();
    let mut ledger = ledger(&place.path).expect("whole");
    let refused = open(&mut ledger, "b", 0.2, || ()).expect_err("no grant in this process");
    assert!(matches!(refused, SplitError::AlreadyOpened { shared: 8, .. }), "{refused}");
}

#[test]
fn kills_at_any_moment_lose_nothing_that_was_reported() {
    let mut delays = Seed(5).stream("kills");
    for _ in 0..20 {
        let place = place();
        let mut child = start("work on", "", &place.path);
        let first = child.says().expect("the first round");
        std::thread::sleep(Duration::from_micros(delays.below(30_000)));
        let reported: Vec<String> = std::iter::once(first).chain(child.kill()).collect();
        let mut ledger = ledger(&place.path).expect("whole");
        let openings = ledger.openings().expect("whole");
        // What was reported stands there, and at most one opening more.
        assert!((reported.len()..=reported.len() + 1).contains(&openings.len()));
        for (round, said) in reported.iter().enumerate() {
            assert_eq!(*said, round.to_string());
            let metrics = openings[round].metrics.as_ref().expect("its result");
            assert_eq!(metrics.get("error"), Some(round as f64));
        }
        // And the ledger goes on: the last model repeats or finishes, a new one is refused.
        let last = openings.len() - 1;
        let again = open(&mut ledger, &last.to_string(), last as f64, || ()).expect("the last one");
        assert_eq!(again.repetition, openings[last].metrics.is_some());
        assert!(open(&mut ledger, "new", 0.0, || ()).is_err());
    }
}

/// The shell lets no file grow beyond so many blocks of 512 bytes, so that lines are cut where it ends, as on a full disk.
#[cfg(unix)]
#[test]
fn a_disk_that_is_full_cuts_no_line_that_counts() {
    for blocks in 1..=9 {
        let place = place();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\"", &blocks.to_string()]);
        command.arg(std::env::current_exe().expect("this binary"));
        let mut child = run(command, "work until nothing can be written", "", &place.path);
        let mut said: Vec<String> = std::iter::from_fn(|| child.says()).collect();
        assert!(child.child.wait().expect("it ended").success());
        let looked = match said.pop().as_deref() {
            Some("failed afterwards") => true,
            Some("failed before") => false,
            other => panic!("{blocks} blocks: {other:?}"),
        };
        // With room again: every reported opening with its result, and the last one if rows were seen.
        let mut ledger = ledger(&place.path).expect("mended");
        let openings = ledger.openings().expect("whole");
        assert_eq!(openings.len(), said.len() + usize::from(looked), "{blocks} blocks");
        for (round, opening) in openings.iter().enumerate() {
            assert_eq!(opening.metrics.is_some(), round < said.len(), "{blocks} blocks");
        }
        if let Some(last) = openings.len().checked_sub(1) {
            let again = open(&mut ledger, &last.to_string(), last as f64, || ()).expect("the same");
            assert_eq!(again.repetition, !looked, "{blocks} blocks");
            assert!(open(&mut ledger, "new", 0.0, || ()).is_err());
        } else {
            assert!(open(&mut ledger, "new", 0.0, || ()).is_ok());
        }
    }
}
