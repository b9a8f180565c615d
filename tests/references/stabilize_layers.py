"""Makes stabilize_layers.json: weights in other coordinates, rules per unit, curvature and logits by torch and timm.

Pinned: torch 2.15.0, timm 1.0.31. Run from this folder: python stabilize_layers.py
"""

import json
import math

import torch
from timm.utils.agc import adaptive_clip_grad

torch.manual_seed(7)
torch.set_num_threads(1)
F64 = torch.float64


def flat(tensor):
    return [float(f"{x:.9g}") for x in tensor.detach().flatten().tolist()]


def gradients(value, slopes, *leaves):
    """Those of the sum of `value` times `slopes`."""
    return torch.autograd.grad((value * slopes).sum(), leaves)


# Layer, shape of its weight in torch, axis of the units, size.
LAYERS = [
    ("conv", (5, 3, 3, 3), 0, 0.3),
    ("transposed", (3, 5, 3, 3), 1, 5.0),
    ("conv", (2, 4, 1, 1), 0, 0.01),
    ("linear", (4, 6), 0, 1.0),
    ("linear", (6, 4), 0, 0.2),
]


def layer(kind, shape, axis, size):
    weight = size * torch.randn(shape, dtype=F64)
    slopes = torch.randn(shape, dtype=F64)
    others = [d for d in range(len(shape)) if d != axis]
    case = {"kind": kind, "shape": shape, "weight": flat(weight), "slopes": flat(slopes)}

    v = weight.clone().requires_grad_()
    g = torch.linalg.vector_norm(weight, dim=others, keepdim=True).requires_grad_()
    normed = torch._weight_norm(v, g, axis)
    case["weight_norm"] = [flat(normed)] + [flat(x) for x in gradients(normed, slopes, v, g)]

    matrix = v.transpose(0, axis).reshape(shape[axis], -1)
    spectral = v / torch.linalg.matrix_norm(matrix, 2)
    case["spectral_norm"] = [flat(spectral)] + [flat(x) for x in gradients(spectral, slopes, v)]

    centred = v - v.mean(dim=others, keepdim=True)
    deviation = centred.square().mean(dim=others, keepdim=True).sqrt()
    standard = centred / (deviation + 1e-6)
    case["standardized"] = [flat(standard)] + [flat(x) for x in gradients(standard, slopes, v)]

    # Both rules take the first axis for that of the units.
    parameter = torch.nn.Parameter(weight.transpose(0, axis).clone())
    parameter.grad = slopes.transpose(0, axis).clone()
    adaptive_clip_grad([parameter], clip_factor=0.05, eps=1e-3)
    case["agc"] = flat(parameter.grad.transpose(0, axis).contiguous())
    case["centralized"] = flat(slopes - slopes.mean(dim=others, keepdim=True))
    return case


def curvature(seed):
    """A tanh net 5-7-3 under the mean squared error: weights [in, out] and biases in one vector."""
    torch.manual_seed(seed)
    inputs, targets = torch.randn(20, 5, dtype=F64), torch.randn(20, 3, dtype=F64)
    vector = 0.5 * torch.randn(66, dtype=F64)
    direction = torch.randn(66, dtype=F64)

    def loss(vector):
        w1, b1, w2, b2 = vector.split([35, 7, 21, 3])
        hidden = torch.tanh(inputs @ w1.reshape(5, 7) + b1)
        return (hidden @ w2.reshape(7, 3) + b2 - targets).square().mean()

    hessian = torch.autograd.functional.hessian(loss, vector)
    return {
        "inputs": flat(inputs),
        "targets": flat(targets),
        "vector": flat(vector),
        "direction": flat(direction),
        "product": flat(hessian @ direction),
        "eigenvalues": flat(torch.linalg.eigvalsh(hessian)),
    }


def z_loss(rows, classes, size):
    logits = (size * torch.randn(rows, classes, dtype=F64)).requires_grad_()
    loss = 0.01 * torch.logsumexp(logits, 1).square().mean()
    (gradient,) = torch.autograd.grad(loss, logits)
    return {"shape": [rows, classes], "logits": flat(logits), "loss": loss.item(), "gradient": flat(gradient)}


def dirac(*shape):
    return {"shape": shape, "weight": flat(torch.nn.init.dirac_(torch.empty(shape)))}


KERNELS = [(4, 2, 3), (2, 4, 3), (3, 3, 4), (2, 4, 2, 5), (3, 3, 4, 4), (2, 3, 2, 4, 3)]
made = {
    "layers": [layer(*case) for case in LAYERS],
    "curvature": [curvature(seed) for seed in (100, 101)],
    "z_loss": [z_loss(3, 5, 1.0), z_loss(8, 10, 30.0), z_loss(1, 1, 2.0)],
    "dirac": [dirac(*shape) for shape in KERNELS],
}
assert math.isfinite(sum(made["curvature"][0]["product"]))
with open("stabilize_layers.json", "w") as file:
    json.dump(made, file, separators=(",", ":"))
    file.write("\n")
