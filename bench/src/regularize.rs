//! Dropout, mixing and augmentation of 256 images, against torch and torchvision; projections of the weights, against
//! one pass that reads and writes them and against a walk that takes them out of the model and puts them back.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use firebrick::backend::host::HostTensor;
use firebrick::core::Seed;
use firebrick::regularize::{
    CutMixConfig, DropPathConfig, GroupLassoConfig, ImageAugment, ImageOp, InvertedDropoutConfig,
    MaskSource, MaxNormConfig, MixupConfig, Projection, ProximalL1Config, RandAugmentConfig, Step,
    UnitNormConfig,
};
use rayon::prelude::*;

use crate::harness::{BenchError, Case, Harness};

fn area(error: impl std::fmt::Display) -> BenchError {
    BenchError::Area(error.to_string())
}

fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    let made = run();
    let time = start.elapsed();
    drop(black_box(made));
    time
}

/// Measures the area: `cargo xtask bench regularize`.
pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    for side in [32, 224] {
        images(bench, side)?;
    }
    for (name, layers, side) in [("16 x 1024^2", 16, 1024), ("500 x 64^2", 500, 64)] {
        projections(bench, name, layers, side)?;
    }
    bench.note(
        "torchvision draws one change for the whole batch; torchvision_each one for each image, as ours does",
    );
    bench.note("`pass` reads and writes all weights once, in place and on all cores");
    bench.note(
        "`reopen` takes every weight out of autodiff and gives it back unchanged: what burn charges for any change of one",
    );
    bench.note(
        "max-norm and group lasso scale every unit here, so that all weights are read again after the norms are known",
    );
    Ok(())
}

/// 256 images of 3 channels; the peers in `bench/peers/regularize.py` read the side from the name.
fn images(bench: &mut Harness, side: usize) -> Result<(), BenchError> {
    let batch = if bench.quick() { 32 } else { 256 };
    let size = format!("3x{side}x{side}");
    let names: Vec<String> = ["dropout", "drop path", "mixup", "cutmix", "affine", "randaugment"]
        .map(|kind| format!("{kind}, {size}"))
        .into();
    if !names.iter().any(|name| bench.wants(name)) {
        return Ok(());
    }
    let device = Device::flex();
    let masks = MaskSource::new(Seed(1));
    let elements = batch * 3 * side * side;
    let values: Vec<f32> = (0..elements).map(|at| (at * 7919 % 1000) as f32 / 999.0).collect();
    let images = Tensor::<4>::from_data(TensorData::new(values, [batch, 3, side, side]), &device);
    let targets = Tensor::<2>::ones([batch, 10], &device).div_scalar(10.0);
    let tracked = Tensor::from_inner(images.clone());
    let dropout = InvertedDropoutConfig::new(0.5).init(&masks).map_err(area)?;
    let path = DropPathConfig::new(0.2).init(&masks).map_err(area)?;
    let mixup = MixupConfig::new().with_alpha(1.0).init(&masks).map_err(area)?;
    let cutmix = CutMixConfig::new().init(&masks).map_err(area)?;
    let affine = vec![Step::preserving(ImageOp::Affine {
        degrees: 30.0,
        translate: 0.1,
        scale: (0.8, 1.2),
        shear: 10.0,
    })];
    let affine = ImageAugment::new(affine, &masks).map_err(area)?;
    let rand = RandAugmentConfig::new().init(&masks).map_err(area)?;
    let case =
        |at: usize| Case::new(names[at].clone(), "ms").scale(1e3).bytes(8.0 * elements as f64);
    bench.row(case(0).ours(|| timed(|| dropout.forward(tracked.clone()))).python("torch"))?;
    bench.row(case(1).ours(|| timed(|| path.forward(tracked.clone()))).python("torch"))?;
    bench.row(
        case(2).ours(|| timed(|| mixup.mix(images.clone(), targets.clone()))).python("torchvision"),
    )?;
    bench.row(
        case(3)
            .ours(|| timed(|| cutmix.mix(images.clone(), targets.clone())))
            .python("torchvision"),
    )?;
    bench.row(
        case(4)
            .ours(|| timed(|| affine.images(images.clone())))
            .python("torchvision")
            .python("torchvision_each"),
    )?;
    bench.row(
        case(5)
            .ours(|| timed(|| rand.images(images.clone())))
            .python("torchvision")
            .python("torchvision_each"),
    )
}

/// What the backward pass of a training step does: it sweeps the leaves of former steps out of autodiff's tables.
fn sweep() {
    let leaf = Tensor::<1>::ones([1], &Device::flex().autodiff()).require_grad();
    drop(leaf.sum().backward());
}

/// Takes every weight out of autodiff and gives it back unchanged.
struct Reopen;

impl ModuleMapper for Reopen {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| match HostTensor::take_tracked(weight) {
            Ok((host, tracking)) => host.give_tracked::<D>(tracking),
            Err(weight) => weight,
        })
    }
}

/// Steps on the weights of `layers` square layers.
fn projections(
    bench: &mut Harness,
    size: &str,
    layers: usize,
    side: usize,
) -> Result<(), BenchError> {
    let layers = if bench.quick() { layers.div_ceil(8) } else { layers };
    let names = ["proximal L1", "max-norm", "group lasso"].map(|kind| format!("{kind}, {size}"));
    if !names.iter().any(|name| bench.wants(name)) {
        return Ok(());
    }
    let device = Device::flex().autodiff();
    let model = || -> Vec<Linear> {
        let layer = || LinearConfig::new(side, side).with_bias(false).init(&device);
        (0..layers).map(|_| layer()).collect()
    };
    let elements = (layers * side * side) as f64;
    let max = MaxNormConfig::new().with_max(0.5).init().map_err(area)?;
    // The worst case for max-norm: every unit is too large each time.
    let grow = UnitNormConfig::new().init();
    let l1 = ProximalL1Config::new(1e-6).init().map_err(area)?;
    let lasso = GroupLassoConfig::new(1e-6).init().map_err(area)?;
    let mut weights: Vec<HostTensor> = model()
        .iter()
        .filter_map(|layer| HostTensor::take(layer.weight.val().inner()).ok())
        .collect();
    // Once, so that no round pays for a copy.
    for weight in &mut weights {
        let _ = weight.as_mut_slice();
    }
    let mut pass = || {
        // Threads that have gone to sleep meanwhile wake late, for the pass as for us.
        sweep();
        timed(|| {
            let parts =
                weights.par_iter_mut().flat_map(|w| w.as_mut_slice().par_chunks_mut(1 << 16));
            parts.for_each(|part| part.iter_mut().for_each(|w| *w *= 0.999_999_9));
        })
    };
    let mut opened = Some(model());
    let mut reopen = || {
        let own = opened.take();
        sweep();
        let start = Instant::now();
        opened = own.map(|own| own.map(&mut Reopen));
        start.elapsed()
    };
    let mut floors = (&mut pass, &mut reopen);
    step(bench, &names[0], elements, model(), (&(), &l1), &mut floors)?;
    step(bench, &names[1], elements, model(), (&grow, &max), &mut floors)?;
    step(bench, &names[2], elements, model(), (&(), &lasso), &mut floors)
}

fn step<M: Module>(
    bench: &mut Harness,
    name: &str,
    elements: f64,
    model: M,
    (before, rule): (&impl Projection, &impl Projection),
    (pass, reopen): &mut (impl FnMut() -> Duration, impl FnMut() -> Duration),
) -> Result<(), BenchError> {
    let mut model = Some(model);
    bench.row(
        Case::new(name, "ns/parameter")
            .scale(1e9 / elements)
            .bytes(8.0 * elements)
            .ours(|| {
                let own = model.take().and_then(|own| before.project(own, 1e-3).ok());
                sweep();
                let start = Instant::now();
                let own = own.and_then(|own| rule.project(own, 1e-3).ok());
                let time = start.elapsed();
                model = own;
                time
            })
            .peer("pass", pass)
            .peer("reopen", reopen),
    )
}
