//! The samples: real digits embedded in the binary, or a CSV file in the same form.

use burn::tensor::{Device, Tensor, TensorData};
use firebrick::prelude::Labelled;
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::{Path, PathBuf};

/// 1,797 images of 8x8 pixels; origin and licence stand beside the file.
const DIGITS: &[u8] = include_bytes!("../data/optdigits-1797.csv.gz");

/// Labels are the digits.
const MAX_CLASSES: u32 = 10;

/// Why a data file cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each is; rows and columns count from 1")]
pub enum DataError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{name} has no row")]
    Empty { name: String },
    #[error("{name}: row {row} cannot be read: {reason}")]
    Row { name: String, row: usize, reason: String },
    #[error("{name}: row {row} has {found} columns, expected {expected} as in row 1")]
    Ragged { name: String, row: usize, found: usize, expected: usize },
    #[error("{name}: a row needs at least one number and the label, row 1 has {found} columns")]
    NoFeature { name: String, found: usize },
    #[error("{name}: row {row}, column {column}: {text:?} is not a finite number")]
    Number { name: String, row: usize, column: usize, text: String },
    #[error("{name}: row {row}: the label {text:?} is no whole number from 0 to {max}", max = MAX_CLASSES - 1)]
    Label { name: String, row: usize, text: String },
    #[error("{name} has one class only, {class}: there is nothing to tell apart")]
    OneClass { name: String, class: u32 },
}

/// Labelled rows of numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// Row after row.
    pub features: Vec<f32>,
    /// Numbers in a row.
    pub width: usize,
    /// Class of each row, from 0.
    pub labels: Vec<u32>,
    /// Largest label and 1.
    pub classes: usize,
}

impl Data {
    /// The digits in the binary, or the rows of the CSV file at `path` (plain or gzip).
    ///
    /// # Errors
    /// When the file cannot be read or a row cannot be used.
    pub fn load(path: Option<&Path>) -> Result<Self, DataError> {
        let (name, bytes) = match path {
            None => ("the embedded data".to_owned(), DIGITS.to_vec()),
            Some(path) => {
                let read = std::fs::read(path);
                let bytes =
                    read.map_err(|source| DataError::Read { path: path.to_owned(), source })?;
                (path.display().to_string(), bytes)
            }
        };
        Self::parse(&name, &unpack(&name, bytes)?)
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<Self, DataError> {
        let name = || name.to_owned();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let mut data = Self { features: Vec::new(), width: 0, labels: Vec::new(), classes: 0 };
        for (index, record) in reader.records().enumerate() {
            let row = index + 1;
            let record = record.map_err(|error| DataError::Row {
                name: name(),
                row,
                reason: error.to_string(),
            })?;
            let found = record.len();
            if row == 1 {
                data.width = found.saturating_sub(1);
                if data.width == 0 {
                    return Err(DataError::NoFeature { name: name(), found });
                }
            }
            if found != data.width + 1 {
                let expected = data.width + 1;
                return Err(DataError::Ragged { name: name(), row, found, expected });
            }
            for (column, text) in record.iter().take(data.width).enumerate() {
                let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
                data.features.push(number.ok_or_else(|| DataError::Number {
                    name: name(),
                    row,
                    column: column + 1,
                    text: text.to_owned(),
                })?);
            }
            let text = &record[data.width];
            let label = text.parse::<u32>().ok().filter(|&label| label < MAX_CLASSES);
            data.labels.push(label.ok_or_else(|| DataError::Label {
                name: name(),
                row,
                text: text.to_owned(),
            })?);
        }
        let Some(&last) = data.labels.iter().max() else {
            return Err(DataError::Empty { name: name() });
        };
        if data.labels.iter().all(|&label| label == last) {
            return Err(DataError::OneClass { name: name(), class: last });
        }
        data.classes = last as usize + 1;
        Ok(data)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The numbers of a row.
    fn row(&self, row: usize) -> &[f32] {
        &self.features[row * self.width..(row + 1) * self.width]
    }

    /// A copy of these rows, in this order.
    #[must_use]
    pub fn select(&self, rows: &[u32]) -> Self {
        Self {
            features: rows.iter().flat_map(|&row| self.row(row as usize)).copied().collect(),
            width: self.width,
            labels: rows.iter().map(|&row| self.labels[row as usize]).collect(),
            classes: self.classes,
        }
    }

    /// The rows of `self`, then those of `other`.
    #[must_use]
    pub fn join(mut self, other: Self) -> Self {
        self.features.extend(other.features);
        self.labels.extend(other.labels);
        self
    }

    /// The rows as tensors on `device`, their numbers divided by `scale`.
    #[must_use]
    pub fn tensors(&self, scale: f32, device: &Device) -> Labelled<2> {
        let scaled: Vec<f32> = self.features.iter().map(|value| value / scale).collect();
        let labels: Vec<i32> = self.labels.iter().map(|&label| label as i32).collect();
        Labelled {
            inputs: Tensor::from_data(TensorData::new(scaled, [self.len(), self.width]), device),
            targets: Tensor::from_data(labels.as_slice(), device),
        }
    }

    /// The largest magnitude in the rows, by which a model that is trained on them divides its input.
    #[must_use]
    pub fn scale(&self) -> f32 {
        let largest = self.features.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest > 0.0 { largest } else { 1.0 }
    }
}

fn unpack(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, DataError> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let read = GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain);
    read.map_err(|source| DataError::Read { path: name.into(), source })?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> String {
        Data::parse("f.csv", text.as_bytes()).expect_err("must be refused").to_string()
    }

    #[test]
    fn the_embedded_digits_are_whole() {
        let data = Data::load(None).expect("embedded");
        assert_eq!((data.len(), data.width, data.classes), (1797, 64, 10));
        let mut counts = [0; 10];
        data.labels.iter().for_each(|&label| counts[label as usize] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        assert!(data.features.iter().all(|&pixel| (0.0..=16.0).contains(&pixel)));
        assert_eq!(data.scale(), 16.0);
        let two = data.select(&[7, 3]);
        assert_eq!((two.labels.as_slice(), two.row(1)), (&[7, 3][..], data.row(3)));
        assert_eq!(data.select(&[7]).join(data.select(&[3])), two);
    }

    #[test]
    fn every_kind_of_bad_file_is_named() {
        assert_eq!(message(""), "f.csv has no row");
        assert_eq!(message("\n\n"), "f.csv has no row");
        assert_eq!(
            message("1\n"),
            "f.csv: a row needs at least one number and the label, row 1 has 1 columns"
        );
        assert_eq!(message("1,2,0\n1,1\n"), "f.csv: row 2 has 2 columns, expected 3 as in row 1");
        assert_eq!(
            message("1,2,0\n1,x,1\n"),
            "f.csv: row 2, column 2: \"x\" is not a finite number"
        );
        assert_eq!(
            message("1,2,0\nNaN,1,1\n"),
            "f.csv: row 2, column 1: \"NaN\" is not a finite number"
        );
        assert_eq!(
            message("1,2,0\ninf,1,1\n"),
            "f.csv: row 2, column 1: \"inf\" is not a finite number"
        );
        assert_eq!(message("1,2,0\n,1,1\n"), "f.csv: row 2, column 1: \"\" is not a finite number");
        for label in ["10", "-1", "0.5", "a", ""] {
            let expected =
                format!("f.csv: row 2: the label {label:?} is no whole number from 0 to 9");
            assert_eq!(message(&format!("1,2,0\n1,2,{label}\n")), expected);
        }
        assert_eq!(
            message("1,2,3\n4,5,3\n"),
            "f.csv has one class only, 3: there is nothing to tell apart"
        );
    }

    #[test]
    fn a_broken_archive_and_a_missing_file_are_errors() {
        assert!(unpack("f.gz", vec![0x1f, 0x8b, 0, 1, 2]).is_err());
        let missing = Data::load(Some(Path::new("no/such/file.csv"))).expect_err("missing");
        assert!(missing.to_string().starts_with("no/such/file.csv: "));
    }
}
