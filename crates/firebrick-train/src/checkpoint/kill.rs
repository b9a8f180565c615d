//! Processes that are killed or interrupted, and a disk that is full.

use crate::testing::{Deep, full, same, store, train, train_with};
use crate::{CheckpointError, Fitted, Outcome, TrainError, verify};
use firebrick_core::Seed;
use firebrick_optim::AdamWConfig;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// In the environment of a child: the folder it trains in.
const FOLDER: &str = "FIREBRICK_TRAIN_KILL_TEST";

/// What a child ends with after Ctrl-C.
const INTERRUPTED: i32 = 75;

fn fused() -> firebrick_optim::FusedOptimizer {
    AdamWConfig::new().fused().expect("valid")
}

/// This test binary again, to run the one test `name` as a child that trains in `folder`.
fn child(name: &str, folder: &Path, wrapper: &[&str]) -> Command {
    let binary = std::env::current_exe().expect("the test has a file");
    let mut command = match wrapper.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    let name = format!("checkpoint::kill::{name}");
    command.args(["--exact", &name]).env(FOLDER, folder);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What Ctrl-C sends.
fn interrupt(process: &Child) {
    let mut command = Command::new("kill");
    command.arg("-INT").arg(process.id().to_string());
    command.stderr(Stdio::null()).status().expect("runs");
}

fn history(folder: &Path) -> PathBuf {
    folder.join("history.jsonl")
}

/// Trains to the end, or until `flag` is raised, with the history in a file.
fn resume(folder: &Path, flag: Arc<AtomicBool>) -> Fitted<Deep> {
    let fitted = train_with(fused(), full(6), Some(store(folder)), None, 8, |settings| {
        settings.history_file = Some(history(folder));
        settings.interrupt = flag;
    });
    fitted.expect("resumes")
}

/// Half of them by kill -9, half by Ctrl-C, which a child with a handler survives to write a last checkpoint.
#[test]
fn fifty_kills_at_random_moments_change_nothing() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let flag = Arc::new(AtomicBool::new(false));
        let raised = flag.clone();
        ctrlc::set_handler(move || raised.store(true, Ordering::Relaxed)).expect("the only one");
        if resume(folder.as_ref(), flag).outcome == Outcome::Interrupted {
            std::process::exit(INTERRUPTED);
        }
        return;
    }
    let whole = train(fused(), full(6), None, None, 8).expect("trains");
    // As long as one child takes to its end, so that the moments of death lie all over it.
    let folder = tempfile::tempdir().expect("writable");
    let start = Instant::now();
    let name = "fifty_kills_at_random_moments_change_nothing";
    assert!(child(name, folder.path(), &[]).status().expect("runs").success());
    let span = start.elapsed();

    let mut moments = Seed(3).stream("kill");
    let (mut kills, mut clean, mut rounds) = (0, 0, 0);
    while kills < 50 {
        let folder = tempfile::tempdir().expect("writable");
        loop {
            let mut process = child(name, folder.path(), &[]).spawn().expect("runs");
            // Some are let through, or a slow machine would never come to an end.
            if kills >= 50 || moments.below(8) == 0 {
                assert!(process.wait().expect("ends").success());
                break;
            }
            let delay = span.mul_f64(moments.uniform());
            std::thread::sleep(delay);
            if kills % 2 == 0 {
                process.kill().expect("can be killed");
            } else {
                interrupt(&process);
            }
            let status = process.wait().expect("ends");
            if status.success() {
                break;
            }
            // One that is interrupted before its handler is there dies of it.
            clean += usize::from(status.code() == Some(INTERRUPTED));
            kills += 1;
        }
        rounds += 1;
        let fitted = resume(folder.path(), Arc::default());
        same(&fitted, &whole);
        assert_eq!(fitted.outcome, whole.outcome);
        // No record is lost, and none is there twice.
        let lines = std::fs::read_to_string(history(folder.path())).expect("readable");
        assert_eq!(lines, whole.history.to_json_lines());
    }
    assert!(rounds >= 1 && kills >= 50 && clean >= 1, "{rounds} {kills} {clean}");
}

#[test]
fn a_full_disk_is_an_error_and_the_checkpoints_before_stay() {
    let resume = |folder: &Path, epochs| train(fused(), full(epochs), Some(store(folder)), None, 8);
    if let Some(folder) = std::env::var_os(FOLDER) {
        let error = resume(folder.as_ref(), 6).expect_err("no file can grow that long");
        assert!(matches!(&error, TrainError::Checkpoint(CheckpointError::Io { .. })), "{error}");
        return;
    }
    let whole = train(fused(), full(6), None, None, 8).expect("trains");
    let folder = tempfile::tempdir().expect("writable");
    resume(folder.path(), 2).expect("trains");
    let files = || {
        let entries = std::fs::read_dir(folder.path()).expect("readable");
        let mut files: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        files
    };
    let before = files();
    // The shell refuses the child files of more than two blocks, as a full disk would.
    let limit = ["sh", "-c", "trap '' XFSZ; ulimit -f 2; exec \"$0\" \"$@\""];
    let name = "a_full_disk_is_an_error_and_the_checkpoints_before_stay";
    assert!(child(name, folder.path(), &limit).status().expect("runs").success());
    assert_eq!(files(), before);
    assert!(before.iter().all(|path| verify(path).is_ok()));
    let fitted = resume(folder.path(), 6).expect("there is room again");
    same(&fitted, &whole);
    assert_eq!(fitted.outcome, Outcome::Finished);
}
