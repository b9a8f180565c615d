"""Suggestions of the learning-rate range test, by numpy from the published description of fastai's four rules.

    python tests/references/schedule_range.py > tests/references/schedule_range.json

Made with Python 3.11 and numpy 2.4.6. `losses` are the smoothed ones of every step; rates run from 1e-7 to 10.
"""

import json
import random

import numpy as np

STEPS = 100


def trimmed(rates, losses):
    rates, losses = rates[STEPS // 10 : -5], losses[STEPS // 10 : -5]
    bad = np.flatnonzero(~np.isfinite(losses))
    return (rates[: bad[0]], losses[: bad[0]]) if len(bad) else (rates, losses)


def valley(rates, losses):
    lengths = [1] * len(losses)
    for i in range(len(losses)):
        longest = max((lengths[j] for j in range(i) if losses[i] < losses[j]), default=0)
        lengths[i] = longest + 1
    end = lengths.index(max(lengths))
    start = end - lengths[end]
    third = (end - start) / 3
    return rates[start + int(third) + int(third / 2)]


def steep(rates, losses):
    return rates[np.argmin(np.diff(losses) / np.diff(np.log(rates)))]


def minimum(rates, losses):
    return rates[np.argmin(losses)] / 10


def slide(rates, losses):
    slopes = np.gradient(losses)
    right, left = -1, -16
    found = rates[left]
    while left >= -len(losses) and abs(slopes[right] - slopes[left]) > 0.005:
        found = rates[left]
        right, left = right - 1, left - 1
    return found


def curve(source, kind):
    """Losses that fall from about 2.5 and rise at the end, more or less noisy."""
    low, noise = source.uniform(45, 70), [0.0, 0.02, 0.1][kind % 3]
    losses, mean = [], 0.0
    for i in range(STEPS):
        loss = 2.5 - 1.8 / (1 + np.exp((low - i) / 5)) + np.exp((i - 92) / 3.0) + source.gauss(0, noise)
        mean = 0.9 * mean + 0.1 * loss
        losses.append(float(mean / (1 - 0.9 ** (i + 1))))
    if kind >= 3:
        losses = losses[: 60 + 10 * (kind - 3)]
    return losses


source = random.Random(6)
rates = np.array([1e-7 * (10 / 1e-7) ** (i / STEPS) for i in range(STEPS)])
cases = []
for kind in range(6):
    losses = curve(source, kind)
    pair = trimmed(rates[: len(losses)], np.array(losses))
    rules = {rule.__name__: float(rule(*pair)) for rule in (valley, steep, minimum, slide)}
    cases.append({"losses": losses, **rules})
print("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]")
