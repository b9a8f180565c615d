//! Which axis of a weight counts its units.
//!
//! burn's `Linear` is [in, out], PyTorch's [out, in]; convolutions are [out, in, k...] in both, transposed ones
//! [in, out, k...]. A rule that treats the axes alike is wrong on one of them.

use crate::RegularizeError;
use firebrick_backend::PathStack;
use serde::{Deserialize, Serialize};

/// Where a weight's axis of units is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnitAxis {
    /// The type of layer that owns the weight: known for burn's linear, convolution and embedding layers, an
    /// error for any other.
    ///
    /// A transposed convolution with groups has a weight [in, out / groups, k...], of which no axis counts units. The
    /// groups are not to be seen in a weight: such a layer is refused where its bias tells, one without a bias is taken
    /// for a layer with one group. Limit the paths for it.
    ByLayer,
    /// This axis of every weight.
    At(usize),
}

/// The two axes of a weight that connect layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axes {
    pub(crate) unit: usize,
    pub(crate) input: usize,
}

/// The axes of a weight with `rank` axes in burn's layer `owner`.
pub(crate) fn axes_of(owner: &str, rank: usize) -> Option<Axes> {
    match owner {
        _ if rank < 2 => None,
        "Linear" => Some(Axes { unit: 1, input: 0 }),
        "ConvTranspose1d" | "ConvTranspose2d" | "ConvTranspose3d" => {
            Some(Axes { unit: 1, input: 0 })
        }
        "Conv1d" | "Conv2d" | "Conv3d" | "DeformConv2d" => Some(Axes { unit: 0, input: 1 }),
        "Embedding" => Some(Axes { unit: 0, input: 1 }),
        _ => None,
    }
}

impl UnitAxis {
    /// The unit axis of one weight, if there is one.
    pub(crate) fn of(self, owner: &str, rank: usize) -> Option<usize> {
        match self {
            Self::ByLayer => axes_of(owner, rank).map(|axes| axes.unit),
            Self::At(axis) => (axis < rank).then_some(axis),
        }
    }
}

/// Along which axis of a weight a rule works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Axis {
    /// Along none: elements are changed each on its own.
    Elements,
    /// The axis that counts units.
    Units(UnitAxis),
    /// The axis that counts units; of a matrix either will do.
    Kernels(UnitAxis),
    /// The axis that counts inputs.
    Inputs,
}

impl Axis {
    /// The axis of the weight that is visited.
    pub(crate) fn of(self, path: &PathStack, rank: usize) -> Result<usize, RegularizeError> {
        let owner = path.owner();
        let axis = match self {
            Self::Elements => Some(0),
            Self::Kernels(_) if rank == 2 => Some(0),
            Self::Units(axis) | Self::Kernels(axis) => axis.of(owner, rank),
            Self::Inputs => axes_of(owner, rank).map(|axes| axes.input),
        };
        axis.ok_or_else(|| RegularizeError::UnitAxis { path: path.path(), owner: owner.to_owned() })
    }

    /// Whether the type of layer says which axis counts units.
    pub(crate) fn by_layer(self) -> bool {
        matches!(self, Self::Units(UnitAxis::ByLayer) | Self::Kernels(UnitAxis::ByLayer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layer_has_its_axes() {
        let (columns, rows) = (Axes { unit: 1, input: 0 }, Axes { unit: 0, input: 1 });
        for (owner, rank, expected) in [
            ("Linear", 2, Some(columns)),
            ("Conv1d", 3, Some(rows)),
            ("Conv2d", 4, Some(rows)),
            ("Conv3d", 5, Some(rows)),
            ("DeformConv2d", 4, Some(rows)),
            ("ConvTranspose1d", 3, Some(columns)),
            ("ConvTranspose2d", 4, Some(columns)),
            ("ConvTranspose3d", 5, Some(columns)),
            ("Embedding", 2, Some(rows)),
            ("Linear", 1, None),
            ("Own", 2, None),
        ] {
            assert_eq!(axes_of(owner, rank), expected, "{owner}");
        }
    }

    #[test]
    fn an_axis_is_named_or_known() {
        let of = |axis: UnitAxis, owner: &str, rank: usize| {
            let mut path = PathStack::default();
            path.enter("a", "Struct:Net");
            path.enter("b", &format!("Struct:{owner}"));
            [Axis::Units(axis), Axis::Kernels(axis)].map(|axis| axis.of(&path, rank))
        };
        assert_eq!(of(UnitAxis::ByLayer, "Linear", 2), [Ok(1), Ok(0)]);
        assert_eq!(of(UnitAxis::At(0), "Linear", 2), [Ok(0), Ok(0)]);
        assert_eq!(of(UnitAxis::At(1), "Own", 2), [Ok(1), Ok(0)]);
        assert_eq!(of(UnitAxis::ByLayer, "ConvTranspose1d", 3), [Ok(1), Ok(1)]);
        let unknown = || Err(RegularizeError::UnitAxis { path: "a.b".into(), owner: "Own".into() });
        assert_eq!(of(UnitAxis::ByLayer, "Own", 2), [unknown(), Ok(0)]);
        assert_eq!(of(UnitAxis::At(2), "Own", 2), [unknown(), Ok(0)]);
        assert_eq!(of(UnitAxis::ByLayer, "Own", 3), [unknown(), unknown()]);
    }
}
