//! What a test runs on: the same body on every back-end of this build, or on a device that is configured otherwise.

use crate::DeviceSpec;
use burn::tensor::Device;
#[cfg(feature = "flex")]
use burn::tensor::{FloatDType, IntDType};

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

/// Runs the body of the test that is called `name` in a process of its own, on a flex device that makes f16 by default.
///
/// burn configures a device for the whole process and before its first tensor, which no test can promise that shares its
/// process with others. `name` is the test's path without the crate.
///
/// # Panics
/// When the body fails, or no test has this name.
#[cfg(feature = "flex")]
pub fn with_half_by_default(name: &str, body: impl FnOnce(Device)) {
    const CHILD: &str = "FIREBRICK_HALF_BY_DEFAULT";
    if std::env::var_os(CHILD).is_some() {
        let mut device = Device::flex();
        let halves = (FloatDType::F16, IntDType::I32);
        device.configure(halves).unwrap_or_else(|error| panic!("{error}"));
        return body(device);
    }
    let binary = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let mut child = std::process::Command::new(binary);
    let output = child.args(["--exact", name]).env(CHILD, "1").output();
    let output = output.unwrap_or_else(|error| panic!("{error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
}
