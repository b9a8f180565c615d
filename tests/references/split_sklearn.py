"""Records unshuffled splits of scikit-learn 1.9.1 on random problems, as `cargo xtask replay` reads them.

Run: python split_sklearn.py [SEED [PROBLEMS_PER_KIND]] > split_sklearn.json   (needs scikit-learn==1.9.1)
"""

import json
import sys
import warnings

import numpy as np
import sklearn
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    LeavePGroupsOut,
    LeavePOut,
    PredefinedSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

assert sklearn.__version__ == "1.9.1", sklearn.__version__
warnings.simplefilter("ignore")
SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0
COUNT = int(sys.argv[2]) if len(sys.argv) > 2 else 30
rng = np.random.default_rng(SEED)


def named(values):
    """The same values as integers, texts, floats or truth values."""
    kind = rng.integers(0, 6)
    if kind == 0:
        return [f"{chr(97 + v % 26)}{v}" for v in values.tolist()]
    if kind == 1:
        return [v - 2.0 for v in values.tolist()]
    if kind == 2 and max(values) < 2:
        return [bool(v) for v in values]
    return [v * 3 - 4 for v in values.tolist()]


def labels(n, classes):
    weights = rng.dirichlet(np.ones(classes) * rng.choice([0.5, 1.0, 10.0]))
    return named(rng.choice(classes, n, p=weights))


def groups(n, count):
    if rng.random() < 0.5:
        weights = 1.0 / np.arange(1, count + 1)
        return named(rng.choice(count, n, p=weights / weights.sum()))
    return named(rng.integers(0, count, n))


def problem(kind):
    n = int(rng.integers(6, 40))
    k = int(rng.integers(2, rng.choice([7, 13])))
    case = {"kind": kind, "n": n}
    if kind == "kfold":
        return case | {"k": k}, KFold(k)
    if kind == "stratified_kfold":
        return case | {"k": k, "y": labels(n, int(rng.integers(1, 12)))}, StratifiedKFold(k)
    if kind == "group_kfold":
        return case | {"k": k, "g": groups(n, int(rng.integers(2, 16)))}, GroupKFold(k)
    if kind == "stratified_group_kfold":
        y = labels(n, int(rng.choice([1, rng.integers(2, 8), rng.integers(8, 14)])))
        return case | {"k": k, "y": y, "g": groups(n, int(rng.integers(4, 20)))}, StratifiedGroupKFold(k)
    if kind == "time_series":
        gap = int(rng.integers(0, 3))
        max_train = None if rng.random() < 0.5 else int(rng.integers(1, 12))
        test = None if rng.random() < 0.5 else int(rng.integers(1, 6))
        split = TimeSeriesSplit(k, max_train_size=max_train, test_size=test, gap=gap)
        return case | {"k": k, "gap": gap, "max_train": max_train, "test": test}, split
    if kind == "leave_one_out":
        return case | {"n": n // 2 + 2}, LeaveOneOut()
    if kind == "leave_p_out":
        return case | {"n": int(rng.integers(4, 9)), "p": int(rng.integers(1, 4))}, LeavePOut
    if kind == "leave_one_group_out":
        return case | {"g": groups(n, int(rng.integers(2, 8)))}, LeaveOneGroupOut()
    if kind == "leave_p_groups_out":
        return case | {"p": 2, "g": groups(n // 2, int(rng.integers(3, 6))), "n": n // 2}, LeavePGroupsOut(2)
    fold = [int(v) for v in rng.integers(-1, 4, n)]
    return case | {"test_fold": fold}, PredefinedSplit(fold)


KINDS = ["kfold", "stratified_kfold", "group_kfold", "stratified_group_kfold", "time_series"]
SMALL = ["leave_one_out", "leave_p_out", "leave_one_group_out", "leave_p_groups_out", "predefined"]
cases, empty, refused = [], 0, 0
for kind in KINDS + SMALL:
    wanted = COUNT * 2 if kind == "stratified_group_kfold" else COUNT if kind in KINDS else COUNT // 3
    errors = COUNT // 6
    while wanted:
        case, split = problem(kind)
        if kind == "leave_p_out":
            split = split(case["p"])
        try:
            folds = [[a.tolist(), b.tolist()] for a, b in split.split(np.zeros(case["n"]), case.get("y"), case.get("g"))]
        except ValueError as error:
            # What scikit-learn refuses must be refused too.
            if errors:
                cases.append(case | {"error": str(error)})
                errors -= 1
                refused += 1
            continue
        # scikit-learn#34828: compared all the same, although the splitter itself refuses them.
        empty += any(not test for _, test in folds)
        cases.append(case | {"folds": folds})
        wanted -= 1
print(json.dumps({"splits": cases}, separators=(",", ":")).replace('{"kind"', '\n{"kind"'))
print(f"{len(cases)} problems, {empty} with an empty fold, {refused} refused", file=sys.stderr)
