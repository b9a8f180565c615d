//! What is done to a tensor between file and model, on the host.

use burn::tensor::{DType, TensorData};
use serde::{Deserialize, Serialize};

use super::resample::bicubic;

/// How the kernels of a first convolution are fitted to another number of input channels.
///
/// The file's weight is `W[o, c, y, x]` with `b` channels, the model's has `m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InputChannels {
    /// One channel, the sum over all: what a grey image in all channels would have given. timm and fastai.
    Sum,
    /// timm 1.0: one channel as [`Sum`](Self::Sum); otherwise tiled, cut to `m` and multiplied by `b / m`, so that the
    /// response to equal channels stays.
    Timm,
    /// fastai 2: one channel as [`Sum`](Self::Sum); two are the first two times 1.5; more than three are the three
    /// and zeros, so that what is new starts without a say; the plan names those channels as suspicious.
    Fastai,
    /// The named channels of the file, in this order, times the sum of all channels' norms over theirs.
    Select(Vec<usize>),
}

/// How a table of position embeddings is fitted to another grid.
///
/// The first `prefix` rows (class token and the like) stay; the others are a grid row by row, resampled bicubically as
/// PyTorch's `interpolate(mode="bicubic", align_corners=False)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    prefix: usize,
    old: Option<[usize; 2]>,
    new: Option<[usize; 2]>,
    antialias: bool,
}

impl Positions {
    /// Square grids behind `prefix` rows that stay, with antialiasing, as timm's `resample_abs_pos_embed`.
    #[must_use]
    pub fn new(prefix: usize) -> Self {
        Self { prefix, old: None, new: None, antialias: true }
    }

    /// Grids of these rows and columns, in the file and in the model.
    #[must_use]
    pub fn with_grids(mut self, old: [usize; 2], new: [usize; 2]) -> Self {
        (self.old, self.new) = (Some(old), Some(new));
        self
    }

    /// With or without antialiasing, which matters where the grid shrinks.
    #[must_use]
    pub fn with_antialias(mut self, antialias: bool) -> Self {
        self.antialias = antialias;
        self
    }
}

/// A tensor's values as f64.
pub(super) fn floats(data: &TensorData) -> Vec<f64> {
    data.iter::<f64>().collect()
}

/// Values in the element type that the file had them in.
fn narrow(values: Vec<f64>, shape: &[usize], dtype: DType) -> TensorData {
    TensorData::new(values, shape.to_vec()).convert_dtype(dtype)
}

/// The transpose of a matrix, bit for bit.
pub(super) fn transpose(data: &TensorData) -> TensorData {
    let (shape, size) = (data.shape().to_vec(), data.dtype().size());
    let (rows, columns) = (shape[0], shape[1]);
    let bytes = data.as_bytes();
    let mut out = vec![0; bytes.len()];
    for row in 0..rows {
        for column in 0..columns {
            let (from, to) = ((row * columns + column) * size, (column * rows + row) * size);
            out[to..to + size].copy_from_slice(&bytes[from..from + size]);
        }
    }
    TensorData::from_bytes_vec(out, vec![columns, rows], data.dtype())
}

/// The `rows` along `axis`, in this order, bit for bit.
pub(super) fn gather(data: &TensorData, axis: usize, rows: &[usize]) -> Result<TensorData, String> {
    let shape = data.shape().to_vec();
    let Some(&length) = shape.get(axis) else {
        return Err(format!("it has {} axes, none with number {axis}", shape.len()));
    };
    if rows.is_empty() {
        return Err("no row was asked for".to_owned());
    }
    if let Some(row) = rows.iter().find(|row| **row >= length) {
        return Err(format!("row {row} was asked for, and the file has {length}"));
    }
    let outer: usize = shape[..axis].iter().product();
    let inner = shape[axis + 1..].iter().product::<usize>() * data.dtype().size();
    let bytes = data.as_bytes();
    let mut out = Vec::with_capacity(outer * rows.len() * inner);
    for block in 0..outer {
        for row in rows {
            let from = (block * length + row) * inner;
            out.extend_from_slice(&bytes[from..from + inner]);
        }
    }
    let mut shape = shape;
    shape[axis] = rows.len();
    Ok(TensorData::from_bytes_vec(out, shape, data.dtype()))
}

/// The same elements in the same order under another shape.
pub(super) fn reshape(data: TensorData, shape: &[usize]) -> Result<TensorData, String> {
    let (bytes, old, dtype) = data.into_parts();
    if old.num_elements() != shape.iter().product::<usize>() {
        return Err(format!(
            "{:?} cannot be reshaped to {shape:?}: another number of elements",
            old.to_vec()
        ));
    }
    Ok(TensorData::from_bytes(bytes, shape.to_vec(), dtype))
}

/// A kernel `[out, channels, height, width]` fitted to `wanted` input channels.
pub(super) fn channels(
    data: &TensorData,
    wanted: usize,
    how: &InputChannels,
) -> Result<TensorData, String> {
    let shape = data.shape().to_vec();
    let &[out, have, height, width] = shape.as_slice() else {
        return Err(format!("{shape:?} is no kernel [out, channels, height, width]"));
    };
    if have == 0 || wanted == 0 {
        return Err("there are no channels".to_owned());
    }
    let area = height * width;
    let values = floats(data);
    let at = |filter: usize, channel: usize, place: usize| {
        values[(filter * have + channel) * area + place]
    };
    let build = |kernel: &dyn Fn(usize, usize, usize) -> f64| {
        let mut built = Vec::with_capacity(out * wanted * area);
        for filter in 0..out {
            for channel in 0..wanted {
                built.extend((0..area).map(|place| kernel(filter, channel, place)));
            }
        }
        narrow(built, &[out, wanted, height, width], data.dtype())
    };
    let sum = |filter: usize, _: usize, place: usize| {
        (0..have).map(|c| at(filter, c, place)).sum::<f64>()
    };
    match how {
        InputChannels::Sum if wanted != 1 => {
            Err(format!("the sum gives one channel, and the model has {wanted}"))
        }
        InputChannels::Sum => Ok(build(&sum)),
        InputChannels::Timm | InputChannels::Fastai if wanted == have => Ok(data.clone()),
        InputChannels::Timm | InputChannels::Fastai if wanted == 1 => Ok(build(&sum)),
        InputChannels::Timm => {
            let scale = have as f64 / wanted as f64;
            Ok(build(&|filter, channel, place| at(filter, channel % have, place) * scale))
        }
        InputChannels::Fastai if have != 3 => {
            Err(format!("fastai's form is for three channels, not {have}"))
        }
        InputChannels::Fastai if wanted == 2 => {
            Ok(build(&|filter, channel, place| at(filter, channel, place) * 1.5))
        }
        InputChannels::Fastai => Ok(build(&|filter, channel, place| {
            if channel < 3 { at(filter, channel, place) } else { 0.0 }
        })),
        InputChannels::Select(bands) => {
            if bands.len() != wanted {
                return Err(format!(
                    "{} channels are named, and the model has {wanted}",
                    bands.len()
                ));
            }
            if let Some(band) = bands.iter().find(|band| **band >= have) {
                return Err(format!("channel {band} is named, and the file has {have}"));
            }
            let norm = |channel: usize| {
                let squares =
                    (0..out).flat_map(|filter| (0..area).map(move |place| (filter, place)));
                squares
                    .map(|(filter, place)| at(filter, channel, place).powi(2))
                    .sum::<f64>()
                    .sqrt()
            };
            let kept: f64 = bands.iter().map(|band| norm(*band)).sum();
            let scale = if kept > 0.0 { (0..have).map(norm).sum::<f64>() / kept } else { 1.0 };
            Ok(build(&|filter, channel, place| at(filter, bands[channel], place) * scale))
        }
    }
}

/// A table of positions fitted to the model's number of rows.
pub(super) fn positions(
    data: &TensorData,
    model: &[usize],
    how: Positions,
) -> Result<TensorData, String> {
    let shape = data.shape().to_vec();
    let table = |shape: &[usize]| match shape {
        [rows, width] | [1, rows, width] => Ok((*rows, *width)),
        other => Err(format!("{other:?} is no table [rows, width] or [1, rows, width]")),
    };
    let ((rows, width), (wanted, model_width)) = (table(&shape)?, table(model)?);
    if width != model_width {
        return Err(format!("the file's vectors have {width} elements, the model's {model_width}"));
    }
    let grid = |rows: usize, stated: Option<[usize; 2]>, whose: &str| {
        let places = rows.checked_sub(how.prefix).filter(|places| *places > 0);
        let places = places
            .ok_or_else(|| format!("{whose} {rows} rows leave no grid behind {}", how.prefix))?;
        let side = places.isqrt();
        let [height, columns] = stated.unwrap_or([side, side]);
        if height.checked_mul(columns) != Some(places) {
            return Err(match stated {
                Some(grid) => format!("{whose} {places} positions are no grid of {grid:?}"),
                None => format!("{whose} {places} positions are no square; state the grids"),
            });
        }
        Ok([height, columns])
    };
    let (old, new) = (grid(rows, how.old, "the file's")?, grid(wanted, how.new, "the model's")?);
    let values = floats(data);
    let (prefix, rest) = values.split_at(how.prefix * width);
    let mut out = prefix.to_vec();
    out.extend(if old == new {
        rest.to_vec()
    } else {
        bicubic(rest, width, old, new, how.antialias)
    });
    Ok(narrow(out, model, data.dtype()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize]) -> TensorData {
        let count: usize = shape.iter().product();
        TensorData::new((0..count).map(|i| i as f32).collect(), shape.to_vec())
    }

    fn values(data: &TensorData) -> Vec<f32> {
        data.iter::<f32>().collect()
    }

    #[test]
    fn transposing_and_gathering_move_bits() {
        assert_eq!(values(&transpose(&numbers(&[2, 3]))), [0., 3., 1., 4., 2., 5.]);
        let rows = gather(&numbers(&[3, 2]), 0, &[2, 0]).expect("rows");
        assert_eq!((values(&rows), rows.shape().to_vec()), (vec![4., 5., 0., 1.], vec![2, 2]));
        let columns = gather(&numbers(&[2, 3]), 1, &[1]).expect("columns");
        assert_eq!(values(&columns), [1., 4.]);
        for (axis, rows) in [(0, vec![3]), (2, vec![0]), (0, vec![])] {
            assert!(gather(&numbers(&[3, 2]), axis, &rows).is_err());
        }
        let odd = TensorData::new(vec![f32::from_bits(0x7fc0_1234), 1.0], [2, 1]);
        assert_eq!(transpose(&odd).as_bytes(), odd.as_bytes(), "a NaN's payload stays");
    }

    #[test]
    fn reshaping_keeps_order_and_refuses_other_sizes() {
        let got = reshape(numbers(&[2, 3, 1, 1]), &[2, 3]).expect("same elements");
        assert_eq!(values(&got), values(&numbers(&[2, 3])));
        assert!(reshape(numbers(&[2, 3]), &[4, 2]).is_err());
    }

    #[test]
    fn selecting_all_channels_changes_nothing_and_scale_follows_norms() {
        let kernel = numbers(&[1, 3, 1, 2]);
        let all = channels(&kernel, 3, &InputChannels::Select(vec![0, 1, 2])).expect("all");
        assert_eq!(values(&all), values(&kernel));
        let one = channels(&kernel, 1, &InputChannels::Select(vec![2])).expect("one");
        let norms = [1f64, 13f64.sqrt(), 41f64.sqrt()];
        let scale = norms.iter().sum::<f64>() / norms[2];
        for (got, want) in values(&one).iter().zip([4.0 * scale, 5.0 * scale]) {
            assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let kernel = numbers(&[2, 3, 1, 1]);
        for (wanted, how) in [
            (2, InputChannels::Sum),
            (2, InputChannels::Select(vec![0])),
            (1, InputChannels::Select(vec![3])),
            (0, InputChannels::Timm),
        ] {
            assert!(channels(&kernel, wanted, &how).is_err(), "{how:?}");
        }
        assert!(channels(&numbers(&[2, 3]), 1, &InputChannels::Sum).is_err());
        assert!(channels(&numbers(&[1, 4, 1, 1]), 5, &InputChannels::Fastai).is_err());
        let table = numbers(&[1, 5, 2]);
        for (model, how) in [
            (vec![1, 10, 3], Positions::new(1)),
            (vec![1, 8, 2], Positions::new(1)),
            (vec![1, 10, 2], Positions::new(7)),
            (vec![10], Positions::new(1)),
            (vec![1, 10, 2], Positions::new(1).with_grids([2, 3], [3, 3])),
        ] {
            assert!(positions(&table, &model, how).is_err(), "{model:?}");
        }
    }
}
