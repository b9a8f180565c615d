"""Records regularizers of Keras as cases for the replay of firebrick-regularize.

    KERAS_BACKEND=jax JAX_ENABLE_X64=1 python regularize_keras.py > regularize_keras.json

Pinned: keras 3.15.1, jax 0.10.2, numpy 2.4.6. Derivatives are JAX's. Keras runs in f64; inputs are exact in f32; weights
are recorded in burn's layout, which for dense layers is Keras', for convolutions [out, in, k...], and for transposed
ones [in, out, k...]. Keras adds an epsilon of 1e-7 to the norms of its constraints: less than what a replay allows.
Dropout is recorded as statistics of one draw, each with its standard error over the units that are dropped together.

Left out, because Keras means something else: its orthogonal regularizer (sums absolute cosines, firebrick's squared
products), MinMaxNorm (no counterpart), Equalization and RandomContrast (other formulas than torchvision's),
RandomPosterization (of bytes, torchvision's and firebrick's of floats), and CutMix (a box at fractions of pixels).
"""

import json
import math

import jax
import keras
import numpy as np
from keras import constraints, layers, losses, ops, regularizers

assert keras.backend.backend() == "jax" and jax.config.jax_enable_x64, "see the first lines"
keras.config.set_floatx("float64")
keras.utils.set_random_seed(1)
rng = np.random.default_rng(21)
KINDS = {
    "penalties": "l2 l1 elastic_net activity confidence spectral",
    "constraints": "max_norm unit_norm non_negative",
    "losses": "label_smoothing soft_cross_entropy r_drop jensen_shannon mean_teacher pi_model",
    "mixing": "mixup",
    "augmentation": "solarize auto_contrast",
    "dropout": "inverted spatial alpha gaussian drop_path variational embedding",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}
cases = {kind: [] for kind in KINDS}


def draw(*shape, scale=1.0):
    return (rng.normal(size=shape) * scale).astype(np.float32).astype(np.float64)


def flat(x):
    return [float(f"{v:.10g}") for v in np.asarray(x, np.float64).reshape(-1).tolist()]


def tensor(x):
    return {"shape": list(x.shape), "data": flat(x)}


def record(name, inputs, output, args=None, wrt=(), layer=None, to_burn=lambda x: x):
    """A case; `output` is an array, or a function of the inputs whose gradient is recorded for those that `wrt` names."""
    value = output(**inputs) if callable(output) else output
    case = {"name": name, "args": args or {}, "inputs": {k: tensor(to_burn(v)) for k, v in inputs.items()},
            "output": flat(value)}
    if layer:
        case["layer"] = layer
    if wrt:
        grads = jax.grad(lambda part: output(**(inputs | part)))({k: inputs[k] for k in wrt})
        case["gradients"] = {k: flat(to_burn(grads[k])) for k in wrt}
    cases[KIND_OF[name]].append(case)


# Keras' kernel, its axes that a unit sums over, burn's layer, and the way to burn's layout.
LAYERS = [
    ((3, 2), 0, "Linear", lambda w: w),
    ((5, 4), 0, "Linear", lambda w: w),
    ((2, 3, 4), (0, 1), "Conv1d", lambda w: np.transpose(w, (2, 1, 0))),
    ((3, 2, 2, 4), (0, 1, 2), "Conv2d", lambda w: np.transpose(w, (3, 2, 0, 1))),
    ((2, 2, 3, 2), (0, 1, 3), "ConvTranspose2d", lambda w: np.transpose(w, (3, 2, 0, 1))),
]

for shape, axis, layer, to_burn in LAYERS:
    w = draw(*shape)
    at = {"wrt": ["weight"], "layer": layer, "to_burn": to_burn}
    for strength in (0.02, 3.0):
        record("l2", {"weight": w}, lambda weight: regularizers.L2(strength)(weight),
               {"strength": strength, "convention": "full"}, **at)
        record("l1", {"weight": w}, lambda weight: regularizers.L1(strength)(weight), {"strength": strength}, **at)
    # Keras' factors are firebrick's strength * ratio and strength * (1 - ratio) / 2.
    for l1, l2 in [(0.06, 0.12), (0.5, 0.0), (0.0, 0.25)]:
        strength = l1 + 2 * l2
        record("elastic_net", {"weight": w}, lambda weight: regularizers.L1L2(l1, l2)(weight),
               {"strength": strength, "l1_ratio": l1 / strength}, **at)
    at.pop("wrt")
    for bound in (0.5, 2.0):
        record("max_norm", {"weight": w}, to_burn(np.asarray(constraints.MaxNorm(bound, axis)(w))), {"max": bound}, **at)
    record("unit_norm", {"weight": w}, to_burn(np.asarray(constraints.UnitNorm(axis)(w))), **at)
    record("non_negative", {"weight": w}, to_burn(np.asarray(constraints.NonNeg()(w))), **at)

for shape in [(3, 4), (6, 2)]:
    w, b = draw(*shape), draw(shape[1])
    # The other axis of a dense kernel counts inputs.
    record("max_norm", {"weight": w}, constraints.MaxNorm(1.5, 1)(w), {"max": 1.5, "axis": 0}, layer="Linear")
    record("unit_norm", {"weight": w}, constraints.UnitNorm(1)(w), {"axis": 0}, layer="Linear")

    def dense(regularizer):
        """What a whole layer adds to the loss, kernel and bias."""
        made = layers.Dense(shape[1], kernel_regularizer=regularizer, bias_regularizer=regularizer)
        made.build((None, shape[0]))
        made.set_weights([w, b])
        term = lambda weight, bias: regularizer(weight) + regularizer(bias)
        assert np.allclose(sum(made.losses), term(w, b))
        return term

    at = {"wrt": ["weight", "bias"], "layer": "Linear"}
    record("l2", {"weight": w, "bias": b}, dense(regularizers.L2(0.3)),
           {"strength": 0.3, "convention": "full", "scope": "all"}, **at)
    record("l1", {"weight": w, "bias": b}, dense(regularizers.L1(0.3)), {"strength": 0.3, "scope": "all"}, **at)
    record("elastic_net", {"weight": w, "bias": b}, dense(regularizers.L1L2(0.1, 0.2)),
           {"strength": 0.5, "l1_ratio": 0.2, "scope": "all"}, **at)

    inner = layers.Dense(shape[1], use_bias=False)
    wrapped = layers.SpectralNormalization(inner, power_iterations=1000)
    wrapped.build((None, shape[0]))
    inner.kernel.assign(w)
    wrapped(np.zeros((1, shape[0])), training=True)
    sigma = w[0, 0] / np.asarray(inner.kernel)[0, 0]
    record("spectral", {"weight": w}, np.array([0.5 / 2 * sigma**2]), {"strength": 0.5}, layer="Linear")

for l1 in (0, 1):
    # Of one row, since Keras sums over the batch and firebrick takes the mean of its rows.
    h = draw(1, 6)
    layer = layers.ActivityRegularization(**{("l1" if l1 else "l2"): 0.3})
    layer(h)
    term = lambda hidden: regularizers.L1L2(**{("l1" if l1 else "l2"): 0.3})(hidden)
    assert np.allclose(layer.losses[0], term(h))
    record("activity", {"hidden": h}, term, {"strength": 0.3, "l1": l1}, ["hidden"])

cross_entropy = lambda target, logits, smoothing=0.0: losses.CategoricalCrossentropy(
    from_logits=True, label_smoothing=smoothing)(target, logits)
kl, mse = losses.KLDivergence(), losses.MeanSquaredError()
for n, k in [(1, 2), (4, 3), (7, 10)]:
    z, labels = draw(n, k, scale=2.0), rng.integers(k, size=n).astype(np.float64)
    for s in (0.0, 0.1, 0.4):
        record("label_smoothing", {"logits": z, "labels": labels},
               lambda logits, labels: cross_entropy(ops.one_hot(np.asarray(labels, int), k, dtype="float64"), logits, s),
               {"smoothing": s}, ["logits"])
    t = np.asarray(ops.softmax(draw(n, k))).astype(np.float32).astype(np.float64)
    record("soft_cross_entropy", {"logits": z, "targets": t}, lambda logits, targets: cross_entropy(targets, logits),
           wrt=["logits"])
    record("confidence", {"logits": z}, lambda logits: -0.1 * cross_entropy(ops.softmax(logits), logits),
           {"strength": 0.1}, ["logits"])
    a, b, c = (draw(n, k) for _ in range(3))
    soft = lambda x: ops.softmax(x)
    record("r_drop", {"first": a, "second": b, "targets": t},
           lambda first, second, targets: cross_entropy(targets, first) + cross_entropy(targets, second)
           + 3.0 / 2 * (kl(soft(first), soft(second)) + kl(soft(second), soft(first))),
           {"alpha": 3.0}, ["first", "second"])

    def jensen_shannon(first, second, third):
        parts = [soft(x) for x in (first, second, third)]
        return sum(kl(part, sum(parts) / 3) for part in parts) / 3

    record("jensen_shannon", {"first": a, "second": b, "third": c}, jensen_shannon, wrt=["first", "second", "third"])
    record("mean_teacher", {"student": b, "teacher": a}, lambda student, teacher: mse(soft(teacher), soft(student)),
           wrt=["student"])
    record("pi_model", {"first": a, "second": b}, lambda first, second: mse(soft(first), soft(second)),
           wrt=["first", "second"])

for n, h, w, c, k in [(2, 4, 5, 1, 2), (5, 3, 2, 3, 4)]:
    images, labels = draw(n, h, w, c), np.eye(k)[rng.integers(k, size=n)]
    partners, lam = rng.permutation(n), rng.uniform(size=n).astype(np.float32).astype(np.float64)
    mixer = layers.MixUp(dtype="float64")
    change = {"mix_weight": ops.convert_to_tensor(lam), "permutation_order": ops.convert_to_tensor(partners)}
    both = np.concatenate([np.asarray(mixer.transform_images(images, change)).ravel(),
                           np.asarray(mixer.transform_labels(labels, change)).ravel()])
    record("mixup", {"images": images, "targets": labels}, both,
           {"lambda": lam.tolist(), "partners": partners.tolist()})

for c, h, w in [(1, 5, 5), (3, 6, 9), (1, 8, 3)]:
    image = rng.integers(256, size=(c, h, w)).astype(np.float64)
    unit = (image / 255).astype(np.float32).astype(np.float64)
    last = np.transpose(image, (1, 2, 0))[None]

    def changed(layer, transformation):
        made = np.asarray(layer.transform_images(last, transformation, training=True))[0]
        return np.transpose(made, (2, 0, 1)) / 255

    still = {"additions": np.zeros((1, 1, 1, 1)), "thresholds": np.full((1, 1, 1, 1), 0.6 * 255)}
    record("solarize", {"image": unit}, changed(layers.Solarization(dtype="float64"), still), {"threshold": 0.6})
    record("auto_contrast", {"image": unit}, changed(layers.AutoContrast(dtype="float64"), None))


def statistics(name, args, shape, layer, unit, normal=False):
    """Share kept, mean and variance of a draw; `unit` elements are dropped together and lie side by side."""
    x = rng.normal(size=shape) if normal else np.ones(shape)
    y = np.asarray(layer(x, training=True)).reshape(-1, unit)
    found = {}
    for what, each in [("kept", (y != 0).astype(float)), ("mean", y), ("variance", (y - y.mean()) ** 2)]:
        if what == "kept" and name in ("alpha", "gaussian"):
            continue
        means = each.mean(1)
        found[what] = [float(f"{v:.10g}") for v in (means.mean(), means.std() / math.sqrt(len(means)))]
    cases["dropout"].append({"name": name, "args": args, "shape": list(shape),
                             "input": "normal" if normal else "ones", "statistics": found})


for p in (0.1, 0.5, 0.8):
    args = {"prob": p}
    statistics("inverted", args, (1000, 1000), layers.Dropout(p), 1)
    statistics("spatial", args, (500, 200, 2, 3), layers.SpatialDropout2D(p, data_format="channels_first"), 6)
    statistics("drop_path", args, (200_000, 3), layers.Dropout(p, noise_shape=(None, 1)), 3)
    statistics("embedding", args, (200_000, 3), layers.Dropout(p, noise_shape=(None, 1)), 3)
    # Steps last, so that those of a feature, which are dropped together, lie side by side.
    sequences = lambda x, training: np.moveaxis(np.asarray(layers.SpatialDropout1D(p)(x, training=training)), 1, 2)
    statistics("variational", args, (1000, 3, 200), sequences, 3)
    statistics("alpha", args, (1_000_000,), layers.AlphaDropout(p), 1, normal=True)
    statistics("gaussian", args, (1_000_000,), layers.GaussianDropout(p), 1)

lists = [f'"{kind}": [\n' + ",\n".join(json.dumps(case) for case in group) + "\n]" for kind, group in cases.items()]
print("{" + ",\n".join(lists) + "}")
