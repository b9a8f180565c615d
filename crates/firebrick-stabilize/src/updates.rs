//! How far a step moved each parameter, against how large it was.

use crate::read::read;
use crate::reduce::{change, copy};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use firebrick_backend::host::HostTensor;
use std::iter::Peekable;
use std::slice::Iter;

/// The trainable parameters as they were before the step.
#[derive(Debug, Default)]
pub(crate) struct Before {
    held: Vec<Held>,
    /// Copies of those in host memory, by place, kept for the next time: a clone would make the optimizer write new
    /// weights elsewhere.
    copies: Vec<Vec<f32>>,
}

#[derive(Debug)]
struct Held {
    id: ParamId,
    place: usize,
    /// Flat, without autodiff; `None` for one that was copied.
    there: Option<Tensor<1>>,
}

impl Before {
    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Lets go of what is held; the memory of copies stays.
    pub(crate) fn clear(&mut self) {
        self.held.clear();
    }

    /// Holds `param`, which a walk meets at `place`.
    pub(crate) fn take<const D: usize>(&mut self, place: usize, param: &Param<Tensor<D>>) {
        let there = match open(param) {
            Ok(host) if host.is_empty() => return,
            Ok(host) => {
                if self.copies.len() <= place {
                    self.copies.resize_with(place + 1, Vec::new);
                }
                self.copies[place].resize(host.len(), 0.0);
                copy(host.as_slice(), &mut self.copies[place]);
                None
            }
            Err(value) => {
                let elements = value.shape().num_elements();
                if elements == 0 {
                    return;
                }
                Some(value.reshape([elements]))
            }
        };
        self.held.push(Held { id: param.id, place, there });
    }
}

/// What is trained of `param`, without autodiff; of one that is reparameterized, what lies below.
#[allow(clippy::result_large_err)] // both are what is asked for
fn open<const D: usize>(param: &Param<Tensor<D>>) -> Result<HostTensor, Tensor<D>> {
    match HostTensor::take_tracked(param.base()) {
        Ok((host, _)) => Ok(host),
        Err(value) => Err(value.inner()),
    }
}

/// Compares the parameters after the step with what was held, which stands in the order of the same walk.
pub(crate) struct After<'a> {
    held: Peekable<Iter<'a, Held>>,
    copies: &'a [Vec<f32>],
    /// Mean change and mean magnitude by place, or their sums.
    ratios: Vec<(usize, (f64, f64))>,
    /// The same of parameters that are not in host memory, still on the device.
    there: Vec<usize>,
    found: Vec<Tensor<1>>,
}

impl<'a> After<'a> {
    /// By place, the size of the change and that of the parameter before it, on one scale.
    pub(crate) fn of<M: Module>(model: &M, before: &'a Before) -> Vec<(usize, (f64, f64))> {
        let mut after = Self {
            held: before.held.iter().peekable(),
            copies: &before.copies,
            ratios: Vec::with_capacity(before.held.len()),
            there: Vec::new(),
            found: Vec::new(),
        };
        model.visit(&mut after);
        let Self { mut ratios, there, found, .. } = after;
        let pairs = read(found);
        let pairs = pairs.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        ratios.extend(there.into_iter().zip(pairs));
        ratios
    }
}

impl ModuleVisitor for After<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(held) = self.held.next_if(|held| held.id == param.id) else { return };
        match (&held.there, open(param)) {
            (None, Ok(new)) if self.copies[held.place].len() == new.len() => {
                let old = &self.copies[held.place];
                self.ratios.push((held.place, change(old, new.as_slice())));
            }
            (Some(old), Err(new)) if old.shape().num_elements() == new.shape().num_elements() => {
                let moved = (new.reshape(old.dims()) - old.clone()).abs().mean();
                self.there.push(held.place);
                self.found.push(Tensor::cat(vec![moved, old.clone().abs().mean()], 0));
            }
            _ => {}
        }
    }
}
