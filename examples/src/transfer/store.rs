//! Finished jobs on disk, so that an interrupted run goes on where it ended.

use crate::cell::Cell;
use crate::plan::Plan;
use crate::shift::Shift;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A file: the plan it was made under, and what was found.
#[derive(Serialize, Deserialize)]
struct Saved {
    plan: serde_json::Value,
    cells: Vec<Cell>,
}

/// The folder of a run.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
    plan: serde_json::Value,
}

impl Store {
    pub(crate) fn open(folder: &Path, plan: &Plan) -> Result<Self, String> {
        let folder = folder.join("cells");
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let plan = serde_json::to_value(plan).map_err(|error| error.to_string())?;
        Ok(Self { folder, plan })
    }

    fn path(&self, repetition: u64, shift: Shift) -> PathBuf {
        let name = shift.to_string().replace(' ', "-");
        self.folder.join(format!("{repetition}-{name}.json"))
    }

    /// What was found before; nothing where the file is not there, damaged, or of another plan.
    pub(crate) fn read(&self, repetition: u64, shift: Shift) -> Option<Vec<Cell>> {
        let text = std::fs::read_to_string(self.path(repetition, shift)).ok()?;
        let saved: Saved = serde_json::from_str(&text).ok()?;
        (saved.plan == self.plan).then_some(saved.cells)
    }

    /// Forgets what was found before.
    pub(crate) fn clear(&self) -> Result<(), String> {
        let clear = || {
            for entry in std::fs::read_dir(&self.folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "json" || ending == "partial") {
                    std::fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        clear().map_err(|error: std::io::Error| format!("{}: {error}", self.folder.display()))
    }

    /// Writes the file whole or not at all.
    pub(crate) fn write(
        &self,
        repetition: u64,
        shift: Shift,
        cells: &[Cell],
    ) -> Result<(), String> {
        let path = self.path(repetition, shift);
        let saved = Saved { plan: self.plan.clone(), cells: cells.to_vec() };
        let text = serde_json::to_string(&saved).map_err(|error| error.to_string())?;
        let scratch = path.with_extension("partial");
        std::fs::write(&scratch, text)
            .and_then(|()| std::fs::rename(&scratch, &path))
            .map_err(|error| format!("{}: {error}", path.display()))
    }
}
