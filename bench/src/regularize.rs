//! Dropout, mixing and augmentation of 256 images, against torch and torchvision; projections of the weights, against
//! one pass that reads and writes them and against a walk that takes them out of the model and puts them back.
//!
//! A projection of units reads all weights twice, for their norms and for their factors. Rows are scaled in the
//! first-level cache while the next row comes from memory: bare loops on two Zen 3 cores take 1.0 passes for that, and 1.1
//! one after the other. Columns, the units of burn's linear layers, cannot be scaled before the whole matrix has been
//! read, and 1024 x 1024 weights outgrow the second-level cache; a panel of columns does no better, for its rows are 4 KB
//! apart and share the sets of the cache. In bare loops sums of columns take 0.9 passes, and with the second walk, over
//! what lies in the third-level cache, 1.2 to 1.4; to scale one matrix while the next is read took 1.3 to 1.4 too, so that
//! no more than the sum of the two is to be had. Small matrices cost what it takes to lead each through the module:
//! `reopen` is the least of it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::LinearConfig;
use burn::nn::conv::Conv1dConfig;
use burn::tensor::{Device, Tensor, TensorData};
use firebrick::backend::host::HostTensor;
use firebrick::core::Seed;
use firebrick::regularize::{
    CutMixConfig, DropPathConfig, GroupLassoConfig, ImageAugment, ImageOp, InvertedDropoutConfig,
    MaskSource, MaxNormConfig, MixupConfig, Projection, ProximalL1Config, RandAugmentConfig,
    RegularizeError, Step, UnitNormConfig,
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
        let device = Device::flex().autodiff();
        let linear = || LinearConfig::new(side, side).with_bias(false).init(&device);
        projections(
            bench,
            name,
            (layers, side),
            &["proximal L1", "max-norm", "group lasso", "max-norm of few columns"],
            linear,
        )?;
        let conv = || Conv1dConfig::new(side, side, 1).with_bias(false).init(&device);
        projections(
            bench,
            name,
            (layers, side),
            &["", "max-norm of rows", "group lasso of rows", ""],
            conv,
        )?;
    }
    bench.note(
        "torchvision draws one change for the whole batch; torchvision_each one for each image, as ours does",
    );
    bench.note("`pass` reads and writes all weights once, in place and on all cores");
    bench.note(
        "`reopen` takes every weight out of autodiff and gives it back unchanged: what burn charges for any change of one",
    );
    bench.note(
        "max-norm and group lasso scale every unit here, so that all weights are read again after the norms are known: of rows \
         (the units of convolutions), while they are in the cache; of columns (burn's linear layers), when the whole matrix has \
         been read; of few columns: one unit in 64 has outgrown the bound",
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

/// Makes one unit in 64 of burn's linear layers three times as large.
struct Outgrow;

impl Projection for Outgrow {
    fn project<M: Module>(&self, model: M, _: f64) -> Result<M, RegularizeError> {
        Ok(model.map(&mut Self))
    }
}

impl ModuleMapper for Outgrow {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| match HostTensor::take_tracked(weight) {
            Ok((mut host, tracking)) => {
                let units = host.shape().last().copied().unwrap_or(1).max(1);
                for row in host.as_mut_slice().chunks_mut(units) {
                    row.iter_mut().step_by(64).for_each(|w| *w *= 3.0);
                }
                host.give_tracked::<D>(tracking)
            }
            Err(weight) => weight,
        })
    }
}

/// Steps on the weights of so many square layers of a side: elements one by one (unless its name is empty), then units.
fn projections<L: Module>(
    bench: &mut Harness,
    size: &str,
    (layers, side): (usize, usize),
    kinds: &[&str; 4],
    layer: impl Fn() -> L,
) -> Result<(), BenchError> {
    let layers = if bench.quick() { layers.div_ceil(8) } else { layers };
    let names = kinds.map(|kind| format!("{kind}, {size}"));
    if !names.iter().any(|name| bench.wants(name)) {
        return Ok(());
    }
    let model = || -> Vec<L> { (0..layers).map(|_| layer()).collect() };
    let elements = (layers * side * side) as f64;
    let max = MaxNormConfig::new().with_max(0.5).init().map_err(area)?;
    // The worst case for max-norm: every unit is too large each time.
    let grow = UnitNormConfig::new().init();
    let l1 = ProximalL1Config::new(1e-6).init().map_err(area)?;
    let lasso = GroupLassoConfig::new(1e-6).init().map_err(area)?;
    let weight = || HostTensor::take(Tensor::<2>::ones([side, side], &Device::flex())).ok();
    let mut weights: Vec<HostTensor> = (0..layers).filter_map(|_| weight()).collect();
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
    if !kinds[0].is_empty() {
        step(bench, &names[0], elements, model(), (&(), &l1), &mut floors)?;
    }
    step(bench, &names[1], elements, model(), (&grow, &max), &mut floors)?;
    step(bench, &names[2], elements, model(), (&(), &lasso), &mut floors)?;
    if kinds[3].is_empty() {
        return Ok(());
    }
    step(bench, &names[3], elements, model(), (&Outgrow, &max), &mut floors)
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
