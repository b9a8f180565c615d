//! Opens the device that a name stands for, and proves that it works.

use crate::{Backend, BackendError, DeviceSpec};
use burn::tensor::{Device, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

impl DeviceSpec {
    /// Opens the device, without autodiff, after one small computation on it has come out right.
    ///
    /// For training, call burn's `Device::autodiff` on what it returns.
    ///
    /// # Errors
    /// When the back-end is not compiled in, has no such device, or does not answer because an
    /// adapter, driver or server is missing.
    pub fn open(&self) -> Result<Device, BackendError> {
        if !self.backend().is_compiled() {
            return Err(BackendError::NotCompiled { backend: self.backend() });
        }
        quietly(|| {
            let device = self.find()?;
            let two = Tensor::<1>::from_floats([0.5, 1.5], &device).sum().try_into_scalar::<f32>();
            match two {
                Ok(two) if (two - 2.0).abs() < 1e-6 => Ok(device),
                Ok(other) => Err(self.unavailable(format!("0.5 + 1.5 gave {other}"))),
                Err(error) => Err(self.unavailable(error)),
            }
        })
        .unwrap_or_else(|panic| Err(self.unavailable(panic)))
    }

    fn find(&self) -> Result<Device, BackendError> {
        let found: Vec<Device> = match self.backend() {
            #[cfg(feature = "flex")]
            Backend::Flex => vec![Device::flex()],
            #[cfg(feature = "ndarray")]
            #[expect(deprecated, reason = "kept while burn 0.22 has it")]
            Backend::NdArray => vec![Device::ndarray()],
            #[cfg(feature = "wgpu")]
            Backend::Wgpu => match self.index() {
                None => vec![Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)],
                Some(_) => Device::enumerate(burn::tensor::DeviceType::Wgpu).into_vec(),
            },
            #[cfg(feature = "cuda")]
            Backend::Cuda => match self.index() {
                None => vec![Device::cuda(0)],
                Some(_) => Device::enumerate(burn::tensor::DeviceType::Cuda).into_vec(),
            },
            #[cfg(feature = "remote")]
            Backend::Remote => {
                let address = self.address().ok_or(BackendError::Address)?;
                let url = if address.contains("://") {
                    address.to_owned()
                } else {
                    format!("ws://{address}")
                };
                let host = burn::remote::RemoteHost::websocket(&url);
                match self.token() {
                    Some(token) => host.with_credential(token),
                    None => host,
                }
                .devices()
                .map_err(|error| self.unavailable(format!("{error:?}")))?
                .into_vec()
            }
            #[allow(unreachable_patterns, reason = "which arms exist depends on the features")]
            backend => return Err(BackendError::NotCompiled { backend }),
        };
        let (index, count) = (self.index().unwrap_or(0), found.len());
        found.into_iter().nth(index).ok_or(BackendError::NoSuchDevice {
            backend: self.backend(),
            index,
            found: count,
        })
    }

    fn unavailable(&self, reason: impl ToString) -> BackendError {
        // A driver's complaint can be many lines long; the first one names what is missing.
        let reason = reason.to_string();
        let line =
            reason.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it fails");
        BackendError::Unavailable {
            backend: self.backend(),
            reason: line.trim_end_matches('.').to_owned(),
        }
    }
}

/// Runs `work` with panics turned into their message and kept off the terminal.
///
/// GPU back-ends panic where a driver is missing, some of them on threads of their own, and offer no
/// other way to ask. The hook is the process's, so only one caller at a time may silence it.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Mutex<()> = Mutex::new(());
    let _one = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("its driver could not be loaded")
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_its_message() {
        assert_eq!(quietly(|| 3), Ok(3));
        assert_eq!(quietly(|| -> u8 { panic!("no {}", "driver") }), Err("no driver".into()));
    }

    #[test]
    fn what_is_not_compiled_names_the_feature() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_compiled()) {
            let text = match backend {
                Backend::Remote => "remote:127.0.0.1:1".to_owned(),
                other => other.to_string(),
            };
            let error =
                text.parse::<DeviceSpec>().and_then(|spec| spec.open()).expect_err("absent");
            assert_eq!(
                error.to_string(),
                format!(
                    "back-end `{backend}` is not compiled in: add `--features {backend}` to the cargo command"
                )
            );
        }
    }

    #[cfg(feature = "flex")]
    #[test]
    fn flex_opens_and_has_one_device() {
        let spec: DeviceSpec = "flex:0".parse().expect("parses");
        assert!(!spec.open().expect("opens").is_autodiff());
        let second: DeviceSpec = "flex:1".parse().expect("parses");
        assert_eq!(
            second.open().expect_err("there is one processor").to_string(),
            "back-end `flex` has no device 1: it finds 1, counted from 0"
        );
    }
}
