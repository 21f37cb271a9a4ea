#!/usr/bin/env python3
"""PyTorch's numbers for the networks, which tests/models/parity_test.cpp compares with.

Weights, inputs, labels and projection vectors come from a formula that both sides compute
(tests/models/models_testing.h), so the files hold results alone: logits, losses, and for every tensor the norm and
three projections. Everything is computed in float64; beside it stands how far PyTorch's own float32 gradients are from
those, over several batches and both memory formats.

    python3 tests/reference/make_network_references.py            all networks, into tests/reference/networks/
    python3 tests/reference/make_network_references.py resnet50   one of them

Written with torch 1.13.1 and torchvision 0.14.1 on a CPU.
"""
import json
import pathlib
import sys

import numpy as np
import torch
import torchvision

CLASSES = 10
STEPS = 4
SGD = {"lr": 0.002, "momentum": 0.9, "weight_decay": 1e-3}
ADAM = {"lr": 1e-3, "weight_decay": 1e-3}
PROJECTIONS = 3

CASES = {
    "resnet50": {"architecture": "resnet50", "batch": 4, "size": 64, "label_smoothing": 0.0,
                 "float32_batches": 8},
    "densenet121": {"architecture": "densenet121", "batch": 4, "size": 64, "label_smoothing": 0.1,
                    "float32_batches": 8},
    "vgg19": {"architecture": "vgg19", "batch": 2, "size": 32, "label_smoothing": 0.0,
              "class_weights": [0.25 * (1 + c % 4) for c in range(CLASSES)]},
    # One step at the size that ImageNet networks see; the optimizers are covered above.
    "resnet50_224": {"architecture": "resnet50", "batch": 2, "size": 224, "label_smoothing": 0.0, "steps": 0,
                     "float32_batches": 4},
    # The other readings of each network; every second batch norm uses its running statistics.
    "resnet50_v1": {"architecture": "resnet50", "batch": 2, "size": 64, "label_smoothing": 0.0, "steps": 0,
                    "stride_on": "1x1", "bn_epsilon": 1e-3, "fixes_norms": True},
    "densenet121_fixed": {"architecture": "densenet121", "batch": 2, "size": 64, "label_smoothing": 0.0, "steps": 0,
                          "bn_epsilon": 1.001e-5, "fixes_norms": True},
    "vgg19_gap": {"architecture": "vgg19", "batch": 2, "size": 64, "label_smoothing": 0.0, "steps": 0, "head": "gap"},
    "vgg19_64": {"architecture": "vgg19", "batch": 2, "size": 64, "label_smoothing": 0.0, "steps": 0,
                 "float32_batches": 8},
}
# The other members of each family, one step.
for name in ("resnet18", "resnet34", "resnet101", "resnet152", "densenet169", "densenet201"):
    CASES[name] = {"architecture": name, "batch": 2, "size": 64, "label_smoothing": 0.0, "steps": 0}
for name in ("vgg11", "vgg13", "vgg16", "vgg11_bn"):
    CASES[f"{name}_gap"] = {"architecture": name, "batch": 2, "size": 64, "label_smoothing": 0.0, "steps": 0, "head": "gap"}


def uniform(name, count, chunk=1 << 22):
    """[0, 1): splitmix64 of FNV-1a(name) + index, 53 bits."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    for begin in range(0, count, chunk):
        index = np.arange(begin, min(count, begin + chunk), dtype=np.uint64)
        z = (np.uint64(seed) + index) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        yield begin, (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def values(name, shape, centre, radius):
    """centre + radius * (2u - 1), rounded to float32 so that float32 networks start from the same numbers."""
    out = np.empty(int(np.prod(shape)), dtype=np.float64)
    for begin, u in uniform(name, out.size):
        out[begin:begin + u.size] = (centre + radius * (2 * u - 1)).astype(np.float32)
    return out.reshape(shape)


def tensor_values(name, shape):
    """The start of a parameter or running statistic: He's variance for weights, norms near the identity."""
    if len(shape) > 1:
        return values(name, shape, 0.0, np.sqrt(6.0 / np.prod(shape[1:])))
    if name.endswith("running_mean"):
        return values(name, shape, 0.0, 0.1)
    if name.endswith("running_var"):
        return values(name, shape, 1.0, 0.5)
    if name.endswith("weight"):
        return values(name, shape, 1.0, 0.25)
    return values(name, shape, 0.0, 0.1)


def summary(name, tensor):
    """Norm and projections on vectors uniform in [-1, 1)."""
    flat = tensor.reshape(-1)
    sums = [float(np.sqrt(np.dot(flat, flat)))]
    for k in range(PROJECTIONS):
        sums.append(float(sum(np.dot(flat[begin:begin + u.size], 2 * u - 1)
                              for begin, u in uniform(f"{name}#{k}", flat.size))))
    return sums


def batch(case, step, dtype):
    x = values(f"input.{step}", (case["batch"], 3, case["size"], case["size"]), 0.0, 2.0)
    u = np.concatenate([u for _, u in uniform(f"labels.{step}", case["batch"])])
    return torch.from_numpy(x).to(dtype), torch.from_numpy((u * CLASSES).astype(np.int64))


def make_network(case, dtype):
    network = getattr(torchvision.models, case["architecture"])(weights=None, num_classes=1).to(dtype)
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if case.get("stride_on") == "1x1":
        for module in network.modules():
            if isinstance(module, torchvision.models.resnet.Bottleneck):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = case.get("bn_epsilon", 1e-5)
    if case.get("head") == "gap":
        network.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        network.classifier = torch.nn.Linear(512, 1, dtype=dtype)
    head = [m for m in network.modules() if isinstance(m, torch.nn.Linear)][-1]
    head.out_features = CLASSES
    head.weight = torch.nn.Parameter(torch.empty(CLASSES, head.in_features, dtype=dtype))
    head.bias = torch.nn.Parameter(torch.empty(CLASSES, dtype=dtype))
    reset(network)
    return network


def set_training(case, network):
    network.train()
    if case.get("fixes_norms"):
        for module in [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)][1::2]:
            module.eval()


def reset(network):
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not name.endswith("num_batches_tracked"):
                tensor.copy_(torch.from_numpy(tensor_values(name, tuple(tensor.shape))))
    network.train()
    network.zero_grad(set_to_none=True)


def loss_function(case, dtype):
    weight = torch.tensor(case["class_weights"], dtype=dtype) if "class_weights" in case else None
    return torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=case["label_smoothing"])


def first_step(case, network, dtype):
    x, labels = batch(case, 0, dtype)
    network.eval()
    with torch.no_grad():
        evaluated = network(x)
    set_training(case, network)
    logits = network(x)
    loss = loss_function(case, dtype)(logits, labels)
    loss.backward()
    return evaluated, logits.detach(), loss.item()


def train(case, network, optimizer):
    loss_of = loss_function(case, torch.float64)
    losses = []
    for step in range(STEPS):
        x, labels = batch(case, step, torch.float64)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(network(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    changes = {name: summary(name, p.detach().numpy() - tensor_values(name, tuple(p.shape)))
               for name, p in network.named_parameters()}
    return losses, changes


def float32_distances(case, network):
    """Relative distances of float32's logits and gradients from float64's over several batches, in both of PyTorch's
    memory formats. A ReLU that flips decides over the distance of one batch, and which ones flip depends on the order
    of sums: PyTorch's two formats differ more than twofold in a third of DenseNet's tensors. So each tensor has the
    larger of the two root mean squares, and the largest distance of all."""
    found = {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        single = make_network(case, torch.float32).to(memory_format=memory_format)
        distances = found[memory_format] = {}
        for step in range(case["float32_batches"]):
            logits = {}
            for of, dtype in ((network, torch.float64), (single, torch.float32)):
                of.zero_grad(set_to_none=True)
                x, labels = batch(case, step, dtype)
                logits[dtype] = of(x.contiguous(memory_format=memory_format) if of is single else x)
                loss_function(case, dtype)(logits[dtype], labels).backward()
            truth = logits[torch.float64].detach()
            distances.setdefault("logits", []).append(
                float((logits[torch.float32].detach().double() - truth).norm() / truth.norm()))
            for (n, p), p32 in zip(network.named_parameters(), single.parameters()):
                distances.setdefault(n, []).append(float((p32.grad.double() - p.grad).norm() / p.grad.norm()))
    both = {n: [d[n] for d in found.values()] for n in distances}
    logits = both.pop("logits")
    return {"float32_logits_distance": max(map(rms, logits)),
            "float32_gradient_distance": {n: [max(map(rms, d)), max(map(max, d))] for n, d in both.items()}}


def rms(numbers):
    return float(np.sqrt(np.mean(np.square(numbers))))


def reference(case):
    network = make_network(case, torch.float64)
    evaluated, logits, loss = first_step(case, network, torch.float64)
    result = {**case, "num_classes": CLASSES,
              "eval_logits": evaluated.tolist(), "logits": logits.tolist(), "loss": loss,
              "gradients": {n: summary(n, p.grad.numpy()) for n, p in network.named_parameters()},
              "statistics": {n: summary(n, b.numpy()) for n, b in network.named_buffers() if "running" in n}}

    if "float32_batches" in case:
        result.update(float32_distances(case, network))
    if case.get("steps", STEPS):
        for key, settings, make in (("sgd", SGD, torch.optim.SGD), ("adam", ADAM, torch.optim.Adam)):
            reset(network)
            losses, changes = train(case, network, make(network.parameters(), **settings))
            result[key] = {**settings, "losses": losses, "changes": changes}
    return result


def main():
    folder = pathlib.Path(__file__).parent / "networks"
    folder.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        result = reference(CASES[name])
        text = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.items())
        (folder / f"{name}.json").write_text("{\n" + text + "\n}\n")
        print(name, "loss", result["loss"], "sgd", result.get("sgd", {}).get("losses"), "adam",
              result.get("adam", {}).get("losses"), "float32", result.get("float32_logits_distance"), flush=True)


if __name__ == "__main__":
    main()
