#!/usr/bin/env python3
"""Every strategy, followed step by step by an independent PyTorch implementation in float64.

    python3 tests/reference/make_strategies.py                       all cases, into tests/reference/strategies/
    python3 tests/reference/make_strategies.py l2-sp auto-rgn        some of them
    python3 tests/reference/make_strategies.py --follow build/cpu/bin/graft [--arch resnet50] [--size 64] [CASE ...]

Without --follow it writes what tests/strategies/reference_test.cpp compares with: DenseNet-121 at 32 pixels whose weights
come from a formula that both sides compute (make_network_references.py, tests/models/models_testing.h), trained on drawn
images; the files hold results alone: the settings, losses, penalties, validation losses, and of every tensor that moved
the norm of its change and projections of it.

With --follow it trains another network, warmed up here so that its running statistics fit, runs `graft train --device
reference` on it for every case and compares losses and whole tensors: too slow for every build. Needs torchvision and
h5py. Exits non-zero if anything is off.

The strategies are written as their authors would in PyTorch, from the papers and official codes that docs/strategies.md
names: penalties are terms of the loss, frozen parameters have no gradient, Auto-RGN makes a new Adam every epoch.

Written with torch 2.15 on a CPU.
"""
import argparse
import copy
import csv
import functools
import json
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torchvision

from make_network_references import tensor_values, uniform

CLASSES = 3
TRAIN_IMAGES, VAL_IMAGES = 12, 6
PROJECTIONS = 2
COMMON = {"train.lr": 0.001, "train.optimizer": "adam", "train.schedule": "cosine", "train.epochs": 3,
          "train.batch": 6, "train.shuffle": False, "train.augment": "none", "train.patience": 0,
          "train.weight_decay": 0.0, "train.dropout": 0.0}

# Every strategy in its first reading, then others; "train.batch" 12 is one step per epoch. Fresh Adam moments make steps of
# the whole rate in every element, and batch statistics over 12 values pass on every rounding: eleven steps at 1e-3 grew it
# from 1e-12 to 1e-1 (50 to 1500 times a step), hence 1e-4 where both meet.
STAGES = {"train.epochs": 11, "train.batch": 12}
CASES = {
    "full": {},
    "full-frozen-norms": {"strategy.batch_norm": "frozen", "train.optimizer": "sgd", "train.weight_decay": 0.01},
    "linear-probe": {},
    "linear-probe-updated": {"strategy.frozen_batch_norm": "updated", "train.clip_norm": 0.5},
    "gradual-last-first": {**STAGES, "train.lr": 1e-4},
    "gradual-last-first-ulmfit": {**STAGES, "strategy.stage_epochs": 1, "strategy.lr_divisor": 2.6,
                                  "strategy.batch_norm": "running", "train.weight_decay": 0.01},
    "gradual-first-last": {**STAGES, "strategy.frozen_batch_norm": "trained", "train.lr": 1e-4},
    "lp-ft": {"train.epochs": 5, "strategy.probe_epochs": 3, "train.lr": 0.03},
    "lp-ft-batch": {"train.epochs": 4, "strategy.batch_norm": "batch", "train.optimizer": "sgd"},
    "discriminative": {"train.schedule": "slanted-triangular"},
    "bn-only": {},
    "l1-sp": {"strategy.alpha": 0.01},
    "l1-sp-proximal": {"strategy.mode": "proximal", "strategy.alpha": 0.01},
    "l2-sp": {},
    "l2-sp-decoupled": {"strategy.mode": "decoupled", "strategy.alpha": 3.0, "strategy.beta": 2.0},
    "l2-sp-all": {"strategy.tensors": "all", "strategy.alpha": 1.0, "train.optimizer": "sgd"},
    "auto-rgn": {"train.weight_decay": 1e-4, "strategy.probe_batches": 2},
    "auto-rgn-module": {"strategy.per": "module", "strategy.norm_tensors": "included", "strategy.batch_norm": "batch",
                        "strategy.moments": "kept"},
    "auto-rgn-step": {"strategy.every": "step", "train.weight_decay": 1e-4, "train.epochs": 4},
    "auto-snr": {"strategy.threshold": 0.95},
}
STRATEGIES = ["full", "linear-probe", "gradual-last-first", "gradual-first-last", "lp-ft", "discriminative", "bn-only",
              "l1-sp", "l2-sp", "auto-rgn", "auto-snr"]


def settings_of(case):
    name = max((s for s in STRATEGIES if case.startswith(s)), key=len)
    return {"strategy.name": name, **COMMON, **CASES[case]}


# Data: drawn by the formula.

def image(number, size):
    """(size, size, 3) bytes: noise around the colour of its class."""
    noise = np.concatenate([u for _, u in uniform(f"image.{number}", size * size * 3)])
    label = number % CLASSES
    colour = np.array([140.0 if c == label else 90.0 for c in range(3)])
    return (noise.reshape(size, size, 3) * 80 + colour).astype(np.uint8)


def pixels(numbers, size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    x = np.stack([image(n, size) for n in numbers]).astype(np.float32) / np.float32(255)
    x = (x - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(x.transpose(0, 3, 1, 2).astype(np.float64)).contiguous()


def labels(numbers):
    return torch.tensor([n % CLASSES for n in numbers])


# Networks: their blocks, head and norms by torchvision's names.

BLOCKS = {
    "densenet121": [("features.conv0", "features.norm0"), ("features.denseblock1",), ("features.transition1",),
                    ("features.denseblock2",), ("features.transition2",), ("features.denseblock3",),
                    ("features.transition3",), ("features.denseblock4",), ("features.norm5", "classifier")],
    "resnet50": [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",), ("fc",)],
}


class Model:
    def __init__(self, architecture, network):
        self.architecture, self.network = architecture, network
        self.blocks = BLOCKS[architecture]
        self.parameters = dict(network.named_parameters())
        self.norms = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
        self.head = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)][-1]

    def block(self, name):
        return next(b for b, prefixes in enumerate(self.blocks)
                    if any(name == p or name.startswith(p + ".") for p in prefixes))

    def is_head(self, name):
        return name.startswith(self.head + ".")

    def is_norm(self, name):
        return name.rsplit(".", 1)[0] in self.norms

    def freeze(self, trains, uses_batch):
        """requires_grad by the parameter's name; a batch norm in training mode where uses_batch(its name)."""
        for name, p in self.parameters.items():
            p.requires_grad_(bool(trains(name)))
        self.network.train()
        for name, m in self.norms.items():
            m.train(bool(uses_batch(name)))


# Strategies. `begin(epoch)` freezes, and says what holds in the epoch: {"factors": rate factors by name, "lr": (base, first
# epoch, epochs) of the schedule, "restart": a new optimizer}. `penalty()` is a term of the loss. `after(rates)` may change
# parameters after the optimizer's step.

class Strategy:
    def __init__(self, model, settings, first_batches):
        self.m, self.s, self.first_batches = model, settings, first_batches
        self.epochs = settings["train.epochs"]
        self.setup()

    def option(self, key, default):
        return self.s.get("strategy." + key, default)

    def setup(self):
        pass

    def penalty(self):
        return None

    def before(self, rates):
        pass

    def after(self, rates):
        pass

    def train_all(self, batch_norm):
        self.m.freeze(lambda n: batch_norm != "frozen" or not self.m.is_norm(n), lambda n: batch_norm == "batch")


class Full(Strategy):
    def begin(self, epoch):
        self.train_all(self.option("batch_norm", "batch"))
        return {}


class LinearProbe(Strategy):
    def begin(self, epoch):
        frozen = self.option("frozen_batch_norm", "fixed")
        self.m.freeze(lambda n: self.m.is_head(n) or (frozen == "trained" and self.m.is_norm(n)),
                      lambda n: frozen != "fixed")
        return {}


class Gradual(Strategy):
    def begin(self, epoch):
        n = len(self.m.blocks) - 1
        period = self.option("stage_epochs", 0) or max(1, self.epochs // (n + 1))
        stage = min(n, epoch // period)
        order = range(n - 1, -1, -1) if self.s["strategy.name"].endswith("last-first") else range(n)
        unfrozen = set(list(order)[:stage]) | ({n} if stage else set())
        norms, frozen = self.option("batch_norm", "batch"), self.option("frozen_batch_norm", "fixed")

        def trains(name):
            if self.m.is_head(name):
                return True
            if self.m.block(name) in unfrozen:
                return not (norms == "frozen" and self.m.is_norm(name))
            return frozen == "trained" and self.m.is_norm(name)

        self.m.freeze(trains, lambda b: norms == "batch" if self.m.block(b) in unfrozen else frozen != "fixed")
        divisor = self.option("lr_divisor", 1.0)
        return {"factors": {p: divisor ** -(n - self.m.block(p)) for p in self.m.parameters}}


class LpFt(Strategy):
    def begin(self, epoch):
        probing = self.option("probe_epochs", 0) or max(1, self.epochs // 3)
        if epoch < probing:
            self.m.freeze(self.m.is_head, lambda n: False)
            return {"lr": (self.s["train.lr"], 0, probing)}
        self.train_all(self.option("batch_norm", "running"))
        return {"lr": (self.s["train.lr"] * 0.1, probing, self.epochs - probing), "restart": epoch == probing,
                "from_best": epoch == probing}


class Discriminative(Strategy):
    def begin(self, epoch):
        self.train_all("batch")
        n = len(self.m.blocks) - 1
        return {"factors": {p: 2.6 ** -(n - self.m.block(p)) for p in self.m.parameters}}


class BnOnly(Strategy):
    def begin(self, epoch):
        self.m.freeze(lambda n: self.m.is_head(n) or self.m.is_norm(n), lambda n: True)
        return {}


class Sp(Strategy):
    """L1-SP and L2-SP: autograd differentiates the penalty; what is not a term of the loss is done by hand."""

    def setup(self):
        l1 = self.s["strategy.name"] == "l1-sp"
        self.alpha, self.beta = self.option("alpha", 1e-4 if l1 else 0.1), self.option("beta", 0.01)
        self.mode = self.option("mode", "subgradient" if l1 else "coupled")
        everything = self.option("tensors", "kernels") == "all"
        self.backbone = {n: p.detach().clone() for n, p in self.m.parameters.items()
                         if not self.m.is_head(n) and (everything or p.dim() > 1)}
        self.head_kernel = self.m.parameters[self.m.head + ".weight"]
        self.power = 1 if l1 else 2

    def begin(self, epoch):
        self.train_all("batch")
        return {}

    def terms(self):
        moved = [self.m.parameters[n] - w0 for n, w0 in self.backbone.items()]
        backbone = (sum(d.abs().sum() for d in moved) if self.power == 1 else sum((d * d).sum() for d in moved) / 2)
        return self.alpha * backbone, self.beta / 2 * (self.head_kernel ** 2).sum()

    def penalty(self):
        backbone, head = self.terms()
        if self.mode == "decoupled":
            return backbone.detach() + head.detach()
        if self.mode == "proximal":
            return backbone.detach() + head
        return backbone + head

    def before(self, rates):
        if self.mode != "decoupled":
            return
        backbone, head = self.terms()
        named = {**{n: self.m.parameters[n] for n in self.backbone}, self.m.head + ".weight": self.head_kernel}
        self.pull = dict(zip(named, torch.autograd.grad(backbone + head, list(named.values()))))

    def after(self, rates):
        with torch.no_grad():
            if self.mode == "decoupled":
                for name, gradient in self.pull.items():
                    self.m.parameters[name] -= rates[name] * gradient
            if self.mode == "proximal":
                for name, w0 in self.backbone.items():
                    d = self.m.parameters[name] - w0
                    self.m.parameters[name].copy_(
                        w0 + torch.sign(d) * torch.clamp(d.abs() - rates[name] * self.alpha, min=0))


class Auto(Strategy):
    """What Auto-RGN and Auto-SNR share: gradients over the epoch's first batches, statistics untouched."""

    def gradients(self, names):
        buffers = {n: b.clone() for n, b in self.m.network.named_buffers()}
        found = []
        for x, y in self.first_batches[:self.option("probe_batches", 5)]:
            loss = torch.nn.functional.cross_entropy(self.m.network(x), y)
            found.append(dict(zip(names, torch.autograd.grad(loss, [self.m.parameters[n] for n in names]))))
        with torch.no_grad():
            for n, b in self.m.network.named_buffers():
                b.copy_(buffers[n])
        return found


class AutoRgn(Auto):
    def setup(self):
        self.history = []

    def groups(self):
        """Tensors by the group that shares a rate."""
        found = {}
        for name in self.tuned:
            key = name.rsplit(".", 1)[0] if self.option("per", "tensor") == "module" else name
            found.setdefault(key, []).append(name)
        return found

    def begin(self, epoch):
        included = self.option("norm_tensors", "frozen") == "included"
        batch = self.option("batch_norm", "running") == "batch"
        self.m.freeze(lambda n: included or not self.m.is_norm(n), lambda n: batch)
        self.tuned = [n for n, p in self.m.parameters.items() if p.requires_grad]
        if self.option("every", "epoch") == "step":
            return {}
        norm = lambda tensors: math.sqrt(sum(float((t.detach() ** 2).sum()) for t in tensors))
        weights = {}
        found = self.gradients(self.tuned)
        for key, names in self.groups().items():
            size = norm([self.m.parameters[n] for n in names]) + 1e-8
            weights[key] = float(np.mean([norm([g[n] for n in names]) / size for g in found]))
        largest = max(weights.values())
        factors = {n: weights[key] / largest for key, names in self.groups().items() for n in names}
        return {"factors": factors, "restart": self.option("moments", "reset") == "reset"}

    def factors_of_step(self):
        if self.option("every", "epoch") != "step":
            return None
        self.history.append({n: float(self.m.parameters[n].grad.norm() / (self.m.parameters[n].detach().norm() + 1e-8))
                             for n in self.tuned})
        mean = {n: float(np.mean([h[n] for h in self.history[-5:]])) for n in self.tuned}
        return {n: v / max(mean.values()) for n, v in mean.items()}


class AutoSnr(Auto):
    def begin(self, epoch):
        self.m.freeze(lambda n: not self.m.is_norm(n), lambda n: False)
        tuned = [n for n, p in self.m.parameters.items() if p.requires_grad]
        found = self.gradients(tuned)
        score = {n: np.mean([float((g[n] * g[n] / (torch.var(g[n], dim=0, keepdim=True) + 1e-8)).mean()) for g in found])
                 for n in tuned}
        chosen = {n for n in tuned if score[n] >= self.option("threshold", 0.95)}
        self.m.freeze(lambda n: n in chosen, lambda n: False)
        self.trained = getattr(self, "trained", []) + [len(chosen)]
        return {"restart": True}


KINDS = {"full": Full, "linear-probe": LinearProbe, "gradual-last-first": Gradual, "gradual-first-last": Gradual,
         "lp-ft": LpFt, "discriminative": Discriminative, "bn-only": BnOnly, "l1-sp": Sp, "l2-sp": Sp,
         "auto-rgn": AutoRgn, "auto-snr": AutoSnr}


def make_optimizer(settings, model):
    groups = [{"params": [p], "name": n} for n, p in model.parameters.items()]
    if settings["train.optimizer"] == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=0.9, weight_decay=settings["train.weight_decay"])
    return torch.optim.Adam(groups, lr=0.0, weight_decay=settings["train.weight_decay"])


def scheduled(settings, plan, epoch, step, steps):
    """The rate before a parameter's own factor. steps: of one epoch."""
    lr, begin, epochs = plan.get("lr", (settings["train.lr"], 0, settings["train.epochs"]))
    if settings["train.schedule"] == "cosine":
        return lr / 2 * (1 + math.cos(math.pi * (epoch - begin) / epochs))
    total, t = epochs * steps, (epoch - begin) * steps + step
    cut = max(1, math.floor(total * 0.1))
    p = t / cut if t < cut else 1 - (t - cut) / (total - cut)
    return lr * (1 + p * 31) / 32


def macro_accuracy(predicted, truth):
    return np.mean([(predicted[truth == c] == c).double().mean().item() for c in range(CLASSES)])


def follow(model, settings, size):
    """Trains the model; losses, penalties and validation losses."""
    numbers = list(range(TRAIN_IMAGES))
    size_of_batch = settings["train.batch"]
    batches = [(pixels(numbers[i:i + size_of_batch], size), labels(numbers[i:i + size_of_batch]))
               for i in range(0, TRAIN_IMAGES, size_of_batch)]
    validation = list(range(TRAIN_IMAGES, TRAIN_IMAGES + VAL_IMAGES))
    val_x, val_y = pixels(validation, size), labels(validation)
    strategy = KINDS[settings["strategy.name"]](model, settings, batches)
    optimizer = make_optimizer(settings, model)
    result = {"losses": [], "penalties": [], "rates": [], "val_losses": [], "val_macro_accuracies": []}
    best, best_state = -1.0, None
    for epoch in range(settings["train.epochs"]):
        if epoch and best_state is not None:
            probing = strategy.option("probe_epochs", 0) or max(1, settings["train.epochs"] // 3)
            if settings["strategy.name"] == "lp-ft" and epoch == probing:
                model.network.load_state_dict(best_state)
        plan = strategy.begin(epoch)
        if plan.get("restart"):
            optimizer = make_optimizer(settings, model)
        for step, (x, y) in enumerate(batches):
            lr = scheduled(settings, plan, epoch, step, len(batches))
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model.network(x), y)
            loss.backward()
            if "train.clip_norm" in settings:
                torch.nn.utils.clip_grad_norm_([p for p in model.parameters.values() if p.grad is not None],
                                               settings["train.clip_norm"])
            factors = plan.get("factors", {})
            if isinstance(strategy, AutoRgn):
                factors = strategy.factors_of_step() or factors
            penalty = strategy.penalty()
            if penalty is not None and penalty.requires_grad:
                penalty.backward()
            rates = {n: lr * factors.get(n, 1.0) for n in model.parameters}
            for group in optimizer.param_groups:
                group["lr"] = rates[group["name"]]
            strategy.before(rates)
            optimizer.step()
            strategy.after(rates)
            result["losses"].append(loss.item())
            result["penalties"].append(float(penalty) if penalty is not None else 0.0)
            result["rates"].append(lr)
        model.network.eval()
        with torch.no_grad():
            logits = model.network(val_x)
        result["val_losses"].append(torch.nn.functional.cross_entropy(logits, val_y).item())
        accuracy = macro_accuracy(logits.argmax(1), val_y)
        result["val_macro_accuracies"].append(float(accuracy))
        if accuracy > best:
            best, best_state = accuracy, copy.deepcopy(model.network.state_dict())
    if hasattr(strategy, "trained"):
        result["trained_tensors"] = strategy.trained
    return result


def tensors_of(network):
    return {n: t.detach().numpy().copy() for n, t in network.state_dict().items()
            if not n.endswith("num_batches_tracked")}


@functools.lru_cache(maxsize=None)
def formula_network(architecture):
    network = getattr(torchvision.models, architecture)(weights=None, num_classes=CLASSES).double()
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(tensor_values(name, tuple(tensor.shape))))
    return network


@functools.lru_cache(maxsize=None)
def projection(name, k, count):
    return np.concatenate([2 * u - 1 for _, u in uniform(f"{name}#{k}", count)])


def summary(name, tensor):
    """Norm and projections on vectors uniform in [-1, 1)."""
    flat = tensor.reshape(-1)
    return [float(np.sqrt(np.dot(flat, flat)))] + [float(np.dot(flat, projection(name, k, flat.size)))
                                                   for k in range(PROJECTIONS)]


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
          result.get("trained_tensors", ""), flush=True)


# --follow: the program itself, on a network too large for every build.

def write_images(folder, size):
    from PIL import Image
    rows = []
    for n in range(TRAIN_IMAGES + VAL_IMAGES):
        Image.fromarray(image(n, size)).save(folder / f"{n:02d}.png")
        rows.append([f"{n:02d}.png", "abc"[n % CLASSES], "train" if n < TRAIN_IMAGES else "val"])
    with open(folder / "images.csv", "w", newline="") as f:
        csv.writer(f).writerows([["path", "label", "split"]] + rows)
    return folder / "images.csv"


def warmed_up(architecture, size):
    """Random weights whose running statistics fit them, from forward passes over other drawn images. Not trained: where
    the loss is zero, Adam makes whole steps out of gradients that are nothing but rounding."""
    torch.manual_seed(1)
    network = getattr(torchvision.models, architecture)(weights=None, num_classes=CLASSES)
    with torch.no_grad():
        for step in range(40):
            network(pixels(list(range(100 + 12 * step, 112 + 12 * step)), size).float())
    return network


def follow_program(graft, architecture, size, cases, settings_of=settings_of, follow=follow):
    import h5py
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        images = write_images(folder, size)
        network = warmed_up(architecture, size)
        torch.save(network.state_dict(), folder / "model.pth")
        (folder / "classes.txt").write_text("a\nb\nc\n")
        subprocess.run([graft, "weights", "import", folder / "model.pth", "-o", folder / "model.h5", "--arch", architecture,
                        "--labels", folder / "classes.txt"], check=True, stdout=subprocess.DEVNULL)
        start = {n: t.astype(np.float64) for n, t in tensors_of(network).items()}
        for case in cases:
            settings = settings_of(case)
            model = copy.deepcopy(network).double()
            result = follow(Model(architecture, model), settings, size)
            command = [graft, "train", images, "--weights", folder / "model.h5", "-o", folder / "run", "--overwrite",
                       "--quiet", "--no-leak-check", "--device", "reference", "--size", str(size), "--set", f"train.resize={size}"]
            for key, value in settings.items():
                command += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            with open(folder / "run" / "steps.csv") as f:
                losses = [float(row["loss"]) for row in csv.DictReader(f)]
            assert len(losses) == len(result["losses"])
            # A loss near zero is a difference of logits: their rounding, not its own size, bounds what can agree.
            loss = max(abs(a - b) / max(abs(b), 1) for a, b in zip(losses, result["losses"]))
            worst, where = 0.0, "-"
            with h5py.File(folder / "run" / "last.h5") as f:
                for key, value in tensors_of(model).items():
                    moved, error = np.linalg.norm(value - start[key]), np.linalg.norm(f["weights"][key][()] - value)
                    share = error / moved if moved > 0 else (np.inf if error > 0 else 0.0)
                    if share > worst:
                        worst, where = share, key
            ok = loss <= 1e-8 and worst <= 1e-7
            failures += not ok
            print(f"{'ok  ' if ok else 'FAIL'} {case}: {len(losses)} losses {losses[0]:.6f} .. {losses[-1]:.6f} differ by "
                  f"{loss:.1e}, tensors by {worst:.1e} of their change ({where})", flush=True)
    print(f"{failures} of {len(cases)} cases are off" if failures else f"all {len(cases)} cases agree")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--follow", metavar="GRAFT", help="the program to compare with")
    parser.add_argument("--arch", default="resnet50", choices=list(BLOCKS))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    a = parser.parse_args()
    if unknown := set(a.cases) - set(CASES):
        parser.error(f"unknown cases {sorted(unknown)}; there are {', '.join(CASES)}")
    torch.set_num_threads(a.threads)
    if a.follow:
        sys.exit(bool(follow_program(a.follow, a.arch, a.size, a.cases)))
    folder = pathlib.Path(__file__).parent / "strategies"
    folder.mkdir(exist_ok=True)
    for case in a.cases:
        write_reference(case, folder)


if __name__ == "__main__":
    main()
