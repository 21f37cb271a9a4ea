#!/usr/bin/env python3
"""Compares graft's optimizer step with PyTorch's on the same parameters, alternating in one run.

    bench/compare_torch_update.py [--arch resnet50 --rule auto-rgn --threads 2 --rounds 7 --python /usr/bin/python3]

Contenders, each a process of its own that waits for its turn: build/*/bin/graft_update_step; PyTorch tensor by tensor
(norms of every gradient and weight, ratio, running mean of five, largest ratio, Adam with foreach=False); PyTorch with
foreach (torch._foreach_norm, Adam with foreach=True) and, where it has one for the CPU, with its fused Adam. `--rule
adam` leaves the relative rates out. Medians over the rounds of --steps steps each are printed, with GB/s of what a step
must move (36 bytes a parameter, 28 for plain Adam); --out FILE appends them as Markdown with the machine.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys

from compare_torch import cpu_model, find_program

PARAMETERS = {"resnet50": 25557032, "densenet121": 7978856, "vgg19": 143667240}

TORCH_UPDATE = r"""
import json, sys, time
import torch, torchvision
arch, rule, threads, kind = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
torch.set_num_threads(threads)
parameters = list(getattr(torchvision.models, arch)(num_classes=1000).parameters())
for p in parameters:
    p.grad = torch.rand_like(p) * 0.02 - 0.01
groups = [{"params": [p]} for p in parameters] if rule == "auto-rgn" else parameters
options = {"fused": True} if kind == "fused" else {"foreach": kind == "foreach"}
# One learning rate per tensor: as many parameter groups, so that foreach would work on one tensor at a time. The foreach
# contender therefore scales its steps itself, see below.
base = torch.optim.Adam(groups if kind != "foreach" else parameters, lr=1e-6, weight_decay=1e-4, **options)
history = []

def ratios():
    grads = [p.grad for p in parameters]
    if kind == "per tensor":
        return [(torch.linalg.vector_norm(g) / (torch.linalg.vector_norm(p) + 1e-8)) for g, p in zip(grads, parameters)]
    return torch._foreach_div(torch._foreach_norm(grads), torch._foreach_add(torch._foreach_norm(parameters), 1e-8))

def multipliers():
    history.append(torch.stack(ratios()))
    del history[:-5]
    mean = torch.stack(history).mean(0)
    return (mean / mean.max()).tolist()

moments = [torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters]
count = 0
@torch.no_grad()
def foreach_step(rates):
    # Adam as torch.optim has it in its foreach form, with a rate per tensor.
    global count
    count += 1
    c1, c2 = 1 - 0.9 ** count, 1 - 0.999 ** count
    grads = torch._foreach_add([p.grad for p in parameters], parameters, alpha=1e-4)
    m, v = moments
    torch._foreach_mul_(m, 0.9)
    torch._foreach_add_(m, grads, alpha=0.1)
    torch._foreach_mul_(v, 0.999)
    torch._foreach_addcmul_(v, grads, grads, 0.001)
    denominator = torch._foreach_sqrt(v)
    torch._foreach_div_(denominator, c2 ** 0.5)
    torch._foreach_add_(denominator, 1e-8)
    torch._foreach_addcdiv_(parameters, m, denominator, [-1e-6 * r / c1 for r in rates])

@torch.no_grad()
def step():
    if rule == "adam":
        base.step()
        return
    rates = multipliers()
    if kind == "foreach":
        foreach_step(rates)
        return
    for group, rate in zip(base.param_groups, rates):
        group["lr"] = 1e-6 * rate
    base.step()

step()
print(json.dumps({"name": "PyTorch " + torch.__version__.split("+")[0] + " " + kind}), flush=True)
for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds}), flush=True)
"""


class Worker:
    def __init__(self, command, env):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, env=env)
        line = self.process.stdout.readline()
        self.name = json.loads(line)["name"] if line else None
        self.medians = []

    def run(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return statistics.median(json.loads(self.process.stdout.readline())["seconds"])

    def why_not(self):
        return (self.process.stderr.read().strip().splitlines() or ["it ended without a word"])[-1]


def compare(arch, a):
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    common = [arch, a.rule, str(a.threads)]
    program = os.path.join(a.bin, "graft_update_step") if a.bin else find_program("graft_update_step")
    workers = [Worker([program] + common, env)]
    if workers[0].name is None:
        sys.exit(f"compare_torch_update: graft: {workers[0].why_not()}")
    for python in a.python:
        for kind in ("per tensor", "foreach", "fused"):
            worker = Worker([python, "-c", TORCH_UPDATE] + common + [kind], env)
            if worker.name:
                workers.append(worker)
            else:
                print(f"{python} {kind}: left out: {worker.why_not()}", file=sys.stderr)
    for w in workers:
        w.run(2)
    for _ in range(a.rounds):
        for w in workers:
            w.medians.append(w.run(a.steps))
    gigabytes = PARAMETERS[arch] * (36 if a.rule == "auto-rgn" else 28) / 1e9
    lines = [f"### {arch}, {a.rule}, {a.threads} threads: one optimizer step", "",
             "| contender | median ms | min | max | GB/s | times graft (per round) |", "|---|---|---|---|---|---|"]
    for w in workers:
        ratio = [other / ours for other, ours in zip(w.medians, workers[0].medians)]
        lines.append(f"| {w.name} | {1e3 * statistics.median(w.medians):.2f} | {1e3 * min(w.medians):.2f} | "
                     f"{1e3 * max(w.medians):.2f} | {gigabytes / statistics.median(w.medians):.1f} | "
                     f"{statistics.median(ratio):.2f} [{min(ratio):.2f}, {max(ratio):.2f}] |")
        w.process.stdin.close()
        w.process.wait()
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
