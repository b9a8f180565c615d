//! Clipping by the global norm, against torch's `clip_grad_norm_` on the same shapes.
//!
//! Each run starts from gradients of norm 10 and clips them to 1, so both read and scale all of them.

use crate::harness::{BenchError, Case, Harness};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use firebrick::stabilize::{ClipGlobalNormConfig, gradient_norms, scale_gradients};
use firebrick::stabilize::{Guard, NormType, SkipNonFiniteConfig};
use std::hint::black_box;
use std::time::Instant;

/// The peer in `bench/peers/stabilize.py` reads count and side from these names.
const CASES: [(&str, usize, usize); 2] =
    [("clip, 16 x 1024^2", 16, 1024), ("clip, 500 x 183^2", 500, 183)];

fn area(error: impl std::fmt::Display) -> BenchError {
    BenchError::Area(error.to_string())
}

pub(crate) fn run(bench: &mut Harness) -> Result<(), BenchError> {
    let device = Device::flex();
    for (name, count, side) in CASES {
        if !bench.wants(name) {
            continue;
        }
        let count = if bench.quick() { count.div_ceil(8) } else { count };
        let model: Vec<Param<Tensor<2>>> =
            (0..count).map(|_| Param::from_tensor(Tensor::zeros([side, side], &device))).collect();
        let fill = || {
            let mut gradients = GradientsParams::new();
            for param in &model {
                gradients.register::<2>(param.id, Tensor::ones([side, side], &device) * 1e-3);
            }
            gradients
        };
        let elements = (count * side * side) as f64;
        let to_ten = |gradients: &mut GradientsParams| {
            let norm = gradient_norms(&model, gradients, NormType::Two).global;
            scale_gradients(&model, gradients, 10.0 / norm);
        };
        let mut clip = ClipGlobalNormConfig::new(1.0).init().map_err(area)?;
        let mut alone = fill();
        let skip = SkipNonFiniteConfig::new().init().map_err(area)?;
        let mut chain = (skip, clip.clone());
        let mut chained = fill();
        bench.row(
            Case::new(name, "ms")
                .scale(1e3)
                .bytes(12.0 * elements)
                .ours(|| {
                    to_ten(&mut alone);
                    let start = Instant::now();
                    black_box(clip.clip(&model, &mut alone));
                    start.elapsed()
                })
                .peer("chained", || {
                    to_ten(&mut chained);
                    let start = Instant::now();
                    black_box(chain.before_step(&model, &mut chained, 1.0));
                    start.elapsed()
                })
                .python("torch"),
        )?;
    }
    bench.note(
        "`chained` is SkipNonFinite and ClipGlobalNorm, which share one measurement of the norm",
    );
    Ok(())
}
