//! What is fuzzed: bytes become problems, files and JSON; whatever they are, nothing may panic.

use firebrick_core::Seed;
use firebrick_split::*;
use std::path::Path;

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
    if !bytes.byte().is_multiple_of(4) {
        times.sort_unstable();
    }
    let ends: Vec<i64> =
        times.iter().map(|t| t.saturating_add(i64::from(bytes.byte() % 5))).collect();
    let target: Vec<f64> = (0..n).map(|_| bytes.float()).collect();
    let sets = LabelSets::from_rows(
        (0..n).map(|_| (0..bytes.byte() % 4).map(|_| u32::from(bytes.byte())).collect::<Vec<_>>()),
    );
    let mut rows = Rows::new(n)
        .with_labels(&labels)
        .with_groups(&groups)
        .with_times(&times)
        .with_ends(&ends)
        .with_target(&target);
    if let Ok(sets) = &sets {
        rows = rows.with_label_sets(sets);
    }
    let (k, a, b, seed) =
        (bytes.number() as usize, bytes.number(), bytes.number(), Seed(bytes.number()));
    let unit = [TimeUnit::Rows, TimeUnit::Times, TimeUnit::Values, TimeUnit::Groups]
        [usize::from(bytes.byte() % 4)];
    let size = |bytes: &mut Bytes<'_>| -> Size {
        match bytes.byte() % 6 {
            0 => Size::Count(bytes.number() as usize),
            1 => Size::Ratio { num: bytes.number(), den: bytes.number() },
            2 => bytes.float().into(),
            3 => Size::Rest,
            4 => Size::Text(
                String::from_utf8_lossy(&[bytes.byte(), bytes.byte(), bytes.byte()]).into_owned(),
            ),
            _ => "0.3".into(),
        }
    };
    match bytes.byte() % 24 {
        0 => run(KFold::new(k).with_shuffle(seed), &rows),
        1 => run(StratifiedKFold::new(k).with_shuffle(seed), &rows),
        2 => run(GroupKFold::new(k).with_shuffle(seed), &rows),
        3 => run(StratifiedGroupKFold::new(k), &rows),
        4 => run(StratifiedGroupKFold::new(k).with_sklearn_compat(), &rows),
        5 => run(
            TimeSeries::new(k).with_gap(a).with_test(b).with_unit(unit).with_interleaved(),
            &rows,
        ),
        6 => run(SlidingWindow::new(a, b).with_gap(a).with_step(b).with_unit(unit), &rows),
        15 => run(TimeSeries::new(k).with_max_train(a).with_unit(unit), &rows),
        16 => run(
            SlidingWindow::new(a, b)
                .with_keep_partial()
                .with_cap((b % 5000).into())
                .with_interleaved()
                .with_unit(unit),
            &rows,
        ),
        17 => run(SlidingWindow::new(a, b).with_anchor_start().with_unit(unit), &rows),
        18 => run(
            Predefined::new((0..n).map(|_| u32::try_from(bytes.number()).ok()).collect()),
            &rows,
        ),
        19 => run(
            MultilabelHoldOut::new(size(bytes)).with_validation(size(bytes)).with_shuffle(seed),
            &rows,
        ),
        20 => run(MultilabelKFold::new(k).with_shuffle(seed), &rows),
        21 => run(HoldOut::validation_only(size(bytes)).with_train(size(bytes)), &rows),
        22 => run(
            Nested::new(
                StratifiedKFold::new(k),
                Repeated::new(TargetKFold::new(a as usize, seed), 2, seed),
            ),
            &rows,
        ),
        7 => run(PurgedKFold::new(k).with_embargo(a), &rows),
        8 => run(
            CombinatorialPurged::new(k, a as usize).with_purge(b as usize).with_embargo(a as usize),
            &rows,
        ),
        9 => run(Bootstrap::new(k.min(20), seed), &rows),
        10 => run(MultilabelKFold::new(k).with_second_order(), &rows),
        11 => run(TargetKFold::new(k, seed), &rows),
        12 => run(LeavePOut::new(k), &rows),
        13 => run(LeavePGroupsOut::new(k), &rows),
        14 => {
            run(Nested::new(KFold::new(k).with_shuffle(seed), GroupKFold::new(a as usize)), &rows)
        }
        _ => {
            let mut scheme =
                HoldOut::new(size(bytes)).with_validation(size(bytes)).with_train(size(bytes));
            let (stratified, grouped) =
                (bytes.byte().is_multiple_of(2), bytes.byte().is_multiple_of(2));
            if stratified {
                scheme = scheme.with_stratified();
            }
            if grouped {
                scheme = scheme.with_groups(
                    [GroupUnit::Rows, GroupUnit::Groups][usize::from(bytes.byte() % 2)],
                );
            } else if stratified {
                scheme = scheme.with_min_per_class(a as usize).with_rare(
                    [Rare::Error, Rare::Pool, Rare::Ignore][usize::from(bytes.byte() % 3)],
                );
            }
            run(Repeated::new(scheme.with_shuffle(seed), k.min(3), seed), &rows);
        }
    }
    let _ = FeistelFolds::new(a, k, seed).map(|folds| (folds.fold_of(b), folds.rows_of(k).next()));
    let _ = HashSplit::new(size(bytes), seed)
        .and_then(|s| s.with_validation(size(bytes)))
        .map(|s| s.part(bytes.0));
    let _ = quantile_bins(&target, k, a as usize);
    let train = Train::new((), (0..n as u32).collect());
    let _ = down_sample(&train, &labels, &Target::Like(groups), seed);
    let _ = WeightedSampler::new(&train, &target).map(|sampler| sampler.sample(9, seed));
    let shares = Target::Shares((0..3).map(|label| (label, bytes.float())).collect());
    let _ =
        WeightedSampler::to_target(&train, &labels, &shares).map(|sampler| sampler.sample(9, seed));
    let _ = down_sample(&train, &labels, &shares, seed);
    let counts = Target::Counts((0..3).map(|label| (label, bytes.number() as usize)).collect());
    let _ = down_sample(&train, &labels, &counts, seed);
    let _ = class_weights(&train, &labels, Weighting::EffectiveNumber { beta: bytes.float() });
    let _ = learning_curve(&train, &labels, &[k, a as usize], seed);
    let halving = Halving::new(k, a as usize, b as usize).with_eta(n);
    let _ = (halving.samples(&train, &labels, seed), hyperband(a as usize, b as usize, k));
}

/// Encodings, estimates and hold-outs that are asked again.
fn numbers(bytes: &mut Bytes<'_>) {
    let n = usize::from(bytes.byte() % 30);
    let floats: Vec<f64> = (0..n).map(|_| bytes.float()).collect();
    let values: Vec<f32> = floats.iter().map(|&value| value as f32).collect();
    let codes: Vec<u32> = (0..n).map(|_| bytes.number() as u32).collect();
    let columns = bytes.number() as usize;
    let _ = encode::floats("labels", &floats);
    let _ = (encode::sorted(codes.iter()), encode::by_appearance(codes.iter()));
    let _ = LabelSets::from_indicators(&vec![true; n], columns).map(|sets| sets.select(&codes));
    let _ = RowHashes::from_f32(&values, columns, Some(&codes))
        .and_then(|hashes| hashes.select_sorted(&codes));
    let losses = codes.iter().copied().zip(floats.iter().copied());
    let _ = BootstrapEstimate::new(columns.min(100), bytes.float(), losses, bytes.float());
    let _ = no_information_error(&codes, &codes[..n / 2]);
    let _ = corrected_probability(bytes.float(), bytes.float());
    let _ = survivors(&floats, columns);
    let _ = combinations(bytes.number(), bytes.number());
    if let Ok(mut ladder) = Ladder::new(bytes.float()) {
        let _ = (ladder.submit(bytes.float()), ladder.submit(bytes.float()));
    }
    if let Ok(mut holdout) =
        Thresholdout::new(bytes.float(), bytes.float(), bytes.number(), Seed(bytes.number()))
    {
        let _ =
            (holdout.ask(bytes.float(), bytes.float()), holdout.ask(bytes.float(), bytes.float()));
    }
    let roles: Vec<u8> = (0..n).map(|_| bytes.byte() % 5).collect();
    if let Ok(roles) = Roles::from_numbers(&roles) {
        let _ = roles
            .divide(&RowHashes::new(vec![1; columns.min(40)]), |_, rows| rows.len())
            .map(|parts| parts.test.len());
    }
}

/// A valid file with some bytes changed, or any bytes.
fn files(bytes: &mut Bytes<'_>, folder: &Path) {
    let map = KFold::new(3).split(&Rows::new(9));
    let data = RowHashes::from_bytes(["a", "b"]);
    let path = folder.join("file");
    let _ = std::fs::remove_file(&path);
    let ledger = bytes.byte().is_multiple_of(2);
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
        let _ = serde_json::from_slice::<Roles>(&text)
            .map(|roles| (roles.sizes(), roles.development()));
        let mut text = serde_json::to_vec(&map.manifest()).unwrap_or_default();
        let place = usize::from(bytes.byte()) % text.len();
        text[place] = bytes.byte();
        let _ = serde_json::from_slice::<Manifest>(&text).map(|manifest| manifest.check(map));
    }
    let case = format!(
        r#"{{"kind":"{}","n":{},"k":{},"p":{},"y":[{}],"g":[{},1],"test":{},"folds":[[[0],[1]]]}}"#,
        [
            "kfold",
            "stratified_kfold",
            "group_kfold",
            "time_series",
            "leave_p_out",
            "stratified_group_kfold",
            "leave_p_groups_out",
            "predefined"
        ][usize::from(bytes.byte() % 8)],
        bytes.number() % 3000,
        bytes.number(),
        bytes.number(),
        bytes.number(),
        bytes.number(),
        bytes.number(),
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
        let texts: Vec<String> = (0..n)
            .map(|_| {
                format!("{} {}", bytes.byte() % 4, "word ".repeat(usize::from(bytes.byte() % 9)))
            })
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let rows = Rows::new(n).with_labels(&labels).with_groups(&labels).with_times(&times);
        let mut audit = Audit::of_fold(&map, bytes.number() as usize)
            .with_rows(&rows)
            .with_time_split(bytes.number());
        if !bytes.byte().is_multiple_of(4) {
            audit = audit.with_features(&values, columns);
        }
        if !bytes.byte().is_multiple_of(2) {
            audit = audit.with_texts(&texts);
        }
        if let Ok(report) = audit.run() {
            let _ = (report.fix(Some(&labels)), report.to_string());
        }
    }
}

/// One run: the first byte chooses what the others are for.
pub(crate) fn target(data: &[u8], folder: &Path) {
    let mut bytes = Bytes(data);
    match bytes.byte() % 64 {
        0 => files(&mut bytes, folder),
        1 | 2 => audits(&mut bytes),
        3 => numbers(&mut bytes),
        _ => schemes(&mut bytes),
    }
}
