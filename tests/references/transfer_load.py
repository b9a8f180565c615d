"""Writes transfer_load.json: what torch and timm do to weights between two models, and the files that torch writes.

    python3 transfer_load.py > transfer_load.json

Made with torch 2.15.0, timm 1.0.31, safetensors 0.8.0, NumPy 2.4.6. Files are given in hexadecimal digits. fastai's form of
the first convolution is written from the description of `_load_pretrained_weights` in fastai 2.8.12.
"""

import collections
import io
import json
import os
import sys
import zipfile

import safetensors.torch
import timm
import torch

from timm.layers import resample_abs_pos_embed
from timm.models._manipulate import adapt_input_conv
from torch import nn


def numbers(tensor):
    return [float(value) for value in tensor.detach().double().flatten()]


def case(tensor):
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).split(".")[1], "values": numbers(tensor)}


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def fastai(weight, channels):
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if channels == 2:
        return weight[:, :2] * 1.5
    wide = torch.zeros(weight.shape[0], channels, *weight.shape[2:])
    wide[:, :3] = weight
    return wide


def channels():
    cases = []
    for index, (have, want) in enumerate([(3, 1), (3, 2), (3, 4), (3, 5), (3, 6), (3, 8), (4, 1), (4, 6), (4, 3)]):
        weight = draw(2, have, 2, 2, seed=index)
        new = adapt_input_conv(want, weight.clone(), base_chans=have)
        cases.append({"form": "timm", "weight": case(weight), "channels": want, "result": case(new)})
    half = draw(2, 3, 2, 2, seed=40, dtype=torch.float16)
    for want in (1, 5):
        new = adapt_input_conv(want, half.clone())
        cases.append({"form": "timm", "weight": case(half), "channels": want, "result": case(new)})
    for index, want in enumerate((1, 2, 4, 7)):
        weight = draw(2, 3, 2, 2, seed=50 + index)
        cases.append({"form": "fastai", "weight": case(weight), "channels": want, "result": case(fastai(weight, want))})
    return cases


def positions():
    cases = []
    for index, (old, new, prefix, antialias, dtype) in enumerate([
        ((3, 3), (5, 5), 1, True, torch.float32),
        ((5, 5), (3, 3), 1, True, torch.float32),
        ((5, 5), (3, 3), 1, False, torch.float32),
        ((3, 3), (5, 5), 0, False, torch.float32),
        ((2, 4), (4, 2), 0, True, torch.float32),
        ((6, 3), (2, 5), 2, True, torch.float32),
        ((7, 7), (2, 2), 1, True, torch.float32),
        ((2, 2), (7, 7), 1, True, torch.float32),
        ((1, 4), (1, 6), 0, True, torch.float32),
        ((4, 4), (3, 3), 1, True, torch.float16),
    ]):
        table = draw(1, prefix + old[0] * old[1], 2, seed=100 + index, dtype=dtype)
        got = resample_abs_pos_embed(table, list(new), list(old), num_prefix_tokens=prefix, antialias=antialias)
        cases.append({"table": case(table), "old": old, "new": new, "prefix": prefix, "antialias": antialias, "result": case(got)})
    return cases


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.fc1 = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.fc2 = nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.bn(self.conv(x))).mean((2, 3))
        return self.fc2(self.norm(torch.relu(self.fc1(x))))


def small():
    torch.manual_seed(7)
    model = Small()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    model(draw(8, 3, 4, 4, seed=8) * 2 + 1)  # running statistics that are not those of a fresh layer
    return model.eval()


def tensors(state):
    return {name: case(tensor) for name, tensor in state.items()}


def files():
    flat = collections.OrderedDict([("weight", draw(2, 3, seed=1)), ("bias", draw(2, seed=2))])
    wide = draw(4, 6, seed=3)
    shared = draw(6, seed=4)
    made = []

    def add(name, bytes, state):
        made.append({"name": name, "bytes": bytes.hex(), "tensors": tensors(state)})

    for protocol in (2, 3, 4, 5):
        add(f"zip, protocol {protocol}", saved(flat, pickle_protocol=protocol), flat)
    for protocol in (2, 4):
        add(f"legacy, protocol {protocol}", saved(flat, pickle_protocol=protocol, _use_new_zipfile_serialization=False), flat)
    kinds = {
        str(dtype).split(".")[1]: draw(2, 2, seed=5).mul(3).to(dtype)
        for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    }
    kinds["uint16"] = torch.tensor([1, 65535], dtype=torch.uint16)
    add("element types", saved(kinds), kinds)
    add("element types, legacy", saved({k: v for k, v in kinds.items() if k != "uint16"}, _use_new_zipfile_serialization=False),
        {k: v for k, v in kinds.items() if k != "uint16"})
    views = {"transposed": wide.t(), "column": wide[:, 1], "block": wide[1:3, 2:5], "step": wide[::2, ::3], "scalar": torch.tensor(2.5)}
    add("views", saved(views), views)
    one = {"first": shared[:3], "second": shared[2:], "whole": shared}
    add("one storage", saved(one), one)
    nested = {"epoch": 3, "state_dict": flat, "optimizer": {"state": {0: {"exp_avg": draw(2, seed=6)}}, "lr": 0.1}}
    add("nested", saved(nested), {"state_dict.weight": flat["weight"], "state_dict.bias": flat["bias"], "optimizer.state.0.exp_avg": draw(2, seed=6)})
    parameters = {"weight": nn.Parameter(flat["weight"]), "bias": nn.Parameter(flat["bias"])}
    add("parameters", saved(parameters), parameters)
    add("safetensors", safetensors.torch.save(dict(flat)), flat)
    add("safetensors, format pt", safetensors.torch.save(dict(flat), metadata={"format": "pt"}), flat)
    half = {name: tensor.half() for name, tensor in flat.items()}
    add("safetensors, half", safetensors.torch.save(half), half)
    return made


class Call:
    """Pickles as a call of os.system that would make a file."""

    def __reduce__(self):
        return os.system, ("touch /tmp/firebrick-transfer-was-run",)


def evil():
    flat = {"weight": draw(2, 2, seed=9)}
    cases = []
    for protocol in (2, 4):
        for zip in (True, False):
            data = saved({"weight": flat["weight"], "extra": Call()}, pickle_protocol=protocol, _use_new_zipfile_serialization=zip)
            cases.append({"name": f"call, protocol {protocol}, zip {zip}", "bytes": data.hex()})
    good = zipfile.ZipFile(io.BytesIO(saved(flat, pickle_protocol=2)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as out:
        for entry in good.namelist():
            data = good.read(entry)
            if entry.endswith("data.pkl"):
                code = b"cbuiltins\nexec\nX" + (4).to_bytes(4, "little") + b"pass\x85R0"
                data = data[:2] + code + data[2:]
            out.writestr(entry, data)
    cases.append({"name": "call whose result is dropped", "bytes": buffer.getvalue().hex()})
    model = saved(nn.Linear(2, 2))
    cases.append({"name": "whole module", "bytes": model.hex()})
    return cases


def network():
    model = small()
    inputs = draw(2, 3, 4, 4, seed=11)
    state = model.state_dict()
    return {
        "inputs": case(inputs),
        "outputs": case(model(inputs)),
        "legacy": saved(state, _use_new_zipfile_serialization=False).hex(),
        "zip": saved(state).hex(),
        "safetensors": safetensors.torch.save(dict(state)).hex(),
        "half": safetensors.torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}).hex(),
        "module": saved(model).hex(),
    }


# `__main__.Small` would be refused by any reader, so the whole module has the name that a library's would have.
Small.__module__ = "library.models"
sys.modules["library"] = sys.modules["library.models"] = sys.modules["__main__"]
versions = {"torch": torch.__version__, "timm": timm.__version__, "safetensors": safetensors.__version__}
json.dump({"made_with": versions, "channels": channels(), "positions": positions(), "files": files(), "evil": evil(), "network": network()},
          sys.stdout, separators=(",", ":"))
print()
