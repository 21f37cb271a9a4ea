#!/usr/bin/env python3
"""Networks in PyTorch whose activations, their gradients and weights are stored in 16 bits, which
tests/models/half_storage_test.cpp compares with.

Everything is computed in float64; what graft stores in bf16 or f16 is rounded, once, at the places where graft stores
it: what an operation gives (a convolution; batch norm with its residual and ReLU; pooling; the linear layer), the
gradient of each such tensor after every contribution has been added, and the weights of convolutions and the linear
layer. Statistics, biases, gradients of weights and the loss stay float64. So an operation that stored more, less or
elsewhere would show, and so would a rounding of another kind.

    python3 tests/reference/make_half_references.py     into tests/reference/networks/half.json

Written with torch 1.13.1 and torchvision 0.14.1 on a CPU.
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

import make_network_references as plain

CASES = {
    "resnet50": {"architecture": "resnet50", "batch": 2, "size": 64, "label_smoothing": 0.0},
    "vgg19_gap": {"architecture": "vgg19", "batch": 2, "size": 64, "label_smoothing": 0.0, "head": "gap"},
}
# Significant bits, exponent of the smallest normal number, and what the loss is multiplied by before backward.
TYPES = {"bf16": (8, -126, 1.0), "f16": (11, -14, 1024.0)}


def rounded(x, bits, smallest):
    """To the nearest number of so many bits, ties to even."""
    x = x.detach().numpy()
    exponent = np.maximum(np.frexp(x)[1] - 1, smallest)
    quantum = np.ldexp(1.0, exponent - (bits - 1))
    return torch.from_numpy(np.rint(x / quantum) * quantum)


def storage(bits, smallest):
    class Stored(torch.autograd.Function):
        """A tensor in memory: rounded, and so is its gradient, once all contributions are in."""

        @staticmethod
        def forward(ctx, x):
            return rounded(x, bits, smallest)

        @staticmethod
        def backward(ctx, g):
            return rounded(g, bits, smallest)

    class Weight(torch.autograd.Function):
        """Rounded for the operation that reads it; its gradient is not."""

        @staticmethod
        def forward(ctx, w):
            return rounded(w, bits, smallest)

        @staticmethod
        def backward(ctx, g):
            return g

    class StoredGradient(torch.autograd.Function):
        """A contribution that is stored before the next one is added."""

        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return rounded(g, bits, smallest)

    return Stored.apply, Weight.apply, StoredGradient.apply


def convolution(conv, x, weight):
    return F.conv2d(x, weight(conv.weight), conv.bias, conv.stride, conv.padding)


def resnet(network, x, stored, weight, stored_gradient):
    def bottleneck(block, x):
        identity = x
        if block.downsample is not None:
            first = stored_gradient(x)  # conv1's contribution is added to the projection's
            identity = stored(block.downsample[1](stored(convolution(block.downsample[0], first, weight))))
        y = stored(F.relu(block.bn1(stored(convolution(block.conv1, x, weight)))))
        y = stored(F.relu(block.bn2(stored(convolution(block.conv2, y, weight)))))
        return stored(F.relu(block.bn3(stored(convolution(block.conv3, y, weight))) + identity))

    y = stored(F.relu(network.bn1(stored(convolution(network.conv1, x, weight)))))
    y = stored(F.max_pool2d(y, 3, 2, 1))
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            y = bottleneck(block, y)
    y = stored(F.adaptive_avg_pool2d(y, 1)).flatten(1)
    return stored(F.linear(y, weight(network.fc.weight), network.fc.bias))


def vgg(network, x, stored, weight, _):
    y = x
    for module in network.features:
        if isinstance(module, torch.nn.Conv2d):
            y = stored(F.relu(convolution(module, y, weight)))
        elif isinstance(module, torch.nn.MaxPool2d):
            y = stored(F.max_pool2d(y, 2, 2))
    y = stored(F.adaptive_avg_pool2d(y, 1)).flatten(1)
    return stored(F.linear(y, weight(network.classifier.weight), network.classifier.bias))


def reference(case, bits, smallest, loss_scale):
    network = plain.make_network(case, torch.float64)
    x, labels = plain.batch(case, 0, torch.float64)
    forward = resnet if case["architecture"] == "resnet50" else vgg
    logits = forward(network, rounded(x, bits, smallest), *storage(bits, smallest))
    loss = plain.loss_function(case, torch.float64)(logits, labels)
    (loss * loss_scale).backward()
    return {"loss_scale": loss_scale, "logits": logits.tolist(), "loss": loss.item(),
            "gradients": {n: plain.summary(n, p.grad.numpy() / loss_scale) for n, p in network.named_parameters()}}


def main():
    result = {}
    for name, case in CASES.items():
        result[name] = {**case, "num_classes": plain.CLASSES}
        for type_name, numbers in TYPES.items():
            result[name][type_name] = reference(case, *numbers)
            print(name, type_name, "loss", result[name][type_name]["loss"], flush=True)
    path = pathlib.Path(__file__).parent / "networks" / "half.json"
    path.write_text(json.dumps(result, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
