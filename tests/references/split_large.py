"""Records digests of unshuffled splits of scikit-learn 1.9.1 on problems of thousands of rows.

Labels and groups follow from the row number, so that neither they nor the lists need be stored.

Run: python split_large.py > split_large.json   (needs scikit-learn==1.9.1)
"""

import hashlib
import json
import warnings

import numpy as np
import sklearn
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
)

assert sklearn.__version__ == "1.9.1", sklearn.__version__
warnings.simplefilter("ignore")

PROBLEMS = [
    ({"kind": "kfold", "n": 5000, "k": 7}, KFold(7)),
    ({"kind": "stratified_kfold", "n": 3001, "k": 5}, StratifiedKFold(5)),
    ({"kind": "stratified_kfold", "n": 5000, "k": 12}, StratifiedKFold(12)),
    ({"kind": "group_kfold", "n": 4999, "k": 6}, GroupKFold(6)),
    ({"kind": "group_kfold", "n": 3000, "k": 20}, GroupKFold(20)),
    ({"kind": "stratified_group_kfold", "n": 2000, "k": 5}, StratifiedGroupKFold(5)),
    ({"kind": "stratified_group_kfold", "n": 3500, "k": 9}, StratifiedGroupKFold(9)),
    (
        {"kind": "time_series", "n": 5000, "k": 9, "gap": 3, "max_train": 1500},
        TimeSeriesSplit(9, gap=3, max_train_size=1500),
    ),
    ({"kind": "leave_one_group_out", "n": 2000}, LeaveOneGroupOut()),
]


def columns(n):
    """Ten classes of which one is large, and some 300 groups, the first ones large."""
    mixed = (np.arange(n, dtype=np.uint64) * 2654435761 + 12345) % 2**32 // 1024
    labels = np.where(mixed % 3 == 0, 0, mixed % 10)
    groups = (mixed % 300) * (mixed // 300 % 300) // 300
    return labels.astype(np.int64), groups.astype(np.int64)


cases = []
for case, splitter in PROBLEMS:
    labels, groups = columns(case["n"])
    digest, splits = hashlib.sha256(), 0
    for train, test in splitter.split(np.zeros(case["n"]), labels, groups):
        for rows in (train, test):
            digest.update(len(rows).to_bytes(4, "little"))
            digest.update(rows.astype("<u4").tobytes())
        splits += 1
    cases.append(case | {"splits": splits, "sha256": digest.hexdigest()})
print(json.dumps(cases, separators=(",", ":")).replace('{"kind"', '\n{"kind"'))
