//! The results of finished jobs on disk, one file a job, so that a killed run goes on where it was.

use crate::{FoldScore, SelectError};
use firebrick_split::hash_bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What all results of a store depend on: (what, value), compared one by one.
pub(crate) type Identity = Vec<(String, String)>;

/// A folder with `run.json` (the identity) and `candidate-I-fold-J.json` (the results).
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

/// What stands in each file: the content and a hash of its JSON text, so that a changed digit is seen.
#[derive(Serialize, Deserialize)]
struct Sealed<T> {
    check: String,
    content: T,
}

#[derive(Serialize, Deserialize)]
struct Run {
    format: u32,
    identity: Identity,
}

const FORMAT: u32 = 1;

/// A finished job as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) candidate: String,
    pub(crate) fold: usize,
    pub(crate) seconds: f64,
    pub(crate) score: FoldScore,
}

/// Removes the results of a former run from the folder of a store, and nothing else; no folder is an empty one.
///
/// # Errors
/// [`SelectError::Foreign`] when something lies there that no store wrote, and then nothing is removed; [`SelectError::Io`].
pub fn clear_store(folder: impl AsRef<Path>) -> Result<(), SelectError> {
    let folder = folder.as_ref();
    let failed = |source| io(folder, "read", source);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if !path.is_file() || !path.file_name().is_some_and(|name| is_own(&name.to_string_lossy()))
        {
            return Err(SelectError::Foreign { path });
        }
        files.push(path);
    }
    files
        .iter()
        .try_for_each(|file| fs::remove_file(file).map_err(|source| io(file, "removed", source)))
}

/// Whether a store writes files of this name: the identity or a result, whole or cut off by a crash.
fn is_own(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some((stem, end)) = name.split_once('.') else { return false };
    let job = stem.strip_prefix("candidate-").and_then(|job| job.split_once("-fold-"));
    (stem == "run" || job.is_some_and(|(candidate, fold)| number(candidate) && number(fold)))
        && (end == "json" || end.strip_prefix("tmp-").is_some_and(number))
}

impl Store {
    /// Opens the folder, made if there is none, and checks that it is of this run.
    pub(crate) fn open(folder: &Path, identity: &Identity) -> Result<Self, SelectError> {
        fs::create_dir_all(folder).map_err(|source| io(folder, "written", source))?;
        let store = Self { folder: folder.into() };
        let path = folder.join("run.json");
        match read::<Run>(&path)? {
            Some(run) => store.compare(&path, &run, identity)?,
            None => {
                // Results without a run.json could be of any run.
                if let Some(orphan) = store.any_result()? {
                    let problem = format!("{} is there without run.json", orphan.display());
                    return Err(SelectError::Damaged { path: folder.into(), problem });
                }
                write(&path, &Run { format: FORMAT, identity: identity.clone() })?;
            }
        }
        Ok(store)
    }

    fn compare(&self, path: &Path, run: &Run, wanted: &Identity) -> Result<(), SelectError> {
        if run.format != FORMAT {
            let problem = format!("format must be {FORMAT}, got {}", run.format);
            return Err(SelectError::Damaged { path: path.into(), problem });
        }
        let find = |identity: &Identity, what: &str| {
            identity.iter().find(|(name, _)| name == what).map(|(_, value)| value.clone())
        };
        let absent = || "absent".to_string();
        for (what, _) in wanted.iter().chain(&run.identity) {
            let (stored, now) = (find(&run.identity, what), find(wanted, what));
            if stored != now {
                return Err(SelectError::OtherRun {
                    path: self.folder.clone(),
                    what: what.clone(),
                    stored: stored.unwrap_or_else(absent),
                    wanted: now.unwrap_or_else(absent),
                });
            }
        }
        Ok(())
    }

    fn any_result(&self) -> Result<Option<PathBuf>, SelectError> {
        let error = |source| io(&self.folder, "read", source);
        for entry in fs::read_dir(&self.folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| name.starts_with("candidate-") && name.ends_with(".json")) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn path(&self, candidate: usize, fold: usize) -> PathBuf {
        self.folder.join(format!("candidate-{candidate}-fold-{fold}.json"))
    }

    /// The result of a job, if it is there.
    pub(crate) fn read(
        &self,
        (candidate, name): (usize, &str),
        fold: usize,
        rows: usize,
    ) -> Result<Option<Stored>, SelectError> {
        let path = self.path(candidate, fold);
        let Some(stored) = read::<Stored>(&path)? else { return Ok(None) };
        let problem = if stored.candidate != name || stored.fold != fold {
            Some(format!("it holds fold {} of {:?}", stored.fold, stored.candidate))
        } else {
            stored.score.flaw(rows)
        };
        match problem {
            Some(problem) => Err(SelectError::Damaged { path, problem }),
            None => Ok(Some(stored)),
        }
    }

    pub(crate) fn write(&self, candidate: usize, stored: &Stored) -> Result<(), SelectError> {
        write(&self.path(candidate, stored.fold), stored)
    }
}

fn io(path: &Path, action: &'static str, source: std::io::Error) -> SelectError {
    SelectError::Io { path: path.into(), action, source }
}

fn hash(json: &str) -> String {
    format!("{:016x}", hash_bytes(json.as_bytes()))
}

fn read<T: Serialize + DeserializeOwned>(path: &Path) -> Result<Option<T>, SelectError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io(path, "read", source)),
    };
    let damaged = |problem: String| SelectError::Damaged { path: path.into(), problem };
    let sealed: Sealed<T> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let json =
        serde_json::to_string(&sealed.content).map_err(|error| damaged(error.to_string()))?;
    if hash(&json) != sealed.check {
        return Err(damaged("its content does not match its check".into()));
    }
    Ok(Some(sealed.content))
}

/// Writes beside the file and renames, so that at any moment the file is whole or absent.
fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), SelectError> {
    let error = |source| io(path, "written", source);
    let json = serde_json::to_string(content).map_err(|e| error(e.into()))?;
    let sealed = Sealed { check: hash(&json), content };
    let text = serde_json::to_string(&sealed).map_err(|e| error(e.into()))?;
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&temporary, path)).map_err(|source| {
        // What is left of a failed write is of no use; the failure itself is what to report.
        let _ = fs::remove_file(&temporary);
        error(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: &str) -> Identity {
        vec![("seed".into(), seed.into()), ("folds".into(), "5".into())]
    }

    fn stored() -> Stored {
        let score = FoldScore::new(0.1 + 0.2, 1.0 / 3.0, 1e-300, 0.0).with_best_epoch(7);
        Stored { candidate: "a".into(), fold: 1, seconds: 0.5, score }
    }

    #[test]
    fn results_come_back_to_the_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), &identity("7")).expect("opens");
        assert!(store.read((0, "a"), 1, 3).expect("reads").is_none());
        store.write(0, &stored()).expect("writes");
        let again = Store::open(folder.path(), &identity("7")).expect("opens again");
        assert_eq!(again.read((0, "a"), 1, 3).expect("reads"), Some(stored()));
    }

    #[test]
    fn another_run_is_named_by_what_differs() {
        let folder = tempfile::tempdir().expect("a folder");
        Store::open(folder.path(), &identity("7")).expect("opens");
        let error =
            Store::open(folder.path(), &identity("8")).expect_err("another seed").to_string();
        assert!(error.ends_with("are of another run: seed was 7, now is 8"), "{error}");
        let mut more = identity("7");
        more.push(("epochs".into(), "3".into()));
        let error = Store::open(folder.path(), &more).expect_err("one more").to_string();
        assert!(error.ends_with("epochs was absent, now is 3"), "{error}");
    }

    #[test]
    fn only_what_a_store_wrote_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("folds");
        clear_store(&path).expect("nothing to remove");
        let store = Store::open(&path, &identity("7")).expect("opens");
        store.write(0, &stored()).expect("writes");
        for cut_off in ["run.tmp-17", "candidate-3-fold-0.tmp-17"] {
            fs::write(path.join(cut_off), "{").expect("writes");
        }
        let count = || fs::read_dir(&path).expect("there").count();
        for foreign in
            ["thesis.txt", "candidate-list.json", "run.json.bak", "candidate-1-fold-.json"]
        {
            fs::write(path.join(foreign), "x").expect("writes");
            let refused = clear_store(&path).expect_err("not ours").to_string();
            assert!(refused.contains(&format!("{foreign} is no result of a fold")), "{refused}");
            assert_eq!(count(), 5);
            fs::remove_file(path.join(foreign)).expect("removes");
        }
        fs::create_dir(path.join("candidate-0-fold-0.json")).expect("a folder");
        assert!(matches!(clear_store(&path), Err(SelectError::Foreign { .. })));
        fs::remove_dir(path.join("candidate-0-fold-0.json")).expect("removes");
        clear_store(&path).expect("removes");
        assert_eq!(count(), 0);
    }

    #[test]
    fn any_damage_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), &identity("7")).expect("opens");
        store.write(0, &stored()).expect("writes");
        let path = folder.path().join("candidate-0-fold-1.json");
        let text = fs::read_to_string(&path).expect("there");
        for damaged in [
            text.replace("\"best_epoch\":7", "\"best_epoch\":8"),
            text[..text.len() / 2].to_string(),
            String::new(),
            "{}".into(),
        ] {
            fs::write(&path, damaged).expect("writes");
            let error = store.read((0, "a"), 1, 3).expect_err("damaged");
            assert!(matches!(&error, SelectError::Damaged { path: named, .. } if *named == path));
        }
        fs::write(&path, &text).expect("writes");
        assert!(store.read((0, "b"), 1, 3).is_err(), "of another candidate");
        fs::remove_file(folder.path().join("run.json")).expect("removes");
        let error = Store::open(folder.path(), &identity("7")).expect_err("orphans").to_string();
        assert!(error.contains("without run.json"), "{error}");
    }
}
