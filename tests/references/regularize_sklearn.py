"""Records feature selection of scikit-learn for the unit tests of firebrick-regularize.

    python regularize_sklearn.py > regularize_sklearn.json

Pinned: scikit-learn 1.9.1, numpy 2.4.6. Mutual information is the estimate by nearest neighbours, whose jitter of 1e-10
does not change the counts of rows without ties. Lasso minimizes 1/(2n) ||y - X b||^2 + alpha ||b||_1 over columns of
unit variance and mean 0; its strengths are those of firebrick's path.
"""

import json

import numpy as np
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from sklearn.linear_model import Lasso

rng = np.random.default_rng(21)


def flat(x):
    return [float(f"{v:.12g}") for v in np.asarray(x, dtype=float).reshape(-1)]


found = {"classes": [], "numbers": [], "lasso": []}
for n, d, k, neighbours in [(40, 3, 2, 3), (60, 4, 3, 5), (25, 2, 4, 1)]:
    classes = rng.integers(k, size=n)
    x = np.round(rng.normal(size=(n, d)) + classes[:, None] * np.linspace(0, 2, d), 9)
    scores = mutual_info_classif(x, classes, discrete_features=False, n_neighbors=neighbours, random_state=0)
    found["classes"].append({"columns": d, "neighbours": neighbours, "values": flat(x), "targets": classes.tolist(),
                             "scores": flat(scores)})
    y = np.round(x[:, 0] + x[:, -1] ** 2 + 0.3 * rng.normal(size=n), 9)
    scores = mutual_info_regression(x, y, discrete_features=False, n_neighbors=neighbours, random_state=0)
    found["numbers"].append({"columns": d, "neighbours": neighbours, "values": flat(x), "targets": flat(y),
                             "scores": flat(scores)})

for n, d, count, ratio in [(30, 4, 6, 0.01), (50, 8, 5, 0.05), (12, 20, 4, 0.1)]:
    x = np.round(rng.normal(size=(n, d)) * np.linspace(0.5, 3, d) + 1, 9)
    y = np.round(x[:, 0] - 2 * x[:, -1] + rng.normal(size=n), 9)
    z = (x - x.mean(0)) / x.std(0)
    largest = np.abs(z.T @ (y - y.mean())).max() / n
    strengths = largest * ratio ** (np.arange(count) / (count - 1))
    # At the largest strength all coefficients are 0, up to rounding.
    points = [np.zeros(d)] + [Lasso(alpha=a, tol=1e-14, max_iter=1_000_000).fit(z, y).coef_ for a in strengths[1:]]
    found["lasso"].append({"columns": d, "strengths": count, "ratio": ratio, "values": flat(x), "targets": flat(y),
                           "points": [{"strength": flat(a)[0], "coefficients": flat(b)}
                                      for a, b in zip(strengths, points)]})

lists = [f'"{name}": [\n' + ",\n".join(json.dumps(case) for case in group) + "\n]" for name, group in found.items()]
print("{" + ",\n".join(lists) + "}")
