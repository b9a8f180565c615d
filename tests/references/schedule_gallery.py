"""Where the optimizers stand after 20 steps on f(x) = 0.1 x1^2 + 2 x2^2 from (-5, -2), by the plain recurrences.

    python tests/references/schedule_gallery.py

The values stand in examples/src/gallery/statements.rs. Epsilons are the survey's: 1e-6 inside the
root, for Adam 1e-8 outside.
"""

from math import sqrt


def walk(update, steps=20):
    point, states = [-5.0, -2.0], [{}, {}]
    for t in range(1, steps + 1):
        gradient = [0.2 * point[0], 4.0 * point[1]]
        for i in range(2):
            point[i] -= update(states[i], gradient[i], t)
    return point


def momentum(rate, mu):
    def update(s, g, t):
        s["v"] = mu * s.get("v", 0.0) + rate * g
        return s["v"]
    return update


def ada_grad(rate):
    def update(s, g, t):
        s["s"] = s.get("s", 0.0) + g * g
        return rate * g / sqrt(s["s"] + 1e-6)
    return update


def rms_prop(rate):
    def update(s, g, t):
        s["s"] = 0.9 * s.get("s", 0.0) + 0.1 * g * g
        return rate * g / sqrt(s["s"] + 1e-6)
    return update


def ada_delta():
    def update(s, g, t):
        s["s"] = 0.9 * s.get("s", 0.0) + 0.1 * g * g
        d = sqrt(s.get("d", 0.0) + 1e-6) / sqrt(s["s"] + 1e-6) * g
        s["d"] = 0.9 * s.get("d", 0.0) + 0.1 * d * d
        return d
    return update


def adam(rate):
    def update(s, g, t):
        s["m"] = 0.9 * s.get("m", 0.0) + 0.1 * g
        s["v"] = 0.999 * s.get("v", 0.0) + 0.001 * g * g
        return rate * s["m"] / (1 - 0.9**t) / (sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)
    return update


for name, update in [
    ("descent 0.4", momentum(0.4, 0.0)),
    ("descent 0.6", momentum(0.6, 0.0)),
    ("momentum 0.4", momentum(0.4, 0.5)),
    ("momentum 0.6", momentum(0.6, 0.5)),
    ("ada_grad 0.4", ada_grad(0.4)),
    ("ada_grad 2", ada_grad(2.0)),
    ("rms_prop 0.4", rms_prop(0.4)),
    ("ada_delta", ada_delta()),
    ("adam 0.4", adam(0.4)),
]:
    print(name, *walk(update))
