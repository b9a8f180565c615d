//! The two effects of dropout that the survey states: training takes longer, and it resembles bagging.

use crate::{InvertedDropout, InvertedDropoutConfig, MaskSource, MonteCarloConfig};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor, TensorData};
use firebrick_core::Seed;

#[derive(Module, Debug)]
struct Net {
    first: Linear,
    dropout: InvertedDropout,
    second: Linear,
}

impl Net {
    /// Weights from our generator, so that every run of the test is the same.
    fn new(prob: f64, seed: Seed, device: &Device) -> Self {
        let draws = MaskSource::named(seed, "weights");
        let linear = |inputs: usize, outputs: usize| {
            let mut layer = LinearConfig::new(inputs, outputs).init(device);
            let scale = (2.0 / inputs as f32).sqrt();
            let values = draws.normals(inputs * outputs).into_iter().map(|w| w * scale).collect();
            layer.weight = burn::module::Param::from_data(
                TensorData::new::<f32, _>(values, [inputs, outputs]),
                device,
            );
            layer.bias = Some(burn::module::Param::from_data(
                TensorData::new(vec![0f32; outputs], [outputs]),
                device,
            ));
            layer
        };
        let dropout = InvertedDropoutConfig::new(prob).init(&MaskSource::new(seed));
        Self { first: linear(8, 32), dropout: dropout.expect("valid"), second: linear(32, 2) }
    }

    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let hidden = self.dropout.forward(relu(self.first.forward(input)));
        softmax(self.second.forward(hidden), 1)
    }
}

/// Points of two classes: the sign of the product of the first two coordinates.
fn points(n: usize, seed: Seed, device: &Device) -> (Tensor<2>, Tensor<2>) {
    let x = MaskSource::named(seed, "points").normals(n * 8);
    let y = x
        .chunks(8)
        .flat_map(|row| if row[0] * row[1] > 0.0 { [1f32, 0.0] } else { [0.0, 1.0] })
        .collect();
    (
        Tensor::from_data(TensorData::new(x, [n, 8]), device),
        Tensor::from_data(TensorData::new::<f32, _>(y, [n, 2]), device),
    )
}

fn loss(net: &Net, x: &Tensor<2>, y: &Tensor<2>) -> Tensor<1> {
    (net.forward(x.clone()).clamp_min(1e-7).log() * y.clone()).sum_dim(1).mean().neg()
}

fn train(prob: f64, seed: Seed, steps: usize, device: &Device) -> (Net, Option<usize>) {
    let (x, y) = points(200, Seed(100), device);
    let mut net = Net::new(prob, seed, device);
    let mut sgd = SgdConfig::new().init();
    let mut reached = None;
    for step in 0..steps {
        let gradients = loss(&net, &x, &y).backward();
        let gradients = GradientsParams::from_grads(gradients, &net);
        net = sgd.step(0.3, net, gradients);
        if reached.is_none() && step % 5 == 4 {
            let (x, y) = (x.clone().inner(), y.clone().inner());
            let value: f64 = loss(&net.valid(), &x, &y).into_scalar();
            if value < 0.45 {
                reached = Some(step + 1);
            }
        }
    }
    (net, reached)
}

#[test]
fn training_takes_longer() {
    let device = Device::flex().autodiff();
    // Paired by seed: the same start and data; a net that never gets there counts as 600 steps.
    let steps = |prob, seed| train(prob, Seed(seed), 600, &device).1.unwrap_or(600);
    let slower: Vec<(usize, usize)> = (0..5).map(|s| (steps(0.0, s), steps(0.5, s))).collect();
    assert!(slower.iter().all(|(plain, dropped)| dropped > plain), "{slower:?}");
    assert!(slower.iter().all(|(plain, _)| *plain < 600), "plain training gets there: {slower:?}");
}

#[test]
fn it_resembles_bagging() {
    let device = Device::flex().autodiff();
    let (net, _) = train(0.5, Seed(1), 300, &device);
    let (x, _) = points(500, Seed(200), &device);
    let predict = |passes: usize| {
        let monte = MonteCarloConfig::new().with_passes(passes).init().expect("valid");
        monte.predict(&net, |net| net.forward(x.clone())).expect("on autodiff")
    };
    // One evaluation with whole weights is close to the mean over many sampled sub-networks, and closer to it
    // than the sub-networks are to each other.
    let many = predict(400);
    let whole = net.valid().forward(x.clone().inner());
    let gap: f64 = (whole - many.mean.clone()).square().mean().into_scalar();
    let single: f64 = many.variance.clone().mean().into_scalar();
    assert!(gap < 0.2 * single, "{gap} against {single}");
    // The variance of an average of k sub-networks falls as 1 / k, as in bagging.
    for k in [4usize, 16] {
        let averages: Vec<Tensor<2>> = (0..60).map(|_| predict(k).mean).collect();
        let spread: f64 = Tensor::stack::<3>(averages, 0).var(0).mean().into_scalar();
        // 60 averages of 500 points: the mean variance is known to a few percent.
        assert!((spread * k as f64 / single - 1.0).abs() < 0.15, "{k}: {spread} {single}");
    }
}
