"""Golden values of crates/firebrick-select/src/special.rs and compare.rs.

Run with Python 3 and mpmath 1.3 or later (40 digits; no code of the crate is involved): it prints the
tables that stand in the tests. SciPy 1.17 is used for the exact binomial test and the Clopper-Pearson ends.
"""

from mpmath import betainc, erfc, findroot, mp, mpf, sqrt

mp.dps = 40


def t_tail(t, df):
    t, df = mpf(t), mpf(df)
    return betainc(df / 2, mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2


def f_tail(f, d1, d2):
    f, d1, d2 = mpf(f), mpf(d1), mpf(d2)
    return betainc(d2 / 2, d1 / 2, 0, d2 / (d2 + d1 * f), regularized=True)


def solve(function, start):
    return findroot(function, start, tol=1e-36)


def show(x):
    return repr(float(x))


if __name__ == "__main__":
    from scipy import stats

    print("T_TAIL")
    for t, df in [(0.1, 1), (2, 3), (2.5, 4), (5, 4), (12, 9), (40, 9), (1.5, 0.5), (3, 99), (4, 12345), (6, 1e6), (0.001, 5)]:
        print(f"({t}, {df}, {show(t_tail(t, df))}),")
    print("T_QUANTILE")
    for p, df in [(0.95, 4), (0.975, 4), (0.95, 9), (0.995, 9), (0.9, 1.5), (0.975, 99), (0.9999999, 7), (0.55, 20), (0.975, 1e5)]:
        guess = stats.t.ppf(p, df)
        print(f"({p}, {df}, {show(solve(lambda t: t_tail(t, df) - (1 - mpf(p)), guess))}),")
    print("NORMAL_QUANTILE")
    for p in [0.55, 0.9, 0.975, 0.999, 0.9999999]:
        guess = stats.norm.ppf(p)
        print(f"({p}, {show(solve(lambda z: erfc(z / sqrt(2)) / 2 - (1 - mpf(p)), guess))}),")
    print("BETA")
    for x, a, b in [(0.2, 2, 3), (0.5, 0.5, 0.5), (0.01, 0.5, 20), (0.03, 7, 200), (0.999, 300, 2), (0.52, 60, 50), (0.1, 40, 40)]:
        print(f"({x}, {a}, {b}, {show(betainc(a, b, 0, mpf(x), regularized=True))}),")
    print("F_TAIL")
    for f, d1, d2 in [(4.74, 10, 5), (0.3, 10, 5), (20, 3, 17), (1, 7, 7), (100, 2, 2)]:
        print(f"({f}, {d1}, {d2}, {show(f_tail(f, d1, d2))}),")
    print("CLOPPER_PEARSON (errors, n, level, low, high)")
    for e, n, level in [(0, 20, 0.95), (7, 360, 0.95), (20, 20, 0.9), (180, 360, 0.99), (1, 5, 0.95)]:
        ci = stats.binomtest(e, n).proportion_ci(level, "exact")
        wilson = stats.binomtest(e, n).proportion_ci(level, "wilson")
        print(f"({e}, {n}, {level}, {ci.low!r}, {ci.high!r}), wilson {wilson.low!r}, {wilson.high!r}")
    print("MCNEMAR exact, mid-p")
    for b, c in [(10, 3), (5, 5), (0, 6), (40, 20), (1, 0)]:
        exact = stats.binomtest(b, b + c).pvalue
        mid = 2 * stats.binom.cdf(min(b, c), b + c, 0.5) - stats.binom.pmf(min(b, c), b + c, 0.5)
        print(f"({b}, {c}, {exact!r}, {min(mid, 1.0)!r}),")
    print("PAIRED T on differences")
    d = [0.012, -0.003, 0.02, 0.015, 0.001, 0.008, -0.001, 0.011, 0.009, 0.004]
    r = stats.ttest_1samp(d, 0)
    print(d, repr(r.statistic), repr(r.pvalue))
    m, s2, j = sum(d) / 10, stats.tvar(d), 10
    t = m / ((1 / j + 1 / 9) * s2) ** 0.5
    print("corrected", repr(t), repr(2 * stats.t.sf(abs(t), 9)))
    lo, hi = (m - stats.t.ppf(0.95, 9) * ((1 / j + 1 / 9) * s2) ** 0.5, m + stats.t.ppf(0.95, 9) * ((1 / j + 1 / 9) * s2) ** 0.5)
    print("interval 0.9", repr(lo), repr(hi))
    pairs = [(0.03, 0.01), (0.02, 0.025), (-0.004, 0.012), (0.018, 0.009), (0.011, 0.02)]
    var = [((a - (a + b) / 2) ** 2 + (b - (a + b) / 2) ** 2) for a, b in pairs]
    t = pairs[0][0] / (sum(var) / 5) ** 0.5
    f = sum(a * a + b * b for a, b in pairs) / (2 * sum(var))
    print("5x2", repr(t), repr(2 * stats.t.sf(abs(t), 5)), repr(f), repr(stats.f.sf(f, 10, 5)))
