//! Values that a trained network does not have, and some that it rarely has.

use burn::tensor::TensorData;

use super::inventory::{Kind, Slot};
use super::transform::floats;

/// The norm of a loaded matrix over that of the fresh one may lie within this factor, either way.
const NORM_FACTOR: f64 = 1e3;

/// Euclidean norm, in f64; 0 for truth values and integers.
pub(super) fn norm(data: &TensorData) -> f64 {
    if !data.dtype().is_float() {
        return 0.0;
    }
    floats(data).iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Says so where input channels of a kernel `[out, channels, height, width]`, from number `have` on, are all 0.
pub(super) fn dead_channels(data: &TensorData, have: usize) -> Option<String> {
    let shape = data.shape().to_vec();
    let &[out, channels, height, width] = shape.as_slice() else { return None };
    let (values, area) = (floats(data), height * width);
    let dead = |channel: &usize| {
        (0..out).all(|filter| {
            let start = (filter * channels + channel) * area;
            values[start..start + area].iter().all(|value| *value == 0.0)
        })
    };
    let count = (have..channels).filter(dead).count();
    (count > 0).then(|| {
        format!("{count} new input channels are all 0: what they see counts only once they train")
    })
}

/// What is broken about the values for a parameter, and what is odd.
pub(super) fn judge(slot: &Slot, data: &TensorData) -> (Option<String>, Vec<String>) {
    let mut odd = Vec::new();
    if slot.kind != Kind::Float || slot.elements() == 0 {
        return (None, odd);
    }
    let values = floats(data);
    let wrong = values.iter().filter(|value| !value.is_finite()).count();
    if wrong > 0 {
        return (Some(format!("{wrong} of {} values are not finite", values.len())), odd);
    }
    if slot.leaf() == "running_var" {
        let negative = values.iter().filter(|value| **value < 0.0).count();
        if negative > 0 {
            return (Some(format!("{negative} of {} variances are negative", values.len())), odd);
        }
        let zero = values.iter().filter(|value| **value == 0.0).count();
        if zero > 0 {
            odd.push(format!(
                "{zero} of {} variances are 0: channels that never changed",
                values.len()
            ));
        }
    }
    // Vectors of zeros and ones are what biases and norms begin with, and some stay there.
    if slot.shape.len() >= 2 && values.len() > 1 {
        let first = values[0];
        if values.iter().all(|value| *value == first) {
            odd.push(format!("all {} values are {first}", values.len()));
        } else {
            let (fresh, loaded) = (norm(&slot.data), norm(data));
            let ratio = loaded / fresh;
            if fresh > 0.0 && !(1.0 / NORM_FACTOR..=NORM_FACTOR).contains(&ratio) {
                odd.push(format!(
                    "its norm {loaded:.3e} is {ratio:.1e} times that of the model's own {fresh:.3e}"
                ));
            }
        }
    }
    (None, odd)
}
