#!/usr/bin/env python3
"""Compares the time that `graft study plan` foretells with the time that the study then takes.

    scripts/study_plan_check.py --graft build/cpu/bin/graft [-o DIR] [-j N] [--size 64] [--within 0.25] [--threads N]

Draws images (graft demo), makes a DenseNet-121 with random weights, plans and runs a study of 24 trainings of fixed length
(four strategies, two trials and four seeds each) and prints both times, in all and by kind. Exit code 1 if they differ by
more than the share given. The estimate supposes an idle machine: so does this comparison.
"""
import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time

STRATEGIES = ["full", "linear-probe", "lp-ft", "auto-rgn"]


def study_text(args, model, images):
    return f"""[study]
networks = ["densenet121"]
strategies = {json.dumps(STRATEGIES)}
seeds = [1, 2, 3, 4]
tuning = {{ trials = 2, epochs = 3, lr = [1e-4, 1e-2] }}
[study.weights]
densenet121 = "{model}"
[study.datasets]
shapes = {{ path = "{images}", allow = ["near-duplicates"] }}
[train]
epochs = 6
batch = 16
patience = 0
threads = {args.threads}
device = "cpu"
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", default="build/cpu/bin/graft")
    parser.add_argument("-o", "--output", default="study_plan_check")
    parser.add_argument("-j", "--jobs", type=int, default=1)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--cpu-seconds", action="store_true", help="compare with CPU seconds; needs --threads 1 -j 1")
    parser.add_argument("--within", type=float, default=0.25)
    args = parser.parse_args()
    graft, out = os.path.abspath(args.graft), os.path.abspath(args.output)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)

    def run(*words):
        begin = time.monotonic()
        done = subprocess.run([graft, *words], cwd=out, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"graft {' '.join(words)}: exit code {done.returncode}")
        return done.stdout, time.monotonic() - begin

    run("demo", "--images-only", "-o", "demo")
    images = os.path.join(out, "demo", "target")
    run("train", images, "--from-scratch", "--arch", "densenet121", "--size", str(args.size), "--max-steps", "0", "-o", "start", "--quiet", "--allow-leaks", "near-duplicates")
    with open(os.path.join(out, "study.toml"), "w") as file:
        file.write(study_text(args, os.path.join(out, "start", "last.h5"), images))
    jobs = ["-j", str(args.jobs)]
    plan = json.loads(run("study", "plan", "study.toml", "--json", *jobs)[0])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, seconds = run("study", "run", "study.toml", "--json", *jobs)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # On a machine where other things run, CPU seconds of trainings with one thread are the better comparison.
    ratio = plan["seconds"] / (cpu if args.cpu_seconds else seconds)
    print(f"planned {plan['seconds']:.1f} s, took {seconds:.1f} s ({cpu:.1f} s of CPU): {ratio:.3f}; planning took "
          f"{plan['probe_seconds']:.1f} s")
    for kind in plan["tasks"]:
        parts = ", ".join(f"{name} {value:.2f}" for name, value in kind["parts"].items())
        print(f"  {kind['kind']:<40} {kind['trainings']} x {kind['seconds']:.2f} s: {parts}")
    sys.exit(0 if abs(ratio - 1) <= args.within else 1)


if __name__ == "__main__":
    main()
