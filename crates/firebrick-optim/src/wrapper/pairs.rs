//! Walking a module together with a stored tensor for each of its parameters.

use crate::error::OptimError;
use crate::record::unreadable;
use crate::state::fingerprint;
use crate::tie::tie;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Bytes, Tensor, TensorData};
use burn_pack::{Reader, Tensor as Packed, Writer};
use firebrick_backend::PathStack;
use std::collections::{HashMap, HashSet};

/// One plain tensor for each trainable parameter, by the parameter's identity.
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

/// What happens to a parameter's value and to what is stored for it.
pub(super) trait Pair {
    /// From (value, stored) to (new value, new stored); `None` leaves the value as it is.
    fn apply<const D: usize>(
        &mut self,
        value: Tensor<D>,
        stored: Tensor<D>,
    ) -> (Option<Tensor<D>>, Tensor<D>);
}

impl Store {
    /// The values of the trainable parameters of `module`; no tensor is copied.
    pub(super) fn of<M: Module>(module: &M) -> Self {
        struct Take(GradientsParams);
        impl ModuleVisitor for Take {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                if param.is_require_grad() {
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
                if param.is_require_grad() && self.known.insert(param.id) {
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

    /// Applies `pair` to every trainable parameter; one that is new is stored as it is first.
    pub(super) fn apply<M: Module, P: Pair>(&mut self, module: M, pair: &mut P) -> M {
        struct Walk<'a, P> {
            tensors: &'a mut GradientsParams,
            pair: &'a mut P,
            seen: HashSet<ParamId>,
            tied: bool,
            new: bool,
        }
        impl<P: Pair> ModuleMapper for Walk<'_, P> {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if !param.is_require_grad() {
                    return param;
                }
                let id = param.id;
                if !self.seen.insert(id) {
                    // Another place of the same parameter: it is tied to the first one below.
                    self.tied = true;
                    return param;
                }
                let value = param.base().inner();
                let stored = self.tensors.remove::<D>(id);
                self.new |= stored.is_none();
                let stored = stored.unwrap_or_else(|| value.clone());
                let (new, stored) = self.pair.apply(value, stored);
                self.tensors.register::<D>(id, stored);
                match new {
                    Some(new) => replace(param, new),
                    None => param,
                }
            }
        }
        let seen = HashSet::new();
        let mut walk = Walk { tensors: &mut self.tensors, pair, seen, tied: false, new: false };
        let module = module.map(&mut walk);
        let (tied, new) = (walk.tied, walk.new);
        if new {
            self.note(&module);
        }
        if tied { tie(module) } else { module }
    }

    /// `module` with the stored values in place of its own.
    pub(super) fn put<M: Module>(&mut self, module: M) -> M {
        struct Put;
        impl Pair for Put {
            fn apply<const D: usize>(
                &mut self,
                _: Tensor<D>,
                stored: Tensor<D>,
            ) -> (Option<Tensor<D>>, Tensor<D>) {
                (Some(stored.clone()), stored)
            }
        }
        self.apply(module, &mut Put)
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
    /// Whether a trainable parameter must have been saved.
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
            if self.whole && param.is_require_grad() {
                return Err(OptimError::MissingParameter { path });
            }
            return Ok(());
        };
        let value = param.base().inner();
        let (shape, dtype) = (value.shape().to_vec(), value.dtype());
        if saved != shape {
            return Err(OptimError::OtherShape { path, saved, shape });
        }
        if data.dtype() != dtype {
            let found = data.dtype();
            let reason = format!("`{path}` was saved as {found:?}, the parameter is {dtype:?}");
            return Err(unreadable(reason));
        }
        let value = Tensor::<D>::from_data(data, (&value.device(), dtype));
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
    let value = if old.is_autodiff() {
        let strategy = old.gradient_checkpointing_strategy();
        let value = Tensor::from_inner(value);
        let value = match strategy {
            Some(strategy) => value.with_gradient_checkpointing_strategy(strategy),
            None => value,
        };
        value.set_require_grad(old.is_require_grad())
    } else {
        value
    };
    Param::from_mapped_value(id, value, mapper)
}
