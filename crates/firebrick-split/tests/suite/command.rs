//! The command: on the embedded digits, on a file with planted leaks, and on what it must refuse.

use firebrick_core::Seed;
use firebrick_split::{AuditReport, Check, FoldMap, Manifest, Verdict};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

fn split(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_split")).args(words).output().expect("the command runs")
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> T {
    serde_json::from_slice(&std::fs::read(path).expect("was written")).expect("is JSON of its kind")
}

fn rows(folder: &Path, name: &str) -> Vec<u32> {
    let text = std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("was written");
    text.lines().map(|line| line.parse().expect("a row number")).collect()
}

fn check<'a>(report: &'a AuditReport, name: &str) -> &'a Check {
    report.check(name).expect("the check exists")
}

#[test]
fn the_embedded_digits_are_split_listed_and_certified() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().to_str().expect("a name");
    let digits = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data/optdigits-1797.csv.gz");
    let printed = text(&split(&["--csv", digits, "--label", "-1", "--seed", "7", "--out", out]));
    assert!(printed.starts_with("1797 rows, 65 columns; stratified_hold_out"), "{printed}");
    for part in ["train", "validation", "test", "exact duplicates", "adversarial validation"] {
        assert!(printed.contains(part), "{printed}");
    }
    let parts = ["train", "validation", "test"].map(|part| rows(folder.path(), part));
    assert_eq!(parts.each_ref().map(Vec::len), [1168, 270, 359]);
    let mut all = parts.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1797));
    let map = FoldMap::load(folder.path().join("folds.map")).expect("loads");
    let manifest: Manifest = read(&folder.path().join("manifest.json"));
    assert!(manifest.check(&map).is_ok() && manifest.fingerprint.is_some());
    assert_eq!(map.fold(2).expect("exists"), parts[2]);
    let report: AuditReport = read(&folder.path().join("audit.json"));
    assert_eq!(check(&report, "exact duplicates").verdict, Verdict::Clean);
    // The same seed again, the same lists; another, others.
    let again = tempfile::tempdir().expect("temporary folder");
    let out = again.path().to_str().expect("a name");
    text(&split(&["--csv", digits, "--label", "64", "--seed=7", "--out", out]));
    assert_eq!(rows(again.path(), "test"), parts[2]);
    text(&split(&["--csv", digits, "--label", "64", "--seed=8", "--out", out]));
    assert_ne!(rows(again.path(), "test"), parts[2]);
}

const N: usize = 240;

/// 240 rows: two thirds for training, then for the test. Planted: 11 test rows that repeat training rows (in spite of
/// their identities), 4 groups on both sides, 9 training rows from the time of the test.
fn planted() -> String {
    let mut stream = Seed(3).stream("command");
    let cells: Vec<[String; 4]> = (0..N)
        .map(|_| {
            std::array::from_fn(|c| match c {
                3 => format!("word{} word{}", stream.below(50), stream.below(50)),
                _ => format!("{:.4}", stream.normal()),
            })
        })
        .collect();
    let mut text = "id,a,b,c,note,label,owner,day,part\n".to_owned();
    for row in 0..N {
        let trained = row < 160;
        let [a, b, c, note] = &cells[if (200..211).contains(&row) { row - 100 } else { row }];
        let owner = match row {
            220..224 => row - 220,
            _ if trained => row / 4,
            _ => 100 + row / 4,
        };
        let day = if (10..19).contains(&row) || !trained { 1 + row % 28 } else { 1 + row / 6 };
        let month = if (10..19).contains(&row) || !trained { "06" } else { "01" };
        let part = if trained { "train" } else { "test" };
        let label = ["yes", "no"][row * 7 % 5 % 2];
        text += &format!(
            "r{row},{a},{b},{c},\"{note}, \"\"{note}\"\"\",{label},o{owner},2026-{month}-{day:02},{part}\n"
        );
    }
    text
}

#[test]
fn planted_duplicates_groups_and_times_are_found_in_a_given_split() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("planted.csv");
    std::fs::write(&file, planted()).expect("writable");
    let (file, out) = (file.to_str().expect("a name"), folder.path().join("out"));
    let common = ["--csv", file, "--label", "label", "--group", "owner", "--time", "day"];
    let run = |more: &[&str]| {
        let to = ["--out", out.to_str().expect("a name")];
        let printed = text(&split(&[&common, more, &to].concat()));
        (printed, read::<AuditReport>(&out.join("audit.json")))
    };
    let (printed, report) = run(&["--part", "part"]);
    let of = |name: &str| (check(&report, name).verdict, check(&report, name).count);
    assert_eq!(of("exact duplicates"), (Verdict::Error, 11));
    assert_eq!(of("groups across parts"), (Verdict::Error, 4));
    assert_eq!(of("times across parts"), (Verdict::Warning, 9));
    assert!(printed.contains("no value occurs twice: id"), "{printed}");
    assert!(printed.contains("held-out row 200 equals training row 100"), "{printed}");
    assert!(printed.contains("is in the training and test parts"), "{printed}");
    let pairs: BTreeSet<(u32, u32)> = report.pairs.iter().copied().collect();
    assert!((200..211).all(|row| pairs.contains(&(row - 100, row))));

    // Without that column: a scheme that looks at none of it says so, and the audit finds what it tore apart.
    let bare: Vec<String> = planted()
        .lines()
        .map(|line| format!("{}\n", line.rsplit_once(',').expect("many cells").0))
        .collect();
    std::fs::write(file, bare.concat()).expect("writable");
    let (printed, report) = run(&["--scheme", "k_fold"]);
    assert!(printed.contains("warning: k_fold ignores the column `groups`"), "{printed}");
    assert_eq!(check(&report, "groups across parts").verdict, Verdict::Error);
    assert_eq!(check(&report, "times across parts").verdict, Verdict::Warning);
    assert_eq!(check(&report, "exact duplicates").verdict, Verdict::Error);
    // One that keeps groups whole leaves none of them across.
    let (_, report) = run(&["--scheme", "hold_out"]);
    assert_eq!(check(&report, "groups across parts").verdict, Verdict::Clean);
}

#[test]
fn what_cannot_be_split_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("few.csv");
    std::fs::write(&file, "x,label,day\n1,a,2026-01-01\n2,a,soon\n3,b,\n").expect("writable");
    let file = file.to_str().expect("a name");
    let cases: &[(&[&str], &str)] = &[
        (&["--csv", "no-such.csv"], "cannot read no-such.csv"),
        (&["--csv", file, "--label", "lable"], "no column \"lable\"; there are 3: x, label, day"),
        (&["--csv", file, "--label", "label"], "the validation part would be empty: 3 rows"),
        (
            &["--csv", file, "--label", "label", "--validation", "0"],
            "1 (1 rows); pool or ignore them with `with_rare`; class 1 is \"b\"; here: --rare pool",
        ),
        (&["--csv", file, "--label", "label", "--rare", "maybe"], "error, pool or ignore"),
        (&["--csv", file, "--time", "day"], "row 1 of the time column"),
        (&["--csv", file, "--scheme", "k_fold", "--k", "9"], "got 9 for 3 rows"),
        (&["--csv", file, "--scheme", "magic"], "unknown scheme"),
        (&["--csv", file, "--test", "1.5"], "strictly between 0 and 1"),
        (&["--csv", file, "--k", "-1"], "--k must be a whole number"),
        (&["--csv"], "--csv needs a value"),
        (&["--label", "x"], "--csv is missing"),
        (&["--csv", file, "--verbose"], "unknown argument"),
    ];
    for (words, part) in cases {
        let output = split(words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.starts_with("error: ") && error.contains(part), "{words:?}: {error}");
    }
    assert!(text(&split(&["--help"])).contains("usage: split --csv FILE"));
}
