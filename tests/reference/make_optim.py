#!/usr/bin/env python3
"""Writes tests/optim/torch_numbers.h: what torch.optim and torch.optim.lr_scheduler compute in float64.

Run with any PyTorch: python3 tests/reference/make_optim.py
The tests follow the same rule: parameters a [2,3,1,1] and b [1,4], gradients from grad(tensor, step, element). Penalties
go through automatic differentiation: the loss is sum(gradient * w) + penalty. Auto-RGN is written here step by step.
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


def run_penalty(make, penalty):
    """Values of a and b after every step of the loss sum(gradient * w) + penalty(w, start value)."""
    parameters_now = parameters()
    start = [p.detach().clone() for p in parameters_now]
    optimizer = make([{"params": [parameters_now[0]]}, {"params": [parameters_now[1]], "lr": 0.01}])
    out = []
    for step in range(STEPS):
        loss = 0
        for t, p in enumerate(parameters_now):
            g = torch.tensor([grad(t, step, i) for i in range(p.numel())], dtype=torch.float64).reshape(p.shape)
            loss = loss + (g * p).sum() + penalty(p, start[t])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for p in parameters_now:
            out += p.detach().flatten().tolist()
    return out


RGN_SIZES, RGN_GROUPS, RGN_STEPS, RGN_WINDOW, RGN_EPSILON = [6, 4, 3, 5, 2], [0, 1, 2, 0, -1], 10, 3, 0.01


def run_auto_rgn(make):
    """Values and the parameters' multipliers after every step of Auto-RGN's every-step variant. Tensor 2 starts at zero,
    as a fresh bias does; tensors 0 and 3 share a group; tensor 4 has no relative rate."""
    tensors = [torch.tensor([0.0 if t == 2 else value(t, i) for i in range(n)], dtype=torch.float64).requires_grad_()
               for t, n in enumerate(RGN_SIZES)]
    optimizer = make([{"params": [p]} for p in tensors])
    history = {}
    out = []
    for step in range(RGN_STEPS):
        for t, p in enumerate(tensors):
            # Gradients that shrink tensor by tensor, and in which the groups take turns at the maximum.
            scale = (1.0 + 0.8 * math.sin(2.0 * step + 3.0 * t)) / (t + 1)
            p.grad = torch.tensor([scale * grad(t, step, i) for i in range(p.numel())], dtype=torch.float64)
        means = {}
        for k in sorted(set(RGN_GROUPS) - {-1}):
            members = [p for p, group in zip(tensors, RGN_GROUPS) if group == k]
            gradient_norm = torch.linalg.norm(torch.cat([p.grad for p in members])).item()
            weight_norm = torch.linalg.norm(torch.cat([p.detach() for p in members])).item()
            if weight_norm < 1e-8:
                continue
            history.setdefault(k, []).append(gradient_norm / (weight_norm + RGN_EPSILON))
            window = history[k][-RGN_WINDOW:]
            means[k] = sum(window) / len(window)
        largest = max(means.values())
        multipliers = [means[k] / largest if k in means else 1.0 for k in RGN_GROUPS]
        for group, multiplier in zip(optimizer.param_groups, multipliers):
            group["lr"] = 0.05 * multiplier
        optimizer.step()
        for p in tensors:
            out += p.detach().tolist()
        out += multipliers
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
        "kAdamL2Sp": run_penalty(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6),
                                 lambda w, w0: 0.7 / 2 * ((w - w0) ** 2).sum()),
        "kAdamL1Sp": run_penalty(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6),
                                 lambda w, w0: 0.7 * (w - w0).abs().sum()),
        "kAdamL2": run_penalty(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6),
                               lambda w, w0: 0.7 / 2 * (w ** 2).sum()),
        "kNesterovL1Sp": run_penalty(lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True),
                                     lambda w, w0: 0.7 * (w - w0).abs().sum()),
        "kAutoRgn": run_auto_rgn(lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.95), eps=1e-6,
                                                            weight_decay=0.02)),
        "kCosine": rates(lambda o: lr.CosineAnnealingLR(o, T_max=8, eta_min=0.001), 8),
        "kStep": rates(lambda o: lr.StepLR(o, step_size=3, gamma=0.3), 8),
        "kOneCycle": rates(lambda o: lr.OneCycleLR(o, max_lr=0.02, epochs=4, steps_per_epoch=5, pct_start=0.25,
                                                   div_factor=10, final_div_factor=100), 4, 5),
    }
    text = "// Written by tests/reference/make_optim.py with PyTorch in float64. Not to be edited.\n#pragma once\n\n"
    text += "namespace graft::torch_numbers {\n\n" + "\n".join(array(k, v) for k, v in cases.items())
    text += "\n}  // namespace graft::torch_numbers\n"
    (pathlib.Path(__file__).parent.parent / "optim" / "torch_numbers.h").write_text(text)


if __name__ == "__main__":
    main()
