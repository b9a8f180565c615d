//! Clipping by the global norm, against torch's `clip_grad_norm_` on the same shapes: alone, and before a step of AdamW.
//!
//! Each run starts from gradients of norm 10 and clips them to 1. Alone both read all of them twice and write them once,
//! at the speed of the memory. Before a step of the fused optimizer ours reads them once: the optimizer multiplies by the
//! factor on its way. That pass is the row `clip for a step`; whoever wants clipped gradients gets none from it.

use crate::harness::{BenchError, Case, Harness};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use firebrick::optim::{AdamWConfig, FusedOptimizer};
use firebrick::stabilize::{ClipGlobalNorm, ClipGlobalNormConfig, gradient_norms, scale_gradients};
use firebrick::stabilize::{Guard, NormType, SkipNonFiniteConfig};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The peer in `bench/peers/stabilize.py` reads count and side from the rows' names.
const SIZES: [(usize, usize); 2] = [(16, 1024), (500, 183)];

fn area(error: impl std::fmt::Display) -> BenchError {
    BenchError::Area(error.to_string())
}

/// A model, and gradients for it that outlive a step.
struct Bed {
    model: Vec<Param<Tensor<2>>>,
    gradients: GradientsParams,
}

impl Bed {
    fn new(count: usize, side: usize) -> Self {
        let device = Device::flex();
        let zeros = || Tensor::from_inner(Tensor::zeros([side, side], &device)).require_grad();
        let model: Vec<_> = (0..count).map(|_| Param::from_tensor(zeros())).collect();
        let mut gradients = GradientsParams::new();
        for param in &model {
            gradients.register::<2>(param.id, Tensor::ones([side, side], &device) * 1e-3);
        }
        Self { model, gradients }
    }

    /// Gradients of norm 10, all of them just read and written.
    fn refill(&mut self) {
        let norm = gradient_norms(&self.model, &self.gradients, NormType::Two).global;
        scale_gradients(&self.model, &mut self.gradients, 10.0 / norm);
    }

    fn timed(
        &mut self,
        run: impl FnOnce(&Vec<Param<Tensor<2>>>, &mut GradientsParams),
    ) -> Duration {
        self.refill();
        let start = Instant::now();
        run(&self.model, &mut self.gradients);
        start.elapsed()
    }

    /// A step of `optimizer`, which `clip` bounds where there is one.
    fn step(
        &mut self,
        optimizer: &mut FusedOptimizer,
        clip: Option<&mut ClipGlobalNorm>,
    ) -> Duration {
        self.refill();
        let mut gradients = GradientsParams::new();
        for param in &self.model {
            if let Some(gradient) = self.gradients.get::<2>(param.id) {
                gradients.register::<2>(param.id, gradient);
            }
        }
        let model = std::mem::take(&mut self.model);
        let start = Instant::now();
        let factor = clip.map_or(1.0, |clip| clip.factor(&model, &gradients));
        self.model = optimizer.step_scaled(1e-3, model, gradients, factor);
        let time = start.elapsed();
        // A training step has a backward pass, which sweeps the leaves of former steps out of autodiff's tables.
        let leaf = Tensor::<1>::ones([1], &Device::flex().autodiff()).require_grad();
        drop(leaf.sum().backward());
        time
    }
}

pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    for (count, side) in SIZES {
        let size = format!("{count} x {side}^2");
        let count = if bench.quick() { count.div_ceil(8) } else { count };
        let parameters = (count * side * side) as f64;
        let case = |name: String, numbers: f64| {
            Case::new(name, "ms").scale(1e3).bytes(4.0 * numbers * parameters)
        };
        let bed = || Bed::new(count, side);
        let clip = || ClipGlobalNormConfig::new(1.0).init().map_err(area);
        let adam_w = || AdamWConfig::new().fused().map_err(area);

        let name = format!("clip, {size}");
        if bench.wants(&name) {
            let (mut alone, mut clipping) = (bed(), clip()?);
            let skip = SkipNonFiniteConfig::new().init().map_err(area)?;
            let (mut chained, mut chain) = (bed(), (skip, clip()?));
            bench.row(
                case(name, 3.0)
                    .ours(|| {
                        alone.timed(|model, gradients| {
                            black_box(clipping.clip(model, gradients));
                        })
                    })
                    .peer("chained", || {
                        chained.timed(|model, gradients| {
                            black_box(chain.before_step(model, gradients, 1.0));
                        })
                    })
                    .python("torch"),
            )?;
        }
        let name = format!("clip for a step, {size}");
        if bench.wants(&name) {
            let (mut alone, mut clipping) = (bed(), clip()?);
            bench.row(
                case(name, 1.0)
                    .ours(|| {
                        alone.timed(|model, gradients| {
                            black_box(clipping.factor(model, gradients));
                        })
                    })
                    .python("torch"),
            )?;
        }
        // Parameter, gradient and two moments are read, all but the gradient written; clipping reads the gradient first.
        let name = format!("clip and step, {size}");
        if bench.wants(&name) {
            let (mut whole, mut clipping, mut optimizer) = (bed(), clip()?, adam_w()?);
            bench.row(
                case(name, 8.0)
                    .ours(|| whole.step(&mut optimizer, Some(&mut clipping)))
                    .python("torch"),
            )?;
        }
        let name = format!("step, {size}");
        if bench.wants(&name) {
            let (mut whole, mut optimizer) = (bed(), adam_w()?);
            bench.row(case(name, 7.0).ours(|| whole.step(&mut optimizer, None)).python("torch"))?;
        }
    }
    bench.note(
        "`chained` is SkipNonFinite and ClipGlobalNorm, which share one measurement of the norm",
    );
    bench.note(
        "`clip for a step` is ours as Fit and `ClipGlobalNorm::factor` clip for the fused AdamW: the norm alone, no \
         gradient is written; torch's is the whole of clip_grad_norm_",
    );
    bench.note("`step` is the fused AdamW of each, `clip and step` the same behind its clipping");
    Ok(())
}
