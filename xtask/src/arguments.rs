//! Reads a command line: positional words, flags, and options with a value (`--name value` or `--name=value`).

use crate::failure::Failure;

/// The words of a command line, sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    positional: Vec<String>,
    flags: Vec<String>,
    options: Vec<(String, String)>,
}

impl Arguments {
    /// Sorts `words`, given the known flags and options (`--name`), and how many positional words there may be.
    pub(crate) fn read(
        words: &[String],
        flags: &[&str],
        options: &[&str],
        positional: usize,
    ) -> Result<Self, Failure> {
        let mut read = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !word.starts_with('-') {
                read.positional.push(word.clone());
                continue;
            }
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if options.contains(&name) {
                let value = attached.or_else(|| words.next().cloned());
                let value = value.filter(|value| !value.is_empty());
                let value =
                    value.ok_or_else(|| Failure::usage(format!("`{name}` needs a value")))?;
                read.options.push((name.to_owned(), value));
            } else if flags.contains(&name) && attached.is_none() {
                read.flags.push(name.to_owned());
            } else {
                let known: Vec<&str> = flags.iter().chain(options).copied().collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(Failure::usage(format!("unknown flag `{word}`; known are: {known}")));
            }
        }
        match read.positional.get(positional) {
            Some(extra) => Err(Failure::usage(format!("unexpected argument `{extra}`"))),
            None => Ok(read),
        }
    }

    /// The positional word at `place`.
    pub(crate) fn word(&self, place: usize) -> Option<&str> {
        self.positional.get(place).map(String::as_str)
    }

    /// Whether a flag is there.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag == name)
    }

    /// The value of an option that may stand once.
    pub(crate) fn option(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            Some(_) => Err(Failure::usage(format!("`{name}` may be given once"))),
            None => Ok(first),
        }
    }

    /// Every value of an option that may stand more than once.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.options
            .iter()
            .filter(move |(option, _)| option == name)
            .map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Arguments, Failure> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        Arguments::read(&words, &["--quick"], &["--json", "--skip"], 1)
    }

    #[test]
    fn both_forms_of_a_value_and_repeated_options() {
        let read = read("optim --quick --json=a.json --skip fmt --skip doc").expect("all known");
        assert_eq!(read.word(0), Some("optim"));
        assert!(read.flag("--quick") && !read.flag("--json"));
        assert_eq!(read.option("--json"), Ok(Some("a.json")));
        assert_eq!(read.all("--skip").collect::<Vec<_>>(), ["fmt", "doc"]);
        assert!(read.option("--skip").is_err());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, part) in [
            ("--quik", "`--quik`; known are: --quick, --json, --skip"),
            ("--json", "`--json` needs a value"),
            ("--json=", "`--json` needs a value"),
            ("--quick=yes", "unknown flag `--quick=yes`"),
            ("optim split", "unexpected argument `split`"),
        ] {
            let failure = read(line).expect_err(line);
            assert_eq!(failure.code(), 2);
            assert!(failure.message().is_some_and(|text| text.contains(part)), "{failure:?}");
        }
    }
}
