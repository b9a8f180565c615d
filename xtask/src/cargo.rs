//! Runs cargo and other programs from the workspace's root.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use crate::failure::Failure;
use crate::root;

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Cargo with these words, in the workspace's root.
pub(crate) fn cargo_with<I: AsRef<OsStr>>(words: impl IntoIterator<Item = I>) -> Command {
    let mut command = cargo();
    command.current_dir(root()).args(words);
    command
}

/// `cargo run` of a binary of the workspace, in the folder in which the user stands, so that the
/// paths on the command line stay true. From the virtual root, without `-p`: the features are those of `cargo test`.
pub(crate) fn cargo_run(binary: &str, feature: Option<&str>) -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--manifest-path"]).arg(root().join("Cargo.toml"));
    command.args(["--bin", binary]);
    if let Some(feature) = feature {
        command.args(["--features", feature]);
    }
    command.arg("--");
    command
}

/// Has cargo build the workspace's crates as a release does. The dependencies have these settings anyway, so they are not
/// built again, which another profile would do.
pub(crate) fn as_released(command: &mut Command) {
    for (setting, value) in [
        ("OPT_LEVEL", "3"),
        ("DEBUG_ASSERTIONS", "false"),
        ("OVERFLOW_CHECKS", "false"),
        ("INCREMENTAL", "false"),
    ] {
        command.env(format!("CARGO_PROFILE_DEV_{setting}"), value);
    }
}

/// Prints and runs a command; fails where it does.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    println!("$ {}", shown(command));
    status(command)?.map_or(Ok(()), |code| {
        Err(Failure::failed(format!("`{}` ended with {code}", shown(command))))
    })
}

/// Runs a program that reports its own errors, and ends as it does.
pub(crate) fn hand_over(command: &mut Command) -> Result<(), Failure> {
    status(command)?.map_or(Ok(()), |code| {
        Err(Failure::Code(u8::try_from(code.number).ok().filter(|code| *code > 0).unwrap_or(1)))
    })
}

/// What a program prints.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::failed(format!("cannot run `{}`: {error}", shown(command))))?;
    if !output.status.success() {
        return Err(Failure::failed(format!("`{}` ended with {}", shown(command), output.status)));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::failed(format!("`{}` printed no UTF-8", shown(command))))
}

struct Ended {
    number: i32,
    text: String,
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// `None` where the program succeeds.
fn status(command: &mut Command) -> Result<Option<Ended>, Failure> {
    let status = command
        .status()
        .map_err(|error| Failure::failed(format!("cannot run `{}`: {error}", shown(command))))?;
    let ended = Ended { number: status.code().unwrap_or(1), text: status.to_string() };
    Ok((!status.success()).then_some(ended))
}

/// The command as one would type it: set variables first.
pub(crate) fn shown(command: &Command) -> String {
    let mut words: Vec<String> = command
        .get_envs()
        .filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
        })
        .collect();
    let program = command.get_program();
    let short = std::path::Path::new(program).file_name().unwrap_or(program);
    words.push(short.to_string_lossy().into_owned());
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--features", "wgpu"]).env("FIREBRICK_BACKEND", "wgpu");
        assert_eq!(shown(&command), "FIREBRICK_BACKEND=wgpu cargo test --features wgpu");
    }

    #[test]
    fn a_program_that_is_missing_or_fails_is_a_failure() {
        let missing = run(&mut Command::new("/nowhere/program")).expect_err("not there");
        assert_eq!(missing.code(), 1);
        assert!(missing.message().is_some_and(|text| text.contains("cannot run")));
        let fails = || {
            let mut command = cargo_with(["no-such-subcommand"]);
            command.stderr(Stdio::null());
            command
        };
        let failing = run(&mut fails()).expect_err("fails");
        assert_eq!(failing.code(), 1);
        let code = hand_over(&mut fails()).expect_err("fails");
        assert_eq!(code, Failure::Code(101));
        assert!(
            output(&mut cargo_with(["--version"])).expect("cargo is there").starts_with("cargo")
        );
    }
}
