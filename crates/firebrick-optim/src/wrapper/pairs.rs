//! Walking a module together with a stored tensor for each of its parameters.

use crate::error::OptimError;
use crate::record::unreadable;
use crate::state::{compute_dtype, fingerprint};
use crate::tie::tie;
use crate::trains::{is_frozen, trains};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Bytes, Tensor, TensorData};
use burn_pack::{Reader, Tensor as Packed, Writer};
use firebrick_backend::checkpointing::in_place_of;
use firebrick_backend::{PathStack, widened};
use std::collections::{HashMap, HashSet};

/// One plain tensor for each parameter that trains, by the parameter's identity; what has moved is of f32 where the
/// parameter has 16 bits, whose digits would not hold a small step.
#[derive(Default)]
pub(super) struct Store {
    tensors: GradientsParams,
    /// Whose tensors these are, in the order of the module.
    entries: Vec<Entry>,
}

struct Entry {
    id: ParamId,
    path: String,
    /// Reads the tensor, whose rank is known where the parameter is visited and nowhere else.
    read: fn(&GradientsParams, ParamId) -> Option<TensorData>,
}

fn read<const D: usize>(tensors: &GradientsParams, id: ParamId) -> Option<TensorData> {
    Some(tensors.get::<D>(id)?.into_data())
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({} tensors)", self.tensors.len())
    }
}

impl Store {
    /// The values of the parameters of `module` that train; no tensor is copied.
    pub(super) fn of<M: Module>(module: &M) -> Self {
        struct Take(GradientsParams);
        impl ModuleVisitor for Take {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if trains(param) {
                    self.0.register::<D>(param.id, param.base().inner());
                }
            }
        }
        let mut take = Take(GradientsParams::new());
        module.visit(&mut take);
        let mut store = Self { tensors: take.0, entries: Vec::new() };
        store.note(module);
        store
    }

    /// Takes note of the parameters of `module` that are new.
    fn note<M: Module>(&mut self, module: &M) {
        struct Note<'a> {
            path: PathStack,
            known: HashSet<ParamId>,
            entries: &'a mut Vec<Entry>,
        }
        impl ModuleVisitor for Note<'_> {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.path.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.path.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if trains(param) && self.known.insert(param.id) {
                    let path = self.path.path();
                    self.entries.push(Entry { id: param.id, path, read: read::<D> });
                }
            }
        }
        let known = self.entries.iter().map(|entry| entry.id).collect();
        let path = PathStack::default();
        module.visit(&mut Note { path, known, entries: &mut self.entries });
    }

    /// What is stored, as bytes: the record of a wrapper of this `kind` that has counted to `count`.
    ///
    /// A tensor lies under its parameter's number, as in burn's records of optimizers; the metadata tells the paths.
    pub(super) fn record(&self, kind: &str, count: u64) -> Result<Bytes, OptimError> {
        let mut tensors = Vec::new();
        for entry in &self.entries {
            let Some(data) = (entry.read)(&self.tensors, entry.id) else { continue };
            let id = entry.id.val();
            let (bytes, shape, dtype) = data.into_parts();
            tensors.push(Packed::new(format!("{id}.value"), dtype, shape, Some(id), bytes));
        }
        let mut writer = Writer::new(tensors)
            .with_scalar("wrapper", fingerprint(kind).into())
            .with_scalar("count", count.into());
        for entry in &self.entries {
            writer = writer.with_metadata(&entry.id.val().to_string(), &entry.path);
        }
        writer.into_bytes().map_err(unreadable)
    }

    /// What [`record`](Self::record) wrote, for the parameters of `module`, and the count.
    pub(super) fn resumed<M: Module>(
        bytes: Bytes,
        kind: &str,
        module: &M,
    ) -> Result<(Self, u64), OptimError> {
        let reader = Reader::from_bytes(bytes).map_err(unreadable)?;
        let paths = reader.metadata().clone();
        let scalars = reader.scalars().clone();
        let scalar = |name: &str| -> Option<u64> { scalars.get(name).copied()?.try_into().ok() };
        let count = scalar("count").filter(|_| scalar("wrapper") == Some(fingerprint(kind)));
        let count = count.ok_or_else(|| unreadable(format!("it is not one of {kind}")))?;
        let mut saved = HashMap::new();
        for tensor in reader.into_tensors().map_err(unreadable)? {
            let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(unreadable)?;
            let id = name.strip_suffix(".value").unwrap_or(&name).to_owned();
            let sizes = shape.to_vec();
            saved.insert(id, (sizes, TensorData::from_bytes(bytes, shape, dtype)));
        }
        let mut load = Load {
            whole: count > 0 || !saved.is_empty(),
            saved,
            ids: paths.iter().map(|(id, path)| (path.clone(), id.clone())).collect(),
            path: PathStack::default(),
            seen: HashSet::new(),
            store: Self::default(),
            result: Ok(()),
        };
        module.visit(&mut load);
        load.result?;
        match load.saved.keys().min() {
            Some(id) => {
                let path = paths.get(id).unwrap_or(id).clone();
                Err(OptimError::NoSuchParameter { path })
            }
            None => Ok((load.store, count)),
        }
    }

    /// Moves what is stored towards the values of `module` by a share of the way; a parameter that is new is stored as
    /// it is. With `give` the module takes what is stored then, in the type of its own.
    pub(super) fn approach<M: Module>(&mut self, module: M, share: f64, give: bool) -> M {
        struct Walk<'a> {
            tensors: &'a mut GradientsParams,
            share: f64,
            give: bool,
            seen: HashSet<ParamId>,
            tied: bool,
            new: bool,
        }
        impl ModuleMapper for Walk<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                let id = param.id;
                if is_frozen(&param) {
                    return param;
                }
                if !self.seen.insert(id) {
                    // Another place of the same parameter: it is tied to the first one below.
                    self.tied = true;
                    return param;
                }
                let stored = self.tensors.remove::<D>(id);
                if stored.is_none() && !trains(&param) {
                    return param;
                }
                self.new |= stored.is_none();
                let value = param.base().inner();
                let dtype = value.dtype();
                let value = widened(value);
                let moved = match stored {
                    Some(stored) if self.share < 1.0 => {
                        let stored = stored.cast(value.dtype());
                        stored.clone() + (value - stored).mul_scalar(self.share)
                    }
                    // The whole way, whatever was stored.
                    _ => value,
                };
                if !self.give {
                    self.tensors.register::<D>(id, moved);
                    return param;
                }
                let moved = moved.cast(dtype);
                self.tensors.register::<D>(id, moved.clone());
                replace(param, moved)
            }
        }
        let (tensors, seen) = (&mut self.tensors, HashSet::new());
        let mut walk = Walk { tensors, share, give, seen, tied: false, new: false };
        let module = module.map(&mut walk);
        let (tied, new) = (walk.tied, walk.new);
        if new {
            self.note(&module);
        }
        if tied { tie(module) } else { module }
    }

    /// `module` with what is stored in place of its own values; frozen parameters stay as they are.
    pub(super) fn put<M: Module>(&self, module: M) -> M {
        struct Put<'a>(&'a GradientsParams);
        impl ModuleMapper for Put<'_> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if is_frozen(&param) {
                    return param;
                }
                let Some(stored) = self.0.get::<D>(param.id) else { return param };
                let dtype = param.base().dtype();
                replace(param, stored.cast(dtype))
            }
        }
        tie(module.map(&mut Put(&self.tensors)))
    }
}

/// Finds what was saved for each parameter: by its number, which burn's own records of modules keep, else by its path.
struct Load {
    saved: HashMap<String, (Vec<usize>, TensorData)>,
    /// Number of each path.
    ids: HashMap<String, String>,
    path: PathStack,
    seen: HashSet<ParamId>,
    store: Store,
    /// Whether a parameter that trains must have been saved.
    whole: bool,
    result: Result<(), OptimError>,
}

impl Load {
    fn load<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<(), OptimError> {
        let path = self.path.path();
        let mut saved = self.saved.remove(&param.id.val().to_string());
        if saved.is_none()
            && let Some(id) = self.ids.get(&path)
        {
            saved = self.saved.remove(id);
        }
        let Some((saved, data)) = saved else {
            if self.whole && trains(param) {
                return Err(OptimError::MissingParameter { path });
            }
            return Ok(());
        };
        let value = param.base().inner();
        let (shape, dtype) = (value.shape().to_vec(), value.dtype());
        if saved != shape {
            return Err(OptimError::OtherShape { path, saved, shape });
        }
        let found = data.dtype();
        if found != dtype && found != compute_dtype(dtype) {
            let reason = format!("`{path}` was saved as {found:?}, the parameter is {dtype:?}");
            return Err(unreadable(reason));
        }
        let value = Tensor::<D>::from_data(data, (&value.device(), found));
        self.store.tensors.register::<D>(param.id, value);
        self.store.entries.push(Entry { id: param.id, path, read: read::<D> });
        Ok(())
    }
}

impl ModuleVisitor for Load {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.result.is_ok() && self.seen.insert(param.id) {
            self.result = self.load(param);
        }
    }
}

/// The parameter with another value; what it is to autodiff stays.
pub(super) fn replace<const D: usize>(
    param: Param<Tensor<D>>,
    value: Tensor<D>,
) -> Param<Tensor<D>> {
    let (id, old, mapper) = param.consume();
    let value = in_place_of(value, &old, old.is_require_grad());
    Param::from_mapped_value(id, value, mapper)
}
