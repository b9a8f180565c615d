"""torch's clip_grad_norm_ on the gradients of bench/src/stabilize.rs, alone and before a step of its fused AdamW."""

import time

import torch
from protocol import serve


def prepare(peer, case, quick):
    kind, _, size = case.partition(", ")
    if peer != "torch" or kind not in ("clip", "clip for a step", "clip and step", "step"):
        return None
    count, side = size.split(" x ")
    count, side = int(count), int(side.removesuffix("^2"))
    if quick:
        count = -(-count // 8)
    parameters = [torch.nn.Parameter(torch.zeros(side, side)) for _ in range(count)]
    gradients = []
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
        gradients.append(parameter.grad)
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def run():
        norm = torch.nn.utils.get_total_norm(gradients)
        for gradient in gradients:
            gradient.mul_(10.0 / norm)
        start = time.perf_counter()
        if kind != "step":
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if kind in ("clip and step", "step"):
            optimizer.step()
        return time.perf_counter() - start

    return run


serve(prepare, {"torch": torch.__version__})
