//! What the programs around real networks do alike: begin and end, load, compare with the reference, try few labels.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use burn::module::Module;
use clap::Parser;
use firebrick::transfer::load::{Checkpoint, LoadConfig};
use firebrick::transfer::score::Features;

use super::failure::{Failure, say};
use super::few::{FewLabels, few_labels};

/// A program of the arguments `C`: what went wrong, or is not there, is one line on the standard error stream.
pub fn program<C: Parser>(run: impl FnOnce(&C) -> Result<(), Failure>) -> ExitCode {
    match run(&C::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A closed stream must not turn the error into a panic.
            let _ = writeln!(std::io::stderr(), "{failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Loads the file at `path` into `model`, its names by `names`; tells the plan first, and then what became of it.
///
/// # Errors
///
/// When the file cannot be read or does not fit; the model is then as it was.
pub fn load<M: Module>(
    model: &mut M,
    names: &LoadConfig,
    path: &Path,
    mut tell: impl FnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let file = Checkpoint::open(path)?;
    let plan = names.plan(&file, model)?;
    tell(&plan.to_string())?;
    let report = plan.apply(model)?;
    tell(&format!(
        "loaded {} tensors, {} elements, each equal to the plan's digest",
        report.loaded, report.elements
    ))
}

/// Prints how right a head on each of these features is with few labels: the same draws for all of them.
///
/// # Errors
///
/// As [`few_labels`], and when the output cannot be written.
pub fn compare(
    features: &[(&str, &Features)],
    labels: &[u32],
    few: FewLabels,
) -> Result<(), Failure> {
    for (name, features) in features {
        let found = few_labels(features, labels, few)?;
        let (mean, half) = (100.0 * found.mean(), 100.0 * found.half_width());
        say(&format!("  {name:<26} accuracy {mean:.1} % +- {half:.1}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::store::{ModuleSnapshot, SafetensorsStore};
    use burn::tensor::Device;

    #[test]
    fn a_file_is_loaded_whole_and_another_one_leaves_the_model_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("weights.safetensors");
        let linear = |outputs| vec![LinearConfig::new(3, outputs).init(&Device::flex())];
        let source = linear(4);
        source.save_into(&mut SafetensorsStore::from_file(&path)).expect("saved");
        let mut told = String::new();
        let mut into = |model: &mut Vec<_>, path: &Path| {
            load(model, &LoadConfig::new(), path, |text| {
                told.push_str(text);
                Ok(())
            })
        };
        let mut model = linear(4);
        into(&mut model, &path).expect("fits");
        assert_eq!(model[0].weight.val().into_data(), source[0].weight.val().into_data());
        let mut other = linear(5);
        let before = other[0].weight.val().into_data();
        let failure = into(&mut other, &path).expect_err("another shape");
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(other[0].weight.val().into_data(), before);
        let absent = into(&mut other, &folder.path().join("absent"));
        assert!(matches!(absent, Err(Failure::Load(_))));
        // Both plans, also that of what was refused; one end.
        assert_eq!(told.matches("coverage").count(), 2, "{told}");
        assert_eq!(told.matches("loaded 2 tensors, 16 elements").count(), 1, "{told}");
    }
}
