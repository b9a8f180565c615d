//! `cargo xtask bench`: hands over to the `bench` binary, after it has set up Python where that is asked for.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;
use crate::root;

pub(crate) const HELP: &str = "\
usage: cargo xtask bench AREA [--json FILE] [--quick] [--filter TEXT] [--python PATH | --setup-python]

Times an area of firebrick against its peers in one run, in rounds that alternate; `cargo xtask bench list` lists the areas.
The workspace's crates are built for it as for a release, its dependencies are so in every build; but not for --quick.

  --json FILE      also writes {\"area\",\"rows\":[{\"case\",\"unit\",\"ours\":{\"median\",\"q1\",\"q3\"},\"peers\":{NAME:{..}},
                   \"speedup\":{NAME: peer median / our median}}]}; rows of contenders that lie close together also
                   \"rounds\":{NAME:{..}}, the quartiles of peer / ours within a round
  --quick          small sizes and few rounds: checks that all runs, gives no figures to quote
  --filter TEXT    only the cases whose name contains TEXT
  --python PATH    an interpreter that has the packages of bench/peers/requirements.txt
  --setup-python   makes a virtual environment with them in the user's cache folder (several GB: torch brings its GPU
                   libraries), or takes the one made before

Without an interpreter only the peers in Rust are measured.
";

/// What the `bench` binary measures; it has the same list.
const AREAS: &[&str] = &["optim", "regularize", "split", "stabilize", "train", "transfer"];
const REQUIREMENTS: &str = "bench/peers/requirements.txt";
/// The oldest Python for which the pinned packages exist.
const OLDEST_PYTHON: (u32, u32) = (3, 11);

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let flags = ["--quick", "--setup-python"];
    let options = ["--json", "--filter", "--python"];
    let arguments = Arguments::read(words, &flags, &options, 1)?;
    let setup = arguments.flag("--setup-python");
    let given = arguments.option("--python")?.map(PathBuf::from);
    if setup && given.is_some() {
        return Err(Failure::usage("take `--python PATH` or `--setup-python`, not both"));
    }
    let area = match arguments.word(0) {
        Some("list") => {
            println!("{}", AREAS.join("\n"));
            return Ok(());
        }
        Some(area) if AREAS.contains(&area) => area,
        given => {
            let what =
                given.map_or("no area given".to_owned(), |text| format!("unknown area `{text}`"));
            return Err(Failure::usage(format!("{what}; known are {}", AREAS.join(", "))));
        }
    };
    let python = if setup { Some(environment()?) } else { given };
    let quick = arguments.flag("--quick");
    let mut command = cargo::cargo_run("bench", None);
    if !quick {
        cargo::as_released(&mut command);
    }
    command.arg(area);
    for name in ["--json", "--filter"] {
        if let Some(value) = arguments.option(name)? {
            command.args([name, value]);
        }
    }
    if quick {
        command.arg("--quick");
    }
    if let Some(python) = python {
        command.arg("--python").arg(python);
    }
    cargo::hand_over(&mut command)?;
    // Its figures need a program whose allocator counts.
    if area == "split" && !quick && arguments.option("--filter")?.is_none() {
        cargo::hand_over(&mut cargo::cargo_run("split-memory", None))?;
    }
    Ok(())
}

/// The interpreter of the virtual environment with the pinned packages, made where it is not there yet.
fn environment() -> Result<PathBuf, Failure> {
    let folder =
        cache_folder(|name| std::env::var_os(name).map(PathBuf::from))?.join("bench-python");
    let wanted = std::fs::read_to_string(root().join(REQUIREMENTS))
        .map_err(|error| Failure::failed(format!("cannot read {REQUIREMENTS}: {error}")))?;
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    // Written last, so that an interrupted installation is taken up again.
    let stamp = folder.join("installed.txt");
    if python.exists() && std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted)
    {
        return Ok(python);
    }
    let failed = |error: std::io::Error| {
        Failure::failed(format!("cannot write to {}: {error}", folder.display()))
    };
    if !python.exists() {
        std::fs::create_dir_all(&folder).map_err(failed)?;
        cargo::run(Command::new(newest_python()?).args(["-m", "venv"]).arg(&folder))?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--disable-pip-version-check", "-r"]);
    cargo::run(install.arg(root().join(REQUIREMENTS)))?;
    std::fs::write(&stamp, wanted).map_err(failed)?;
    Ok(python)
}

/// The user's cache folder for firebrick.
fn cache_folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    let cache = set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .or_else(|| set("LOCALAPPDATA"));
    match cache {
        Some(cache) => Ok(cache.join("firebrick")),
        None => Err(Failure::failed(
            "no cache folder: neither XDG_CACHE_HOME nor HOME nor LOCALAPPDATA is set",
        )),
    }
}

/// A Python on the path that is new enough.
fn newest_python() -> Result<&'static Path, Failure> {
    let names = ["python3", "python3.13", "python3.12", "python3.11", "python"];
    let (major, minor) = OLDEST_PYTHON;
    let enough = format!("import sys, venv; sys.exit(sys.version_info < ({major}, {minor}))");
    names
        .into_iter()
        .map(Path::new)
        .find(|name| {
            Command::new(name)
                .args(["-c", &enough])
                .output()
                .is_ok_and(|output| output.status.success())
        })
        .ok_or_else(|| {
            Failure::failed(format!(
                "no Python of at least {major}.{minor} with the venv module is on the path"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_words_are_usage_errors() {
        for (line, part) in [
            ("", "no area given"),
            ("everything", "unknown area `everything`"),
            ("--jsn a", "`--jsn`"),
        ] {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let failure = run(&words).expect_err(line);
            assert_eq!(failure.code(), 2, "{line}");
            assert!(failure.message().is_some_and(|text| text.contains(part)), "{failure:?}");
        }
        let both = ["optim", "--python", "p", "--setup-python"].map(str::to_owned);
        assert_eq!(run(&both).expect_err("one or the other").code(), 2);
    }

    #[test]
    fn the_cache_folder_follows_the_variables() {
        let with = |set: &'static [(&str, &str)]| {
            cache_folder(move |name| {
                set.iter().find(|(n, _)| *n == name).map(|(_, value)| PathBuf::from(value))
            })
        };
        let xdg = with(&[("XDG_CACHE_HOME", "/c"), ("HOME", "/h")]);
        assert_eq!(xdg, Ok(PathBuf::from("/c/firebrick")));
        let home = with(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]);
        assert_eq!(home, Ok(PathBuf::from("/h/.cache/firebrick")));
        assert_eq!(with(&[]).expect_err("nothing is set").code(), 1);
    }

    #[test]
    fn every_area_is_a_module_of_the_bench_package() {
        let text = std::fs::read_to_string(root().join("bench/src/main.rs")).expect("it is there");
        for area in AREAS {
            assert!(text.contains(&format!("(\"{area}\", {area}::run)")), "{area}");
        }
        assert_eq!(text.matches("::run)").count(), AREAS.len());
    }

    #[test]
    fn the_requirements_are_pinned() {
        let text = std::fs::read_to_string(root().join(REQUIREMENTS)).expect("it is there");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        assert!(lines.clone().count() >= 2 && lines.into_iter().all(|line| line.contains("==")));
    }
}
