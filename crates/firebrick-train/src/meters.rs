//! burn-train's metrics over all samples of a judgement.

use crate::TrainError;
use burn::data::dataloader::Progress;
use burn::tensor::TensorReadError;
use burn::train::metric::{Metric, MetricMetadata, Numeric};
use firebrick_core::ConfigError;
use std::any::Any;
use std::collections::BTreeMap;

/// A metric of any kind.
trait Meter {
    /// Its value over all that it has seen.
    fn finish(&mut self) -> Result<f64, TensorReadError>;

    /// Itself, for the one who knows its kind.
    fn any(&mut self) -> &mut dyn Any;
}

impl<T: Metric + Numeric + 'static> Meter for T {
    fn finish(&mut self) -> Result<f64, TensorReadError> {
        // Metrics over the whole, such as AUROC, have no value before.
        self.compute()?;
        Ok(self.final_value().current())
    }

    fn any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The metrics of burn-train that a model shows its batches to, in [`Learn::meter`](crate::Learn::meter).
///
/// Each is made anew for a judgement, sees the batches one after another, and its value over all of them goes into the
/// history as `train_<name>` or `validation_<name>`, in the metric's own unit: accuracy and AUROC are in per cent.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn::train::metric::{AccuracyInput, AccuracyMetric};
/// use firebrick_train::Meters;
///
/// let device = Device::flex();
/// let logits = Tensor::<2>::from_floats([[2.0, 0.0], [0.0, 1.0]], &device);
/// let input = AccuracyInput::new(logits, Tensor::from_ints([0, 0], &device));
/// let mut meters = Meters::default();
/// meters.see("accuracy", AccuracyMetric::new, &input)?;
/// assert_eq!(meters.values()?["accuracy"], 50.0);
/// # Ok::<(), firebrick_train::TrainError>(())
/// ```
#[derive(Default)]
pub struct Meters {
    meters: BTreeMap<String, Box<dyn Meter>>,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.meters.keys()).finish()
    }
}

impl Meters {
    /// Shows a batch to the metric called `name`, which `new` makes the first time.
    ///
    /// # Errors
    /// When the device fails to answer, or there is a metric of another kind under this name.
    pub fn see<T: Metric + Numeric + 'static>(
        &mut self,
        name: &str,
        new: impl FnOnce() -> T,
        input: &T::Input,
    ) -> Result<(), TrainError> {
        if !self.meters.contains_key(name) {
            self.meters.insert(name.to_owned(), Box::new(new()));
        }
        let known = self.meters.get_mut(name).and_then(|meter| {
            // Of the metric itself: the box around it is a metric of no kind.
            let meter: &mut dyn Meter = meter.as_mut();
            meter.any().downcast_mut::<T>()
        });
        let Some(metric) = known else {
            let expected = "the name of one kind of metric alone";
            return Err(ConfigError::new("metric", name, expected).into());
        };
        // No metric over outputs and targets looks at these.
        let progress = Progress { items_processed: 0, items_total: 0, unit: None };
        metric.update(input, &MetricMetadata { progress, iteration: None, lr: None })?;
        Ok(())
    }

    /// The value of each over all batches it was shown.
    ///
    /// # Errors
    /// When the device fails to answer.
    pub fn values(&mut self) -> Result<BTreeMap<String, f64>, TrainError> {
        let mut values = BTreeMap::new();
        for (name, meter) in &mut self.meters {
            values.insert(name.clone(), meter.as_mut().finish()?);
        }
        Ok(values)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::testing::{Net, config, data, net};
    use crate::{Batches, Fit, Labelled, Learn, Measures, Score, TensorBatches};
    use burn::module::Module;
    use burn::optim::SgdConfig;
    use burn::tensor::{Device, Tensor};
    use burn::train::metric::{AccuracyInput, AccuracyMetric, AurocMetric, ConfusionStatsInput};

    /// How much more the second class is preferred, `[rows, 1]`.
    fn scores(net: &Net, inputs: Tensor<2>) -> Tensor<2> {
        let logits = net.layer.forward(inputs);
        logits.clone().narrow(1, 1, 1) - logits.narrow(1, 0, 1)
    }

    #[derive(Module, Debug)]
    struct Metered {
        net: Net,
    }

    impl Learn for Metered {
        type Batch = Labelled<2>;

        fn loss(&self, batch: Labelled<2>) -> Tensor<1> {
            self.net.loss(batch)
        }

        fn score(&self, batch: Labelled<2>) -> Result<Score, TensorReadError> {
            self.net.score(batch)
        }

        fn meter(&self, batch: Labelled<2>, meters: &mut Meters) -> Result<Measures, TrainError> {
            let rows = batch.len();
            let logits = self.net.layer.forward(batch.inputs.clone());
            let input = AccuracyInput::new(logits, batch.targets.clone());
            meters.see("accuracy", AccuracyMetric::new, &input)?;
            let positive = batch.targets.clone().equal_scalar(1_i64).reshape([rows, 1]);
            let input = ConfusionStatsInput::new(scores(&self.net, batch.inputs.clone()), positive);
            meters.see("auroc", AurocMetric::binary, &input)?;
            Ok(self.measure(batch)?)
        }
    }

    /// Judged in batches of 16, 16 and 8.
    struct Short(TensorBatches<2>);

    impl Batches for Short {
        type Batch = Labelled<2>;

        fn epoch(&self, epoch: usize) -> impl Iterator<Item = Labelled<2>> {
            self.0.epoch(epoch)
        }

        fn batches_per_epoch(&self) -> usize {
            self.0.batches_per_epoch()
        }

        fn whole(&self) -> impl Iterator<Item = Labelled<2>> {
            let data = self.0.data().on_plain_device();
            (0..40_u32)
                .step_by(16)
                .map(move |start| data.select(&(start..40.min(start + 16)).collect::<Vec<u32>>()))
        }
    }

    #[test]
    fn metrics_of_burn_are_over_all_samples() {
        let device = Device::flex().autodiff();
        // The classes overlap.
        let rows = data(&device, 0.1);
        let all = rows.data().on_plain_device();
        let train = Short(rows);
        let fitted = Fit::new(config(1), SgdConfig::new().init())
            .rate(|_| 0.0)
            .run(Metered { net: net(&device) }, &train, Some(&train))
            .expect("trains");
        let accuracy = fitted.history.last("train_accuracy").expect("noted");
        let error = fitted.train.error();
        assert!((accuracy - 100.0 * (1.0 - error)).abs() < 1e-9, "{accuracy} {error}");
        assert_eq!(fitted.history.last("validation_accuracy"), Some(accuracy));
        // The share of pairs of both classes that are in the right order, ties counted half.
        let scores = scores(&fitted.model.net, all.inputs).try_to_vec_as::<f64>().expect("reads");
        let classes = all.targets.try_to_vec_as::<i64>().expect("reads");
        let of = |class: i64| -> Vec<f64> {
            let rows = scores.iter().zip(&classes);
            rows.filter(|&(_, &row)| row == class).map(|(&score, _)| score).collect()
        };
        let (negative, positive) = (of(0), of(1));
        let mut wins = 0.0;
        for high in &positive {
            for low in &negative {
                wins += if high > low { 1.0 } else { f64::from(u8::from(high == low)) / 2.0 };
            }
        }
        let expected = 100.0 * wins / (positive.len() * negative.len()) as f64;
        let auroc = fitted.history.last("train_auroc").expect("noted");
        assert!((auroc - expected).abs() < 1e-9, "{auroc} {expected}");
    }

    #[test]
    fn one_name_is_one_kind() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_floats([[0.0, 1.0]], &device);
        let mut meters = Meters::default();
        let input = AccuracyInput::new(logits.clone(), Tensor::from_ints([1], &device));
        meters.see("right", AccuracyMetric::new, &input).expect("is new");
        let other = ConfusionStatsInput::new(logits.clone(), logits.greater_scalar(0.5));
        let error = meters.see("right", AurocMetric::binary, &other).expect_err("another kind");
        assert!(error.to_string().starts_with("`metric` must be the name of one kind"), "{error}");
        assert_eq!(meters.values().expect("reads")["right"], 100.0);
    }
}
