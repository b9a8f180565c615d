//! The devices that a test runs on: the same body on every back-end of this build.

use crate::DeviceSpec;
use burn::tensor::Device;

/// The devices for a test: the one that `FIREBRICK_BACKEND` names, or else every host back-end that is
/// compiled in.
///
/// GPU back-ends take part only when they are named, so that a plain `cargo test` never depends on a driver.
///
/// # Panics
/// When the named device cannot be had: a test that silently runs elsewhere proves nothing.
///
/// ```
/// for device in firebrick_backend::testing::devices() {
///     let device = device.autodiff();
///     // the body of the test
///     assert!(device.is_autodiff());
/// }
/// ```
#[must_use]
pub fn devices() -> Vec<Device> {
    if std::env::var_os(crate::ENVIRONMENT_VARIABLE).is_some_and(|name| !name.is_empty()) {
        let named = DeviceSpec::from_environment().and_then(|spec| spec.open());
        return vec![named.unwrap_or_else(|error| panic!("{error}"))];
    }
    [
        #[cfg(feature = "flex")]
        Device::flex(),
        #[cfg(feature = "ndarray")]
        #[expect(deprecated, reason = "kept while burn 0.22 has it")]
        Device::ndarray(),
    ]
    .into()
}
