#!/usr/bin/env python3
"""Fine-tunes ResNet-50 on five medical image sets and writes the table of docs/results.md.

    scripts/real_data.py --graft build/ci/bin/graft --model resnet50.h5 --data DIR [-o runs] [--table FILE.md]

DIR holds one folder per set with a manifest.csv (path,label,split,patient). For each set: a linear probe with three
seeds, and full fine-tuning with one seed for 6 epochs, after two learning rates were tried for 2 epochs each and the
better one was chosen by macro accuracy on validation images (held out of the training images, patients kept whole).
The test split is read once per finished run. Runs that are finished are not repeated, so the script resumes.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SETS = ["xray_nih", "mri_brain", "histology_lc25000", "dermoscopy_isic9", "endoscopy_kvasir_patches"]
PROBE = ["--strategy", "linear-probe", "--epochs", "60", "--patience", "10", "--batch", "32", "--lr", "1e-3"]
FULL = ["--strategy", "full", "--batch", "16", "--patience", "0"]
RATES = ["1e-4", "3e-5"]
TUNING_EPOCHS, EPOCHS = "2", "6"
SEEDS = ["1", "2", "3"]
SCORES = ["accuracy", "macro_accuracy", "macro_f1", "auc"]


def run(a, name, manifest, options):
    """Trains into OUT/name unless that is finished; returns its summary and the command."""
    directory = os.path.join(a.output, name)
    summary = os.path.join(directory, "summary.json")
    command = [a.graft, "train", manifest, "--weights", a.model, "-o", directory, "--device", a.device] + options
    if not os.path.exists(summary):
        resume = ["--resume"] if os.path.exists(directory) else []
        start = time.time()
        done = subprocess.run(command + resume + ["--quiet"])
        if done.returncode:
            sys.exit(f"real_data: {name} ended with exit code {done.returncode}; run the script again to resume")
        print(f"{name}: {time.time() - start:.0f} s", flush=True)
    with open(summary) as f:
        return json.load(f), command


def row(name, summaries, note):
    values = [[s["test"][score] for s in summaries] for score in SCORES]
    cells = [f"{statistics.mean(v):.3f}" + (f" ± {statistics.stdev(v):.3f}" if len(v) > 1 else "") for v in values]
    minutes = sum(s["train_seconds"] for s in summaries) / len(summaries) / 60
    return f"| {name} | " + " | ".join(cells) + f" | {summaries[0]['test']['n']} | {minutes:.1f} | {note} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("-o", "--output", default="runs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table")
    parser.add_argument("--only", choices=["linear-probe", "full"])
    a = parser.parse_args()
    os.makedirs(a.output, exist_ok=True)
    lines = ["| set, strategy | " + " | ".join(s.replace("_", " ") for s in SCORES) + " | test images | training min | how |",
             "|---" * (len(SCORES) + 4) + "|"]
    commands = []
    if a.only != "full":
        for name in SETS:
            manifest = os.path.join(a.data, name, "manifest.csv")
            done = [run(a, f"{name}-probe-{seed}", manifest, PROBE + ["--seed", seed]) for seed in SEEDS]
            lines.append(row(f"{name}, linear probe", [s for s, _ in done], f"mean ± s.d. of {len(SEEDS)} seeds, lr 1e-3"))
            commands.append(done[0][1])
    if a.only != "linear-probe":
        for name in SETS:
            manifest = os.path.join(a.data, name, "manifest.csv")
            tried = {}
            for rate in RATES:
                summary, command = run(a, f"{name}-full-tune-{rate}", manifest,
                                       FULL + ["--epochs", TUNING_EPOCHS, "--lr", rate, "--seed", SEEDS[0]])
                tried[rate] = summary["best_val_macro_accuracy"]
                commands.append(command)
            best = max(RATES, key=lambda rate: tried[rate])
            summary, command = run(a, f"{name}-full", manifest, FULL + ["--epochs", EPOCHS, "--lr", best, "--seed", SEEDS[0]])
            commands.append(command)
            tuning = ", ".join(f"lr {r}: {tried[r]:.3f}" for r in RATES)
            lines.append(row(f"{name}, full", [summary], f"lr {best}; validation macro accuracy when tuning: {tuning}"))
    text = "\n".join(lines) + "\n"
    print(text)
    if a.table:
        with open(a.table, "w") as f:
            f.write(text + "\nCommands (paths shortened):\n\n")
            for command in commands:
                f.write("    " + " ".join(os.path.basename(c) if c.startswith("/") and "manifest" not in c else
                                          "/".join(c.split("/")[-2:]) if "manifest" in c else c for c in command) + "\n")


if __name__ == "__main__":
    main()
