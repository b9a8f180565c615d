//! `--backend`, as the programs of this package take it.

use clap::Args;
use firebrick::backend::BackendError;
use firebrick::prelude::DeviceSpec;

/// The name of a device on the command line.
#[derive(Debug, Args)]
pub struct BackendArgument {
    /// flex, ndarray, wgpu, cuda or remote:HOST:PORT; wgpu:1 is the second of several [default: what
    /// FIREBRICK_BACKEND says, else flex]
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
}

impl BackendArgument {
    /// The device that is named; without a name that of the environment variable.
    ///
    /// # Errors
    /// When the text is no device name.
    pub fn spec(&self) -> Result<DeviceSpec, BackendError> {
        self.backend.as_deref().map_or_else(DeviceSpec::from_environment, str::parse)
    }
}
