//! The command: on the embedded digits, on a file with planted leaks, and on what it must refuse.

use firebrick_core::Seed;
use firebrick_split::{
    AuditReport, Check, FoldMap, GroupKFold, ListManifest, Manifest, Predefined, Rows, Splitter,
    StratifiedKFold, Verdict,
};
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
    let cells = "x,label,day,empty,part,same\n1,a,2026-01-01,u,train,one\n2,a,soon,,,one\n3,b,,v,tset,one\n";
    std::fs::write(&file, cells).expect("writable");
    let file = file.to_str().expect("a name");
    let cases: &[(&[&str], &str)] = &[
        (&["--csv", "no-such.csv"], "cannot read no-such.csv"),
        (&["--csv", file, "--label", "lable"], "no column \"lable\"; there are 6: x, label, day"),
        (&["--csv", file, "--label", "label"], "the validation part would be empty: 3 rows"),
        (
            &["--csv", file, "--label", "label", "--validation", "0"],
            "1 (1 rows); pool or ignore them with `with_rare`; class 1 is \"b\"; here: --rare pool",
        ),
        (&["--csv", file, "--label", "label", "--rare", "maybe"], "error, pool or ignore"),
        (&["--csv", file, "--time", "day"], "row 1 of the time column"),
        (&["--csv", file, "--scheme", "k_fold", "--k", "9"], "got 9 for 3 rows"),
        (
            &["--csv", file, "--scheme", "magic"],
            "unknown scheme \"magic\"; there are hold_out, time",
        ),
        (&["--csv", file, "--gap", "1"], "--gap does nothing here: it is for time_series"),
        (&["--csv", file, "--label", "empty"], "row 1 of column \"empty\" has no value: \"\""),
        (&["--csv", file, "--group", "empty"], "row 1 of column \"empty\" has no value: \"\""),
        (&["--csv", file, "--part", "part"], "row 2 of the part column is \"tset\", but others"),
        (&["--csv", file, "--part", "same"], "all 3 rows are in fold \"one\""),
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

/// Files as they come from other programs and other people.
#[test]
fn files_that_are_hardly_csv_are_read_or_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, out) = (folder.path().join("odd.csv"), folder.path().join("out"));
    let (csv, to) = (file.to_str().expect("a name"), out.to_str().expect("a name"));
    let run = |content: &[u8], words: &[&str]| {
        std::fs::write(&file, content).expect("writable");
        split(&[&["--csv", csv, "--out", to], words].concat())
    };
    // A byte order mark, all line ends, quoted names and cells, gaps, an empty line at the end.
    let rows = |end: &str| -> String {
        let row = |row: usize| {
            let gap = if row.is_multiple_of(9) { String::new() } else { format!("{}.5", row / 2) };
            format!("{gap},\"say \"\"{}\"\", he said\",\"{}\"{end}", row % 5, ["a", "b"][row % 2])
        };
        format!("\u{feff}size,note,\"my kind\"{end}{}{end}", (0..40).map(row).collect::<String>())
    };
    let mut seen = BTreeSet::new();
    for end in ["\n", "\r\n", "\r"] {
        let printed = text(&run(rows(end).as_bytes(), &["--label", "my kind", "--seed", "1"]));
        assert!(printed.starts_with("40 rows, 3 columns"), "{end:?}: {printed}");
        seen.insert(hold_out(&out));
    }
    assert_eq!(seen.len(), 1, "line ends change no split");
    // One class, and labels that are fractions of few values.
    let one: String = (0..20).map(|row| format!("{row},same\n")).collect();
    assert!(
        text(&run(format!("x,y\n{one}").as_bytes(), &["--label", "y"])).contains("same 100.0 %")
    );
    let halves: String =
        (0..40).map(|row| format!("{row},{}\n", f64::from(row % 4) / 2.0)).collect();
    assert!(
        text(&run(format!("x,y\n{halves}").as_bytes(), &["--label", "y"])).contains("0.5 25.0 %")
    );
    let cases: &[(&[u8], &[&str], &str)] = &[
        (b"", &[], "the file is empty"),
        (b"\n\n", &[], "the file is empty"),
        (b"\xef\xbb\xbf", &[], "the file is empty"),
        (b"x,y\n", &[], "there is a header, but no row"),
        (b"x,y\n1,2\n1,2,3\n", &[], "line 3 has 3 cells, the first has 2"),
        (b"x,y\n1,\"2\n1,2\n", &[], "the quoted cell that begins on line 2 has no end"),
        (b"x,y\n1,\xff\n", &[], "is not UTF-8 text: see line 2"),
        (b"\xff\xfex\0,\0y\0", &[], "is not UTF-8 text: see line 1"),
        (b"\x1f\x8b\x08\0", &[], "cannot read"),
        (b"x,y,y\n1,2,3\n", &["--label", "y"], "2 columns are called \"y\""),
        (b"x;y\n1;2\n", &["--label", "y"], "cells must be separated by commas"),
        (
            b"x,y\n1,0.25\n2,0.5\n3,0.75\n4,1.5\n",
            &["--label", "y", "--validation", "0"],
            "class 0 is \"0.25\"",
        ),
        (b"x,t\n1,1.5\n2,2.5\n", &["--time", "t"], "neither a whole number nor a date: \"1.5\""),
        (b"x,t\n1,99999999999999999999\n", &["--time", "t"], "neither a whole number nor a date"),
        (b"x,y\n1,2\n", &["--label", "y", "--label", "x"], "--label is given twice"),
    ];
    for (content, words, part) in cases {
        let output = run(content, words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{part}: {error}");
        assert!(error.starts_with("error: ") && error.contains(part), "{part}: {error}");
    }
}

/// All lists of a hold-out.
fn hold_out(folder: &Path) -> Vec<Vec<u32>> {
    ["train", "validation", "test"].map(|part| rows(folder, part)).to_vec()
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("rows.csv");
    let cells: String = (0..40).map(|row| format!("{row}.5,{}\n", row % 2)).collect();
    std::fs::write(&file, format!("x,y\n{cells}")).expect("writable");
    let (csv, out) = (file.to_str().expect("a name"), folder.path().join("out"));
    let full = std::fs::File::options().write(true).open("/dev/full").expect("a full disk");
    let printed = Command::new(env!("CARGO_BIN_EXE_split"))
        .args(["--csv", csv, "--out", out.to_str().expect("a name")])
        .stdout(full)
        .output()
        .expect("runs");
    assert_eq!(printed.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&printed.stderr).contains("cannot print the result"));
    // A file where the folder should be, and a folder that nobody can make.
    for place in [csv, "/proc/no-such-folder"] {
        let output = split(&["--csv", csv, "--out", place]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(&format!("cannot write {place}")), "{error}");
    }
}

#[test]
fn a_given_split_may_leave_rows_out() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, out) = (folder.path().join("given.csv"), folder.path().join("out"));
    let (csv, to) = (file.to_str().expect("a name"), out.to_str().expect("a name"));
    std::fs::write(&file, "x,part\n1,train\n2,\n3,Test\n4,-1\n5,train\n6,dev\n").expect("writable");
    text(&split(&["--csv", csv, "--part", "part", "--out", to]));
    let parts = ["train", "validation", "test"].map(|part| rows(&out, part));
    assert_eq!(parts, [vec![0, 4], vec![5], vec![2]]);
    // Folds of any name; the certificate knows them by their lists.
    std::fs::write(&file, "x,part\n1,b\n2,a\n3,\n4,b\n").expect("writable");
    text(&split(&["--csv", csv, "--part", "part", "--out", to]));
    let manifest: ListManifest = read(&out.join("manifest.json"));
    let of = |folds: [Option<u32>; 4]| {
        Predefined::new(folds.to_vec()).split(&Rows::new(4)).expect("splits")
    };
    assert!(manifest.check(&of([Some(1), Some(0), None, Some(1)])).is_ok());
    assert!(manifest.check(&of([Some(1), Some(0), Some(0), Some(1)])).is_err());
    assert_eq!(manifest.sizes, [[3, 1], [2, 2]]);
    assert!(manifest.fingerprint.is_some());
}

#[test]
fn lists_of_a_former_run_are_removed() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, out) = (folder.path().join("rows.csv"), folder.path().join("out"));
    let (csv, to) = (file.to_str().expect("a name"), out.to_str().expect("a name"));
    let cells: Vec<String> = (0..40).map(|row| format!("{row},{}\n", row % 4)).collect();
    std::fs::write(&file, format!("x,y\n{}", cells.concat())).expect("writable");
    let names = || {
        let entries = std::fs::read_dir(&out).expect("a folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("readable").file_name().to_string_lossy().into_owned()
        };
        entries.map(name).collect::<BTreeSet<String>>()
    };
    text(&split(&["--csv", csv, "--scheme", "KFold", "--k", "4", "--out", to]));
    assert_eq!(names().len(), 3 + 8);
    for other in ["notes.txt", "fold-x-train.txt"] {
        std::fs::write(out.join(other), "mine").expect("writable");
    }
    text(&split(&["--csv", csv, "--scheme", "kfold", "--k", "2", "--out", to]));
    assert_eq!(names().len(), 3 + 4 + 2);
    text(&split(&["--csv", csv, "--out", to]));
    let left =
        ["audit.json", "folds.map", "manifest.json", "test.txt", "train.txt", "validation.txt"];
    let mine = ["fold-x-train.txt", "notes.txt"];
    assert_eq!(
        names(),
        left.into_iter().chain(mine).map(str::to_owned).collect::<BTreeSet<String>>()
    );
    // Series have no map, so none may stay.
    text(&split(&["--csv", csv, "--scheme", "time_series", "--k", "2", "--out", to]));
    assert_eq!(names().len(), 2 + 4 + 2);
    // The input is nobody's former list.
    let input = out.join("train.txt");
    std::fs::copy(&file, &input).expect("writable");
    let output = split(&["--csv", input.to_str().expect("a name"), "--out", to]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the input: give another --out"));
    assert!(input.is_file());
}

#[test]
fn schemes_give_the_lists_of_the_library_whatever_their_spelling() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (file, out) = (folder.path().join("rows.csv"), folder.path().join("out"));
    let (csv, to) = (file.to_str().expect("a name"), out.to_str().expect("a name"));
    // Counted columns, the label among them by name.
    let cells: Vec<String> =
        (0..30).map(|row| format!("{row}.5,{},g{}\n", row % 3, row / 5)).collect();
    std::fs::write(&file, format!("0,kind,owner\n{}", cells.concat())).expect("writable");
    let labels: Vec<u32> = (0..30).map(|row| row % 3).collect();
    let groups: Vec<u32> = (0..30).map(|row| row / 5).collect();
    let rows_of = Rows::new(30).with_labels(&labels).with_groups(&groups);
    let stratified = StratifiedKFold::new(5).with_shuffle(Seed(3)).split(&rows_of).expect("splits");
    let grouped = GroupKFold::new(3).with_shuffle(Seed(3)).split(&rows_of).expect("splits");
    let common = ["--csv", csv, "--label", "kind", "--group", "owner", "--seed", "3", "--out", to];
    for name in ["StratifiedKFold", "stratified_kfold", "stratified-k-fold"] {
        text(&split(&[&common[..], &["--scheme", name]].concat()));
        assert_eq!(rows(&out, "fold-4-validation"), stratified.fold(4).expect("exists"));
    }
    text(&split(&[&common[..], &["--scheme", "groupkfold", "--k", "3"]].concat()));
    assert_eq!(rows(&out, "fold-2-train"), grouped.train(2).expect("exists"));
    // The same file without a header has one row more, of a class of its own.
    let output = split(&["--csv", csv, "--label", "1", "--header", "no", "--out", to]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("\"kind\""));
}

#[test]
fn more_lists_than_can_be_written_are_refused_before_any_is_made() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("many.csv");
    let cells: String = (0..16_385).map(|row| format!("0.5,g{row}\n")).collect();
    std::fs::write(&file, format!("x,owner\n{cells}")).expect("writable");
    let csv = file.to_str().expect("a name");
    let output = split(&["--csv", csv, "--group", "owner", "--scheme", "LeaveOneGroupOut"]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("16385 splits of 16385 rows would list 268468225 rows"), "{error}");
}

#[cfg(unix)]
#[test]
fn words_that_are_no_text_are_an_error() {
    use std::os::unix::ffi::OsStringExt as _;
    let word = std::ffi::OsString::from_vec(vec![b'a', 0xff]);
    let output = Command::new(env!("CARGO_BIN_EXE_split")).arg(word).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not UTF-8 text"));
}
