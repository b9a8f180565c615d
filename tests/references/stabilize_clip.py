"""Makes stabilize_clip.json: clipping cases of torch.nn.utils.

Pinned: torch 2.15.0. Run from this folder: python stabilize_clip.py
"""

import json

import torch

torch.manual_seed(20)
cases = []


def parameters(shapes, scale):
    out = []
    for shape in shapes:
        parameter = torch.nn.Parameter(torch.zeros(shape))
        parameter.grad = torch.randn(shape) * scale
        out.append(parameter)
    return out


def flat(tensors):
    return [t.flatten().tolist() for t in tensors]


SHAPES = [[[4, 3], [3]], [[1]], [[2, 3, 2, 2], [5], [7, 1]], [[1, 1, 1], [3]]]
for shapes in SHAPES:
    for norm_type in (1.0, 2.0, float("inf")):
        for scale, max_norm in ((1.0, 1.3), (1e-4, 1.0), (1e6, 0.5)):
            ps = parameters(shapes, scale)
            before = flat(p.grad for p in ps)
            norm = torch.nn.utils.clip_grad_norm_(ps, max_norm, norm_type)
            cases.append(
                {
                    "name": "clip_grad_norm",
                    "shapes": shapes,
                    "before": before,
                    "max_norm": max_norm,
                    "norm_type": {1.0: "1", 2.0: "2"}.get(norm_type, "inf"),
                    "norm": float(norm),
                    "after": flat(p.grad for p in ps),
                }
            )
    ps = parameters(shapes, 2.0)
    before = flat(p.grad for p in ps)
    torch.nn.utils.clip_grad_value_(ps, 0.7)
    cases.append(
        {
            "name": "clip_grad_value",
            "shapes": shapes,
            "before": before,
            "max_value": 0.7,
            "after": flat(p.grad for p in ps),
        }
    )

with open("stabilize_clip.json", "w") as file:
    json.dump(cases, file)
    file.write("\n")
