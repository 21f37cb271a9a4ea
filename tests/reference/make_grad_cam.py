#!/usr/bin/env python3
"""Grad-CAM by PyTorch's autograd in float64, which tests/strategies/grad_cam_test.cpp compares with.

Networks, weights and inputs are those of make_network_references.py (CASES); for every image stand the class of the
highest logit with its probability, and the evidence of every class: relu(sum over k of mean(dy/dA_k) A_k), A the
activations of the last convolutions.

    python3 tests/reference/make_grad_cam.py     into tests/reference/networks/grad_cam.json

Written with torch 1.13.0 and torchvision 0.14.1 on a CPU.
"""
import json
import pathlib

import torch
import torch.nn.functional as F

from make_network_references import CASES, CLASSES, batch, make_network

NAMES = ["resnet50", "resnet50_v1", "densenet121", "vgg19_64", "vgg19_gap"]


def maps_of(architecture, network, x):
    if architecture == "resnet50":
        stem = network.maxpool(network.relu(network.bn1(network.conv1(x))))
        return network.layer4(network.layer3(network.layer2(network.layer1(stem))))
    if architecture == "densenet121":
        return F.relu(network.features(x))
    return network.features[:-1](x)  # without the last pooling


def logits_of(architecture, network, maps):
    if architecture == "resnet50":
        return network.fc(torch.flatten(network.avgpool(maps), 1))
    if architecture == "densenet121":
        return network.classifier(torch.flatten(F.adaptive_avg_pool2d(maps, 1), 1))
    return network.classifier(torch.flatten(network.avgpool(network.features[-1](maps)), 1))


def explain(case):
    network = make_network(case, torch.float64)
    network.eval()
    x, _ = batch(case, 0, torch.float64)
    with torch.no_grad():
        maps = maps_of(case["architecture"], network, x)
        whole = network(x)
    maps.requires_grad_(True)
    logits = logits_of(case["architecture"], network, maps)
    assert torch.allclose(logits, whole, rtol=1e-12)
    probability, predicted = logits.softmax(1).max(1)
    evidence = []
    for c in range(CLASSES):
        gradient, = torch.autograd.grad(logits[:, c].sum(), maps, retain_graph=True)
        weights = gradient.mean((2, 3), keepdim=True)
        evidence.append(F.relu((weights * maps).sum(1)).detach())
    keys = ("architecture", "batch", "size", "stride_on", "bn_epsilon", "head")
    return {**{k: case[k] for k in keys if k in case}, "num_classes": CLASSES,
            "predicted": predicted.tolist(), "probability": probability.tolist(),
            "evidence": torch.stack(evidence, 1).tolist()}  # [image][class][row][column]


def main():
    cases = {name: explain(CASES[name]) for name in NAMES}
    text = ",\n".join(f" {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    (pathlib.Path(__file__).parent / "networks" / "grad_cam.json").write_text("{\n" + text + "\n}\n")
    for name, case in cases.items():
        print(name, case["predicted"], case["evidence"][0][case["predicted"][0]])


if __name__ == "__main__":
    main()
