"""Writes transfer_efficientnet.json: what the reference implementation of EfficientNet-Lite0 gives for two inputs.

    cargo xtask fetch efficientnet
    pip install --no-deps efficientnet-lite-pytorch==0.1.0
    python3 transfer_efficientnet.py ~/.cache/firebrick/efficientnet-lite0.pth > transfer_efficientnet.json

Made with torch 2.15.0. The inputs are exact in single precision and need no file:
input n has the value ((7 + n) y + (13 + 2 n) x + 31 c) mod 64 / 32 - 1 at channel c, row y, column x of 3 x 224 x 224.
"""

import json
import sys

import torch
from efficientnet_lite_pytorch import EfficientNet

torch.manual_seed(0)
model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=sys.argv[1]).eval()
c, y, x = torch.meshgrid(torch.arange(3), torch.arange(224), torch.arange(224), indexing="ij")
inputs = torch.stack([((7 + n) * y + (13 + 2 * n) * x + 31 * c) % 64 / 32 - 1 for n in range(2)])
with torch.no_grad():
    outputs = model(inputs)
values = [[float(f"{value:.9g}") for value in row] for row in outputs.tolist()]
json.dump({"made_with": {"torch": torch.__version__, "efficientnet-lite-pytorch": "0.1.0"}, "outputs": values}, sys.stdout, separators=(",", ":"))
print()
