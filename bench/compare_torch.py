#!/usr/bin/env python3
"""Compares graft with PyTorch on the same work, alternating in one run.

    bench/compare_torch.py step    [--arch resnet50 --batch 16 --size 224 --threads 2 --rounds 7]
    bench/compare_torch.py predict --model MODEL.h5 --image FILE [--rounds 7]

`step` times forward + backward + SGD update. Every contender is a process of its own that waits for its turn: graft's
build/*/bin/graft_train_step, with direct and with Winograd convolutions, and PyTorch under each --python, in its
default and its channels_last memory format. The ratios are against the fastest PyTorch. Peak memory is the process's
(VmHWM). `predict` times whole processes, from start to exit, after one warm-up each. Medians over the rounds are
printed, with the spread; --out FILE appends them as Markdown with the machine and the versions.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

OURS = ("direct", "winograd")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

TORCH_STEP = r"""
import json, sys, time
import torch, torchvision
arch, batch, size, threads, fmt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
torch.set_num_threads(threads)
torch.manual_seed(0)
net = getattr(torchvision.models, arch)(num_classes=1000)
if arch == "vgg19":
    for m in net.modules():
        if isinstance(m, torch.nn.Dropout): m.p = 0.0
net.train()
x = torch.randn(batch, 3, size, size)
if fmt == "channels_last":
    net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
y = torch.arange(batch) * 37 % 1000
opt = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9)
def step():
    opt.zero_grad(set_to_none=True)
    loss = torch.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    return loss.item()
print(json.dumps({"name": "PyTorch " + torch.__version__.split("+")[0] + " " + fmt}), flush=True)
for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) * 1024
    print(json.dumps({"seconds": seconds, "peak_bytes": peak}), flush=True)
"""

TORCH_PREDICT = r"""
import sys
import torch, torchvision
from PIL import Image
torch.set_num_threads(int(sys.argv[3]))
net = torchvision.models.resnet50(num_classes=1000)
net.load_state_dict(torch.load(sys.argv[1]))
net.eval()
t = torchvision.transforms
x = t.Compose([t.Resize(256), t.CenterCrop(224), t.ToTensor()])(Image.open(sys.argv[2]).convert("RGB"))
with torch.no_grad():
    p = torch.softmax(net(x[None]), 1)[0]
print(p.topk(5))
"""


def cpu_model():
    text = open("/proc/cpuinfo").read()
    flags = next(line for line in text.splitlines() if line.startswith("flags"))
    isa = "AVX-512 with bf16" if "avx512_bf16" in flags else "AVX-512" if "avx512f" in flags else "AVX2"
    name = next(line for line in text.splitlines() if line.startswith("model name")).split(":")[1].strip()
    return f"{name}, {isa}, {os.cpu_count()} CPUs"


def find_program(name):
    for build in ("build/cpu", "build/cuda", "build/ci", "build"):
        path = os.path.join(ROOT, build, "bin", name)
        if os.path.exists(path):
            return path
    sys.exit(f"compare_torch: no {name} under build/; run scripts/test.sh, or name the folder with --bin")


class Worker:
    def __init__(self, command, env=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare_torch: cannot start {command[0]}")
        self.name = json.loads(line)["name"]
        self.seconds, self.peak_bytes = [], 0

    def run(self, steps, keep=True):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        result = json.loads(self.process.stdout.readline())
        if keep:
            self.seconds += result["seconds"]
        self.peak_bytes = result["peak_bytes"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def report(title, rows, out):
    """rows: (name, seconds, peak bytes or 0); those of graft begin with "graft"."""
    lines = [f"### {title}", "", "| contender | median s | min | max | peak MiB |", "|---|---|---|---|---|"]
    for name, seconds, peak in rows:
        lines.append(f"| {name} | {statistics.median(seconds):.3f} | {min(seconds):.3f} | {max(seconds):.3f} | "
                     f"{peak / 2**20:.0f} |")
    ours = [r for r in rows if r[0].startswith("graft")]
    best = min((r for r in rows if r not in ours), key=lambda r: statistics.median(r[1]))
    lines.append("")
    for name, seconds, _ in ours:
        per_round = [b / a for a, b in zip(seconds, best[1])]
        lines.append(f"{best[0]} / {name}: {statistics.median(best[1]) / statistics.median(seconds):.2f}x (medians); per "
                     f"round {statistics.median(per_round):.2f}x [{min(per_round):.2f}, {max(per_round):.2f}].")
    lines += ["",
              f"Machine: {cpu_model()}, {platform.platform()}. Rounds: {len(rows[0][1])}. Load before: {LOAD}.",
              f"Command: `{' '.join([os.path.relpath(sys.argv[0], ROOT)] + sys.argv[1:])}`", ""]
    print("\n".join(lines))
    if out:
        with open(out, "a") as f:
            f.write("\n".join(lines) + "\n")


def compare_steps(a):
    program = os.path.join(a.bin, "graft_train_step") if a.bin else find_program("graft_train_step")
    common = [a.arch, str(a.batch), str(a.size), str(a.threads)]
    env = dict(os.environ, OMP_NUM_THREADS=str(a.threads))
    workers = [Worker([program] + common + [a], env) for a in OURS]
    for python in a.python:
        workers += [Worker([python, "-c", TORCH_STEP] + common + [f], env) for f in ("default", "channels_last")]
    for w in workers:
        w.run(2, keep=False)
    for _ in range(a.rounds):
        for w in workers:
            w.run(1)
    for w in workers:
        w.close()
    report(f"{a.arch}, batch {a.batch}, {a.size} px, float32, {a.threads} threads: one training step",
           [(w.name, w.seconds, w.peak_bytes) for w in workers], a.out)


def compare_predictions(a):
    program = os.path.join(a.bin, "graft") if a.bin else find_program("graft")
    state = os.path.join(os.environ.get("TMPDIR", "/tmp"), "compare_torch_resnet50.pth")
    subprocess.run([a.python[0], "-c", "import sys, torch, torchvision; torch.save(torchvision.models.resnet50()"
                    ".state_dict(), sys.argv[1])", state], check=True)
    commands = [("graft predict", [program, "predict", a.model, a.image, "--device", "cpu", "--threads", str(a.threads)])]
    for python in a.python:
        commands.append((f"PyTorch ({python})", [python, "-c", TORCH_PREDICT, state, a.image, str(a.threads)]))
    times = {name: [] for name, _ in commands}
    for round_number in range(a.rounds + 1):
        for name, command in commands:
            start = time.perf_counter()
            done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if done.returncode:
                sys.exit(f"compare_torch: {name} failed: {done.stderr.strip().splitlines()[-1]}")
            if round_number:
                times[name].append(time.perf_counter() - start)
    os.remove(state)
    report("one image, whole process: ResNet-50 prediction", [(n, times[n], 0) for n, _ in commands], a.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "predict"])
    parser.add_argument("--arch", default="resnet50", choices=["resnet50", "densenet121", "vgg19"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--python", action="append", help="a Python with torch and torchvision; repeatable")
    parser.add_argument("--bin", help="folder of graft's programs")
    parser.add_argument("--model", help="predict: graft model file")
    parser.add_argument("--image", help="predict: an image")
    parser.add_argument("--out", help="append the table to this Markdown file")
    a = parser.parse_args()
    a.python = a.python or ["/usr/bin/python3"]
    if a.rounds < 5:
        parser.error("at least 5 rounds: fewer say nothing on a shared machine")
    if a.what == "predict" and not (a.model and a.image):
        parser.error("predict needs --model and --image")
    compare_steps(a) if a.what == "step" else compare_predictions(a)


LOAD = "%.2f" % os.getloadavg()[0]
if __name__ == "__main__":
    main()
