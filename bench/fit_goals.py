"""Whole fits of gpu_goals.py: a linear probe beside PyTorch's usual loop, and tuning from kept features beside tuning from
images."""

import csv
import json
import os
import re
import shutil
import statistics
import sys

from contenders import TORCH_CONTENDER, LeftOut, our_environment, time_process
from duels import Duels
from goal_table import BOUNDARY, MANY_IMAGES, PROBE, PROBE_EPOCHS, factor, parts_text, verdict

# What graft takes for images by their names.
IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".tga", ".ppm", ".pgm", ".pnm")


class FitGoals(Duels):

    def probe(self):
        """Whole fits, validation included. PyTorch's epochs are all alike, so two are timed after one of warm-up."""
        epochs, batch = (2, 4) if self.a.rehearse else (PROBE_EPOCHS, 64)
        folder = os.path.join(self.a.state, "runs", "probe")
        data, images = self.many_images()
        command = [
            self.program("graft"), "train", data, "--from-scratch", "--arch", "resnet50", "--strategy",
            "linear-probe", "--epochs",
            str(epochs), "--patience", "0", "--batch",
            str(batch), "--size",
            str(self.size), "--overwrite", "-o", folder, "--device", self.a.device, "--no-leak-check", "--threads",
            str(self.threads)
        ]
        if self.a.rehearse:
            command += ["--max-steps", "4"]
        ours = []
        for _ in range(1 if self.a.rehearse else 3):
            seconds, _ = time_process(command, our_environment(self.threads))
            ours.append(seconds)
        here = statistics.median(ours)
        what = f"linear probe of {epochs} epochs, ResNet-50, {images}{self.size} px, whole run"
        self.report.note(f"{what}: {parts_text(folder, ours[-1])}")
        floor, aim = (factor * epochs for factor in PROBE)
        alone = f"{here:.2f} s ({min(ours):.2f} to {max(ours):.2f})"
        self.report.row("G8", ("G8", what, alone, "none", "–", factor(floor), factor(aim), "–", "alone"))
        theirs = self.probe_of_torch(data, folder, batch, what)
        if theirs is None:
            return
        ratio = epochs * theirs / here
        self.report.row("G8", ("G8", what, alone, f"{epochs * theirs:.2f} s: {epochs} epochs of {theirs:.2f} s",
                               f"{ratio:.2f}", factor(floor), factor(aim), "–", verdict(ratio, floor, aim)))

    def many_images(self):
        """(a folder, "N images, "): what it is given, each image so many times that there are enough for a fit to take
        its time. Where that is no folder of images, or in a rehearsal, (what it is given, "")."""
        found = [
            os.path.join(folder, name) for folder, _, names in os.walk(self.a.data, followlinks=True) for name in names
            if name.lower().endswith(IMAGES) and not name.startswith(".")
        ]
        if self.a.rehearse:
            return self.a.data, ""
        if not found:
            self.report.note(f"{self.a.data} is no folder of images: whole fits take it as it is")
            return self.a.data, ""
        copies, many = -(-MANY_IMAGES // len(found)), os.path.join(self.a.state, "many-images")
        shutil.rmtree(many, ignore_errors=True)  # of other images, or half of them
        for path in found:
            folder = os.path.join(many, os.path.dirname(os.path.relpath(path, self.a.data)))
            os.makedirs(folder, exist_ok=True)
            for i in range(copies):
                os.symlink(os.path.abspath(path), os.path.join(folder, f"{i}-{os.path.basename(path)}"))
        return many, f"{copies * len(found)} images, "

    def probe_of_torch(self, data, folder, batch, what):
        """Seconds of a usual epoch; None when PyTorch does not take part."""
        if self.torch_reason:
            return None
        root = data if os.path.isdir(data) else os.path.dirname(data)
        command = [
            sys.executable, TORCH_CONTENDER, "probe", "--data", root, "--split",
            self.split_for_torch(os.path.join(folder, "split.csv")), "--epochs", "1" if self.a.rehearse else "3"
        ]
        command += self.common(arch="resnet50",
                               batch=batch,
                               size=self.size,
                               precision="f32" if self.a.rehearse else "bf16")
        try:
            seconds = json.loads(time_process(command)[1].strip().splitlines()[-1])["seconds"]
        except LeftOut as reason:
            self.report.note(f"{what}: PyTorch is left out: {reason}")
            return None
        return statistics.median(seconds[1:] or seconds)

    def split_for_torch(self, path):
        """The images of the run; a rehearsal takes a few of each split."""
        if not self.a.rehearse:
            return path
        with open(path) as file:
            rows = list(csv.DictReader(file))
        few = os.path.join(self.a.state, "few.csv")
        with open(few, "w") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            for split in ("train", "val"):
                writer.writerows([row for row in rows if row["split"] == split][:8])
        return few

    def boundary(self):
        """graft's own two ways: from images and from kept features, in one process."""
        floor, aim = BOUNDARY
        data, images = self.many_images()
        what = f"an epoch of tuning layer4 from features, ResNet-50, {images}{self.size} px"
        if self.a.rehearse:
            self.report.note("kept features: left out of the rehearsal, a test of strategies/ covers them")
            raise LeftOut("takes minutes on a CPU")
        seconds, text = time_process([
            self.program("graft_feature_cache"), "layer4", data, "random", "64",
            str(self.size),
            str(os.cpu_count()), "3", self.a.device
        ], our_environment(), 220)
        self.report.row("G10", self.boundary_cells(what, text, floor, aim))
        print(text)

    @staticmethod
    def boundary_cells(what, text, floor, aim):
        """From the lines that graft_feature_cache prints."""
        found = re.search(r"\| wall clock \| ([\d.]+) \| ([\d.]+) \| ([\d.]+)x \| ([\d.]+)x to ([\d.]+)x \|", text)
        if not found:
            raise LeftOut("graft_feature_cache printed no row of wall clock times")
        images, features, ratio, low, high = map(float, found.groups())
        return ("G10", what, f"{features:.2f} s", f"{images:.2f} s, graft from images",
                f"{ratio:.2f} [{low:.2f}, {high:.2f}]", factor(floor), factor(aim), "–", verdict(ratio, floor, aim))
