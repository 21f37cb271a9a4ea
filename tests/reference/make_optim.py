#!/usr/bin/env python3
"""Writes tests/optim/torch_numbers.h: what torch.optim and torch.optim.lr_scheduler compute in float64.

Run with any PyTorch: python3 tests/reference/make_optim.py
The test follows the same rule: parameters a [2,3,1,1] and b [1,4], gradients from grad(tensor, step, element).
"""
import math
import pathlib

import torch

STEPS = 5


def value(tensor, i):
    return math.sin(1.0 + 3 * tensor + 0.7 * i)


def grad(tensor, step, i):
    return math.cos(0.5 + 2 * tensor + 1.3 * i + 0.9 * step)


def parameters():
    a = torch.tensor([value(0, i) for i in range(6)], dtype=torch.float64).reshape(2, 3).requires_grad_()
    b = torch.tensor([value(1, i) for i in range(4)], dtype=torch.float64).requires_grad_()
    return a, b


def run(make, skip_b_until=0):
    """Values of a and b after every step. b gets no gradient before `skip_b_until`."""
    a, b = parameters()
    optimizer = make([{"params": [a]}, {"params": [b], "lr": 0.01, "weight_decay": 0.03}])
    out = []
    for step in range(STEPS):
        a.grad = torch.tensor([grad(0, step, i) for i in range(6)], dtype=torch.float64).reshape(2, 3)
        b.grad = None
        if step >= skip_b_until:
            b.grad = torch.tensor([grad(1, step, i) for i in range(4)], dtype=torch.float64)
        optimizer.step()
        out += a.detach().flatten().tolist() + b.detach().tolist()
    return out


def rates(make, epochs, steps=None):
    p = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.02)
    scheduler = make(optimizer)
    out = []
    for _ in range(epochs * (steps or 1)):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


def array(name, numbers):
    rows = [", ".join(f"{x!r}" for x in numbers[i:i + 4]) for i in range(0, len(numbers), 4)]
    return f"inline constexpr double {name}[] = {{\n    " + ",\n    ".join(rows) + "};\n"


def main():
    torch.manual_seed(0)
    lr = torch.optim.lr_scheduler
    cases = {
        "kSgd": run(lambda p: torch.optim.SGD(p, lr=0.05)),
        "kMomentum": run(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.02)),
        "kNesterov": run(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.02)),
        "kAdam": run(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.02)),
        "kAdamW": run(lambda p: torch.optim.AdamW(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.02)),
        "kAdamLate": run(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.02), 2),
        "kCosine": rates(lambda o: lr.CosineAnnealingLR(o, T_max=8, eta_min=0.001), 8),
        "kStep": rates(lambda o: lr.StepLR(o, step_size=3, gamma=0.3), 8),
        "kOneCycle": rates(lambda o: lr.OneCycleLR(o, max_lr=0.02, epochs=4, steps_per_epoch=5, pct_start=0.25,
                                                   div_factor=10, final_div_factor=100), 4, 5),
    }
    text = "// Written by tests/reference/make_optim.py with PyTorch in float64. Not to be edited.\n#pragma once\n\n"
    text += "namespace graft::torch_numbers {\n\n" + "\n".join(array(k, v) for k, v in cases.items())
    text += "\n}  // namespace graft::torch_numbers\n"
    (pathlib.Path(__file__).parent.parent / "optim" / "torch_numbers.h").write_text(text)


main()
