"""Records trajectories of optimizers from other libraries, in f64, as cases for `cargo xtask replay`.

    python optim.py > optim.json

Pinned: torch 2.15.0, timm 1.0.31, pytorch_optimizer 4.1.0, numpy 2.4.6. Only classes that follow the published rule
are recorded; where a library departs from it (pytorch_optimizer's LAMB, for one), an f64 model from the paper below
takes its place. Starting values and gradients are exact in f32, so that a replay in f32 differs by rounding alone.
"""

import json
import math

import numpy as np
import torch

torch.set_default_dtype(torch.float64)


def draws(seed, shape, steps):
    rng = np.random.default_rng(seed)
    f32 = lambda x: np.asarray(x, dtype=np.float32).astype(np.float64)
    init = f32(rng.normal(size=shape))
    scale = 10.0 ** rng.uniform(-1.5, 0.5)
    return init, [f32(rng.normal(size=shape) * scale) for _ in range(steps)]


def flat(x):
    return [float(f"{v:.11g}") for v in np.asarray(x).reshape(-1)]


def case(name, lr, hyper, shape, run, seed, steps):
    init, grads = draws(seed, shape, steps)
    params = run(init, grads)
    exact = lambda x: [float(v) for v in np.asarray(x).reshape(-1)]
    return {"name": name, "lr": lr, "hyper": hyper, "shape": list(shape), "init": exact(init),
            "grads": [exact(g) for g in grads], "params": [flat(p) for p in params]}


def library(make):
    """Steps one tensor with a torch-like optimizer."""
    def run(init, grads):
        p = torch.nn.Parameter(torch.tensor(init))
        optimizer = make([p])
        if hasattr(optimizer, "train"):
            optimizer.train()
        path = []
        for g in grads:
            p.grad = torch.tensor(g)
            optimizer.step()
            path.append(p.detach().numpy().copy())
        return path
    return run


def model(rule):
    """Steps one tensor with a function (t, p, g, state) -> p, from the paper."""
    def run(init, grads):
        p, state, path = init.copy(), {}, []
        for t, g in enumerate(grads, 1):
            p = rule(t, p, g, state)
            path.append(p.copy())
        return path
    return run


def moments(t, g, s, b1, b2):
    s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
    return s["m"] / (1 - b1**t), s["v"] / (1 - b2**t)


def lamb(lr, b1, b2, eps, wd):
    def rule(t, p, g, s):
        m, v = moments(t, g, s, b1, b2)
        u = m / (np.sqrt(v) + eps) + wd * p
        a, b = np.linalg.norm(p), np.linalg.norm(u)
        return p - lr * (a / b if a > 0 and b > 0 else 1) * u
    return rule


def lars(lr, mu, tc, wd, nesterov):
    def rule(t, p, g, s):
        a, b = np.linalg.norm(p), np.linalg.norm(g)
        q = tc * a / (b + wd * a + 1e-8) if a > 0 and b > 0 else 1
        d = q * (g + wd * p)
        s["b"] = d if t == 1 else mu * s["b"] + d
        return p - lr * (d + mu * s["b"] if nesterov else s["b"])
    return rule


def laprop(lr, b1, b2, eps):
    def rule(t, p, g, s):
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * lr * g / (np.sqrt(s["v"] / (1 - b2**t)) + eps)
        return p - s["m"] / (1 - b1**t)
    return rule


def adopt(lr, b1, b2, eps, wd):
    def rule(t, p, g, s):
        g = g + wd * p
        if t == 1:
            s["v"], s["m"] = g * g, 0
            return p
        u = np.clip(g / np.maximum(np.sqrt(s["v"]), eps), -((t - 1) ** 0.25), (t - 1) ** 0.25)
        s["m"] = b1 * s["m"] + (1 - b1) * u
        s["v"] = b2 * s["v"] + (1 - b2) * g * g
        return p - lr * s["m"]
    return rule


def atan2(lr, b1, b2, wd):
    def rule(t, p, g, s):
        m, v = moments(t, g, s, b1, b2)
        return (1 - lr * wd) * p - lr * 1.27 * np.arctan2(m, np.sqrt(v))
    return rule


def signum(lr, mu, wd):
    def rule(t, p, g, s):
        s["m"] = mu * s.get("m", 0) + (1 - mu) * g
        return (1 - lr * wd) * p - lr * np.sign(s["m"])
    return rule


def mars(lr, b1, b2, eps, gamma, wd):
    def rule(t, p, g, s):
        c = g + gamma * b1 / (1 - b1) * (g - s.get("g", 0))
        c = c / max(1, np.linalg.norm(c))
        s["g"] = g
        m, v = moments(t, c, s, b1, b2)
        return (1 - lr * wd) * p - lr * m / (np.sqrt(v) + eps)
    return rule


def adammini(lr, b1, b2, eps):
    def rule(t, p, g, s):
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * np.mean(g * g)
        return p - lr * s["m"] / (1 - b1**t) / (math.sqrt(s["v"] / (1 - b2**t)) + eps)
    return rule


def nadamw(lr, b1, b2, eps, wd):
    def rule(t, p, g, s):
        m, v = moments(t, g, s, b1, b2)
        n = (b1 * s["m"] + (1 - b1) * g) / (1 - b1**t)
        return (1 - lr * wd) * p - lr * n / (np.sqrt(v) + eps)
    return rule


def stableadamw(lr, b1, b2, eps, wd):
    def rule(t, p, g, s):
        h = lambda b: b * (1 - b ** (t - 1)) / (1 - b**t)
        s["m"] = h(b1) * s.get("m", 0) + (1 - h(b1)) * g
        s["v"] = h(b2) * s.get("v", 0) + (1 - h(b2)) * g * g
        r = math.sqrt(np.mean(g * g / np.maximum(s["v"], eps * eps)))
        a = lr / max(1, r)
        return (1 - a * wd) * p - a * s["m"] / (np.sqrt(s["v"]) + eps)
    return rule


def cautious_adamw(lr, b1, b2, eps, wd):
    def rule(t, p, g, s):
        m, v = moments(t, g, s, b1, b2)
        k = (s["m"] * g > 0).astype(float)
        k /= max(k.mean(), 1e-3)
        return (1 - lr * wd) * p - lr * m / (np.sqrt(v) + eps) * k
    return rule


def cautious_lion(lr, b1, b2, wd):
    def rule(t, p, g, s):
        m = s.get("m", np.zeros_like(g))
        u = np.sign(b1 * m + (1 - b1) * g)
        k = (u * g > 0).astype(float)
        s["m"] = b2 * m + (1 - b2) * g
        return (1 - lr * wd) * p - lr * u * k * k.size / (k.sum() + 1)
    return rule


def main():
    import pytorch_optimizer as po

    t = torch.optim
    cases, seed = [], 0

    def add(name, make, lr, shape=(4, 3), steps=10, **hyper):
        nonlocal seed
        seed += 1
        cases.append(case(name, lr, hyper, shape, library(lambda ps: make(ps, lr=lr, **{k: tuple(v) if isinstance(v, list) else v for k, v in hyper.items()})), seed, steps))

    def paper(name, rule, lr, shape=(4, 3), steps=10, **hyper):
        nonlocal seed
        seed += 1
        cases.append(case(name, lr, hyper, shape, model(rule), seed, steps))

    for shape in [(4, 3), (7,), (2, 3, 2, 2)]:
        add("sgd", t.SGD, 0.03, shape)
        add("sgd", t.SGD, 0.03, shape, momentum=0.85, dampening=0.2, weight_decay=0.04)
        add("sgd", t.SGD, 0.02, shape, momentum=0.9, nesterov=True, weight_decay=0.01)
        add("sgd", t.SGD, 0.02, shape, momentum=0.9, maximize=True, weight_decay=0.01)
        add("adam", t.Adam, 0.021, shape, betas=[0.85, 0.97], eps=1e-7, amsgrad=True, weight_decay=0.03)
        add("adamw", t.AdamW, 0.02, shape, betas=[0.9, 0.99], weight_decay=0.1)
    add("adam", t.Adam, 0.01)
    add("adam", t.Adam, 0.01, steps=60, betas=[0.5, 0.9], eps=1e-3)
    add("adamw", t.AdamW, 0.01, steps=60)
    add("adamw", t.AdamW, 0.01, amsgrad=True, maximize=True)
    add("adagrad", t.Adagrad, 0.05)
    add("adagrad", t.Adagrad, 0.05, lr_decay=0.02, weight_decay=0.1, initial_accumulator_value=0.2, eps=1e-6)
    add("rmsprop", t.RMSprop, 0.01)
    add("rmsprop", t.RMSprop, 0.01, alpha=0.9, momentum=0.8, weight_decay=0.05)
    add("rmsprop", t.RMSprop, 0.01, alpha=0.95, centered=True, eps=1e-5)
    add("rmsprop", t.RMSprop, 0.01, alpha=0.95, centered=True, momentum=0.7, eps=1e-5)
    add("adadelta", t.Adadelta, 1.0)
    add("adadelta", t.Adadelta, 0.7, rho=0.8, eps=1e-5, weight_decay=0.02)
    add("adamax", t.Adamax, 0.02)
    add("adamax", t.Adamax, 0.02, betas=[0.8, 0.95], weight_decay=0.05)
    add("nadam", t.NAdam, 0.02)
    add("nadam", t.NAdam, 0.02, betas=[0.8, 0.95], momentum_decay=0.01, weight_decay=0.05)
    add("nadam", t.NAdam, 0.02, weight_decay=0.05, decoupled_weight_decay=True)
    add("radam", t.RAdam, 0.02)
    add("radam", t.RAdam, 0.02, steps=30, betas=[0.8, 0.95], weight_decay=0.05)
    add("radam", t.RAdam, 0.02, weight_decay=0.05, decoupled_weight_decay=True)
    add("rprop", t.Rprop, 0.02)
    add("rprop", t.Rprop, 0.02, etas=[0.4, 1.3], step_sizes=[1e-3, 0.05])
    add("asgd", t.ASGD, 0.02)
    add("asgd", t.ASGD, 0.02, lambd=0.05, alpha=0.6, t0=3, weight_decay=0.05)
    for shape in [(4, 3), (7,), (2, 3, 4)]:
        add("adafactor", t.Adafactor, 0.02, shape, eps=[float(np.finfo(np.float32).eps), 1e-3], weight_decay=0.05)
    add("adafactor", t.Adafactor, 0.02, eps=[float(np.finfo(np.float32).eps), 1e-2], beta2_decay=-0.6, d=1.5)
    add("muon", t.Muon, 0.01, (4, 6), weight_decay=0.1)
    add("muon", t.Muon, 0.01, (6, 4), nesterov=False, momentum=0.9, adjust_lr_fn="match_rms_adamw", weight_decay=0.0)

    for shape in [(4, 3), (7,)]:
        add("lion", po.Lion, 0.01, shape, betas=[0.9, 0.98], weight_decay=0.1)
        add("yogi", po.Yogi, 0.02, shape, weight_decay=0.1)
        add("adan", po.Adan, 0.02, shape, weight_decay=0.1)
        add("ademamix", po.AdEMAMix, 0.02, shape, betas=[0.9, 0.99, 0.999], alpha=4.0, weight_decay=0.1,
            weight_decouple=True)
        add("qhadam", po.QHAdam, 0.02, shape, betas=[0.9, 0.99], nus=[0.7, 0.95])
        add("grams", po.Grams, 0.02, shape, weight_decay=0.1)
        add("schedulefreesgd", po.ScheduleFreeSGD, 0.5, shape, momentum=0.9, warmup_steps=3, weight_decay=0.01)
        add("schedulefreeadamw", po.ScheduleFreeAdamW, 0.02, shape, betas=[0.9, 0.99], warmup_steps=3,
            weight_decay=0.01, r=0.5)
    add("adan", po.Adan, 0.02, weight_decay=0.1, weight_decouple=True)
    add("ademamix", po.AdEMAMix, 0.02, steps=30, betas=[0.9, 0.99, 0.999], t_alpha_beta3=20, weight_decouple=True)
    add("adabelief", po.AdaBelief, 0.02, betas=[0.9, 0.99], eps=1e-10)

    paper("adopt", adopt(0.02, 0.9, 0.999, 1e-6, 0.05), 0.02, betas=[0.9, 0.999], weight_decay=0.05)
    paper("lamb", lamb(0.02, 0.9, 0.99, 1e-6, 0.05), 0.02, betas=[0.9, 0.99], weight_decay=0.05)
    paper("lars", lars(1.0, 0.9, 0.01, 0.05, False), 1.0, momentum=0.9, trust_coefficient=0.01, weight_decay=0.05)
    paper("lars", lars(1.0, 0.9, 0.01, 0.05, True), 1.0, momentum=0.9, trust_coefficient=0.01, weight_decay=0.05,
          nesterov=True)
    paper("laprop", laprop(0.02, 0.9, 0.99, 1e-15), 0.02, betas=[0.9, 0.99])
    paper("adam_atan2", atan2(0.02, 0.9, 0.99, 0.1), 0.02, betas=[0.9, 0.99], weight_decay=0.1)
    paper("signum", signum(0.02, 0.95, 0.1), 0.02, momentum=0.95, weight_decay=0.1)
    paper("mars", mars(0.02, 0.95, 0.99, 1e-8, 0.025, 0.1), 0.02, weight_decay=0.1)
    paper("adammini", adammini(0.02, 0.9, 0.99, 1e-8), 0.02, betas=[0.9, 0.99], weight_decay=0.0)
    paper("nadamw", nadamw(0.02, 0.9, 0.99, 1e-8, 0.1), 0.02, betas=[0.9, 0.99], weight_decay=0.1)
    paper("stableadamw", stableadamw(0.02, 0.9, 0.99, 1e-8, 0.1), 0.02, weight_decay=0.1)
    paper("cautiousadamw", cautious_adamw(0.02, 0.9, 0.99, 1e-8, 0.1), 0.02, betas=[0.9, 0.99], weight_decay=0.1)
    paper("cautiouslion", cautious_lion(0.02, 0.95, 0.98, 0.1), 0.02, weight_decay=0.1)
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    print('{"optimizers":[\n' + lines + "\n]}")


main()
