//! Reads the metric logs that burn-train's own `Learner` leaves in its folder.

use crate::DiagnoseError;
use firebrick_core::{History, Record, names};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads the folder that burn-train's `SupervisedTraining` wrote its metrics to, as a history of epochs.
///
/// The layout of burn-train 0.22 is `{train,valid}/epoch-N/METRIC.log`, one line a batch as `value,count` or
/// `value`, and a last line `value,final`. The final value counts; without it (a killed run) the mean over
/// the batches weighed by their counts, as in burn-train. `Loss` becomes `train_loss` or `validation_loss`;
/// `Accuracy`, which burn writes in percent, becomes the error rate; `Learning_Rate` becomes `lr`; any other
/// metric keeps its name behind its folder's, `train/CPU_Memory` for one. The step of a record is the
/// number of training batches logged so far.
///
/// A metric whose first line is no number is text and is left out; a last line without its line break is
/// what a killed run was writing and is left out too.
///
/// # Errors
/// When the folder or a file cannot be read, when there is no epoch in it, or when a line is damaged; the
/// error names file and line.
///
/// ```
/// let folder = tempfile::tempdir()?;
/// for (epoch, loss) in [(1, "0.75,8\n0.25,8\n0.5,final\n"), (2, "0.25,8\n")] {
///     let epoch = folder.path().join(format!("train/epoch-{epoch}"));
///     std::fs::create_dir_all(&epoch)?;
///     std::fs::write(epoch.join("Loss.log"), loss)?;
/// }
/// let history = firebrick_diagnose::read_learner_logs(folder.path())?;
/// assert_eq!(history.series("train_loss"), [0.5, 0.25]);
/// assert_eq!(history.records[1].step, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn read_learner_logs(folder: impl AsRef<Path>) -> Result<History, DiagnoseError> {
    let folder = folder.as_ref();
    entries(folder)?;
    let mut epochs: BTreeMap<usize, Record> = BTreeMap::new();
    let mut batches: BTreeMap<usize, usize> = BTreeMap::new();
    for split in ["train", "valid"] {
        let split_folder = folder.join(split);
        if !split_folder.is_dir() {
            continue;
        }
        for path in entries(&split_folder)? {
            let Some(epoch) = epoch_of(&path) else { continue };
            let record = epochs.entry(epoch).or_insert_with(|| Record::new(epoch, 0));
            for file in entries(&path)? {
                let Some(metric) = metric_of(&file) else { continue };
                let Some(log) = read_log(&file)? else { continue };
                if split == "train" {
                    let most = batches.entry(epoch).or_default();
                    *most = log.batches.max(*most);
                }
                if let Some(value) = log.value() {
                    let (name, value) = renamed(split, &metric, value);
                    record.values.insert(name, value);
                }
            }
        }
    }
    if epochs.is_empty() {
        return Err(DiagnoseError::NotLearnerLogs { path: folder.into() });
    }
    let mut step = 0;
    let records = epochs.into_iter().map(|(epoch, mut record)| {
        step += batches.get(&epoch).copied().unwrap_or(0) as u64;
        record.step = step;
        record
    });
    Ok(History { records: records.collect() })
}

fn renamed(split: &str, metric: &str, value: f64) -> (String, f64) {
    let train = split == "train";
    match metric {
        "Loss" if train => (names::TRAIN_LOSS.into(), value),
        "Loss" => (names::VALIDATION_LOSS.into(), value),
        "Accuracy" if train => (names::TRAIN_ERROR.into(), 1.0 - value / 100.0),
        "Accuracy" => (names::VALIDATION_ERROR.into(), 1.0 - value / 100.0),
        "Learning_Rate" if train => (names::LEARNING_RATE.into(), value),
        _ => (format!("{split}/{metric}"), value),
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DiagnoseError> {
    let io = |source| DiagnoseError::Io { path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn epoch_of(path: &Path) -> Option<usize> {
    let epoch = path.file_name()?.to_str()?.strip_prefix("epoch-")?.parse().ok()?;
    path.is_dir().then_some(epoch)
}

fn metric_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".log")?.to_string())
}

/// The lines of one metric in one epoch.
#[derive(Default)]
struct Log {
    last: Option<f64>,
    sum: f64,
    count: f64,
    batches: usize,
}

impl Log {
    fn value(&self) -> Option<f64> {
        self.last.or_else(|| (self.count > 0.0).then(|| self.sum / self.count))
    }

    fn push(&mut self, line: &str) -> Option<()> {
        let (value, tag) =
            line.split_once(',').map_or((line, None), |(value, tag)| (value, Some(tag)));
        let value: f64 = value.parse().ok()?;
        let count = match tag {
            // Only a final value on the last line counts, as in burn-train.
            Some("final") => {
                self.last = Some(value);
                return Some(());
            }
            Some(count) => count.parse::<usize>().ok()? as f64,
            None => 1.0,
        };
        self.last = None;
        self.batches += 1;
        if count > 0.0 {
            self.sum += value * count;
            self.count += count;
        }
        Some(())
    }
}

/// `None` for a metric that is text.
fn read_log(path: &Path) -> Result<Option<Log>, DiagnoseError> {
    let bytes = fs::read(path).map_err(|source| DiagnoseError::Io { path: path.into(), source })?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut log = Log::default();
    for (index, line) in whole.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || log.push(line).is_some() {
            continue;
        }
        if log.batches == 0 && log.last.is_none() {
            return Ok(None);
        }
        let text = line.chars().take(80).collect();
        return Err(DiagnoseError::Damaged { path: path.into(), line: index + 1, text });
    }
    Ok(Some(log))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("can be made");
        fs::write(path, text).expect("can be written");
    }

    #[test]
    fn epochs_metrics_and_weights_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path();
        write(at, "train/epoch-1/Loss.log", "1.0,1\n0.5,1\n0.75,final\n");
        write(at, "train/epoch-1/Accuracy.log", "50,32\n100,16\n");
        write(at, "train/epoch-1/Learning_Rate.log", "0.01\n0.02\n");
        write(at, "train/epoch-1/Device.log", "a name\nanother\n");
        write(at, "valid/epoch-1/Loss.log", "NaN,1\nNaN,final\n");
        write(at, "valid/epoch-1/Accuracy.log", "97.5,final\n");
        write(at, "train/epoch-10/Loss.log", "0.5,1\n0.4,");
        write(at, "train/epoch-2/Loss.log", "0.6,1\n");
        write(at, "train/notes.txt", "not an epoch");
        write(at, "experiment.log", "text");
        let history = read_learner_logs(at).expect("reads");
        let epochs: Vec<usize> = history.records.iter().map(|record| record.epoch).collect();
        assert_eq!(epochs, [1, 2, 10]);
        assert_eq!(history.series(names::TRAIN_LOSS), [0.75, 0.6, 0.5]);
        let error = history.series(names::TRAIN_ERROR)[0];
        assert!((error - 1.0 / 3.0).abs() < 1e-12, "weighed by the counts: {error}");
        assert_eq!(history.series(names::LEARNING_RATE), [0.015]);
        assert!((history.series(names::VALIDATION_ERROR)[0] - 0.025).abs() < 1e-12);
        assert!(history.series(names::VALIDATION_LOSS)[0].is_nan());
        assert_eq!(history.records.iter().map(|r| r.step).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(!history.names().contains("train/Device"));
    }

    #[test]
    fn damage_and_absence_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let missing = read_learner_logs(folder.path().join("none")).expect_err("no folder");
        assert!(matches!(missing, DiagnoseError::Io { .. }));
        let empty = read_learner_logs(folder.path()).expect_err("no epochs");
        assert!(matches!(empty, DiagnoseError::NotLearnerLogs { .. }));
        write(folder.path(), "valid/epoch-1/Loss.log", "0.5,1\n0.4,one\n0.3,1\n");
        let damaged = read_learner_logs(folder.path()).expect_err("a damaged line").to_string();
        assert!(damaged.starts_with("line 2 of ") && damaged.contains("0.4,one"), "{damaged}");
        write(folder.path(), "valid/epoch-1/Loss.log", "");
        let history = read_learner_logs(folder.path()).expect("an empty log has no value");
        assert!(history.records[0].values.is_empty());
    }
}
