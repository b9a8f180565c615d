//! Recipes with what stands beside them: the search of rates, adapters, and all that keeps a model near its source.

use super::*;
use crate::testing::{Net, bits, cross_entropy, data, device, net, recipes};
use crate::{
    AdaptConfig, AdapterKind, Anchor, Groups, L2SpConfig, MixoutConfig, Relationship, Scaling,
    StochNorm, StochNormConfig, bss, channel_weights, co_tuning, delta, drift, greedy_soup, hinton,
    lwf, wise_ft,
};
use burn::module::Module;
use burn::nn::{BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Tensor, TensorReadError, activation::relu};
use firebrick_core::{Seed, names};
use firebrick_optim::{AdamWConfig, Elementwise, SgdConfig};
use firebrick_regularize::MaskSource;
use firebrick_train::{FitConfig, Labelled, Learn, Outcome, Score, Source};

fn adamw() -> Elementwise {
    AdamWConfig::new().build().expect("valid")
}

/// Whether the training loss fell.
fn learned<M>(tuned: &Tuned<M>) -> bool {
    let losses = tuned.history.series(names::TRAIN_LOSS);
    tuned.outcome == Outcome::Finished && losses.last() < losses.first()
}

#[test]
fn a_search_takes_the_rate_that_validates_best() {
    let train = data(&device(), 1.0);
    let tune = Tune::new(Recipe::full(), 3, adamw());
    let searched = tune.search(&net(&device()), &train, &train, &[1e-6, 1e-2, 1e-5]).expect("runs");
    assert_eq!((searched.best, searched.trials.len()), (1, 3));
    assert_eq!(searched.trials[1].validation, searched.tuned.validation.expect("there"));
    let own = tune.search(&net(&device()), &train, &train, &[]).expect("runs");
    let rates: Vec<f64> = own.trials.iter().map(|trial| trial.rate).collect();
    assert_eq!(rates, Recipe::full().rates());
}

#[test]
fn every_recipe_is_searched_around_its_own_rate() {
    let train = data(&device(), 1.0);
    for recipe in recipes().into_iter().chain([Recipe::Adapters, Recipe::lora_plus()]) {
        let rates = recipe.rates();
        assert!(rates[0] > 0.0 && rates.is_sorted_by(|a, b| a < b), "{recipe}: {rates:?}");
        assert_eq!(recipe.rate(), rates[1], "{recipe}");
        let mut model = net(&device());
        if matches!(recipe, Recipe::Adapters | Recipe::LoraPlus { .. }) {
            model = adapted(AdapterKind::lora(2));
        }
        let tune = Tune::new(recipe.clone(), 3, adamw()).groups(groups());
        let found = tune.search(&model, &train, &train, &[]).expect("runs");
        assert!(found.trials.iter().map(|trial| trial.rate).eq(rates), "{recipe}");
        let rank = |trial: &Trial| (trial.validation.error(), trial.validation.loss());
        let best = rank(&found.trials[found.best]);
        assert!(found.trials.iter().all(|trial| best <= rank(trial)), "{recipe}");
    }
}

fn groups() -> Groups {
    Groups::propose(&net(&device())).expect("has groups")
}

/// The net with adapters on all but its head.
fn adapted(kind: AdapterKind) -> Net {
    AdaptConfig::new(kind, Seed(1)).apply(net(&device()), &groups()).expect("fits")
}

#[test]
fn adapters_are_a_recipe_that_trains_them_and_the_head_alone() {
    let train = data(&device(), 1.0);
    let AdapterKind::Lora { rank, alpha, init, .. } = AdapterKind::lora(2) else { panic!("LoRA") };
    let kinds = [
        AdapterKind::lora(2),
        AdapterKind::Lora { rank, alpha, scaling: Scaling::ByRoot, init },
        AdapterKind::pissa(2),
        AdapterKind::dora(2),
        AdapterKind::Vera { rank: 3, start: 0.1 },
        AdapterKind::Ia3 { by_input: false },
    ];
    for kind in kinds {
        let model = adapted(kind.clone());
        let before = bits(&model);
        let tune = Tune::new(Recipe::Adapters, 8, adamw()).groups(groups()).rate(1e-2);
        let tuned = tune.run(model, &train, None).expect("trains");
        assert!(learned(&tuned), "{kind:?}: {:?}", tuned.history.series(names::TRAIN_LOSS));
        for ((path, old), (_, new)) in before.iter().zip(bits(&tuned.model)) {
            let of_adapter = ["lora", "vera", "ia3"].iter().any(|name| path.contains(name));
            assert_eq!(*old != new, of_adapter || path.starts_with("head."), "{kind:?}: {path}");
        }
    }
}

#[test]
fn lora_plus_moves_the_second_factor_by_its_ratio_and_wants_one() {
    let train = data(&device(), 1.0);
    let once = FitConfig::new(1).with_max_steps(Some(1)).with_progress(false);
    let step = |recipe: Recipe| {
        let rule = SgdConfig::new().build().expect("valid");
        let tune = Tune::new(recipe, 1, rule).groups(groups()).rate(0.01).fit(once.clone());
        let tuned = tune.run(adapted(AdapterKind::lora(2)), &train, None).expect("trains");
        let adapter = tuned.model.first.weight.adapter().expect("there").clone();
        let values = crate::testing::values::<2>;
        (values(adapter.a.val()), values(adapter.b.val()), values(tuned.model.head.weight.val()))
    };
    let (plain, plus) = (step(Recipe::Adapters), step(Recipe::lora_plus()));
    // B starts at 0, so one step is all that it has; 16 is a power of two.
    assert!(plain.1.iter().any(|value| *value != 0.0));
    assert_eq!(plus.1, plain.1.iter().map(|value| 16.0 * value).collect::<Vec<_>>());
    assert_eq!((plus.0, plus.2), (plain.0, plain.2));
    let refused = |kind: AdapterKind, ratio: f64| {
        let tune = Tune::new(Recipe::LoraPlus { ratio }, 1, adamw()).groups(groups());
        tune.run(adapted(kind), &train, None).expect_err("refused").to_string()
    };
    let text = refused(AdapterKind::Ia3 { by_input: false }, 16.0);
    assert!(text.contains("no weight of the model has a low-rank adapter"), "{text}");
    assert!(refused(AdapterKind::lora(2), 0.0).contains("`ratio`"));
}

/// A net whose loss holds something of the source.
#[derive(Module, Debug)]
struct Near {
    net: Net,
    #[module(skip)]
    loss: fn(&Net, Labelled<2>) -> Tensor<1>,
}

impl Learn for Near {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        (self.loss)(&self.net, batch)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        self.net.score(batch)
    }
}

/// What the source says of the inputs: features and logits.
fn source(inputs: &Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let source = net(&device()).valid();
    (source.features(inputs.clone().inner()), source.logits(inputs.clone().inner()))
}

#[test]
fn losses_of_the_source_train_within_a_recipe() {
    let train = data(&device(), 1.0);
    type Loss = fn(&Net, Labelled<2>) -> Tensor<1>;
    let losses: [(&str, Loss); 5] = [
        ("BSS", |net, batch| {
            let term = bss(net.features(batch.inputs.clone()), 1).expect("fits");
            net.loss(batch) + term * 1e-3
        }),
        ("DELTA", |net, batch| {
            let maps = |features: Tensor<2>| features.unsqueeze_dim::<3>(2);
            let losses = Tensor::<1>::from_floats([0.1, 0.2, 0.3, 0.4, 0.5], &device());
            let weights = channel_weights(losses, 0.1, 1.0).expect("valid");
            let here = maps(net.features(batch.inputs.clone()));
            let there = maps(source(&batch.inputs).0);
            net.loss(batch) + delta(&[here], &[there], &[weights]).expect("fits") * 1e-2
        }),
        ("distillation", |net, batch| {
            let (logits, teacher) = (net.logits(batch.inputs.clone()), source(&batch.inputs).1);
            hinton(logits, batch.targets, teacher, 4.0, 0.1).expect("fits")
        }),
        ("LwF", |net, batch| {
            let (logits, recorded) = (net.logits(batch.inputs.clone()), source(&batch.inputs).1);
            lwf(logits.clone(), batch.targets, logits, recorded, 2.0, 0.1).expect("fits")
        }),
        ("Co-Tuning", |net, batch| {
            let (logits, whole) = (net.logits(batch.inputs), data(&device(), 1.0));
            let Labelled { inputs, targets } = whole.data().clone();
            let known = Relationship::of(source(&inputs).1, targets, 2).expect("both classes");
            co_tuning(logits.clone(), logits, batch.targets, &known, 0.1).expect("fits")
        }),
    ];
    let run = |loss: fn(&Net, Labelled<2>) -> Tensor<1>| {
        let tune = Tune::new(Recipe::full(), 8, adamw()).seed(Seed(3));
        tune.run(Near { net: net(&device()), loss }, &train, None).expect("trains")
    };
    let without = bits(&run(|net, batch| net.loss(batch)).model);
    for (name, loss) in losses {
        let tuned = run(loss);
        assert!(learned(&tuned), "{name}: {:?}", tuned.history.series(names::TRAIN_LOSS));
        assert_ne!(bits(&tuned.model), without, "{name} has a say");
    }
}

/// A net with StochNorm.
#[derive(Module, Debug)]
struct Stochastic {
    first: Linear,
    norm: StochNorm,
    head: Linear,
}

impl Stochastic {
    fn logits(&self, inputs: Tensor<2>) -> Tensor<2> {
        self.head.forward(relu(self.norm.forward(self.first.forward(inputs))))
    }
}

impl Learn for Stochastic {
    type Batch = Labelled<2>;

    fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
        cross_entropy(self.logits(batch.inputs), batch.targets)
    }

    fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
        Score::classification(self.logits(batch.inputs), batch.targets)
    }
}

#[test]
fn stoch_norm_and_mixout_train_within_a_recipe_and_leave_an_ordinary_model() {
    let (train, masks) = (data(&device(), 1.0), MaskSource::new(Seed(2)));
    let norm = StochNormConfig::new().init(BatchNormConfig::new(6).init(&device()), &masks);
    let model = Stochastic {
        first: LinearConfig::new(2, 6).init(&device()),
        norm: norm.expect("valid"),
        head: LinearConfig::new(6, 2).init(&device()),
    };
    // Weights that burn draws differ from run to run; these do not.
    let tune = Tune::new(Recipe::Scratch, 8, adamw()).seed(Seed(3)).rate(1e-2).masks(&masks);
    let tuned = tune.run(model, &train, None).expect("trains");
    assert!(learned(&tuned) && masks.position() > 0);

    let mixout = MixoutConfig::new().apply(net(&device()), &groups(), &["first", "second"], &masks);
    let tune = Tune::new(Recipe::full(), 20, adamw()).groups(groups()).seed(Seed(3)).rate(1e-2);
    let tuned = tune.run(mixout.expect("fits"), &train, None).expect("trains");
    assert!(learned(&tuned), "{:?}", tuned.history.series(names::TRAIN_LOSS));
    let merged = tuned.model.materialize();
    assert_eq!(bits(&merged).len(), bits(&net(&device())).len());
    let whole = train.read_whole().next().expect("one").expect("reads");
    assert_eq!(merged.score(whole).expect("reads"), tuned.train);
}

#[test]
fn a_penalty_and_means_of_weights_bring_a_model_nearer_to_its_source() {
    let train = data(&device(), 1.0);
    let source = net(&device());
    let anchor = Anchor::of(&source).without("head").expect("there");
    let tune = |seed| Tune::new(Recipe::full(), 4, adamw()).seed(Seed(seed)).rate(1e-2);
    let moved = |model: &Net| -> Vec<f64> {
        let by_group = drift(&anchor, model, &groups()).expect("reads");
        by_group[..2].iter().map(|(_, value)| *value).collect()
    };
    let free = tune(1).run(source.clone(), &train, None).expect("trains");
    let penalty = L2SpConfig::new().with_alpha(10.0).init(&anchor).expect("valid");
    let held = tune(1).penalty(penalty).run(source.clone(), &train, None).expect("trains");
    assert!(held.history.last(names::PENALTY).is_some());
    for (held, free) in moved(&held.model).iter().zip(moved(&free.model)) {
        assert!(*held < 0.7 * free, "{held} {free}");
    }
    let half = wise_ft(&Anchor::of(&source), free.model.clone(), 0.5).expect("fits");
    for (half, whole) in moved(&half).iter().zip(moved(&free.model)) {
        assert!((half / whole - 0.5).abs() < 1e-4, "{half} {whole}");
    }
    let runs = [1, 2, 3].map(|seed| tune(seed).run(source.clone(), &train, None).expect("trains"));
    let best = runs.iter().map(|run| run.train.loss()).fold(f64::INFINITY, f64::min);
    let soup = greedy_soup(runs.map(|run| run.model).into(), |model| {
        let batch = train.read_whole().next().expect("one").expect("reads");
        Ok(-model.score(batch)?.loss())
    });
    assert!(soup.expect("one architecture").score >= -best);
}
