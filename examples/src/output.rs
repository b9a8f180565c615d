//! How a program of this package ends, prints and writes its files.

use crate::failure::Failure;
use clap::error::ErrorKind;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The exit code of a result; the error on the standard error stream.
#[must_use]
pub fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed stream must not turn the error into a panic.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Help and version are no errors; of an error the first line says all.
///
/// # Errors
/// The first line of a real error.
pub fn usage(error: clap::Error) -> Result<(), Failure> {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Ok(());
    }
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    Err(Failure::input(line.trim_start_matches("error: ")))
}

/// Prints a text; a reader that has gone away is no error.
///
/// # Errors
/// When the standard output cannot be written.
pub fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::run(error)),
        _ => Ok(()),
    }
}

/// A file that is written whole at the end, checked for being writable before any work starts.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    scratch: PathBuf,
}

impl Target {
    /// A file at `path`.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn new(path: &Path) -> Result<Self, Failure> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let scratch = path.with_file_name(name);
        let check = || {
            if path.is_dir() {
                return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
            }
            std::fs::write(&scratch, "")?;
            std::fs::remove_file(&scratch)
        };
        check().map_err(|error| Failure::file(path, &error))?;
        Ok(Self { path: path.to_owned(), scratch })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When that fails.
    pub fn write(&self, text: &str) -> Result<(), Failure> {
        let write = std::fs::write(&self.scratch, text);
        write
            .and_then(|()| std::fs::rename(&self.scratch, &self.path))
            .map_err(|error| Failure::file(&self.path, &error))
    }
}
