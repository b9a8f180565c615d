"""Makes stabilize_clip.json: clipping cases of torch.nn.utils.

Pinned: torch 2.15.0. Run from this folder: python stabilize_clip.py
"""

import json
import math

import torch

torch.manual_seed(20)
NORMS = {"1": 1.0, "2": 2.0, "inf": float("inf")}
SHAPES = [[[4, 3], [3]], [[1]], [[2, 3, 2, 2], [5], [7, 1]], [[1, 1, 1], [3]], [[9, 7], [7]]]
# Values that stand at random places of otherwise usual gradients.
SPECIAL = [
    [math.nan],
    [math.inf],
    [-math.inf],
    [math.inf, -math.inf],
    [math.inf, math.nan],
    [2e22],
    [-3e38, 3e38],
    [1e-40],
    [-0.0],
    [1.8e19],
]
cases = []


def number(value):
    """JSON has neither NaN nor infinity."""
    return value if math.isfinite(value) else str(value)


def flat(tensors):
    return [[number(x) for x in t.flatten().tolist()] for t in tensors]


def parameters(shapes, scale, special=()):
    out = []
    for shape in shapes:
        parameter = torch.nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.randn(shape) * scale
        out.append(parameter)
    for value in special:
        grad = out[torch.randint(len(out), ()).item()].grad.view(-1)
        grad[torch.randint(len(grad), ()).item()] = value
    return out


def clip_norm(shapes, ps, kind, max_norm):
    before = flat(p.grad for p in ps)
    norm = torch.nn.utils.clip_grad_norm_(ps, max_norm, NORMS[kind])
    after = flat(p.grad for p in ps)
    cases.append(
        {
            "name": "clip_grad_norm",
            "shapes": shapes,
            "before": before,
            "max_norm": max_norm,
            "norm_type": kind,
            "norm": number(float(norm)),
            "after": after,
        }
    )


def clip_value(shapes, ps, max_value):
    before = flat(p.grad for p in ps)
    torch.nn.utils.clip_grad_value_(ps, max_value)
    after = flat(p.grad for p in ps)
    cases.append(
        {
            "name": "clip_grad_value",
            "shapes": shapes,
            "before": before,
            "max_value": max_value,
            "after": after,
        }
    )


for shapes in SHAPES:
    for kind in NORMS:
        for scale, max_norm in ((1.0, 1.3), (1e-4, 1.0), (1e6, 0.5), (0.0, 1.0), (1e-42, 1e-3)):
            clip_norm(shapes, parameters(shapes, scale), kind, max_norm)
    clip_value(shapes, parameters(shapes, 2.0), 0.7)
for shapes in SHAPES[:3]:
    for special in SPECIAL:
        for kind in NORMS:
            clip_norm(shapes, parameters(shapes, 1.0, special), kind, 0.8)
        clip_value(shapes, parameters(shapes, 1.0, special), 0.8)
clip_norm([[0], [3]], parameters([[0], [3]], 4.0), "2", 1.0)

with open("stabilize_clip.json", "w") as file:
    json.dump({"clips": cases}, file, allow_nan=False)
    file.write("\n")
