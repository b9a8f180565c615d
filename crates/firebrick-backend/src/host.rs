//! The storage of tensors that live in host memory, so that a rule can run over it in place.
//!
//! [`HostTensor::take`] opens an f32 tensor of the flex or ndarray back-end: its elements in row-major order as
//! one slice, whatever its rank. A tensor that lives elsewhere, is of another type or belongs to autodiff comes
//! back untouched. Copy-on-write is respected: nothing that somebody else still holds is ever written.

#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "burn marks burn-ndarray as deprecated; kept while 0.22 has it")
)]

use burn::backend::{
    DispatchAutodiffContext, DispatchDevice, DispatchTensor, DispatchTensorKind,
    GradientCheckpointingStrategy,
};
use burn::tensor::{DType, Tensor};
use std::fmt;

#[cfg(any(feature = "flex", feature = "ndarray"))]
use burn::backend::{Autodiff, AutodiffBackend, BackendTensor};
#[cfg(feature = "flex")]
use burn::backend::{Flex, flex::FlexTensor};
#[cfg(feature = "ndarray")]
#[allow(deprecated)]
use burn::backend::{NdArray, ndarray::NdArrayTensor};

/// The f32 elements of one tensor in host memory: contiguous, row-major, rank erased.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use firebrick_backend::host::HostTensor;
///
/// let tensor = Tensor::<2>::from_floats([[1., 2.], [3., 4.]], &Device::flex());
/// let mut host = HostTensor::take(tensor.transpose()).expect("flex, f32, no autodiff");
/// assert_eq!(host.as_slice(), [1., 3., 2., 4.]);
/// host.as_mut_slice()[0] = 9.0;
/// assert_eq!(host.give::<2>().to_data().as_slice::<f32>(), Ok(&[9f32, 3., 2., 4.][..]));
/// ```
#[derive(Clone)]
pub struct HostTensor(Inner);

#[derive(Clone)]
enum Inner {
    #[cfg(feature = "flex")]
    Flex(FlexTensor),
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)]
    NdArray(NdArrayTensor),
    /// Keeps the type whole when no host back-end is compiled in; never made.
    #[cfg(not(any(feature = "flex", feature = "ndarray")))]
    None(std::convert::Infallible),
}

/// What a tensor that was opened was to autodiff.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracking {
    /// `None` outside autodiff.
    strategy: Option<GradientCheckpointingStrategy>,
    require_grad: bool,
}

/// Which host back-end holds a tensor.
enum Place {
    #[cfg(feature = "flex")]
    Flex,
    #[cfg(feature = "ndarray")]
    NdArray,
    Elsewhere,
}

fn place<const D: usize>(tensor: &Tensor<D>) -> Place {
    if tensor.dtype() != DType::F32 {
        return Place::Elsewhere;
    }
    let device = tensor.device();
    if device.is_autodiff() {
        return Place::Elsewhere;
    }
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => Place::Flex,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => Place::NdArray,
        _ => Place::Elsewhere,
    }
}

/// Whether [`HostTensor::take`] would open `tensor`.
#[must_use]
pub fn is_host<const D: usize>(tensor: &Tensor<D>) -> bool {
    !matches!(place(tensor), Place::Elsewhere)
}

impl HostTensor {
    /// Opens `tensor`; a view with strides is copied into row-major order, anything else costs nothing.
    ///
    /// # Errors
    /// Gives the tensor back, untouched, when it is not on flex or ndarray, not f32, or belongs to autodiff.
    #[allow(clippy::result_large_err)] // the error is the argument itself
    pub fn take<const D: usize>(tensor: Tensor<D>) -> Result<Self, Tensor<D>> {
        if tensor.dtype() != DType::F32 {
            return Err(tensor);
        }
        let DispatchTensor { kind, autodiff } = tensor.into_dispatch();
        let back = match autodiff {
            DispatchAutodiffContext::Disabled => match Self::open(kind) {
                Ok(host) => return Ok(host),
                Err(kind) => kind,
            },
            DispatchAutodiffContext::Enabled(_) => kind,
        };
        Err(Tensor::from_dispatch(DispatchTensor { kind: back, autodiff }))
    }

    /// Opens `tensor` as [`take`](Self::take) does, out of autodiff too: for a parameter that is to come back, with new
    /// elements, as a leaf of its own by [`give_tracked`](Self::give_tracked).
    ///
    /// # Errors
    /// Gives the tensor back, untouched, when it is not on flex or ndarray, or not f32.
    #[allow(clippy::result_large_err)] // the error is the argument itself
    pub fn take_tracked<const D: usize>(tensor: Tensor<D>) -> Result<(Self, Tracking), Tensor<D>> {
        if tensor.dtype() != DType::F32 {
            return Err(tensor);
        }
        let require_grad = tensor.is_require_grad();
        let DispatchTensor { kind, autodiff } = tensor.into_dispatch();
        let opened = match autodiff {
            DispatchAutodiffContext::Disabled => Self::open(kind).map(|host| (host, None)),
            DispatchAutodiffContext::Enabled(strategy) => {
                Self::open_tracked(kind).map(|host| (host, Some(strategy)))
            }
        };
        match opened {
            Ok((host, strategy)) => Ok((host, Tracking { strategy, require_grad })),
            Err(kind) => Err(Tensor::from_dispatch(DispatchTensor { kind, autodiff })),
        }
    }

    #[allow(clippy::result_large_err)] // the error is the argument itself
    fn open(kind: DispatchTensorKind) -> Result<Self, DispatchTensorKind> {
        match kind {
            #[cfg(feature = "flex")]
            DispatchTensorKind::Flex(BackendTensor::Float(inner)) => Ok(Self::flex(inner)),
            #[cfg(feature = "ndarray")]
            DispatchTensorKind::NdArray(BackendTensor::Float(inner)) => Ok(Self::nd_array(inner)),
            other => Err(other),
        }
    }

    #[allow(clippy::result_large_err)] // the error is the argument itself
    fn open_tracked(kind: DispatchTensorKind) -> Result<Self, DispatchTensorKind> {
        let DispatchTensorKind::Autodiff(inner) = kind else { return Err(kind) };
        match *inner {
            #[cfg(feature = "flex")]
            DispatchTensorKind::Flex(BackendTensor::Autodiff(inner)) => {
                Ok(Self::flex(inner.into_primitive()))
            }
            #[cfg(feature = "ndarray")]
            DispatchTensorKind::NdArray(BackendTensor::Autodiff(inner)) => {
                Ok(Self::nd_array(inner.into_primitive()))
            }
            other => Err(DispatchTensorKind::Autodiff(Box::new(other))),
        }
    }

    #[cfg(feature = "flex")]
    fn flex(inner: FlexTensor) -> Self {
        Self(Inner::Flex(if inner.is_contiguous() { inner } else { inner.to_contiguous() }))
    }

    /// The elements are f32: the caller has asked for the type.
    #[cfg(feature = "ndarray")]
    #[allow(deprecated)]
    fn nd_array(inner: NdArrayTensor) -> Self {
        Self(Inner::NdArray(match inner {
            NdArrayTensor::F32(inner) if !inner.view().is_standard_layout() => {
                NdArrayTensor::from(inner.view().as_standard_layout().into_owned().into_shared())
            }
            other => other,
        }))
    }

    /// The tensor of these elements, without a copy; `D` is the rank of the tensor that was taken.
    #[must_use]
    pub fn give<const D: usize>(self) -> Tensor<D> {
        match self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => Tensor::from_primitive::<Flex>(inner),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Inner::NdArray(inner) => Tensor::from_primitive::<NdArray>(inner),
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match never {},
        }
    }

    /// As [`give`](Self::give), into autodiff as a new leaf where the tensor that was taken belonged to it.
    #[must_use]
    pub fn give_tracked<const D: usize>(self, tracking: Tracking) -> Tensor<D> {
        let Some(strategy) = tracking.strategy else { return self.give() };
        let kind: DispatchTensorKind = match self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => {
                let leaf = <Autodiff<Flex> as AutodiffBackend>::from_inner(inner);
                let leaf = if tracking.require_grad { leaf.require_grad() } else { leaf };
                DispatchTensorKind::Flex(BackendTensor::Autodiff(leaf))
            }
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Inner::NdArray(inner) => {
                let leaf = <Autodiff<NdArray> as AutodiffBackend>::from_inner(inner);
                let leaf = if tracking.require_grad { leaf.require_grad() } else { leaf };
                DispatchTensorKind::NdArray(BackendTensor::Autodiff(leaf))
            }
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match never {},
        };
        Tensor::from_dispatch(DispatchTensor {
            kind: DispatchTensorKind::Autodiff(Box::new(kind)),
            autodiff: DispatchAutodiffContext::Enabled(strategy),
        })
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => inner.layout().num_elements(),
            #[cfg(feature = "ndarray")]
            Inner::NdArray(inner) => match inner {
                NdArrayTensor::F32(inner) => inner.len(),
                _ => 0,
            },
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shape of the tensor.
    #[must_use]
    pub fn shape(&self) -> Vec<usize> {
        match &self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => inner.layout().shape().to_vec(),
            #[cfg(feature = "ndarray")]
            Inner::NdArray(inner) => match inner {
                NdArrayTensor::F32(inner) => inner.shape().to_vec(),
                _ => Vec::new(),
            },
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }

    /// Whether nobody else holds the elements, so that writing them costs no copy.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        match &self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => inner.is_unique(),
            #[cfg(feature = "ndarray")]
            Inner::NdArray(inner) => match inner {
                NdArrayTensor::F32(inner) => inner.is_unique(),
                _ => false,
            },
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }

    /// The elements in row-major order.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        match &self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => inner.as_slice::<f32>().unwrap_or(&[]),
            #[cfg(feature = "ndarray")]
            Inner::NdArray(inner) => match inner {
                NdArrayTensor::F32(inner) => inner.view().to_slice().unwrap_or(&[]),
                _ => &[],
            },
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }

    /// The elements for writing; elements that are shared are copied first.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        if !self.is_unique() {
            let mut copy = self.zeros_like();
            if let Some(to) = copy.unique_slice() {
                to.copy_from_slice(self.as_slice());
            }
            *self = copy;
        }
        self.unique_slice().unwrap_or(&mut [])
    }

    /// The elements for writing, `None` when somebody else holds them too.
    #[must_use]
    pub fn unique_slice(&mut self) -> Option<&mut [f32]> {
        match &mut self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(inner) => {
                let (start, n) = (inner.layout().start_offset(), inner.layout().num_elements());
                inner.try_storage_mut::<f32>()?.get_mut(start..start + n)
            }
            #[cfg(feature = "ndarray")]
            Inner::NdArray(inner) => match inner {
                NdArrayTensor::F32(inner) if inner.is_unique() => {
                    inner.ensure_owned().as_slice_mut()
                }
                _ => None,
            },
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }

    /// A tensor without elements on the same back-end, to stand where this one was taken from.
    #[must_use]
    pub fn empty_like(&self) -> Self {
        match &self.0 {
            #[cfg(feature = "flex")]
            Inner::Flex(_) => Self(Inner::Flex(FlexTensor::zeros([0].into(), DType::F32))),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Inner::NdArray(_) => {
                let none = Tensor::<1>::zeros([0], &burn::tensor::Device::ndarray());
                Self::take(none).unwrap_or_else(|_| self.clone())
            }
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }

    /// A new tensor of zeros with the same shape on the same back-end.
    #[must_use]
    pub fn zeros_like(&self) -> Self {
        match &self.0 {
            #[cfg(feature = "flex")]
            // `FlexTensor::zeros` would allocate twice: bytes first, then aligned ones.
            Inner::Flex(inner) => Self(Inner::Flex(FlexTensor::filled_typed(
                inner.layout().shape().clone(),
                DType::F32,
                0f32,
            ))),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Inner::NdArray(inner) => Self(Inner::NdArray(match inner {
                NdArrayTensor::F32(inner) => {
                    NdArrayTensor::from(inner.view().mapv(|_| 0f32).into_shared())
                }
                other => other.clone(),
            })),
            #[cfg(not(any(feature = "flex", feature = "ndarray")))]
            Inner::None(never) => match *never {},
        }
    }
}

impl fmt::Debug for HostTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostTensor")
            .field("shape", &self.shape())
            .field("unique", &self.is_unique())
            .finish()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::tensor::{Device, s};

    fn devices() -> Vec<Device> {
        vec![
            Device::flex(),
            #[cfg(feature = "ndarray")]
            #[allow(deprecated)]
            Device::ndarray(),
        ]
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    #[test]
    fn views_open_in_row_major_order() {
        for device in devices() {
            let whole = Tensor::<2>::from_floats([[1., 2., 3.], [4., 5., 6.]], &device);
            let open = |t: Tensor<2>| HostTensor::take(t).expect("host tensor").as_slice().to_vec();
            assert_eq!(open(whole.clone()), [1., 2., 3., 4., 5., 6.]);
            assert_eq!(open(whole.clone().transpose()), [1., 4., 2., 5., 3., 6.]);
            assert_eq!(open(whole.clone().slice(s![1..2, ..])), [4., 5., 6.]);
            assert_eq!(open(whole.clone().slice(s![.., 1..])), [2., 3., 5., 6.]);
            assert_eq!(open(whole.clone().slice(s![..1, ..1]).expand([2, 2])), [1.; 4]);
            assert_eq!(open(whole.clone().flip([1])), [3., 2., 1., 6., 5., 4.]);
            assert_eq!(open(Tensor::<2>::zeros([0, 3], &device)), [] as [f32; 0]);
        }
    }

    #[test]
    fn a_view_with_an_offset_is_written_in_its_own_place_only() {
        for device in devices() {
            let whole = Tensor::<1>::from_floats([1., 2., 3., 4.], &device);
            let mut host = HostTensor::take(whole.clone().slice(s![1..3])).expect("host tensor");
            assert!(!host.is_unique() && host.unique_slice().is_none());
            host.as_mut_slice().copy_from_slice(&[8., 9.]);
            assert_eq!(values(whole), [1., 2., 3., 4.]);
            assert_eq!(values(host.give::<1>()), [8., 9.]);
        }
    }

    #[test]
    fn shared_elements_are_copied_and_unique_ones_are_not() {
        for device in devices() {
            let tensor = Tensor::<1>::from_floats([1., 2.], &device) + 0.0;
            let held = tensor.clone();
            let mut host = HostTensor::take(tensor).expect("host tensor");
            host.as_mut_slice()[0] = 5.0;
            assert!(host.is_unique());
            let before = host.as_slice().as_ptr();
            host.as_mut_slice()[1] = 6.0;
            assert_eq!(host.as_slice().as_ptr(), before);
            assert_eq!((values(host.give::<1>()), values(held)), (vec![5., 6.], vec![1., 2.]));
        }
    }

    #[test]
    fn everything_else_comes_back_untouched() {
        let device = Device::flex();
        let half = Tensor::<1>::zeros([2], (&device, DType::F16));
        assert_eq!(HostTensor::take(half).expect_err("f16").dtype(), DType::F16);
        let double = Tensor::<1>::zeros([2], (&device, DType::F64));
        assert!(!is_host(&double));
        let tracked = Tensor::<1>::ones([2], &device.clone().autodiff()).require_grad();
        let back = HostTensor::take(tracked).expect_err("autodiff");
        assert!(back.is_require_grad());
        assert!(is_host(&back.inner()));
    }

    #[test]
    fn a_parameter_leaves_autodiff_and_comes_back_as_a_leaf() {
        use burn::backend::GradientCheckpointingStrategy::Balanced;
        for device in devices() {
            let plain = Tensor::<2>::from_floats([[1., 2.], [3., 4.]], &device);
            let leaf = Tensor::from_inner(plain.clone())
                .with_gradient_checkpointing_strategy(Balanced)
                .require_grad();
            drop(plain);
            let (mut host, tracking) = HostTensor::take_tracked(leaf).expect("host tensor");
            host.unique_slice().expect("nobody else holds it")[0] = 5.0;
            let leaf: Tensor<2> = host.give_tracked(tracking);
            assert!(leaf.is_require_grad());
            assert_eq!(leaf.gradient_checkpointing_strategy(), Some(Balanced));
            let grads = leaf.clone().square().sum().backward();
            assert_eq!(values(leaf.grad(&grads).expect("a leaf")), [10., 4., 6., 8.]);
            // Frozen, and outside autodiff.
            let frozen = Tensor::from_inner(leaf.inner());
            let (host, tracking) = HostTensor::take_tracked(frozen).expect("host tensor");
            let frozen: Tensor<2> = host.clone().give_tracked(tracking);
            assert!(frozen.is_autodiff() && !frozen.is_require_grad());
            let (host, tracking) = HostTensor::take_tracked(host.give::<2>()).expect("host");
            assert!(!host.give_tracked::<2>(tracking).is_autodiff());
        }
        let half = Tensor::<1>::ones([2], (&Device::flex().autodiff(), DType::F16)).require_grad();
        let back = HostTensor::take_tracked(half).expect_err("f16");
        assert!(back.is_require_grad() && back.dtype() == DType::F16);
    }

    #[test]
    fn rank_zero_and_six_keep_their_shape() {
        for device in devices() {
            let scalar = Tensor::<1>::from_floats([7.], &device).reshape::<0, _>([] as [i32; 0]);
            let host = HostTensor::take(scalar).expect("host tensor");
            assert_eq!((host.len(), host.shape().len()), (1, 0));
            let six = Tensor::<6>::ones([1, 2, 1, 3, 1, 2], &device);
            let host = HostTensor::take(six).expect("host tensor").zeros_like();
            assert_eq!(host.give::<6>().dims(), [1, 2, 1, 3, 1, 2]);
        }
    }
}
