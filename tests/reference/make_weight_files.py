#!/usr/bin/env python3
"""Writes weight files in exactly the layouts of the published ones, with PyTorch, torchvision and h5py.

  make_weight_files.py fixtures DIR   the small files under tests/data/fixtures (a few KB each)
  make_weight_files.py full DIR       full-size files (2.5 GB); tests read them where GRAFT_WEIGHT_FILES points

Every value follows from its tensor's torchvision name and its flat index in torchvision's layout (see value_of), so that
the tests need no second file to know what a reader must return.
"""
import collections
import json
import os
import pickle
import struct
import sys
import zlib

import h5py
import numpy as np
import torch
import torchvision


def value_of(name, shape):
    """((crc32(name) + 7919 i) mod 1009 - 504) / 1024, variances 1 + that; exact in float32, float16 and (rounded) bfloat16."""
    n = int(np.prod(shape, dtype=np.int64))
    x = ((zlib.crc32(name.encode()) + 7919 * np.arange(n, dtype=np.int64)) % 1009 - 504) / 1024.0
    if name.endswith("running_var"):
        x = 1 + x
    return x.astype(np.float32).reshape(shape)


def state_dict(arch, num_classes=1000):
    """torchvision's own names and shapes, with values by formula."""
    # Parameters stay on the meta device where this torchvision allows; building takes a few seconds otherwise.
    net = getattr(torchvision.models, arch)(num_classes=num_classes)
    out = collections.OrderedDict()
    for name, tensor in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            out[name] = torch.tensor(0, dtype=torch.int64)
        else:
            out[name] = torch.from_numpy(value_of(name, tuple(tensor.shape)))
    return out


def old_densenet_names(state):
    """The published DenseNet files: norm.1, conv.1, without batch counters."""
    out = collections.OrderedDict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if "denselayer" in name:
            for part in ("norm1", "conv1", "norm2", "conv2"):
                name = name.replace("." + part + ".", ".%s.%s." % (part[:-1], part[-1]))
        out[name] = tensor
    return out


def timm_vgg(state):
    out = collections.OrderedDict()
    for name, tensor in state.items():
        if name.startswith("classifier.0.weight"):
            tensor = tensor.reshape(4096, 512, 7, 7)
        if name.startswith("classifier.3.weight"):
            tensor = tensor.reshape(4096, 4096, 1, 1)
        for new, old in (("pre_logits.fc1", "classifier.0"), ("pre_logits.fc2", "classifier.3"), ("head.fc", "classifier.6")):
            name = name.replace(old, new)
        out[name] = tensor
    return out


def save_zip(obj, path):
    torch.save(obj, path, _use_new_zipfile_serialization=True)


def save_legacy(obj, path):
    torch.save(obj, path, _use_new_zipfile_serialization=False)


SAFE_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64", torch.int64: "I64"}


def save_safetensors(state, path, metadata=None):
    header, blobs, at = {}, [], 0
    if metadata:
        header["__metadata__"] = metadata
    for name, tensor in state.items():
        raw = tensor.contiguous()
        raw = (raw.view(torch.int16) if raw.dtype == torch.bfloat16 else raw).numpy().tobytes()
        header[name] = {"dtype": SAFE_TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
        blobs.append(raw)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


# ---- Keras -------------------------------------------------------------------------------------------------------------

def keras_layers_resnet50(new_file):
    """(layer, kind, torchvision module[, its batch norm]) in Keras's order."""
    def names(stage, block, i, kind):
        if new_file:
            return "conv%d_block%d_%d_%s" % (stage, block + 1, i, kind)
        branch = "1" if i == 0 else "2" + "abc"[i - 1]
        return "%s%d%s_branch%s" % ("bn" if kind == "bn" else "res", stage, "abcdef"[block], branch)

    yield ("input_1", None, None)
    yield ("conv1_conv" if new_file else "conv1", "conv", "conv1")
    yield ("conv1_bn" if new_file else "bn_conv1", "bn", "bn1")
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3)):
        for block in range(blocks):
            for i in ((0, 1, 2, 3) if block == 0 else (1, 2, 3)):
                prefix = "layer%d.%d." % (stage - 1, block)
                yield (names(stage, block, i, "conv"), "conv", prefix + ("downsample.0" if i == 0 else "conv%d" % i))
                yield (names(stage, block, i, "bn"), "bn", prefix + ("downsample.1" if i == 0 else "bn%d" % i))
            yield ("add_%d_%d" % (stage, block), None, None)
    yield ("avg_pool", None, None)
    yield ("probs" if new_file else "fc1000", "dense", "fc")


def keras_layers_densenet121():
    yield ("input_1", None, None)
    yield ("conv1/conv", "conv", "features.conv0")
    yield ("conv1/bn", "bn", "features.norm0")
    for block, layers in zip((2, 3, 4, 5), (6, 12, 24, 16)):
        for n in range(1, layers + 1):
            prefix = "features.denseblock%d.denselayer%d." % (block - 1, n)
            name = "conv%d_block%d_" % (block, n)
            yield (name + "0_bn", "bn", prefix + "norm1")
            yield (name + "1_conv", "conv", prefix + "conv1")
            yield (name + "1_bn", "bn", prefix + "norm2")
            yield (name + "2_conv", "conv", prefix + "conv2")
            yield (name + "concat", None, None)
        if block < 5:
            yield ("pool%d_bn" % block, "bn", "features.transition%d.norm" % (block - 1))
            yield ("pool%d_conv" % block, "conv", "features.transition%d.conv" % (block - 1))
    yield ("bn", "bn", "features.norm5")
    yield ("fc1000", "dense", "classifier")


def keras_layers_vgg19():
    yield ("input_2", None, None)
    index = iter((0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34))
    for block, convs in zip((1, 2, 3, 4, 5), (2, 2, 4, 4, 4)):
        for n in range(1, convs + 1):
            yield ("block%d_conv%d" % (block, n), "conv", "features.%d" % next(index))
        yield ("block%d_pool" % block, None, None)
    yield ("flatten", None, None)
    yield ("fc1", "fc1", "classifier.0")
    yield ("fc2", "dense", "classifier.3")
    yield ("predictions", "dense", "classifier.6")


def norm_after(module):
    return module.replace("downsample.0", "downsample.1") if "downsample" in module else module.replace("conv", "bn")


def save_keras(path, layers, shapes, style, conv_bias, keep=None, nest=False, split=False):
    """style: "old" conv1_W:0, "slash" kernel:0, "vgg" block1_conv1_W_1:0. Only torchvision modules in `keep` are written."""
    with h5py.File(path, "w") as f:
        root = f.create_group("model_weights") if nest else f
        names = []
        for layer, kind, module in layers:
            if module is not None and keep is not None and not any(module.startswith(k) for k in keep):
                continue
            names.append(layer.encode())
            group = root.create_group(layer)
            arrays = []
            last = layer
            if kind in ("conv", "dense", "fc1"):
                w = value_of(module + ".weight", shapes[module + ".weight"])
                if kind == "conv":
                    w = w.transpose(2, 3, 1, 0)
                elif kind == "fc1" and shapes[module + ".weight"][1] == 25088:
                    w = w.reshape(-1, 512, 7, 7).transpose(2, 3, 1, 0).reshape(25088, -1)
                else:
                    w = w.T
                part = {"old": last + "_W:0", "slash": last + "/kernel:0", "vgg": last + "_W_1:0"}[style]
                arrays.append((part, w))
                has_bias = kind != "conv" or conv_bias
                if has_bias:
                    out = shapes[module + ".weight"][0]
                    b = value_of(module + ".bias", (out,))
                    arrays.append(({"old": last + "_b:0", "slash": last + "/bias:0", "vgg": last + "_b_1:0"}[style], b))
            elif kind == "bn":
                parts = (("gamma", "weight"), ("beta", "bias"), ("running_mean", "running_mean"), ("running_std", "running_var"))
                for keras, torch_name in parts:
                    v = value_of(module + "." + torch_name, shapes[module + "." + torch_name])
                    if style == "slash":
                        keras = {"running_mean": "moving_mean", "running_std": "moving_variance"}.get(keras, keras)
                        arrays.append((last + "/" + keras + ":0", v))
                    else:
                        arrays.append((last + "_" + keras + ":0", v))
            if arrays:
                weight_names = [n.encode() for n, _ in arrays]
                if split:
                    for i, n in enumerate(weight_names):
                        group.attrs["weight_names%d" % i] = np.array([n])
                else:
                    group.attrs["weight_names"] = np.array(weight_names)
                for n, a in arrays:
                    group.create_dataset(n, data=np.ascontiguousarray(a))
            else:
                group.attrs["weight_names"] = np.array([])  # what h5py makes of an empty list: float64, zero length
        if split:
            half = len(names) // 2
            root.attrs["layer_names0"] = np.array(names[:half])
            root.attrs["layer_names1"] = np.array(names[half:])
        else:
            root.attrs["layer_names"] = np.array(names)
        root.attrs["backend"] = b"tensorflow"
        root.attrs["keras_version"] = b"2.0.6"


# ---- the two sets ------------------------------------------------------------------------------------------------------

def small_state():
    """A few tensors of a ResNet's names, small enough to keep, in every numeric type."""
    shapes = {"conv1.weight": (4, 3, 3, 5), "bn1.weight": (4,), "bn1.bias": (4,), "bn1.running_mean": (4,),
              "bn1.running_var": (4,), "fc.weight": (5, 4), "fc.bias": (5,)}
    state = collections.OrderedDict((k, torch.from_numpy(value_of(k, s))) for k, s in shapes.items())
    state["bn1.num_batches_tracked"] = torch.tensor(7)
    return state


class Foreign:
    def __reduce__(self):
        return (os.system, ("echo executed > /tmp/graft_pickle_was_executed",))


def fixtures(folder):
    join = lambda name: os.path.join(folder, name)
    state = small_state()
    save_zip(state, join("zip.pth"))
    save_legacy(state, join("legacy.pth"))
    save_zip({"epoch": 3, "best": 0.5, "lr": [0.1, 2 ** 40, None, True], "state_dict":
              collections.OrderedDict(("module." + k, v) for k, v in state.items())}, join("wrapped.pth"))
    save_legacy({"model": state}, join("wrapped_legacy.pth"))
    types = {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}
    save_zip(collections.OrderedDict((k, v.to(t)) for k, t in types.items() for v in (state["fc.weight"],)), join("types.pth"))
    base = torch.from_numpy(value_of("base", (6, 5)))
    strided = collections.OrderedDict(transposed=base.t(), window=base[1:5:2, 2:4], one_row=base[3], scalar=base[2, 2],
                                      repeated=base[:1].expand(3, 5), empty=base[:0],
                                      channels_last=state["conv1.weight"].contiguous(memory_format=torch.channels_last),
                                      parameter=torch.nn.Parameter(base.clone()))
    save_zip(strided, join("strided.pth"))
    save_legacy(strided, join("strided_legacy.pth"))
    torch.save({"fc.weight": Foreign()}, join("foreign.pth"))
    with open(join("foreign_legacy.pth"), "wb") as f:
        for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}):
            pickle.dump(part, f, protocol=2)
        pickle.dump(Foreign(), f, protocol=2)
    with open(join("plain_pickle.pth"), "wb") as f:
        pickle.dump({"fc.weight": [1.0, 2.0]}, f, protocol=4)

    mixed = collections.OrderedDict(state)
    mixed["half"] = state["fc.weight"].half()
    mixed["bfloat16"] = state["fc.weight"].bfloat16()
    mixed["double"] = state["fc.weight"].double()
    save_safetensors(mixed, join("mixed.safetensors"), {"format": "pt", "note": "gr\u00fc\u00df"})

    r50 = {k: tuple(v.shape) for k, v in torchvision.models.resnet50().state_dict().items()}
    small = dict(r50)  # narrow shapes keep the files small; names and order are what these files test
    for k in small:
        if k.startswith(("layer1.0.", "fc.", "conv1", "bn1")) and not k.endswith("tracked"):
            small[k] = tuple(min(n, 4 + i) for i, n in enumerate(r50[k]))
    keep = ("conv1", "bn1", "layer1.0.", "fc")
    save_keras(join("keras_resnet50_old.h5"), keras_layers_resnet50(False), small, "old", True, keep)
    save_keras(join("keras_resnet50_new.h5"), keras_layers_resnet50(True), small, "slash", True, keep, nest=True, split=True)
    d121 = {k: tuple(v.shape) for k, v in torchvision.models.densenet121().state_dict().items()}
    for k in d121:
        d121[k] = tuple(min(n, 4 + i) for i, n in enumerate(d121[k]))
    keep = ("features.conv0", "features.norm0", "features.denseblock1.denselayer1.", "features.transition1", "features.norm5",
            "classifier")
    save_keras(join("keras_densenet121.h5"), keras_layers_densenet121(), d121, "slash", False, keep)
    v19 = {k: tuple(v.shape) for k, v in torchvision.models.vgg19().state_dict().items()}
    for k in v19:
        v19[k] = tuple(min(n, 3 + i) for i, n in enumerate(v19[k]))
    v19["classifier.0.weight"] = (2, 25088)
    keep = ("features.0", "features.10", "features.16", "classifier")
    save_keras(join("keras_vgg19.h5"), keras_layers_vgg19(), v19, "vgg", True, keep)
    with h5py.File(join("keras3.weights.h5"), "w") as f:
        f.create_group("layers/conv2d/vars").create_dataset("0", data=np.zeros((3, 3, 3, 4), np.float32))


def full(folder):
    join = lambda name: os.path.join(folder, name)
    r50, d121, v19 = (state_dict(a) for a in ("resnet50", "densenet121", "vgg19"))
    shapes = lambda state: {k: tuple(v.shape) for k, v in state.items()}
    save_zip(r50, join("resnet50_torchvision.pth"))
    save_legacy({"state_dict": collections.OrderedDict(("module." + k, v) for k, v in r50.items())}, join("resnet50_legacy_wrapped.pth"))
    save_safetensors(collections.OrderedDict((k, v if v.dtype == torch.int64 else v.bfloat16()) for k, v in r50.items()),
                     join("resnet50_bf16.safetensors"))
    save_safetensors(collections.OrderedDict((k, v if v.dtype == torch.int64 else v.half()) for k, v in r50.items()),
                     join("resnet50_f16.safetensors"))
    save_legacy(old_densenet_names(d121), join("densenet121_legacy_old_names.pth"))
    save_zip(d121, join("densenet121_torchvision.pth"))
    save_legacy(v19, join("vgg19_legacy.pth"))
    save_zip(timm_vgg(v19), join("vgg19_timm.pth"))
    save_keras(join("keras_resnet50_old.h5"), keras_layers_resnet50(False), shapes(r50), "old", True)
    save_keras(join("keras_resnet50_new.h5"), keras_layers_resnet50(True), shapes(r50), "slash", True)
    save_keras(join("keras_densenet121.h5"), keras_layers_densenet121(), shapes(d121), "slash", False)
    save_keras(join("keras_vgg19.h5"), keras_layers_vgg19(), shapes(v19), "vgg", True)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("fixtures", "full"):
        sys.exit(__doc__)
    os.makedirs(sys.argv[2], exist_ok=True)
    {"fixtures": fixtures, "full": full}[sys.argv[1]](sys.argv[2])
