//! The page on a good run, on an empty one and on hostile text.

use super::html;
use crate::summary::{CandidateSummary, DataSummary, Gaps, OpeningSummary, Summary, TestSummary};
use firebrick::core::{History, Record, Seed};
use firebrick::diagnose::{Finding, FindingKind};
use firebrick::select::Spread;

fn candidate(name: &str, parameters: usize, train: f64, held: f64) -> CandidateSummary {
    let spread = |mean: f64| {
        let values = [-1.0, -0.4, 0.1, 0.5, 0.8].map(|z| mean * (1.0 + 0.3 * z)).to_vec();
        Some(Spread::of(values).expect("finite"))
    };
    CandidateSummary {
        name: name.into(),
        parameters,
        depth: 2,
        width: 64,
        dropout: 0.2,
        weight_decay: 1e-4,
        label_smoothing: 0.1,
        optimizer: "AdamW".into(),
        learning_rate: 3e-3,
        train_error: spread(train),
        validation_error: spread(held),
        train_loss: spread(3.0 * train),
        validation_loss: spread(4.0 * held),
        disqualified: None,
    }
}

pub(crate) fn sample() -> Summary {
    let mut learning = History::default();
    let mut gradients = History::default();
    let mut noise = Seed(1).stream("noise");
    for epoch in 1..=24 {
        let t = epoch as f64;
        let record = Record::new(epoch, 18 * epoch as u64)
            .with("train_loss", 1.6 * (-t / 3.5).exp() + 0.004)
            .with("validation_loss", 1.5 * (-t / 3.5).exp() + 0.06 + 0.004 * noise.normal())
            .with("train_error", 0.35 * (-t / 2.5).exp())
            .with("validation_error", 0.3 * (-t / 2.5).exp() + 0.018 + 0.002 * noise.normal());
        learning.push(record);
        for step in 0..18 {
            let t = t + step as f64 / 18.0;
            let norm = |scale: f64, noise: f64| scale * (-t / 8.0).exp() * (0.3 * noise).exp();
            let record = Record::new(epoch, 18 * (epoch as u64 - 1) + step + 1)
                .with("grad_norm", norm(1.4, noise.normal()))
                .with("grad_norm/hidden.0", norm(0.7, noise.normal()))
                .with("grad_norm/hidden.1", norm(0.4, noise.normal()))
                .with("grad_norm/output", norm(1.1, noise.normal()));
            gradients.push(record);
        }
    }
    let mut confusion = vec![vec![0; 10]; 10];
    (0..10).for_each(|class| confusion[class][class] = 36);
    for (class, predicted) in [(3, 5), (8, 1), (8, 1), (9, 4), (5, 9)] {
        confusion[class][class] -= 1;
        confusion[class][predicted] += 1;
    }
    let mut failed = candidate("wide, learning rate 10", 82_954, 0.1, 0.1);
    (failed.train_error, failed.validation_error) = (None, None);
    (failed.train_loss, failed.validation_loss) = (None, None);
    failed.disqualified = Some("fold 1: validation_loss is NaN".into());
    Summary {
        format: 1,
        seed: 42,
        backend: "flex".into(),
        epochs: 40,
        data: DataSummary {
            name: "UCI optical recognition of handwritten digits".into(),
            rows: 1797,
            columns: 64,
            classes: 10,
            train: 1077,
            validation: 360,
            test: 360,
            folds: 5,
            fingerprint: "1797:0123456789abcdef0123456789abcdef".into(),
        },
        candidates: vec![
            candidate("linear", 650, 0.028, 0.051),
            candidate("narrow", 2410, 0.012, 0.036),
            candidate("medium, dropout", 9098, 0.003, 0.021),
            candidate("wide, AdamW", 34_826, 0.0005, 0.019),
            failed,
        ],
        chosen: "wide, AdamW".into(),
        reason: "smallest mean validation error of 4 candidates, 0.0190; 1 of 5 disqualified"
            .into(),
        chosen_epochs: 24,
        train_error: 0.0,
        validation_error: 0.0194,
        test: TestSummary {
            error: 5.0 / 360.0,
            n: 360,
            interval: (0.00453, 0.03211),
            confusion,
            reopened: None,
        },
        gap: 5.0 / 360.0,
        gaps: Gaps {
            validation_minus_train: 0.0194,
            test_minus_train: 5.0 / 360.0,
            test_minus_validation: -0.0055,
        },
        diagnosis: vec![Finding::new(
            FindingKind::Healthy,
            0.9,
            "after 24 epochs: training loss 0.0057, validation loss 0.0612",
            "nothing to do",
        )],
        warnings: Vec::new(),
        learning,
        gradients,
        seconds: 31.4,
        opening: OpeningSummary {
            time: "2025-01-02 03:04:05 UTC".into(),
            repetition: false,
            uses: 1,
        },
    }
}

/// Every tag that is opened is closed, in order.
fn balanced(page: &str) {
    let mut open = Vec::new();
    let style = page.find("<style>").expect("has a style")..page.find("</style>").expect("ends it");
    let text = format!("{}{}", &page[..style.start], &page[style.end + 8..]);
    for part in text.split('<').skip(1) {
        let tag = &part[..part.find('>').expect("each tag ends")];
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        if tag.starts_with('!') || tag.ends_with('/') || name == "meta" {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn the_page_holds_every_figure_and_needs_nothing_else() {
    let page = html(&sample());
    balanced(&page);
    for id in
        ["learning-loss", "learning-error", "candidates", "complexity", "confusion", "gradients"]
    {
        assert!(page.contains(&format!("aria-labelledby=\"{id}-t {id}-d\"")), "{id}");
        assert!(page.contains(&format!("<title id=\"{id}-t\">")), "{id}");
    }
    for outside in ["http://", "https://", "src=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("98.61\u{a0}% of unseen rows are right"));
    assert!(page.contains("First opening") && page.contains("5 of 360 rows are wrong"));
    assert!(page.contains("8 taken for 1 (2)"));
    assert!(page.contains("disqualified: fold 1"));
    assert!(!page.contains("NaN\"") && !page.contains("inf\""));
}

#[test]
fn openings_are_told_apart() {
    let mut summary = sample();
    summary.opening.repetition = true;
    assert!(html(&summary).contains("A repetition."));
    summary.test.reopened = Some("a bug in <the> split".into());
    summary.opening.uses = 3;
    let page = html(&summary);
    assert!(page.contains("Opened again.") && page.contains("this is use 3"));
    assert!(page.contains("a bug in &lt;the&gt; split"));
}

#[test]
fn text_from_data_is_escaped_everywhere() {
    let mut summary = sample();
    let evil = "<script>alert(\"x\")</script> & 'more'";
    summary.data.name = evil.into();
    summary.data.fingerprint = evil.into();
    summary.backend = evil.into();
    summary.reason = evil.into();
    summary.chosen = evil.into();
    summary.candidates[0].name = evil.into();
    summary.candidates[0].optimizer = evil.into();
    summary.candidates[4].disqualified = Some(evil.into());
    summary.test.reopened = Some(evil.into());
    summary.warnings = vec![evil.into()];
    summary.diagnosis = vec![Finding::new(FindingKind::OverFitting, 0.5, evil, evil)];
    summary.gradients.push(Record::new(1, 1).with(format!("grad_norm/{evil}"), 1.0));
    let page = html(&summary);
    balanced(&page);
    assert!(!page.contains("<script>") && !page.contains("& '"));
}

#[test]
fn empty_short_and_broken_histories_are_drawn() {
    let mut summary = sample();
    summary.learning = History::default();
    summary.gradients = History::default();
    summary.test.confusion = Vec::new();
    summary.diagnosis = Vec::new();
    balanced(&html(&summary));
    summary
        .learning
        .push(Record::new(1, 1).with("train_loss", 0.5).with("validation_loss", f64::NAN));
    summary
        .gradients
        .push(Record::new(1, 1).with("grad_norm/a", 0.0).with("grad_norm/b", f64::INFINITY));
    summary.validation_error = f64::NAN;
    summary.candidates.truncate(1);
    let page = html(&summary);
    balanced(&page);
    assert!(!page.contains("NaN,") && !page.contains("\"NaN"));
    // Two classes and a hundred; twenty layers.
    summary.test.confusion = vec![vec![5, 0], vec![1, 4]];
    balanced(&html(&summary));
    summary.test.confusion = vec![vec![1; 100]; 100];
    for layer in 0..20 {
        summary.gradients.push(Record::new(1, 2).with(format!("grad_norm/{layer}"), 1.0));
    }
    let page = html(&summary);
    balanced(&page);
    assert!(page.contains("8 of 22 layers are drawn"));
}
