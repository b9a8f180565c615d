"""torch's linear probe and full fine-tuning of the network of bench/src/transfer.rs: one epoch with AdamW."""

import time

import torch
from protocol import serve
from torch import nn


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 9, 64), nn.ReLU())
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x))


def prepare(peer, case, quick):
    if peer != "torch":
        return None
    samples = 128 if quick else 512
    torch.manual_seed(1)
    model = Cnn()
    inputs, targets = torch.rand(samples, 1, 14, 14), torch.arange(samples) % 10
    module = model
    if case == "head, cached features":
        with torch.no_grad():
            inputs = model.body(inputs)
        module = model.head
    elif case == "head, frozen body each time":
        model.body.requires_grad_(False)
    elif case != "full fine-tuning":
        return None
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-3, fused=True)
    loss = nn.CrossEntropyLoss()

    def run():
        start = time.perf_counter()
        order = torch.randperm(samples)
        for at in range(0, samples, 32):
            rows = order[at:at + 32]
            optimizer.zero_grad()
            loss(module(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        return time.perf_counter() - start

    return run


serve(prepare, {"torch": torch.__version__})
