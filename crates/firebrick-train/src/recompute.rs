//! A whole training on a device that saves memory by gradient checkpointing.

use crate::settings::Settings;
use crate::testing::{full, same, store, train_on};
use crate::{Averaging, EmaConfig, Fitted, Optimize, Outcome, SwaConfig};
use burn::optim::AdamWConfig as BurnAdamWConfig;
use burn::tensor::Device;
use firebrick_optim::AdamWConfig;
use firebrick_optim::wrapper::{LookaheadConfig, SamConfig};

type Change = fn(&mut Settings, &Device);

fn trains_alike<O: Optimize>(optimizer: impl Fn() -> O, changes: &[Change]) {
    let plain = Device::flex().autodiff();
    let saving = plain.clone().gradient_checkpointing();
    for change in changes {
        let run = |device: &Device| {
            let change = |settings: &mut Settings| change(settings, device);
            train_on(device, optimizer(), full(6), None, None, 8, change).expect("trains")
        };
        let whole: Fitted<_> = run(&plain);
        same(&run(&saving), &whole);
        let folder = tempfile::tempdir().expect("writable");
        let piece = || {
            let change = |settings: &mut Settings| change(settings, &saving);
            let store = Some(store(folder.path()));
            train_on(&saving, optimizer(), full(6), store, Some(5), 8, change)
        };
        let mut last = piece().expect("trains");
        while last.outcome == Outcome::Interrupted {
            last = piece().expect("resumes");
        }
        same(&last, &whole);
    }
}

#[test]
fn a_training_under_gradient_checkpointing_is_the_one_without() {
    let changes: [Change; 6] = [
        |_, _| (),
        |settings, _| settings.averaging = Some(Averaging::Ema(EmaConfig::new())),
        |settings, _| {
            let swa = SwaConfig::new(5).with_every(2).with_recalibration(3);
            settings.averaging = Some(Averaging::Swa(swa));
        },
        |settings, _| settings.sharpness = Some(SamConfig::new().with_alpha(0.4)),
        |settings, _| settings.lookahead = Some(LookaheadConfig::new().with_every(3)),
        |settings, device| settings.devices = Some(vec![device.clone(); 2]),
    ];
    trains_alike(|| AdamWConfig::new().fused().expect("valid"), &changes);
    trains_alike(|| BurnAdamWConfig::new().init(), &changes[..1]);
}
