//! The command line, read by hand: the library stays free of an argument parser.

use crate::table::Header;
use firebrick_core::Seed;
use firebrick_split::Rare;
use std::collections::HashSet;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Splits a CSV file, prints sizes and class shares, looks for leaks, writes the lists and their manifest.

usage: split --csv FILE [options]

  --csv FILE         comma-separated, with or without a header, also compressed (.gz)
  --header WHICH     whether the first line is a header: yes, no, auto (auto)
  --label COLUMN     classes; splits are stratified by them
  --group COLUMN     rows of one group stay together
  --time COLUMN      integers or dates (2026-01-31, 2026-01-31T23:59:59, also +02:00)
  --part COLUMN      a split that exists: train, validation and test, or the fold of each row; it is audited as it is
  --scheme NAME      hold_out (default), time_series (default with --time), k_fold, stratified_k_fold,
                     group_k_fold, stratified_group_k_fold, leave_one_group_out; also as scikit-learn writes them
  --k N              folds (5)
  --test SIZE        test part of a hold-out: 0.2, 20%, 1/5 (0.2)
  --validation SIZE  validation part of a hold-out, 0 for none (0.15)
  --rare RULE        classes with fewer rows than parts: error, pool (into one), ignore (error)
  --gap N            distinct times left out before each test window (0)
  --seed N           seed (0)
  --out FOLDER       where the lists go (split-output); those of a former run are removed

COLUMN is a name from the header or a number from 0; -1 is the last.
Exit code 0: the lists are written, whatever the audit found; 2: they are not, for the reason that is printed.
";

/// A scheme of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    HoldOut,
    TimeSeries,
    KFold,
    StratifiedKFold,
    GroupKFold,
    StratifiedGroupKFold,
    LeaveOneGroupOut,
}

const SCHEMES: [(&str, Scheme); 7] = [
    ("hold_out", Scheme::HoldOut),
    ("time_series", Scheme::TimeSeries),
    ("k_fold", Scheme::KFold),
    ("stratified_k_fold", Scheme::StratifiedKFold),
    ("group_k_fold", Scheme::GroupKFold),
    ("stratified_group_k_fold", Scheme::StratifiedGroupKFold),
    ("leave_one_group_out", Scheme::LeaveOneGroupOut),
];

impl Scheme {
    /// `stratified_kfold`, `stratified-k-fold` and `StratifiedKFold` are one name, as in `replay`.
    fn parse(text: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['_', '-'], "").to_lowercase();
        let asked = plain(text);
        let asked = asked.strip_suffix("split").unwrap_or(&asked);
        let found = SCHEMES.iter().find(|(name, _)| plain(name) == asked);
        found.map(|(_, scheme)| *scheme).ok_or_else(|| {
            let known: Vec<&str> = SCHEMES.iter().map(|(name, _)| *name).collect();
            format!("unknown scheme {text:?}; there are {}", known.join(", "))
        })
    }

    fn name(self) -> &'static str {
        SCHEMES.iter().find(|(_, scheme)| *scheme == self).map_or("", |(name, _)| *name)
    }
}

/// What was asked for; none where nothing was said.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) csv: PathBuf,
    pub(crate) header: Header,
    pub(crate) label: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) part: Option<String>,
    pub(crate) rare: Option<Rare>,
    scheme: Option<Scheme>,
    k: Option<usize>,
    test: Option<String>,
    validation: Option<String>,
    gap: Option<u64>,
    pub(crate) seed: Seed,
    pub(crate) out: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut csv = None;
        let mut arguments = Self {
            csv: PathBuf::new(),
            header: Header::Auto,
            label: None,
            group: None,
            time: None,
            part: None,
            rare: None,
            scheme: None,
            k: None,
            test: None,
            validation: None,
            gap: None,
            seed: Seed(0),
            out: "split-output".into(),
        };
        let mut words = words.iter();
        let mut given = HashSet::new();
        while let Some(word) = words.next() {
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            if !given.insert(flag) {
                return Err(format!("{flag} is given twice"));
            }
            let mut value = || {
                inline
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or(format!("{flag} needs a value"))
            };
            fn number<T: std::str::FromStr>(flag: &str, text: &str) -> Result<T, String> {
                text.parse()
                    .map_err(|_| format!("{flag} must be a whole number from 0, got {text:?}"))
            }
            match flag {
                "--csv" => csv = Some(value()?),
                "--header" => {
                    arguments.header = match value()?.as_str() {
                        "yes" => Header::Yes,
                        "no" => Header::No,
                        "auto" => Header::Auto,
                        other => {
                            return Err(format!("--header takes yes, no or auto, not {other:?}"));
                        }
                    }
                }
                "--label" => arguments.label = Some(value()?),
                "--group" => arguments.group = Some(value()?),
                "--time" => arguments.time = Some(value()?),
                "--part" => arguments.part = Some(value()?),
                "--rare" => {
                    arguments.rare = match value()?.as_str() {
                        "error" => Some(Rare::Error),
                        "pool" => Some(Rare::Pool),
                        "ignore" => Some(Rare::Ignore),
                        other => {
                            return Err(format!(
                                "--rare takes error, pool or ignore, not {other:?}"
                            ));
                        }
                    }
                }
                "--scheme" => arguments.scheme = Some(Scheme::parse(&value()?)?),
                "--k" => arguments.k = Some(number(flag, &value()?)?),
                "--test" => arguments.test = Some(value()?),
                "--validation" => arguments.validation = Some(value()?),
                "--gap" => arguments.gap = Some(number(flag, &value()?)?),
                "--seed" => arguments.seed = Seed(number(flag, &value()?)?),
                "--out" => arguments.out = value()?.into(),
                other => return Err(format!("unknown argument {other:?}\n\n{USAGE}")),
            }
        }
        arguments.csv = csv.ok_or(format!("--csv is missing\n\n{USAGE}"))?.into();
        arguments.check_used()?;
        Ok(arguments)
    }

    /// Refuses flags that nothing would read: whoever gave them expects another split.
    fn check_used(&self) -> Result<(), String> {
        let scheme = self.scheme();
        let hold_out = scheme == Scheme::HoldOut;
        let folds = !hold_out && scheme != Scheme::LeaveOneGroupOut;
        let rare = hold_out && self.label.is_some() && self.group.is_none();
        let part = self.part.is_some();
        let flags = [
            ("--scheme", self.scheme.is_some(), true, "any split"),
            ("--k", self.k.is_some(), folds, "schemes of k folds"),
            ("--test", self.test.is_some(), hold_out, "hold_out"),
            ("--validation", self.validation.is_some(), hold_out, "hold_out"),
            ("--rare", self.rare.is_some(), rare, "hold_out with --label and without --group"),
            ("--gap", self.gap.is_some(), scheme == Scheme::TimeSeries, "time_series"),
        ];
        match flags.into_iter().find(|(_, given, used, _)| *given && (part || !used)) {
            None => Ok(()),
            Some((flag, ..)) if part => {
                Err(format!("{flag} does nothing with --part, which takes the split as it stands"))
            }
            Some((flag, _, _, user)) => Err(format!(
                "{flag} does nothing here: it is for {user}, not for {}",
                scheme.name()
            )),
        }
    }

    /// The scheme, by default the one that fits what is known of the rows.
    pub(crate) fn scheme(&self) -> Scheme {
        let usual = if self.time.is_some() { Scheme::TimeSeries } else { Scheme::HoldOut };
        self.scheme.unwrap_or(usual)
    }

    pub(crate) fn k(&self) -> usize {
        self.k.unwrap_or(5)
    }

    pub(crate) fn test(&self) -> &str {
        self.test.as_deref().unwrap_or("0.2")
    }

    /// None where it is 0, however that is written.
    pub(crate) fn validation(&self) -> Option<&str> {
        let size = self.validation.as_deref().unwrap_or("0.15");
        let number = size.trim().trim_end_matches('%').parse::<f64>();
        (number != Ok(0.0)).then_some(size)
    }

    pub(crate) fn gap(&self) -> u64 {
        self.gap.unwrap_or(0)
    }

    /// The columns that were asked for.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let all = [&self.label, &self.group, &self.time, &self.part];
        all.into_iter().filter_map(|column| column.as_deref()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, String> {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        Arguments::parse(&words)
    }

    #[test]
    fn schemes_are_known_in_every_spelling() {
        for (name, scheme) in SCHEMES {
            for spelling in [name.to_owned(), name.replace('_', "-"), name.replace('_', "")] {
                assert_eq!(Scheme::parse(&spelling), Ok(scheme), "{spelling}");
            }
            assert_eq!(scheme.name(), name);
        }
        for (text, scheme) in [
            ("kfold", Scheme::KFold),
            ("stratified_kfold", Scheme::StratifiedKFold),
            ("group-kfold", Scheme::GroupKFold),
            ("StratifiedGroupKFold", Scheme::StratifiedGroupKFold),
            ("TimeSeriesSplit", Scheme::TimeSeries),
            ("LeaveOneGroupOut", Scheme::LeaveOneGroupOut),
        ] {
            assert_eq!(Scheme::parse(text), Ok(scheme), "{text}");
        }
        let error = Scheme::parse("magic").expect_err("unknown");
        assert!(error.contains("\"magic\"") && error.contains("hold_out, time_series, k_fold"));
    }

    #[test]
    fn flags_that_nothing_reads_are_refused() {
        for (words, part) in [
            ("--gap 2", "--gap does nothing here: it is for time_series, not for hold_out"),
            ("--k 4", "--k does nothing here"),
            ("--scheme k_fold --test 0.3", "--test does nothing here"),
            ("--time t --validation 0", "--validation does nothing here"),
            ("--scheme leave_one_group_out --k 3", "not for leave_one_group_out"),
            ("--label y --group g --rare pool", "--rare does nothing here"),
            ("--part p --k 3", "--k does nothing with --part"),
            ("--part p --scheme k_fold", "--scheme does nothing with --part"),
        ] {
            let error = parse(&format!("--csv f {words}")).expect_err(words);
            assert!(error.contains(part), "{words}: {error}");
        }
        for words in [
            "--time t --gap 2 --k 3",
            "--test 0.3 --validation 0",
            "--label y --rare pool",
            "--scheme k_fold --k 3 --label y",
            "--part p --label y --time t",
        ] {
            assert!(parse(&format!("--csv f {words}")).is_ok(), "{words}");
        }
        let usual = parse("--csv f").expect("nothing else is needed");
        assert_eq!(
            (usual.k(), usual.gap(), usual.test(), usual.validation()),
            (5, 0, "0.2", Some("0.15"))
        );
        for none in ["0", "0.0", "0%"] {
            let words = format!("--csv f --validation {none}");
            assert_eq!(parse(&words).expect("none is fine").validation(), None);
        }
        let twice = parse("--csv f --label a --label=b").expect_err("which of them?");
        assert_eq!(twice, "--label is given twice");
        assert_eq!(usual.scheme(), Scheme::HoldOut);
        assert!(parse("--csv f --header maybe").is_err());
    }
}
