//! What can go wrong between a file of weights and a model.

use std::path::PathBuf;

use burn::tensor::DType;
use firebrick_core::ConfigError;

/// Why a file was not opened, a plan not made, or a plan not applied. The model is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The operating system could not read the file.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file has no bytes.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first bytes belong to none of the formats that are read.
    #[error(
        "{} is neither safetensors, PyTorch (zip, legacy or plain pickle) nor burnpack: {hint}",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it looks like instead.
        hint: String,
    },
    /// A file of a known format whose content contradicts itself or ends too early.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// A pickle that names Python code beyond what rebuilds tensors. Nothing of it was run.
    #[error(
        "{} names Python code that rebuilds no tensor: {}. Nothing was run. Save a `state_dict` instead, or, if these are only class names of the saved model, allow them by name with `Checkpoint::open_allowing`",
        path.display(),
        names.join(", ")
    )]
    PickleCode {
        /// The file.
        path: PathBuf,
        /// The globals that are not on the list, as `module.name`.
        names: Vec<String>,
    },
    /// A file whose tensors claim far more bytes than it has.
    #[error(
        "{} has {file} bytes and its tensors claim {claimed}, more than {limit}: refused before any is read",
        path.display()
    )]
    Expansion {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        file: u64,
        /// The sum of what its tensors claim.
        claimed: u64,
        /// What a file of this length may claim.
        limit: u64,
    },
    /// A file of a known format without a single tensor.
    #[error("{} holds no tensor", path.display())]
    NoTensors {
        /// The file.
        path: PathBuf,
    },
    /// A name that the file does not have.
    #[error("the file has no tensor `{name}`; nearest: {nearest}")]
    NoSuchTensor {
        /// What was asked for.
        name: String,
        /// Names that the file has.
        nearest: String,
    },
    /// A path of the configuration that the model does not have.
    #[error("`{field}`: the model has no parameter at or under `{path}`; nearest: {nearest}")]
    NoSuchPath {
        /// The configuration's method.
        field: &'static str,
        /// What was asked for.
        path: String,
        /// Paths that the model has.
        nearest: String,
    },
    /// A value of the configuration outside its range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Whether matrices stand as `[out, in]` (PyTorch) or `[in, out]` (burn) cannot be told from the file.
    #[error(
        "whether the file's matrices stand as [out, in] (PyTorch) or [in, out] (burn) cannot be told: {reason}. Say it with `with_layout(Layout::PyTorch)` or `with_layout(Layout::Burn)`"
    )]
    UnknownLayout {
        /// Why not.
        reason: String,
    },
    /// The stated layout contradicts the file.
    #[error("`with_layout({stated})` contradicts the file: {evidence}")]
    WrongLayout {
        /// What the configuration says.
        stated: &'static str,
        /// What the file says.
        evidence: String,
    },
    /// The plan has problems; each is named, and the model was not touched.
    #[error("the file does not fit the model, which was not touched: {}", list(problems))]
    Refused {
        /// All of them.
        problems: Vec<Problem>,
    },
    /// The model is not the one for which the plan was made.
    #[error("the plan was made for another model: {difference}")]
    OtherModel {
        /// The first difference.
        difference: String,
    },
    /// burn refused or failed to write a tensor; the model was put back.
    #[error("writing failed and the model was put back: {reason}")]
    Write {
        /// What burn said.
        reason: String,
    },
    /// What stands in the model afterwards is not what was planned; the model was put back.
    #[error("after loading, {} is not what was planned; the model was put back", paths.join(", "))]
    Verification {
        /// The parameters that differ.
        paths: Vec<String>,
    },
    /// The model's output on the reference input is not the recorded one; the model was put back.
    #[error(
        "the output on the reference input is off by up to {difference:e}, more than {tolerance:e}; the model was put back"
    )]
    Reference {
        /// The largest absolute difference; infinite where lengths differ or a value is no number.
        difference: f64,
        /// What was allowed.
        tolerance: f64,
    },
}

/// Problems in one line: the first eight, then how many more.
fn list(problems: &[Problem]) -> String {
    let mut text: Vec<String> = problems.iter().take(8).map(ToString::to_string).collect();
    if problems.len() > 8 {
        text.push(format!("and {} more", problems.len() - 8));
    }
    text.join("; ")
}

/// One reason why a plan is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The model has it, the file does not, and nobody declared it.
    #[error("`{path}` {shape:?} is not in the file")]
    Missing {
        /// Path in the model.
        path: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// The file has it, the model does not, and nobody declared it.
    #[error("the file's `{name}` {shape:?} has no place in the model")]
    Unexpected {
        /// Name in the file.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Same name, other shape, and no transform was declared.
    #[error("`{path}` is {model:?} in the model and {file:?} in the file{hint}")]
    Shape {
        /// Path in the model.
        path: String,
        /// Shape in the model.
        model: Vec<usize>,
        /// Shape in the file, after what was declared.
        file: Vec<usize>,
        /// What might be declared; empty, or begins with a colon.
        hint: String,
    },
    /// Floats for integers, integers for floats, booleans for either, quantized values.
    #[error("`{path}` is {model:?} in the model and {file:?} in the file, another kind of number")]
    Kind {
        /// Path in the model.
        path: String,
        /// Element type in the model.
        model: DType,
        /// Element type in the file.
        file: DType,
    },
    /// Another width of float, where casting was forbidden.
    #[error("`{path}` is {model:?} in the model and {file:?} in the file, and casting is off")]
    Precision {
        /// Path in the model.
        path: String,
        /// Element type in the model.
        model: DType,
        /// Element type in the file.
        file: DType,
    },
    /// Less of the model than asked for would come from the file.
    #[error(
        "{:.1} % of the elements outside the head come from the file, fewer than the floor of {:.1} %",
        100.0 * coverage,
        100.0 * floor
    )]
    Coverage {
        /// Share of elements, 0 to 1.
        coverage: f64,
        /// The floor.
        floor: f64,
    },
    /// Values that no trained network has.
    #[error("`{path}`: {reason}")]
    Broken {
        /// Path in the model.
        path: String,
        /// What is wrong with its values.
        reason: String,
    },
    /// Two tensors declared as one that differ.
    #[error("`{first}` and `{second}` are declared tied and differ in the file")]
    Untied {
        /// Path in the model.
        first: String,
        /// The other path.
        second: String,
    },
    /// A declared transform that does not fit the tensors.
    #[error("`{path}`: {reason}")]
    Transform {
        /// Path in the model.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// A rename or ignore rule that no tensor of the file answers.
    #[error("the rule {rule} matches no tensor of the file")]
    IdleRule {
        /// The rule as written.
        rule: String,
    },
    /// Two tensors of the file that end up under one name.
    #[error("the file's `{first}` and `{second}` both become `{name}`")]
    Collision {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// Their common new name.
        name: String,
    },
    /// A tensor whose bytes cannot be read.
    #[error("`{name}` cannot be read: {reason}")]
    Unreadable {
        /// Name in the file.
        name: String,
        /// What the reader said.
        reason: String,
    },
}
