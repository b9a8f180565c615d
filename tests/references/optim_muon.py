"""Records Muon in f64, written in NumPy from the update in the head of rule/muon.rs, for `cargo xtask replay`.

    python optim_muon.py > optim_muon.json

Pinned: numpy 2.4.6. PyTorch runs the iteration in bf16, so that its records bound a replay to 5 % of a step; these bound
it to the rounding of f32. Both layouts of a weight, the three scales, matrices higher and wider than square, 8 steps.
"""

import json
import math

import numpy as np

A, B, C = 3.4445, -4.775, 2.0315


def orthogonal(g, steps=5, epsilon=1e-7):
    x = g / max(math.sqrt(np.sum(g * g)), epsilon)
    high = x.shape[0] > x.shape[1]
    x = x.T if high else x
    for _ in range(steps):
        gram = x @ x.T
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.T if high else x


def scale(name, out, inputs):
    return {
        "Original": math.sqrt(max(1, out / inputs)),
        "MatchRmsAdamW": 0.2 * math.sqrt(max(out, inputs)),
        "Spectral": math.sqrt(out / inputs),
    }[name]


def muon(init, grads, lr, momentum, nesterov, name, fan_out, weight_decay):
    p, b, path = init, np.zeros_like(init), []
    for g in grads:
        b = momentum * b + (1 - momentum) * g
        d = (1 - momentum) * g + momentum * b if nesterov else b
        # burn has the outputs along the columns, PyTorch along the rows.
        out, inputs = p.shape if fan_out == "First" else p.shape[::-1]
        x = orthogonal(d if fan_out == "First" else d.T)
        x = x if fan_out == "First" else x.T
        p = (1 - lr * weight_decay) * p - lr * scale(name, out, inputs) * x
        path.append(p)
    return path


def main():
    cases, seed, lr = [], 0, 0.02
    for shape in [(2, 5), (5, 2)]:
        for name in ["Original", "MatchRmsAdamW", "Spectral"]:
            for fan_out in ["First", "Burn"]:
                seed += 1
                rng = np.random.default_rng(seed)
                draw = lambda: rng.normal(size=shape).astype(np.float32).astype(np.float64)
                init, grads = draw(), [draw() for _ in range(8)]
                momentum, nesterov, weight_decay = [0.95, 0.9][seed % 2], seed % 3 > 0, 0.1 * (seed % 2)
                path = muon(init, grads, lr, momentum, nesterov, name, fan_out, weight_decay)
                exact = lambda x: [float(v) for v in x.reshape(-1)]
                flat = lambda x: [float(f"{v:.11g}") for v in x.reshape(-1)]
                hyper = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "scale": name,
                         "fan_out": fan_out}
                cases.append({"name": "muon", "lr": lr, "hyper": hyper, "shape": list(shape), "init": exact(init),
                              "grads": [exact(g) for g in grads], "params": [flat(p) for p in path]})
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    print('{"optimizers":[\n' + lines + "\n]}")


main()
