#!/usr/bin/env python3
"""Judges whether a device trains as the CPU does, from loss curves (steps.csv) of the same seed, images and start.

    bench/compare_curves.py --device RUN/steps.csv --cpu RUN/steps.csv --cpu RUN/steps.csv [--precision f32] [--md FILE]

Rounding grows about thirty-fold in each of the first steps, so two correct programs agree on the first loss to rounding and
soon follow different paths of the same course. Hence two rules.

1. The loss of step 1, before any update, differs from the nearest CPU run's by 1e-4 of it at most in float32, plus three
   times what the CPU runs differ by: there rounding has not grown yet, and a wrong forward pass shows. In 16 bits the limit
   is about three times what rounding alone does: on the reference device (doubles, rounded where a GPU stores them) it
   moved ResNet-50's first loss at 96 px by 1.2e-3 of it in f16 and by 2.2e-2 in bf16. tf32 rounds like f16.
2. The area between the smoothed curves of the device and of the nearest CPU run is at most three times the largest area
   between two CPU runs that differ in rounding alone (number of threads, instruction set), plus 1 % of the first loss. If
   the device differs from the CPU by rounding alone, its curve is one more draw of what the CPU runs are draws of, and the
   areas are of one size; factor three allows for there being few draws. A wrong gradient, rate or momentum changes the
   course itself, which shows as an area that does not shrink with the rounding.

The area is the mean over steps of |difference| of moving averages over a tenth of the steps. Exits with 1 when a rule fails.
"""

import argparse
import csv
import itertools
import sys

FIRST_STEP = {"f32": 1e-4, "tf32": 4e-3, "f16": 4e-3, "fp16": 4e-3, "bf16": 6e-2}
FACTOR, SHARE_OF_FIRST_LOSS = 3, 0.01


def losses_of(path):
    with open(path) as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    if len(losses) < 10:
        sys.exit(f"compare_curves: {path} has {len(losses)} steps; at least 10 are needed")
    return losses


def smoothed(losses):
    window = max(3, len(losses) // 10)
    return [sum(losses[i:i + window]) / window for i in range(len(losses) - window + 1)]


def area(a, b):
    """Mean distance of two smoothed curves."""
    a, b = smoothed(a), smoothed(b)
    return sum(abs(x - y) for x, y in zip(a, b)) / len(a)


def judge(device, cpus, precision):
    """Returns (list of what is wrong, one line that says what was found)."""
    lengths = {len(curve) for curve in [device] + cpus}
    if len(lengths) != 1:
        sys.exit(f"compare_curves: the runs have {sorted(lengths)} steps; they must be of one length")
    first = min(abs(device[0] - cpu[0]) / cpu[0] for cpu in cpus)
    pairs = list(itertools.combinations(cpus, 2))
    first_allowed = FIRST_STEP[precision] + FACTOR * max(abs(a[0] - b[0]) / a[0] for a, b in pairs)
    band = max(area(a, b) for a, b in pairs)
    allowed = FACTOR * band + SHARE_OF_FIRST_LOSS * cpus[0][0]
    nearest = min(area(device, cpu) for cpu in cpus)
    found = (
        f"{len(device)} steps in {precision}: first loss {device[0]:.7g}, off by {first:.1e} of the CPU's; area to the "
        f"nearest CPU run {nearest:.4f}, allowed {allowed:.4f} (between CPU runs {band:.4f}); mean loss of the last "
        f"tenth {smoothed(device)[-1]:.4f}, CPU {', '.join(f'{smoothed(c)[-1]:.4f}' for c in cpus)}")
    wrong = []
    if not first <= first_allowed:  # a NaN is wrong too
        wrong.append(f"the first loss differs by {first:.1e} of the CPU's, more than {first_allowed:.1e}")
    if not nearest <= allowed:
        wrong.append(f"the curve leaves the CPU's: area {nearest:.4f}, allowed {allowed:.4f}")
    return wrong, found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", required=True, help="steps.csv of the device")
    parser.add_argument("--cpu", action="append", required=True, help="steps.csv of a CPU run; at least two")
    parser.add_argument("--precision", default="f32", choices=list(FIRST_STEP))
    parser.add_argument("--title", default="Training")
    parser.add_argument("--md", help="append what was found to this Markdown file")
    a = parser.parse_args()
    if len(a.cpu) < 2:
        parser.error("two CPU runs at least: the band comes from their difference")
    wrong, found = judge(losses_of(a.device), [losses_of(path) for path in a.cpu], a.precision)
    line = f"{a.title}: {found}. {'; '.join(wrong) + ': FAILED' if wrong else 'Agrees'}."
    print(line)
    if a.md:
        with open(a.md, "a") as file:
            file.write(f"- {line}\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
