"""Records random cases over the keywords of torch.optim, of pytorch_optimizer, of timm and of the models in
`optim_models.py`, in f64, for `cargo xtask replay`.

    python optim_random.py > optim_random.json

Pinned: torch 2.15.0, pytorch_optimizer 4.1.0, timm 1.0.31, numpy 2.4.6. A keyword is given with probability 0.6, with one of its
values; starting values and gradients are exact in f32; a quarter of the cases have gradients half of which are 0.
Left out is where pytorch_optimizer departs from the paper or the authors' code: Adan that maximizes compares the first
gradient with its negative, MARS adds epsilon before the correction, RAdam is not torch's, Shampoo's momentum is fed with
preconditioned gradients; and coupled decay where the authors have none. Its ADOPT, LAMB and LARS depart too, but the
crate has them as options, other than what LARS does with a gradient of 0; the models beside them are as published.
"""

import json
import random

import numpy as np
import optim_models as model
import pytorch_optimizer as po
import timm.optim as timm
import torch

torch.set_default_dtype(torch.float64)
CHOICE = random.Random(20)
DECAY = {"weight_decay": [0, 0.01, 0.3], "maximize": [True, False]}
SECOND = {"betas": [[0.9, 0.999], [0.8, 0.95], [0.95, 0.99], [0.0, 0.9]], **DECAY}
ADAM = {**SECOND, "eps": [1e-8, 1e-6, 1e-3]}
PAPER = {**SECOND, "betas": SECOND["betas"][:3], "weight_decouple": [True, False]}
MATRICES = [(3, 3), (4, 4), (4, 3), (3, 4), (2, 2, 2), (5,)]
ALL = [(7,), (5, 3), (3, 2, 2), (2, 3, 2, 2), (1,), (), (1, 4), (6, 1)]
o = torch.optim

# name: class, factor of the rate, shapes, keywords
SPACES = {
    "sgd": (o.SGD, 1, ALL, {"momentum": [0.5, 0.9], "dampening": [0, 0.1, 1.0], "nesterov": [True, False], **DECAY}),
    "adam": (o.Adam, 1, ALL, {**ADAM, "amsgrad": [True, False], "decoupled_weight_decay": [True, False]}),
    "adamw": (o.AdamW, 1, ALL, {**ADAM, "amsgrad": [True, False]}),
    "adamax": (o.Adamax, 1, ALL, ADAM),
    "nadam": (o.NAdam, 1, ALL, {**ADAM, "momentum_decay": [0, 4e-3, 0.1], "decoupled_weight_decay": [True, False]}),
    "radam": (o.RAdam, 1, ALL, {**ADAM, "decoupled_weight_decay": [True, False]}),
    "adagrad": (o.Adagrad, 3, ALL, {"lr_decay": [0, 0.01, 0.5], "initial_accumulator_value": [0, 0.1, 2],
                                    "eps": [1e-10, 1e-6], **DECAY}),
    "adadelta": (o.Adadelta, 30, ALL, {"rho": [0.0, 0.5, 0.9, 1.0], "eps": [1e-6, 1e-3], **DECAY}),
    "rmsprop": (o.RMSprop, 0.3, ALL, {"alpha": [0.5, 0.9, 0.99], "eps": [1e-8, 1e-5], "momentum": [0, 0.9],
                                      "centered": [False], **DECAY}),
    "rprop": (o.Rprop, 1, ALL, {"etas": [[0.5, 1.2], [0.3, 1.5]], "step_sizes": [[1e-6, 50], [1e-3, 0.05]],
                                "maximize": [True, False]}),
    "asgd": (o.ASGD, 1, ALL, {"lambd": [0, 1e-4, 0.5], "alpha": [0, 0.5, 1], "t0": [0, 3, 1e6], **DECAY}),
    "adafactor": (o.Adafactor, 1, ALL, {"beta2_decay": [-0.8, -0.5], "d": [1.0, 2.0], **DECAY}),
    "adabelief": (po.AdaBelief, 1, ALL, {**PAPER, "eps": [1e-8, 1e-6]}),
    "adan": (po.Adan, 1, ALL, {**PAPER, "betas": [[0.98, 0.92, 0.99], [0.9, 0.9, 0.99]], "maximize": [False]}),
    "ademamix": (po.AdEMAMix, 1, ALL, {**PAPER, "betas": [[0.9, 0.99, 0.999]], "alpha": [2.0, 8.0],
                                       "t_alpha_beta3": [5, 100]}),
    "lion": (po.Lion, 1, ALL, PAPER),
    "yogi": (po.Yogi, 1, ALL, {**PAPER, "initial_accumulator": [1e-6, 1e-3]}),
    "qhadam": (po.QHAdam, 1, ALL, {**PAPER, "nus": [[1.0, 1.0], [0.7, 0.95]]}),
    "prodigy": (po.Prodigy, 10, ALL, {**PAPER, "weight_decouple": [True], "d0": [1e-3, 1e-2], "d_coef": [0.5, 2.0], "growth_rate": [1.02, 2.0],
                                      "bias_correction": [True, False], "safeguard_warmup": [True, False]}),
    "schedulefreesgd": (po.ScheduleFreeSGD, 10, ALL, {**DECAY, "momentum": [0.9, 0.95], "r": [0.5, 1.0],
                                                      "weight_lr_power": [1.0, 2.0], "warmup_steps": [0, 3]}),
    "schedulefreeadamw": (po.ScheduleFreeAdamW, 1, ALL, {**DECAY, "betas": [[0.9, 0.99], [0.95, 0.999]], "r": [0.5],
                                                         "warmup_steps": [0, 3]}),
    "grams": (po.Grams, 1, ALL, {**PAPER, "weight_decouple": [True]}),
    "laprop": (po.LaProp, 1, ALL, {**PAPER, "weight_decouple": [True]}),
    "stableadamw": (po.StableAdamW, 1, ALL, {**PAPER, "weight_decouple": [True]}),
    "adashift": (po.AdaShift, 1, ALL, {"betas": SECOND["betas"][:3], "keep_num": [1, 2, 5], "maximize": [True]}),
    "soap": (po.SOAP, 1, MATRICES, {"betas": SECOND["betas"][1:3], "precondition_frequency": [1, 2, 10],
                                    "precondition_1d": [False], "correct_bias": [True, False], **DECAY}),
    "shampoo": (po.Shampoo, 1, MATRICES, {"matrix_eps": [1e-3, 1e-4], "weight_decouple": [True, False], **DECAY}),
}


def cautious_adamw(params, **hyper):
    return timm.AdamWLegacy(params, caution=True, **hyper)


# Recorded after those above, so that a new one leaves the others as they are.
SWITCHES = {"foreach": [None, True, False], "differentiable": [False]}
BLOCKS = ["Tensor", "Column", "Row", "Element"]
LATER = [
    ("rmsprop", o.RMSprop, 0.3, ALL, {"alpha": [0.5, 0.9, 0.99], "eps": [1e-8, 1e-5], "momentum": [0, 0.9],
                                      "centered": [True], **DECAY}),
    ("sgd", o.SGD, 1, ALL, {"momentum": [0.9], "nesterov": [True, False], "fused": [None, True], **DECAY}),
    ("adamw", o.AdamW, 1, ALL, {**ADAM, **SWITCHES, "amsgrad": [True, False], "capturable": [False]}),
    ("radam", o.RAdam, 1, ALL, {**ADAM, **SWITCHES, "decoupled_weight_decay": [True, False]}),
    ("adabelief", po.AdaBelief, 1, ALL, {**PAPER, "betas": [[0.9, 0.8], [0.9, 0.95], [0.8, 0.99]], "eps": [1e-8, 1e-6],
                                         "rectify": [True, False], "ams_bound": [True, False],
                                         "degenerated_to_sgd": [True, False]}),
    ("adopt", po.ADOPT, 1, ALL, {**PAPER, "eps": [1e-6, 1e-3]}),
    ("lamb", po.Lamb, 1, ALL, {**PAPER, "eps": [1e-6, 1e-3], "adam": [False]}),
    ("lars", po.LARS, 100, ALL, {**DECAY, "momentum": [0.0, 0.9], "dampening": [0.0, 0.1], "nesterov": [True, False],
                                 "trust_coefficient": [1e-3, 1e-2]}),
    ("signum", model.signum, 1, ALL, {**DECAY, "momentum": [0.0, 0.9, 0.965], "weight_decouple": [True, False]}),
    ("adam_atan2", model.adam_atan2, 1, ALL, {**SECOND, "a": [1.0, 2.0], "b": [0.5, 2.0],
                                              "weight_decouple": [True, False]}),
    ("nadamw", model.nadamw, 1, ALL, {**ADAM, "weight_decouple": [True, False]}),
    ("adopt", model.adopt, 1, ALL, {**ADAM, "betas": SECOND["betas"][:3], "weight_decouple": [True, False],
                                    "clip_exponent": [None, 0.333, 0.5]}),
    ("lamb", model.lamb, 1, ALL, {**ADAM, "correct_bias": [True, False], "decoupled": [True, False],
                                  "largest_norm": [1.0, 2.0]}),
    ("lars", model.lars, 100, ALL, {**DECAY, "momentum": [0.0, 0.9], "dampening": [0.0, 0.1], "eps": [1e-8, 1e-3],
                                    "nesterov": [True, False], "dampen_first": [True, False],
                                    "trust_coefficient": [1e-3, 1e-2]}),
    ("mars", model.mars, 1, ALL, {**ADAM, "betas": SECOND["betas"][:3], "gamma": [0.0, 0.05], "lr_1d": [0.01],
                                  "optimize_1d": [True, False], "betas_1d": [[0.8, 0.9]], "weight_decay_1d": [0, 0.3]}),
    ("adammini", model.adammini, 1, ALL, {**ADAM, "block": BLOCKS, "weight_decouple": [True, False]}),
    ("sgdw", timm.SGDW, 1, ALL, {"momentum": [0.9], "dampening": [0.0, 0.1], "nesterov": [True, False], **DECAY}),
    ("cautiousadamw", cautious_adamw, 1, ALL, {**ADAM, "maximize": [False], "weight_decay": [0.0, 0.3]}),
    ("laprop", po.LaProp, 1, ALL, {**PAPER, "weight_decouple": [True], "ams_bound": [True]}),
    ("schedulefreeadamw", po.ScheduleFreeAdamW, 1, ALL, {**DECAY, "betas": [[0.9, 0.99], [0.95, 0.9]], "r": [0.5],
                                                         "ams_bound": [True, False], "decoupling_c": [0, 5]}),
]


def keywords(name, space):
    hyper = {key: CHOICE.choice(values) for key, values in space.items() if CHOICE.random() < 0.6}
    if hyper.get("nesterov") and (not hyper.get("momentum") or hyper.get("dampening")):
        hyper["nesterov"] = False
    if name == "adafactor":
        hyper["eps"] = [float(np.finfo(np.float32).eps), CHOICE.choice([1e-3, 1e-2])]
    return hyper


def stepped(make, lr, hyper, init, grads):
    """By a library's class."""
    p = torch.nn.Parameter(torch.tensor(init))
    optimizer = make([p], lr=lr, **{k: tuple(v) if isinstance(v, list) else v for k, v in hyper.items()})
    if hasattr(optimizer, "train"):
        optimizer.train()
    path = []
    for g in grads:
        p.grad = torch.tensor(g)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return path


def modelled(rule, lr, hyper, p, grads):
    path, state = [], {}
    for t, g in enumerate(grads, 1):
        p = rule(lr, hyper, p, g, t, state)
        path.append(p)
    return path


def case(name, make, factor, shapes, space):
    hyper, shape = keywords(name, space), CHOICE.choice(shapes)
    lr = float(f"{factor * CHOICE.choice([1e-3, 0.01, 0.05]):.3g}")
    rng = np.random.default_rng(CHOICE.randrange(1 << 30))
    f32 = lambda x: np.asarray(x, dtype=np.float32).astype(np.float64)
    init, scale = f32(rng.normal(size=shape)), 10.0 ** rng.uniform(-1.5, 0.5)
    grads = [f32(rng.normal(size=shape) * scale) for _ in range(CHOICE.choice([1, 2, 8, 12]))]
    if shapes is ALL and CHOICE.random() < 0.25:
        grads = [f32(g * (rng.random(shape) < 0.5)) for g in grads]
    if make is po.LARS and not all(g.any() for g in grads):
        return None
    run = modelled if make.__module__ == model.__name__ else stepped
    path = run(make, lr, hyper, init, grads)
    if not all(np.isfinite(row).all() for row in path):
        return None
    flat = lambda x, digits: [float(f"{v:.{digits}g}") for v in np.asarray(x).reshape(-1)]
    return {"name": name, "lr": lr, "hyper": hyper, "shape": list(shape), "init": flat(init, 9),
            "grads": [flat(g, 9) for g in grads], "params": [flat(row, 10) for row in path]}


def main():
    cases = [case(name, *space) for name, space in SPACES.items() for _ in range(8)]
    cases += [case(*space) for space in LATER for _ in range(8)]
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in cases if one)
    print('{"optimizers":[\n' + lines + "\n]}")


main()
