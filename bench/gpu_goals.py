#!/usr/bin/env python3
"""The benchmarks of scripts/gpu_check.sh: graft in turn with PyTorch on one device, held against the project's goals.

    bench/gpu_goals.py STAGE --bin DIR --device cuda:0 --state DIR --rows FILE --md FILE [--arch A] [--data DIR] [--all]
                       [--turns FILE]

Each measurement becomes a line of the table of goals in --rows (goal, what, graft, opponent, ratio per round with its
range, floor, goal, share of the bound, verdict), and every contender a line in --md; both files are rewritten after every
contender, so that a stage that is cut leaves what it had. Contenders take turns, graft and one opponent at a time;
the others wait. Without PyTorch, graft is timed alone. Bounds come from bench/roofline.py with the matrix rate and
copy bandwidth that the stage `ceilings` left in --state. --rehearse: small sizes and few rounds, to prove the script.
Exits with 77 when nothing could be measured, the reason in the last line.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time

import compare_torch_update
import roofline
from goal_table import (DETERMINISTIC, INFER, LATENCY_MS, MEMORY, NAMES, SMALL_BATCH, START_S, TRAIN, UPDATE, UPDATE_SHARE)
from goal_table import contests, factor, mib, share_text, verdict
from contenders import TORCH_CONTENDER, Contender, LeftOut, alternate, our_environment, ratios, time_process
from fit_goals import FitGoals


class Bench(FitGoals):

    def ceilings_known(self):
        path = os.path.join(self.a.state, "ceilings.json")
        if not os.path.exists(path):
            return None
        with open(path) as file:
            return json.load(file)

    def bound(self, level, arch, batch):
        known = self.ceilings_known()
        return (roofline.images_per_second(arch, level, batch, known["matrix_flops"], known["copy_bytes"])
                if known else None)

    def ceilings(self):
        found = []
        side = ["--side", "256", "--copy-mib", "8"] if self.a.rehearse else []
        graft = [self.program("graft_ceilings")] + side
        contenders = [(f"graft {p}", graft + self.common(precision=p), our_environment(self.threads))
                      for p in ("bf16", "f32")]
        contenders.append(("PyTorch", [sys.executable, TORCH_CONTENDER, "ceilings"] + self.common(), None))
        for name, command, env in contenders:
            if name == "PyTorch" and self.torch_reason:
                continue
            try:
                found.append(json.loads(time_process(command, env, 80)[1].strip().splitlines()[-1]))
            except LeftOut as reason:
                self.report.note(f"{name}: not measured: {reason}")
                continue
            one = found[-1]
            self.report.note(
                f"{one['name']}: matrix product in {one['precision']} {one['matrix_flops'] / 1e12:.4g} TFLOP/s, "
                f"copy {one['copy_bytes'] / 1e9:.4g} GB/s read plus written")
        if not found:
            raise LeftOut("neither graft nor PyTorch measured the machine")
        halves = [f for f in found if f["precision"] == "bf16"] or found
        best = {
            "matrix_flops": max(f["matrix_flops"] for f in halves),
            "copy_bytes": max(f["copy_bytes"] for f in found)
        }
        with open(os.path.join(self.a.state, "ceilings.json"), "w") as file:
            json.dump(best, file)
        self.report.note(
            f"bounds below take {best['matrix_flops'] / 1e12:.4g} TFLOP/s and {best['copy_bytes'] / 1e9:.4g} GB/s")

    def train(self):
        arch = self.a.arch
        (batch, configurations), = [c[2:] for c in self.contests("train") if c[1] == arch]
        what = f"training {NAMES[arch]}, batch {batch}, {self.size} px"
        self.race("train", arch, batch, what, TRAIN[arch], self.bound("c1", arch, batch), configurations)

    def infer(self):
        (batch, configurations), = [c[2:] for c in self.contests("infer") if c[1] == self.a.arch]
        what = f"inference {NAMES[self.a.arch]}, batch {batch}, {self.size} px"
        self.race("infer", self.a.arch, batch, what, INFER[self.a.arch], self.bound("infer", self.a.arch, batch),
                  configurations)

    def race(self, job, arch, batch, what, limits, bound, configurations):
        """graft against the best of the configurations, as one row; in training also its memory against eager's.
        limits: number of the goal, floor, goal, goal as a share of the bound."""
        options = dict(arch=arch, batch=batch, size=self.size)
        best, eager = None, None
        row = what + (", remaining configurations" if self.a.all else "")
        loaded = self.load(job, configurations, **options)
        ours = self.ours("graft_train_step", "--job", job, **options)
        for mode, name, opponent, ratio in self.duel(ours, what, batch, loaded):
            if job == "train" and mode == "" and not self.a.all:
                eager = opponent.name, opponent.reply
                self.memory_row(what, arch, ours, eager)
            if best is None or statistics.median(opponent.rounds) < best[0]:
                best, rounds = (statistics.median(opponent.rounds), name, ratio), ours.rounds
            self.speed_row(row, ours, rounds, best, limits, bound, batch)
        if best is None:
            self.speed_row(row, ours, ours.rounds, None, limits, bound, batch)
        self.require_replays(what, ours)
        ways = self.growth_kernels(what, ours)
        if eager and arch == "densenet121":
            for word in ["off"] + ["on"] * ("cudnn" in ways):
                self.beside_itself(what, arch, ours, eager, options, "--own-growth", word)
        if eager and ours.reply["peak_bytes"] > MEMORY[arch][1] * eager[1]["peak_bytes"]:
            self.beside_itself(what, arch, ours, eager, options, "--recompute", "norms")
        if eager and arch == "densenet121":
            self.beside_itself(what, arch, ours, eager, options, "--fused-norms", "off")
        ours.close()

    def growth_kernels(self, what, ours):
        """Notes what was chosen between cuDNN and graft's own kernels for DenseNet's convolutions, and what both need.
        Returns the ways that were taken for its 3 x 3 convolutions."""
        choices = [line.split(": ", 1) for line in ours.reply.get("own_kernels", [])]
        growth = [(name, way) for name, way in choices if " growth " in name]
        for name, way in growth:
            self.report.note(f"{what}: {name}: {way}")
        fused = [way.startswith("fused") for name, way in choices if name.startswith("norm+")]
        if fused:
            self.report.note(f"{what}: norms and pointwise convolutions are one kernel in {sum(fused)} of {len(fused)} shapes")
        return {way.split(",")[0] for _, way in growth}

    def beside_itself(self, what, arch, ours, eager, options, *words):
        """What memory costs or gives: graft in turn with itself when it is told these words."""
        other = self.ours("graft_train_step", "--job", "train", *words, precisions=(ours.precision, ), **options)
        told = ", " + " ".join(words)
        other.name += told
        ours.rounds = []
        with self.turns.timing():
            stayed, left_out = alternate([other, ours], self.rounds, self.steps_for(ours))
        if left_out:
            raise LeftOut(f"graft: {left_out[-1][1]}")
        self.require_replays(other.name, other)
        self.describe(what, other, options["batch"])
        self.memory_row(what + told, arch, other, eager,
                        ", a step takes {:.2f} [{:.2f}, {:.2f}] times as long".format(*ratios(other, ours)))
        other.close()

    def require_replays(self, what, ours):
        """Of the last round's steps."""
        if self.a.device.startswith("cuda") and ours.reply.get("replays", 0) < ours.steps:
            raise LeftOut(f"{what}: graft called its steps one by one; they should have been captured and replayed")

    def speed_row(self, what, ours, rounds, best, limits, bound, batch):
        """One line of the table. rounds: graft's beside the best opponent. best: (seconds, name, (ratio, low, high)) of
        the fastest opponent so far, or None."""
        goal, floor, aim, share_aim = limits
        rate = batch / statistics.median(rounds)
        share = rate / bound if bound else None
        opponent = f"{batch / best[0]:.0f}/s, {best[1]}" if best else "none"
        ratio = "{:.2f} [{:.2f}, {:.2f}]".format(*best[2]) if best else "–"
        self.report.row(
            (goal, what),
            (goal, what, f"{rate:.0f}/s, {ours.precision}", opponent, ratio, factor(floor), factor(aim),
             share_text(share, share_aim), self.standing(verdict(best[2][0], floor, aim, share, share_aim)) if best
             else "alone"))

    def standing(self, word):
        """Training's goals are against the fastest of all configurations; the first comparison has but some of them."""
        is_first = self.a.stage == "train" and not self.a.all
        return word + ", so far" if is_first and word != "below the floor" else word

    def memory_row(self, what, arch, ours, eager, addition=""):
        """eager: name and last reply of PyTorch's."""
        floor, aim = MEMORY[arch]
        (used, others), (kept, others_kept) = ([reply[key] for reply in (ours.reply, eager[1])]
                                               for key in ("peak_bytes", "reserved_bytes"))
        ratio = used / others
        self.report.row(("G12", what),
                        ("G12", f"peak memory, {what}", f"{mib(used)} MiB", f"{mib(others)} MiB, {eager[0]}",
                         f"{ratio:.2f}, reserved {kept / others_kept:.2f}{addition}", f"{floor:g}", f"{aim:g}", "–",
                         "goal" if ratio <= aim else "floor" if ratio <= floor else "above the floor"))

    def latency(self):
        floor, aim = LATENCY_MS
        (job, arch, batch, configurations), = self.contests("latency")
        what = f"latency {NAMES[arch]}, batch {batch}, {self.size} px" + (", remaining configurations" if self.a.all else "")
        options = dict(arch=arch, batch=batch, size=self.size)
        loaded = self.load(job, configurations, limit_s=440 if self.a.all else 240, **options)
        ours, best = self.ours("graft_train_step", "--job", job, **options), None
        for _, name, opponent, ratio in self.duel(ours, what, batch, loaded):
            if best is None or statistics.median(opponent.rounds) < best[0]:
                best = (statistics.median(opponent.rounds), name, ratio)
        milliseconds = 1e3 * statistics.median(ours.rounds)
        self.report.row("G6",
                        ("G6", what, f"{milliseconds:.3f} ms, {ours.precision}",
                         f"{1e3 * best[0]:.3f} ms, {best[1]}" if best else "none",
                         "{:.2f} [{:.2f}, {:.2f}]".format(*best[2]) if best else "–", f"{floor} ms", f"{aim} ms", "–",
                         "goal" if milliseconds <= aim else "floor" if milliseconds <= floor else "above the floor"))
        ours.close()
        self.require_replays(what, ours)
        if self.a.all and best is None and not self.torch_reason:
            raise LeftOut(f"{what}: PyTorch is left out, see above")

    def small_batch(self):
        contests = [(dict(arch=arch, batch=batch, size=self.size), configurations)
                    for _, arch, batch, configurations in self.contests("small-batch")]
        loaded = [self.load("train", configurations, **options) for options, configurations in contests]
        for (options, _), opponents in zip(contests, loaded):
            batch, what = options["batch"], "training {}, batch {batch}, {size} px".format(NAMES[options["arch"]], **options)
            ours = self.ours("graft_train_step", "--job", "train", **options)
            for mode, name, opponent, ratio in self.duel(ours, what, batch, opponents):
                floor, aim = SMALL_BATCH[mode]
                best = (statistics.median(opponent.rounds), name, ratio)
                self.speed_row(f"{what}, against {mode or 'eager'}", ours, ours.rounds, best, ("G7", floor, aim, None), None,
                               batch)
            if self.torch_reason:
                self.speed_row(what, ours, ours.rounds, None, ("G7", None, None, None), None, batch)
            self.require_replays(what, ours)
            eager = self.ours("graft_train_step", "--job", "train", "--no-graph", precisions=(ours.precision, ), **options)
            ours.rounds = []
            with self.turns.timing():
                left_out = alternate([eager, ours], self.rounds, self.steps_for(ours))[1]
            if left_out:
                self.report.note(f"{what}: steps called one by one are not compared: {left_out[-1][1]}")
            else:
                self.report.note("{}: graft's steps take {:.2f} [{:.2f}, {:.2f}] times as long when they are called one by "
                                 "one".format(what, *ratios(eager, ours)))
            eager.close()
            ours.close()

    def update(self):
        known = self.ceilings_known()

        def start(one):
            arch, kind = one
            try:
                return self.theirs("update", kind=kind, arch=arch, rule="auto-rgn")
            except LeftOut as reason:
                return reason

        architectures = ("densenet121", ) if self.a.rehearse else roofline.ARCHITECTURES
        pairs = [(arch, kind) for arch in architectures for kind in compare_torch_update.KINDS]
        loaded = dict(zip(pairs, self.side_by_side(start, pairs)))
        for arch in architectures:
            what = f"Auto-RGN step, {NAMES[arch]}"
            ours = self.ours("graft_update_step", precisions=("f32", ), arch=arch, rule="auto-rgn")
            ours.run(3, keep=False)
            opponents = []
            for (of, kind), opponent in loaded.items():
                if of == arch and isinstance(opponent, Contender):
                    opponents.append((kind, opponent))
                elif of == arch:
                    self.report.note(f"{what}: PyTorch {kind} is left out: {opponent}")
            with self.turns.timing():
                stayed, left_out = alternate([ours] + [o for _, o in opponents], self.rounds, self.steps_for(ours))
            for who, reason in left_out:
                self.report.note(f"{what}: {who} is left out: {reason}")
            if ours not in stayed:
                raise LeftOut(f"graft: {left_out[-1][1]}")
            rate = compare_torch_update.bytes_moved(arch, "auto-rgn") / statistics.median(ours.rounds)
            share = rate / known["copy_bytes"] if known else None
            here = f"{1e3 * statistics.median(ours.rounds):.3f} ms"
            for kind, opponent in opponents:
                if opponent in stayed:
                    floor, aim = UPDATE[kind]
                    ratio = ratios(opponent, ours)
                    self.report.row(
                        ("G11", what, kind),
                        ("G11", what, here, f"{1e3 * statistics.median(opponent.rounds):.3f} ms, {opponent.name}",
                         "{:.2f} [{:.2f}, {:.2f}]".format(*ratio), factor(floor), factor(aim),
                         share_text(share, UPDATE_SHARE), verdict(ratio[0], floor, aim, share, UPDATE_SHARE)))
                opponent.close()
            if self.torch_reason:
                self.report.row(
                    ("G11", what),
                    ("G11", what, here, "none", "–", "10x", "20x", share_text(share, UPDATE_SHARE), "alone"))
            ours.close()

    def start(self):
        """From the start of the process to the end of its first training step."""
        batch, floor, aim = (2 if self.a.rehearse else 32), *START_S
        what = f"process start to first step, ResNet-50, batch {batch}, {self.size} px"

        def seconds(make):
            begin = time.perf_counter()
            contender = make()
            contender.run(1)
            taken = time.perf_counter() - begin
            contender.close()
            return taken

        options = dict(arch="resnet50", batch=batch, size=self.size)
        probe = self.ours("graft_train_step", "--job", "train", **options)
        precision = probe.precision
        probe.close()
        ours, theirs = [], []
        for _ in range(self.rounds):
            ours.append(
                seconds(lambda: Contender([self.program("graft_train_step")] + self.common(
                    precision=precision, **options), our_environment(self.threads))))
            if not self.torch_reason:
                theirs.append(
                    seconds(lambda: self.theirs("train", "--no-tuning", precision="f32" if self.a.rehearse else "bf16", **options)))
            each = [t / o for t, o in zip(theirs, ours)]
            here = statistics.median(ours)
            self.report.row(
                "G13", ("G13", what, f"{here:.2f} s ({min(ours):.2f} to {max(ours):.2f}), {precision}",
                        f"{statistics.median(theirs):.2f} s, PyTorch eager" if theirs else "none",
                        f"{statistics.median(each):.2f} [{min(each):.2f}, {max(each):.2f}]" if each else "–", f"{floor} s",
                        f"{aim} s", "–", "goal" if here <= aim else "floor" if here <= floor else "above the floor"))

    def deterministic(self):
        """What it costs that every run gives the same bits: graft in turn with itself, free to choose any engine."""
        batch, (floor, aim) = (2 if self.a.rehearse else 256), DETERMINISTIC
        what = f"cost of the deterministic mode, training ResNet-50, batch {batch}, {self.size} px"
        options = dict(arch="resnet50", batch=batch, size=self.size)
        ours = self.ours("graft_train_step", "--job", "train", **options)
        free = self.ours("graft_train_step",
                         "--job",
                         "train",
                         precisions=(ours.precision, ),
                         deterministic="off",
                         **options)
        free.name += ", sums in any order"
        stayed, left_out = alternate([free, ours], self.rounds, self.steps_for(ours))
        if left_out:
            raise LeftOut(f"graft: {left_out[-1][1]}")
        for contender in stayed:
            self.describe(what, contender, batch)
            contender.close()
        ratio, low, high = ratios(ours, free)
        rates = [f"{batch / statistics.median(c.rounds):.0f}/s" for c in (ours, free)]
        self.report.row("G18", ("G18", what, f"{rates[0]}, {ours.precision}", f"{rates[1]}, graft, sums in any order",
                                f"time {ratio:.2f} [{low:.2f}, {high:.2f}]", factor(floor), factor(aim), "–",
                                "goal" if ratio <= aim else "floor" if ratio <= floor else "above the floor"))

    def plans(self):
        """Lets graft choose cuDNN's plans for what later stages time. They are remembered on disk."""
        jobs = [("train", "resnet50", 256, "on"), ("train", "densenet121", 256, "on"), ("train", "vgg19", 128, "on"),
                ("infer", "resnet50", 256, "on"), ("infer", "densenet121", 256, "on"), ("infer", "vgg19", 256, "on"),
                ("infer", "resnet50", 1, "on"), ("train", "resnet50", 8, "on"), ("train", "resnet50", 16, "on"),
                ("train", "resnet50", 32, "on"), ("train", "resnet50", 256, "off")]
        if self.a.rehearse:
            jobs = [("train", "resnet50", 2, "on"), ("train", "resnet50", 2, "off")]
        for job, arch, batch, deterministic in jobs:
            begin = time.perf_counter()
            ours = self.ours("graft_train_step",
                             "--job",
                             job,
                             arch=arch,
                             batch=batch,
                             size=self.size,
                             deterministic=deterministic)
            ours.close()
            order = "" if deterministic == "on" else ", sums in any order"
            self.report.note(f"{job} {NAMES[arch]}, batch {batch}, {ours.precision}{order}: {time.perf_counter() - begin:.1f} s "
                             "to start and take the first two steps")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage",
                        choices=[
                            "ceilings", "plans", "compile", "train", "infer", "latency", "small-batch", "update",
                            "probe", "boundary", "start", "deterministic"
                        ])
    parser.add_argument("--bin", required=True)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--state", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--md", required=True)
    parser.add_argument("--arch", default="", choices=["", *roofline.ARCHITECTURES])
    parser.add_argument("--data", help="a folder of images")
    parser.add_argument("--all",
                        action="store_true",
                        help="PyTorch's configurations that the first comparison left out")
    parser.add_argument("--alone", action="store_true", help="without PyTorch")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--turns", help="a file that stages which run side by side share, to be timed one at a time")
    a = parser.parse_args()
    if a.stage in ("train", "infer") and not a.arch:
        parser.error(f"{a.stage} needs --arch")
    if a.stage in ("probe", "boundary") and not a.data:
        parser.error(f"{a.stage} needs --data")
    if a.turns and not os.path.isdir(os.path.dirname(a.turns) or "."):
        parser.error(f"--turns {a.turns}: there is no such folder")
    bench = Bench(a)
    loads_first = a.stage in ("compile", "train", "infer", "latency", "small-batch", "update")
    try:
        with contextlib.nullcontext() if loads_first else bench.turns.timing():
            getattr(bench, a.stage.replace("-", "_"))()
    except LeftOut as reason:
        for contender in bench.started:  # before others are timed
            contender.close()
        print(reason)
        cannot = a.stage == "compile" or (a.stage == "boundary" and a.rehearse)
        sys.exit(77 if cannot and not bench.report.rows else 1)


if __name__ == "__main__":
    main()
