//! A peer in Python: one process for an area, one line of JSON asked, one answered, so that its runs alternate with ours.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::BenchError;

/// A running peer script; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
    versions: Value,
}

#[derive(Deserialize)]
struct Answer {
    versions: Option<Value>,
    known: Option<bool>,
    seconds: Option<f64>,
    error: Option<String>,
}

impl Python {
    /// Starts `interpreter -u script` with `threads` threads for OpenMP and waits for its versions.
    pub(crate) fn start(
        interpreter: &Path,
        script: &Path,
        threads: usize,
    ) -> Result<Self, BenchError> {
        let mut child = Command::new(interpreter)
            .arg("-u")
            .arg(script)
            .env("OMP_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| BenchError::Interpreter { path: interpreter.into(), source })?;
        let (Some(ask), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(BenchError::Peer("its pipes could not be opened".into()));
        };
        let mut peer = Self { child, ask, answers: BufReader::new(answers), versions: Value::Null };
        peer.versions = peer.answer()?.versions.ok_or_else(|| {
            BenchError::Peer("its first line does not name the versions of its packages".into())
        })?;
        Ok(peer)
    }

    /// Package versions that the script reported.
    pub(crate) fn versions(&self) -> &Value {
        &self.versions
    }

    /// Builds the inputs of a case; false when the peer does not have it.
    pub(crate) fn prepare(
        &mut self,
        peer: &str,
        case: &str,
        quick: bool,
    ) -> Result<bool, BenchError> {
        let answer =
            self.exchange(&json!({"do": "prepare", "peer": peer, "case": case, "quick": quick}))?;
        answer.known.ok_or_else(|| BenchError::Peer(format!("no `known` for {peer}, {case}")))
    }

    /// Runs a prepared case `repeats` times; the mean seconds of one.
    pub(crate) fn run(&mut self, peer: &str, case: &str, repeats: u32) -> Result<f64, BenchError> {
        let answer =
            self.exchange(&json!({"do": "run", "peer": peer, "case": case, "repeats": repeats}))?;
        match answer.seconds {
            Some(seconds) if seconds.is_finite() && seconds >= 0.0 => Ok(seconds),
            other => Err(BenchError::Peer(format!("`seconds` of {peer}, {case} is {other:?}"))),
        }
    }

    /// Frees the inputs of every prepared case.
    pub(crate) fn forget(&mut self) -> Result<(), BenchError> {
        self.exchange(&json!({"do": "forget"})).map(drop)
    }

    fn exchange(&mut self, request: &Value) -> Result<Answer, BenchError> {
        let died = |error| BenchError::Peer(format!("it no longer listens ({error})"));
        writeln!(self.ask, "{request}").map_err(died)?;
        self.ask.flush().map_err(died)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer, BenchError> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        match read {
            Ok(0) => Err(BenchError::Peer("it ended; its own message stands above".into())),
            Err(error) => Err(BenchError::Peer(format!("its answer is unreadable: {error}"))),
            Ok(_) => {
                let answer: Answer = serde_json::from_str(&line).map_err(|error| {
                    BenchError::Peer(format!("it answered `{}`: {error}", line.trim_end()))
                })?;
                match answer.error {
                    Some(message) => Err(BenchError::Peer(message)),
                    None => Ok(answer),
                }
            }
        }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left to do then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// A stand-in for Python: `sh` also takes `-u` and a script, and is there on every Unix.
    fn scripted(name: &str, body: &str) -> Result<Python, BenchError> {
        let path = std::env::temp_dir().join(format!("firebrick-{}-{name}.sh", std::process::id()));
        std::fs::write(&path, body).expect("the temporary folder is writable");
        let started = Python::start(Path::new("sh"), &path, 1);
        std::fs::remove_file(&path).expect("it was just written");
        started
    }

    #[test]
    fn asks_and_is_answered_line_by_line() {
        let mut peer = scripted(
            "good",
            "echo '{\"versions\":{\"torch\":\"1.2\"}}'\n\
             read a; echo '{\"known\":true}'\nread b; echo '{\"seconds\":0.25}'\n\
             read c; echo '{\"seconds\":-1}'\nread d; echo '{\"error\":\"no such case\"}'\n\
             read e; echo 'hello'\n",
        )
        .expect("sh is there");
        assert_eq!(peer.versions(), &json!({"torch": "1.2"}));
        assert!(peer.prepare("torch", "case", true).expect("known"));
        assert_eq!(peer.run("torch", "case", 1).expect("a time"), 0.25);
        let refused = |error: BenchError| error.to_string();
        let negative = peer.run("torch", "case", 1).expect_err("a negative time");
        assert!(refused(negative).contains("-1"));
        let unknown = peer.run("torch", "case", 1).expect_err("an error line");
        assert!(refused(unknown).contains("no such case"));
        let noise = peer.run("torch", "case", 1).expect_err("not JSON");
        assert!(refused(noise).contains("hello"));
        let gone = peer.run("torch", "case", 1).expect_err("the script has ended");
        assert!(matches!(gone, BenchError::Peer(_)));
    }

    #[test]
    fn a_script_that_ends_early_is_an_error() {
        let error = scripted("early", "exit 1\n").expect_err("no versions");
        assert!(error.to_string().contains("ended"), "{error}");
    }

    #[test]
    fn a_missing_interpreter_is_named() {
        let error = Python::start(Path::new("/nowhere/python"), Path::new("x.py"), 1)
            .expect_err("nothing is there");
        assert!(error.to_string().contains("/nowhere/python"), "{error}");
    }
}
