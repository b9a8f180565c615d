"""Records losses, schedules and adapters of torch, timm and peft as cases for the tests of firebrick-transfer.

    python transfer.py > transfer.json

Pinned: torch 2.15.0, timm 1.0.31, peft 0.21.2, numpy 2.4.6. Derivatives are torch's autograd. Inputs are exact in f32;
weights are in burn's layout (linear layers [in, out]), factors of adapters as [in, rank] and [rank, out].
"""

import json
import math

import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(8)
cases = []


def draw(*shape, scale=1.0):
    return torch.tensor((rng.normal(size=shape) * scale).astype(np.float32).astype(np.float64))


def flat(x):
    return [float(f"{v:.12g}") for v in x.detach().double().reshape(-1).tolist()]


def tensor(x):
    return {"shape": list(x.shape), "data": flat(x)}


def record(name, inputs, output, args=None, wrt=()):
    case = {"name": name, "args": args or {}, "inputs": {k: tensor(v) for k, v in inputs.items()}, "output": flat(output)}
    if wrt:
        grads = torch.autograd.grad(output.sum(), [inputs[k] for k in wrt], allow_unused=True, retain_graph=True)
        case["gradients"] = {k: flat(g if g is not None else torch.zeros_like(inputs[k])) for k, g in zip(wrt, grads)}
    cases.append(case)


# Distillation: torch's own divergence, with the factor T^2.
for rows, classes, temperature in [(4, 3, 1.0), (5, 10, 2.0), (1, 2, 4.0), (8, 6, 20.0)]:
    student, teacher = draw(rows, classes, scale=2).requires_grad_(), draw(rows, classes, scale=2)
    divergence = F.kl_div(F.log_softmax(student / temperature, 1), F.log_softmax(teacher / temperature, 1),
                          reduction="batchmean", log_target=True) * temperature ** 2
    record("distillation", {"student": student, "teacher": teacher}, divergence, {"temperature": temperature}, ["student"])
    targets = torch.tensor(rng.integers(0, classes, rows))
    for alpha in (0.0, 0.9):
        loss = (1 - alpha) * F.cross_entropy(student, targets) + alpha * divergence
        record("hinton", {"student": student, "teacher": teacher, "targets": targets}, loss,
               {"temperature": temperature, "alpha": alpha}, ["student"])
    new = draw(rows, 4).requires_grad_()
    labels = torch.tensor(rng.integers(0, 4, rows))
    record("lwf", {"new": new, "targets": labels, "old": student, "recorded": teacher},
           F.cross_entropy(new, labels) + 4 * divergence, {"temperature": temperature, "weight": 4.0}, ["new", "old"])

# BSS: torch's differentiable singular values against the identity without them.
for rows, columns, k in [(5, 3, 1), (3, 6, 2), (4, 4, 1), (8, 5, 5)]:
    features = draw(rows, columns).requires_grad_()
    singular = torch.linalg.svdvals(features)
    record("bss", {"features": features}, singular[-k:].square().sum(), {"k": k}, ["features"])

# Co-Tuning.
for rows, classes, source in [(9, 3, 5), (6, 2, 4)]:
    answers = draw(rows, source, scale=2)
    targets = torch.arange(rows) % classes
    relationship = torch.stack([answers.softmax(1)[targets == c].mean(0) for c in range(classes)])
    record("relationship", {"answers": answers, "targets": targets}, relationship, {"classes": classes})
    target_logits, source_logits = draw(rows, classes).requires_grad_(), draw(rows, source).requires_grad_()
    loss = F.cross_entropy(target_logits, targets) + 2.3 * F.cross_entropy(source_logits, relationship[targets])
    record("co_tuning", {"answers": answers, "targets": targets, "target": target_logits, "source": source_logits}, loss,
           {"classes": classes, "lambda": 2.3}, ["target", "source"])

# DELTA.
for shape in [(2, 3, 4, 4), (3, 5, 2, 3)]:
    maps, source = draw(*shape).requires_grad_(), draw(*shape)
    n, c, h, w = shape
    without = draw(c).abs()
    weights = F.softmax((without - 0.3) / 5, 0)
    record("channel_weights", {"without": without}, weights, {"loss": 0.3, "scale": 5.0})
    distance = torch.linalg.vector_norm((maps - source).reshape(n, c, h * w), dim=2).square()
    record("delta", {"maps": maps, "source": source, "weights": weights},
           0.5 * (weights * distance).sum() * c / (h * w) / n, {}, ["maps"])

# L2-SP.
for alpha, beta in [(0.01, 0.01), (0.1, 0.0), (1.0, 0.5)]:
    weight, bias, head = draw(3, 4).requires_grad_(), draw(4).requires_grad_(), draw(4, 2).requires_grad_()
    w0, b0 = draw(3, 4), draw(4)
    term = alpha / 2 * ((weight - w0).square().sum() + (bias - b0).square().sum()) + beta / 2 * head.square().sum()
    record("l2_sp", {"weight": weight, "bias": bias, "head": head, "w0": w0, "b0": b0}, term,
           {"alpha": alpha, "beta": beta}, ["weight", "bias", "head"])

# Decoupled L2-SP: AdamW on w - w0.
for strength in (0.1, 2.0):
    w0, w = draw(3, 2), draw(3, 2)
    delta = torch.nn.Parameter(w - w0)
    optimizer = torch.optim.AdamW([delta], lr=0.05, weight_decay=strength)
    grads = [draw(3, 2) for _ in range(6)]
    path = []
    for grad in grads:
        delta.grad = grad.clone()
        optimizer.step()
        path.append((w0 + delta).detach().clone())
    record("decoupled", {"w": w, "w0": w0, "grads": torch.stack(grads)}, torch.stack(path), {"lr": 0.05, "strength": strength})

# Linear CKA by its definition over columns.
for rows, left, right in [(6, 3, 4), (4, 7, 2)]:
    x, y = draw(rows, left), draw(rows, right)
    xc, yc = x - x.mean(0), y - y.mean(0)
    norm = torch.linalg.matrix_norm
    record("cka", {"x": x, "y": y}, norm(yc.T @ xc) ** 2 / (norm(xc.T @ xc) * norm(yc.T @ yc)))

# timm's layer decay on its own vision transformer: one factor a layer.
import timm
from timm.optim import param_groups_layer_decay

vit = timm.create_model("vit_tiny_patch16_224", depth=5, num_classes=3)
for decay, floor in [(0.75, 0.0), (0.65, 0.2), (0.9, 0.0)]:
    groups = param_groups_layer_decay(vit, weight_decay=0.0, layer_decay=decay, min_scale=floor)
    scales = sorted({round(g["lr_scale"], 12) for g in groups})
    layers = 7  # embedding, five blocks, head
    all_scales = [max(floor, decay ** (layers - 1 - i)) for i in range(layers)]
    assert scales == sorted({round(s, 12) for s in all_scales}), (scales, all_scales)
    record("layer_decay", {}, torch.tensor(all_scales), {"layers": layers, "decay": decay, "min_scale": floor})

# fastai 2.8.12's one cycle, from its formulas (combined_cos over pct_train = k / n), and ULMFiT's triangle.
def cosine(start, end, p):
    return start + (1 + math.cos(math.pi * (1 - p))) * (end - start) / 2

for steps, start, div in [(10, 0.3, 5.0), (37, 0.25, 25.0), (50, 0.99, 25.0)]:
    def combined(values, p):
        return cosine(values[0], values[1], p / start) if p < start else cosine(values[1], values[2], (p - start) / (1 - start))
    rates = [combined((2e-3 / div, 2e-3, 2e-3 / 1e5), k / steps) for k in range(steps)]
    momenta = [combined((0.95, 0.85, 0.95), k / steps) for k in range(steps)]
    record("one_cycle", {}, torch.tensor(rates + momenta), {"rate": 2e-3, "steps": steps, "start": start, "div": div})
for steps in (30, 101):
    cut = math.floor(steps * 0.1)
    share = [t / cut if t < cut else 1 - (t - cut) / (cut * (1 / 0.1 - 1)) for t in range(steps)]
    record("triangle", {}, torch.tensor([0.01 * (1 + p * 31) / 32 for p in share]), {"rate": 0.01, "steps": steps})

# Adapters of peft: the effective weight, and the gradients of its squared sum weighted by a fixed matrix.
import peft


class One(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.fc = layer


def weight_of(w):
    return w.T if w.dim() == 2 else w


def adapters(name, config, layer, args, parts):
    torch.manual_seed(1)
    model = peft.get_peft_model(One(layer), config)
    fc = model.base_model.model.fc
    with torch.no_grad():
        for parameter in [p for n, p in model.named_parameters() if p.requires_grad]:
            parameter.copy_(parameter + draw(*parameter.shape, scale=0.3))
            parameter.copy_(parameter.float().double())
    base = fc.get_base_layer().weight.detach().clone()
    inputs = {"base": weight_of(base), **parts(fc)}
    model.merge_adapter()
    record(name, inputs, weight_of(fc.get_base_layer().weight), args)


def linear(n_in, n_out):
    layer = torch.nn.Linear(n_in, n_out, bias=False)
    with torch.no_grad():
        layer.weight.copy_(draw(n_out, n_in))
    return layer


def conv(n_in, n_out, k):
    layer = torch.nn.Conv2d(n_in, n_out, k, bias=False)
    with torch.no_grad():
        layer.weight.copy_(draw(n_out, n_in, k, k))
    return layer


def lora_parts(fc):
    a, b = fc.lora_A["default"].weight, fc.lora_B["default"].weight
    rank = a.shape[0]
    parts = {"a": a.reshape(rank, -1).T, "b": b.reshape(b.shape[0], rank).T}
    if "default" in getattr(fc, "lora_magnitude_vector", {}):
        parts["magnitude"] = fc.lora_magnitude_vector["default"].weight.reshape(-1)
    return parts


for layer, r, alpha, rs in [(linear(6, 4), 2, 4, False), (linear(3, 7), 1, 16, False), (linear(8, 8), 4, 4, True),
                            (conv(3, 4, 3), 2, 4, False), (conv(2, 5, 1), 1, 3, True)]:
    scale = alpha / math.sqrt(r) if rs else alpha / r
    config = peft.LoraConfig(r=r, lora_alpha=alpha, use_rslora=rs, target_modules=["fc"])
    adapters("lora", config, layer, {"scale": scale, "rank": r, "alpha": alpha, "root": rs}, lora_parts)
for layer, r in [(linear(6, 4), 2), (linear(4, 9), 3), (conv(3, 4, 3), 2)]:
    config = peft.LoraConfig(r=r, lora_alpha=4, use_dora=True, target_modules=["fc"])
    adapters("dora", config, layer, {"scale": 4 / r}, lora_parts)


def vera_parts(fc):
    a, b = fc.vera_A["default"], fc.vera_B["default"]
    n_out, n_in = fc.get_base_layer().weight.shape
    return {"down": a[:, :n_in].T, "up": b[:n_out].T, "d": fc.vera_lambda_d["default"], "b": fc.vera_lambda_b["default"]}


for n_in, n_out, r in [(6, 4, 3), (5, 8, 2)]:
    adapters("vera", peft.VeraConfig(r=r, target_modules=["fc"]), linear(n_in, n_out), {}, vera_parts)

for n_in, n_out, by_input in [(6, 4, False), (4, 5, True)]:
    config = peft.IA3Config(target_modules=["fc"], feedforward_modules=["fc"] if by_input else [])
    adapters("ia3", config, linear(n_in, n_out), {"by_input": by_input},
             lambda fc: {"scale": fc.ia3_l["default"].reshape(-1)})

for n_in, n_out, r, alpha in [(6, 4, 2, 2), (5, 5, 3, 6)]:
    layer = linear(n_in, n_out)
    whole = layer.weight.detach().clone()
    model = peft.get_peft_model(One(layer.float()), peft.LoraConfig(r=r, lora_alpha=alpha, init_lora_weights="pissa", target_modules=["fc"]))
    fc = model.base_model.model.fc
    rest = fc.get_base_layer().weight.detach().double()
    product = (fc.lora_B["default"].weight @ fc.lora_A["default"].weight).detach().double() * alpha / r
    record("pissa", {"weight": whole.T}, torch.cat([rest.T.reshape(-1), product.T.reshape(-1)]), {"rank": r, "alpha": alpha})

# Gradients through LoRA's and DoRA's effective weight: the length is a constant in the backward pass.
for n_in, n_out, r in [(5, 4, 2), (3, 6, 1)]:
    base, a, b, mix = draw(n_in, n_out), draw(n_in, r).requires_grad_(), draw(r, n_out).requires_grad_(), draw(n_in, n_out)
    scale = 1.5
    record("lora_gradient", {"base": base, "a": a, "b": b, "mix": mix}, ((base + scale * a @ b) * mix).sum(), {"scale": scale}, ["a", "b"])
    m = (base.square().sum(0).sqrt() * 1.1).float().double().requires_grad_()
    v = base + scale * a @ b
    record("dora_gradient", {"base": base, "a": a, "b": b, "magnitude": m, "mix": mix},
           (v * (m / v.square().sum(0).sqrt().detach()) * mix).sum(), {"scale": scale}, ["a", "b", "magnitude"])

print(json.dumps({"versions": {"torch": torch.__version__, "timm": timm.__version__, "peft": peft.__version__},
                  "transfer": cases}, indent=None, separators=(",", ":")).replace('{"name"', '\n{"name"'))
