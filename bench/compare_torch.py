#!/usr/bin/env python3
"""Compares graft with PyTorch on the same work, alternating in one run.

    bench/compare_torch.py step    [--arch resnet50 --batch 16 --size 224 --threads 2 --rounds 7]
    bench/compare_torch.py step    --device cuda [--precision bf16 --batch 256 --compile reduce-overhead]
    bench/compare_torch.py infer   [the same; on a CPU also --compile trace]
    bench/compare_torch.py images  --data FOLDER [--size 224 --steps 200]
    bench/compare_torch.py predict --model MODEL.h5 --image FILE [--rounds 7]

`step` times forward + backward + SGD update, `infer` a forward pass. Every contender is a process of its own that waits
for its turn: graft's build/*/bin/graft_train_step (on a CPU in f32 with direct and with Winograd convolutions) and PyTorch under
each --python, in its default and its channels_last memory format, and channels_last once more for every --compile mode.
The ratios are against the fastest PyTorch. Peak memory is the process's (VmHWM), on a GPU the most that was in use.
`images` times reading a JPEG file into a network's input, one thread each; FOLDER's files are taken in turn.
`predict` times whole processes, from start to exit, after one warm-up each. Medians over the rounds are printed, with the
spread; --out FILE appends them as Markdown with the machine and the versions.
"""
import argparse
import os
import platform
import statistics
import subprocess
import sys

from contenders import ROOT, TORCH_CONTENDER, Contender, LeftOut, alternate, cpu_model, find_program, our_environment
from contenders import time_process

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


def report(title, rows, out):
    """rows: (name, seconds, peak bytes or 0); those of graft begin with "graft"."""
    unit, factor = ("s", 1) if max(max(seconds) for _, seconds, _ in rows) >= 0.1 else ("ms", 1000)
    lines = [f"### {title}", "", f"| contender | median {unit} | min | max | peak MiB |", "|---|---|---|---|---|"]
    for name, seconds, peak in rows:
        times = " | ".join(f"{factor * t:.4f}" for t in (statistics.median(seconds), min(seconds), max(seconds)))
        lines.append(f"| {name} | {times} | {f'{peak / 2**20:.0f}' if peak else '–'} |")
    ours = [r for r in rows if r[0].startswith("graft")]
    theirs = [r for r in rows if r not in ours]
    lines.append("")
    if theirs:
        best = min(theirs, key=lambda r: statistics.median(r[1]))
        for name, seconds, _ in ours:
            per_round = [b / a for a, b in zip(seconds, best[1])]
            lines.append(f"{best[0]} / {name}: {statistics.median(best[1]) / statistics.median(seconds):.2f}x (medians); "
                         f"per round {statistics.median(per_round):.2f}x [{min(per_round):.2f}, {max(per_round):.2f}].")
    lines += ["",
              f"Machine: {cpu_model()}, {platform.platform()}. Rounds: {len(rows[0][1])}. Load before: {LOAD}.",
              f"Command: `{' '.join([os.path.relpath(sys.argv[0], ROOT)] + sys.argv[1:])}`", ""]
    print("\n".join(lines))
    if out:
        with open(out, "a") as f:
            f.write("\n".join(lines) + "\n")


def take_turns(contenders, a, title):
    contenders, left_out = alternate(contenders, a.rounds, a.steps)
    for name, reason in left_out:
        print(f"{name}: left out: {reason}", file=sys.stderr)
    for c in contenders:
        c.close()
    if not contenders:
        sys.exit("compare_torch: no contender is left")
    report(title, [(c.name, c.rounds, c.reply.get("peak_bytes", 0)) for c in contenders], a.out)


def compare_images(a):
    contenders = []
    for python in a.python:
        for kind in ("pillow", "torchvision"):
            try:
                contenders.append(Contender([python, TORCH_CONTENDER, "images", "--data", a.data, "--kind", kind, "--size",
                                             str(a.size), "--threads", "1"], dict(os.environ, OMP_NUM_THREADS="1")))
            except LeftOut as reason:
                print(f"{python}, {kind}: left out: {reason}", file=sys.stderr)
    try:
        contenders.insert(0, Contender([find_program("graft_image_step", a.bin), "--data", a.data, "--size", str(a.size)],
                                       our_environment(1)))
    except LeftOut as reason:
        sys.exit(f"compare_torch: graft: {reason}")
    take_turns(contenders, a, f"one JPEG of {a.data} to {a.size} px, one thread")


def compare_steps(a):
    program = find_program("graft_train_step", a.bin)
    job = "train" if a.what == "step" else "infer"
    common = ["--arch", a.arch, "--batch", str(a.batch), "--size", str(a.size), "--threads", str(a.threads), "--device",
              a.device, "--precision", a.precision]  # one spelling on both sides
    env = our_environment(a.threads)
    commands = [("graft", [program, "--job", job] + common)]
    if a.device == "cpu" and a.precision == "f32":
        commands.append(("graft, winograd", [program, "--job", job, "--winograd"] + common))
    for python in a.python:
        torch = [python, TORCH_CONTENDER, job] + common
        commands += [(python, torch + ["--layout", layout]) for layout in ("default", "channels_last")]
        commands += [(python, torch + ["--compile", mode]) for mode in a.compile]
    contenders = []
    for name, command in commands:
        try:
            contenders.append(Contender(command, env if command[0] == program else
                                        dict(os.environ, OMP_NUM_THREADS=str(a.threads))))
        except LeftOut as reason:
            if command[0] == program:
                sys.exit(f"compare_torch: graft: {reason}")
            print(f"{name}: left out: {reason}", file=sys.stderr)
            continue
    where = f"{a.threads} threads" if a.device == "cpu" else a.device
    take_turns(contenders, a, f"{a.arch}, batch {a.batch}, {a.size} px, {a.precision}, {where}: one "
                              f"{'training step' if job == 'train' else 'inference'}")


def compare_predictions(a):
    program = find_program("graft", a.bin)
    state = os.path.join(os.environ.get("TMPDIR", "/tmp"), "compare_torch_resnet50.pth")
    subprocess.run([a.python[0], "-c", "import sys, torch, torchvision; torch.save(torchvision.models.resnet50()"
                    ".state_dict(), sys.argv[1])", state], check=True)
    commands = [("graft predict", [program, "predict", a.model, a.image, "--device", a.device, "--threads",
                                   str(a.threads)], our_environment())]
    for python in a.python:
        commands.append((f"PyTorch ({python})", [python, "-c", TORCH_PREDICT, state, a.image, str(a.threads)], None))
    times = {name: [] for name, _, _ in commands}
    for round_number in range(a.rounds + 1):
        for name, command, env in commands:
            try:
                seconds, _ = time_process(command, env)
            except LeftOut as reason:
                sys.exit(f"compare_torch: {name} failed: {reason}")
            if round_number:
                times[name].append(seconds)
    os.remove(state)
    report("one image, whole process: ResNet-50 prediction", [(n, times[n], 0) for n, _, _ in commands], a.out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "infer", "images", "predict"])
    parser.add_argument("--arch", default="resnet50", help="one of torchvision's that graft has")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", default="cpu", help="of both: cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16", "f16"])
    parser.add_argument("--compile", action="append", default=[], choices=["default", "reduce-overhead", "max-autotune", "trace"],
                        help="a torch.compile mode to add, or with infer tracing; repeatable")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1, help="per round and contender")
    parser.add_argument("--python", action="append", help="a Python with torch and torchvision; repeatable")
    parser.add_argument("--bin", help="folder of graft's programs")
    parser.add_argument("--data", help="images: a folder of JPEG files")
    parser.add_argument("--model", help="predict: graft model file")
    parser.add_argument("--image", help="predict: an image")
    parser.add_argument("--out", help="append the table to this Markdown file")
    a = parser.parse_args()
    a.python = a.python or ["/usr/bin/python3"]
    if a.rounds < 5:
        parser.error("at least 5 rounds: fewer say nothing on a shared machine")
    if a.what == "predict" and not (a.model and a.image):
        parser.error("predict needs --model and --image")
    if a.what == "images" and not a.data:
        parser.error("images needs --data")
    {"predict": compare_predictions, "images": compare_images}.get(a.what, compare_steps)(a)


LOAD = "%.2f" % os.getloadavg()[0]
if __name__ == "__main__":
    main()
