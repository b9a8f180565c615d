//! Where `cargo xtask fetch` leaves what it downloads.

use std::path::PathBuf;

/// A file that was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not there; `cargo xtask fetch {what}` brings it", path.display())]
#[non_exhaustive]
pub struct Absent {
    /// What to fetch.
    pub what: String,
    /// Where it would be.
    pub path: PathBuf,
}

/// The path of a fetched file; `what` is the name under which `cargo xtask fetch` knows it.
///
/// # Errors
///
/// [`Absent`], with the command that would bring it.
pub fn cached(what: &str, name: &str) -> Result<PathBuf, Absent> {
    let path = folder(|name| std::env::var_os(name).map(PathBuf::from)).join(name);
    if path.is_file() { Ok(path) } else { Err(Absent { what: what.to_owned(), path }) }
}

/// $FIREBRICK_CACHE, else $XDG_CACHE_HOME/firebrick, else ~/.cache/firebrick.
fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("FIREBRICK_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|path| path.join("firebrick")))
        .or_else(|| set("HOME").map(|path| path.join(".cache").join("firebrick")))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_file_is_told_with_its_remedy() {
        let absent = cached("efficientnet", "no-such-file").expect_err("it is not there");
        assert!(
            absent.to_string().contains("`cargo xtask fetch efficientnet` brings it"),
            "{absent}"
        );
        let home = |name: &str| (name == "HOME").then(|| PathBuf::from("/h"));
        assert_eq!(folder(home), PathBuf::from("/h/.cache/firebrick"));
        assert_eq!(folder(|_| None), PathBuf::new());
    }
}
