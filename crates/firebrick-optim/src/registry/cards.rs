//! One line for each optimizer.

use super::{RuleCard, overlay};
use crate::rule::*;

macro_rules! card {
    ($name:literal, $config:ident, $title:literal, $formula:literal, $reference:literal, ($lr:literal, $bytes:literal), $when:literal) => {
        RuleCard {
            name: $name,
            title: $title,
            formula: $formula,
            reference: $reference,
            lr: $lr,
            state_bytes: $bytes,
            when: $when,
            defaults: || serde_json::to_value($config::new()).unwrap_or_default(),
            build: |given| Ok(overlay($name, &$config::new(), given)?.build()?),
        }
    };
}

/// Every optimizer.
pub const CARDS: &[RuleCard] = &[
    card!(
        "sgd",
        SgdConfig,
        "SGD",
        "b = mu b + (1 - damp) g; p -= lr b",
        "Robbins and Monro 1951; Polyak 1964; Nesterov 1983",
        (1e-3, "0 or 4"),
        "Convolutional networks with a known recipe: Nesterov 0.9, rate 0.1 for each 256 samples of a batch, weight decay 5e-4, cosine."
    ),
    card!(
        "sgdw",
        SgdwConfig,
        "SGDW",
        "b = mu b + (1 - damp) g; p = (1 - lr wd) p - lr b",
        "1711.05101",
        (1e-3, "0 or 4"),
        "SGD with momentum where rate and decay are to be tuned apart."
    ),
    card!(
        "adagrad",
        AdaGradConfig,
        "AdaGrad",
        "s += g^2; p -= lr g / (sqrt(s) + eps)",
        "Duchi, Hazan, Singer 2011",
        (1e-2, "4"),
        "Sparse features, convex problems."
    ),
    card!(
        "rmsprop",
        RmsPropConfig,
        "RMSProp",
        "v = a v + (1 - a) g^2; p -= lr g / (sqrt(v) + eps)",
        "Hinton 2012; centered: 1308.0850",
        (1e-2, "4 to 12"),
        "Recurrent networks, reinforcement learning."
    ),
    card!(
        "adadelta",
        AdaDeltaConfig,
        "AdaDelta",
        "d = sqrt(u + eps) / sqrt(v + eps) g; p -= lr d",
        "1212.5701",
        (1.0, "8"),
        "When no rate is to be chosen and the steps may be cautious."
    ),
    card!(
        "adam",
        AdamConfig,
        "Adam",
        "p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)",
        "1412.6980; AMSGrad: 1904.09237",
        (1e-3, "8 or 12"),
        "When weight decay is not wanted; else AdamW."
    ),
    card!(
        "adamw",
        AdamWConfig,
        "AdamW",
        "p *= 1 - lr wd; then Adam",
        "1711.05101",
        (1e-3, "8 or 12"),
        "The default for an unknown task. Rate 1e-3 for small networks, 3e-4 for transformers, 2e-5 for fine-tuning."
    ),
    card!(
        "adamax",
        AdamaxConfig,
        "Adamax",
        "u = max(b2 u, |g| + eps); p -= lr / (1 - b1^t) m / u",
        "1412.6980",
        (2e-3, "8"),
        "Embeddings and gradients with rare large values."
    ),
    card!(
        "nadam",
        NAdamConfig,
        "NAdam",
        "Adam with Nesterov momentum, scheduled",
        "Dozat 2016",
        (2e-3, "8"),
        "Where Adam works and a little more speed is wanted."
    ),
    card!(
        "nadamw",
        NAdamWConfig,
        "NAdamW",
        "p *= 1 - lr wd; p -= lr (b1 m + (1 - b1) g) / (1 - b1^t) / den",
        "2306.07179",
        (1e-3, "8"),
        "As strong a default as AdamW at the same cost; give it a longer warm-up."
    ),
    card!(
        "radam",
        RAdamConfig,
        "RAdam",
        "Adam once the second moment can be trusted, momentum before",
        "1908.03265",
        (1e-3, "8"),
        "When no warm-up is to be tuned."
    ),
    card!(
        "adabelief",
        AdaBeliefConfig,
        "AdaBelief",
        "s = b2 s + (1 - b2) (g - m)^2 + eps; Adam with s",
        "2010.07468",
        (1e-3, "8 or 12"),
        "Where SGD generalizes better than Adam but is too slow."
    ),
    card!(
        "yogi",
        YogiConfig,
        "Yogi",
        "v -= (1 - b2) sign(v - g^2) g^2; Adam with v",
        "Zaheer et al. 2018",
        (1e-2, "8"),
        "Sparse gradients on which Adam fails."
    ),
    card!(
        "adan",
        AdanConfig,
        "Adan",
        "Adam with Nesterov momentum from gradient differences",
        "2208.06677",
        (1e-3, "16"),
        "Vision transformers, large batches."
    ),
    card!(
        "lion",
        LionConfig,
        "Lion",
        "p -= lr sign(b1 m + (1 - b1) g)",
        "2302.06675",
        (1e-4, "4"),
        "Little memory and large batches; rate a fifth of AdamW's, decay five times."
    ),
    card!(
        "signum",
        SignumConfig,
        "Signum",
        "m = b m + (1 - b) g; p -= lr sign(m)",
        "1802.04434",
        (1e-3, "4"),
        "Gradients of unknown scale, little memory."
    ),
    card!(
        "adopt",
        AdoptConfig,
        "ADOPT",
        "u = clamp(g / max(sqrt(v_old), eps)); m = b1 m + (1 - b1) u; p -= lr m",
        "2411.02853",
        (1e-3, "8"),
        "Where Adam does not converge for its b2."
    ),
    card!(
        "ademamix",
        AdEmaMixConfig,
        "AdEMAMix",
        "p -= lr (m / (1 - b1^t) + alpha w) / den",
        "2409.03137",
        (1e-3, "12"),
        "Long runs of large models, with warm-up of alpha and b3."
    ),
    card!(
        "grams",
        GramsConfig,
        "Grams",
        "p -= lr sign(g) |Adam step|",
        "2412.17107",
        (1e-3, "8"),
        "As AdamW; the sign of the gradient decides the direction."
    ),
    card!(
        "adam_atan2",
        AdamAtan2Config,
        "Adam-atan2",
        "p -= lr a atan2(m / (1 - b1^t), b sqrt(v / (1 - b2^t)))",
        "2407.05872",
        (1e-3, "8"),
        "When epsilon is not to be tuned across scales."
    ),
    card!(
        "laprop",
        LaPropConfig,
        "LaProp",
        "m = b1 m + (1 - b1) lr g / den; p -= m / (1 - b1^t)",
        "2002.04839",
        (4e-4, "8 or 12"),
        "Where Adam is unstable for large b1 or small b2."
    ),
    card!(
        "qhadam",
        QHAdamConfig,
        "QHAdam",
        "p -= lr ((1 - n1) g + n1 m) / (sqrt((1 - n2) g^2 + n2 v) + eps)",
        "1810.06801",
        (1e-3, "8"),
        "Budgets that allow tuning of n1."
    ),
    card!(
        "rprop",
        RpropConfig,
        "Rprop",
        "p -= sign(g) s, s grows and shrinks with the sign",
        "Riedmiller and Braun 1993",
        (1e-2, "8"),
        "Full batches alone."
    ),
    card!(
        "asgd",
        AsgdConfig,
        "ASGD",
        "p = (1 - lambda eta) p - eta g; a += mu (p - a)",
        "Polyak and Juditsky 1992",
        (1e-2, "0, 4 after step t0 + 2"),
        "Convex problems, evaluated at the average."
    ),
    card!(
        "schedulefreesgd",
        ScheduleFreeSgdConfig,
        "Schedule-Free SGD",
        "y = x between z; z -= lr g; x averages z",
        "2405.15682",
        (1.0, "4"),
        "Unknown length of the run, convolutional networks."
    ),
    card!(
        "schedulefreeadamw",
        ScheduleFreeAdamWConfig,
        "Schedule-Free AdamW",
        "Schedule-Free SGD on Adam's scaled gradient",
        "2405.15682",
        (2.5e-3, "8 or 12"),
        "Unknown length of the run, and no tuning: the best without any."
    ),
    card!(
        "lars",
        LarsConfig,
        "LARS",
        "q = tc |p| / (|g| + wd |p|); momentum on q (g + wd p)",
        "1708.03888",
        (1.0, "4"),
        "Batches above 8,000 images."
    ),
    card!(
        "lamb",
        LambConfig,
        "LAMB",
        "u = Adam step + wd p; p -= lr |p| / |u| u",
        "1904.00962",
        (5e-3, "8"),
        "Very large batches of transformers."
    ),
    card!(
        "adafactor",
        AdafactorConfig,
        "Adafactor",
        "v = r c / mean(r); p -= a g / sqrt(v)",
        "1804.04235",
        (1e-2, "below 0.1"),
        "When memory is short."
    ),
    card!(
        "stableadamw",
        StableAdamWConfig,
        "StableAdamW",
        "AdamW with lr / max(1, rms(g / sqrt(v)))",
        "2304.13013",
        (1e-3, "8"),
        "Loss spikes; makes clipping unnecessary."
    ),
    card!(
        "cautiousadamw",
        CautiousAdamWConfig,
        "Cautious AdamW",
        "AdamW where the step agrees with the gradient",
        "2411.16085",
        (1e-3, "8"),
        "A safe try wherever AdamW works."
    ),
    card!(
        "cautiouslion",
        CautiousLionConfig,
        "Cautious Lion",
        "Lion where the step agrees with the gradient",
        "2411.16085",
        (1e-4, "4"),
        "A safe try wherever Lion works."
    ),
    card!(
        "mars",
        MarsConfig,
        "MARS",
        "AdamW on c = g + gamma b1 / (1 - b1) (g - g_old), clipped to norm 1",
        "2411.10438",
        (3e-3, "12"),
        "Language models above 100 million parameters."
    ),
    card!(
        "adammini",
        AdamMiniConfig,
        "Adam-mini",
        "Adam with one v for each block",
        "2406.16793",
        (1e-3, "4"),
        "AdamW's results in half its memory."
    ),
    card!(
        "adashift",
        AdaShiftConfig,
        "AdaShift",
        "v = b2 v + (1 - b2) max(g_{t-n}^2); p -= lr mean(g_{t-n+1..t}) / (sqrt(v) + eps)",
        "1810.00143",
        (1e-3, "40"),
        "Where Adam's large steps for rare gradients hurt."
    ),
    card!(
        "prodigy",
        ProdigyConfig,
        "Prodigy",
        "d = max(d, n / |s|); Adam at rate d lr",
        "2306.06101",
        (1.0, "16"),
        "No rate to tune: rate 1 under a cosine."
    ),
    card!(
        "muon",
        MuonConfig,
        "Muon",
        "p -= lr s orthogonalize(momentum)",
        "Jordan 2024; 2502.16982",
        (1e-3, "4"),
        "Matrices dominate and 5 to 10 % more time a step is there; scale MatchRmsAdamW takes AdamW's rate."
    ),
    card!(
        "soap",
        SoapConfig,
        "SOAP",
        "p -= lr Q_L adam(Q_L^T g Q_R) Q_R^T",
        "2409.11321",
        (3e-3, "24 for a square matrix, 8 for a vector"),
        "Matrices dominate and the best quality a step counts more than its time."
    ),
    card!(
        "shampoo",
        ShampooConfig,
        "Shampoo",
        "p -= lr L^(-1/4) m R^(-1/4), as long as the grafted method's step",
        "1802.09568; 2309.06497",
        (1e-3, "24 for a square matrix, 8 for a vector"),
        "Long runs of large networks; grafted on Adam it takes Adam's rates."
    ),
];
