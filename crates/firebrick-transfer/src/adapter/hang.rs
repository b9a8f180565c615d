//! How adapters are hung on weights: one of burn's reparameterizers for each kind.

use super::AdaptConfig;
use super::kind::{AdapterKind, LoraInit};
use super::low_rank::{LowRank, lengths};
use super::matrix::Layout;
use super::vera::{Rescale, Vera};
use crate::TransferError;
use burn::module::{LoraAdapter, Module, Param, Reparameterizer};
use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::Mat;
use firebrick_backend::checkpointing::{beside, in_place_of};
use std::collections::BTreeMap;

/// A weight to be adapted.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) layout: Layout,
    pub(super) shape: Vec<usize>,
}

/// `model` with an adapter of `config` on each target.
pub(super) fn hang<M: Module>(
    config: &AdaptConfig,
    model: M,
    targets: BTreeMap<String, Target>,
) -> Result<M, TransferError> {
    let inputs = targets.values().map(|target| target.layout.dims(&target.shape)[0]);
    let widest = inputs.max().unwrap_or(1);
    let mut hang = Hang { of: config, targets, widest, error: None };
    let model = match config.kind() {
        // Linear layers under LoRA have burn's own adapter, convolutions ours: two passes.
        AdapterKind::Lora { .. } => {
            let model = model.apply_reparameterization(Burns(&mut hang));
            model.apply_reparameterization(Ours(&mut hang))
        }
        AdapterKind::Dora { .. } => model.apply_reparameterization(Ours(&mut hang)),
        AdapterKind::Vera { .. } => model.apply_reparameterization(Veras(&mut hang)),
        AdapterKind::Ia3 { .. } => model.apply_reparameterization(Rescales(&mut hang)),
    };
    match hang.error {
        Some(error) => Err(error),
        None => Ok(model),
    }
}

struct Hang<'a> {
    of: &'a AdaptConfig,
    targets: BTreeMap<String, Target>,
    /// The largest number of inputs.
    widest: usize,
    error: Option<TransferError>,
}

/// Factors of one weight.
struct Factors {
    a: Tensor<2>,
    b: Tensor<2>,
    /// The base that remains, under PiSSA.
    base: Option<Tensor<2>>,
}

impl Hang<'_> {
    /// The target at `path`, once.
    fn take(&mut self, path: &str, rank: usize) -> Option<Target> {
        let fits = self.targets.get(path)?.shape.len() == rank;
        fits.then(|| self.targets.remove(path)).flatten()
    }

    /// `param`, the target at `path`, with the factors that hang on it.
    fn low_rank<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
        rank: usize,
        init: LoraInit,
        dora: bool,
    ) -> (Param<Tensor<D>>, Option<LowRank>) {
        let Some(Target { layout, .. }) = self.take(path, D) else { return (param, None) };
        let matrix = layout.to_matrix(param.base().inner());
        match self.factors(path, rank, init, &matrix) {
            Err(error) => {
                self.error.get_or_insert(error);
                (param, None)
            }
            Ok(Factors { a, b, base }) => {
                let (a, b) = (parameter(a, &param), parameter(b, &param));
                let outputs = matrix.dims()[1];
                let magnitude =
                    dora.then(|| parameter::<1, D>(lengths(matrix).reshape([outputs]), &param));
                let adapter = LowRank { a, b, magnitude, scale: self.of.kind().scale(), layout };
                let shape = param.base().dims();
                let param = match base {
                    Some(base) => based_on(param, layout.to_weight(base, shape)),
                    None => param,
                };
                (param, Some(adapter))
            }
        }
    }

    fn factors(
        &self,
        path: &str,
        rank: usize,
        init: LoraInit,
        matrix: &Tensor<2>,
    ) -> Result<Factors, TransferError> {
        let [inputs, outputs] = matrix.dims();
        let (device, dtype) = (matrix.device(), matrix.dtype());
        let mut stream = self.of.seed().stream(&format!("adapter/{path}"));
        let count = inputs * rank;
        let values: Vec<f64> = match init {
            LoraInit::Uniform => {
                // Deviation 1 / sqrt(3 inputs) is uniform within 1 / sqrt(inputs).
                let bound = 1.0 / (inputs.max(1) as f64).sqrt();
                (0..count).map(|_| bound * (2.0 * stream.uniform() - 1.0)).collect()
            }
            LoraInit::Normal { deviation } => {
                (0..count).map(|_| deviation * stream.normal()).collect()
            }
            LoraInit::Pissa => return pissa(matrix, rank, self.of.kind().scale()),
        };
        let a = tensor(values, [inputs, rank], &device, dtype);
        Ok(Factors { a, b: Tensor::zeros([rank, outputs], (&device, dtype)), base: None })
    }
}

fn tensor(values: Vec<f64>, shape: [usize; 2], device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), (device, dtype))
}

/// `A = U sqrt(S / s)`, `B = sqrt(S / s) V'` of the `rank` largest triplets, and what remains.
fn pissa(matrix: &Tensor<2>, rank: usize, scale: f64) -> Result<Factors, TransferError> {
    let [inputs, outputs] = matrix.dims();
    let values: Vec<f64> = matrix.clone().try_to_vec_as()?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(TransferError::NotFinite { what: "a weight".into(), value: *value });
    }
    let dense = Mat::from_fn(inputs, outputs, |row, column| values[row * outputs + column]);
    let svd = dense.thin_svd().map_err(|error| TransferError::Data {
        reason: format!("the singular values of a weight are not found: {error:?}"),
    })?;
    let (u, s, v) = (svd.U(), svd.S().column_vector(), svd.V());
    let root = |k: usize| (s[k] / scale).sqrt();
    let spread = |size: usize, of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..size)
            .flat_map(|row| (0..rank).map(move |k| (row, k)))
            .map(|(row, k)| of(row, k))
            .collect()
    };
    let (device, dtype) = (matrix.device(), matrix.dtype());
    let a = tensor(spread(inputs, &|row, k| u[(row, k)] * root(k)), [inputs, rank], &device, dtype);
    let b = spread(outputs, &|row, k| v[(row, k)] * root(k));
    let b = tensor(b, [outputs, rank], &device, dtype).transpose();
    let base = matrix.clone() - a.clone().matmul(b.clone()).mul_scalar(scale);
    Ok(Factors { a, b, base: Some(base) })
}

/// A parameter on the device of `like`, ready to train.
fn parameter<const D: usize, const E: usize>(
    value: Tensor<D>,
    like: &Param<Tensor<E>>,
) -> Param<Tensor<D>> {
    Param::from_tensor(beside(value, &like.base()))
}

/// `param` with another value, as trainable as before.
fn based_on<const D: usize>(param: Param<Tensor<D>>, value: Tensor<D>) -> Param<Tensor<D>> {
    let trains = param.is_require_grad();
    param.map(|old| in_place_of(value, &old, trains))
}

struct Burns<'a, 'b>(&'a mut Hang<'b>);

impl Reparameterizer for Burns<'_, '_> {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let AdapterKind::Lora { rank, init, .. } = *self.0.of.kind() else { return (param, None) };
        let first = self.0.targets.get(path).map(|target| target.layout);
        if D != 2 || first != Some(Layout::InputsFirst) {
            return (param, None);
        }
        let (param, adapter) = self.0.low_rank(path, param, rank, init, false);
        (param, adapter.map(|LowRank { a, b, scale, .. }| LoraAdapter { a, b, scale }))
    }
}

struct Ours<'a, 'b>(&'a mut Hang<'b>);

impl Reparameterizer for Ours<'_, '_> {
    type Reparam = LowRank;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LowRank>) {
        let (rank, init, dora) = match *self.0.of.kind() {
            AdapterKind::Lora { rank, init, .. } => (rank, init, false),
            AdapterKind::Dora { rank, .. } => (rank, LoraInit::Uniform, true),
            _ => return (param, None),
        };
        self.0.low_rank(path, param, rank, init, dora)
    }
}

struct Veras<'a, 'b>(&'a mut Hang<'b>);

impl Reparameterizer for Veras<'_, '_> {
    type Reparam = Vera;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Vera>) {
        let AdapterKind::Vera { rank, start } = *self.0.of.kind() else { return (param, None) };
        let Some(target) = self.0.take(path, D) else { return (param, None) };
        let [inputs, outputs] = target.layout.dims(&target.shape);
        let weight = param.base().inner();
        let (device, dtype) = (weight.device(), weight.dtype());
        // One pair for all layers: each takes the first rows and columns of the same stream.
        let shared = |name: &str, size: usize, fan: usize| {
            let bound = (6.0 / fan.max(1) as f64).sqrt();
            let mut stream = self.0.of.seed().stream(&format!("vera/{name}"));
            let values = (0..size * rank).map(|_| bound * (2.0 * stream.uniform() - 1.0));
            tensor(values.collect(), [size, rank], &device, dtype)
        };
        let (down, up) =
            (shared("down", inputs, self.0.widest), shared("up", outputs, rank).transpose());
        let vera = Vera {
            d: parameter(Tensor::<1>::full([rank], start, (&device, dtype)), &param),
            b: parameter(Tensor::<1>::zeros([outputs], (&device, dtype)), &param),
            down,
            up,
            layout: target.layout,
        };
        (param, Some(vera))
    }
}

struct Rescales<'a, 'b>(&'a mut Hang<'b>);

impl Reparameterizer for Rescales<'_, '_> {
    type Reparam = Rescale;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Rescale>) {
        let AdapterKind::Ia3 { by_input } = *self.0.of.kind() else { return (param, None) };
        let Some(target) = self.0.take(path, D) else { return (param, None) };
        let [inputs, outputs] = target.layout.dims(&target.shape);
        let weight = param.base().inner();
        let size = if by_input { inputs } else { outputs };
        let ones = Tensor::<1>::ones([size], (&weight.device(), weight.dtype()));
        let scale = parameter(ones, &param);
        (param, Some(Rescale { scale, by_input, layout: target.layout }))
    }
}
