"""Records regularizers of torch, torchvision and timm as cases for the replay of firebrick-regularize.

    python regularize.py > regularize.json

Pinned: torch 2.15.0, torchvision 0.29.2, timm 1.0.31, numpy 2.4.6. Derivatives are torch's autograd, twice differentiated where the
penalty is one on a slope. Inputs are exact in f32; weights are in burn's layout (linear layers [in, out]). Dropout is
recorded as statistics of one draw, each with its standard error over the units that are dropped together.
"""

import json
import math

import numpy as np
import timm.data.mixup
import timm.layers
import timm.loss
import torch
import torch.nn.functional as F
import torchvision
from torchvision.transforms import functional as V
from torchvision.transforms import v2

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(20)
KINDS = {
    "penalties": "l2 l1 elastic_net orthogonal spectral activity activation confidence jacobian gradient_penalty",
    "constraints": "max_norm unit_norm proximal_l1 group_lasso",
    "losses": "label_smoothing soft_cross_entropy r_drop jensen_shannon fixmatch uda mean_teacher pi_model",
    "calibration": "temperature calibration_error",
    "mixing": "mixup cutmix",
    "augmentation": "affine brightness contrast saturation sharpness solarize auto_contrast equalize posterize "
    "flip_horizontal flip_vertical",
    "dropout": "inverted spatial alpha gaussian drop_path drop_block variational embedding zoneout drop_connect "
    "weight_drop concrete",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}
cases = {kind: [] for kind in KINDS}


def draw(*shape, scale=1.0):
    return torch.tensor((rng.normal(size=shape) * scale).astype(np.float32).astype(np.float64))


def flat(x):
    return [float(f"{v:.10g}") for v in x.detach().reshape(-1).tolist()]


def tensor(x):
    return {"shape": list(x.shape), "data": flat(x)}


def record(name, inputs, output, args=None, wrt=(), layer=None):
    """A case; `wrt` names the inputs whose gradient of the (scalar) output is recorded."""
    case = {"name": name, "args": args or {}, "inputs": {k: tensor(v) for k, v in inputs.items()},
            "output": flat(output)}
    if layer:
        case["layer"] = layer
    if wrt:
        grads = torch.autograd.grad(output.sum(), [inputs[k] for k in wrt], allow_unused=True, retain_graph=True)
        case["gradients"] = {k: flat(g if g is not None else torch.zeros_like(inputs[k])) for k, g in zip(wrt, grads)}
    cases[KIND_OF[name]].append(case)


def weights():
    """Weights in burn's layout with their view as [units, rest]."""
    for shape in [(3, 2), (2, 5), (4, 4), (1, 3), (6, 1)]:
        yield "Linear", draw(*shape), lambda w: w.T
    for shape in [(2, 3, 2, 2), (4, 1, 3, 3)]:
        yield "Conv2d", draw(*shape), lambda w: w.reshape(w.shape[0], -1)


def unview(layer, rows, shape):
    return rows.T if layer == "Linear" else rows.reshape(shape)


for layer, w, view in weights():
    w.requires_grad_()
    for strength in (0.1, 3.0):
        record("l2", {"weight": w}, strength / 2 * w.square().sum(), {"strength": strength}, ["weight"], layer)
        record("l1", {"weight": w}, strength * w.abs().sum(), {"strength": strength}, ["weight"], layer)
    record("elastic_net", {"weight": w}, 0.3 * (0.2 * w.abs().sum() + 0.4 * w.square().sum()),
           {"strength": 0.3, "l1_ratio": 0.2}, ["weight"], layer)
    m = view(w)
    gram = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    record("orthogonal", {"weight": w}, 0.5 * (gram - torch.eye(len(gram))).square().sum(),
           {"strength": 0.5, "off_diagonal": 0}, ["weight"], layer)
    rows = m @ m.T
    record("orthogonal", {"weight": w}, 0.5 * (rows - torch.diag(torch.diag(rows))).square().sum(),
           {"strength": 0.5, "off_diagonal": 1}, ["weight"], layer)
    record("spectral", {"weight": w}, 0.5 / 2 * torch.linalg.matrix_norm(m, 2) ** 2, {"strength": 0.5}, ["weight"], layer)
    plain = view(w.detach())
    for bound in (0.5, 2.0):
        norms = plain.norm(dim=1, keepdim=True)
        clipped = torch.where(norms > bound, torch.renorm(plain, 2, 0, bound) * (norms + 1e-7) / norms, plain)
        record("max_norm", {"weight": w}, unview(layer, clipped, w.shape), {"max": bound}, layer=layer)
    record("unit_norm", {"weight": w}, unview(layer, F.normalize(plain, dim=1), w.shape), layer=layer)
    record("proximal_l1", {"weight": w}, F.softshrink(w.detach(), 0.3), {"strength": 3.0, "lr": 0.1}, layer=layer)
    size = plain.shape[1] ** 0.5
    shrink = torch.clamp(1 - 0.05 * size / plain.norm(dim=1, keepdim=True), min=0)
    record("group_lasso", {"weight": w}, unview(layer, plain * shrink, w.shape), {"strength": 0.5, "lr": 0.1}, layer=layer)

for n, k in [(1, 2), (4, 3), (7, 10)]:
    z = draw(n, k, scale=2.0).requires_grad_()
    y = torch.tensor(rng.integers(k, size=n))
    labels = y.double()
    for s in (0.0, 0.1, 0.4):
        record("label_smoothing", {"logits": z, "labels": labels}, F.cross_entropy(z, y, label_smoothing=s),
               {"smoothing": s}, ["logits"])
    t = torch.softmax(draw(n, k), 1).float().double()
    record("soft_cross_entropy", {"logits": z, "targets": t}, F.cross_entropy(z, t), wrt=["logits"])
    entropy = torch.distributions.Categorical(logits=z).entropy().mean()
    record("confidence", {"logits": z}, -0.1 * entropy, {"strength": 0.1}, ["logits"])
    a, b, c = (draw(n, k, scale=2.0).requires_grad_() for _ in range(3))
    log = [F.log_softmax(v, 1) for v in (a, b, c)]
    kl = lambda p, q: F.kl_div(q, p, log_target=True, reduction="batchmean")
    record("r_drop", {"first": a, "second": b, "targets": t},
           F.cross_entropy(a, t) + F.cross_entropy(b, t) + 3.0 / 2 * (kl(log[0], log[1]) + kl(log[1], log[0])),
           {"alpha": 3.0}, ["first", "second"])
    mean = torch.log(sum(v.exp() for v in log) / 3)
    record("jensen_shannon", {"first": a, "second": b, "third": c}, sum(kl(v, mean) for v in log) / 3,
           wrt=["first", "second", "third"])
    for threshold in (0.0, 0.5, 0.9):
        weak = F.softmax(a.detach(), 1)
        top, hard = weak.max(1)
        mask = (top >= threshold).double()
        record("fixmatch", {"weak": a, "strong": b}, (F.cross_entropy(b, hard, reduction="none") * mask).mean(),
               {"threshold": threshold}, ["strong"])
        sharp = F.log_softmax(a.detach() / 0.4, 1)
        each = F.kl_div(log[1], sharp, log_target=True, reduction="none").sum(1)
        record("uda", {"weak": a, "strong": b}, (each * mask).mean(), {"threshold": threshold, "temperature": 0.4}, ["strong"])
    record("mean_teacher", {"student": b, "teacher": a}, F.mse_loss(F.softmax(b, 1), F.softmax(a.detach(), 1)), wrt=["student"])
    record("pi_model", {"first": a, "second": b}, F.mse_loss(F.softmax(a, 1), F.softmax(b, 1)), wrt=["first", "second"])

for n, k, bins in [(50, 2, 15), (200, 4, 15), (200, 4, 10)]:
    z = draw(n, k, scale=3.0)
    y = torch.tensor(np.where(rng.uniform(size=n) < 0.6, z.argmax(1).numpy(), rng.integers(k, size=n)))
    beta = torch.tensor(1.0, requires_grad=True)
    newton = lambda: F.cross_entropy(z * beta, y)
    for _ in range(100):
        (g,) = torch.autograd.grad(newton(), beta, create_graph=True)
        (h,) = torch.autograd.grad(g, beta)
        beta = (beta - torch.clamp(g / h, -0.2, 0.2)).detach().requires_grad_()
    record("temperature", {"logits": z, "labels": y.double()}, 1 / beta)
    conf, pred = F.softmax(z, 1).max(1)
    right, edges, ece = (pred == y).double(), torch.linspace(0, 1, bins + 1), 0.0
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (conf > low) & (conf <= high)
        if inside.any():
            ece = ece + inside.double().mean() * (right[inside].mean() - conf[inside].mean()).abs()
    record("calibration_error", {"logits": z, "labels": y.double()}, ece, {"bins": bins})

for n, t, f in [(2, 4, 3), (1, 1, 5)]:
    raw = draw(n, t, f).requires_grad_()
    dropped = draw(n, t, f).requires_grad_()
    tar = (raw[:, 1:] - raw[:, :-1]).square().mean() if t > 1 else raw.sum() * 0
    record("activation", {"dropped": dropped, "raw": raw}, 2 * dropped.square().mean() + tar,
           {"alpha": 2.0, "beta": 1.0}, ["dropped", "raw"])

for n, d, h, out in [(3, 2, 4, 1), (5, 4, 3, 1), (2, 3, 6, 3)]:
    x, a, b = draw(n, d), draw(d, h, scale=0.7).requires_grad_(), draw(h, out, scale=0.7).requires_grad_()
    net = lambda x: torch.tanh(x @ a) @ b
    jac = torch.stack([torch.autograd.functional.jacobian(net, row, create_graph=True) for row in x])
    record("jacobian", {"x": x, "a": a, "b": b}, 0.1 * jac.square().sum((1, 2)).mean(), {"strength": 0.1}, ["a", "b"])
    if out == 1:
        tracked = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(net(tracked).sum(), tracked, create_graph=True)
        norm = g.norm(dim=1)
        record("gradient_penalty", {"x": x, "a": a, "b": b}, 10 * (norm - 1).square().mean(), {"r1": 0}, ["a", "b"])
        record("gradient_penalty", {"x": x, "a": a, "b": b}, 10 / 2 * norm.square().mean(), {"r1": 1}, ["a", "b"])

for c, h, w in [(1, 5, 5), (3, 6, 9), (1, 8, 3)]:
    image = torch.tensor(rng.integers(256, size=(c, h, w)), dtype=torch.uint8)
    unit = (image.float() / 255).double()
    for angle, move, scale, shear in [(0, [0, 0], 1.0, [0, 0]), (30, [0, 0], 1.0, [0, 0]), (-75, [1, -2], 1.3, [0, 0]),
                                      (10, [2, 1], 0.7, [15, 0]), (0, [0, 0], 1.0, [20, -10]), (180, [0, 0], 1.0, [0, 0])]:
        moved = V.affine(unit, angle, move, scale, shear, interpolation=V.InterpolationMode.BILINEAR)
        record("affine", {"image": unit}, moved,
               {"degrees": angle, "right": move[0], "down": move[1], "scale": scale, "shear_x": shear[0], "shear_y": shear[1]})
    for factor in (0.3, 1.7):
        record("brightness", {"image": unit}, V.adjust_brightness(unit, factor), {"factor": factor})
        record("contrast", {"image": unit}, V.adjust_contrast(unit, factor), {"factor": factor})
        record("saturation", {"image": unit}, V.adjust_saturation(unit, factor), {"factor": factor})
        record("sharpness", {"image": unit}, V.adjust_sharpness(unit, factor), {"factor": factor})
    record("solarize", {"image": unit}, V.solarize(unit, 0.6), {"threshold": 0.6})
    record("auto_contrast", {"image": unit}, V.autocontrast(unit))
    record("equalize", {"image": unit}, V.equalize(image).double() / 255)
    for bits in (1, 3, 8):
        record("posterize", {"image": unit}, v2.functional.posterize(unit, bits), {"bits": bits})
    record("flip_horizontal", {"image": unit}, V.hflip(unit))
    record("flip_vertical", {"image": unit}, V.vflip(unit))

# The image mixers of torchvision pair each row with the one before it.
for n, c, h, w, k in [(2, 1, 4, 5, 2), (5, 3, 7, 6, 3), (1, 2, 3, 3, 4), (6, 1, 9, 10, 10)]:
    images, labels = draw(n, c, h, w), torch.tensor(rng.integers(k, size=n))
    targets = F.one_hot(labels, k).double()
    partners = [(row - 1) % n for row in range(n)]
    for lam in (0.0, 0.3, 0.85, 1.0):
        mixer = v2.MixUp(num_classes=k)
        params = {"labels": labels, "batch_size": n, "lam": lam}
        both = torch.cat([mixer.transform(images, params).flatten(), mixer.transform(labels, params).flatten()])
        record("mixup", {"images": images, "targets": targets}, both, {"lambda": lam, "partners": partners})
    for seed, lam in enumerate((0.0, 0.2, 0.5, 0.95)):
        mixer = v2.CutMix(num_classes=k)

        class Fixed:
            def sample(self, _):
                return lam

        mixer._dist = Fixed()
        torch.manual_seed(seed)
        x, y = int(torch.randint(w, size=(1,))), int(torch.randint(h, size=(1,)))
        torch.manual_seed(seed)
        params = mixer.make_params([images])
        params |= {"labels": labels, "batch_size": n}
        both = torch.cat([mixer.transform(images, params).flatten(), mixer.transform(labels, params).flatten()])
        record("cutmix", {"images": images, "targets": targets}, both,
               {"lambda": lam, "x": x, "y": y, "partners": partners})

for n, k in [(3, 4), (1, 7)]:
    h = draw(n, k).requires_grad_()
    record("activity", {"hidden": h}, 0.3 * h.square().sum() / n, {"strength": 0.3, "l1": 0}, ["hidden"])
    record("activity", {"hidden": h}, 0.3 * h.abs().sum() / n, {"strength": 0.3, "l1": 1}, ["hidden"])


def statistics(name, args, shape, y, unit, normal=False):
    """Share kept, mean and variance of a draw; `unit` elements are dropped together."""
    y = y.double().reshape(-1, unit).numpy()
    found = {}
    for what, each in [("kept", (y != 0).astype(float)), ("mean", y), ("variance", (y - y.mean()) ** 2)]:
        if normal and what == "kept":
            continue
        means = each.mean(1)
        found[what] = [float(f"{v:.10g}") for v in (means.mean(), means.std() / math.sqrt(len(means)))]
    cases["dropout"].append({"name": name, "args": args, "shape": shape,
                             "input": "normal" if normal else "ones", "statistics": found})


torch.manual_seed(1)
for p in (0.1, 0.5, 0.9):
    statistics("inverted", {"prob": p}, [1000, 1000], F.dropout(torch.ones(1000, 1000), p, True), 1)
    statistics("spatial", {"prob": p}, [500, 200, 2, 3], F.dropout2d(torch.ones(500, 200, 2, 3), p, True), 6)
    path = torchvision.ops.stochastic_depth(torch.ones(200_000, 3), p, "row", True)
    statistics("drop_path", {"prob": p}, [200_000, 3], path, 3)
    statistics("alpha", {"prob": p}, [1_000_000], F.alpha_dropout(torch.randn(1_000_000), p, True), 1, normal=True)
    noise = 1 + math.sqrt(p / (1 - p)) * torch.randn(1_000_000)
    statistics("gaussian", {"prob": p}, [1_000_000], noise, 1, normal=True)
    cases["dropout"][-1]["input"] = "ones"
for p, size in [(0.1, 3), (0.3, 5), (0.2, 7), (0.05, 1)]:
    maps = torchvision.ops.drop_block2d(torch.ones(500, 20, 14, 14), p, size, training=True)
    statistics("drop_block", {"prob": p, "block_size": size}, [500, 20, 14, 14], maps, 196)

# timm, after all others so that their draws stay as they were.
for n, k in [(3, 4), (6, 2)]:
    z = draw(n, k, scale=2.0).requires_grad_()
    y = torch.tensor(rng.integers(k, size=n))
    for s in (0.05, 0.3):
        record("label_smoothing", {"logits": z, "labels": y.double()}, timm.loss.LabelSmoothingCrossEntropy(s)(z, y),
               {"smoothing": s}, ["logits"])
    t = torch.softmax(draw(n, k), 1).float().double()
    record("soft_cross_entropy", {"logits": z, "targets": t}, timm.loss.SoftTargetCrossEntropy()(z, t), wrt=["logits"])


def timm_mix(name, images, labels, k, smoothing, mode, params, args):
    """timm pairs each row with the one at the same place from the end; targets are smoothed as they are mixed."""
    mixer = timm.data.mixup.Mixup(mode=mode, label_smoothing=smoothing, num_classes=k)
    mixer._params_per_batch = lambda: params
    mixer._params_per_elem = lambda n: params
    mixed, targets = mixer(images.clone(), labels)
    args |= {"smoothing": smoothing, "partners": [len(images) - 1 - row for row in range(len(images))]}
    record(name, {"images": images, "targets": F.one_hot(labels, k).double()},
           torch.cat([mixed.flatten(), targets.flatten()]), args)


for shape, k in [((4, 3), 3), ((2, 5, 2), 4), ((6, 1, 3, 4), 2), ((2, 1, 2, 2, 3), 3)]:
    images, labels = draw(*shape), torch.tensor(rng.integers(k, size=shape[0]))
    for smoothing, lam in [(0.1, 0.3), (0.0, 0.75)]:
        timm_mix("mixup", images, labels, k, smoothing, "batch", (lam, False), {"lambda": lam})
    each = rng.uniform(size=shape[0]).astype(np.float32)
    timm_mix("mixup", images, labels, k, 0.1, "elem", (each.copy(), np.zeros(shape[0], bool)),
             {"lambda": [float(lam) for lam in each]})

# Only boxes of an even number of rows and columns: timm's others are a pixel larger than the paper's.
for n, c, h, w, k, lam in [(2, 1, 8, 4, 3, 0.75), (4, 3, 8, 8, 5, 0.4375), (6, 2, 5, 10, 2, 0.35)]:
    assert int(h * math.sqrt(1 - lam)) % 2 == 0 and int(w * math.sqrt(1 - lam)) % 2 == 0, (h, w, lam)
    images, labels = draw(n, c, h, w), torch.tensor(rng.integers(k, size=n))
    for seed in range(3):
        np.random.seed(seed)
        y, x = int(np.random.randint(0, h)), int(np.random.randint(0, w))
        np.random.seed(seed)
        timm_mix("cutmix", images, labels, k, 0.1, "batch", (lam, True), {"lambda": lam, "x": x, "y": y})

for p in (0.2, 0.7):
    statistics("drop_path", {"prob": p}, [200_000, 3], timm.layers.drop_path(torch.ones(200_000, 3), p, True), 3)
    single = timm.layers.drop_block_2d(torch.ones(100, 50, 14, 14), p, 1, couple_channels=False)
    statistics("drop_block", {"prob": p, "block_size": 1}, [100, 50, 14, 14], single, 1)
# timm draws seeds where no whole block fits, so of larger blocks only the scale is ours: it is by the share really kept.
for p, size in [(0.1, 3), (0.2, 4), (0.1, 7)]:
    maps = timm.layers.drop_block_2d(torch.ones(500, 20, 14, 14), p, size, couple_channels=False)
    statistics("drop_block", {"prob": p, "block_size": size}, [500, 20, 14, 14], maps, 196)
    found = cases["dropout"][-1]["statistics"]
    cases["dropout"][-1]["statistics"] = {"mean": found["mean"]}

# What torch has no layer for, from its dropout and distributions: over axes of length 1 a mask is shared.
for p in (0.2, 0.6):
    # Steps last, so that those of a feature, which are dropped together, lie side by side.
    statistics("variational", {"prob": p}, [1000, 3, 200], F.dropout1d(torch.ones(1000, 200, 3), p, True), 3)
    words = F.embedding(torch.arange(200_000), F.dropout(torch.ones(200_000, 1), p, True).expand(-1, 3))
    statistics("embedding", {"prob": p}, [200_000, 3], words, 3)
    # A state that was 0 stays 0 where a unit keeps it.
    statistics("zoneout", {"prob": p}, [1_000_000], torch.bernoulli(torch.full((1_000_000,), 1 - p)), 1)
    each = F.dropout(torch.ones(200_000, 4, 1), p, True)
    statistics("drop_connect", {"prob": p}, [200_000, 4], torch.ones(200_000, 1, 4) @ each, 1)
    statistics("weight_drop", {"prob": p}, [1000, 1000], F.dropout(torch.ones(1000, 1000), p, True), 1)
for p, tau in [(0.2, 0.1), (0.5, 0.7)]:
    relaxed = torch.distributions.RelaxedBernoulli(torch.tensor(tau), probs=torch.tensor(p)).sample((1_000_000,))
    statistics("concrete", {"prob": p, "temperature": tau}, [1_000_000], (1 - relaxed) / (1 - p), 1)
    # A relaxed unit is never wholly dropped but for rounding.
    cases["dropout"][-1]["statistics"].pop("kept")

lists = [f'"{kind}": [\n' + ",\n".join(json.dumps(case) for case in group) + "\n]" for kind, group in cases.items()]
print("{" + ",\n".join(lists) + "}")
