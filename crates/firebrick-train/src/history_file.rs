//! The file of a history, which a resumed training begins anew with what its checkpoint knows.

use firebrick_core::History;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The file at `path` with the lines of `history` and nothing else, open for more.
///
/// What a killed process wrote after its last checkpoint is dropped, for the resumed one writes it again. The file is
/// replaced whole, so that it is never half there.
pub(crate) fn begin(path: &Path, history: &History) -> io::Result<BufWriter<File>> {
    let write = || -> io::Result<File> {
        let mut name = OsString::from(path);
        name.push(".unfinished");
        let unfinished = PathBuf::from(name);
        let mut file = File::create(&unfinished)?;
        file.write_all(history.to_json_lines().as_bytes())?;
        file.sync_all()?;
        drop(file);
        fs::rename(&unfinished, path)?;
        OpenOptions::new().append(true).open(path)
    };
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    Ok(BufWriter::new(write().map_err(named)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebrick_core::Record;

    #[test]
    fn a_file_begins_with_what_is_known_and_goes_on() {
        let folder = tempfile::tempdir().expect("writable");
        let path = folder.path().join("history.jsonl");
        let record = |step| Record::new(1, step).with("lr", 0.1);
        let mut history = History::default();
        for step in 1..=3 {
            history.push(record(step));
        }
        // A killed process left more than was saved, and half a line.
        fs::write(&path, history.to_json_lines() + "{\"epoch\":1,\"st").expect("writable");
        history.records.truncate(1);
        let mut file = begin(&path, &history).expect("writable");
        History::write_line(&mut file, &record(7)).expect("writable");
        history.push(record(7));
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(text, history.to_json_lines());
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
        let error = begin(&folder.path().join("no/folder"), &history).expect_err("not there");
        assert!(error.to_string().contains("folder: "), "{error}");
    }
}
