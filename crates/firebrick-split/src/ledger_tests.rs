//! Openings, repetitions, refusals, crashes, races and damage.

use super::*;
use crate::ledger_file::civil;
use crate::{Frozen, Roles, RowHashes, Sealed};
use std::fs;

const N: usize = 40;

fn hashes() -> RowHashes {
    RowHashes::from_bytes((0..N as u32).map(u32::to_le_bytes))
}

/// The test part of rows `start..start + len`, sealed over its own row numbers.
fn sealed(start: usize, len: usize) -> Sealed<Vec<u32>> {
    sealed_of(&hashes(), start, len)
}

fn sealed_of(hashes: &RowHashes, start: usize, len: usize) -> Sealed<Vec<u32>> {
    let numbers: Vec<u8> = (0..hashes.len())
        .map(|row| if (start..start + len).contains(&row) { 2 } else { 0 })
        .collect();
    let roles = Roles::from_numbers(&numbers).expect("valid roles");
    roles.divide(hashes, |_, rows| rows.to_vec()).expect("divides").test
}

fn model(name: &str) -> Frozen<String> {
    Frozen::new(name.to_owned(), ModelDigest::of_bytes([name]), format!("candidate {name}"))
}

fn open(
    ledger: &mut Ledger,
    test: Sealed<Vec<u32>>,
    name: &str,
) -> Result<crate::TestReport, SplitError> {
    test.open(ledger, &model(name), |model, rows| {
        Metrics::new().with("error", 0.02).with("n", (rows.len() + model.len()) as f64)
    })
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

impl Place {
    fn ledger(&self) -> Result<Ledger, SplitError> {
        Ledger::open(&self.path, hashes().fingerprint())
    }
    fn fresh(&self) -> Ledger {
        self.ledger().expect("opens")
    }
    fn text(&self) -> String {
        fs::read_to_string(&self.path).expect("readable")
    }
    fn put(&self, text: &str) {
        fs::write(&self.path, text).expect("writable");
    }
    /// The file in which a line stands until it is written.
    fn next(&self) -> PathBuf {
        self.path.with_file_name("ledger.jsonl.next")
    }
}

#[test]
fn the_same_opening_again_is_a_repetition() {
    let place = place();
    let first = open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    assert!(!first.repetition && first.reopened.is_none());
    assert_eq!((first.n, first.uses), (8, 1));
    let again = open(&mut place.fresh(), sealed(0, 8), "a").expect("repetition");
    assert!(again.repetition);
    assert_eq!((again.uses, again.opening.clone()), (1, first.opening));
    assert_eq!(place.fresh().openings().expect("readable").len(), 1);
    assert_eq!(place.text().matches("\"event\":\"repetition\"").count(), 1);
}

#[test]
fn rows_that_no_model_may_open_are_refused_before_a_training() {
    let place = place();
    let mut ledger = place.fresh();
    sealed(0, 8).check(&ledger).expect("nothing was opened");
    open(&mut ledger, sealed(0, 8), "a").expect("first opening");
    sealed(0, 8).check(&ledger).expect("the same model may repeat it");
    sealed(20, 8).check(&ledger).expect_err("the first eight would be trained on");
    let moved = sealed(2, 8).check(&ledger).expect_err("two rows have moved");
    assert!(matches!(moved, SplitError::TestRowsReused { count: 2, .. }), "{moved:?}");
    ledger.reopen("a reason").expect("recorded");
    sealed(2, 8).check(&ledger).expect("a reason was given");
}

#[test]
fn another_model_is_refused_and_the_first_opening_named() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let mut looked = false;
    let error = sealed(0, 8)
        .open(&mut place.fresh(), &model("b"), |_, _| {
            looked = true;
            Metrics::new()
        })
        .expect_err("another model");
    assert!(!looked, "the rows were shown before the refusal");
    let text = error.to_string();
    for part in
        ["8 of these 8", "candidate a", "error 0.02, n 9", "first opened 2", "reopen(reason)"]
    {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn another_result_of_the_same_model_is_refused() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let other = sealed(0, 8)
        .open(&mut place.fresh(), &model("a"), |_, _| Metrics::new().with("error", 0.01))
        .expect_err("another result");
    assert!(matches!(other, SplitError::AlreadyOpened { .. }));
}

#[test]
fn moved_test_rows_are_counted() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let moved = open(&mut place.fresh(), sealed(5, 8), "b").expect_err("rows 0..5 are in training");
    assert!(matches!(moved, SplitError::TestRowsReused { count: 5, .. }), "{moved}");
    let larger = open(&mut place.fresh(), sealed(0, 12), "b").expect_err("a second look at 8 rows");
    assert!(matches!(larger, SplitError::AlreadyOpened { shared: 8, rows: 12, .. }), "{larger}");
}

#[test]
fn repeated_rows_in_the_data_are_not_taken_for_reuse() {
    // Every row twice, one copy on each side: the same split again is a repetition, not a leak.
    let place = place();
    let doubled = RowHashes::from_bytes((0..20u32).map(|row| (row % 10).to_le_bytes()));
    let mut ledger = Ledger::open(&place.path, doubled.fingerprint()).expect("opens");
    open(&mut ledger, sealed_of(&doubled, 0, 10), "a").expect("first opening");
    assert!(open(&mut ledger, sealed_of(&doubled, 10, 10), "a").expect("same content").repetition);
    let moved = open(&mut ledger, sealed_of(&doubled, 5, 10), "b").expect_err("the same content");
    assert!(matches!(moved, SplitError::AlreadyOpened { .. }), "{moved}");
    let fewer =
        open(&mut ledger, sealed_of(&doubled, 0, 7), "b").expect_err("three rows lost a copy");
    assert!(matches!(fewer, SplitError::TestRowsReused { count: 3, .. }), "{fewer}");
}

#[test]
fn reopening_records_the_reason_and_marks_the_report() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let mut ledger = place.fresh();
    assert!(ledger.reopen("  ").is_err());
    ledger.reopen("a label was wrong").expect("recorded");
    let report = open(&mut ledger, sealed(0, 8), "b").expect("granted");
    assert_eq!((report.reopened.as_deref(), report.uses), (Some("a label was wrong"), 2));
    assert!(open(&mut ledger, sealed(0, 8), "c").is_err(), "a grant serves once");
    assert!(place.text().contains("\"event\":\"reopen\",\"reason\":\"a label was wrong\""));
    let again =
        open(&mut place.fresh(), sealed(0, 8), "b").expect("repetition of the second opening");
    assert!(again.repetition && again.reopened.is_some() && again.uses == 2);
}

#[test]
fn other_data_and_damage_are_named() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let other = Ledger::open(&place.path, RowHashes::from_bytes(["x"]).fingerprint());
    assert!(matches!(other, Err(SplitError::LedgerOfOtherData { .. })));
    let elsewhere = RowHashes::from_bytes((0..30u32).map(u32::to_le_bytes));
    let mixed = open(&mut place.fresh(), sealed_of(&elsewhere, 0, 8), "a");
    assert!(matches!(mixed, Err(SplitError::LedgerOfOtherData { .. })));

    let whole = place.text();
    let lines: Vec<&str> = whole.lines().collect();
    assert_eq!(lines.len(), 3);
    let damage = [
        (whole.replacen("candidate a", "candidate b", 1), 2),
        (format!("{}\n{}\n", lines[0], lines[2]), 2),
        (format!("{}\n{}\n{}\n{}\n", lines[0], lines[1], lines[1], lines[2]), 3),
        (whole.replacen("0.02", "0.01", 1), 3),
        (format!("{whole}\n"), 4),
        (format!("not json\n{whole}"), 1),
        (whole.replacen(&lines[0][..20], "\u{7f}", 1), 1),
    ];
    for (text, line) in damage {
        place.put(&text);
        match place.ledger() {
            Err(SplitError::LedgerDamaged { line: found, .. }) => assert_eq!(found, line, "{text}"),
            other => panic!("{other:?} for {text}"),
        }
    }
    fs::write(&place.path, [0xff, 0xfe, b'\n']).expect("writable");
    assert!(matches!(place.ledger(), Err(SplitError::LedgerDamaged { line: 1, .. })));
}

#[test]
fn what_can_be_no_ledger_is_an_error() {
    let place = place();
    let folder = place.path.parent().expect("a folder").to_owned();
    let mut paths = vec![place.path.join("deeper"), folder];
    if cfg!(target_os = "linux") {
        // Devices are endless or keep nothing.
        paths.extend(["/dev/full", "/dev/null", "/dev/zero"].map(PathBuf::from));
    }
    for path in paths {
        let error = Ledger::open(&path, hashes().fingerprint()).expect_err("no ledger");
        assert!(matches!(error, SplitError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn where_no_line_can_be_prepared_nothing_is_shown() {
    let place = place();
    let mut ledger = place.fresh();
    let before = place.text();
    // As in a folder that may be read only: the file beside the ledger cannot be made.
    fs::create_dir(place.next()).expect("writable");
    let mut looked = false;
    let error = sealed(0, 8)
        .open(&mut ledger, &model("a"), |_, _| {
            looked = true;
            Metrics::new()
        })
        .expect_err("no line can be written");
    assert!(matches!(error, SplitError::Io { .. }) && !looked, "{error:?}");
    assert!(ledger.reopen("a reason").is_err());
    assert_eq!(place.text(), before);
    fs::remove_dir(place.next()).expect("writable");
    assert!(open(&mut ledger, sealed(0, 8), "a").is_ok());
}

#[test]
fn a_clock_that_was_set_back_changes_nothing() {
    use sha2::{Digest, Sha256};
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    // The last line once more, as a clock a hundred years ahead would have written it.
    let text = place.text();
    let start = text.trim_end().rfind('\n').expect("several lines") + 1;
    let (body, _) = text[start..].split_once(",\"hash\":").expect("a hash");
    let time = body.find("\"time\":\"2").expect("a time") + "\"time\":\"".len();
    let body = format!("{}2126{}", &body[..time], &body[time + 4..]);
    let hash = crate::hex::encode(&Sha256::digest(body.as_bytes()));
    place.put(&format!("{}{body},\"hash\":\"{hash}\"}}\n", &text[..start]));
    assert_eq!(place.fresh().openings().expect("whole").len(), 1);
    // What is written now is earlier than the line before it, and continues it all the same.
    assert!(open(&mut place.fresh(), sealed(0, 8), "a").expect("the same").repetition);
    assert!(open(&mut place.fresh(), sealed(0, 8), "b").is_err());
    let times: Vec<bool> = place.text().lines().map(|line| line.contains("\"2126-")).collect();
    assert_eq!(times, [false, false, true, false]);
}

/// Cuts the file at many bytes, as a crash would, and looks at what is known afterwards.
#[test]
fn a_crash_at_any_byte_loses_nothing_that_was_acted_upon() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let whole = place.text();
    let ends: Vec<usize> = whole.match_indices('\n').map(|(at, _)| at).collect();
    let near_an_end = |cut: usize| ends.iter().any(|end| cut.abs_diff(*end) < 4);
    for cut in (0..=whole.len()).filter(|&cut| cut % 23 == 0 || near_an_end(cut)) {
        place.put(&whole[..cut]);
        let start = ends.iter().rfind(|&&end| end < cut).map_or(0, |end| end + 1);
        let end = whole[start..].find('\n').map_or(whole.len(), |end| start + end + 1);
        fs::write(place.next(), &whole[start..end]).expect("writable");
        let openings = place.fresh().openings().expect("mended");
        assert!(!place.next().exists(), "cut at {cut}");
        // A line counts from its last byte on, with or without its line feed.
        let lines = ends.iter().filter(|&&end| cut >= end).count();
        assert_eq!(openings.len(), usize::from(lines >= 2), "cut at {cut}");
        assert_eq!(openings.iter().any(|o| o.metrics.is_some()), lines >= 3, "cut at {cut}");
        let other = open(&mut place.fresh(), sealed(0, 8), "b");
        assert_eq!(other.is_ok(), lines < 2, "cut at {cut}");
        if lines >= 2 {
            let same =
                open(&mut place.fresh(), sealed(0, 8), "a").expect("the same model may finish");
            assert_eq!(same.repetition, lines >= 3, "cut at {cut}");
        }
    }
}

#[test]
fn a_tail_that_no_crash_left_is_damage_and_stays() {
    let place = place();
    open(&mut place.fresh(), sealed(0, 8), "a").expect("first opening");
    let whole = place.text();
    assert!(!place.next().exists());
    let second = whole.find('\n').expect("a line") + 1;
    let cut = whole.as_bytes()[..second + 100].to_vec();
    let mut flipped = whole.clone().into_bytes();
    *flipped.last_mut().expect("a byte") ^= 1;
    let notes = b"my important notes".to_vec();
    let zeros = [whole.as_bytes(), &[0; 30]].concat();
    for (bytes, line) in [(cut, 2), (flipped, 3), (notes, 1), (zeros, 4)] {
        for pending in [None, Some("{\"line\":9"), Some("")] {
            fs::write(&place.path, &bytes).expect("writable");
            if let Some(text) = pending {
                fs::write(place.next(), text).expect("writable");
            }
            match place.ledger() {
                Err(SplitError::LedgerDamaged { line: found, .. }) => assert_eq!(found, line),
                other => panic!("{other:?}"),
            }
            assert_eq!(fs::read(&place.path).expect("readable"), bytes);
        }
    }
    // Begun and never written, or written and not removed.
    for pending in [&whole[second..second + 50], &whole[second..]] {
        place.put(&whole);
        fs::write(place.next(), pending).expect("writable");
        assert_eq!(place.fresh().openings().expect("whole").len(), 1);
        assert_eq!((place.text(), place.next().exists()), (whole.clone(), false));
    }
}

#[test]
fn of_racing_models_one_wins() {
    for _ in 0..5 {
        let place = place();
        let results: Vec<_> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|i| {
                    let path = &place.path;
                    scope.spawn(move || {
                        let mut ledger = Ledger::open(path, hashes().fingerprint())?;
                        open(&mut ledger, sealed(0, 8), ["a", "b", "c", "d"][i % 4])
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().expect("no panic")).collect()
        });
        let winners: std::collections::HashSet<_> =
            results.iter().flatten().map(|report| report.opening.model.clone()).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 2);
        assert_eq!(place.fresh().openings().expect("whole").len(), 1);
    }
}

#[test]
fn metrics_that_are_not_finite_survive() {
    let place = place();
    let evaluate =
        |_: &String, _: &Vec<u32>| Metrics::new().with("a", f64::NAN).with("b", f64::NEG_INFINITY);
    sealed(0, 8).open(&mut place.fresh(), &model("a"), evaluate).expect("first opening");
    let again = sealed(0, 8).open(&mut place.fresh(), &model("a"), evaluate).expect("repetition");
    assert!(again.repetition && again.metrics.get("a").is_some_and(f64::is_nan));
}

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(civil(0), "1970-01-01T00:00:00Z");
    assert_eq!(civil(951_827_696), "2000-02-29T12:34:56Z");
    assert_eq!(civil(1_798_761_599), "2026-12-31T23:59:59Z");
    assert_eq!(civil(4_107_542_400), "2100-03-01T00:00:00Z");
}
