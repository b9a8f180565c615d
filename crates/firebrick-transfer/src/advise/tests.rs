//! The adviser on made data whose answer is known, and the measurement on made scores.

use super::*;
use crate::score::Features;
use firebrick_core::{Philox, Seed};
use std::collections::HashSet;
use std::sync::Mutex;

/// `n` samples of three classes whose means stand `signal` apart in noise of 1.
fn blobs(n: usize, signal: f64, stream: u64) -> Features {
    let mut draws = Philox::new(1, stream);
    let values = (0..n).flat_map(|row| {
        let noise: Vec<f64> = (0..4).map(|_| draws.normal()).collect();
        noise.into_iter().enumerate().map(move |(k, x)| if k == row % 3 { x + signal } else { x })
    });
    Features::new(values.collect(), 4).expect("finite")
}

fn labels(n: usize) -> Vec<u32> {
    (0..n as u32).map(|row| row % 3).collect()
}

fn adviser() -> Adviser {
    Adviser::new(AdviserConfig::default()).expect("valid")
}

fn look(n: usize, source: f64, raw: f64) -> Advice {
    let labels = labels(n);
    let (seen, raw, fresh) = (blobs(n, source, 1), blobs(n, raw, 2), blobs(n, 0.0, 3));
    let target = Target::new(&seen, &labels, 3).raw(&raw).fresh(&fresh);
    adviser().look(&target).expect("fits")
}

#[test]
fn the_four_cells_are_told() {
    for (n, source, raw, cell, survey) in [
        (60, 6.0, 1.0, Cell::FewSimilar, Tuning::HeadOnly),
        (60, 0.5, 3.0, Cell::FewDifferent, Tuning::FreezeFirst),
        (600, 0.5, 3.0, Cell::ManyDifferent, Tuning::Scratch),
        (600, 6.0, 1.0, Cell::ManySimilar, Tuning::Full),
    ] {
        let advice = look(n, source, raw);
        assert_eq!((advice.cell, advice.survey), (Some(cell), Some(survey)), "{advice}");
        assert!(advice.confidence > 0.95, "{advice}");
        let similar = matches!(cell, Cell::FewSimilar | Cell::ManySimilar);
        let told = if similar { Similarity::Similar } else { Similarity::Different };
        assert_eq!(advice.similarity, told);
    }
    // Where table and measurements agree the answer is the recipe, else a short list with both on it.
    assert_eq!(look(60, 6.0, 1.0).verdict, Verdict::Recipe(Tuning::HeadOnly));
    assert_eq!(look(600, 6.0, 1.0).verdict, Verdict::Recipe(Tuning::Full));
    assert_eq!(look(600, 0.5, 3.0).verdict, Verdict::Recipe(Tuning::Scratch));
    let Verdict::Measure(list) = look(60, 0.5, 3.0).verdict else { panic!("the rules differ") };
    assert_eq!(list, [Tuning::FreezeFirst, Tuning::Full, Tuning::LpFt, Tuning::Scratch]);
}

#[test]
fn it_abstains_where_it_cannot_know() {
    // Equal features: the lift is about 0.2 to 0.25 for neither; a border inside the interval.
    let advice = look(60, 2.0, 1.6);
    assert_eq!(advice.similarity, Similarity::Unclear, "{advice}");
    let list = [Tuning::HeadOnly, Tuning::FreezeFirst, Tuning::Full, Tuning::LpFt];
    assert_eq!(advice.verdict, Verdict::Measure(list.into()));
    // Two samples a class say nothing, however clear they look.
    let advice = look(6, 9.0, 0.0);
    assert_eq!(advice.similarity, Similarity::Unclear, "{advice}");
    // No baseline, no cell.
    let (seen, labels) = (blobs(60, 6.0, 1), labels(60));
    let advice = adviser().look(&Target::new(&seen, &labels, 3)).expect("fits");
    assert_eq!((advice.cell, advice.lift, advice.confidence), (None, None, 0.0));
    assert!(matches!(advice.verdict, Verdict::Measure(_)), "{advice}");
    // Between few and many.
    assert_eq!(look(150, 6.0, 1.0).size, Size::Unclear);
    // Features that know nothing.
    let advice = look(60, 0.0, 0.0);
    assert!(matches!(advice.verdict, Verdict::Measure(_)));
    assert!(advice.to_string().contains("no better than the most frequent class"), "{advice}");
}

#[test]
fn it_trains_only_where_the_look_leaves_it_open() {
    let labels = labels(60);
    let (clear, dull) = (blobs(60, 6.0, 1), blobs(60, 0.5, 1));
    let (plain, good) = (blobs(60, 1.0, 2), blobs(60, 3.0, 2));
    let contender = |recipe: Tuning| Contender {
        name: recipe.to_string(),
        recipe,
        parameters: 10,
        steps: 10,
        rates: vec![0.1],
    };
    let how = measured(MeasureConfig::default());
    let choose = |target: &Target<'_>, best: Option<Tuning>| {
        let score = |trial: &Trial<'_, Tuning>| {
            let best = best.ok_or("nothing was to be trained")?;
            Ok::<_, &str>(if trial.contender.recipe == best { 0.9 } else { 0.7 })
        };
        adviser().choose(target, &how, contender, Seed(1), score)
    };
    let sure = Target::new(&clear, &labels, 3).raw(&plain);
    let chosen = choose(&sure, None).expect("is sure");
    assert_eq!((chosen.tuning, &chosen.measurement), (Tuning::HeadOnly, &None));
    assert_eq!(chosen.advice, adviser().look(&sure).expect("fits"));
    let open = Target::new(&dull, &labels, 3).raw(&good);
    let chosen = choose(&open, Some(Tuning::Scratch)).expect("measures");
    let (Verdict::Measure(list), Some(found)) = (&chosen.advice.verdict, &chosen.measurement)
    else {
        panic!("it was not measured")
    };
    assert_eq!(chosen.tuning, Tuning::Scratch);
    let names: Vec<String> = list.iter().map(Tuning::to_string).collect();
    assert!(found.entries.iter().map(|entry| &entry.name).eq(&names));
    // Against the rule's choice.
    assert_eq!(chosen.advice.revised, Tuning::LpFt);
    assert!((found.regret_of_expected.expect("on the list") - 0.2).abs() < 1e-12);
    // One standard error of 0.9 on 60 rows is 0.055: the rule's choice stands against less, and not where any lead counts.
    let close = |overturn: f64| {
        let adviser =
            Adviser::new(AdviserConfig { overturn, ..Default::default() }).expect("valid");
        let score = |trial: &Trial<'_, Tuning>| {
            Ok::<_, &str>(if trial.contender.recipe == Tuning::Scratch { 0.9 } else { 0.86 })
        };
        adviser.choose(&open, &how, contender, Seed(1), score).expect("measures").tuning
    };
    assert_eq!((close(1.0), close(0.0)), (Tuning::LpFt, Tuning::Scratch));
    // A training that fails, and a target that cannot be looked at.
    assert!(choose(&open, None).expect_err("fails").to_string().contains("nothing was to be"));
    let one = vec![1; 60];
    assert!(choose(&Target::new(&dull, &one, 3), None).is_err());
}

#[test]
fn many_is_many_only_where_the_curve_is_flat() {
    let (seen, raw, labels) = (blobs(600, 6.0, 1), blobs(600, 1.0, 2), labels(600));
    let size = |whole: f64| {
        let curve = LearningCurve { half: 0.90, whole, standard_error: 0.01 };
        let target = Target::new(&seen, &labels, 3).raw(&raw).curve(curve);
        adviser().look(&target).expect("fits").size
    };
    assert_eq!((size(0.905), size(0.95)), (Size::Many, Size::Unclear));
}

#[test]
fn the_look_repeats_and_reports_beside() {
    let labels = labels(60);
    let (seen, raw, source) = (blobs(60, 3.0, 1), blobs(60, 1.0, 2), blobs(90, 3.0, 9));
    let probabilities = Features::new([0.7, 0.2, 0.1].repeat(60), 3).expect("valid");
    let target = Target::new(&seen, &labels, 3)
        .raw(&raw)
        .source(&source)
        .probabilities(&probabilities)
        .trainable([(Tuning::HeadOnly, 15), (Tuning::Full, 24_000)]);
    let advice = adviser().look(&target).expect("fits");
    assert_eq!(advice, adviser().look(&target).expect("fits"));
    let names: Vec<&str> = advice.scores.iter().map(|score| score.name.as_str()).collect();
    let wanted = [
        "LogME",
        "H-score, shrunk",
        "TransRate",
        "GBC",
        "LEEP",
        "NCE",
        "FID of the features",
        "MMD, p value",
        "domain AUC",
    ];
    assert_eq!(names, wanted);
    assert!(advice.scores.iter().all(|score| score.value.is_some_and(f64::is_finite)));
    // How alike the features are to those of a copy that was never trained, where there is one.
    let fresh = blobs(60, 0.0, 3);
    let beside = adviser().look(&target.clone().fresh(&fresh)).expect("fits").scores;
    assert_eq!((beside.len(), beside[4].name.as_str()), (10, "CKA with the fresh copy"));
    assert_eq!(beside[4].value, Some(crate::score::cka(&seen, &fresh).expect("fits")));
    assert_eq!(advice.ratios[0], (Tuning::HeadOnly, 15, 4.0));
    assert!(advice.to_string().contains("full trains 24000 parameters on 60 samples"), "{advice}");
    let text = serde_json::to_string(&advice).expect("writes");
    assert_eq!(serde_json::from_str::<Advice>(&text).expect("reads"), advice);
}

#[test]
fn bad_targets_and_settings_are_refused_by_name() {
    let seen = blobs(6, 1.0, 1);
    let text = |labels: &[u32], classes: usize| {
        adviser().look(&Target::new(&seen, labels, classes)).expect_err("refused").to_string()
    };
    assert!(text(&[1; 6], 3).contains("only class 1"));
    assert_eq!(
        text(&[0, 1, 0, 1, 0, 1], 7),
        "`classes` must be at most the number of samples 6, got 7"
    );
    assert_eq!(
        text(&[0, 1, 0, 1, 0, 2], 3),
        "`labels` must have at least 2 samples of each class, got 1 of class 2"
    );
    assert!(text(&[0, 1, 0, 1], 2).contains("one entry a row"));
    assert!(text(&[0, 1, 0, 1, 0, 5], 3).contains("got 5 in row 5"));
    let flat = Features::new(vec![0.0; 12], 2).expect("valid");
    let error = adviser().look(&Target::new(&flat, &[0, 1, 0, 1, 0, 1], 2));
    assert!(error.expect_err("refused").to_string().contains("a dead layer"));
    for (config, field) in [
        (AdviserConfig { few_per_class: f64::NAN, ..Default::default() }, "few_per_class"),
        (AdviserConfig { many_per_class: 20.0, ..Default::default() }, "many_per_class"),
        (AdviserConfig { similar_above: 0.1, ..Default::default() }, "similar_above"),
        (AdviserConfig { level: 1.0, ..Default::default() }, "level"),
        (AdviserConfig { resamples: 10, ..Default::default() }, "resamples"),
        (AdviserConfig { neighbours: 0, ..Default::default() }, "neighbours"),
        (AdviserConfig { least_per_class: 1.0, ..Default::default() }, "least_per_class"),
        (AdviserConfig { overturn: -1.0, ..Default::default() }, "overturn"),
    ] {
        let error = Adviser::new(config).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("`{field}`")), "{error}");
    }
}

fn contender(name: &str, parameters: usize, rates: &[f64]) -> Contender<f64> {
    Contender { name: name.into(), recipe: 0.0, parameters, steps: 10, rates: rates.into() }
}

fn good(name: &str, parameters: usize, score: f64) -> Contender<f64> {
    Contender { recipe: score, ..contender(name, parameters, &[0.1]) }
}

fn measured(config: MeasureConfig) -> Measured {
    Measured::new(config).expect("valid")
}

#[test]
fn all_contenders_meet_the_same_rows_and_seeds_and_the_folds_cover() {
    let list = [good("a", 1, 0.5), good("b", 2, 0.6)];
    let seen = Mutex::new(Vec::new());
    let values = labels(30);
    let score = |trial: &Trial<'_, f64>| {
        seen.lock().expect("whole").push((
            trial.fold,
            trial.contender.name.clone(),
            trial.train.to_vec(),
            trial.held.to_vec(),
            trial.seed,
        ));
        Ok::<_, String>(trial.contender.recipe)
    };
    let found = measured(MeasureConfig::default());
    let found = found.run(&values, &list, None, Seed(4), score).expect("runs");
    assert_eq!((found.fits, found.chosen()), (10, "b"));
    let mut seen = seen.into_inner().expect("whole");
    seen.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    for pair in seen.chunks(2) {
        assert_eq!((&pair[0].2, &pair[0].3, pair[0].4), (&pair[1].2, &pair[1].3, pair[1].4));
        let rows: HashSet<u32> = pair[0].2.iter().chain(&pair[0].3).copied().collect();
        assert_eq!((rows.len(), pair[0].3.len()), (30, 6));
    }
    let held: HashSet<u32> = seen.iter().flat_map(|trial| trial.3.clone()).collect();
    assert_eq!(held.len(), 30);
    assert_eq!(seen.iter().map(|trial| trial.4).collect::<HashSet<_>>().len(), 5);
}

#[test]
fn ties_go_to_the_cheaper_and_differences_are_paired() {
    let list = [good("dear", 900, 0.805), good("cheap", 10, 0.8), good("poor", 5, 0.7)];
    let score = |trial: &Trial<'_, f64>| {
        // What makes a fold hard is common to all.
        Ok::<_, String>(trial.contender.recipe - 0.05 * trial.fold as f64)
    };
    let run = |tie: Tie| {
        let config = MeasureConfig { tie, ..Default::default() };
        measured(config).run(&labels(30), &list, Some("poor"), Seed(1), score).expect("runs")
    };
    let found = run(Tie::Margin(0.01));
    assert_eq!((found.chosen(), found.best), ("cheap", 0));
    assert!(found.reason.contains("cheaper than dear and at most 0.005 behind it"), "{found}");
    assert!((found.regret_of_expected.expect("was given") - 0.1).abs() < 1e-12);
    // The folds differ by 0.2, the differences do not: paired, the interval is a point.
    let paired = found.entries[0].to_expected.expect("was given");
    assert!((paired.mean - 0.105).abs() < 1e-12 && paired.low.expect("five folds") > 0.104);
    let (low, high) = found.entries[0].interval.expect("five folds");
    assert!(high - low > 0.1);
    assert_eq!(run(Tie::Margin(0.0)).chosen(), "dear");
    assert_eq!(run(Tie::Interval).chosen(), "dear");
    let text = serde_json::to_string(&found).expect("writes");
    assert_eq!(serde_json::from_str::<Measurement>(&text).expect("reads"), found);
}

#[test]
fn rates_are_chosen_inside_the_training_part() {
    let list = [contender("one", 1, &[0.01, 0.1, 1.0])];
    // The middle rate is best on inner folds; on held-out rows another would be: it must not be seen.
    let score = |trial: &Trial<'_, f64>| {
        let inner = trial.train.len() < 24;
        Ok::<_, String>(match (inner, trial.rate) {
            (true, 0.1) | (false, 1.0) => 0.9,
            _ => 0.5,
        })
    };
    let found = measured(MeasureConfig::default());
    let found = found.run(&labels(30), &list, None, Seed(1), score).expect("runs");
    // Five folds of two inner folds times three rates, and one fit more.
    assert_eq!(found.fits, 5 * 7);
    assert_eq!((found.entries[0].rates.as_slice(), found.entries[0].mean), (&[0.1; 5][..], 0.5));
    assert!(!found.entries[0].at_edge);
    let edge = |trial: &Trial<'_, f64>| Ok::<_, String>(0.5 + 0.1 * trial.rate);
    let found = measured(MeasureConfig::default());
    let found = found.run(&labels(30), &list, None, Seed(1), edge).expect("runs");
    assert!(found.entries[0].at_edge && found.entries[0].rates == [1.0; 5]);
}

#[test]
fn a_race_drops_who_is_far_behind_and_spares_the_rest() {
    let list = [good("best", 3, 0.9), good("near", 2, 0.85), good("far", 1, 0.2)];
    let score = |trial: &Trial<'_, f64>| Ok::<_, String>(trial.contender.recipe);
    let config = MeasureConfig { race: Some(2.0), ..Default::default() };
    let found = measured(config).run(&labels(60), &list, Some("far"), Seed(1), score);
    let found = found.expect("runs");
    let folds: Vec<usize> = found.entries.iter().map(|entry| entry.scores.len()).collect();
    assert_eq!((folds.as_slice(), found.fits, found.chosen()), (&[5, 5, 2][..], 12, "best"));
    assert!(found.entries[2].dropped && found.entries[2].to_best.folds == 2);
}

#[test]
fn few_samples_of_a_class_make_fewer_folds() {
    let mut values = labels(30);
    values.truncate(29);
    values.iter_mut().enumerate().for_each(|(row, label)| {
        if *label == 2 && row > 6 {
            *label = 0;
        }
    });
    let list = [contender("one", 1, &[0.1, 0.2])];
    let score = |_: &Trial<'_, f64>| Ok::<_, String>(0.5);
    let found = measured(MeasureConfig::default());
    let found = found.run(&values, &list, None, Seed(1), score).expect("runs");
    // Two samples of class 2: two folds, and one of them in each training part: no inner folds, the lower middle rate.
    assert_eq!((found.fits, found.entries[0].rates.as_slice()), (2, &[0.1, 0.1][..]));
}

#[test]
fn failures_and_bad_lists_are_errors_that_name_the_contender() {
    let list = [good("a", 1, 0.5), good("b", 2, 0.6)];
    let run = |list: &[Contender<f64>], expected: Option<&str>, value: f64| {
        let score = |_: &Trial<'_, f64>| {
            if value < 0.0 { Err("out of memory".to_string()) } else { Ok(value) }
        };
        let found = measured(MeasureConfig::default());
        found.run(&labels(30), list, expected, Seed(1), score).expect_err("refused").to_string()
    };
    assert_eq!(run(&list, None, -1.0), "`a` at rate 0.1 failed in fold 0: out of memory");
    assert_eq!(
        run(&list, None, f64::NAN),
        "the score of `a` at rate 0.1 in fold 0 must be in [0, 1], got NaN"
    );
    assert!(run(&list, None, 87.0).contains("must be in [0, 1], got 87"));
    assert_eq!(run(&list, Some("c"), 0.5), "`expected` must be one of a, b, got c");
    assert!(run(&[], None, 0.5).contains("`contenders` must be at least 1"));
    assert!(run(&[list[0].clone(), list[0].clone()], None, 0.5).contains("unique"));
    let none = contender("x", 1, &[]);
    assert!(run(&[none], None, 0.5).contains("`contenders[0].rates` must be at least 1"));
    let bad = contender("x", 1, &[0.1, f64::INFINITY]);
    assert!(run(&[bad], None, 0.5).contains("`contenders[0].rates[1]` must be in (0, inf)"));
    for (config, field) in [
        (MeasureConfig { folds: 1, ..Default::default() }, "folds"),
        (MeasureConfig { repeats: 0, ..Default::default() }, "repeats"),
        (MeasureConfig { inner_folds: 1, ..Default::default() }, "inner_folds"),
        (MeasureConfig { tie: Tie::Margin(-0.1), ..Default::default() }, "tie.margin"),
        (MeasureConfig { level: 0.0, ..Default::default() }, "level"),
        (MeasureConfig { race: Some(0.0), ..Default::default() }, "race"),
    ] {
        let error = Measured::new(config).expect_err("refused").to_string();
        assert!(error.starts_with(&format!("`{field}`")), "{error}");
    }
}

#[test]
fn every_choice_is_a_recipe() {
    use crate::{Groups, Recipe};
    let groups = |count: usize| {
        let each = (0..count).map(|i| (format!("g{i}"), vec![format!("layers.{i}")]));
        Groups::new(each).expect("fine")
    };
    for (count, frozen) in [(2, 1), (3, 1), (5, 1), (6, 2), (10, 3), (1, 0)] {
        let recipe = Tuning::FreezeFirst.recipe(&groups(count));
        assert_eq!(recipe, Recipe::FreezeFirst { k: frozen, redraw: false }, "{count}");
    }
    let found = Tuning::ALL.map(|tuning| tuning.recipe(&groups(4)));
    let wanted = [
        Recipe::HeadOnly,
        Recipe::freeze_first(1),
        Recipe::full(),
        Recipe::lp_ft(),
        Recipe::Scratch,
    ];
    assert_eq!(found, wanted);
}

#[test]
fn the_survey_s_table_is_as_published() {
    let said: Vec<Tuning> = Cell::ALL.iter().map(|cell| cell.survey()).collect();
    assert_eq!(said, [Tuning::HeadOnly, Tuning::FreezeFirst, Tuning::Scratch, Tuning::Full]);
    let rule = QuadrantRule::default();
    assert_eq!(rule.cell(20.0, 0.25), Cell::FewDifferent);
    assert_eq!(rule.cell(20.1, 0.26), Cell::ManySimilar);
}

#[test]
fn the_revised_rule_is_the_table_but_for_few_that_are_not_similar() {
    let (rule, table) = (RevisedRule::default(), QuadrantRule::default());
    for (per_class, lift) in [(5.0, 0.3), (20.0, 0.6), (150.0, 0.1), (150.0, 0.3), (900.0, -0.5)] {
        assert_eq!(
            rule.choose(per_class, lift),
            table.choose(per_class, lift),
            "{per_class} {lift}"
        );
    }
    assert_eq!(table.choose(5.0, 0.25), Tuning::FreezeFirst);
    // At a border the exception does not hold; between few and many nothing speaks for one.
    for (per_class, lift) in [(5.0, 0.25), (5.0, -1.0), (20.1, 0.9), (149.0, -1.0)] {
        assert_eq!(rule.choose(per_class, lift), Tuning::LpFt, "{per_class} {lift}");
    }
    assert_eq!(rule.choose(150.0, 0.2), Tuning::Full);
}
