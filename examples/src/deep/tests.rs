//! The claims of the story, with several seeds and a margin each.

use crate::recurrent::sequences;
use crate::story::{Effect, Request, Summary, run};
use crate::{print, report};
use burn::tensor::Device;
use firebrick::prelude::Seed;
use firebrick_examples::data::Data;
use std::sync::OnceLock;

/// One run for all tests: three seeds, half the epochs.
fn summary() -> &'static Summary {
    static SUMMARY: OnceLock<Summary> = OnceLock::new();
    SUMMARY.get_or_init(|| {
        let data = Data::load(None).expect("embedded");
        let request = Request { seeds: vec![1, 2, 3], quick: true };
        run(&request, &data, &Device::flex().autodiff(), |_, _, _| ()).expect("runs")
    })
}

#[test]
fn every_measure_has_its_effect_with_every_seed() {
    let failed: Vec<_> = summary().effects.iter().filter(|effect| !effect.holds()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(summary().effects.iter().all(|effect| effect.with.len() == 3));
    let named = |part: &str| summary().effects.iter().any(|effect| effect.measure.contains(part));
    for part in [
        "initialization",
        "ReLU",
        "leaky",
        "learned",
        "batch norm",
        "residual",
        "clipping",
        "decay",
        "pre-training",
        "LSTM",
    ] {
        assert!(named(part), "{part}");
    }
}

#[test]
fn gradients_vanish_and_do_not_where_a_measure_is_taken() {
    for flow in &summary().flows[..2] {
        // What arrives at the first layer of the plain net is a hundred times less than with the best measure, at least.
        let first = |index: usize| flow.lines[index].points[0].1;
        let best = (1..flow.lines.len()).map(first).fold(0.0, f64::max);
        assert!(first(0) * 1e2 < best, "{}: {} {best}", flow.title, first(0));
    }
}

#[test]
fn the_gradients_of_each_net_are_drawn() {
    let summary = summary();
    // Five nets on the digits, each layer by layer; one of the recurrent nets also over its training.
    assert_eq!(summary.flows.len(), 8);
    let digits = summary.effects.iter().filter(|effect| !effect.subject.contains("recurrent"));
    for effect in digits {
        let mut lines = summary.flows.iter().flat_map(|flow| &flow.lines);
        assert!(lines.any(|line| line.name == effect.measure), "{}", effect.measure);
    }
    for flow in &summary.flows {
        assert!(flow.lines.len() >= 2 && flow.lines.iter().all(|line| line.points.len() > 1));
    }
    // Clipping keeps the direction: each layer's norm is divided by the same number.
    let [plain, clipped] = summary.flows[2].lines.as_slice() else { panic!("two lines") };
    let pairs = || plain.points.iter().zip(&clipped.points);
    let ratios: Vec<f64> = pairs().map(|(plain, clipped)| clipped.1 / plain.1).collect();
    assert!(ratios.iter().all(|ratio| (ratio / ratios[0] - 1.0).abs() < 1e-3), "{ratios:?}");
    let whole = pairs().map(|(_, clipped)| clipped.1 * clipped.1).sum::<f64>().sqrt();
    assert!(ratios[0] < 1.0 && whole <= 1.0 + 1e-3, "{ratios:?} {whole}");
}

#[test]
fn the_page_is_whole_and_needs_nothing_from_outside() {
    let page = report::html(summary());
    assert_eq!(page.matches("<svg").count() - page.matches("aria-hidden").count(), 8);
    assert_eq!(page.matches("<figure>").count(), page.matches("</figure>").count());
    for outside in ["http:", "https:", "<script", "url(", "NaN", "inf "] {
        assert!(!page.contains(outside), "{outside}");
    }
    let text = print::text(summary());
    assert!(text.lines().count() > summary().effects.len());
    assert!(!text.contains("NaN"));
}

#[test]
fn a_margin_is_asked_of_every_seed() {
    let effect = |share, margin, without: f64, with: f64| Effect {
        measure: String::new(),
        subject: String::new(),
        number: String::new(),
        share,
        without: vec![without, without],
        with: vec![with, 0.5],
        margin,
    };
    assert!(effect(true, 0.3, 0.1, 0.9).holds());
    assert!(!effect(true, 0.3, 0.1, 0.2).holds());
    assert!(effect(true, -0.1, 0.7, 0.1).holds());
    assert!(effect(false, 0.6, 1.0, 0.4).holds());
    assert!(!effect(false, 0.4, 1.0, 0.4).holds());
    assert!(effect(false, 0.1, f64::INFINITY, 0.2).holds());
    assert!(!effect(false, 0.1, f64::INFINITY, f64::INFINITY).holds());
    assert!(!effect(false, 2.0, 1.0, f64::NAN).holds());
}

#[test]
fn a_sequence_has_two_marks_and_their_sum() {
    let device = Device::flex();
    let (inputs, sums) = sequences(20, 10, Seed(1), &device);
    let inputs: Vec<f32> = inputs.try_to_vec_as().expect("reads");
    let sums: Vec<f32> = sums.try_to_vec_as().expect("reads");
    for (sequence, sum) in inputs.chunks(20).zip(sums) {
        let marked: Vec<usize> = (0..10).filter(|step| sequence[2 * step + 1] == 1.0).collect();
        assert!(marked.len() == 2 && marked[0] < 5 && marked[1] >= 5);
        let expected: f32 = marked.iter().map(|step| sequence[2 * step]).sum();
        assert!((sum - expected).abs() < 1e-6);
    }
}
