//! What stands in a module while its parameters are away.

use burn::module::{Param, ParamId, ParamMapper};
use burn::tensor::Tensor;
use firebrick_backend::host::HostTensor;
use std::any::Any;
use std::collections::VecDeque;

/// One placeholder for each rank, and the load and save mappers of the parameters that are away.
///
/// A clone of a parameter shares its value, so a placeholder costs no allocation.
#[derive(Default)]
pub(crate) struct Ranks(Vec<Option<Box<dyn Any>>>);

struct Rank<const D: usize> {
    placeholder: Param<Tensor<D>>,
    mappers: VecDeque<ParamMapper<Tensor<D>>>,
}

impl Ranks {
    /// The placeholder of a parameter that was taken, on the back-end of `like`; keeps its mapper.
    pub(crate) fn empty<const D: usize>(
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
    pub(crate) fn mapper<const D: usize>(&mut self) -> Option<ParamMapper<Tensor<D>>> {
        let rank = self.0.get_mut(D)?.as_mut()?;
        rank.downcast_mut::<Rank<D>>()?.mappers.pop_front()
    }
}
