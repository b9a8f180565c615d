"""Records transferability scores and probes as cases for the tests of firebrick-transfer.

    python transfer_scores.py > transfer_scores.json

Each score is written here from its definition in f64, by another route than the crate's where there is one (LogME by
a full log-determinant and a numeric maximum, H-score by explicit inverses, Frechet by scipy's matrix root), or taken
from scikit-learn. Leave-one-out figures come from n refits. Inputs have six decimals.
Pinned: numpy, scipy and scikit-learn as printed under "versions".
"""

import json

import numpy as np
import scipy
import sklearn
from scipy.linalg import sqrtm
from scipy.optimize import minimize
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(8)
pool = []
cases = []


def draw(n, d, classes, signal=1.0, weights=None, noise=1.0):
    """Features with class means of size `signal`, of six decimals, and labels that cover all classes."""
    labels = np.concatenate([np.arange(classes), rng.choice(classes, n - classes, p=weights)])
    labels = rng.permutation(labels)
    means = rng.normal(size=(classes, d)) * signal
    features = means[labels] + noise * rng.normal(size=(n, d)) + rng.normal(size=d)
    return rounded(features), labels


def pooled(value):
    """The number of the input in the pool: many cases share one."""
    value = np.asarray(value)
    if value.ndim == 2:
        packed = {"columns": value.shape[1], "values": [float(v) for v in value.ravel()]}
    else:
        packed = {"columns": 0, "values": [int(v) for v in value]}
    if packed not in pool:
        pool.append(packed)
    return pool.index(packed)


def record(score, inputs, output, **args):
    inputs = {name: pooled(value) for name, value in inputs.items()}
    output = [float(f"{v:.13g}") for v in np.atleast_1d(output)]
    cases.append({"score": score, "inputs": inputs, "args": args, "output": output})


def rounded(x):
    """Few enough digits that the recorded decimals are the very numbers that the score saw."""
    return np.round(x, 6)


def log_me(features, labels, exponent="rank"):
    n, d = features.shape
    k = np.linalg.matrix_rank(features)
    total = 0.0
    classes = np.unique(labels)
    for c in classes:
        y = (labels == c).astype(float)

        def evidence(p, exact=True):
            a, b = np.exp(p)
            big = a * np.eye(d) + b * features.T @ features
            m = b * np.linalg.solve(big, features.T @ y)
            if exact:
                volume = d / 2 * np.log(a) - 0.5 * np.linalg.slogdet(big)[1]
            else:
                s = np.linalg.svd(features, compute_uv=False)[:k] ** 2
                volume = d / 2 * np.log(a) - 0.5 * np.log(a + b * s).sum()
            fit = -b / 2 * ((features @ m - y) ** 2).sum() - a / 2 * m @ m
            return volume + n / 2 * np.log(b) + fit - n / 2 * np.log(2 * np.pi)

        starts = [(np.log(t) + np.log(b), np.log(b)) for t in (1e-2, 1, 1e2, 1e4) for b in (2, 20)]
        found = [minimize(lambda p: -evidence(p), s, method="Nelder-Mead",
                          options={"xatol": 1e-10, "fatol": 1e-13, "maxiter": 20000, "maxfev": 20000})
                 for s in starts]
        best = min(found, key=lambda f: f.fun)
        total += evidence(best.x, exponent == "rank") / n
    return total / len(classes)


def leep(p, labels):
    n, width = p.shape
    classes = np.unique(labels)
    joint = np.array([p[labels == c].sum(0) / n for c in classes])
    marginal = joint.sum(0)
    given = np.where(marginal > 0, joint / np.where(marginal > 0, marginal, 1), 0)
    return np.mean([np.log((given[np.searchsorted(classes, y)] * row).sum()) for row, y in zip(p, labels)])


def nce(z, labels):
    total = 0.0
    for a in np.unique(z):
        inside = labels[z == a]
        for y in np.unique(inside):
            share = (inside == y).sum()
            total += share / len(z) * np.log(share / len(inside))
    return total


def between(features, labels):
    centred = features - features.mean(0)
    g = np.zeros_like(centred)
    for c in np.unique(labels):
        g[labels == c] = centred[labels == c].mean(0)
    return g.T @ g / len(features)


def h_score(features, labels):
    centred = features - features.mean(0)
    return np.trace(np.linalg.pinv(centred.T @ centred / len(features), rcond=1e-12) @ between(features, labels))


def h_score_shrunk(features, labels):
    covariance, weight = ledoit_wolf(features - features.mean(0), assume_centered=True)
    return np.trace(np.linalg.inv(covariance) @ ((1 - weight) * between(features, labels)))


def rate(z, epsilon):
    n, d = z.shape
    return 0.5 * np.linalg.slogdet(np.eye(d) + z.T @ z / (n * epsilon))[1]


def trans_rate(features, labels, epsilon):
    z = features - features.mean(0)
    shares = [(labels == c).mean() for c in np.unique(labels)]
    return rate(z, epsilon) - sum(s * rate(z[labels == c], epsilon) for s, c in zip(shares, np.unique(labels)))


def gbc(features, labels, shape):
    total = 0.0
    live = features.std(0) > 1e-12
    f = features[:, live]
    stats = []
    for c in np.unique(labels):
        v = f[labels == c].var(0, ddof=1)
        v = np.maximum(v, 1e-6 * f.var(0)) if shape == "diagonal" else np.full(v.shape, v.mean())
        stats.append((f[labels == c].mean(0), np.diag(v)))
    for i, (mi, si) in enumerate(stats):
        for j, (mj, sj) in enumerate(stats):
            if i == j:
                continue
            s = (si + sj) / 2
            d = (mi - mj) @ np.linalg.inv(s) @ (mi - mj) / 8
            d += 0.5 * (np.linalg.slogdet(s)[1] - 0.5 * (np.linalg.slogdet(si)[1] + np.linalg.slogdet(sj)[1]))
            total -= np.exp(-d)
    return total


def cka(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def mmd(x, y, width):
    both = np.vstack([x, y])
    squares = ((both[:, None] - both[None]) ** 2).sum(-1)
    if width is None:
        width = np.median(np.sqrt(squares[np.triu_indices(len(both), 1)]))
    k = np.exp(-squares / (2 * width**2))
    m, n = len(x), len(y)
    xx = (k[:m, :m].sum() - m) / (m * (m - 1))
    yy = (k[m:, m:].sum() - n) / (n * (n - 1))
    return [xx + yy - 2 * k[:m, m:].mean(), width]


def frechet(x, y):
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    s1, s2 = np.atleast_2d(s1), np.atleast_2d(s2)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)


def knn(features, labels, k):
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-300)
    classes = np.unique(labels)
    out = []
    for i in range(len(unit)):
        s = unit @ unit[i]
        s[i] = -np.inf
        near = np.argsort(-s, kind="stable")[: min(k, len(unit) - 1)]
        votes = [np.exp(s[near][labels[near] == c] / 0.07).sum() for c in classes]
        out.append(classes[int(np.argmax(votes))])
    return out


def ridge_left_out(features, labels, lam):
    """By n refits: predictions and the sum of squared errors."""
    classes = np.unique(labels)
    y = (labels[:, None] == classes).astype(float)
    predicted, error = [], 0.0
    for i in range(len(y)):
        rest = np.arange(len(y)) != i
        fit = Ridge(alpha=lam, solver="svd").fit(features[rest], y[rest])
        p = fit.predict(features[i : i + 1])[0]
        error += ((p - y[i]) ** 2).sum()
        predicted.append(classes[int(np.argmax(p))])
    return error, predicted


shapes = [
    ("tall", draw(40, 6, 3)), ("wide", draw(20, 30, 4)), ("square", draw(18, 18, 2)),
    ("weak", draw(45, 5, 3, signal=0.2)), ("unbalanced", draw(50, 7, 3, weights=[0.8, 0.15, 0.05])),
]
collinear, labels = draw(36, 4, 3)
collinear = np.hstack([collinear, collinear[:, :2] * 2, np.full((36, 1), 0.5)])
shapes.append(("collinear, one dead", (collinear, labels)))

for name, (features, labels) in shapes:
    both = {"features": features, "labels": labels * 3 + 1}
    centred = rounded(features - features.mean(0))
    record("log_me", both, log_me(features, labels), case=name)
    record("log_me", {**both, "features": centred}, log_me(centred, labels), case=f"{name}, centred")
    if name not in ("wide", "square"):
        record("h_score", both, h_score(features, labels), case=name)
    record("h_score_shrunk", both, h_score_shrunk(features, labels), case=name)
    for epsilon in (1e-4, 1e-1):
        record("trans_rate", both, trans_rate(features, labels, epsilon), case=name, epsilon=epsilon)
    if min(np.bincount(labels)) >= 3:
        for shape in ("diagonal", "spherical"):
            record("gbc", both, gbc(features, labels, shape), case=name, shape=shape)
    if min(np.bincount(labels)) >= 2:
        for k in (1, 5):
            record("knn", both, knn(features, both["labels"], k), case=name, k=k)
    for lam in (0.1, 3.0):
        error, predicted = ridge_left_out(features, both["labels"], lam)
        fit = Ridge(alpha=lam, solver="svd").fit(features, (labels[:, None] == np.unique(labels)).astype(float))
        record("ridge_error", both, error, case=name, lam=lam)
        record("ridge_predicted", both, predicted, case=name, lam=lam)
        record("ridge_head", both, np.concatenate([np.atleast_2d(fit.coef_).T.ravel(), fit.intercept_]), case=name, lam=lam)
    n = len(features)
    l2 = 0.05
    fit = LogisticRegression(C=1 / (l2 * n), tol=1e-12, solver="newton-cg", max_iter=10000).fit(features, labels)
    if len(np.unique(labels)) > 2:
        record("logistic", both, fit.predict_proba(features).ravel(), case=name, l2=l2)

# The rank mistake of published LogME code: what it gives for more features than samples.
features, labels = shapes[1][1]
wrong = log_me(features, labels, exponent="d")
record("log_me_published_mistake", {"features": features, "labels": labels * 3 + 1}, wrong)

for n, width, classes, unused in [(24, 5, 3, False), (30, 4, 4, True), (12, 8, 2, True), (40, 3, 6, False)]:
    logits = rng.normal(size=(n, width)) * 2
    if unused:
        logits[:, -1] = -np.inf
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p = rounded(p)
    labels = rng.permutation(np.concatenate([np.arange(classes), rng.choice(classes, n - classes)]))
    record("leep", {"probabilities": p, "labels": labels}, leep(p, labels), unused=unused)
    record("nce", {"predicted": p.argmax(1), "labels": labels}, nce(p.argmax(1), labels))

for (n, d1, d2) in [(20, 5, 3), (10, 30, 40), (15, 15, 4), (6, 9, 2)]:
    x, _ = draw(n, d1, 2)
    y = (x[:, : min(d1, d2)] @ rng.normal(size=(min(d1, d2), d2)) + rng.normal(size=(n, d2)))
    y = rounded(y)
    record("cka", {"first": x, "second": y}, cka(x, y))

for m, n, d, shift, width in [(20, 20, 3, 0, None), (15, 25, 6, 1, None), (12, 9, 2, 0.5, 1.5), (8, 8, 20, 2, None)]:
    x = rounded(rng.normal(size=(m, d)))
    y = rounded(rng.normal(size=(n, d)) * 1.3 + shift)
    record("mmd", {"first": x, "second": y}, mmd(x, y, width), width=width)
    if m > d + 2:
        record("frechet", {"first": x, "second": y}, frechet(x, y))

for _ in range(2):
    scores = rng.integers(0, 12, 40)
    truth = rng.integers(0, 2, 40)
    record("area", {"scores": scores, "truth": truth}, roc_auc_score(truth, scores))

versions = {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
out = json.dumps({"versions": versions, "pool": pool, "cases": cases}, separators=(",", ":"))
print(out.replace('{"score"', '\n{"score"').replace('{"columns"', '\n{"columns"'))
