//! The update rules, one file each.

/// Gives a configuration whose `build` makes an [`Elementwise`](crate::Elementwise) its two doors.
macro_rules! doors {
    ($config:ident) => {
        impl $config {
            /// burn's optimizer for a whole module; it decays what has two axes or more.
            ///
            /// # Errors
            /// As `build`.
            pub fn init(
                &self,
            ) -> Result<burn::optim::ModuleOptimizer, firebrick_core::ConfigError> {
                Ok(self.build()?.init())
            }

            /// The module-level optimizer, which steps all parameters in one parallel pass.
            ///
            /// # Errors
            /// As `build`.
            pub fn fused(&self) -> Result<crate::FusedOptimizer, firebrick_core::ConfigError> {
                Ok(self.build()?.fused())
            }
        }
    };
}
use doors;

mod adam;
mod sgd;

pub use adam::{AdamConfig, AdamWConfig, AmsGrad};
pub use sgd::{RatePlacement, SgdConfig};
