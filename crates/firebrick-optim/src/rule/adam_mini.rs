//! Adam-mini: Adam with one second moment for each block of a weight. Half of Adam's state.
//!
//! # Update
//! ```text
//! m_t = b1 m_{t-1} + (1 - b1) g_t                        for each element
//! v_t = b2 v_{t-1} + (1 - b2) mean(g_t^2 of the block)   for each block
//! p_t = p_{t-1} - lr m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps)
//! ```
//! # Reference
//! Y. Zhang et al., "Adam-mini: use fewer learning rates to gain more", 2024, arXiv 2406.16793.
//!
//! # Differences
//! The authors' code chooses blocks by the names of parameters; here a group says what its blocks are.

use super::moments::Moments;
use super::reduce::take;
use crate::decay::Decay;
use crate::elementwise::Elementwise;
use crate::recurrence::Clock;
use crate::tensor_rule::TensorRule;
use burn::config::Config;
use burn::tensor::Tensor;
use firebrick_core::ConfigError;
use serde::{Deserialize, Serialize};

/// What shares one second moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MiniBlock {
    /// The whole tensor.
    #[default]
    Tensor,
    /// What one output of a burn `Linear` weighs: a column of `[in, out]`.
    Column,
    /// What one output of a convolution, or one row of an embedding, holds: an index of the first axis.
    Row,
    /// Each element on its own: Adam. For embeddings and output layers.
    Element,
}

/// Configuration of [Adam-mini](self).
#[derive(Config, Debug)]
pub struct AdamMiniConfig {
    /// Decay rate of the first moment, in `[0, 1)`.
    #[config(default = 0.9)]
    pub beta_1: f64,
    /// Decay rate of the second moment, in `[0, 1)`.
    #[config(default = 0.999)]
    pub beta_2: f64,
    /// Keeps the denominator from zero, in `[0, inf)`.
    #[config(default = 1e-8)]
    pub epsilon: f64,
    /// Strength of decoupled weight decay, in `[0, inf)`.
    #[config(default = 0.01)]
    pub weight_decay: f64,
    /// What shares one second moment; vectors are one block.
    #[config(default = "MiniBlock::Tensor")]
    pub block: MiniBlock,
}

impl AdamMiniConfig {
    /// The validated optimizer.
    ///
    /// # Errors
    /// When a field lies outside its range.
    pub fn build(&self) -> Result<Elementwise, ConfigError> {
        let moments = Moments::new(self.beta_1, self.beta_2, self.epsilon)?;
        Elementwise::of_tensor(AdamMini { moments, block: self.block })
            .with_decay(Decay::Decoupled(self.weight_decay))
    }
}
super::doors!(AdamMiniConfig);

#[derive(Debug)]
struct AdamMini {
    moments: Moments,
    block: MiniBlock,
}

impl AdamMini {
    /// The weight as rows by columns, and the axis that is averaged.
    fn layout(&self, shape: &[usize]) -> ([usize; 2], Option<usize>) {
        let n: usize = shape.iter().product();
        let (first, last) = match shape {
            [first, .., last] => (*first, *last),
            _ => return ([1, n], if self.block == MiniBlock::Element { None } else { Some(1) }),
        };
        match self.block {
            MiniBlock::Tensor => ([1, n], Some(1)),
            MiniBlock::Column => ([n / last.max(1), last], Some(0)),
            MiniBlock::Row => ([first, n / first.max(1)], Some(1)),
            MiniBlock::Element => ([1, n], None),
        }
    }
}

impl TensorRule for AdamMini {
    fn name(&self) -> &'static str {
        "adam_mini"
    }

    fn slots(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn lengths(&self, shape: &[usize]) -> Vec<usize> {
        let ([rows, columns], axis) = self.layout(shape);
        let blocks = match axis {
            Some(0) => columns,
            Some(_) => rows,
            None => rows * columns,
        };
        vec![rows * columns, blocks]
    }

    fn step(
        &self,
        clock: &Clock,
        shape: &[usize],
        _: &mut [f64],
        p: Tensor<1>,
        g: Tensor<1>,
        state: Vec<Tensor<1>>,
    ) -> (Tensor<1>, Vec<Tensor<1>>) {
        let [m, v] = take(state, &p);
        let s = self.moments.step(clock);
        let ([rows, columns], axis) = self.layout(shape);
        let m = s.first(m, g.clone());
        let square = g.square().reshape([rows, columns]);
        let mean = match axis {
            Some(axis) => square.mean_dim(axis),
            None => square,
        };
        let sizes = mean.dims();
        let n = sizes.iter().product::<usize>();
        let v = v.mul_scalar(s.beta_2) + mean.reshape([n]).mul_scalar(s.fresh_2);
        let root = s.denominator(v.clone()).reshape(sizes);
        let step = m.clone().mul_scalar(s.lr).reshape([rows, columns]) / root;
        let length = p.dims();
        (p - step.reshape(length), vec![m, v])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{golden, refused};

    #[test]
    fn one_element_a_block_is_adam() {
        let config = AdamMiniConfig::new().with_weight_decay(0.0).with_block(MiniBlock::Element);
        golden(
            &config.build().expect("valid"),
            0.1,
            [0.900000002, 0.873366299, 0.595822295, -0.911238019],
        );
    }

    #[test]
    fn blocks_lie_along_the_axis_that_is_asked_for() {
        // The first step is lr g / sqrt(mean of the block's g^2).
        use burn::optim::Optimizer;
        let device = burn::tensor::Device::default();
        let step = |block: MiniBlock| {
            let rule = AdamMiniConfig::new()
                .with_weight_decay(0.0)
                .with_block(block)
                .build()
                .expect("valid");
            let g = Tensor::<2>::from_data([[1.0, 2.0], [3.0, 4.0]], &device);
            let (p, state) = rule.step(1.0, g.zeros_like(), g, None);
            let blocks = state.expect("state").slots()[1].dims()[0];
            (p.neg().into_data().try_into_vec::<f32>().expect("f32"), blocks)
        };
        let near = |seen: (Vec<f32>, usize), expected: [f32; 4], blocks| {
            assert_eq!(seen.1, blocks);
            assert!(seen.0.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{seen:?}");
        };
        let all = 7.5f32.sqrt();
        near(step(MiniBlock::Tensor), [1.0 / all, 2.0 / all, 3.0 / all, 4.0 / all], 1);
        let (a, b) = (5f32.sqrt(), 10f32.sqrt());
        near(step(MiniBlock::Column), [1.0 / a, 2.0 / b, 3.0 / a, 4.0 / b], 2);
        let (a, b) = (2.5f32.sqrt(), 12.5f32.sqrt());
        near(step(MiniBlock::Row), [1.0 / a, 2.0 / a, 3.0 / b, 4.0 / b], 2);
    }

    #[test]
    fn bad_configurations_are_refused() {
        refused(
            AdamMiniConfig::new().with_beta_1(1.0).build(),
            "`beta_1` must be in [0, 1), got 1",
        );
        refused(
            AdamMiniConfig::new().with_weight_decay(-1.0).build(),
            "`weight_decay` must be in [0, inf), got -1",
        );
        refused(
            AdamMiniConfig::new().with_epsilon(f64::NAN).build(),
            "`epsilon` must be in [0, inf), got NaN",
        );
    }
}
