#!/usr/bin/env python3
"""PyTorch's float64 beside the strategies beyond the comparison: delta, bss, stoch-norm, lora, step by step.

    python3 tests/reference/make_beyond.py [CASE ...]     into tests/reference/strategies/
    python3 tests/reference/make_beyond.py --follow build/cpu/bin/graft [--size 64] [CASE ...]     ResNet-50 through graft

The files are like those of make_strategies.py, which has the network, the images and the summaries.

The strategies are written as their authors would in PyTorch: penalties are terms of the loss, autograd differentiates
singular values, StochNorm computes both normalisations and chooses (by graft's Philox), LoRA adds the factors' product to
frozen weights.

Written with torch 2.15 on a CPU.
"""
import argparse
import copy
import fnmatch
import json
import math
import pathlib
import sys

import numpy as np
import torch

from make_strategies import (COMMON, TRAIN_IMAGES, VAL_IMAGES, Model, follow_program, formula_network, labels,
                             macro_accuracy, make_optimizer, pixels, summary, tensors_of)


# Small plain steps: Adam, and large ones on these random weights, make visible noise of a float64's rounding.
ONE_EPOCH = {"train.epochs": 1, "train.batch": 4, "train.optimizer": "sgd", "train.lr": 1e-5}
CASES = {
    "delta": ONE_EPOCH,
    "delta-mean": {**ONE_EPOCH, "strategy.reduction": "mean", "strategy.alpha": 0.5,
                   "strategy.blocks": "denseblock3, stem"},
    "bss": {**ONE_EPOCH, "train.bss": 0.1, "train.bss_values": 3},
    "stoch-norm": {**ONE_EPOCH, "strategy.p": 0.3, "train.seed": 7},
    "lora": {**ONE_EPOCH, "train.optimizer": "adam", "train.lr": 0.001, "strategy.rank": 3, "strategy.alpha": 6.0,
             "strategy.layers": "features.denseblock?.*", "strategy.frozen_batch_norm": "trained", "train.seed": 7,
             "train.weight_decay": 0.01},
}


# What names blocks or layers, on another network.
# bss: at 1e-5 torch differs from itself in its other memory format by 1.9e-7 of a tensor's change.
ON_RESNET = {"delta-mean": {"strategy.blocks": "layer3, stem"}, "lora": {"strategy.layers": "layer*.conv?"},
             "bss": {"train.lr": 1e-6}}


def settings_of(case):
    name = max((s for s in KINDS if case.startswith(s)), key=len)
    return {"strategy.name": name, **COMMON, **CASES[case]}


def settings_on_resnet(case):
    return {**settings_of(case), **ON_RESNET.get(case, {})}



STEM = {"densenet121": "features.pool0", "resnet50": "maxpool"}  # where the first block ends


# Strategies. `begin()` freezes, before every epoch; `penalty()` is a term of the loss; `finish()` ends the run.

class Strategy:
    def __init__(self, model, settings):
        self.m, self.s = model, settings
        self.setup()

    def option(self, key, default):
        return self.s.get("strategy." + key, default)

    def setup(self):
        pass

    def penalty(self):
        return None

    def finish(self):
        pass

    def train_all(self, batch_norm):
        self.m.freeze(lambda n: batch_norm != "frozen" or not self.m.is_norm(n), lambda n: batch_norm == "batch")


class Delta(Strategy):
    """Feature maps of a frozen copy in evaluation mode beside those of the network that trains."""

    def setup(self):
        self.source = copy.deepcopy(self.m.network).eval().requires_grad_(False)
        modules = {"stem": STEM[self.m.architecture],
                   **{prefixes[0].split(".")[-1]: prefixes[0] for prefixes in self.m.blocks[1:-1]}}
        names = self.option("blocks", "auto")
        chosen = list(modules)[1:] if names == "auto" else [n.strip() for n in names.split(",")]
        self.outputs, self.targets = {}, {}
        for network, kept in ((self.m.network, self.outputs), (self.source, self.targets)):
            for name in chosen:
                network.get_submodule(modules[name]).register_forward_hook(
                    lambda module, x, y, name=name, kept=kept: kept.__setitem__(name, y))
        self.m.network.register_forward_pre_hook(lambda module, x: setattr(self, "images", x[0]))

    def begin(self):
        self.train_all(self.option("batch_norm", "batch"))

    def penalty(self):
        with torch.no_grad():
            self.source(self.images)
        total = sum(0.5 * ((y - self.targets[n]) ** 2).sum() / (y.shape[2] * y.shape[3])
                    for n, y in self.outputs.items())
        if self.option("reduction", "sum") == "mean":
            total = total / len(self.images)
        return self.option("alpha", 0.01) * total


class Bss(Strategy):
    def setup(self):
        self.m.network.get_submodule(self.m.head).register_forward_pre_hook(
            lambda module, x: setattr(self, "features", x[0]))

    def begin(self):
        self.train_all(self.option("batch_norm", "batch"))

    def penalty(self):
        values = torch.linalg.svdvals(self.features)
        return self.s["train.bss"] * (values[-self.s.get("train.bss_values", 1):] ** 2).sum()


def philox_uniforms(seed, stream, epoch, index, count):
    """The first numbers in [0, 1) of kernels/philox.h at a place; index may be an array."""
    index = np.atleast_1d(np.asarray(index, dtype=np.uint64))
    blocks = np.arange((count + 1) // 2, dtype=np.uint64)
    low = np.uint64(0xFFFFFFFF)
    c = [np.broadcast_to(blocks, (len(index), len(blocks))).copy(), (index[:, None] & low) + blocks * np.uint64(0),
         (index[:, None] >> np.uint64(32)) + blocks * np.uint64(0), np.full((len(index), len(blocks)), epoch, np.uint64)]
    k = [seed & 0xFFFFFFFF, ((seed >> 32) ^ (stream * 0x85EBCA6B)) & 0xFFFFFFFF]
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), b & low, (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), a & low]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    words = [((c[i] << np.uint64(32) | c[i + 1]) >> np.uint64(11)).astype(np.float64) * 2.0**-53 for i in (0, 2)]
    return np.stack(words, axis=2).reshape(len(index), -1)[:, :count]


class StochNorm(Strategy):
    """As in the authors' code: both normalisations, and a choice between them for every channel."""

    def setup(self):
        self.step = -1
        self.m.network.register_forward_pre_hook(self.start_step)
        # Draws are numbered in graft's order, which computes a block's projection first.
        order = list(self.m.norms)
        for name in [n for n in order if ".downsample" in n]:
            order.remove(name)
            order.insert(order.index(name.rsplit(".downsample", 1)[0] + ".bn1"), name)
        for number, name in enumerate(order):
            norm = self.m.norms[name]
            norm.forward = lambda x, norm=norm, number=number: self.normalize(norm, number, x)

    def start_step(self, module, x):
        if module.training:
            self.step += 1

    def normalize(self, m, number, x):
        fixed = torch.nn.functional.batch_norm(x, m.running_mean.clone(), m.running_var.clone(), m.weight, m.bias, False,
                                               0.0, m.eps)
        if not m.training:
            return fixed
        moving = torch.nn.functional.batch_norm(x, m.running_mean, m.running_var, m.weight, m.bias, True, m.momentum,
                                                m.eps)
        draws = philox_uniforms(self.s.get("train.seed", 0), 8, (self.step << 8) + number, np.arange(x.shape[1]), 1)
        s = torch.from_numpy((draws[:, 0] < self.option("p", 0.5)).astype(np.float64)).reshape(1, -1, 1, 1)
        return (1 - s) * fixed + s * moving

    def begin(self):
        self.train_all("batch")


class Lora(Strategy):
    def setup(self):
        rank, pattern = self.option("rank", 8), self.option("layers", "*")
        self.scale = self.option("alpha", 8.0) / rank
        self.adapted = []
        for index, (name, weight) in enumerate(list(self.m.parameters.items())):
            layer = name.rsplit(".", 1)[0]
            if weight.dim() != 4 or not fnmatch.fnmatchcase(layer, pattern):
                continue
            fan = weight[0].numel()
            u = philox_uniforms(self.s.get("train.seed", 0), 9, index, 0, rank * fan)[0]
            down = torch.from_numpy((2 * u - 1) / math.sqrt(fan)).reshape(rank, *weight.shape[1:]).requires_grad_()
            up = torch.zeros(weight.shape[0], rank, dtype=torch.float64, requires_grad=True)
            self.m.parameters[name + ".lora_down"], self.m.parameters[name + ".lora_up"] = down, up
            module = self.m.network.get_submodule(layer)
            module.forward = lambda x, m=module, a=down, b=up: torch.nn.functional.conv2d(
                x, self.sum(m.weight, a, b), m.bias, m.stride, m.padding)
            self.adapted.append((module, down, up))

    def sum(self, weight, down, up):
        return weight + self.scale * (up @ down.flatten(1)).reshape(weight.shape)

    def begin(self):
        frozen = self.option("frozen_batch_norm", "fixed")
        self.m.freeze(lambda n: ".lora_" in n or self.m.is_head(n) or (frozen == "trained" and self.m.is_norm(n)),
                      lambda n: frozen != "fixed")

    def finish(self):
        with torch.no_grad():
            for module, down, up in self.adapted:
                module.weight.copy_(self.sum(module.weight, down, up))


KINDS = {"delta": Delta, "bss": Bss, "stoch-norm": StochNorm, "lora": Lora}


def scheduled(settings, epoch):
    return settings["train.lr"] / 2 * (1 + math.cos(math.pi * epoch / settings["train.epochs"]))


def follow(model, settings, size):
    """Trains the model; losses, penalties and validation losses."""
    numbers = list(range(TRAIN_IMAGES))
    size_of_batch = settings["train.batch"]
    batches = [(pixels(numbers[i:i + size_of_batch], size), labels(numbers[i:i + size_of_batch]))
               for i in range(0, TRAIN_IMAGES, size_of_batch)]
    validation = list(range(TRAIN_IMAGES, TRAIN_IMAGES + VAL_IMAGES))
    val_x, val_y = pixels(validation, size), labels(validation)
    strategy = KINDS[settings["strategy.name"]](model, settings)
    optimizer = make_optimizer(settings, model)
    result = {"losses": [], "penalties": [], "rates": [], "val_losses": [], "val_macro_accuracies": []}
    for epoch in range(settings["train.epochs"]):
        strategy.begin()
        for x, y in batches:
            for group in optimizer.param_groups:
                group["lr"] = scheduled(settings, epoch)
            loss = torch.nn.functional.cross_entropy(model.network(x), y)
            penalty = strategy.penalty()
            optimizer.zero_grad(set_to_none=True)
            (loss if penalty is None else loss + penalty).backward()
            optimizer.step()
            result["losses"].append(loss.item())
            result["penalties"].append(penalty.item() if penalty is not None else 0.0)
            result["rates"].append(scheduled(settings, epoch))
        model.network.eval()
        with torch.no_grad():
            logits = model.network(val_x)
        result["val_losses"].append(torch.nn.functional.cross_entropy(logits, val_y).item())
        result["val_macro_accuracies"].append(float(macro_accuracy(logits.argmax(1), val_y)))
    strategy.finish()
    return result


def write_reference(case, folder):
    settings = settings_of(case)
    network = copy.deepcopy(formula_network("densenet121"))
    start = tensors_of(network)
    result = follow(Model("densenet121", network), settings, 32)
    changes = {n: summary(n, t - start[n]) for n, t in tensors_of(network).items() if (t != start[n]).any()}
    digits = lambda values: [float(f"{v:.13g}") for v in values]
    lines = [f' "settings": {json.dumps(settings)}']
    lines += [f' "{k}": {json.dumps(digits(v))}' for k, v in result.items()]
    lines.append(' "changes": {\n' + ",\n".join(f'  "{n}": {json.dumps(digits(v))}' for n, v in changes.items()) + "}")
    (folder / f"{case}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{case}: losses {result['losses'][0]:.6f} .. {result['losses'][-1]:.6f}, penalty "
          f"{result['penalties'][-1]:.4g}, validation {result['val_macro_accuracies']}, {len(changes)} tensors moved",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--follow", metavar="GRAFT", help="the program to compare with, on ResNet-50")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    a = parser.parse_args()
    if unknown := set(a.cases) - set(CASES):
        parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(CASES)}")
    torch.set_num_threads(2)
    if a.follow:
        sys.exit(bool(follow_program(a.follow, "resnet50", a.size, a.cases, settings_on_resnet, follow)))
    folder = pathlib.Path(__file__).parent / "strategies"
    folder.mkdir(exist_ok=True)
    for case in a.cases:
        write_reference(case, folder)


if __name__ == "__main__":
    main()
