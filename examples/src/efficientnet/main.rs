//! A real pre-trained image network: EfficientNet-Lite0 loaded through a plan, checked against the reference
//! implementation, then the source of a task with few labels.
//!
//! `cargo xtask fetch efficientnet`, then `cargo run --bin efficientnet`.

mod digits;

use std::process::ExitCode;
use std::time::Instant;

use burn::tensor::Device;
use clap::Parser;
use firebrick::core::Seed;
use firebrick::transfer::probe::cache;
use firebrick_examples::pretrained::{
    ALLOWED, EfficientNetLite0, Failure, FewLabels, cached, compare, efficientnet_names,
    equal_to_reference, largest_difference, load, numbers, program, recorded, reference_input, say,
};

/// The logits that `transfer_efficientnet.py` recorded for the two inputs.
const RECORDED: &str = include_str!("../../../tests/references/transfer_efficientnet.json");
/// Images go through the network a few at a time, so that memory stays small.
const BATCH: usize = 10;

/// Loads EfficientNet-Lite0, compares it with the reference, and uses its features for digits with few labels.
#[derive(Debug, Parser)]
#[command(name = "efficientnet", version)]
struct Cli {
    /// Seed of the drawn rows and of the random copy
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Images of each digit
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u16).range(6..=500))]
    images: u16,
    /// Labelled images of each digit
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=400))]
    labels: u16,
    /// Rows and columns to which the images are enlarged
    #[arg(long, default_value_t = 96, value_name = "PIXELS", value_parser = clap::value_parser!(u16).range(32..=224))]
    size: u16,
}

fn main() -> ExitCode {
    program(run)
}

fn run(cli: &Cli) -> Result<(), Failure> {
    let path = cached("efficientnet", "efficientnet-lite0.pth")?;
    let device = Device::flex();
    let mut model = EfficientNetLite0::new(1000, &device);
    let fresh = EfficientNetLite0::new(1000, &device);
    load(&mut model, &efficientnet_names(), &path, say)?;
    let (off, largest) = difference(&model, &device)?;
    say(&format!(
        "reference: 2,000 logits up to {largest:.1}, largest difference {off:.1e} (allowed {ALLOWED:e})\n"
    ))?;
    equal_to_reference(off)?;

    let few = FewLabels { per_class: usize::from(cli.labels), draws: 9, seed: Seed(cli.seed) };
    let images = digits::read(usize::from(cli.images))?;
    let count = images.labels.len();
    say(&format!(
        "few labels: {} labelled images of each of 10 digits, {} others to judge, {} draws",
        cli.labels,
        count.saturating_sub(10 * few.per_class),
        few.draws
    ))?;
    let inputs = images.inputs(usize::from(cli.size), &device);
    let started = Instant::now();
    let features = cache(inputs.clone(), BATCH, |batch| model.features(batch))?;
    let once = started.elapsed().as_secs_f64();
    let random = cache(inputs, BATCH, |batch| fresh.features(batch))?;
    let pixels = images.pixels()?;
    let rivals =
        [("EfficientNet's features", &features), ("a random copy's", &random), ("pixels", &pixels)];
    let started = Instant::now();
    compare(&rivals, &images.labels, few)?;
    let fits = started.elapsed().as_secs_f64() / (few.draws as f64 * rivals.len() as f64);
    say(&format!("features of {count} images once: {once:.1} s; one head on them: {fits:.2} s"))
}

/// The largest absolute difference to the recorded logits, and the largest logit.
fn difference(model: &EfficientNetLite0, device: &Device) -> Result<(f64, f64), Failure> {
    let expected = numbers(&recorded("transfer_efficientnet.json", RECORDED)?["outputs"]);
    let output: Vec<f64> =
        model.forward(reference_input(device)).into_data().iter::<f64>().collect();
    let off = largest_difference(&output, &expected);
    Ok((off, output.iter().copied().fold(0.0, f64::max)))
}
