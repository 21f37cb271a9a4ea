#!/usr/bin/env python3
"""PyTorch's side of the comparisons: works on demand, as graft's bench programs do. It prints its name as JSON, then reads
a number of steps per line and answers each line with the mean seconds of a step and the peak memory. The steps of a line
are queued one after another; the device is waited for at their end.

    torch_contender.py train|infer --arch resnet50 --batch 16 [--size 224 --device cpu --precision f32|tf32|bf16|f16]
                       [--layout default|channels_last] [--compile default|reduce-overhead|max-autotune|trace]
                       [--threads N]                           trace: with infer, traced and frozen instead of compiled
    torch_contender.py images   --data FOLDER [--kind pillow|torchvision] [--size 224]    one thread; a step is an image
    torch_contender.py update   --arch resnet50 [--rule auto-rgn|adam] [--kind "per tensor"|foreach|fused] [--device cpu]
    torch_contender.py probe    --data ROOT --split RUN/split.csv --epochs E --batch N [...]   prints seconds per epoch
    torch_contender.py ceilings [--device cpu]                                   matrix rate and copy bandwidth
    torch_contender.py versions [--device cpu]
"""
import argparse
import contextlib
import csv
import json
import os
import statistics
import sys
import time

import torch

ARCHITECTURES = [f"resnet{n}" for n in (18, 34, 50, 101, 152)] + [f"densenet{n}" for n in (121, 169, 201)] + \
    [f"vgg{n}{norm}" for n in (11, 13, 16, 19) for norm in ("", "_bn")]
DTYPES = {"bf16": torch.bfloat16, "f16": torch.float16}


def say(**words):
    print(json.dumps(words), flush=True)


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device):
    """Bytes in use at most, and bytes taken from the system at most: of the GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    kib = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    return int(kib) * 1024, int(kib) * 1024


def answer_lines(a, step):
    """The protocol of contenders.py."""
    for line in sys.stdin:
        steps = int(line)
        wait(a.device)
        if steps == 0:
            if a.device.type == "cuda":
                torch.cuda.empty_cache()
            # What convolutions chose before is kept by shape and by these switches: others make them choose again.
            torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = True, False
            say(seconds=[0.0], peak_bytes=0, reserved_bytes=0)
            continue
        if a.device.type == "cuda":  # what choosing algorithms took in warm-up is no part of a step
            torch.cuda.reset_peak_memory_stats(a.device)
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        wait(a.device)
        seconds = (time.perf_counter() - begin) / steps
        used, reserved = peak(a.device)
        say(seconds=[seconds], peak_bytes=used, reserved_bytes=reserved)


def set_up(a):
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = not (a.tune_late or a.no_tuning)
    torch.backends.cudnn.deterministic = a.tune_late
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision != "f32"


def make_network(a):
    import torchvision
    net = getattr(torchvision.models, a.arch)(num_classes=1000)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net.to(a.device, memory_format=memory_format(a))


def memory_format(a):
    return torch.channels_last if a.layout == "channels_last" else torch.contiguous_format


def compiled(a, function):
    if not a.compile:
        return function
    return torch.compile(function, mode=None if a.compile == "default" else a.compile)


def traced(net, x):
    """As TorchScript serves a network: batch norms are folded when it is frozen, the first calls optimise it."""
    with torch.inference_mode():
        frozen = torch.jit.freeze(torch.jit.trace(net, x))
        for _ in range(3):
            frozen(x)
    return frozen


def name_of(a):
    way = "traced and frozen" if a.compile == "trace" else f"compile {a.compile}" if a.compile else "eager"
    words = ["PyTorch", torch.__version__.split("+")[0], way, a.layout]
    return " ".join(words + ([a.precision] if a.precision != "f32" else []))


def random_images(a, dtype=torch.float32):
    return torch.randn(a.batch, 3, a.size, a.size).to(a.device, dtype, memory_format=memory_format(a))


def gradient_scaler():
    return torch.amp.GradScaler("cuda") if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler()


def train(a):
    net = make_network(a).train()
    x, y = random_images(a), (torch.arange(a.batch) * 37 % 1000).to(a.device)
    dtype = DTYPES.get(a.precision)
    mixed = torch.autocast(a.device.type, dtype) if dtype else contextlib.nullcontext()
    scaler = gradient_scaler() if dtype == torch.float16 and a.device.type == "cuda" else None
    fused = {"fused": True} if a.device.type == "cuda" else {}
    optimizer = torch.optim.SGD(net.parameters(), lr=0.001, momentum=0.9, **fused)
    loss_of = compiled(a, lambda images, labels: torch.nn.functional.cross_entropy(net(images), labels))

    def step():
        optimizer.zero_grad(set_to_none=True)
        with mixed:
            loss = loss_of(x, y)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return step


def infer(a):
    """A single image's answer is waited for and read, as whoever asks for one does."""
    if a.compile not in ("", "trace"):  # folds batch norms into convolutions, as graft does
        from torch._inductor import config
        config.freezing = True
    dtype = DTYPES.get(a.precision, torch.float32)
    net = make_network(a).to(dtype).eval()
    x = random_images(a, dtype)
    forward = traced(net, x) if a.compile == "trace" else compiled(a, net)

    def step():
        with torch.inference_mode():
            logits = forward(x)
        if a.batch == 1:
            logits.cpu()

    return step


def update(a):
    """One step of Auto-RGN's rates and Adam, or of Adam alone, as PyTorch's users write it: tensor by tensor, with
    foreach, or with the fused Adam."""
    import torchvision
    parameters = [p.to(a.device).detach().requires_grad_() for p in
                  getattr(torchvision.models, a.arch)(num_classes=1000).parameters()]
    for p in parameters:
        p.grad = torch.rand_like(p) * 0.02 - 0.01
    kind, relative = a.kind, a.rule == "auto-rgn"
    groups = [{"params": [p]} for p in parameters] if relative and kind != "foreach" else parameters
    options = {"fused": True} if kind == "fused" else {"foreach": kind == "foreach"}
    # One learning rate per tensor: as many parameter groups, so that foreach would work on one tensor at a time. The
    # foreach contender therefore scales its steps itself, see below.
    adam = torch.optim.Adam(groups, lr=1e-6, weight_decay=1e-4, **options)
    history = []

    def rates():
        grads = [p.grad for p in parameters]
        if kind == "per tensor":
            now = [torch.linalg.vector_norm(g) / (torch.linalg.vector_norm(p) + 1e-8) for g, p in zip(grads, parameters)]
        else:
            now = torch._foreach_div(torch._foreach_norm(grads), torch._foreach_add(torch._foreach_norm(parameters), 1e-8))
        history.append(torch.stack(now))
        del history[:-5]
        mean = torch.stack(history).mean(0)
        return (mean / mean.max()).tolist()

    moments = [[torch.zeros_like(p) for p in parameters] for _ in range(2)]
    count = 0

    def foreach_step(rate_of):
        """Adam as torch.optim has it in its foreach form, with a rate per tensor."""
        nonlocal count
        count += 1
        c1, c2 = 1 - 0.9 ** count, 1 - 0.999 ** count
        m, v = moments
        grads = torch._foreach_add([p.grad for p in parameters], parameters, alpha=1e-4)
        torch._foreach_mul_(m, 0.9)
        torch._foreach_add_(m, grads, alpha=0.1)
        torch._foreach_mul_(v, 0.999)
        torch._foreach_addcmul_(v, grads, grads, 0.001)
        denominator = torch._foreach_sqrt(v)
        torch._foreach_div_(denominator, c2 ** 0.5)
        torch._foreach_add_(denominator, 1e-8)
        torch._foreach_addcdiv_(parameters, m, denominator, [-1e-6 * r / c1 for r in rate_of])

    @torch.no_grad()
    def step():
        if not relative:
            adam.step()
        elif kind == "foreach":
            foreach_step(rates())
        else:
            for group, rate in zip(adam.param_groups, rates()):
                group["lr"] = 1e-6 * rate
            adam.step()

    return step


def images(a):
    """From a JPEG file to the input of a network, as evaluation has it: with Pillow as most do, or by torchvision alone."""
    import itertools
    import pathlib
    import torchvision
    from PIL import Image
    t, io = torchvision.transforms, torchvision.io
    paths = itertools.cycle(sorted(p for p in pathlib.Path(a.data).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg")))
    resize, crop = t.Resize(a.size * 256 // 224, antialias=True), t.CenterCrop(a.size)
    normalize = t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    finish = t.Compose([resize, crop, t.ToTensor(), normalize])

    def with_pillow():
        return finish(Image.open(next(paths)).convert("RGB"))

    def with_torchvision():
        pixels = io.decode_jpeg(io.read_file(str(next(paths))), mode=io.ImageReadMode.RGB)
        return normalize(crop(resize(pixels)).float() / 255)

    return with_torchvision if a.kind == "torchvision" else with_pillow


def probe(a):
    """Linear probing as it is usually written: every epoch decodes every image and runs the frozen backbone on it."""
    import torchvision
    from PIL import Image
    t = torchvision.transforms
    transform = t.Compose([t.Resize(a.size * 256 // 224), t.CenterCrop(a.size), t.ToTensor(),
                           t.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])
    rows = list(csv.DictReader(open(a.split)))
    classes = sorted({row["label"] for row in rows})

    class Images(torch.utils.data.Dataset):
        def __init__(self, split):
            self.rows = [row for row in rows if row["split"] == split]

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, i):
            image = Image.open(os.path.join(a.data, self.rows[i]["path"])).convert("RGB")
            return transform(image), classes.index(self.rows[i]["label"])

    workers = a.threads or os.cpu_count()
    loaders = {split: torch.utils.data.DataLoader(Images(split), batch_size=a.batch, shuffle=split == "train",
                                                  num_workers=workers, persistent_workers=True,
                                                  pin_memory=a.device.type == "cuda") for split in ("train", "val")}
    net = make_network(a).requires_grad_(False).eval()
    features = net.classifier[-1].in_features if a.arch.startswith("vgg") else \
        net.classifier.in_features if a.arch.startswith("densenet") else net.fc.in_features
    head = torch.nn.Linear(features, len(classes)).to(a.device)
    if a.arch.startswith("resnet"):
        net.fc = torch.nn.Identity()
    elif a.arch.startswith("densenet"):
        net.classifier = torch.nn.Identity()
    else:
        net.classifier[-1] = torch.nn.Identity()
    dtype = DTYPES.get(a.precision)
    mixed = torch.autocast(a.device.type, dtype) if dtype else contextlib.nullcontext()
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    seconds = []
    for _ in range(a.epochs):
        begin = time.perf_counter()
        for split, loader in loaders.items():
            for images, labels in loader:
                images = images.to(a.device, memory_format=memory_format(a), non_blocking=True)
                labels = labels.to(a.device, non_blocking=True)
                with mixed, torch.no_grad():
                    x = net(images)
                with torch.set_grad_enabled(split == "train"):
                    loss = torch.nn.functional.cross_entropy(head(x.float()), labels)
                if split == "train":
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        wait(a.device)
        seconds.append(time.perf_counter() - begin)
    say(name=name_of(a), seconds=seconds)


def ceilings(a):
    """Random data: matrix units run faster on zeros."""
    cuda = a.device.type == "cuda"
    side, floats = (8192, 1 << 29) if cuda else (512, 1 << 23)
    dtype = torch.bfloat16 if cuda else torch.float32

    def median_seconds(call, rounds=7, calls=10):
        call()
        wait(a.device)
        seconds = []
        for _ in range(rounds):
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            wait(a.device)
            seconds.append((time.perf_counter() - begin) / calls)
        return statistics.median(seconds)

    x, w = (torch.randn(side, side, device=a.device).to(dtype) for _ in range(2))
    flops = 2 * side ** 3 / median_seconds(lambda: torch.mm(x, w))
    source, target = torch.randn(floats, device=a.device), torch.empty(floats, device=a.device)
    copy = 2 * 4 * floats / median_seconds(lambda: target.copy_(source))
    say(name=f"PyTorch {torch.__version__}", precision="bf16" if cuda else "f32", matrix_flops=flops, copy_bytes=copy)


def versions(a):
    words = {"torch": torch.__version__}
    try:
        import torchvision
        words["torchvision"] = torchvision.__version__
    except ImportError:
        sys.exit("torchvision is not installed")
    if a.device.type == "cuda":
        if not torch.cuda.is_available():
            sys.exit("PyTorch sees no GPU")
        try:  # fails when another cuDNN than PyTorch's own is found first
            words["cudnn"] = torch.backends.cudnn.version()
        except RuntimeError as error:
            sys.exit(f"PyTorch cannot use cuDNN: {error}")
        words.update(cuda=torch.version.cuda, gpu=torch.cuda.get_device_name(a.device))
    say(**words)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=["train", "infer", "update", "images", "probe", "ceilings", "versions"])
    parser.add_argument("--arch", default="resnet50", choices=ARCHITECTURES)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16", "f16"])
    parser.add_argument("--layout", default="channels_last", choices=["default", "channels_last"])
    parser.add_argument("--compile", default="", choices=["", "default", "reduce-overhead", "max-autotune", "trace"])
    parser.add_argument("--tune-late", action="store_true",
                        help="look for the fastest algorithms only after the first line of 0 steps: others may be at work "
                        "before, and what is chosen then is chosen for good")
    parser.add_argument("--no-tuning", action="store_true", help="take the first algorithm that cuDNN proposes")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rule", default="auto-rgn", choices=["auto-rgn", "adam"])
    parser.add_argument("--kind", default="foreach", choices=["per tensor", "foreach", "fused", "pillow", "torchvision"])
    parser.add_argument("--data", default=".")
    parser.add_argument("--split", help="probe: split.csv of a graft run, with path, label and split")
    parser.add_argument("--epochs", type=int, default=3)
    a = parser.parse_args()
    set_up(a)
    if a.job in ("probe", "ceilings", "versions"):
        {"probe": probe, "ceilings": ceilings, "versions": versions}[a.job](a)
        return
    if a.compile == "trace" and a.job != "infer":
        sys.exit("torch_contender: --compile trace is for infer")
    step = {"train": train, "infer": infer, "update": update, "images": images}[a.job](a)
    if a.job in ("update", "images"):
        step()  # a kind that this device or this installation lacks fails here
    say(name=name_of(a) if a.job in ("train", "infer") else f"PyTorch {torch.__version__.split('+')[0]} {a.kind}")
    answer_lines(a, step)


if __name__ == "__main__":
    main()
