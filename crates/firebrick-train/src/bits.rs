//! A number that a checkpoint keeps to the bit: JSON has neither NaN nor infinity.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number that is saved as its 64 bits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bits(pub(crate) f64);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0.to_bits())
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(|bits| Self(f64::from_bits(bits)))
    }
}

/// The same for a field: `#[serde(with = "crate::bits")]`.
pub(crate) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    Bits(*value).serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Bits::deserialize(from).map(|Bits(value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_survives() {
        for value in [0.1 + 0.2, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 5e-324] {
            let text = serde_json::to_string(&Bits(value)).expect("serializes");
            let Bits(back) = serde_json::from_str(&text).expect("reads back");
            assert_eq!(back.to_bits(), value.to_bits());
        }
    }
}
