"""Writes the healthy and faulty runs on which firebrick-diagnose's README states its rates.

    python3 diagnose_runs.py digits.csv.gz FOLDER
    cargo run -p firebrick-diagnose --example diagnose -- FOLDER/*.jsonl

Needs NumPy. Multi-layer perceptrons on the UCI digits (CSV, 64 features from 0 to 16 and the label), 360 validation
rows, three seeds a setting; names begin with `healthy` or `faulty`. Two minutes on two cores.
"""

import gzip
import json
import sys

import numpy as np

DEFAULT = dict(width=64, depth=1, adam=True, lr=1e-3, act="relu", init=1.0, epochs=20, batch=32, rows=1437, drop=0.0,
               shuffle=False, scale=1.0, decay=0.0, clip=None, cosine=False)

HEALTHY = {
    "adam": {}, "adam-w256": dict(width=256), "adam-d3": dict(depth=3), "adam-d5": dict(depth=5), "adam-3e-3": dict(lr=3e-3),
    "adam-1e-2": dict(lr=1e-2), "drop": dict(drop=0.3, width=128), "drop5": dict(drop=0.5, width=128, lr=3e-3),
    "tanh": dict(act="tanh"), "tanh-d3": dict(act="tanh", depth=3), "sgd": dict(adam=False, lr=0.05),
    "sgd-0.1": dict(adam=False, lr=0.1), "sgd-0.02": dict(adam=False, lr=0.02), "sgd-d3": dict(adam=False, lr=0.03, depth=3),
    "cosine": dict(cosine=True, lr=3e-3, epochs=40), "decay": dict(decay=0.05, lr=3e-3), "b128": dict(batch=128, lr=3e-3),
    "b8": dict(batch=8), "long": dict(epochs=60, width=128), "clip": dict(adam=False, lr=0.1, clip=1.0),
    "decay-long": dict(decay=0.1, epochs=60, lr=3e-3), "half": dict(rows=700), "linear": dict(depth=0, lr=1e-2),
    "sigmoid": dict(act="sigmoid", lr=5e-3), "w16": dict(width=16, lr=3e-3),
}

FAULTY = {
    "sgd-10": dict(adam=False, lr=10), "adam-1": dict(lr=1.0), "sgd-1e-6": dict(adam=False, lr=1e-6), "adam-1e-9": dict(lr=1e-9),
    "zero": dict(init=0, depth=2), "shuffled": dict(shuffle=True, width=128, epochs=40), "sigmoid-d8": dict(act="sigmoid", depth=8),
    "sigmoid-d12": dict(act="sigmoid", depth=12), "he0.3-d12": dict(init=0.3, depth=12),
    "he3-d8": dict(init=3, depth=8, adam=False, lr=0.05), "x255": dict(scale=255, adam=False, lr=0.05),
    "rows60": dict(rows=60, epochs=60, lr=3e-3), "rows100": dict(rows=100, epochs=60, width=256, lr=3e-3),
    "w1": dict(width=1, lr=1e-2), "w2": dict(width=2, lr=1e-2), "short": dict(epochs=5, lr=1e-4),
    "slow": dict(adam=False, lr=5e-4), "drop0.95": dict(drop=0.95), "deep-0.5": dict(adam=False, lr=0.5, depth=5),
}

ACT = {
    "relu": (lambda z: np.maximum(z, 0), lambda h: (h > 0) * 1.0),
    "tanh": (np.tanh, lambda h: 1 - h * h),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-np.clip(z, -500, 500))), lambda h: h * (1 - h)),
}


def number(value):
    return value if np.isfinite(value) else "NaN" if np.isnan(value) else "inf" if value > 0 else "-inf"


def train(x_all, y_all, seed, width, depth, adam, lr, act, init, epochs, batch, rows, drop, shuffle, scale, decay, clip, cosine):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x_all))
    held, kept = order[:360], order[360:360 + rows]
    middle = x_all[kept].mean()
    x, y = (x_all[kept] - middle) * 2 * scale, y_all[kept].copy()
    xv, yv = (x_all[held] - middle) * 2 * scale, y_all[held]
    if shuffle:
        rng.shuffle(y)
    sizes = [x.shape[1]] + [width] * depth + [10]
    gain = 2 if act == "relu" else 1
    weights = [rng.normal(0, init * np.sqrt(gain / a), (a, b)) for a, b in zip(sizes, sizes[1:])]
    params = weights + [np.zeros(b) for b in sizes[1:]]
    first, second = [p * 0 for p in params], [p * 0 for p in params]
    f, slope = ACT[act]
    step, total = 0, epochs * -(-len(x) // batch)
    records = []

    def forward(x, training=False):
        hidden, masks = [x], []
        for i in range(depth):
            h, mask = f(hidden[-1] @ params[i] + params[depth + 1 + i]), None
            if training and drop:
                mask = (rng.random(h.shape) >= drop) / (1 - drop)
                h = h * mask
            hidden.append(h)
            masks.append(mask)
        return hidden, masks, hidden[-1] @ params[depth] + params[2 * depth + 1]

    def judge(x, y):
        z = forward(x)[2]
        z = z - z.max(1, keepdims=True)
        loss = np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]
        return float(loss.mean()), float((z.argmax(1) != y).mean()) if np.isfinite(z).all() else 0.9

    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(x))
        for start in range(0, len(x), batch):
            pick = order[start:start + batch]
            hidden, masks, z = forward(x[pick], True)
            delta = np.exp(z - z.max(1, keepdims=True))
            delta /= delta.sum(1, keepdims=True)
            delta[np.arange(len(pick)), y[pick]] -= 1
            delta /= len(pick)
            grads = [None] * len(params)
            for i in range(depth, -1, -1):
                grads[i], grads[depth + 1 + i] = hidden[i].T @ delta, delta.sum(0)
                if i:
                    delta, h, mask = delta @ params[i].T, hidden[i], masks[i - 1]
                    if mask is not None:
                        delta, h = delta * mask, np.where(mask > 0, h / np.where(mask > 0, mask, 1), 0)
                    delta = delta * slope(h)
            layers = [float(np.sqrt((grads[i] ** 2).sum() + (grads[depth + 1 + i] ** 2).sum())) for i in range(depth + 1)]
            norm = float(np.sqrt(sum(n * n for n in layers)))
            step += 1
            values = {f"grad_norm/l{i}": number(n) for i, n in enumerate(layers)}
            records.append(dict(epoch=epoch, step=step, values=dict(values, grad_norm=number(norm))))
            if clip and norm > clip:
                grads = [g * clip / norm for g in grads]
            rate = lr * (0.5 * (1 + np.cos(np.pi * step / total)) if cosine else 1)
            for i, (p, g) in enumerate(zip(params, grads)):
                pull = decay * p if i <= depth else 0
                if adam:
                    first[i], second[i] = 0.9 * first[i] + 0.1 * g, 0.999 * second[i] + 0.001 * g * g
                    move = first[i] / (1 - 0.9 ** step) / (np.sqrt(second[i] / (1 - 0.999 ** step)) + 1e-8)
                    params[i] = p - rate * (move + pull)
                else:
                    first[i] = 0.9 * first[i] + g + pull
                    params[i] = p - rate * first[i]
        values = zip(("train_loss", "train_error", "validation_loss", "validation_error"), judge(x, y) + judge(xv, yv))
        records.append(dict(epoch=epoch, step=step, values={name: number(value) for name, value in values}))
    return records, dict(classes=10, samples=len(x), validation_samples=len(xv), parameters=sum(p.size for p in params))


def main(data, folder):
    rows = [line.split(",") for line in gzip.open(data, "rt").read().split()]
    table = np.array([row for row in rows if row[0].replace(".", "").isdigit()], dtype=float)
    x, y = table[:, :-1] / 16, table[:, -1].astype(int)
    for kind, settings in (("healthy", HEALTHY), ("faulty", FAULTY)):
        for name, setting in settings.items():
            for seed in range(3):
                with np.errstate(all="ignore"):
                    records, context = train(x, y, seed, **{**DEFAULT, **setting})
                # Path.with_extension on the Rust side cuts at the last dot, so names hold none.
                path = f"{folder}/{kind}-{name.replace('.', '_')}-{seed}"
                with open(path + ".jsonl", "w") as file:
                    file.writelines(json.dumps(record) + "\n" for record in records)
                with open(path + ".context.json", "w") as file:
                    json.dump(context, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
