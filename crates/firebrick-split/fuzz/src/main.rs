//! Hunts for panics: random bytes become problems, files and JSON, for as many seconds as the argument says.
//!
//! Needs no nightly compiler. `target` takes bytes, so that it also serves a coverage-guided fuzzer. On a panic
//! the bytes are printed and the exit code is 1.

use firebrick_core::{Philox, Seed};
use firebrick_split::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Numbers out of bytes; zeros when they are spent.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }
    /// Small mostly, sometimes on an edge, sometimes anything.
    fn number(&mut self) -> u64 {
        let wide = |bytes: &mut Self| (0..8).fold(0u64, |n, _| n << 8 | u64::from(bytes.byte()));
        match self.byte() {
            0..=199 => u64::from(self.byte() % 24),
            200..=209 => u64::MAX,
            210..=219 => u64::from(u32::MAX) + u64::from(self.byte()),
            220..=229 => 65_530 + u64::from(self.byte() % 16),
            230..=239 => 250 + u64::from(self.byte() % 12),
            _ => wide(self),
        }
    }
    fn float(&mut self) -> f64 {
        match self.byte() % 8 {
            0 => f64::NAN,
            1 => f64::INFINITY,
            2 => -0.0,
            3 => f64::from_bits(self.number()),
            _ => f64::from(self.byte()) / 255.0,
        }
    }
}

fn run<S: Splitter>(scheme: S, rows: &Rows<'_>) {
    if let Ok(splits) = scheme.split(rows) {
        for split in splits.iter().take(12) {
            let excluded = rows.n as i64 - split.valid.len() as i64;
            assert!(!split.valid.is_empty() && excluded >= 0);
        }
        let _ = splits.get(usize::MAX);
    }
    let _ = scheme.spec();
}

fn schemes(bytes: &mut Bytes<'_>) {
    let n = match bytes.byte() % 16 {
        0 => 0,
        1 => 1,
        2 => 600,
        _ => usize::from(bytes.byte() % 60),
    };
    let column = |bytes: &mut Bytes<'_>, n: usize| -> Vec<u32> {
        let spread = bytes.number().max(1);
        (0..n).map(|_| (u64::from(bytes.byte()) * 2_654_435_761 % spread) as u32).collect()
    };
    let short = n - usize::from(bytes.byte() == 7 && n > 0);
    let (labels, groups) = (column(bytes, n), column(bytes, short));
    let mut times: Vec<i64> = (0..n).map(|_| bytes.number() as i64).collect();
    if bytes.byte() % 4 > 0 {
        times.sort_unstable();
    }
    let ends: Vec<i64> = times.iter().map(|t| t.saturating_add(i64::from(bytes.byte() % 5))).collect();
    let target: Vec<f64> = (0..n).map(|_| bytes.float()).collect();
    let sets = LabelSets::from_rows((0..n).map(|_| (0..bytes.byte() % 4).map(|_| u32::from(bytes.byte())).collect::<Vec<_>>()));
    let mut rows = Rows::new(n).with_labels(&labels).with_groups(&groups).with_times(&times).with_ends(&ends).with_target(&target);
    if let Ok(sets) = &sets {
        rows = rows.with_label_sets(sets);
    }
    let (k, a, b, seed) = (bytes.number() as usize, bytes.number(), bytes.number(), Seed(bytes.number()));
    let unit = [TimeUnit::Rows, TimeUnit::Times, TimeUnit::Values, TimeUnit::Groups][usize::from(bytes.byte() % 4)];
    let size = |bytes: &mut Bytes<'_>| -> Size {
        match bytes.byte() % 6 {
            0 => Size::Count(bytes.number() as usize),
            1 => Size::Ratio { num: bytes.number(), den: bytes.number() },
            2 => bytes.float().into(),
            3 => Size::Rest,
            4 => Size::Text(String::from_utf8_lossy(&[bytes.byte(), bytes.byte(), bytes.byte()]).into_owned()),
            _ => "0.3".into(),
        }
    };
    match bytes.byte() % 16 {
        0 => run(KFold::new(k).with_shuffle(seed), &rows),
        1 => run(StratifiedKFold::new(k).with_shuffle(seed), &rows),
        2 => run(GroupKFold::new(k).with_shuffle(seed), &rows),
        3 => run(StratifiedGroupKFold::new(k), &rows),
        4 => run(StratifiedGroupKFold::new(k).with_sklearn_compat(), &rows),
        5 => run(TimeSeries::new(k).with_gap(a).with_test(b).with_unit(unit).with_interleaved(), &rows),
        6 => run(SlidingWindow::new(a, b).with_gap(a).with_step(b).with_unit(unit), &rows),
        7 => run(PurgedKFold::new(k).with_embargo(a), &rows),
        8 => run(CombinatorialPurged::new(k, a as usize).with_purge(b as usize).with_embargo(a as usize), &rows),
        9 => run(Bootstrap::new(k.min(20), seed), &rows),
        10 => run(MultilabelKFold::new(k).with_second_order(), &rows),
        11 => run(TargetKFold::new(k, seed), &rows),
        12 => run(LeavePOut::new(k), &rows),
        13 => run(LeavePGroupsOut::new(k), &rows),
        14 => run(Nested::new(KFold::new(k).with_shuffle(seed), GroupKFold::new(a as usize)), &rows),
        _ => {
            let mut scheme = HoldOut::new(size(bytes)).with_validation(size(bytes)).with_train(size(bytes)).with_min_per_class(a as usize);
            if bytes.byte() % 2 == 0 {
                scheme = scheme.with_stratified().with_rare([Rare::Error, Rare::Pool, Rare::Ignore][usize::from(bytes.byte() % 3)]);
            }
            if bytes.byte() % 2 == 0 {
                scheme = scheme.with_groups([GroupUnit::Rows, GroupUnit::Groups][usize::from(bytes.byte() % 2)]);
            }
            run(Repeated::new(scheme.with_shuffle(seed), k.min(3), seed), &rows);
        }
    }
    let _ = FeistelFolds::new(a, k, seed).map(|folds| (folds.fold_of(b), folds.rows_of(k).next()));
    let _ = HashSplit::new(size(bytes), seed).and_then(|s| s.with_validation(size(bytes))).map(|s| s.part(bytes.0));
    let _ = quantile_bins(&target, k, a as usize);
    let train = Train::new((), (0..n as u32).collect());
    let _ = down_sample(&train, &labels, &Target::Like(groups), seed);
    let _ = WeightedSampler::new(&train, &target).map(|sampler| sampler.draw(9, seed));
    let _ = class_weights(&train, &labels, Weighting::EffectiveNumber { beta: bytes.float() });
    let _ = learning_curve(&train, &labels, &[k, a as usize], seed);
}

/// A valid file with some bytes changed, or any bytes.
fn files(bytes: &mut Bytes<'_>, folder: &std::path::Path) {
    let map = KFold::new(3).split(&Rows::new(9));
    let data = RowHashes::from_bytes(["a", "b"]);
    let path = folder.join("file");
    let _ = std::fs::remove_file(&path);
    let ledger = bytes.byte() % 2 == 0;
    if ledger {
        let _ = Ledger::open(&path, data.fingerprint());
    } else if let Ok(map) = &map {
        let _ = map.save(&path);
    }
    let mut content = std::fs::read(&path).unwrap_or_default();
    for _ in 0..bytes.byte() % 6 {
        let place = usize::from(bytes.byte()) * 256 + usize::from(bytes.byte());
        let len = content.len().max(1);
        match bytes.byte() % 4 {
            0 => content.truncate(place % len),
            1 => content.insert(place % len.min(content.len() + 1), bytes.byte()),
            2 => content.extend_from_slice(&content.clone()[..place % len]),
            _ => {
                if let Some(byte) = content.get_mut(place % len) {
                    *byte ^= 1 << (bytes.byte() % 8);
                }
            }
        }
    }
    let _ = std::fs::write(&path, &content);
    if ledger {
        let _ = Ledger::open(&path, data.fingerprint()).and_then(|ledger| ledger.openings());
    } else {
        let _ = FoldMap::load(&path);
    }
    if let Ok(map) = &map {
        let mut text = serde_json::to_vec(map).unwrap_or_default();
        let place = usize::from(bytes.byte()) % text.len();
        text[place] = bytes.byte();
        let _ = serde_json::from_slice::<FoldMap>(&text).map(|map| map.iter().count());
    }
    let case = format!(
        r#"{{"kind":"{}","n":{},"k":{},"p":{},"y":[{}],"g":[{},1],"test":{},"folds":[[[0],[1]]]}}"#,
        ["kfold", "stratified_kfold", "group_kfold", "time_series", "leave_p_out", "stratified_group_kfold"][usize::from(bytes.byte() % 6)],
        bytes.number() % 3000, bytes.number(), bytes.number(), bytes.number(), bytes.number(), bytes.number(),
    );
    let _ = serde_json::from_str(&case).map(|case| replay(&case));
}

/// The audit of a small problem.
fn audits(bytes: &mut Bytes<'_>) {
    let (n, columns) = (usize::from(bytes.byte() % 90), usize::from(bytes.byte() % 12));
    let values: Vec<f32> = (0..n * columns).map(|_| bytes.float() as f32).collect();
    let labels: Vec<u32> = (0..n).map(|_| u32::from(bytes.byte() % 3)).collect();
    let times: Vec<i64> = (0..n).map(|_| bytes.number() as i64).collect();
    if let Ok(map) = KFold::new(2).with_shuffle(Seed(1)).split(&Rows::new(n)) {
        let audit = Audit::of_fold(&map, 0).with_features(&values, columns).with_labels(&labels).with_groups(&labels).with_times(&times).with_time_split(bytes.number());
        if let Ok(report) = audit.run() {
            let _ = (report.fix(Some(&labels)), report.to_string());
        }
    }
}

fn target(data: &[u8], folder: &std::path::Path) {
    let mut bytes = Bytes(data);
    match bytes.byte() % 64 {
        0 => files(&mut bytes, folder),
        1 | 2 => audits(&mut bytes),
        _ => schemes(&mut bytes),
    }
}

fn main() -> std::process::ExitCode {
    let number = |at, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (seconds, seed): (u64, u64) = (number(1, 60), number(2, 0));
    let folder = std::env::temp_dir().join(format!("firebrick-split-fuzz-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("cannot make {}: {error}", folder.display());
        return 2.into();
    }
    let start = Instant::now();
    let (mut runs, mut failures) = (0u64, 0);
    while start.elapsed() < Duration::from_secs(seconds) && failures < 5 {
        let mut stream = Philox::new(seed, runs);
        let len = stream.below(4000) as usize;
        let data: Vec<u8> = (0..len).map(|_| stream.next_u32() as u8).collect();
        if catch_unwind(AssertUnwindSafe(|| target(&data, &folder))).is_err() {
            failures += 1;
            println!("panic in run {runs} of seed {seed}, {len} bytes: {data:?}");
        }
        runs += 1;
    }
    let _ = std::fs::remove_dir_all(&folder);
    println!("{runs} runs in {:.0} s, {failures} panics", start.elapsed().as_secs_f64());
    u8::from(failures > 0).into()
}
