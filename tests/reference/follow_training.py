#!/usr/bin/env python3
"""Follows `graft train` step by step with PyTorch, from the same model file and the same image files.

    tests/reference/follow_training.py --graft build/ci/bin/graft --model resnet50.h5 --data FOLDER [--count 32] [--only adam]
        [--multi-label]

FOLDER has a manifest.csv (path,label,split,...). A CSV of `count` training images is written as PNG with the classes
mixed (JPEG decoders differ by a level or two; PNG does not), and graft is run on it with --no-shuffle --augment none
--schedule constant --max-steps 4, with SGD and with Adam:
  on the reference device, 64 px: every step's loss equals PyTorch float64's to 1e-6, and last.h5 the weights;
  on the CPU, 224 px: the first loss within 1e-4, the next two within three times PyTorch float32's own distance from
  float64. One run's distance is luck (Adam turns a gradient's rounded sign into a whole step), so it is the largest of
  four: two memory formats, with one thread and with two.
With --multi-label every third image has a second label and every fifth none, and the loss is binary cross-entropy with
balanced positive weights.
Needs torch, torchvision, h5py, Pillow. Exits non-zero if anything is off.
"""
import argparse
import csv
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
import torchvision
from PIL import Image

STEPS = 4
OPTIMIZERS = {
    "sgd": (["--optimizer", "sgd", "--lr", "0.003", "--momentum", "0.9", "--weight-decay", "0.0005"],
            lambda p: torch.optim.SGD(p, lr=0.003, momentum=0.9, weight_decay=0.0005)),
    "adam": (["--optimizer", "adam", "--lr", "0.0001"], lambda p: torch.optim.Adam(p, lr=0.0001)),
}
failures = []


def check(name, value, limit):
    ok = value <= limit
    print(f"  {'ok  ' if ok else 'FAIL'} {name}: {value:.3g} (limit {limit:.3g})", flush=True)
    if not ok:
        failures.append(name)


def write_images(folder, data, count, multi_label):
    """The first training images of each class in turn, as PNG, and their CSV (a few more serve as validation)."""
    by_class = {}
    with open(os.path.join(data, "manifest.csv")) as f:
        for row in csv.DictReader(f):
            if row["split"] == "train":
                by_class.setdefault(row["label"], []).append(row["path"])
    classes = sorted(by_class)
    rows = []
    for i in range(count + len(classes) * 2):
        label = classes[i % len(classes)]
        name = f"{i:04d}.png"
        Image.open(os.path.join(data, by_class[label][i // len(classes)])).convert("RGB").save(os.path.join(folder, name))
        if multi_label:
            label = "" if i % 5 == 4 else label + "|third" if i % 3 == 2 else label
        rows.append([name, label, "train" if i < count else "val"])
    path = os.path.join(folder, "images.csv")
    with open(path, "w", newline="") as f:
        csv.writer(f).writerows([["path", "labels" if multi_label else "label", "split"]] + rows)
    if multi_label:
        classes = sorted(classes + ["third"])
    return path, [r for r in rows if r[2] == "train"], classes


def loss_of(rows, classes, multi_label):
    """A function of a batch's logits and its rows."""
    if not multi_label:
        return lambda logits, part: torch.nn.functional.cross_entropy(
            logits, torch.tensor([classes.index(r[1]) for r in part]))
    hot = lambda part: torch.tensor([[float(c in r[1].split("|")) for c in classes] for r in part], dtype=torch.float64)
    with_class = hot(rows).sum(0)
    positive = (len(rows) - with_class) / with_class
    return lambda logits, part: torch.nn.functional.binary_cross_entropy_with_logits(
        logits, hot(part).to(logits.dtype), pos_weight=positive.to(logits.dtype))


class Model:
    """A graft model file as a PyTorch network and its transform."""

    def __init__(self, path):
        with h5py.File(path) as f:
            self.attributes = {k: (v.decode() if isinstance(v, bytes) else v) for k, v in f.attrs.items()}
            self.weights = {k: torch.from_numpy(np.array(v)) for k, v in f["weights"].items()}

    def network(self, dtype):
        a = self.attributes
        net = getattr(torchvision.models, a["architecture"])(num_classes=int(a["num_classes"]))
        if a["stride_on"] == "1x1":
            for layer in (net.layer2, net.layer3, net.layer4):
                layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
        for m in net.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                m.eps = float(a["bn_epsilon"])
            if isinstance(m, torch.nn.Dropout):
                m.p = 0.0
        net = net.to(dtype)
        state = net.state_dict()
        wanted = {k for k in state if not k.endswith("num_batches_tracked")}
        assert wanted == set(self.weights), wanted ^ set(self.weights)
        net.load_state_dict({**state, **{k: v.to(dtype) for k, v in self.weights.items()}})
        return net.train()

    def image(self, path):
        a = self.attributes
        x = Image.open(path).convert("RGB")
        x = torchvision.transforms.functional.resize(x, int(a["resize"]))
        x = torchvision.transforms.functional.center_crop(x, int(a["input_size"]))
        x = torch.from_numpy(np.array(x)).permute(2, 0, 1).float()
        if a["channel_order"] == "bgr":
            x = x.flip(0)
        shape = lambda v: torch.tensor(np.array(v, dtype=np.float32)).view(3, 1, 1)
        return (x / float(a["input_scale"]) - shape(a["mean"])) / shape(a["std"])


def follow(model, rows, loss_function, folder, batch, make_optimizer, dtype, steps,
           memory_format=torch.contiguous_format):
    net = model.network(dtype).to(memory_format=memory_format)
    optimizer = make_optimizer(net.parameters())
    losses = []
    for step in range(steps):
        part = rows[step * batch:(step + 1) * batch]
        x = torch.stack([model.image(os.path.join(folder, r[0])) for r in part]).to(dtype, memory_format=memory_format)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(net(x), part)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, net


def float32_losses(*args):
    """Of PyTorch in both memory formats, with one thread and with two."""
    runs = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for memory_format in (torch.contiguous_format, torch.channels_last):
            runs.append(follow(*args[:-1], torch.float32, args[-1], memory_format)[0])
    return runs


def graft_run(a, images, size, device, batch, extra, output, steps):
    command = [a.graft, "train", images, "--weights", a.model, "--strategy", "full", "-o", output, "--size", str(size),
               "--device", device, "--batch", str(batch), "--no-shuffle", "--augment", "none", "--dropout", "0",
               "--schedule", "constant", "--max-steps", str(steps), "--overwrite", "--quiet", "--no-leak-check"] + extra
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if steps == 0:
        return []
    with open(os.path.join(output, "steps.csv")) as f:
        return [float(r["loss"]) for r in csv.DictReader(f)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graft", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--only", choices=OPTIMIZERS)
    parser.add_argument("--multi-label", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(2)
    batch = a.count // STEPS
    with tempfile.TemporaryDirectory() as folder:
        images, rows, classes = write_images(folder, a.data, a.count, a.multi_label)
        loss_function = loss_of(rows, classes, a.multi_label)
        for name, (flags, make_optimizer) in OPTIMIZERS.items():
            if a.only not in (None, name):
                continue
            run = os.path.join(folder, "run")
            if a.multi_label:
                flags = flags + ["--class-weights", "balanced"]
            print(f"{name}, reference device, 64 px, batch {batch}, {len(classes)} classes", flush=True)
            graft_run(a, images, 64, "reference", batch, flags, run, 0)
            start = Model(os.path.join(run, "last.h5"))
            losses = graft_run(a, images, 64, "reference", batch, flags, run, STEPS)
            end = Model(os.path.join(run, "last.h5"))
            truth, net = follow(start, rows, loss_function, folder, batch, make_optimizer, torch.float64, STEPS)
            for step, (ours, theirs) in enumerate(zip(losses, truth)):
                check(f"loss of step {step + 1} ({theirs:.6f}), relative", abs(ours - theirs) / abs(theirs), 1e-6)
            worst, where = 0.0, ""
            for key, value in net.state_dict().items():
                if key.endswith("num_batches_tracked"):
                    continue
                moved = (value - start.weights[key].double()).norm()
                error = (end.weights[key].double() - value).norm() / (moved + 1e-12 * value.norm())
                if error > worst:
                    worst, where = float(error), key
            check(f"weights after {STEPS} steps, worst tensor ({where}), relative to its change", worst, 1e-6)

            print(f"{name}, cpu, 224 px, batch {batch}", flush=True)
            graft_run(a, images, 224, "cpu", batch, flags, run, 0)
            start = Model(os.path.join(run, "last.h5"))
            losses = graft_run(a, images, 224, "cpu", batch, flags, run, 3)
            exact, _ = follow(start, rows, loss_function, folder, batch, make_optimizer, torch.float64, 3)
            single = float32_losses(start, rows, loss_function, folder, batch, make_optimizer, 3)
            check("first loss, relative", abs(losses[0] - exact[0]) / abs(exact[0]), 1e-4)
            for step in (1, 2):
                distances = [abs(run[step] - exact[step]) for run in single]
                shown = " ".join(f"{d:.3g}" for d in distances)
                check(f"loss of step {step + 1} ({exact[step]:.6f}) against PyTorch float32's distances {shown}, ratio",
                      abs(losses[step] - exact[step]) / max(*distances, 1e-12), 3)
    print("all within limits" if not failures else f"{len(failures)} outside their limits")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
