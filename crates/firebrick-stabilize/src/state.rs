//! What a guard remembers, as bytes: a training that is interrupted goes on with it as if it had not been.

use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why the state of a guard cannot be saved or taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the guard's state does not fit: {reason}")]
#[non_exhaustive]
pub struct GuardStateError {
    /// What is wrong with it.
    pub reason: String,
}

impl GuardStateError {
    /// An error for this reason.
    pub fn new(reason: impl std::fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// `guard` as CBOR, which unlike JSON has NaN and infinity, behind the name of its kind.
pub(crate) fn write<T: Serialize>(kind: &str, guard: &T) -> Result<Vec<u8>, GuardStateError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(&(kind, guard), &mut bytes).map_err(GuardStateError::new)?;
    Ok(bytes)
}

/// What [`write`] wrote of a guard that had the configuration of `now`: what stands in the field `config`.
pub(crate) fn read<T: Serialize + DeserializeOwned>(
    kind: &str,
    now: &T,
    state: &[u8],
) -> Result<T, GuardStateError> {
    let (saved_kind, saved): (String, Value) = ciborium::from_reader(state)
        .map_err(|_| GuardStateError::new(format!("it is none of a {kind}")))?;
    if saved_kind != kind {
        return Err(GuardStateError::new(format!("it is that of a {saved_kind}, not of a {kind}")));
    }
    let now = Value::serialized(now).map_err(GuardStateError::new)?;
    for (name, now) in entries(entry(&now, "config")) {
        let before = entry(entry(&saved, "config"), name);
        if before != now {
            let (before, now) = (text(before), text(now));
            let reason = format!("`{name}` of the {kind} was {before}, is {now}");
            return Err(GuardStateError::new(reason));
        }
    }
    saved.deserialized().map_err(GuardStateError::new)
}

/// The states of a chain as one.
pub(crate) fn join(parts: Vec<Vec<u8>>) -> Result<Vec<u8>, GuardStateError> {
    let parts = Value::Array(parts.into_iter().map(Value::Bytes).collect());
    write("chain", &parts)
}

/// The states that [`join`] joined.
pub(crate) fn split(state: &[u8], count: usize) -> Result<Vec<Vec<u8>>, GuardStateError> {
    let parts: Value = read("chain", &Value::Null, state)?;
    let parts = parts.into_array().unwrap_or_default();
    if parts.len() != count {
        let reason = format!("it is that of {} guards, there are {count}", parts.len());
        return Err(GuardStateError::new(reason));
    }
    Ok(parts.into_iter().map(|part| part.into_bytes().unwrap_or_default()).collect())
}

/// The named values of a map.
fn entries(map: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = map.as_map().map_or(&[][..], Vec::as_slice);
    entries.iter().filter_map(|(name, value)| Some((name.as_text()?, value)))
}

fn entry<'a>(map: &'a Value, name: &str) -> &'a Value {
    entries(map).find(|(known, _)| *known == name).map_or(&Value::Null, |(_, value)| value)
}

/// A value as an error shows it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "absent".into(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Text(text) => text.clone(),
        Value::Integer(number) => i128::from(*number).to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use crate::tests::{OneLayer, gradients, model, values};
    use crate::*;
    use burn::module::Module;
    use burn::optim::GradientsParams;
    use burn::tensor::Device;
    use firebrick_backend::testing::devices;
    use firebrick_core::{Record, Seed};

    /// Verdict, gradients and record of a step, to the bit.
    type Seen = (Verdict, Vec<u32>, Vec<(String, u64)>);

    /// These steps of a run with spikes and broken gradients.
    fn run(
        guard: &mut impl Guard,
        model: &OneLayer,
        device: &Device,
        steps: std::ops::Range<u64>,
    ) -> Vec<Seen> {
        let step = |step: u64| {
            let mut stream = Seed(6).child(step).stream("gradients");
            let spike = if step % 11 == 10 { 1e4 } else { 1.0 };
            let mut draw = || (spike * stream.normal()) as f32;
            let broken = if step % 7 == 6 { f32::INFINITY } else { draw() };
            let mut grads = gradients(model, device, &[draw(), broken], &[draw()]);
            let loss = (1.0 + 0.1 * f64::from(draw().abs())) * guard.loss_factor();
            let verdict = guard.before_step(model, &mut grads, loss);
            if verdict == Verdict::Proceed {
                let revised = guard.revise(model.clone());
                guard.after_step(&revised);
            }
            let bits = values(model, &grads).into_iter().map(f32::to_bits).collect();
            let mut record = Record::default();
            guard.record(&mut record);
            let seen = record.values.into_iter().map(|(name, value)| (name, value.to_bits()));
            (verdict, bits, seen.collect())
        };
        steps.map(step).collect()
    }

    /// Interrupted after every so many steps, a guard goes on as if it had not been.
    fn goes_on<G: Guard>(make: impl Fn() -> G) {
        for device in devices() {
            let model = model(&device);
            let whole = run(&mut make(), &model, &device, 0..60);
            for stop in [0, 1, 7, 33, 59] {
                let mut before = make();
                run(&mut before, &model, &device, 0..stop);
                let state = before.state().expect("is saved");
                let mut after = make();
                after.take_over(&state, &model).expect("fits");
                assert_eq!(after.state().expect("is saved"), state);
                let rest = run(&mut after, &model, &device, stop..60);
                assert_eq!(rest, whole[stop as usize..], "{}", std::any::type_name::<G>());
            }
        }
    }

    macro_rules! config {
        ($config:expr) => {
            || $config.init().expect("valid")
        };
    }

    #[test]
    fn every_guard_goes_on_where_it_was_interrupted() {
        goes_on(config!(SkipNonFiniteConfig::new().with_max_consecutive(3)));
        goes_on(config!(SkipOutliersConfig::new().with_window(16).with_min_samples(4)));
        goes_on(config!(ClipGlobalNormConfig::new(1.0).with_by_layer(true)));
        goes_on(config!(ClipValueConfig::new(0.5)));
        goes_on(config!(ClipTensorNormConfig::new(0.5)));
        goes_on(config!(AdaptiveClipConfig::new()));
        goes_on(config!(AutoClipConfig::new().with_window(8)));
        goes_on(config!(ZClipConfig::new().with_warm_up(5).with_max_norm(None)));
        goes_on(config!(GradientNoiseConfig::new(0.1)));
        goes_on(config!(LossScaleConfig::new().with_interval(3)));
        goes_on(config!(ClipSpikesConfig::new().with_theta(2.0).with_warm_up(3)));
        goes_on(config!(LossSpikeConfig::new().with_min_samples(4)));
        goes_on(config!(MonitorConfig::new().with_every(3)));
        goes_on(config!(SaddleEscapeConfig::new(1.5, 0.1).with_wait(4)));
        goes_on(|| CentralizeGradients);
        goes_on(|| ());
        goes_on(|| {
            let skip = SkipNonFiniteConfig::new().init().expect("valid");
            (Some(skip), AutoClipConfig::new().init().expect("valid"), None::<ClipValue>)
        });
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
        let device = Device::flex();
        let model = model(&device);
        let clip = |max_norm| ClipGlobalNormConfig::new(max_norm).init().expect("valid");
        let state = clip(1.0).state().expect("is saved");
        let reason = |guard: &mut dyn FnMut(&[u8]) -> Result<(), GuardStateError>, state: &[u8]| {
            guard(state).expect_err("refused").reason
        };
        let mut other = clip(2.0);
        let before = other.state().expect("is saved");
        let mut take = |state: &[u8]| other.take_over(state, &model);
        assert_eq!(reason(&mut take, &state), "`max_norm` of the ClipGlobalNorm was 1, is 2");
        assert_eq!(reason(&mut take, &state[..9]), "it is none of a ClipGlobalNorm");
        assert_eq!(other.state().expect("is saved"), before);
        let mut auto = AutoClipConfig::new().init().expect("valid");
        let mut take = |state: &[u8]| auto.take_over(state, &model);
        assert_eq!(reason(&mut take, &state), "it is that of a ClipGlobalNorm, not of a AutoClip");
        let mut pair = (clip(1.0), clip(1.0));
        let mut take = |state: &[u8]| pair.take_over(state, &model);
        assert_eq!(reason(&mut take, &state), "it is that of a ClipGlobalNorm, not of a chain");
        let single = (clip(1.0),).state().expect("is saved");
        assert_eq!(reason(&mut take, &single), "it is that of 1 guards, there are 2");
        let mut none = ();
        let mut take = |state: &[u8]| none.take_over(state, &model);
        assert!(reason(&mut take, &state).contains("this one does not"));
    }

    #[test]
    fn a_guard_of_the_user_without_memory_needs_none_of_this() {
        struct Count(u64);
        impl Guard for Count {
            fn before_step<M: Module>(
                &mut self,
                _: &M,
                _: &mut GradientsParams,
                _: f64,
            ) -> Verdict {
                self.0 += 1;
                Verdict::Proceed
            }
        }
        let model = model(&Device::flex());
        let mut chain = (Count(3), SkipNonFiniteConfig::new().init().expect("valid"));
        let state = chain.state().expect("is saved");
        chain.take_over(&state, &model).expect("fits");
        assert_eq!((chain.0.0, chain.loss_factor()), (3, 1.0));
    }
}
