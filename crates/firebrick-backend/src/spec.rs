//! The name of a device, as it stands on a command line.

use crate::BackendError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The environment variable that [`DeviceSpec::from_environment`] reads.
pub const ENVIRONMENT_VARIABLE: &str = "FIREBRICK_BACKEND";

/// The environment variable with the token that a remote server's authorizer asks for, unless
/// [`DeviceSpec::with_token`] gives one. It stands in no name of a device, so that it gets into no log and no report.
pub const TOKEN_VARIABLE: &str = "FIREBRICK_REMOTE_TOKEN";

/// The back-ends that firebrick knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Backend {
    /// burn-flex: the processor, pure Rust.
    Flex,
    /// burn-ndarray: the processor; burn marks it as deprecated.
    NdArray,
    /// burn-wgpu: a GPU through Vulkan, Metal, DirectX or WebGPU.
    Wgpu,
    /// burn-cuda: an NVIDIA GPU.
    Cuda,
    /// burn-remote: a device of a burn server on another machine.
    Remote,
}

impl Backend {
    /// Every back-end, in the order in which they are listed.
    pub const ALL: [Self; 5] = [Self::Flex, Self::NdArray, Self::Wgpu, Self::Cuda, Self::Remote];

    /// The name, which is also the cargo feature.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
            Self::Remote => "remote",
        }
    }

    /// Whether this build contains the back-end.
    #[must_use]
    pub fn is_compiled(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Remote => cfg!(feature = "remote"),
        }
    }

    /// What the back-end needs besides being compiled in.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Flex | Self::NdArray => "It needs nothing but a processor",
            Self::Wgpu => {
                "It needs a GPU with a driver for Vulkan, Metal or DirectX; a software Vulkan driver \
                 does too (Debian: mesa-vulkan-drivers)"
            }
            Self::Cuda => {
                "It needs an NVIDIA GPU with its driver and the CUDA runtime compiler (nvrtc)"
            }
            Self::Remote => "It needs a running burn server at that address",
        }
    }

    /// How each may be written, for messages.
    pub(crate) fn forms() -> &'static str {
        "flex, ndarray, wgpu[:INDEX], cuda[:INDEX], remote:HOST:PORT[#INDEX]"
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A device by name: a back-end, and which of its devices.
///
/// ```
/// use firebrick_backend::{Backend, DeviceSpec};
///
/// let spec: DeviceSpec = "cuda:1".parse()?;
/// assert_eq!((spec.backend(), spec.index()), (Backend::Cuda, Some(1)));
/// assert_eq!(spec.to_string(), "cuda:1");
/// let remote: DeviceSpec = "remote:192.0.2.1:3000#2".parse()?;
/// assert_eq!((remote.address(), remote.index()), (Some("192.0.2.1:3000"), Some(2)));
/// # Ok::<(), firebrick_backend::BackendError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceSpec {
    backend: Backend,
    index: Option<usize>,
    address: Option<String>,
    token: Option<Token>,
}

/// A secret: it is compared, and shown to nobody.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl DeviceSpec {
    /// The default device of `backend`; a remote one needs an address and so is parsed from text.
    #[must_use]
    pub fn new(backend: Backend) -> Self {
        Self { backend, index: None, address: None, token: None }
    }

    /// What the environment variable `FIREBRICK_BACKEND` names, or `flex` where it is unset or empty.
    ///
    /// # Errors
    /// When the variable's text is no device name.
    pub fn from_environment() -> Result<Self, BackendError> {
        match std::env::var(ENVIRONMENT_VARIABLE) {
            Ok(text) if !text.trim().is_empty() => text.parse(),
            Ok(_) | Err(std::env::VarError::NotPresent) => Ok(Self::new(Backend::Flex)),
            Err(std::env::VarError::NotUnicode(text)) => {
                Err(BackendError::Unknown { name: text.to_string_lossy().into_owned() })
            }
        }
    }

    /// The back-end.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Which of the back-end's devices, counted from 0; `None` for its default.
    #[must_use]
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// The server's address, for a remote device.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The same device, with the token that its server asks for; other back-ends ignore it. It is neither printed nor
    /// serialized.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Token(token.into()));
        self
    }

    /// The token that was given, or else what `FIREBRICK_REMOTE_TOKEN` holds.
    #[cfg(feature = "remote")]
    pub(crate) fn token(&self) -> Option<String> {
        let given = self.token.as_ref().map(|token| token.0.clone());
        given.or_else(|| std::env::var(TOKEN_VARIABLE).ok()).filter(|token| !token.is_empty())
    }
}

impl FromStr for DeviceSpec {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        let spec = text.trim();
        let (name, rest) = match spec.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (spec, None),
        };
        let backend = Backend::ALL
            .into_iter()
            .find(|backend| backend.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| BackendError::Unknown { name: spec.to_owned() })?;
        let number = |index: &str| {
            index.parse().map_err(|_| BackendError::Index {
                spec: spec.to_owned(),
                backend,
                index: index.to_owned(),
            })
        };
        if backend == Backend::Remote {
            let rest = rest.filter(|rest| !rest.is_empty()).ok_or(BackendError::Address)?;
            let (address, index) = match rest.split_once('#') {
                Some((address, index)) => (address, Some(number(index)?)),
                None => (rest, None),
            };
            if address.is_empty() {
                return Err(BackendError::Address);
            }
            return Ok(Self { backend, index, address: Some(address.to_owned()), token: None });
        }
        Ok(Self { backend, index: rest.map(number).transpose()?, address: None, token: None })
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.backend)?;
        match (&self.address, self.index) {
            (Some(address), Some(index)) => write!(f, ":{address}#{index}"),
            (Some(address), None) => write!(f, ":{address}"),
            (None, Some(index)) => write!(f, ":{index}"),
            (None, None) => Ok(()),
        }
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = BackendError;

    fn try_from(text: String) -> Result<Self, BackendError> {
        text.parse()
    }
}

impl From<DeviceSpec> for String {
    fn from(spec: DeviceSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<DeviceSpec>().expect_err("must be refused").to_string()
    }

    #[test]
    fn every_form_reads_back() {
        for text in
            ["flex", "ndarray", "wgpu", "wgpu:3", "cuda:0", "remote:host:80", "remote:ws://h:1#2"]
        {
            assert_eq!(text.parse::<DeviceSpec>().expect(text).to_string(), text);
        }
        assert_eq!(" Flex ".parse(), Ok(DeviceSpec::new(Backend::Flex)));
    }

    #[test]
    fn a_token_is_shown_to_nobody() {
        let spec: DeviceSpec = "remote:host:80".parse().expect("valid");
        let secret = spec.with_token("sesame");
        assert_eq!(secret.to_string(), "remote:host:80");
        assert!(!format!("{secret:?}").contains("sesame"));
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        assert!(refused("tpu").contains("known are flex, ndarray"));
        assert!(refused("").starts_with("unknown back-end ``"));
        assert_eq!(
            refused("cuda:one"),
            "`one` in `cuda:one` is no device number: write `cuda` or, for one device of several, `cuda:0`"
        );
        assert!(refused("flex:-1").contains("`-1`"));
        for text in ["remote", "remote:", "remote:#1"] {
            assert_eq!(text.parse::<DeviceSpec>(), Err(BackendError::Address));
        }
    }
}
