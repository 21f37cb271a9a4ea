#!/usr/bin/env python3
"""Fine-tunes ResNet-50 on medical image sets and writes the tables of docs/results.md.

    scripts/real_data.py --graft build/cpu/bin/graft --model resnet50.h5 --data DIR [-o runs] [--table FILE.md]
                         [--part probe|full|strategies]

DIR holds one folder per set with a manifest.csv (path,label,split,patient). Three parts:
  probe       a linear probe with three seeds, on all five sets;
  full        full fine-tuning with one seed, on all five sets;
  strategies  every strategy of the study with one seed, on two sets.
In the last two, two learning rates are tried for 2 epochs each and the better one, by macro accuracy on validation
images (held out of the training images, patients kept whole), trains for 6 epochs. Gradual unfreezing has more stages
than that, so its rates are tried in the first 2 of 6 epochs. The test split is read once per finished run. Runs that
are finished are not repeated, so the script resumes; what a run printed is beside it, as NAME.log.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SETS = ["xray_nih", "mri_brain", "histology_lc25000", "dermoscopy_isic9", "endoscopy_kvasir_patches"]
STRATEGY_SETS = ["xray_nih", "dermoscopy_isic9"]
# What is known to be on both sides of these sets' own splits: turned copies, slices of one head, a lesion twice.
ALLOWED = {name: "near-duplicates" for name in ("histology_lc25000", "mri_brain", "dermoscopy_isic9")}
PROBE = ["--strategy", "linear-probe", "--epochs", "60", "--patience", "10", "--batch", "32", "--lr", "1e-3"]
TUNED = ["--batch", "16", "--patience", "0", "--seed", "1"]
RATES = {
    "full": ["1e-4", "3e-5"],
    "linear-probe": ["3e-3", "1e-3"],
    "gradual-last-first": ["3e-4", "1e-4"],
    "gradual-first-last": ["3e-4", "1e-4"],
    "lp-ft": ["1e-3", "3e-4"],
    "l1-sp": ["1e-4", "3e-5"],
    "l2-sp": ["1e-4", "3e-5"],
    "auto-rgn": ["1e-2", "1e-3"],
}
TUNING_EPOCHS, EPOCHS = 2, 6
SEEDS = ["1", "2", "3"]
SCORES = ["accuracy", "macro_accuracy", "macro_f1", "auc"]


def run(a, name, manifest, options):
    """Trains into OUT/name unless that is finished; returns its summary and the command."""
    directory = os.path.join(a.output, name)
    summary = os.path.join(directory, "summary.json")
    command = [a.graft, "train", manifest, "--weights", a.model, "-o", directory, "--device", a.device,
               "--allow-leaks", ALLOWED.get(os.path.basename(os.path.dirname(manifest)), "")] + options
    if not os.path.exists(summary):
        resume = ["--resume"] if os.path.exists(directory) else []
        start = time.time()
        with open(directory + ".log", "a") as log:
            done = subprocess.run(command + resume, stdout=log, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit(f"real_data: {name} ended with exit code {done.returncode}, see {directory}.log; "
                     "run the script again to resume")
        print(f"{name}: {time.time() - start:.0f} s", flush=True)
    with open(summary) as f:
        return json.load(f), command


def tuned(a, name, strategy, commands):
    """Tries the strategy's two rates for two epochs and trains six with the better one; its row of the table."""
    manifest = os.path.join(a.data, name, "manifest.csv")
    common = ["--strategy", strategy] + TUNED
    tried = {}
    for rate in RATES[strategy]:
        epochs = ["--epochs", str(TUNING_EPOCHS)]
        if strategy.startswith("gradual"):
            epochs = ["--epochs", str(EPOCHS), "--max-steps", str(TUNING_EPOCHS * steps_per_epoch(a, name))]
        summary, command = run(a, f"{name}-{strategy}-tune-{rate}", manifest, common + epochs + ["--lr", rate])
        tried[rate] = summary["best_val_macro_accuracy"]
        commands.append(command)
    best = max(tried, key=tried.get)
    summary, command = run(a, f"{name}-{strategy}", manifest, common + ["--epochs", str(EPOCHS), "--lr", best])
    commands.append(command)
    tuning = ", ".join(f"lr {rate}: {value:.3f}" for rate, value in tried.items())
    return row(f"{name}, {strategy}", [summary], f"lr {best}; validation macro accuracy when tuning: {tuning}")


def steps_per_epoch(a, name):
    """Of a run that is finished: every strategy sees the same images."""
    with open(os.path.join(a.output, f"{name}-full", "summary.json")) as f:
        return json.load(f)["steps"] // EPOCHS


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
    parser.add_argument("--part", choices=["probe", "full", "strategies"])
    a = parser.parse_args()
    os.makedirs(a.output, exist_ok=True)
    lines = ["| set, strategy | " + " | ".join(s.replace("_", " ") for s in SCORES) + " | test images | training min | how |",
             "|---" * (len(SCORES) + 4) + "|"]
    commands = []
    if a.part in (None, "probe"):
        for name in SETS:
            manifest = os.path.join(a.data, name, "manifest.csv")
            done = [run(a, f"{name}-probe-{seed}", manifest, PROBE + ["--seed", seed]) for seed in SEEDS]
            lines.append(row(f"{name}, linear probe", [s for s, _ in done], f"mean ± s.d. of {len(SEEDS)} seeds, lr 1e-3"))
            commands.append(done[0][1])
    if a.part in (None, "full"):
        lines += [tuned(a, name, "full", commands) for name in SETS]
    if a.part in (None, "strategies"):
        lines += [tuned(a, name, strategy, commands) for name in STRATEGY_SETS for strategy in RATES]
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
