//! Which arguments a recorded case takes.

use super::case::missing;
use crate::RegularizeError;
use serde_json::Value;

/// What a case of this name takes as its arguments; `None` for a name that is not known.
fn arguments(name: &str) -> Option<&'static [&'static str]> {
    let known: &'static [&'static str] = match name {
        "l2" => &["strength", "convention", "scope"],
        "l1" => &["strength", "scope"],
        "elastic_net" => &["strength", "l1_ratio", "scope"],
        "orthogonal" => &["strength", "off_diagonal"],
        "spectral" | "confidence" | "jacobian" => &["strength"],
        "max_norm" => &["max", "axis"],
        "unit_norm" => &["axis"],
        "proximal_l1" => &["strength", "lr"],
        "group_lasso" => &["strength", "lr", "groups"],
        "label_smoothing" => &["smoothing"],
        "r_drop" => &["alpha"],
        "fixmatch" => &["threshold"],
        "uda" => &["threshold", "temperature"],
        "calibration_error" => &["bins"],
        "activation" => &["alpha", "beta"],
        "activity" => &["strength", "l1"],
        "gradient_penalty" => &["strength", "r1"],
        "mixup" => &["lambda", "partners", "smoothing"],
        "cutmix" => &["lambda", "partners", "x", "y", "smoothing"],
        "affine" => &["degrees", "right", "down", "scale", "shear_x", "shear_y"],
        "brightness" | "contrast" | "saturation" | "sharpness" => &["factor"],
        "solarize" => &["threshold"],
        "posterize" => &["bits"],
        "inverted" | "spatial" | "alpha" | "gaussian" | "drop_path" | "variational"
        | "embedding" | "zoneout" | "drop_connect" | "weight_drop" => &["prob"],
        "concrete" => &["prob", "temperature"],
        "drop_block" => &["prob", "block_size"],
        "non_negative" | "soft_cross_entropy" | "jensen_shannon" | "mean_teacher" | "pi_model"
        | "temperature" | "auto_contrast" | "equalize" | "flip_horizontal" | "flip_vertical" => &[],
        _ => return None,
    };
    Some(known)
}

/// An error for a name that is not known, and for an argument that would go unheeded.
pub(super) fn check_arguments(name: &str, args: &Value) -> Result<(), RegularizeError> {
    let known =
        arguments(name).ok_or_else(|| RegularizeError::UnknownCase { name: name.to_owned() })?;
    if args.is_null() {
        return Ok(());
    }
    let args = args.as_object().ok_or_else(|| missing("args"))?;
    match args.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => {
            Err(RegularizeError::UnknownArgument { name: name.to_owned(), key: key.clone() })
        }
        None => Ok(()),
    }
}
