"""Records random cases over the shapes and arguments of regularizers of torch, torchvision and timm, in f64, for
`cargo xtask replay`.

    python regularize_random.py > regularize_random.json

Pinned: torch 2.15.0, torchvision 0.29.2, timm 1.0.31, numpy 2.4.6. Beside `regularize.py`, whose cases are chosen: here every
kind of layer, any axis of units, logits up to some 100, images of one pixel and of flat colours. Left out is what hangs on
the last bit of f32: a share, a level or a threshold within 1e-5 of a value, and a matrix with two like singular values.
"""

import json
import math

import numpy as np
import timm.data.mixup
import timm.loss
import torch
import torch.nn.functional as F
import torchvision
from torchvision.transforms import functional as V
from torchvision.transforms import v2

torch.set_default_dtype(torch.float64)
torch.manual_seed(31)
rng = np.random.default_rng(31)
KINDS = {
    "penalties": "l2 l1 elastic_net orthogonal spectral activity activation confidence jacobian gradient_penalty",
    "constraints": "max_norm unit_norm non_negative proximal_l1 group_lasso",
    "losses": "label_smoothing soft_cross_entropy r_drop jensen_shannon fixmatch uda mean_teacher pi_model",
    "calibration": "temperature calibration_error",
    "mixing": "mixup cutmix",
    "augmentation": "affine brightness contrast saturation sharpness solarize auto_contrast equalize posterize "
    "flip_horizontal flip_vertical",
    "dropout": "inverted spatial drop_block",
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names.split()}
LAYERS = {"Linear": 2, "Conv1d": 3, "Conv2d": 4, "Conv3d": 5,
          "ConvTranspose1d": 3, "ConvTranspose2d": 4, "ConvTranspose3d": 5}
cases = {kind: [] for kind in KINDS}


def draw(*shape, scale=1.0):
    return torch.tensor((rng.normal(size=shape) * scale).astype(np.float32).astype(np.float64))


def uniform(low, high):
    return round(float(rng.uniform(low, high)), 4)


def magnitude(low, high):
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")


def whole(low, high):
    """From `low` to `high`, both included."""
    return int(rng.integers(low, high + 1))


def flat(x):
    return [float(f"{v:.10g}") for v in x.detach().double().reshape(-1).tolist()]


def record(name, inputs, output, args=None, wrt=(), layer=None):
    """A case; `wrt` names the inputs whose gradient of the (scalar) output is recorded."""
    case = {"name": name, "args": args or {}, "output": flat(output),
            "inputs": {k: {"shape": list(v.shape), "data": flat(v)} for k, v in inputs.items()}}
    if layer:
        case["layer"] = layer
    if wrt:
        grads = torch.autograd.grad(output.sum(), [inputs[k] for k in wrt], allow_unused=True, retain_graph=True)
        case["gradients"] = {k: flat(g if g is not None else torch.zeros_like(inputs[k])) for k, g in zip(wrt, grads)}
    cases[KIND_OF[name]].append(case)


def rows_of(w, axis):
    return w.transpose(0, axis).reshape(w.shape[axis], -1)


def from_rows(rows, shape, axis):
    turned = list(shape)
    turned[0], turned[axis] = turned[axis], turned[0]
    return rows.reshape(turned).transpose(0, axis)


for layer, rank in LAYERS.items():
    shape = [whole(1, 5), whole(1, 5)] + [whole(1, 3) for _ in range(rank - 2)]
    unit = 0 if layer in ("Conv1d", "Conv2d", "Conv3d") else 1
    w = draw(*shape, scale=magnitude(0.1, 3)).requires_grad_()
    s, ratio = magnitude(1e-3, 10), uniform(0, 1)
    record("l2", {"weight": w}, s * w.square().sum(), {"strength": s, "convention": "full"}, ["weight"], layer)
    record("l1", {"weight": w}, s * w.abs().sum(), {"strength": s}, ["weight"], layer)
    record("elastic_net", {"weight": w}, s * (ratio * w.abs().sum() + (1 - ratio) / 2 * w.square().sum()),
           {"strength": s, "l1_ratio": ratio}, ["weight"], layer)
    m = rows_of(w, unit)
    gram = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    record("orthogonal", {"weight": w}, s * (gram - torch.eye(len(gram))).square().sum(),
           {"strength": s, "off_diagonal": 0}, ["weight"], layer)
    gram = m @ m.T
    record("orthogonal", {"weight": w}, s * (gram - torch.diag(torch.diag(gram))).square().sum(),
           {"strength": s, "off_diagonal": 1}, ["weight"], layer)
    singular = torch.linalg.svdvals(m.detach())
    if len(singular) == 1 or singular[1] < 0.95 * singular[0]:
        record("spectral", {"weight": w}, s / 2 * torch.linalg.matrix_norm(m, 2) ** 2, {"strength": s}, ["weight"], layer)
    plain = w.detach()
    for axis in (None, whole(0, rank - 1)):
        own = unit if axis is None else axis
        rows = rows_of(plain, own)
        norms = rows.norm(dim=1, keepdim=True)
        bound, lr, s = magnitude(float(norms.min()) / 2, float(norms.max()) * 1.5), magnitude(1e-3, 1), magnitude(0.1, 3)
        back = lambda rows: from_rows(rows, shape, own)
        args = {} if axis is None else {"axis": axis}
        clipped = torch.where(norms > bound, torch.renorm(rows, 2, 0, bound) * (norms + 1e-7) / norms, rows)
        record("max_norm", {"weight": plain}, back(clipped), {"max": bound, **args}, layer=layer)
        record("unit_norm", {"weight": plain}, back(F.normalize(rows, dim=1)), args, layer=layer)
        shrink = torch.clamp(1 - lr * s * rows.shape[1] ** 0.5 / norms, min=0)
        record("group_lasso", {"weight": plain}, back(rows * shrink),
               {"strength": s, "lr": lr, "groups": "units" if axis is None else axis}, layer=layer)
    inputs = rows_of(plain, 1 - unit)
    shrink = torch.clamp(1 - lr * s * inputs.shape[1] ** 0.5 / inputs.norm(dim=1, keepdim=True), min=0)
    record("group_lasso", {"weight": plain}, from_rows(inputs * shrink, shape, 1 - unit),
           {"strength": s, "lr": lr, "groups": "inputs"}, layer=layer)
    record("proximal_l1", {"weight": plain}, F.softshrink(plain, lr * s), {"strength": s, "lr": lr}, layer=layer)
    record("non_negative", {"weight": plain}, F.relu(plain), layer=layer)

kl = lambda p, q: F.kl_div(q, p, log_target=True, reduction="batchmean")
for scale in (0.1, 1.0, 5.0, 40.0):
    n, k = whole(1, 5), whole(2, 9)
    a, b, c = (draw(n, k, scale=scale).requires_grad_() for _ in range(3))
    log = [F.log_softmax(logits, 1) for logits in (a, b, c)]
    y = torch.tensor(rng.integers(k, size=n))
    t = torch.softmax(draw(n, k, scale=3), 1).float().double()
    s, alpha, threshold, tau = uniform(0, 0.9), magnitude(0.1, 8), uniform(0, 1), magnitude(0.2, 2)
    record("label_smoothing", {"logits": a, "labels": y.double()}, timm.loss.LabelSmoothingCrossEntropy(s)(a, y),
           {"smoothing": s}, ["logits"])
    record("soft_cross_entropy", {"logits": a, "targets": t}, F.cross_entropy(a, t), wrt=["logits"])
    record("confidence", {"logits": a}, -alpha * torch.distributions.Categorical(logits=a).entropy().mean(),
           {"strength": alpha}, ["logits"])
    record("r_drop", {"first": a, "second": b, "targets": t},
           F.cross_entropy(a, t) + F.cross_entropy(b, t) + alpha / 2 * (kl(log[0], log[1]) + kl(log[1], log[0])),
           {"alpha": alpha}, ["first", "second"])
    mean = torch.logsumexp(torch.stack(log), 0) - math.log(3)
    record("jensen_shannon", {"first": a, "second": b, "third": c}, sum(kl(p, mean) for p in log) / 3,
           wrt=["first", "second", "third"])
    top, hard = log[0].detach().exp().max(1)
    if (top - threshold).abs().min() > 1e-5:
        mask = (top >= threshold).double()
        record("fixmatch", {"weak": a.detach(), "strong": b}, (F.cross_entropy(b, hard, reduction="none") * mask).mean(),
               {"threshold": threshold}, ["strong"])
        each = F.kl_div(log[1], F.log_softmax(a.detach() / tau, 1), log_target=True, reduction="none").sum(1)
        record("uda", {"weak": a.detach(), "strong": b}, (each * mask).mean(),
               {"threshold": threshold, "temperature": tau}, ["strong"])
    record("mean_teacher", {"student": b, "teacher": a.detach()},
           F.mse_loss(F.softmax(b, 1), F.softmax(a.detach(), 1)), wrt=["student"])
    record("pi_model", {"first": a, "second": b}, F.mse_loss(F.softmax(a, 1), F.softmax(b, 1)), wrt=["first", "second"])

for _ in range(4):
    n, k, bins = whole(30, 60), whole(2, 5), whole(3, 20)
    z = draw(n, k, scale=magnitude(0.5, 6))
    y = torch.tensor(np.where(rng.uniform(size=n) < 0.6, z.argmax(1).numpy(), rng.integers(k, size=n)))
    beta = torch.tensor(1.0, requires_grad=True)
    for _ in range(300):
        (slope,) = torch.autograd.grad(F.cross_entropy(z * beta, y), beta, create_graph=True)
        (bend,) = torch.autograd.grad(slope, beta)
        beta = (beta - torch.clamp(slope / bend, -0.1, 0.1)).detach().requires_grad_()
    if 0.02 < beta.item() < 50:
        record("temperature", {"logits": z, "labels": y.double()}, 1 / beta)
    top, guess = F.softmax(z, 1).max(1)
    edges = torch.linspace(0, 1, bins + 1)
    if (top[:, None] - edges).abs().min() > 1e-5:
        inside = (top[:, None] > edges[:-1]) & (top[:, None] <= edges[1:])
        gaps = ((guess == y).double() - top) @ inside.double()
        record("calibration_error", {"logits": z, "labels": y.double()}, gaps.abs().sum() / n, {"bins": bins})

for _ in range(4):
    n, t, f = whole(1, 4), whole(1, 6), whole(1, 5)
    raw, dropped, hidden = (draw(*shape).requires_grad_() for shape in [(n, t, f), (n, t, f), (n, f)])
    alpha, beta, s = uniform(0, 4), uniform(0, 4), magnitude(0.01, 3)
    tar = (raw[:, 1:] - raw[:, :-1]).square().mean() if t > 1 else raw.sum() * 0
    record("activation", {"dropped": dropped, "raw": raw}, alpha * dropped.square().mean() + beta * tar,
           {"alpha": alpha, "beta": beta}, ["dropped", "raw"])
    record("activity", {"hidden": hidden}, s * hidden.abs().sum() / n, {"strength": s, "l1": 1}, ["hidden"])
    x, a, b, one = draw(n, f), draw(f, t, scale=0.7), draw(t, 3), draw(t, 1)
    a.requires_grad_(), b.requires_grad_(), one.requires_grad_()
    jacobians = [torch.autograd.functional.jacobian(lambda x: torch.tanh(x @ a) @ b, row, create_graph=True) for row in x]
    record("jacobian", {"x": x, "a": a, "b": b}, s * torch.stack(jacobians).square().sum((1, 2)).mean(),
           {"strength": s}, ["a", "b"])
    tracked = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad((torch.tanh(tracked @ a) @ one).sum(), tracked, create_graph=True)
    norm = slope.norm(dim=1)
    record("gradient_penalty", {"x": x, "a": a, "b": one}, s * (norm - 1).square().mean(),
           {"r1": 0, "strength": s}, ["a", "b"])
    record("gradient_penalty", {"x": x, "a": a, "b": one}, s / 2 * norm.square().mean(),
           {"r1": 1, "strength": s}, ["a", "b"])

for c, h, w, kind in [(1, 1, 1, "any"), (3, 1, 7, "any"), (3, 6, 2, "flat"), (1, 9, 9, "narrow"), (3, 8, 10, "narrow")]:
    image = {"any": rng.integers(256, size=(c, h, w)), "flat": np.full((c, h, w), 77),
             "narrow": np.clip(rng.normal(size=(c, h, w)) * 20 + 120, 0, 255)}[kind]
    image = torch.tensor(image.astype(np.uint8))
    unit = (image.float() / 255).double()
    for _ in range(2):
        degrees, move, scale = uniform(-180, 180), [whole(-3, 3), whole(-3, 3)], magnitude(0.3, 3)
        shear = [uniform(-60, 60), uniform(-60, 60)]
        moved = V.affine(unit, degrees, move, scale, shear, interpolation=V.InterpolationMode.BILINEAR)
        record("affine", {"image": unit}, moved, {"degrees": degrees, "right": move[0], "down": move[1], "scale": scale,
                                                  "shear_x": shear[0], "shear_y": shear[1]})
        factor, threshold, bits = uniform(0, 3), uniform(0, 1), whole(1, 8)
        record("brightness", {"image": unit}, V.adjust_brightness(unit, factor), {"factor": factor})
        record("contrast", {"image": unit}, V.adjust_contrast(unit, factor), {"factor": factor})
        record("saturation", {"image": unit}, V.adjust_saturation(unit, factor), {"factor": factor})
        record("sharpness", {"image": unit}, V.adjust_sharpness(unit, factor), {"factor": factor})
        if (unit - threshold).abs().min() > 1e-5:
            record("solarize", {"image": unit}, V.solarize(unit, threshold), {"threshold": threshold})
        record("posterize", {"image": unit}, v2.functional.posterize(unit, bits), {"bits": bits})
    record("auto_contrast", {"image": unit}, V.autocontrast(unit))
    record("equalize", {"image": unit}, V.equalize(image).double() / 255)
    record("flip_horizontal", {"image": unit}, V.hflip(unit))
    record("flip_vertical", {"image": unit}, V.vflip(unit))

for _ in range(6):
    n, c, h, w, k = whole(1, 5), whole(1, 3), whole(1, 8), whole(1, 8), whole(2, 4)
    images, labels, lam = draw(n, c, h, w), torch.tensor(rng.integers(k, size=n)), uniform(0, 1)
    inputs = {"images": images, "targets": F.one_hot(labels, k).double()}

    def mixed(mixer, params):
        return torch.cat([mixer.transform(part, params).flatten() for part in (images, labels)])

    args = {"lambda": lam, "partners": [(row - 1) % n for row in range(n)]}
    params = {"labels": labels, "batch_size": n}
    record("mixup", inputs, mixed(v2.MixUp(num_classes=k), params | {"lam": lam}), args)
    mixer = v2.CutMix(num_classes=k)
    mixer._dist = type("Fixed", (), {"sample": lambda self, _: lam})()
    state = torch.random.get_rng_state()
    x, y = int(torch.randint(w, size=(1,))), int(torch.randint(h, size=(1,)))
    torch.random.set_rng_state(state)
    record("cutmix", inputs, mixed(mixer, params | mixer.make_params([images])), args | {"x": x, "y": y})
    if n % 2 == 0:
        smoothing = uniform(0, 0.5)
        mixer = timm.data.mixup.Mixup(mode="batch", label_smoothing=smoothing, num_classes=k)
        mixer._params_per_batch = lambda: (lam, False)
        record("mixup", inputs, torch.cat([part.flatten() for part in mixer(images.clone(), labels)]),
               {"lambda": lam, "smoothing": smoothing, "partners": list(range(n))[::-1]})


def statistics(name, args, shape, y, unit):
    """Share kept, mean and variance of a draw on ones; `unit` elements are dropped together."""
    y = y.double().reshape(-1, unit).numpy()
    found = {}
    for what, each in [("kept", (y != 0).astype(float)), ("mean", y), ("variance", (y - y.mean()) ** 2)]:
        means = each.mean(1)
        found[what] = [float(f"{v:.10g}") for v in (means.mean(), means.std() / math.sqrt(len(means)))]
    cases["dropout"].append({"name": name, "args": args, "shape": shape, "input": "ones",
                             "seed": whole(0, 999), "statistics": found})


# Near a half the squares hardly differ, so that the spread within one draw says nothing of the variance's error.
for p in (0.02, 0.5, 0.95):
    statistics("inverted", {"prob": p}, [500, 400], F.dropout(torch.ones(500, 400), p, True), 1)
    statistics("spatial", {"prob": p}, [200, 100, 2, 3], F.dropout2d(torch.ones(200, 100, 2, 3), p, True), 6)
for p, size, h, w in [(0.495, 1, 10, 14), (0.37, 7, 12, 12), (0.3, 3, 9, 15)]:
    maps = torchvision.ops.drop_block2d(torch.ones(300, 10, h, w), p, size, training=True)
    statistics("drop_block", {"prob": p, "block_size": size}, [300, 10, h, w], maps, h * w)

lists = [f'"{kind}": [\n' + ",\n".join(json.dumps(case) for case in group) + "\n]" for kind, group in cases.items()]
print("{" + ",\n".join(lists) + "}")
