"""Records learning-rate schedules for `cargo xtask replay` and the tests of firebrick-optim.

    python tests/references/schedule.py > tests/references/schedule.json

Made with Python 3.11 and torch 2.15.0. The cases with torch's class names run torch itself; the others are a model in
plain f64, written from the formulas of the papers, with loops where the crate has closed forms.
"""

import json
import math
import random
import warnings

import torch

warnings.filterwarnings("ignore")


def optimizer(lr):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)


def build(name, hyper, optim):
    classes = {c.lower(): getattr(torch.optim.lr_scheduler, c) for c in dir(torch.optim.lr_scheduler)}
    hyper = dict(hyper)
    if "schedulers" in hyper:
        hyper["schedulers"] = [build(c["name"], c["hyper"], optim) for c in hyper["schedulers"]]
        if name == "chainedscheduler":
            return classes[name](hyper["schedulers"], optim)
    return classes[name](optim, **hyper)


def run(name, hyper, lr, steps, metrics=None):
    optim = optimizer(lr)
    scheduler = build(name, hyper, optim)
    rates = []
    for k in range(steps):
        rates.append(optim.param_groups[0]["lr"])
        optim.step()
        if k + 1 < steps:
            scheduler.step(*([metrics[k]] if metrics else []))
    case = {"name": name, "hyper": hyper, "lr": lr, "lrs": rates}
    if metrics:
        case["metrics"] = metrics
    return case


def torch_cases():
    yield run("constantlr", {}, 0.3, 9)
    yield run("constantlr", {"factor": 0.7, "total_iters": 3}, 2.0, 7)
    yield run("constantlr", {"factor": 0.7, "total_iters": 0}, 2.0, 5)
    yield run("linearlr", {}, 0.3, 9)
    yield run("linearlr", {"start_factor": 0.01, "end_factor": 0.6, "total_iters": 17}, 0.05, 25)
    yield run("linearlr", {"start_factor": 1.0, "end_factor": 0.0, "total_iters": 8}, 3.0, 12)
    yield run("linearlr", {"start_factor": 0.5, "total_iters": 0}, 3.0, 4)
    yield run("steplr", {"step_size": 7, "gamma": 0.3}, 0.8, 40)
    yield run("steplr", {"step_size": 1}, 0.8, 12)
    yield run("multisteplr", {"milestones": [3, 3, 11, 20], "gamma": 0.6}, 0.5, 30)
    yield run("multisteplr", {"milestones": [20, 0, 5]}, 0.5, 30)
    yield run("exponentiallr", {"gamma": 0.93}, 0.4, 60)
    yield run("exponentiallr", {"gamma": 1.07}, 0.001, 40)
    yield run("polynomiallr", {}, 0.4, 9)
    yield run("polynomiallr", {"total_iters": 23, "power": 1.7}, 4.0, 30)
    yield run("cosineannealinglr", {"T_max": 20}, 0.1, 21)
    yield run("cosineannealinglr", {"T_max": 13, "eta_min": 0.01}, 0.3, 60)
    yield run("cosineannealinglr", {"T_max": 1}, 0.3, 6)
    yield run("cosineannealinglr", {"T_max": 200, "eta_min": 1e-5}, 5.0, 200)
    yield run("cosineannealingwarmrestarts", {"T_0": 10}, 0.1, 35)
    yield run("cosineannealingwarmrestarts", {"T_0": 1, "T_mult": 3, "eta_min": 0.002}, 0.1, 130)
    yield run("cosineannealingwarmrestarts", {"T_0": 4, "T_mult": 2}, 20.0, 70)
    yield run("onecyclelr", {"max_lr": 0.1, "total_steps": 61, "pct_start": 0.27}, 0.1, 61)
    yield run("onecyclelr", {"max_lr": 1.0, "total_steps": 10}, 0.1, 11)
    yield run("onecyclelr", {"max_lr": 1.0, "total_steps": 40, "three_phase": True, "pct_start": 0.37}, 0.1, 40)
    yield run("onecyclelr", {"max_lr": 1.0, "total_steps": 20, "three_phase": True, "pct_start": 0.65}, 0.1, 20)
    yield run(
        "onecyclelr",
        {"max_lr": 3.0, "epochs": 5, "steps_per_epoch": 9, "anneal_strategy": "linear",
         "div_factor": 10.0, "final_div_factor": 50.0, "cycle_momentum": False},
        0.1, 45)
    yield run("onecyclelr", {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.0}, 0.1, 10)
    yield run("onecyclelr", {"max_lr": 1.0, "total_steps": 10, "pct_start": 0.05}, 0.1, 10)
    yield run("onecyclelr", {"max_lr": 1.0, "total_steps": 10, "pct_start": 1.0}, 0.1, 10)
    yield run("cycliclr", {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": 4, "mode": "triangular2"}, 0.3, 40)
    yield run("cycliclr", {"base_lr": 0.01, "max_lr": 0.4, "step_size_up": 7, "step_size_down": 3}, 0.3, 50)
    yield run(
        "cycliclr",
        {"base_lr": 0.01, "max_lr": 0.4, "step_size_up": 5, "mode": "exp_range", "gamma": 0.97,
         "cycle_momentum": False},
        0.3, 50)
    yield run(
        "sequentiallr",
        {"milestones": [4, 20], "schedulers": [
            {"name": "linearlr", "hyper": {"start_factor": 0.1, "total_iters": 4}},
            {"name": "cosineannealinglr", "hyper": {"T_max": 16}},
            {"name": "constantlr", "hyper": {"factor": 0.02, "total_iters": 1000}}]},
        0.6, 30)
    yield run(
        "chainedscheduler",
        {"schedulers": [
            {"name": "constantlr", "hyper": {"factor": 0.25, "total_iters": 6}},
            {"name": "exponentiallr", "hyper": {"gamma": 0.9}},
            {"name": "multisteplr", "hyper": {"milestones": [9], "gamma": 0.5}}]},
        0.6, 25)

    source = random.Random(4)
    falling = [1.0 / (1 + k) + 0.3 * source.random() for k in range(80)]
    yield run("reducelronplateau", {"patience": 3, "factor": 0.5}, 0.5, 80, falling)
    yield run("reducelronplateau", {"patience": 0, "factor": 0.9, "cooldown": 2}, 0.5, 60, falling)
    yield run(
        "reducelronplateau",
        {"mode": "max", "patience": 2, "threshold": 0.05, "threshold_mode": "abs", "min_lr": 0.01},
        0.5, 60, [1.0 - loss for loss in falling])
    yield run(
        "reducelronplateau",
        {"mode": "max", "patience": 1, "threshold": 0.05, "factor": 0.7, "eps": 0.02}, 0.5, 60,
        [2.0 - loss for loss in falling])
    yield run("reducelronplateau", {"patience": 2, "factor": 0.5}, 1.0, 12, [5.0] * 11 + [5.0])
    yield run("reducelronplateau", {"patience": 0}, 1.0, 20, [-1.0] * 20)


def own(name, hyper, lr, rates):
    return {"name": name, "hyper": hyper, "lr": lr, "lrs": rates}


def shape(cooldown, u, ratio):
    if cooldown == "OneMinusSqrt":
        return 1 - math.sqrt(u)
    if cooldown == "Linear":
        return 1 - u
    if cooldown == "Cosine":
        return math.cos(math.pi * u / 2) ** 2
    if cooldown == "OneMinusSquare":
        return (1 - u) * (1 + u)
    return (math.exp(u * math.log(ratio)) - ratio) / (1 - ratio)


def keras_plateau(lr, metrics, factor, patience, cooldown, min_delta):
    """Keras's ReduceLROnPlateau, epoch by epoch, in mode "min"."""
    best, wait, resting, rates = math.inf, 0, 0, [lr]
    for value in metrics:
        if resting > 0:
            resting -= 1
            wait = 0
        if value < best - min_delta:
            best, wait = value, 0
        elif resting <= 0:
            wait += 1
            if wait >= patience:
                lr, resting, wait = lr * factor, cooldown, 0
        rates.append(lr)
    return rates


def model_cases():
    """Schedules that torch lacks."""
    d, w = 64, 12
    yield own("noam", {"factor": 2.0, "model_size": d, "warmup_steps": w}, None,
              [2.0 * d ** -0.5 * min((k + 1) ** -0.5, (k + 1) * w ** -1.5) for k in range(60)])
    yield own("inverse_sqrt", {"warmup_steps": w}, 0.7,
              [0.7 * (k + 1) / w if k < w else 0.7 * math.sqrt(w) * (k + 1) ** -0.5 for k in range(60)])
    yield own("rex", {"num_steps": 30, "min_lr": 0.05}, 0.7,
              [0.05 + 0.65 * (1 - z) / (0.5 + 0.5 * (1 - z)) for z in (min(k, 30) / 30 for k in range(40))])
    for cooldown in ["OneMinusSqrt", "Linear", "Cosine", "OneMinusSquare", "Exponential"]:
        low, high, rates = 0.02, 0.7, []
        for k in range(50):
            if k < 5:
                rates.append(high * (k + 1) / 5)
            elif k < 25:
                rates.append(high)
            else:
                rates.append(low + (high - low) * shape(cooldown, min(k - 25, 15) / 15, low / high))
        yield own("warmup_stable_decay",
                  {"num_steps": 40, "warmup_steps": 5, "decay_steps": 15, "min_lr": low, "cooldown": cooldown},
                  high, rates)
    yield own("linear_warmup", {"warmup_steps": 9}, 0.7, [0.7 * min(9, k + 1) / 9 for k in range(15)])
    yield own("untuned_warmup", {"beta_2": 0.95}, 0.7,
              [0.7 * (1 - math.exp(-0.05 * (k + 1))) for k in range(40)])
    yield own("untuned_warmup", {"beta_2": 0.95, "shape": "Linear"}, 0.7,
              [0.7 * min(1, 0.05 * (k + 1) / 2) for k in range(50)])
    peak, place, length, rates = 0.7, 0, 3, []
    for k in range(60):
        rates.append(0.01 + (peak - 0.01) * math.cos(math.pi * place / length / 2) ** 2)
        place += 1
        if place == length:
            peak, place, length = peak * 0.8, 0, length * 2
    yield own("warm_restarts", {"first_period": 3, "multiplier": 2, "min_lr": 0.01, "cycle_decay": 0.8}, 0.7, rates)
    yield own("cosine", {"num_steps": 20, "min_lr": 0.1}, 0.7,
              [0.1 + 0.6 * math.cos(math.pi * min(k, 20) / 40) ** 2 for k in range(30)])
    yield own("polynomial", {"num_steps": 20, "min_lr": 0.1, "power": 0.5}, 0.7,
              [0.1 + 0.6 * math.sqrt(1 - min(k, 20) / 20) for k in range(30)])
    source = random.Random(5)
    metrics = [1.0 / (1 + k) + 0.3 * source.random() for k in range(60)]
    for patience, cooldown in [(2, 0), (0, 0), (1, 3), (3, 1)]:
        case = own("plateau",
                   {"factor": 0.5, "patience": patience, "cooldown": cooldown, "threshold": 1e-3, "min_change": 0.0,
                    "threshold_rule": "Absolute", "patience_rule": "Keras"},
                   0.7, keras_plateau(0.7, metrics, 0.5, patience, cooldown, 1e-3))
        yield case | {"metrics": metrics}


cases = [*torch_cases(), *model_cases()]
print('{"schedules":[')
print(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases))
print("]}")
