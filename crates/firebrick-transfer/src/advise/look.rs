//! The look at frozen features: how many, how similar, which cell.

use crate::advise::{
    Advice, AdviseError, AdviserConfig, Cell, Interval, LearningCurve, Named, Similarity, Size,
    Target, Tuning, Verdict,
};
use crate::probe::{RidgeProbe, default_lambdas};
use crate::score::{
    ClassShape, Covariance, Features, Labels, ScoreError, cka, domain_auc, frechet_distance, gbc,
    h_score, knn_leave_one_out, leep, log_me, mmd, nce, trans_rate,
};
use firebrick_core::check;

/// Rows of each data set that the kernel test looks at: its cost is their square.
const KERNEL_ROWS: usize = 400;

/// The adviser: tells the survey's cell from frozen features, and how sure it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Adviser {
    config: AdviserConfig,
}

/// Which samples a probe gets right on each kind of features.
struct Hits {
    seen: Vec<bool>,
    raw: Option<Vec<bool>>,
    fresh: Option<Vec<bool>>,
}

impl Hits {
    fn lift(&self, rows: &[u32]) -> Option<f64> {
        let share = |hits: &[bool]| {
            rows.iter().filter(|row| hits[**row as usize]).count() as f64 / rows.len() as f64
        };
        let base = [&self.raw, &self.fresh].into_iter().flatten().map(|hits| share(hits));
        let base = base.reduce(f64::max)?;
        // A baseline without errors leaves nothing to lift; half an error keeps the share defined.
        let room = (1.0 - base).max(0.5 / rows.len() as f64);
        Some((share(&self.seen) - base) / room)
    }
}

impl Adviser {
    /// An adviser.
    ///
    /// # Errors
    /// When the configuration is out of range.
    pub fn new(config: AdviserConfig) -> Result<Self, AdviseError> {
        config.check()?;
        Ok(Self { config })
    }

    /// Its constants.
    #[must_use]
    pub fn config(&self) -> &AdviserConfig {
        &self.config
    }

    /// Looks at the target.
    ///
    /// # Errors
    /// When features and labels do not fit together, there is one class only, a class has fewer than 2 samples,
    /// there are more classes than samples, or all features are constant.
    pub fn look(&self, target: &Target<'_>) -> Result<Advice, AdviseError> {
        let labels = Labels::of_classes(target.labels, target.classes)?;
        target.features.fit(&labels)?;
        labels.at_least(2)?;
        target.features.varies()?;
        if let Some(curve) = target.curve {
            check::range("curve.half", curve.half, 0.0..=1.0)?;
            check::range("curve.whole", curve.whole, 0.0..=1.0)?;
            check::non_negative("curve.standard_error", curve.standard_error)?;
        }
        let (samples, config) = (labels.len(), &self.config);
        let per_class = samples as f64 / target.classes as f64;
        let mut reasons = Vec::new();
        let size = self.size(per_class, target.curve, &mut reasons);

        let raw = target.raw.map(Features::standardised);
        let ridge = |features: &Features| self.hits(features, &labels, None);
        let near = |features: &Features| self.hits(features, &labels, Some(config.neighbours));
        let hits = Hits {
            seen: ridge(target.features)?,
            raw: raw.as_ref().map(ridge).transpose()?,
            fresh: target.fresh.map(ridge).transpose()?,
        };
        let neighbours = Hits {
            seen: near(target.features)?,
            raw: raw.as_ref().map(near).transpose()?,
            fresh: target.fresh.map(near).transpose()?,
        };
        let rows: Vec<u32> = (0..samples as u32).collect();
        let draws = self.resamples(samples);
        let accuracy = |hits: &[bool]| {
            let share = |rows: &[u32]| {
                rows.iter().filter(|row| hits[**row as usize]).count() as f64 / rows.len() as f64
            };
            self.interval(share(&rows), draws.iter().map(|rows| share(rows)).collect())
        };
        let lifts: Vec<f64> = draws.iter().filter_map(|rows| hits.lift(rows)).collect();
        let lift = hits.lift(&rows).map(|value| self.interval(value, lifts.clone()));
        let probe = accuracy(&hits.seen);
        let similarity = self.similarity(per_class, lift, &mut reasons);

        let quadrant = config.quadrant();
        let cell = lift.map(|lift| quadrant.cell(per_class, lift.value));
        let confidence = match cell {
            Some(cell) if size != Size::Unclear && !lifts.is_empty() => {
                let same = lifts.iter().filter(|lift| quadrant.cell(per_class, **lift) == cell);
                same.count() as f64 / lifts.len() as f64
            }
            _ => 0.0,
        };
        let survey = cell.map(Cell::survey);
        // Without a baseline nothing speaks for either exception.
        let middle = 0.5 * (config.revised.head_above + config.revised.scratch_below);
        let revised = config.revised.choose(per_class, lift.map_or(middle, |lift| lift.value));
        let majority = labels.majority();
        let error = (majority * (1.0 - majority) / samples as f64).sqrt();
        let nothing = probe.value < majority + 2.0 * error;
        if nothing {
            reasons.push(format!(
                "the probe on the source features is right on {:.3}, no better than the most frequent class, {majority:.3}",
                probe.value
            ));
        }
        let clear = size != Size::Unclear && similarity != Similarity::Unclear && !nothing;
        let verdict = if clear && survey == Some(revised) {
            Verdict::Recipe(revised)
        } else {
            if let (true, Some(survey)) = (clear, survey) {
                reasons.push(format!(
                    "the cell is clear, but there measurements found {revised} better than the table's {survey}"
                ));
            }
            Verdict::Measure(shortlist(size, similarity, revised))
        };
        let ratio = |(tuning, count): &(Tuning, usize)| {
            (*tuning, *count, samples as f64 / (*count).max(1) as f64)
        };
        let ratios: Vec<_> = target.trainable.iter().map(ratio).collect();
        for (tuning, count, ratio) in ratios.iter().filter(|(_, _, ratio)| *ratio < 1.0) {
            reasons.push(format!(
                "{tuning} trains {count} parameters on {samples} samples: {ratio:.2e} samples a parameter"
            ));
        }
        Ok(Advice {
            size,
            samples,
            classes: target.classes,
            per_class,
            rarest: labels.rarest(),
            ratios,
            similarity,
            probe,
            raw: hits.raw.as_deref().map(accuracy),
            fresh: hits.fresh.as_deref().map(accuracy),
            lift,
            neighbour_lift: neighbours.lift(&rows),
            dead: target.features.dead(),
            scores: self.scores(target, &labels),
            cell,
            confidence,
            survey,
            revised,
            verdict,
            reasons,
        })
    }

    fn size(&self, per_class: f64, curve: Option<LearningCurve>, why: &mut Vec<String>) -> Size {
        let config = &self.config;
        let text = format!("{per_class:.1} samples per class");
        if per_class <= config.few_per_class {
            why.push(format!("{text}: few, up to {}", config.few_per_class));
            return Size::Few;
        }
        if per_class < config.many_per_class {
            why.push(format!(
                "{text}: between few, up to {}, and many, from {}",
                config.few_per_class, config.many_per_class
            ));
            return Size::Unclear;
        }
        match curve {
            Some(curve) if curve.whole - curve.half > curve.standard_error => {
                why.push(format!(
                    "{text}, but full fine-tuning still gains {:.3} from the second half (standard error {:.3})",
                    curve.whole - curve.half,
                    curve.standard_error
                ));
                Size::Unclear
            }
            Some(_) => {
                why.push(format!("{text}, and full fine-tuning has stopped gaining: many"));
                Size::Many
            }
            None => {
                why.push(format!(
                    "{text}: many, from {}; no learning curve was given",
                    config.many_per_class
                ));
                Size::Many
            }
        }
    }

    fn similarity(
        &self,
        per_class: f64,
        lift: Option<Interval>,
        why: &mut Vec<String>,
    ) -> Similarity {
        let config = &self.config;
        let Some(lift) = lift else {
            why.push("neither raw inputs nor a fresh copy were given to compare with".into());
            return Similarity::Unclear;
        };
        let text = format!("the source features have a lift of {lift} over the best baseline");
        if per_class < config.least_per_class {
            let least = config.least_per_class;
            why.push(format!("{text}; below {least} samples per class that says nothing"));
            Similarity::Unclear
        } else if lift.low > config.similar_above {
            why.push(format!("{text}: similar, all above {}", config.similar_above));
            Similarity::Similar
        } else if lift.high < config.different_below {
            why.push(format!("{text}: not similar, all below {}", config.different_below));
            Similarity::Different
        } else {
            why.push(format!(
                "{text}: neither all above {} nor all below {}",
                config.similar_above, config.different_below
            ));
            Similarity::Unclear
        }
    }

    fn hits(
        &self,
        features: &Features,
        labels: &Labels,
        neighbours: Option<usize>,
    ) -> Result<Vec<bool>, ScoreError> {
        features.fit(labels)?;
        // Features that are all dead know nothing: whatever one says, it is the majority at best.
        if features.varies().is_err() {
            let counts = labels.counts();
            let most = (0..counts.len()).rev().max_by_key(|&class| counts[class]).unwrap_or(0);
            return Ok(labels.index().iter().map(|class| *class as usize == most).collect());
        }
        match neighbours {
            None => {
                let probe = RidgeProbe::fit(features, labels, &default_lambdas(features))?;
                Ok(probe.leave_one_out.correct)
            }
            Some(k) => Ok(knn_leave_one_out(features, labels, k)?.correct),
        }
    }

    /// Row numbers drawn with replacement, the same for all probes: that pairs them.
    fn resamples(&self, samples: usize) -> Vec<Vec<u32>> {
        (0..self.config.resamples as u64)
            .map(|index| {
                let mut stream = self.config.seed.child(index).stream("adviser");
                (0..samples).map(|_| stream.below(samples as u64) as u32).collect()
            })
            .collect()
    }

    fn interval(&self, value: f64, mut draws: Vec<f64>) -> Interval {
        draws.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| draws[(share * (draws.len() - 1) as f64).round() as usize];
        let outside = 0.5 * (1.0 - self.config.level);
        Interval { value, low: at(outside), high: at(1.0 - outside) }
    }

    fn scores(&self, target: &Target<'_>, labels: &Labels) -> Vec<Named> {
        let (features, seed) = (target.features, self.config.seed);
        let mut all = vec![
            named("LogME", log_me(&features.centred(), labels)),
            named("H-score, shrunk", h_score(features, labels, Covariance::LedoitWolf)),
            named("TransRate", trans_rate(&features.standardised(), labels, 1e-4)),
            named("GBC", gbc(features, labels, ClassShape::Diagonal)),
        ];
        if let Some(fresh) = target.fresh {
            all.push(named("CKA with the fresh copy", cka(features, fresh)));
        }
        if let Some(probabilities) = target.probabilities {
            all.push(named("LEEP", leep(probabilities, labels)));
            let predicted: Vec<u32> = (0..probabilities.rows())
                .map(|row| crate::score::first_largest(probabilities.row(row)))
                .collect();
            all.push(named("NCE", nce(&predicted, labels)));
        }
        if let Some(source) = target.source {
            let part = |features: &Features| {
                let step = features.rows().div_ceil(KERNEL_ROWS);
                let rows: Vec<u32> = (0..features.rows() as u32).step_by(step).collect();
                features.select(&rows)
            };
            let test = part(source).and_then(|s| mmd(&s, &part(features)?, None, 99, seed));
            all.push(named("FID of the features", frechet_distance(source, features)));
            all.push(named("MMD, p value", test.map(|test| test.p)));
            all.push(named("domain AUC", domain_auc(source, features, 5, seed).map(|d| d.auc)));
        }
        all
    }
}

fn named(name: &str, value: Result<f64, ScoreError>) -> Named {
    let problem = value.as_ref().err().map(ToString::to_string);
    Named { name: name.into(), value: value.ok(), problem }
}

/// The recipes of the cells that are not excluded, and both ways of training all from the source weights. Scratch
/// joins few samples only where the source clearly does not help: on fifty of them a measurement errs by more than
/// scratch could win.
fn shortlist(size: Size, similarity: Similarity, revised: Tuning) -> Vec<Tuning> {
    let mut list = vec![Tuning::Full, Tuning::LpFt, revised];
    for (few, out) in [(true, Size::Many), (false, Size::Few)] {
        for (similar, not) in [(true, Similarity::Different), (false, Similarity::Similar)] {
            if size != out && similarity != not {
                list.push(Cell::of(few, similar).survey());
            }
        }
    }
    if similarity == Similarity::Different {
        list.push(Tuning::Scratch);
    }
    list.sort_unstable();
    list.dedup();
    list
}
