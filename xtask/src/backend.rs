//! `cargo xtask test --backend NAME`: the tests that cross the crates, on another back-end.

use std::path::Path;
use std::process::Command;

use crate::arguments::Arguments;
use crate::cargo;
use crate::failure::Failure;

pub(crate) const HELP: &str = "\
usage: cargo xtask test --backend NAME... [-- WORDS]

Builds the cross-crate tests (package firebrick-tests) with the named back-ends in one build, then runs them on each:
FIREBRICK_BACKEND tells the tests which device to take.

  --backend NAME   flex, ndarray, wgpu, cuda, remote; wgpu:INDEX, cuda:INDEX, remote:HOST:PORT; may be repeated
  WORDS            handed to the test binary, a name to select tests for example

wgpu without a GPU needs a software Vulkan driver (Debian: mesa-vulkan-drivers, libvulkan1).
cuda without a driver is compiled and not run, and the command says so.
remote without an address is compiled in; the tests that need a server start their own.
";

/// The test binary that runs on a named back-end, in tests/.
const SUITE: &str = "across";
const NAMES: &[&str] = &["flex", "ndarray", "wgpu", "cuda", "remote"];

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let (ours, theirs) = match words.iter().position(|word| word == "--") {
        Some(place) => (&words[..place], &words[place + 1..]),
        None => (words, &[][..]),
    };
    let arguments = Arguments::read(ours, &[], &["--backend"], 0)?;
    let backends: Vec<&str> = arguments.all("--backend").collect();
    if backends.is_empty() {
        return Err(Failure::usage("which `--backend`? see `cargo xtask test --help`"));
    }
    test(&backends, theirs)
}

/// The feature that a device name needs; a usage error for an unknown one.
pub(crate) fn known(backend: &str) -> Result<&'static str, Failure> {
    let name = backend.split(':').next().unwrap_or(backend);
    NAMES.iter().find(|known| **known == name).copied().ok_or_else(|| {
        Failure::usage(format!("unknown back-end `{backend}`; known are {}", NAMES.join(", ")))
    })
}

/// Builds once for all of `backends`, then tests each.
pub(crate) fn test(backends: &[&str], words: &[String]) -> Result<(), Failure> {
    let mut features = Vec::new();
    for backend in backends {
        features.push(known(backend)?);
    }
    let features = features.join(",");
    let machine = Machine::here();
    // What is missing is said before half an hour of compiling.
    for backend in backends {
        machine.ready(backend)?;
    }
    cargo::run(tests(&features).arg("--no-run"))?;
    for backend in backends {
        if known(backend)? == "cuda" && !machine.cuda {
            println!("cuda: compiles; no NVIDIA driver on this machine, so its tests were NOT RUN");
            continue;
        }
        let mut command = tests(&features);
        if *backend != "remote" {
            command.env("FIREBRICK_BACKEND", backend);
        }
        if known(backend)? == "wgpu" && !machine.gpu && std::env::var_os(WGPU_DEVICE).is_none() {
            command.env(WGPU_DEVICE, "Cpu");
        }
        if !words.is_empty() {
            command.arg("--").args(words);
        }
        cargo::run(&mut command)?;
    }
    Ok(())
}

/// Which adapter burn's default wgpu device is.
const WGPU_DEVICE: &str = "CUBECL_WGPU_DEFAULT_DEVICE";

/// Without `-p`, so that cargo resolves the same features as for `cargo run --bin digits --features ...` and one build of
/// burn serves both.
fn tests(features: &str) -> Command {
    cargo::cargo_with(["test", "--test", SUITE, "--features", features])
}

/// What this machine has of what the back-ends need.
#[derive(Debug, Clone, Copy)]
struct Machine {
    /// A GPU that a graphics driver serves.
    gpu: bool,
    /// Some Vulkan driver, in software perhaps; taken for granted where the system is not Linux.
    vulkan: bool,
    /// An NVIDIA kernel driver.
    cuda: bool,
}

impl Machine {
    fn here() -> Self {
        let has = |folder: &str, start: &str| {
            std::fs::read_dir(folder).is_ok_and(|entries| {
                let mut names = entries.flatten().map(|entry| entry.file_name());
                names.any(|name| name.to_string_lossy().starts_with(start))
            })
        };
        let named = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES"];
        let folders =
            ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
        let linux = cfg!(target_os = "linux");
        let cuda = Path::new("/proc/driver/nvidia/version").exists() || cfg!(windows);
        Self {
            gpu: !linux || cuda || has("/dev/dri", "renderD"),
            vulkan: !linux
                || named.iter().any(|name| std::env::var_os(name).is_some())
                || folders.iter().any(|folder| has(folder, "")),
            cuda,
        }
    }

    fn ready(self, backend: &str) -> Result<(), Failure> {
        if known(backend)? == "wgpu" && !self.vulkan {
            return Err(Failure::failed(
                "wgpu needs a Vulkan driver, and there is none: without a GPU, install a software one \
                 (Debian: `apt-get install mesa-vulkan-drivers libvulkan1`)",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_forms() {
        for (text, feature) in
            [("flex", "flex"), ("wgpu:1", "wgpu"), ("remote:127.0.0.1:3000", "remote")]
        {
            assert_eq!(known(text), Ok(feature));
        }
        for text in ["", "tpu", "wgpu1", "Flex "] {
            let failure = known(text).expect_err(text);
            assert_eq!(failure.code(), 2);
            assert!(failure.message().is_some_and(|message| message.contains("cuda, remote")));
        }
        assert_eq!(run(&[]).expect_err("no back-end").code(), 2);
        assert_eq!(run(&["--backend".into(), "tpu".into()]).expect_err("unknown").code(), 2);
    }

    #[test]
    fn a_missing_driver_is_said_before_compiling() {
        let bare = Machine { gpu: false, vulkan: false, cuda: false };
        let failure = bare.ready("wgpu").expect_err("no driver");
        assert!(failure.message().is_some_and(|text| text.contains("mesa-vulkan-drivers")));
        assert_eq!(bare.ready("ndarray"), Ok(()));
        assert_eq!(bare.ready("cuda"), Ok(()));
    }

    #[test]
    fn one_build_holds_all_features() {
        let shown = cargo::shown(&tests("ndarray,wgpu"));
        assert_eq!(shown, "cargo test --test across --features ndarray,wgpu");
    }
}
