//! What clipping allocates, counted by the allocator itself.

use crate::{
    AutoClipConfig, ClipGlobalNormConfig, Guard, MonitorConfig, SkipNonFiniteConfig, Verdict,
    ZClipConfig,
};
use burn::module::Param;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The book-keeping of four tensors: far below the MiB that their 65,536 parameters each take.
const ENOUGH: usize = 16 * 1024;

/// The least that one of several steps allocates; other tests, in their own threads, only add to it, so a count
/// above `enough` is taken again while they may still be running.
fn least(enough: usize, mut step: impl FnMut()) -> usize {
    let mut least = usize::MAX;
    for attempt in 0..1000 {
        let region = Region::new(ALLOCATOR);
        step();
        least = least.min(region.change().bytes_allocated);
        if attempt >= 5 {
            if least < enough {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    least
}

/// What `guard` allocates for gradients of four tensors of `side`^2 elements.
fn allocated(side: usize, guard: &mut impl Guard) -> usize {
    let device = Device::flex();
    let model: Vec<Param<Tensor<2>>> =
        (0..4).map(|_| Param::from_tensor(Tensor::zeros([side, side], &device))).collect();
    let mut gradients = GradientsParams::new();
    for param in &model {
        gradients.register::<2>(param.id, Tensor::ones([side, side], &device) * 3.0);
    }
    least(ENOUGH, || {
        // Above every bound at each step: it is scaled, not only looked at.
        crate::scale_gradients(&model, &mut gradients, 1e3);
        assert_eq!(guard.before_step(&model, &mut gradients, 1.0), Verdict::Proceed);
    })
}

#[test]
fn clipping_allocates_nothing_that_grows_with_the_parameters() {
    let mut clip = ClipGlobalNormConfig::new(1.0).init().expect("valid");
    let mut chain = (
        SkipNonFiniteConfig::new().init().expect("valid"),
        AutoClipConfig::new().with_window(16).init().expect("valid"),
        ZClipConfig::new().init().expect("valid"),
    );
    let monitor = MonitorConfig::new().with_every(1).with_updates(false);
    let mut monitor = monitor.init().expect("valid");
    for side in [16, 256] {
        for (name, bytes) in [
            ("clip", allocated(side, &mut clip)),
            ("chain", allocated(side, &mut chain)),
            ("monitor", allocated(side, &mut monitor)),
        ] {
            assert!(bytes < ENOUGH, "{name} allocates {bytes} bytes at {side}^2");
        }
    }
}
