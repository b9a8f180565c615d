"""scikit-learn's splitters on the inputs of bench/src/split.rs: every fold's lists are made and dropped."""

import time

import numpy as np
import sklearn
from protocol import serve
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, train_test_split

SPLITTERS = {
    "shuffled k-fold": lambda: KFold(5, shuffle=True, random_state=7),
    "stratified k-fold": lambda: StratifiedKFold(5, shuffle=True, random_state=7),
    "group k-fold": lambda: GroupKFold(5),
}


def prepare(peer, case, quick):
    kind = case.split(",")[0]
    if peer != "scikit-learn" or "listed" not in case:
        return None
    n = 200_000 if quick else 10_000_000
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 10, n)
    groups = rng.integers(0, n // 10, n)
    rows = np.zeros((n, 1), dtype=np.int8)

    if kind == "stratified hold-out":

        def run():
            start = time.perf_counter()
            train_test_split(np.arange(n), test_size=0.2, stratify=labels, random_state=7)
            return time.perf_counter() - start

        return run
    if kind not in SPLITTERS:
        return None

    given = (rows, labels, groups) if kind == "group k-fold" else (rows, labels)

    def run():
        start = time.perf_counter()
        for train, test in SPLITTERS[kind]().split(*given):
            del train, test
        return time.perf_counter() - start

    return run


serve(prepare, {"scikit-learn": sklearn.__version__, "numpy": np.__version__})
