#!/usr/bin/env python3
"""Writes tests/optim/grad_scaler_numbers.h: Adam under PyTorch's GradScaler in float64, with gradients that overflow.

Run with PyTorch 2.3 or newer: python3 tests/reference/make_grad_scaler.py, then clang-format the header.
Parameters and gradients are those of make_optim.py; in some steps one gradient is infinite. The scale starts at
GradScaler's default and grows after 3 finite steps, not 2000, so that both directions are seen.
"""
import pathlib

import torch

from make_optim import grad, parameters

STEPS, OVERFLOWS, INTERVAL = 14, (0, 1, 6, 11), 3


def main():
    a, b = parameters()
    optimizer = torch.optim.Adam([a, b], lr=0.05)
    scaler = torch.amp.GradScaler("cpu", growth_interval=INTERVAL)
    scales, values = [], []
    for step in range(STEPS):
        scaler.scale(torch.zeros(1))  # makes the scale
        scales.append(scaler.get_scale())
        for t, p in enumerate((a, b)):
            p.grad = scaler.get_scale() * torch.tensor([grad(t, step, i) for i in range(p.numel())],
                                                       dtype=torch.float64).reshape(p.shape)
        if step in OVERFLOWS:
            b.grad[2] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        values += a.detach().flatten().tolist() + b.detach().tolist()

    def array(kind, name, numbers):
        lines = [", ".join(repr(x) for x in numbers[i:i + 5]) for i in range(0, len(numbers), 5)]
        return f"inline constexpr {kind} {name}[] = {{\n    " + ",\n    ".join(lines) + "};\n"

    path = pathlib.Path(__file__).parent.parent / "optim" / "grad_scaler_numbers.h"
    path.write_text("// Written by tests/reference/make_grad_scaler.py with PyTorch in float64. Not to be edited.\n"
                    "#pragma once\n\nnamespace graft::grad_scaler_numbers {\n\n"
                    f"inline constexpr int kSteps = {STEPS}, kInterval = {INTERVAL};\n"
                    + array("int", "kOverflows", list(OVERFLOWS))
                    + "/// Before each step.\n" + array("double", "kScales", scales)
                    + "/// Of a and b after each step.\n" + array("double", "kValues", values)
                    + "\n}  // namespace graft::grad_scaler_numbers\n")


if __name__ == "__main__":
    main()
