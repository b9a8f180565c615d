"""torch's dropout and torchvision's transforms on the images of bench/src/regularize.rs."""

import time

import torch
import torchvision
from protocol import serve
from torchvision.transforms import InterpolationMode, v2

BILINEAR = InterpolationMode.BILINEAR


def prepare(peer, case, quick):
    kind, _, size = case.partition(", ")
    if "x" not in size or not size.startswith("3x"):
        return None
    side = int(size.split("x")[1])
    batch = 32 if quick else 256
    images = torch.rand(batch, 3, side, side)
    labels = torch.arange(batch) % 10
    transforms = {
        "affine": lambda: v2.RandomAffine(30, (0.1, 0.1), (0.8, 1.2), 10, interpolation=BILINEAR),
        "randaugment": lambda: v2.RandAugment(interpolation=BILINEAR),
    }
    mixers = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
    if kind == "dropout":
        work = lambda: torch.nn.functional.dropout(images, 0.5, True)
    elif kind == "drop path":
        work = lambda: torchvision.ops.stochastic_depth(images, 0.2, "row", True)
    elif kind in mixers:
        mixer = mixers[kind](num_classes=10)
        work = lambda: mixer(images, labels)
    elif peer == "torchvision":
        transform = transforms[kind]()
        work = lambda: transform(images)
    else:
        transform = transforms[kind]()
        work = lambda: torch.stack([transform(image) for image in images])

    def run():
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


serve(prepare, {"torch": torch.__version__, "torchvision": torchvision.__version__})
