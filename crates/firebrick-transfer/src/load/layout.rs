//! Whose conventions a file follows: how matrices stand and how the parameters of norms are called.

use serde::{Deserialize, Serialize};

use super::checkpoint::Checkpoint;
use super::error::LoadError;
use super::format::Format;
use super::inventory::Slot;

/// Whose conventions a file follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Layout {
    /// Told from the file: shapes of matrices that are not square, then the container, then the names of norms.
    #[default]
    Detect,
    /// A linear layer's weight is `[out, in]`, norms have `weight` and `bias`.
    PyTorch,
    /// A linear layer's weight is `[in, out]`, norms have `gamma` and `beta`.
    Burn,
}

impl Layout {
    /// Its name, as in the code.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Detect => "Layout::Detect",
            Self::PyTorch => "Layout::PyTorch",
            Self::Burn => "Layout::Burn",
        }
    }
}

/// What speaks for a layout.
#[derive(Debug, Default)]
struct Evidence {
    transposed: usize,
    as_is: usize,
    torch_norms: usize,
    burn_norms: usize,
    matters: bool,
}

/// The layout of a file, and why. `shape` gives the shape that the file has for a parameter under a layout's name.
pub(super) fn decide(
    stated: Layout,
    file: &Checkpoint,
    slots: &[Slot],
    shape: &dyn Fn(&Slot) -> Option<Vec<usize>>,
    has: &dyn Fn(&str) -> bool,
) -> Result<(Layout, String), LoadError> {
    let evidence = gather(slots, shape, has);
    let from_shapes = match (evidence.transposed, evidence.as_is) {
        (0, 0) => None,
        (count, 0) => Some((Layout::PyTorch, format!("{count} matrices stand as [out, in]"))),
        (0, count) => Some((Layout::Burn, format!("{count} matrices stand as [in, out]"))),
        (left, right) => {
            let reason = format!("{left} matrices stand as [out, in] and {right} as [in, out]");
            if stated == Layout::Detect {
                return Err(LoadError::UnknownLayout { reason });
            }
            None
        }
    };
    let container = container(file);
    if stated != Layout::Detect {
        // What the file says of itself weighs less than the shapes of its matrices, and burn can write either layout.
        let container = container.filter(|(layout, _)| *layout == Layout::PyTorch);
        let against =
            from_shapes.or(container).filter(|(layout, _)| *layout != stated && evidence.matters);
        return match against {
            Some((_, evidence)) => Err(LoadError::WrongLayout { stated: stated.name(), evidence }),
            None => Ok((stated, "as stated".to_owned())),
        };
    }
    let from_norms = match (evidence.torch_norms, evidence.burn_norms) {
        (count, 0) if count > 0 => {
            Some((Layout::PyTorch, format!("{count} parameters of norms are `weight` or `bias`")))
        }
        (0, count) if count > 0 => {
            Some((Layout::Burn, format!("{count} parameters of norms are `gamma` or `beta`")))
        }
        _ => None,
    };
    let torch = container.clone().filter(|(layout, _)| *layout == Layout::PyTorch);
    if let Some(found) = from_shapes.or(torch).or(from_norms).or(container) {
        return Ok(found);
    }
    if !evidence.matters {
        return Ok((Layout::Burn, "the model has nothing for which it matters".to_owned()));
    }
    let reason = "its matrices are square, and nothing else in it tells".to_owned();
    Err(LoadError::UnknownLayout { reason })
}

fn gather(
    slots: &[Slot],
    shape: &dyn Fn(&Slot) -> Option<Vec<usize>>,
    has: &dyn Fn(&str) -> bool,
) -> Evidence {
    let mut evidence = Evidence::default();
    for slot in slots {
        if slot.is_matrix() {
            let Some(found) = shape(slot) else { continue };
            evidence.matters = true;
            let [rows, columns] = [slot.shape[0], slot.shape[1]];
            if rows != columns {
                evidence.transposed += usize::from(found == [columns, rows]);
                evidence.as_is += usize::from(found == [rows, columns]);
            }
        } else if slot.torch_leaf() != slot.leaf() {
            let parent = slot.plain.strip_suffix(slot.leaf()).unwrap_or_default();
            evidence.torch_norms += usize::from(has(&format!("{parent}{}", slot.torch_leaf())));
            evidence.burn_norms += usize::from(has(&slot.plain) || has(&slot.path));
        }
    }
    evidence
}

/// What the container says: PyTorch's own, burn's own, or the metadata of safetensors.
fn container(file: &Checkpoint) -> Option<(Layout, String)> {
    let metadata = |key: &str| file.metadata().get(key).map(String::as_str);
    let (layout, words) = match file.format() {
        Format::PyTorchZip | Format::PyTorchLegacy => (Layout::PyTorch, "PyTorch wrote the file"),
        Format::Burnpack => (Layout::Burn, "burn wrote the file"),
        Format::Safetensors if metadata("format") == Some("pt") => {
            (Layout::PyTorch, "its metadata says `format: pt`")
        }
        Format::Safetensors if metadata("producer") == Some("burn") => {
            (Layout::Burn, "its metadata says `producer: burn`")
        }
        Format::Safetensors => return None,
    };
    Some((layout, words.to_owned()))
}
