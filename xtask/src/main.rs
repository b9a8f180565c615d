//! The chores of the workspace: `cargo xtask COMMAND`; `cargo xtask --help` lists them.
//!
//! Exit codes: 0 done, 1 a check failed or a command could not be carried out, 2 the command line is wrong.

#![allow(clippy::print_stdout, reason = "a command's output is what it is for")]

mod arguments;
mod backend;
mod bench;
mod cargo;
mod check;
mod failure;
mod fetch;
mod replay;
mod smoke;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::failure::Failure;

/// A command: its name, what it does in a line, its help, and its function.
struct Command {
    name: &'static str,
    summary: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "check",
        summary: "what CI runs, cheapest first",
        help: check::HELP,
        run: check::run,
    },
    Command {
        name: "tidy",
        summary: "the rules of the house that no compiler knows",
        help: tidy::HELP,
        run: tidy::run,
    },
    Command {
        name: "test",
        summary: "the tests that cross the crates, on a named back-end",
        help: backend::HELP,
        run: backend::run,
    },
    Command {
        name: "bench",
        summary: "times an area against its peers",
        help: bench::HELP,
        run: bench::run,
    },
    Command {
        name: "replay",
        summary: "runs recorded cases of other libraries",
        help: replay::HELP,
        run: replay::run,
    },
    Command {
        name: "fetch",
        summary: "pre-trained weights for the examples, into a cache",
        help: fetch::HELP,
        run: fetch::run,
    },
    Command {
        name: "smoke",
        summary: "the main job in quick mode, its output checked",
        help: smoke::HELP,
        run: smoke::run,
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("error: {message}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn dispatch(words: &[String]) -> Result<(), Failure> {
    let Some((name, rest)) = words.split_first() else {
        return Err(Failure::usage(format!("no command given\n\n{}", overview())));
    };
    if ["--help", "-h", "help"].contains(&name.as_str()) {
        print!("{}", overview());
        return Ok(());
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return Err(Failure::usage(format!("unknown command `{name}`\n\n{}", overview())));
    };
    if rest.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h") {
        print!("{}", command.help);
        return Ok(());
    }
    (command.run)(rest)
}

fn overview() -> String {
    let mut text = String::from("usage: cargo xtask COMMAND [OPTIONS]\n\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<8} {}\n", command.name, command.summary));
    }
    text.push_str(
        "\n`cargo xtask COMMAND --help` says more. Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
    );
    text
}

/// The workspace's root folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_unknown_is_a_usage_error_that_lists_the_known() {
        for line in ["", "chekc", "--frobnicate"] {
            let failure = dispatch(&words(line)).expect_err("not a command");
            assert_eq!(failure.code(), 2, "`{line}`");
            let message = failure.message().expect("a usage error says why");
            assert!(message.contains("smoke") && message.contains("replay"), "{message}");
        }
    }

    #[test]
    fn every_command_refuses_an_unknown_flag_and_explains_itself() {
        for command in COMMANDS {
            let failure = (command.run)(&words("--frobnicate")).expect_err("no such flag");
            assert_eq!(failure.code(), 2, "{}", command.name);
            assert!(failure.message().is_some_and(|text| text.contains("--frobnicate")));
            let usage = format!("usage: cargo xtask {}", command.name);
            assert!(command.help.starts_with(&usage), "{}", command.name);
            assert!(dispatch(&[command.name.to_owned(), "--help".to_owned()]).is_ok());
        }
    }

    #[test]
    fn the_root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("it is there");
        assert!(manifest.contains("[workspace]"));
    }
}
