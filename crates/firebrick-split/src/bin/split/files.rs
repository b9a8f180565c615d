//! The folder that the command writes: lists, manifest and audit.

use crate::arguments::Arguments;
use crate::outcome::Outcome;
use firebrick_split::AuditReport;
use std::error::Error;
use std::path::Path;

/// Whether this command writes lists or a map of that name.
fn is_list(name: &str) -> bool {
    let fold = name.strip_prefix("fold-").and_then(|rest| rest.split_once('-'));
    let is_fold = fold.is_some_and(|(number, part)| {
        number.parse::<usize>().is_ok() && matches!(part, "train.txt" | "validation.txt")
    });
    is_fold || matches!(name, "folds.map" | "train.txt" | "validation.txt" | "test.txt")
}

/// Removes the lists of a former run, so that none of them passes for one of this run.
fn remove_former(folder: &Path, csv: &Path) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| {
        format!("cannot remove {} of a former run: {error}", path.display())
    };
    let input = csv.canonicalize().ok();
    let mut lists = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| failed(folder, error))? {
        let path = entry.map_err(|error| failed(folder, error))?.path();
        let is_ours = path.file_name().and_then(|name| name.to_str()).is_some_and(is_list);
        if is_ours && path.is_file() {
            if path.canonicalize().ok() == input {
                return Err(format!("{} is the input: give another --out", path.display()));
            }
            lists.push(path);
        }
    }
    // Only a former run leaves a manifest; files without one are somebody else's.
    if folder.join("manifest.json").is_file() {
        for path in lists {
            std::fs::remove_file(&path).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(())
}

/// Writes everything, after removing the lists of a former run.
pub(crate) fn write_files(
    arguments: &Arguments,
    outcome: &Outcome,
    report: &AuditReport,
) -> Result<(), Box<dyn Error>> {
    let folder = arguments.out.as_path();
    let place = |name: &str, error: std::io::Error| {
        format!("cannot write {}: {error}", folder.join(name).display())
    };
    std::fs::create_dir_all(folder).map_err(|error| place("", error))?;
    remove_former(folder, &arguments.csv)?;
    if let Some(map) = &outcome.map {
        map.save(folder.join("folds.map"))?;
    }
    let mut files = vec![
        ("manifest.json".to_owned(), serde_json::to_string_pretty(&outcome.manifest)?),
        ("audit.json".to_owned(), serde_json::to_string_pretty(report)?),
    ];
    for (name, rows) in &outcome.lists {
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        files.push((format!("{name}.txt"), lines));
    }
    for (name, content) in files {
        std::fs::write(folder.join(&name), content).map_err(|error| place(&name, error))?;
    }
    Ok(())
}
