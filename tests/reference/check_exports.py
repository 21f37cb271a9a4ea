#!/usr/bin/env python3
"""What `graft export` writes, read by the programs it is for. Not a test of CI, which has none of them; the bytes are
held there by tests/models/onnx_graph_test.cpp and tests/data/pth_test.cpp.

    python3 tests/reference/check_exports.py build/cpu/bin/graft photo.png [folder]

For each network with random weights and running statistics: `weights import`, `export` in three formats, then
  .onnx         onnx.checker; onnxruntime's logits, with a batch of three, against `graft predict --logits`
  .safetensors  safetensors.torch.load_file, load_state_dict(strict=True), torchvision's logits against the same
  .pth          torch.load(weights_only=True), the same; and every tensor bit for bit what was imported
Then `graft weights import` of both again: the same values.

Last run with onnx 1.23.2, onnxruntime 1.32.0, safetensors 0.8.0, torch 2.15.0 and torchvision 0.29.2 on a CPU.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
import safetensors.torch
import torch
import torchvision
from PIL import Image

CASES = [
    ("resnet50", {}, 1000),
    ("resnet50", {"--stride-on": "1x1", "--preprocess": "caffe", "--bn-epsilon": "0.001"}, 7),
    ("densenet121", {}, 5),
    ("vgg19", {}, 3),
    ("vgg19-gap", {}, 4),
    ("vgg19-192", {"--size": "192"}, 3),
] + [(name, {}, 3) for name in ("resnet18", "resnet34", "resnet101", "resnet152", "densenet169", "densenet201", "vgg11-gap",
                                "vgg13-gap", "vgg16-gap", "vgg16_bn-gap")]


def run(*arguments):
    done = subprocess.run([str(a) for a in arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arguments}: {done.stderr}")
    return done.stdout


def make(name, options, classes):
    architecture = name.split("-")[0]
    torch.manual_seed(len(name) + classes)
    network = getattr(torchvision.models, architecture)(weights=None, num_classes=classes)
    if name.endswith("gap"):
        network.avgpool = torch.nn.AdaptiveAvgPool2d(1)
        network.classifier = torch.nn.Linear(512, classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = float(options.get("--bn-epsilon", module.eps))
            for tensor, low, high in ((module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 1.5),
                                      (module.weight.data, 0.75, 1.25), (module.bias.data, -0.1, 0.1)):
                tensor.uniform_(low, high)
        if options.get("--stride-on") == "1x1" and isinstance(module, torchvision.models.resnet.Bottleneck):
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    return architecture, network.eval()


def prepared(photo, meta):
    """The input as the metadata of the exported file says."""
    size, resize = int(meta["input_size"]), int(meta["resize"])
    image = Image.open(photo).convert("RGB")
    image = torchvision.transforms.CenterCrop(size)(torchvision.transforms.Resize(resize)(image))
    values = np.asarray(image, dtype=np.float32)
    if meta["channel_order"] == "bgr":
        values = values[..., ::-1]
    mean, std = (np.array(meta[k].split(), dtype=np.float32) for k in ("mean", "std"))
    values = (values / np.float32(meta["input_scale"]) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]


def distance(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


def check(graft, photo, folder, name, options, classes):
    architecture, network = make(name, options, classes)
    source = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(source, folder / "source.pth")
    flags = [x for pair in options.items() if pair[0] != "--size" for x in pair]
    run(graft, "weights", "import", folder / "source.pth", "-o", folder / "model.h5", "--arch", architecture, *flags)
    model = folder / "model.h5"
    if "--size" in options:  # a run carries its size: the model file of a training without a step
        images = folder / "images"
        for split in ("train", "val", "test"):
            for c in range(classes):
                (images / split / f"c{c}").mkdir(parents=True, exist_ok=True)
                Image.open(photo).resize((64, 64)).save(images / split / f"c{c}" / "a.png")
        run(graft, "train", images, "--weights", model, "--strategy", "full", "-o", folder / "run", "--max-steps", "0",
            "--size", options["--size"], "--overwrite", "--device", "cpu", "--allow-leaks", "duplicates,near-duplicates")
        model = folder / "run"
    files = {suffix: folder / f"model.{suffix}" for suffix in ("onnx", "safetensors", "pth")}
    for file in files.values():
        run(graft, "export", model, "-o", file)
    answer = json.loads(run(graft, "predict", model, photo, "--logits", "--json", "--device", "cpu"))
    logits = np.array(answer["images"][0]["logits"])

    proto = onnx.load(files["onnx"])
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    x = prepared(photo, meta)
    by_onnx = session.run(None, {"images": np.concatenate([x, x * 0.5, x])})[0]
    distances = {"onnx": distance(by_onnx[0], logits), "batch": distance(by_onnx[2], by_onnx[0])}

    states = {"safetensors": safetensors.torch.load_file(files["safetensors"]),
              "pth": torch.load(files["pth"], weights_only=True)}
    with torch.no_grad():
        for kind, state in states.items():
            network.load_state_dict(state, strict=True)
            distances[kind] = distance(network(torch.from_numpy(x))[0], logits)
            run(graft, "weights", "import", files[kind], "-o", folder / "again.h5", "--arch", architecture, *flags)
            again = json.loads(run(graft, "weights", "inspect", folder / "again.h5", "--json"))
            first = json.loads(run(graft, "weights", "inspect", model / "last.h5" if model.is_dir() else model, "--json"))
            assert again["values_sha256"] == first["values_sha256"], kind
            if "--size" not in options:
                assert list(state) == list(source) or kind == "safetensors"
                assert all(torch.equal(state[k], source[k]) for k in source)
    assert max(distances.values()) < 1e-5, distances
    print(name, options, len(proto.graph.node), "nodes", {k: f"{v:.1e}" for k, v in distances.items()}, flush=True)


def main():
    graft, photo = sys.argv[1:3]
    with tempfile.TemporaryDirectory(dir=sys.argv[3] if len(sys.argv) > 3 else None) as folder:
        for name, options, classes in CASES:
            check(graft, photo, pathlib.Path(folder), name, options, classes)


if __name__ == "__main__":
    main()
