"""f64 models of the rules that no library has, or not as published, with all their keywords; from the papers' formulas.

Each is a function of the rate, the keywords, the parameter, the gradient, the step and a dictionary that it keeps.
`optim_random.py` records them.
"""

import numpy as np


def decayed(lr, h, p, g, strength=0.0, decoupled=True):
    """Parameter and gradient after the sign and weight decay, which is AdamW's or L2."""
    g = -g if h.get("maximize") else g
    wd = h.get("weight_decay", strength)
    if h.get("weight_decouple", h.get("decoupled", decoupled)):
        return (1 - lr * wd) * p, g
    return p, g + wd * p


def average(s, key, beta, value):
    s[key] = beta * s.get(key, 0) + (1 - beta) * value
    return s[key]


def corrected(t, g, s, b1, b2):
    """Adam's moments over their corrections."""
    return average(s, "m", b1, g) / (1 - b1**t), average(s, "v", b2, g * g) / (1 - b2**t)


def signum(lr, h, p, g, t, s):
    p, g = decayed(lr, h, p, g)
    return p - lr * np.sign(average(s, "m", h.get("momentum", 0.9), g))


def adam_atan2(lr, h, p, g, t, s):
    p, g = decayed(lr, h, p, g)
    m, v = corrected(t, g, s, *h.get("betas", [0.9, 0.999]))
    return p - lr * h.get("a", 1.27) * np.arctan2(m, h.get("b", 1.0) * np.sqrt(v))


def nadamw(lr, h, p, g, t, s):
    p, g = decayed(lr, h, p, g, 0.01)
    b1, b2 = h.get("betas", [0.9, 0.999])
    m, v = corrected(t, g, s, b1, b2)
    ahead = b1 * m + (1 - b1) * g / (1 - b1**t)
    return p - lr * ahead / (np.sqrt(v) + h.get("eps", 1e-8))


def adopt(lr, h, p, g, t, s):
    new, g = decayed(lr, h, p, g, decoupled=False)
    b1, b2 = h.get("betas", [0.9, 0.9999])
    if t == 1:
        s["v"] = g * g
        return p
    u = g / np.maximum(np.sqrt(s["v"]), h.get("eps", 1e-6))
    clip = h.get("clip_exponent", 0.25)
    u = u if clip is None else np.clip(u, -((t - 1) ** clip), (t - 1) ** clip)
    average(s, "v", b2, g * g)
    return new - lr * average(s, "m", b1, u)


def lamb(lr, h, p, g, t, s):
    wd, g = h.get("weight_decay", 0.0), -g if h.get("maximize") else g
    p = (1 - lr * wd) * p if h.get("decoupled") else p
    b1, b2 = h.get("betas", [0.9, 0.999])
    m, v = corrected(t, g, s, b1, b2)
    if not h.get("correct_bias", True):
        m, v = s["m"], s["v"]
    u = m / (np.sqrt(v) + h.get("eps", 1e-6)) + (0 if h.get("decoupled") else wd) * p
    a, b = min(np.linalg.norm(p), h.get("largest_norm") or np.inf), np.linalg.norm(u)
    return p - lr * (a / b if a > 0 and b > 0 else 1) * u


def lars(lr, h, p, g, t, s):
    wd, g = h.get("weight_decay", 0.0), -g if h.get("maximize") else g
    a, b = np.linalg.norm(p), np.linalg.norm(g)
    q = h.get("trust_coefficient", 1e-3) * a / (b + wd * a + h.get("eps", 1e-8)) if a > 0 and b > 0 else 1
    d, mu = q * (g + wd * p), h.get("momentum", 0.9)
    dampens = mu > 0 and (t > 1 or h.get("dampen_first"))
    s["b"] = mu * s.get("b", 0) + (1 - h.get("dampening", 0) if dampens else 1) * d
    return p - lr * (d + mu * s["b"] if h.get("nesterov") else s["b"])


def mars(lr, h, p, g, t, s):
    g = -g if h.get("maximize") else g
    eps, b1, b2 = h.get("eps", 1e-8), *h.get("betas", [0.95, 0.99])
    if p.ndim < 2 and not h.get("optimize_1d"):
        lr, wd = h.get("lr_1d", 3e-3), h.get("weight_decay_1d", 0.1)
        m, v = corrected(t, g, s, *h.get("betas_1d", [0.9, 0.95]))
    else:
        wd = h.get("weight_decay", 0.0)
        c = g + h.get("gamma", 0.025) * b1 / (1 - b1) * (g - s.get("g", 0))
        s["g"] = g
        m, v = corrected(t, c / max(1, np.linalg.norm(c)), s, b1, b2)
    return (1 - lr * wd) * p - lr * m / (np.sqrt(v) + eps)


def adammini(lr, h, p, g, t, s):
    p, g = decayed(lr, h, p, g, 0.01)
    b1, b2 = h.get("betas", [0.9, 0.999])
    block, square = h.get("block", "Tensor"), g * g
    if block == "Tensor" or block != "Element" and g.ndim < 2:
        square = square.mean()
    elif block == "Column":
        square = square.mean(axis=tuple(range(g.ndim - 1)), keepdims=True)
    elif block == "Row":
        square = square.mean(axis=tuple(range(1, g.ndim)), keepdims=True)
    v = average(s, "v", b2, square) / (1 - b2**t)
    return p - lr * average(s, "m", b1, g) / (1 - b1**t) / (np.sqrt(v) + h.get("eps", 1e-8))
