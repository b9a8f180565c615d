//! What this build and this machine offer.

use crate::{Backend, BackendError, DeviceSpec};
use burn::tensor::DType;
use serde::Serialize;
use std::fmt::Write;

/// What one back-end can do in this build on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capability {
    /// The back-end.
    pub backend: Backend,
    /// Whether this build contains it.
    pub compiled: bool,
    /// Whether its default device answers; `None` where only an address could tell.
    pub present: Option<bool>,
    /// Float types that it computes with; empty where it is not present.
    pub dtypes: Vec<&'static str>,
    /// Whether firebrick's optimizers update its tensors in place on the host.
    pub host_fast_path: bool,
    /// What is missing, where something is.
    pub missing: Option<String>,
}

impl Capability {
    fn of(backend: Backend) -> Self {
        let compiled = backend.is_compiled();
        let host = matches!(backend, Backend::Flex | Backend::NdArray);
        let mut capability = Self {
            backend,
            compiled,
            present: Some(false),
            dtypes: Vec::new(),
            host_fast_path: host && compiled,
            missing: None,
        };
        if backend == Backend::Remote && compiled {
            capability.present = None;
            return capability;
        }
        match DeviceSpec::new(backend).open() {
            Ok(device) => {
                capability.present = Some(true);
                let types = [
                    ("f32", DType::F32),
                    ("f64", DType::F64),
                    ("f16", DType::F16),
                    ("bf16", DType::BF16),
                ];
                capability.dtypes = types
                    .into_iter()
                    .filter(|&(_, dtype)| device.supports_dtype(dtype))
                    .map(|(name, _)| name)
                    .collect();
            }
            Err(BackendError::NotCompiled { .. }) => {
                capability.missing = Some(format!("--features {backend}"));
            }
            Err(BackendError::Unavailable { reason, .. }) => capability.missing = Some(reason),
            Err(other) => capability.missing = Some(other.to_string()),
        }
        capability
    }
}

/// Asks every known back-end what it can do here; opens the ones that are compiled in.
#[must_use]
pub fn capabilities() -> Vec<Capability> {
    Backend::ALL.into_iter().map(Capability::of).collect()
}

/// The answers of [`capabilities`] as a table for a terminal.
#[must_use]
pub fn capability_table() -> String {
    let mut table = format!(
        "{:<10} {:<9} {:<8} {:<20} {:<15} missing\n",
        "back-end", "compiled", "present", "dtypes", "host fast path"
    );
    let yes = |yes| if yes { "yes" } else { "no" };
    for capability in capabilities() {
        let dtypes =
            if capability.dtypes.is_empty() { "-".into() } else { capability.dtypes.join(" ") };
        let row = writeln!(
            table,
            "{:<10} {:<9} {:<8} {:<20} {:<15} {}",
            capability.backend,
            yes(capability.compiled),
            capability.present.map_or("ask it", yes),
            dtypes,
            yes(capability.host_fast_path),
            capability.missing.as_deref().unwrap_or("-")
        );
        debug_assert!(row.is_ok(), "writing to a string cannot fail");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_listed_once_and_flex_computes_in_f32() {
        let all = capabilities();
        assert_eq!(all.iter().map(|c| c.backend).collect::<Vec<_>>(), Backend::ALL);
        for capability in &all {
            assert_eq!(capability.compiled, capability.backend.is_compiled());
            if capability.present == Some(true) {
                assert!(capability.dtypes.contains(&"f32"));
                assert_eq!(capability.missing, None);
            }
        }
        assert_eq!(capability_table().lines().count(), 1 + Backend::ALL.len());
    }
}
