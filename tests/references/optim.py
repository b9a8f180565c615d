"""Records trajectories of optimizers from other libraries, in f64, as cases for `cargo xtask replay`.

    python optim.py > optim.json

Pinned: torch 2.15.0, timm 1.0.31, pytorch_optimizer 4.1.0, numpy 2.4.6. Only classes that follow the published rule
are recorded; where a library departs from it (pytorch_optimizer's LAMB, for one), an f64 model from the paper below
takes its place, or another library (timm's LAMB, with its clipping off). Starting values and gradients are exact in f32, so that a replay in f32 differs by rounding alone.
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


def adashift(lr, b1, b2, eps, n, whole):
    def rule(t, p, g, s):
        seen = s.setdefault("g", [])
        seen.append(g)
        if t <= n:
            return p
        old = seen[-1 - n] ** 2
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * (old.max() if whole else old)
        w = b1 ** np.arange(n)
        m = sum(wi * gi for wi, gi in zip(w / w.sum(), seen[::-1]))
        return p - lr * m / (np.sqrt(s["v"] / (1 - b2 ** (t - n))) + eps)
    return rule


def on_axes(x, matrices):
    """Contracts axis k of x with the rows of matrices[k]."""
    for k, q in enumerate(matrices):
        x = np.moveaxis(np.tensordot(q, x, axes=(0, k)), 0, k)
    return x


def unrolled(g, k):
    rows = np.moveaxis(g, k, 0).reshape(g.shape[k], -1)
    return rows @ rows.T


def soap(lr, b1, b2, eps, wd, frequency):
    def rule(t, p, g, s):
        if t == 1:
            s["l"] = [(1 - b2) * unrolled(g, k) for k in range(g.ndim)]
            s["q"] = [np.linalg.eigh(l)[1][:, ::-1] for l in s["l"]]
            s["m"], s["v"] = 0, 0
            return p
        t -= 1
        s["m"] = b1 * s["m"] + (1 - b1) * g
        s["v"] = b2 * s["v"] + (1 - b2) * on_axes(g, s["q"]) ** 2
        step = on_axes(s["m"], s["q"]) / (np.sqrt(s["v"]) + eps) * math.sqrt(1 - b2**t) / (1 - b1**t)
        p = (1 - lr * wd) * (p - lr * on_axes(step, [q.T for q in s["q"]]))
        s["l"] = [b2 * l + (1 - b2) * unrolled(g, k) for k, l in enumerate(s["l"])]
        if t % frequency == 0:
            for k, (l, q) in enumerate(zip(s["l"], s["q"])):
                order = np.argsort(-np.diag(q.T @ l @ q))
                s["q"][k] = np.linalg.qr(l @ q[:, order])[0]
                s["v"] = np.take(s["v"], order, axis=k)
        return p
    return rule


def shampoo(lr, b1, b2, eps, graft, gb, geps, mu, nesterov, frequency, start, wd):
    def rule(t, p, g, s):
        old = s.get("l", [0] * g.ndim)
        new = [unrolled(g, k) for k in range(g.ndim)]
        s["l"] = [a + b if b2 == 1 else b2 * a + (1 - b2) * b for a, b in zip(old, new)]
        if t == start or t > start and t % frequency == 0:
            def root(l):
                e, u = np.linalg.eigh(l / (1 - b2**t) if b2 < 1 else l)
                return u * (np.maximum(e, 0) + eps) ** (-1 / (2 * g.ndim)) @ u.T
            s["r"] = [root(l) for l in s["l"]]
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        m = s["m"] / (1 - b1**t)
        v = s.get("v", 0)
        s["v"] = v + g * g if graft == "AdaGrad" else gb * v + (1 - gb) * g * g
        scale = np.sqrt(s["v"] / (1 - gb**t if graft == "Adam" else 1)) + geps
        d = m if graft in ("Sgd", "None") else m / scale
        if t >= start:
            w = on_axes(m, s["r"])
            d = w if graft == "None" else w * np.linalg.norm(d) / np.linalg.norm(w)
        if mu > 0:
            s["b"] = mu * s.get("b", 0) + d
            d = d + mu * s["b"] if nesterov else s["b"]
        return (1 - lr * wd) * p - lr * d
    return rule


def prodigy(lr, b1, b2, eps, wd, d0, coefficient, growth, correct, safeguard):
    def rule(t, p, g, s):
        if t == 1:
            s.update(d=d0, top=d0, n=0, s=0, m=0, v=0, p0=p)
        d, b3 = s["d"], math.sqrt(b2)
        a = d * lr * (math.sqrt(1 - b2**t) / (1 - b1**t) if correct else 1)
        s["n"] = b3 * s["n"] + d / d0 * a * np.sum(g * (s["p0"] - p))
        s["s"] = b3 * s["s"] + d / d0 * (d if safeguard else a) * g
        s["m"] = b1 * s["m"] + (1 - b1) * d * g
        s["v"] = b2 * s["v"] + (1 - b2) * d * d * g * g
        guess = coefficient * s["n"] / np.abs(s["s"]).sum()
        if d == d0:
            d = max(d, guess)
        s["top"] = max(s["top"], guess)
        s["d"] = min(s["top"], d * growth)
        return (1 - a * wd) * p - a * s["m"] / (np.sqrt(s["v"]) + s["d"] * eps)
    return rule


def main():
    import pytorch_optimizer as po
    import timm.optim as timm

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

    square = ["Sgd", "AdaGrad", "RmsProp", "Adam", "None"]
    for k, graft in enumerate(square):
        nesterov, start, wd, b2 = k == 1, [1, 4, 1, 1, 1][k], 0.1 * (k % 2), [1.0, 0.99][k % 2]
        hyper = {"beta_1": 0.8, "beta_2": b2, "epsilon": 1e-4, "graft": graft, "graft_beta_2": 0.95, "frequency": 3,
                 "graft_epsilon": 1e-8, "momentum": 0.5, "nesterov": nesterov, "start": start, "weight_decay": wd,
                 "decoupled": True}
        rule = shampoo(0.01, 0.8, b2, 1e-4, graft, 0.95, 1e-8, 0.5, nesterov, 3, start, wd)
        paper("shampoo", rule, 0.01, (3, 3) if k % 2 else (4, 3), 12, **hyper)
    for k, frequency in enumerate([1, 2, 10]):
        rule = soap(0.01, 0.9, 0.95, 1e-8, 0.1, frequency)
        paper("soap", rule, 0.01, [(4, 4), (4, 3), (3, 2, 3)][k], 12, betas=[0.9, 0.95], weight_decay=0.1,
              precondition_frequency=frequency)
    for n in [1, 4]:
        paper("adashift", adashift(0.02, 0.9, 0.99, 1e-10, n, True), 0.02, steps=12, betas=[0.9, 0.99], keep_num=n)
    paper("adashift", adashift(0.02, 0.9, 0.99, 1e-8, 3, False), 0.02, betas=[0.9, 0.99], keep=3, reduce="Element",
          eps=1e-8)
    paper("prodigy", prodigy(1.0, 0.9, 0.99, 1e-8, 0.1, 1e-2, 1.0, math.inf, False, False), 1.0, betas=[0.9, 0.99],
          weight_decay=0.1, d0=1e-2)
    paper("prodigy", prodigy(0.5, 0.9, 0.99, 1e-8, 0.0, 1e-2, 2.0, 1.1, True, True), 0.5, betas=[0.9, 0.99], d0=1e-2,
          d_coef=2.0, growth_rate=1.1, bias_correction=True, safeguard_warmup=True)

    # timm's own, which are written apart from those above.
    for shape in [(4, 3), (7,)]:
        add("nadamw", timm.NAdamW, 0.02, shape, betas=[0.9, 0.99], weight_decay=0.1)
        add("adan", timm.Adan, 0.02, shape, weight_decay=0.1)
        add("adan", timm.Adan, 0.02, shape, weight_decay=0.1, no_prox=True)
        add("lion", timm.Lion, 0.01, shape, betas=[0.9, 0.98], weight_decay=0.1)
        add("lamb", timm.Lamb, 0.02, shape, betas=[0.9, 0.99], weight_decay=0.05, bias_correction=True,
            max_grad_norm=None)
        add("lars", timm.Lars, 1.0, shape, momentum=0.9, trust_coeff=0.01, weight_decay=0.05)
        add("lars", timm.Lars, 1.0, shape, momentum=0.9, trust_coeff=0.01, weight_decay=0.05, nesterov=True)
    add("lamb", timm.Lamb, 0.02, betas=[0.9, 0.99], weight_decay=0.05, max_grad_norm=None, decoupled_decay=True)

    # Keywords that turn a part of a rule off, or choose another form of it.
    add("adopt", po.ADOPT, 0.02, betas=[0.9, 0.999], weight_decay=0.05, clip_lambda=None)
    add("lion", po.Lion, 0.02, weight_decay=0.1, cautious=True)
    add("adashift", po.AdaShift, 0.02, steps=12, betas=[0.9, 0.99], keep_num=3, reduce_func=None)
    add("stableadamw", po.StableAdamW, 0.02, betas=[0.9, 0.99], weight_decay=0.1, weight_decouple=False)
    for relative in [False, True]:
        add("adafactor", po.AdaFactor, 0.02, betas=[None, 0.999], weight_decay=0.1, weight_decouple=False,
            relative_step=relative)
    add("adan", po.Adan, 0.02, weight_decay=0.1, max_grad_norm=0.0)
    add("ademamix", po.AdEMAMix, 0.02, betas=[0.9, 0.99, 0.999], t_alpha_beta3=20.0, weight_decouple=True)
    add("adabelief", po.AdaBelief, 0.02, betas=[0.9, 0.99], eps=1e-10, rectify=False, n_sma_threshold=5,
        degenerated_to_sgd=True)
    add("laprop", po.LaProp, 0.02, betas=[0.9, 0.99], centered=False, steps_before_using_centered=10)

    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases)
    print('{"optimizers":[\n' + lines + "\n]}")


main()
