//! The command line, read by hand: the library stays free of an argument parser.

use firebrick_core::Seed;
use firebrick_split::Rare;
use std::path::PathBuf;

pub(crate) const USAGE: &str = "\
Splits a CSV file, prints sizes and class shares, looks for leaks, writes the lists and their manifest.

usage: split --csv FILE [options]

  --csv FILE         comma-separated, with or without a header, also compressed (.gz)
  --label COLUMN     classes; splits are stratified by them
  --group COLUMN     rows of one group stay together
  --time COLUMN      integers or dates (2026-01-31, 2026-01-31T23:59:59)
  --part COLUMN      a split that exists: train, validation and test, or the fold of each row; it is audited as it is
  --scheme NAME      hold_out (default), time_series (default with --time), k_fold, stratified_k_fold,
                     group_k_fold, stratified_group_k_fold, leave_one_group_out
  --k N              folds (5)
  --test SIZE        test part of a hold-out: 0.2, 20%, 1/5 (0.2)
  --validation SIZE  validation part of a hold-out, 0 for none (0.15)
  --rare RULE        classes with fewer rows than parts: error, pool (into one), ignore (error)
  --gap N            distinct times left out before each test window (0)
  --seed N           seed (0)
  --out FOLDER       where the lists go (split-output)

COLUMN is a name from the header or a number from 0; -1 is the last.
";

/// What was asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) csv: PathBuf,
    pub(crate) label: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) time: Option<String>,
    pub(crate) part: Option<String>,
    pub(crate) rare: Rare,
    pub(crate) scheme: Option<String>,
    pub(crate) k: usize,
    pub(crate) test: String,
    pub(crate) validation: String,
    pub(crate) gap: u64,
    pub(crate) seed: Seed,
    pub(crate) out: PathBuf,
}

impl Arguments {
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut csv = None;
        let mut arguments = Self {
            csv: PathBuf::new(),
            label: None,
            group: None,
            time: None,
            part: None,
            rare: Rare::Error,
            scheme: None,
            k: 5,
            test: "0.2".into(),
            validation: "0.15".into(),
            gap: 0,
            seed: Seed(0),
            out: "split-output".into(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (flag, inline) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
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
                "--label" => arguments.label = Some(value()?),
                "--group" => arguments.group = Some(value()?),
                "--time" => arguments.time = Some(value()?),
                "--part" => arguments.part = Some(value()?),
                "--rare" => {
                    arguments.rare = match value()?.as_str() {
                        "error" => Rare::Error,
                        "pool" => Rare::Pool,
                        "ignore" => Rare::Ignore,
                        other => {
                            return Err(format!(
                                "--rare takes error, pool or ignore, not {other:?}"
                            ));
                        }
                    }
                }
                "--scheme" => arguments.scheme = Some(value()?.replace('-', "_")),
                "--k" => arguments.k = number(flag, &value()?)?,
                "--test" => arguments.test = value()?,
                "--validation" => arguments.validation = value()?,
                "--gap" => arguments.gap = number(flag, &value()?)?,
                "--seed" => arguments.seed = Seed(number(flag, &value()?)?),
                "--out" => arguments.out = value()?.into(),
                other => return Err(format!("unknown argument {other:?}\n\n{USAGE}")),
            }
        }
        arguments.csv = csv.ok_or(format!("--csv is missing\n\n{USAGE}"))?.into();
        Ok(arguments)
    }
}
