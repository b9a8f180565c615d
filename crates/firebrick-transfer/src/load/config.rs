//! What is declared about a file and a model before a plan is made.

use std::ops::Range;

use burn::module::Module;
use firebrick_core::{ConfigError, check};

use super::checkpoint::Checkpoint;
use super::error::LoadError;
use super::head::Head;
use super::layout::Layout;
use super::names::Rename;
use super::plan::LoadPlan;
use super::transform::{InputChannels, Positions};

/// What is known about a file and a model beforehand: everything that is not declared here must fit exactly.
///
/// Paths are burn's (`blocks.0.conv.weight`), with or without the variants of enums; a prefix means the parameter or
/// layer of that path and everything under it. Nothing is checked before [`plan`](Self::plan).
///
/// ```
/// use burn::nn::LinearConfig;
/// use burn::store::{ModuleSnapshot, SafetensorsStore};
/// use burn::tensor::Device;
/// use firebrick_transfer::load::{Checkpoint, Head, LoadConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("old.safetensors");
/// # let old = vec![LinearConfig::new(3, 4).init(&Device::flex()), LinearConfig::new(4, 1000).init(&Device::flex())];
/// # old.save_into(&mut SafetensorsStore::from_file(&path))?;
/// let mut model = vec![LinearConfig::new(3, 4).init(&Device::flex()), LinearConfig::new(4, 2).init(&Device::flex())];
/// let file = Checkpoint::open(&path)?;
/// let plan = LoadConfig::new().with_head(Head::fresh("1")).plan(&file, &model)?;
/// println!("{plan}");
/// let report = plan.apply(&mut model)?;
/// assert_eq!(report.loaded, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LoadConfig {
    pub(super) layout: Layout,
    pub(super) renames: Vec<(String, String)>,
    pub(super) names: Vec<(String, String)>,
    pub(super) heads: Vec<Head>,
    pub(super) channels: Vec<(String, InputChannels)>,
    pub(super) positions: Vec<(String, Positions)>,
    pub(super) reshapes: Vec<String>,
    pub(super) rows: Vec<(String, String, Range<usize>)>,
    pub(super) tied: Vec<(String, String)>,
    pub(super) fresh: Vec<String>,
    pub(super) ignored: Vec<String>,
    pub(super) partial: bool,
    pub(super) casting: bool,
    pub(super) broken: bool,
    pub(super) min_coverage: f64,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl LoadConfig {
    /// Nothing declared: every tensor of the file has its place in the model, under its name, in its shape.
    #[must_use]
    pub fn new() -> Self {
        Self {
            layout: Layout::Detect,
            renames: Vec::new(),
            names: Vec::new(),
            heads: Vec::new(),
            channels: Vec::new(),
            positions: Vec::new(),
            reshapes: Vec::new(),
            rows: Vec::new(),
            tied: Vec::new(),
            fresh: Vec::new(),
            ignored: Vec::new(),
            partial: false,
            casting: true,
            broken: false,
            min_coverage: 0.9,
        }
    }

    /// Whose conventions the file follows. Default: told from the file.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Rewrites the leading segments `from` of the file's names to `to`: `("backbone", "")`,
    /// `("encoder.layer.*.attention.self", "layers.*.attention")`.
    ///
    /// Segments match whole, `*` stands for any one of them and carries over in order. Several rules apply one after
    /// the other. A rule that matches nothing is a problem of the plan.
    #[must_use]
    pub fn with_rename(mut self, from: impl Into<String>, to: impl Into<String>) -> Self {
        self.renames.push((from.into(), to.into()));
        self
    }

    /// Takes the parameter `path` of the model from the file's tensor `name`, as the file spells it.
    #[must_use]
    pub fn with_name(mut self, path: impl Into<String>, name: impl Into<String>) -> Self {
        self.names.push((path.into(), name.into()));
        self
    }

    /// Declares a head; more than one may be declared.
    #[must_use]
    pub fn with_head(mut self, head: Head) -> Self {
        self.heads.push(head);
        self
    }

    /// Fits the kernel of the convolution `path` to the model's number of input channels.
    #[must_use]
    pub fn with_input_channels(mut self, path: impl Into<String>, how: InputChannels) -> Self {
        self.channels.push((path.into(), how));
        self
    }

    /// Fits the table of position embeddings `path` to the model's grid.
    #[must_use]
    pub fn with_positions(mut self, path: impl Into<String>, how: Positions) -> Self {
        self.positions.push((path.into(), how));
        self
    }

    /// Gives `path` the model's shape, the elements in the file's order: a 1x1 convolution for a matrix.
    #[must_use]
    pub fn with_reshape(mut self, path: impl Into<String>) -> Self {
        self.reshapes.push(path.into());
        self
    }

    /// Takes `path` from the `rows` of the file's tensor `name`: the query of a fused query-key-value matrix.
    ///
    /// Rows are counted along the file's first axis.
    #[must_use]
    pub fn with_rows(
        mut self,
        path: impl Into<String>,
        name: impl Into<String>,
        rows: Range<usize>,
    ) -> Self {
        self.rows.push((path.into(), name.into(), rows));
        self
    }

    /// Declares `path` to be the same tensor as `other`, both paths of the model: if the file has only `other`, both
    /// get it; if it has both, they must be equal.
    #[must_use]
    pub fn with_tied(mut self, path: impl Into<String>, other: impl Into<String>) -> Self {
        self.tied.push((path.into(), other.into()));
        self
    }

    /// Leaves what stands at or under `prefix` as it is. Unlike a head it counts against the coverage.
    #[must_use]
    pub fn with_fresh(mut self, prefix: impl Into<String>) -> Self {
        self.fresh.push(prefix.into());
        self
    }

    /// Leaves aside what the file has at or under `prefix`. Counters of batch norm (`num_batches_tracked`) and an
    /// `optimizer` are left aside anyway.
    #[must_use]
    pub fn with_ignored(mut self, prefix: impl Into<String>) -> Self {
        self.ignored.push(prefix.into());
        self
    }

    /// Whether missing and unexpected tensors are only listed (PyTorch's `strict=False`). The floor of the coverage
    /// stays. Default: false.
    #[must_use]
    pub fn with_partial(mut self, partial: bool) -> Self {
        self.partial = partial;
        self
    }

    /// Whether a file of other precision is cast to the model's. Default: true.
    #[must_use]
    pub fn with_casting(mut self, casting: bool) -> Self {
        self.casting = casting;
        self
    }

    /// Whether values that are not finite and variances that are negative are warnings only. Default: false.
    #[must_use]
    pub fn with_broken_values(mut self, allowed: bool) -> Self {
        self.broken = allowed;
        self
    }

    /// The least share of the elements outside the heads that must come from the file, 0 to 1. Default: 0.9.
    #[must_use]
    pub fn with_min_coverage(mut self, share: f64) -> Self {
        self.min_coverage = share;
        self
    }

    /// Compares file and model and says of each tensor what would become of it. Touches nothing.
    ///
    /// Problems are part of the plan, so that it can be looked at; [`LoadPlan::apply`] refuses a plan that has any.
    ///
    /// # Errors
    ///
    /// [`LoadError::Config`] for a coverage outside 0 to 1 or a rule that is none, [`LoadError::NoSuchPath`] and
    /// [`LoadError::NoSuchTensor`] for a path or name that does not exist, [`LoadError::UnknownLayout`] and
    /// [`LoadError::WrongLayout`].
    pub fn plan<M: Module>(&self, file: &Checkpoint, model: &M) -> Result<LoadPlan, LoadError> {
        check::range("min_coverage", self.min_coverage, 0.0..=1.0)?;
        let rule = |(from, to): &(String, String)| {
            Rename::new(from, to).map_err(|expected| {
                ConfigError::new("with_rename", format!("`{from}` -> `{to}`"), expected)
            })
        };
        let renames = self.renames.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
        super::planner::plan(self, &renames, file, super::inventory::inventory(model))
    }
}
