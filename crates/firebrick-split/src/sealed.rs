//! The test part, sealed: opened once, by value, with a frozen model, on the record.

use crate::ledger::{Ledger, Opened, Opening};
use crate::{Fingerprint, SplitError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Numbers by name, as an evaluation returns them.
///
/// NaN and infinities are kept; in JSON they are the texts "NaN", "inf" and "-inf".
///
/// ```
/// use firebrick_split::Metrics;
///
/// let metrics = Metrics::new().with("error", 0.02).with("n", 360.0);
/// assert_eq!(metrics.get("error"), Some(0.02));
/// assert_eq!(metrics.to_string(), "error 0.02, n 360");
/// ```
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metrics(
    #[serde(serialize_with = "write", deserialize_with = "read")] BTreeMap<String, f64>,
);

impl Metrics {
    /// No numbers yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one number more.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        self.0.insert(name.into(), value);
        self
    }

    /// The number called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Names and numbers in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// Equal to the last bit, any NaN being equal to any other.
impl PartialEq for Metrics {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): ((&str, f64), (&str, f64))| {
            a.0 == b.0 && (a.1 == b.1 || a.1.is_nan() && b.1.is_nan())
        };
        self.0.len() == other.0.len() && self.iter().zip(other.iter()).all(same)
    }
}

impl std::fmt::Display for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name} {value}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Text(String),
}

fn write<S: serde::Serializer>(values: &BTreeMap<String, f64>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(values.iter().map(|(name, &value)| {
        (
            name,
            if value.is_finite() { Number::Finite(value) } else { Number::Text(value.to_string()) },
        )
    }))
}

fn read<'de, D: serde::Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    BTreeMap::<String, Number>::deserialize(from)?
        .into_iter()
        .map(|(name, number)| match number {
            Number::Finite(value) => Ok((name, value)),
            Number::Text(text) => match text.as_str() {
                "NaN" => Ok((name, f64::NAN)),
                "inf" => Ok((name, f64::INFINITY)),
                "-inf" => Ok((name, f64::NEG_INFINITY)),
                _ => Err(serde::de::Error::custom(format!("`{name}` is not a number: {text:?}"))),
            },
        })
        .collect()
}

/// What tells one model from another: the SHA-256 of everything that decides its answers.
///
/// ```
/// use firebrick_split::ModelDigest;
///
/// let weights = [[0.1f32, 0.2], [0.3, 0.4]];
/// let digest = ModelDigest::of_f32(weights.iter().map(|w| w.as_slice()));
/// assert_eq!(digest, ModelDigest::of_f32(weights.iter().map(|w| w.as_slice())));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelDigest(String);

impl ModelDigest {
    /// The digest of parts given as bytes; where one part ends counts.
    pub fn of_bytes<B: AsRef<[u8]>>(parts: impl IntoIterator<Item = B>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            let part = part.as_ref();
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Self(crate::hex::encode(&hasher.finalize()))
    }

    /// The digest of parameters given as slices of floats, by their bits.
    pub fn of_f32<'a>(parts: impl IntoIterator<Item = &'a [f32]>) -> Self {
        Self::of_bytes(
            parts
                .into_iter()
                .map(|part| part.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()),
        )
    }

    /// The digest as 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for ModelDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// A model that no longer changes, with its digest and the words for the choice that led to it.
#[derive(Debug, Clone)]
pub struct Frozen<M> {
    model: M,
    digest: ModelDigest,
    choice: String,
}

impl<M> Frozen<M> {
    /// Freezes `model`; `choice` says in words what was chosen, for the ledger and its messages.
    pub fn new(model: M, digest: ModelDigest, choice: impl Into<String>) -> Self {
        Self { model, digest, choice: choice.into() }
    }

    /// The model.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// Its digest.
    pub fn digest(&self) -> &ModelDigest {
        &self.digest
    }

    /// The words for the choice.
    pub fn choice(&self) -> &str {
        &self.choice
    }
}

/// The test part, which shows nothing but its size and fingerprint until it is opened.
///
/// It is no dataset, cannot be cloned, iterated or printed. [`Sealed::open`] consumes it.
///
/// ```
/// use firebrick_core::Seed;
/// use firebrick_split::*;
///
/// let data: Vec<f32> = (0..10).map(|i| i as f32).collect();
/// let hashes = RowHashes::from_f32(&data, 1, None)?;
/// let roles = HoldOut::new(0.3).with_shuffle(Seed(1)).split(&Rows::new(10))?;
/// let parts = roles.divide(&hashes, |_, rows| rows.iter().map(|&r| data[r as usize]).collect::<Vec<_>>())?;
///
/// let folder = tempfile::tempdir().expect("temporary folder");
/// let mut ledger = Ledger::open(folder.path().join("ledger.jsonl"), hashes.fingerprint())?;
/// let mean = parts.train.iter().sum::<f32>() / parts.train.len() as f32;
/// let frozen = Frozen::new(mean, ModelDigest::of_f32([[mean].as_slice()]), "the mean");
/// let report = parts.test.open(&mut ledger, &frozen, |mean, test| {
///     let error = test.iter().map(|x| (x - mean).abs()).sum::<f32>() / test.len() as f32;
///     Metrics::new().with("error", error.into())
/// })?;
/// assert!(!report.repetition);
/// # Ok::<(), SplitError>(())
/// ```
///
/// It cannot be cloned, printed or read:
///
/// ```compile_fail,E0599
/// # fn f(test: firebrick_split::Sealed<Vec<f32>>) { let _ = test.clone(); }
/// ```
/// ```compile_fail,E0277
/// # fn f(test: firebrick_split::Sealed<Vec<f32>>) { println!("{test:?}"); }
/// ```
/// ```compile_fail,E0277
/// # fn f(test: firebrick_split::Sealed<Vec<f32>>) { for row in test {} }
/// ```
/// ```compile_fail,E0616
/// # fn f(test: firebrick_split::Sealed<Vec<f32>>) { let _ = test.data; }
/// ```
/// ```compile_fail,E0614
/// # fn f(test: firebrick_split::Sealed<Vec<f32>>) { let _ = *test; }
/// ```
///
/// Nor opened twice, or passed off as something to train on or to choose by:
///
/// ```compile_fail,E0382
/// # use firebrick_split::*;
/// # fn f(test: Sealed<Vec<f32>>, ledger: &mut Ledger, model: &Frozen<()>) {
/// let first = test.open(ledger, model, |(), _| Metrics::new());
/// let second = test.open(ledger, model, |(), _| Metrics::new());
/// # }
/// ```
/// ```compile_fail,E0308
/// # use firebrick_split::*;
/// # fn f(test: Sealed<Vec<f32>>) { let _: Train<Vec<f32>> = test; }
/// ```
/// ```compile_fail,E0308
/// # use firebrick_split::*;
/// # fn f(test: Sealed<Vec<f32>>) { let _: Validation<Vec<f32>> = test; }
/// ```
#[allow(missing_debug_implementations, reason = "printing the test part would open it")]
pub struct Sealed<D> {
    data: D,
    /// Hashes of the test rows, ascending.
    test: Vec<u64>,
    /// Hashes of all other rows, ascending.
    others: Vec<u64>,
}

impl<D> Sealed<D> {
    pub(crate) fn new(data: D, test: Vec<u64>, others: Vec<u64>) -> Self {
        Self { data, test, others }
    }

    /// Number of test rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.test.len()
    }

    /// Whether there is no row; a split never leaves the test part empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.test.is_empty()
    }

    /// The fingerprint of the test rows; it does not depend on their order.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.test)
    }

    /// Whether the ledger refuses these rows to every model, before one is trained: some were opened in another test
    /// part. The same rows may be opened again by the same model, which only [`open`](Self::open) can tell.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn check(&self, ledger: &Ledger) -> Result<(), SplitError> {
        ledger.check(&self.test, &self.others)
    }

    /// Opens the test part for one frozen model and writes that down.
    ///
    /// Before `evaluate` sees a row, the opening is on disk; afterwards the metrics are. The same opening
    /// again (same rows, same model, same metrics) is a repetition: allowed and marked. After a crash in
    /// between, the same model may finish what it began.
    ///
    /// # Errors
    /// [`SplitError::AlreadyOpened`] when the rows were opened with another model or gave another result,
    /// [`SplitError::TestRowsReused`] when rows of an opened test part are outside the test part now, where
    /// training sees them; [`Ledger::reopen`] lets both pass. [`SplitError::LedgerOfOtherData`],
    /// [`SplitError::LedgerDamaged`], [`SplitError::Io`].
    pub fn open<M>(
        self,
        ledger: &mut Ledger,
        model: &Frozen<M>,
        evaluate: impl FnOnce(&M, &D) -> Metrics,
    ) -> Result<TestReport, SplitError> {
        let opened = ledger.begin(&self.test, &self.others, &model.digest, &model.choice)?;
        let metrics = evaluate(&model.model, &self.data);
        let Opened { opening, uses, repeated, .. } = ledger.finish(&opened, &metrics)?;
        Ok(TestReport {
            n: self.test.len(),
            repetition: repeated,
            uses,
            reopened: opening.reopened.clone(),
            metrics,
            opening,
        })
    }
}

/// What the one look at the test part gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    /// Number of test rows.
    pub n: usize,
    /// The metrics that the evaluation returned.
    pub metrics: Metrics,
    /// Whether the same model was evaluated on the same rows before, with the same result.
    pub repetition: bool,
    /// How many different openings these rows have seen, this one included; 1 for an honest test.
    pub uses: usize,
    /// The reason that was given, when the rows had been opened before.
    pub reopened: Option<String>,
    /// The opening as it stands in the ledger.
    pub opening: Opening,
}
