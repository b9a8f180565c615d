//! What stands in a module while its parameters are away.

use crate::host::HostTensor;
use burn::module::{Param, ParamId, ParamMapper};
use burn::tensor::Tensor;
use std::any::Any;
use std::collections::VecDeque;

/// Keeps the places of parameters that are taken out of a module for one pass over host memory, and put back after it.
///
/// One mapper takes them: it opens each parameter and leaves a [`placeholder`](Self::placeholder). A second one, which
/// walks the module in the same order, makes each parameter anew with the load and save [`mapper`](Self::mapper) that it
/// had. A clone of a parameter shares its value, so that a placeholder costs no allocation.
///
/// ```
/// use burn::module::Param;
/// use burn::tensor::{Device, Tensor};
/// use firebrick_backend::{Placeholders, host::HostTensor};
///
/// let mut away = Placeholders::default();
/// let weight = Param::from_tensor(Tensor::<2>::ones([2, 3], &Device::flex().autodiff()));
/// let (id, value, mapper) = weight.consume();
/// let (mut host, tracking) = HostTensor::take_tracked(value).expect("f32 on flex");
/// let stand_in = away.placeholder(id, mapper, &host);
/// host.as_mut_slice()[0] = 7.0;
/// let mapper = away.mapper::<2>().expect("one was taken");
/// let weight = Param::from_mapped_value(stand_in.id, host.give_tracked::<2>(tracking), mapper);
/// assert_eq!(weight.val().dims(), [2, 3]);
/// assert!(weight.is_require_grad());
/// ```
#[derive(Default)]
pub struct Placeholders(Vec<Option<Box<dyn Any>>>);

struct Rank<const D: usize> {
    placeholder: Param<Tensor<D>>,
    mappers: VecDeque<ParamMapper<Tensor<D>>>,
}

impl Placeholders {
    /// What stands for the parameter `id`, which was taken, on the back-end of `like`; keeps its mapper.
    pub fn placeholder<const D: usize>(
        &mut self,
        id: ParamId,
        mapper: ParamMapper<Tensor<D>>,
        like: &HostTensor,
    ) -> Param<Tensor<D>> {
        if self.0.len() <= D {
            self.0.resize_with(D + 1, || None);
        }
        let none = || Param::initialized(id, like.empty_like().give::<D>());
        let rank = self.0[D].get_or_insert_with(|| {
            Box::new(Rank { placeholder: none(), mappers: VecDeque::new() })
        });
        let Some(rank) = rank.downcast_mut::<Rank<D>>() else { return none() };
        rank.mappers.push_back(mapper);
        let mut placeholder = rank.placeholder.clone();
        placeholder.id = id;
        placeholder
    }

    /// The mapper of the next parameter of rank `D`, in the order in which they were taken.
    pub fn mapper<const D: usize>(&mut self) -> Option<ParamMapper<Tensor<D>>> {
        let rank = self.0.get_mut(D)?.as_mut()?;
        rank.downcast_mut::<Rank<D>>()?.mappers.pop_front()
    }
}

impl std::fmt::Debug for Placeholders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Placeholders").field("ranks", &self.0.iter().flatten().count()).finish()
    }
}
