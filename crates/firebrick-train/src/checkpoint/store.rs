//! The folder of a run's checkpoints.

use super::CheckpointError;
use super::format::{self, Section};
use burn::config::Config;
use firebrick_core::{ConfigError, check};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".fbck";
const UNFINISHED: &str = ".unfinished";

/// Where and when a training saves its state.
///
/// | field | default | range |
/// | --- | --- | --- |
/// | `directory` | required | a folder of its own for each run |
/// | `every_epochs` | 1 | 0: not by epochs |
/// | `every_steps` | 0: not by steps | any |
/// | `keep` | 3 | at least 1 |
/// | `resume` | false | |
/// | `stop_on_failure` | true | |
///
/// A checkpoint is also written at the end and when the training is interrupted.
#[derive(Config, Debug)]
pub struct CheckpointConfig {
    /// The folder; made where it does not exist.
    pub directory: PathBuf,
    /// After every how many epochs.
    #[config(default = 1)]
    pub every_epochs: usize,
    /// After every how many optimizer steps, also in the middle of an epoch.
    #[config(default = 0)]
    pub every_steps: u64,
    /// How many of the last ones are kept.
    #[config(default = 3)]
    pub keep: usize,
    /// Whether to go on from the last whole checkpoint in the folder, if there is one. Without it, a folder with
    /// checkpoints is refused.
    #[config(default = false)]
    pub resume: bool,
    /// Whether a checkpoint that cannot be written ends the training with an error. If not, the failure is counted
    /// in the history, and the next one is tried when it is due.
    #[config(default = true)]
    pub stop_on_failure: bool,
}

impl CheckpointConfig {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        check::at_least("keep", self.keep, 1)?;
        if self.every_epochs == 0 && self.every_steps == 0 {
            let expected = "at least 1, or `every_steps` must be";
            return Err(ConfigError::new("every_epochs", 0, expected));
        }
        Ok(())
    }
}

/// Reads the checkpoint at `path` and checks that it is whole.
///
/// # Errors
/// When the file cannot be read, is no checkpoint, is cut off, damaged or of another version.
pub fn verify(path: impl AsRef<Path>) -> Result<(), CheckpointError> {
    load(path.as_ref()).map(drop)
}

fn load(path: &Path) -> Result<Vec<Section>, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| failed(path, source))?;
    format::read(&bytes, path)
}

fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError::Io { path: path.to_owned(), source }
}

/// An opened folder of checkpoints.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) config: CheckpointConfig,
    next: u64,
}

impl Store {
    /// Opens the folder and removes what a killed process left unfinished.
    pub(crate) fn open(config: CheckpointConfig) -> Result<Self, CheckpointError> {
        let directory = &config.directory;
        fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
        for entry in fs::read_dir(directory).map_err(|source| failed(directory, source))? {
            let path = entry.map_err(|source| failed(directory, source))?.path();
            if name(&path)
                .is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(UNFINISHED))
            {
                fs::remove_file(&path).map_err(|source| failed(&path, source))?;
            }
        }
        let files = files(directory)?;
        if !files.is_empty() && !config.resume {
            let directory = directory.clone();
            return Err(CheckpointError::Occupied { directory, count: files.len() });
        }
        let next = files.last().map_or(0, |(number, _)| number + 1);
        Ok(Self { config, next })
    }

    /// The last whole checkpoint with its path, and the later ones that are damaged.
    ///
    /// # Errors
    /// When there are checkpoints and none is whole: the error of the last.
    #[allow(clippy::type_complexity)] // one caller
    pub(crate) fn last(
        &self,
    ) -> Result<Option<(PathBuf, Vec<Section>, Vec<PathBuf>)>, CheckpointError> {
        let mut damaged = Vec::new();
        let mut first = None;
        for (_, path) in files(&self.config.directory)?.into_iter().rev() {
            match load(&path) {
                Ok(sections) => return Ok(Some((path, sections, damaged))),
                Err(error) => {
                    first.get_or_insert(error);
                    damaged.push(path);
                }
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// Writes a checkpoint and removes the oldest beyond the number to keep.
    pub(crate) fn save(&mut self, sections: &[Section]) -> Result<PathBuf, CheckpointError> {
        let directory = self.config.directory.clone();
        let path = directory.join(format!("{PREFIX}{:010}{SUFFIX}", self.next));
        let unfinished = directory.join(format!("{PREFIX}{:010}{UNFINISHED}", self.next));
        let written = write(&unfinished, sections).and_then(|()| load(&unfinished).map(drop));
        let written = written.and_then(|()| {
            fs::rename(&unfinished, &path).map_err(|source| failed(&path, source))?;
            sync_folder(&directory)
        });
        if let Err(error) = written {
            // What is half written is useless; if it cannot be removed either, the next start does it.
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        self.next += 1;
        let files = files(&directory)?;
        for (_, old) in files.iter().take(files.len().saturating_sub(self.config.keep)) {
            match fs::remove_file(old) {
                // Somebody else cleaned up.
                Err(source) if source.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| failed(old, source))?,
            }
        }
        Ok(path)
    }
}

fn write(path: &Path, sections: &[Section]) -> Result<(), CheckpointError> {
    let write = || -> io::Result<()> {
        let mut sink = BufWriter::new(File::create(path)?);
        format::write(sections, &mut sink)?;
        sink.flush()?;
        sink.get_ref().sync_all()
    };
    write().map_err(|source| failed(path, source))
}

/// Makes a rename last through a loss of power; only Unix has folders that can be flushed.
fn sync_folder(directory: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        let flush = File::open(directory).and_then(|folder| folder.sync_all());
        flush.map_err(|source| failed(directory, source))?;
    }
    Ok(())
}

/// The checkpoints in the folder by number, oldest first.
fn files(directory: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(|source| failed(directory, source))? {
        let path = entry.map_err(|source| failed(directory, source))?.path();
        let number = name(&path)
            .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse::<u64>().ok());
        files.extend(number.filter(|_| path.is_file()).map(|number| (number, path)));
    }
    files.sort();
    Ok(files)
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(directory: &Path) -> CheckpointConfig {
        CheckpointConfig::new(directory.to_owned()).with_keep(2).with_resume(true)
    }

    fn content(number: u8) -> Vec<Section> {
        vec![("state".into(), vec![number; 100])]
    }

    fn last(store: &Store) -> u8 {
        store.last().expect("readable").expect("there is one").1[0].1[0]
    }

    #[test]
    fn the_last_ones_are_kept_and_found_again() {
        let folder = tempfile::tempdir().expect("writable");
        let mut store = Store::open(config(folder.path())).expect("opens");
        assert!(store.last().expect("readable").is_none());
        for number in 0..5 {
            store.save(&content(number)).expect("writes");
        }
        assert_eq!(files(folder.path()).expect("readable").len(), 2);
        let mut again = Store::open(config(folder.path())).expect("opens");
        assert_eq!(last(&again), 4);
        again.save(&content(5)).expect("writes");
        assert_eq!(last(&again), 5);
    }

    #[test]
    fn a_damaged_last_one_gives_way_to_the_one_before() {
        let folder = tempfile::tempdir().expect("writable");
        let mut store = Store::open(config(folder.path())).expect("opens");
        store.save(&content(0)).expect("writes");
        let path = store.save(&content(1)).expect("writes");
        fs::write(&path, b"FBRKCKPT and no more").expect("writes");
        let (_, sections, damaged) = store.last().expect("readable").expect("one is whole");
        assert_eq!((sections, damaged), (content(0), vec![path.clone()]));
        assert!(matches!(verify(&path), Err(CheckpointError::Truncated { .. })));
        fs::remove_file(files(folder.path()).expect("readable")[0].1.clone()).expect("removes");
        assert!(matches!(store.last(), Err(CheckpointError::Truncated { .. })));
    }

    #[test]
    fn unfinished_files_go_and_foreign_ones_stay() {
        let folder = tempfile::tempdir().expect("writable");
        let unfinished = folder.path().join("checkpoint-0000000007.unfinished");
        let foreign = folder.path().join("notes.txt");
        fs::write(&unfinished, b"half").expect("writes");
        fs::write(&foreign, b"mine").expect("writes");
        let store = Store::open(config(folder.path())).expect("opens");
        assert!(!unfinished.exists() && foreign.exists());
        assert!(store.last().expect("readable").is_none());
    }

    #[test]
    fn a_folder_in_use_is_refused_unless_resumed() {
        let folder = tempfile::tempdir().expect("writable");
        Store::open(config(folder.path())).expect("opens").save(&content(0)).expect("writes");
        let error = Store::open(config(folder.path()).with_resume(false)).expect_err("in use");
        assert!(matches!(error, CheckpointError::Occupied { count: 1, .. }));
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_leaves_the_others() {
        let folder = tempfile::tempdir().expect("writable");
        let mut store = Store::open(config(folder.path())).expect("opens");
        store.save(&content(0)).expect("writes");
        // A folder stands where the next file is to be written.
        let blocked = folder.path().join("checkpoint-0000000001.unfinished");
        fs::create_dir(&blocked).expect("makes");
        let error = store.save(&content(1)).expect_err("blocked");
        assert!(matches!(error, CheckpointError::Io { .. }));
        assert_eq!(last(&store), 0);
        fs::remove_dir(&blocked).expect("removes");
        store.save(&content(2)).expect("writes again");
        assert_eq!(last(&store), 2);
    }

    #[test]
    fn bad_values_are_refused() {
        let config = CheckpointConfig::new("x".into());
        assert!(config.check().is_ok());
        assert!(config.clone().with_keep(0).check().is_err());
        let error = config.with_every_epochs(0).check().expect_err("never").to_string();
        assert_eq!(error, "`every_epochs` must be at least 1, or `every_steps` must be, got 0");
    }
}
