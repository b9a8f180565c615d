//! Lookahead where it was at a step, for a training that is resumed or goes back.

use burn::module::Module;
use firebrick_core::ConfigError;
use firebrick_optim::wrapper::{Lookahead, LookaheadConfig};

/// Lookahead after `step` steps, with the weights of `slow` as the slow ones.
pub(crate) fn lookahead_at<M: Module>(
    config: &LookaheadConfig,
    slow: M,
    step: u64,
) -> Result<Lookahead, ConfigError> {
    let mut model = slow.train();
    let mut lookahead = config.init(&model)?;
    // Between two pulls a step only counts.
    for _ in 0..step % config.every as u64 {
        model = lookahead.after_step(model);
    }
    Ok(lookahead)
}
