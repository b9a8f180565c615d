//! What a run writes of itself into its folder, so that no other run goes on with it.

use super::{Phase, Tune};
use crate::TransferError;
use firebrick_core::Seed;
use firebrick_regularize::Penalty;
use firebrick_stabilize::Guard;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl<G: Guard + Clone, P: Penalty + Clone> Tune<G, P> {
    /// Writes down what the run in the folder is, or checks that it is this one.
    pub(super) fn claim(&self, phases: &[Phase]) -> Result<(), TransferError> {
        let (Some(config), Some((path, text))) = (&self.checkpoints, self.unclaimed(phases)?)
        else {
            return Ok(());
        };
        std::fs::create_dir_all(&config.directory)
            .and_then(|()| write_whole(&path, &text))
            .map_err(|error| TransferError::File { path: path.clone(), reason: error.to_string() })
    }

    /// Refuses a folder that holds another run, without a change to it. What has to be written into it, and where,
    /// unless this run is in it already.
    pub(super) fn unclaimed(
        &self,
        phases: &[Phase],
    ) -> Result<Option<(PathBuf, String)>, TransferError> {
        let Some(config) = &self.checkpoints else { return Ok(None) };
        let path = config.directory.join("transfer.json");
        let failed = |reason: &dyn std::fmt::Display| TransferError::File {
            path: path.clone(),
            reason: reason.to_string(),
        };
        // Written over, the file would make a later resume go on with that run as if it were this one.
        if !config.resume && holds_a_run(&config.directory).map_err(|error| failed(&error))? {
            return Err(TransferError::File {
                path: config.directory.clone(),
                reason: "a run is in the folder: set `resume`, or name another folder".into(),
            });
        }
        let now = Saved {
            format: 1,
            rule: format!("{:?}", self.rule),
            seed: self.seed,
            phases: phases.to_vec(),
            before: self.before.clone(),
            beside: self.beside(),
        };
        if path.exists() && config.resume {
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
            let saved: Saved = serde_json::from_str(&text).map_err(|error| failed(&error))?;
            return saved.same(&now).map(|()| None);
        }
        let text = serde_json::to_string_pretty(&now).map_err(|error| failed(&error))?;
        Ok(Some((path, text)))
    }

    /// What else makes another run of it, as text. Of a penalty the type is all that can be told.
    fn beside(&self) -> BTreeMap<String, String> {
        let pull = match &self.pull {
            Some((anchor, strength)) => format!("{strength:?} towards {}", anchor.described()),
            None => "none".into(),
        };
        let texts = [
            ("fresh head", format!("{:?}", self.fresh_head)),
            ("penalty", std::any::type_name::<P>().to_owned()),
            ("pull", pull),
            ("scheme", format!("{:?}", self.scheme)),
        ];
        texts.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
    }
}

/// What a folder says of the run in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    format: u32,
    rule: String,
    seed: Seed,
    phases: Vec<Phase>,
    /// What was done before the first phase.
    #[serde(default)]
    before: Option<String>,
    /// What else there was, by name; files of before this was written down have nothing here, and are not asked.
    #[serde(default)]
    beside: BTreeMap<String, String>,
}

impl Saved {
    fn same(&self, now: &Self) -> Result<(), TransferError> {
        let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
        let fields = [
            ("format", text(&self.format), text(&now.format)),
            ("optimizer", self.rule.clone(), now.rule.clone()),
            ("seed", text(&self.seed), text(&now.seed)),
            ("pre-training", text(&self.before), text(&now.before)),
            ("number of phases", text(&self.phases.len()), text(&now.phases.len())),
        ];
        let phases = self.phases.iter().zip(&now.phases);
        let phases = phases.map(|(saved, now)| ("phase", text(saved), text(now)));
        let beside = self.beside.iter().filter_map(|(name, saved)| {
            Some((name.as_str(), saved.clone(), now.beside.get(name)?.clone()))
        });
        let mut all = fields.into_iter().chain(phases).chain(beside);
        match all.find(|(_, saved, now)| saved != now) {
            Some((field, saved, now)) => {
                Err(TransferError::OtherRun { field: field.into(), saved, now })
            }
            None => Ok(()),
        }
    }
}

/// Whether a phase has left something in the folder of a run.
fn holds_a_run(folder: &Path) -> std::io::Result<bool> {
    if !folder.exists() {
        return Ok(false);
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let phase = entry.file_name().to_str().is_some_and(|name| name.starts_with("phase-"));
        let path = entry.path();
        if phase && path.is_dir() && std::fs::read_dir(&path)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes a file whole or not at all.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("unfinished");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, path)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::Recipe;
    use crate::testing::{data, device, net};
    use firebrick_optim::{AdamWConfig, Elementwise, SgdConfig};
    use firebrick_stabilize::Scheme;
    use firebrick_train::CheckpointConfig;

    fn adamw() -> Elementwise {
        AdamWConfig::new().build().expect("valid")
    }

    #[test]
    fn a_folder_of_another_run_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = CheckpointConfig::new(folder.path().to_owned()).with_resume(true);
        let train = data(&device(), 1.0);
        let tune = |recipe, seed| {
            Tune::new(recipe, 1, adamw()).checkpoints(config.clone()).seed(Seed(seed))
        };
        tune(Recipe::gradual(), 1).run(net(&device()), &train, None).expect("trains");
        let text = std::fs::read_to_string(folder.path().join("transfer.json")).expect("written");
        assert!(text.contains("\"mode\": \"Trainable\""), "the plan is saved: {text}");
        let refused =
            |tune: Tune| tune.run(net(&device()), &train, None).expect_err("refused").to_string();
        assert!(refused(tune(Recipe::full(), 1)).contains("phase"));
        assert!(refused(tune(Recipe::gradual(), 2)).contains("seed was Seed(1), is Seed(2)"));
        let sgd = Tune::new(Recipe::gradual(), 1, SgdConfig::new().build().expect("valid"));
        assert!(refused(sgd.checkpoints(config.clone()).seed(Seed(1))).contains("optimizer"));
        std::fs::write(folder.path().join("transfer.json"), "{").expect("writes");
        assert!(refused(tune(Recipe::gradual(), 1)).contains("transfer.json"));
    }

    #[test]
    fn a_folder_with_a_run_is_not_taken_over_without_resume() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = CheckpointConfig::new(folder.path().to_owned());
        let train = data(&device(), 1.0);
        let tune = |seed| {
            let tune = Tune::new(Recipe::full(), 1, adamw()).seed(Seed(seed));
            tune.checkpoints(config.clone().with_resume(false))
        };
        tune(1).run(net(&device()), &train, None).expect("trains");
        let file = folder.path().join("transfer.json");
        let before = std::fs::read_to_string(&file).expect("written");
        let refused =
            |tune: Tune| tune.run(net(&device()), &train, None).expect_err("refused").to_string();
        for seed in [1, 2] {
            let text = refused(tune(seed));
            assert!(text.ends_with("set `resume`, or name another folder"), "{text}");
            assert_eq!(std::fs::read_to_string(&file).expect("there"), before, "{seed}");
        }
        // Resumed, everything that would give other weights is compared.
        let again = |seed| tune(seed).checkpoints(config.clone().with_resume(true));
        again(1).run(net(&device()), &train, None).expect("it is the run");
        assert!(refused(again(2)).contains("seed was Seed(1), is Seed(2)"));
        assert!(refused(again(1).fresh_head(true)).contains("fresh head was false, is true"));
        assert!(refused(again(1).scheme(Scheme::KaimingNormal)).contains("scheme was"));
        let anchor = crate::Anchor::of(&net(&device()));
        assert!(refused(again(1).pull(&anchor, 0.5)).contains("pull was none, is 0.5 towards"));
        let penalized = again(1).penalty(None::<crate::L2Sp>);
        let text = penalized.run(net(&device()), &train, None).expect_err("refused").to_string();
        assert!(text.contains("penalty was ()"), "{text}");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), before);
        // A file of before these were written down is not asked for them.
        let mut old: serde_json::Value = serde_json::from_str(&before).expect("JSON");
        let fields = old.as_object_mut().expect("an object");
        assert!(fields.remove("beside").is_some() && fields.remove("before").is_some());
        std::fs::write(&file, old.to_string()).expect("writes");
        again(1).run(net(&device()), &train, None).expect("it is the run");
    }
}
