//! Why a device cannot be had.

use crate::Backend;

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The name is none of the known ones.
    #[error("unknown back-end `{name}`; known are {known}", known = Backend::forms())]
    Unknown {
        /// The name as it was given.
        name: String,
    },
    /// What follows the name is no device number.
    #[error(
        "`{index}` in `{spec}` is no device number: write `{backend}` or, for one device of several, `{backend}:0`"
    )]
    Index {
        /// The whole text.
        spec: String,
        /// The back-end that was named.
        backend: Backend,
        /// What was found in place of a number.
        index: String,
    },
    /// A remote device without an address.
    #[error("`remote` needs the address of a burn server: remote:HOST:PORT")]
    Address,
    /// The back-end exists, but this build lacks it.
    #[error(
        "back-end `{backend}` is not compiled in: add `--features {backend}` to the cargo command"
    )]
    NotCompiled {
        /// The back-end that was named.
        backend: Backend,
    },
    /// There are fewer devices than the number asks for.
    #[error("back-end `{backend}` has no device {index}: it finds {found}, counted from 0")]
    NoSuchDevice {
        /// The back-end that was named.
        backend: Backend,
        /// The number that was asked for.
        index: usize,
        /// How many there are.
        found: usize,
    },
    /// The device does not answer: adapter, driver, runtime or server is missing.
    #[error("back-end `{backend}` cannot be used here: {reason}. {hint}", hint = backend.hint())]
    Unavailable {
        /// The back-end that was named.
        backend: Backend,
        /// What the back-end says.
        reason: String,
    },
}
