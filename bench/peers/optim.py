"""torch's optimizers on the parameters of bench/src/optim.rs: its loop, its foreach and its fused form."""

import time

import torch
from protocol import serve

CLASSES = {
    "sgd": (torch.optim.SGD, {"momentum": 0.9}),
    "adagrad": (torch.optim.Adagrad, {}),
    "rmsprop": (torch.optim.RMSprop, {}),
    "adadelta": (torch.optim.Adadelta, {}),
    "adam": (torch.optim.Adam, {}),
    "adamw": (torch.optim.AdamW, {}),
    "adamax": (torch.optim.Adamax, {}),
    "nadam": (torch.optim.NAdam, {}),
    "radam": (torch.optim.RAdam, {}),
    "rprop": (torch.optim.Rprop, {}),
    "asgd": (torch.optim.ASGD, {}),
    "adafactor": (torch.optim.Adafactor, {}),
    "muon": (torch.optim.Muon, {}),
}
FUSED = {"sgd", "adagrad", "adam", "adamw"}


def shapes(size, quick):
    if size == "mlp":
        return [(784, 128), (1, 128), (128, 64), (1, 64), (64, 10), (1, 10)]
    if size == "transformer":
        block = [(256, 256)] * 4 + [(256, 1024), (1024, 256)] + [(1, 256)] * 9 + [(1, 1024)]
        return [(4000, 256), (256, 256)] + block * 4
    if size.startswith("one of "):
        return [(int(size.removeprefix("one of ")) // 1024, 1024)]
    count, side = size.split(" x ")
    side = int(side.removesuffix("^2"))
    return [(side, side)] * int(count)


def prepare(peer, case, quick):
    parts = case.split(", ")
    if len(parts) != 2 or parts[0] not in CLASSES:
        return None
    kind, options = CLASSES[parts[0]]
    options = dict(options, lr=1e-3)
    if peer == "torch_foreach":
        if parts[0] == "muon":
            return None
        options["foreach"] = True
    elif peer == "torch_fused":
        if parts[0] not in FUSED:
            return None
        options["fused"] = True
    elif parts[0] != "muon":
        options["foreach"] = False
    parameters = [torch.nn.Parameter(torch.randn(shape) * 0.02) for shape in shapes(parts[1], quick)]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * 0.02
    optimizer = kind(parameters, **options)

    def run():
        start = time.perf_counter()
        optimizer.step()
        return time.perf_counter() - start

    return run


serve(prepare, {"torch": torch.__version__})
