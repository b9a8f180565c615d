//! The claims of the story, with several seeds and a margin each.

use crate::gates::Gates;
use crate::recurrent::sequences;
use crate::story::{Effect, Request, Summary, run};
use crate::{print, report};
use burn::nn::{LstmConfig, LstmState};
use burn::tensor::{Device, Tensor};
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
    // Five nets on the digits, each layer by layer; of three recurrent ones two over their training.
    assert_eq!(summary.flows.len(), 9);
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
    assert_eq!(page.matches("<svg").count() - page.matches("aria-hidden").count(), 9);
    assert_eq!(page.matches("<figure>").count(), page.matches("</figure>").count());
    for outside in ["http:", "https:", "<script", "url(", "NaN", "inf "] {
        assert!(!page.contains(outside), "{outside}");
    }
    let text = print::text(summary());
    assert!(text.lines().count() > summary().effects.len());
    assert!(!text.contains("NaN"));
}

#[test]
fn an_lstm_learns_to_add_what_a_tanh_net_does_not() {
    let learned = summary().effects.last().expect("the last story");
    assert!(learned.subject.contains("learns to add"), "{}", learned.subject);
    // The one does no better than to answer 1 always, which a tenth of 250 batches tells to 0.005 or so.
    assert!(learned.without.iter().all(|error| *error > 0.12), "{:?}", learned.without);
    assert!(learned.with.iter().all(|error| *error < 0.05), "{:?}", learned.with);
}

#[test]
fn the_gates_in_one_product_are_burns_lstm() {
    let device = Device::flex().autodiff();
    let lstm = LstmConfig::new(2, 5, true).init(&device);
    let (inputs, _) = sequences(3, 6, Seed(2), &device);
    let (_, expected) = lstm.forward(inputs.clone(), None);
    let gates = Gates::of(&lstm).expect("biases and a forget gate");
    let zeros = Tensor::<2>::zeros([3, 5], &device);
    let mut state = LstmState { cell: zeros.clone(), hidden: zeros };
    for step in 0..6 {
        let input = inputs.clone().narrow(1, step, 1).squeeze_dim::<2>(1);
        let one = Tensor::ones([3, 1], &device);
        state = gates.step(Tensor::cat(vec![input, one], 1), state);
    }
    for (found, expected) in [(state.cell, expected.cell), (state.hidden, expected.hidden)] {
        let gap = (found - expected).abs().max().into_scalar::<f32>();
        // Values below 6, added up in another order.
        assert!(gap < 1e-5, "{gap}");
    }
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
