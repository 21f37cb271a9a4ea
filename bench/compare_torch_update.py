#!/usr/bin/env python3
"""Compares graft's optimizer step with PyTorch's on the same parameters, alternating in one run.

    bench/compare_torch_update.py [--arch resnet50 --rule auto-rgn --device cpu --threads 2 --rounds 7 --python PYTHON]

Contenders, each a process of its own that waits for its turn: build/*/bin/graft_update_step; PyTorch tensor by tensor
(norms of every gradient and weight, ratio, running mean of five, largest ratio, Adam with foreach=False); PyTorch with
foreach (torch._foreach_norm, Adam with foreach=True) and, where the device has one, with its fused Adam. `--rule adam`
leaves the relative rates out. Medians over the rounds of --steps steps each are printed, with GB/s of what a step must
move (36 bytes a parameter, 28 for plain Adam); --out FILE appends them as Markdown with the machine.
"""
import argparse
import os
import platform
import statistics
import sys

from contenders import TORCH_CONTENDER, Contender, LeftOut, alternate, cpu_model, find_program, our_environment, ratios

PARAMETERS = {"resnet50": 25557032, "densenet121": 7978856, "vgg19": 143667240}
KINDS = ("per tensor", "foreach", "fused")


def bytes_moved(arch, rule):
    """What a step must read and write at least: Adam reads values, gradients and two moments and writes all but the
    gradients; relative rates read values and gradients once more for their norms."""
    return PARAMETERS[arch] * (36 if rule == "auto-rgn" else 28)


def compare(arch, a):
    common = ["--arch", arch, "--rule", a.rule, "--threads", str(a.threads), "--device", a.device]
    try:
        ours = Contender([find_program("graft_update_step", a.bin)] + common, our_environment(a.threads))
    except LeftOut as reason:
        sys.exit(f"compare_torch_update: graft: {reason}")
    contenders = [ours]
    for python in a.python:
        for kind in KINDS:
            try:
                contenders.append(Contender([python, TORCH_CONTENDER, "update", "--kind", kind] + common,
                                            dict(os.environ, OMP_NUM_THREADS=str(a.threads))))
            except LeftOut as reason:
                print(f"{python} {kind}: left out: {reason}", file=sys.stderr)
    contenders, left_out = alternate(contenders, a.rounds, a.steps)
    for name, reason in left_out:
        print(f"{name}: left out: {reason}", file=sys.stderr)
    if ours not in contenders:
        sys.exit("compare_torch_update: graft itself failed")
    where = f"{a.threads} threads" if a.device == "cpu" else a.device
    lines = [f"### {arch}, {a.rule}, {where}: one optimizer step", "",
             "| contender | median ms | min | max | GB/s | times graft (per round) |", "|---|---|---|---|---|---|"]
    for c in contenders:
        middle, low, high = ratios(c, ours)
        rate = bytes_moved(arch, a.rule) / 1e9 / statistics.median(c.rounds)
        lines.append(f"| {c.name} | {1e3 * statistics.median(c.rounds):.2f} | {1e3 * min(c.rounds):.2f} | "
                     f"{1e3 * max(c.rounds):.2f} | {rate:.1f} | {middle:.2f} [{low:.2f}, {high:.2f}] |")
        c.close()
    lines += ["", f"Machine: {cpu_model()}, {platform.platform()}. Rounds: {a.rounds} of {a.steps} steps, alternating. "
              f"Load before: {LOAD}.", ""]
    print("\n".join(lines))
    if a.out:
        with open(a.out, "a") as f:
            f.write("\n".join(lines) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", action="append", choices=list(PARAMETERS), help="repeatable; all three by default")
    parser.add_argument("--rule", default="auto-rgn", choices=["adam", "auto-rgn"])
    parser.add_argument("--device", default="cpu", help="of both: cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="per round and contender")
    parser.add_argument("--python", action="append", help="a Python with torch and torchvision; repeatable")
    parser.add_argument("--bin", help="folder of graft's programs")
    parser.add_argument("--out", help="append the table to this Markdown file")
    a = parser.parse_args()
    a.python = a.python or ["/usr/bin/python3"]
    if a.rounds < 5:
        parser.error("at least 5 rounds: fewer say nothing on a shared machine")
    for arch in a.arch or list(PARAMETERS):
        compare(arch, a)


LOAD = "%.2f" % os.getloadavg()[0]
if __name__ == "__main__":
    main()
