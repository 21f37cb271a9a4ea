"""The project's goals as numbers, and how a measurement stands against them. Used by gpu_goals.py."""

import json
import os

NAMES = {"resnet50": "ResNet-50", "densenet121": "DenseNet-121", "vgg19": "VGG-19"}
# number, floor and goal as a ratio to the best PyTorch, goal as a share of the bound
TRAIN = {"resnet50": ("G1", 1.1, 1.5, 0.75), "densenet121": ("G2", 1.4, 2.0, 0.65), "vgg19": ("G3", 1.05, 1.15, 0.70)}
INFER = {"resnet50": ("G5", 1.2, None, 0.65), "densenet121": ("G5", 1.3, None, 0.55), "vgg19": ("G5", 1.0, None, 0.75)}
MEMORY = {"resnet50": (0.9, 0.75), "densenet121": (0.6, 0.30), "vgg19": (0.95, 0.80)}  # peak over PyTorch eager's
LATENCY_MS = (0.8, 0.40)
SMALL_BATCH = {"": (2, 3), "reduce-overhead": (1.1, 1.4)}  # by torch.compile's mode
PROBE_EPOCHS, PROBE = 20, (0.8, 1.3)  # times the number of epochs
MANY_IMAGES = 5000  # at least, for whole fits: with a few hundred, what a process takes to start is all that is seen
BOUNDARY = (2, 5)
UPDATE = {"per tensor": (10, 20), "foreach": (1.5, 2.5), "fused": (1.5, 2.5)}
UPDATE_SHARE = 0.80  # of the copy bandwidth
START_S = (2.5, 1.0)
DETERMINISTIC = (1.15, 1.05)  # seconds of a step over those of one whose sums are taken in any order

MODES = ("", "default", "reduce-overhead", "max-autotune")
# The first is what memory is compared with, the other the likely best.
FIRST = (("", "bf16"), ("default", "bf16"))


def contests(stage, rehearse=False, every=False):
    """What a stage compares with PyTorch, in turn: (job, architecture, batch, ((compile mode, precision), ...)).
    every: of training and latency those configurations that the first comparison left out."""
    small = 2 if rehearse else None
    if stage == "train":
        rest = tuple((mode, precision) for mode in MODES for precision in ("bf16", "f16")
                     if (mode, precision) not in FIRST)
        if rehearse:
            configurations = (("", "bf16"), ) if every else (("", "f32"), ("default", "f32"))
        else:
            configurations = rest if every else FIRST
        return [("train", arch, small or (128 if arch == "vgg19" else 256), configurations) for arch in NAMES]
    if stage == "infer":
        configurations = (("", "f32"), ) if rehearse else (("default", "bf16"), ("default", "f16"))
        return [("infer", arch, small or 256, configurations) for arch in NAMES]
    if stage == "latency":
        mode = "max-autotune" if every else "reduce-overhead"  # max-autotune takes minutes to compile
        return [("infer", "resnet50", 1, (("", "f32"), ) if rehearse else ((mode, "f16"), ))]
    if stage == "small-batch":
        configurations = (("", "f32"), ) if rehearse else (("", "bf16"), ("reduce-overhead", "bf16"))
        return [("train", "resnet50", batch, configurations) for batch in ((small, ) if rehearse else (8, 16))]
    raise ValueError(f"{stage} compares no configurations of PyTorch")


class Report:
    """The two files of a stage, complete after every change."""

    def __init__(self, a):
        self.a, self.rows, self.notes, self.details = a, {}, [], []

    def row(self, key, cells):
        """cells: goal, measured, graft, opponent, ratio, floor, goal, share, verdict; a later row of the same key wins."""
        verdict = cells[-1] if not self.a.rehearse else "rehearsed"
        self.rows[key] = "| " + " | ".join(list(cells[:-1]) + [verdict]) + " |"
        self.write()

    def note(self, text):
        print(text, flush=True)
        self.notes.append(text)
        self.write()

    def detail(self, what, name, rate, spread, reply):
        self.details.append(f"| {what} | {name} | {rate} | {spread} | {mib(reply.get('peak_bytes'))} | "
                            f"{mib(reply.get('reserved_bytes'))} |")
        self.write()

    def write(self):
        lines = []
        if self.details:
            lines += [
                f"### {self.a.stage}{' ' + NAMES[self.a.arch] if self.a.arch else ''}", "",
                "| what | contender | median | min to max | peak in use, MiB | reserved, MiB |",
                "|---|---|---|---|---|---|"
            ]
        lines += self.details + ([""] if self.details and self.notes else []) + [f"- {note}" for note in self.notes]
        for path, text in ((self.a.rows, list(self.rows.values())), (self.a.md, lines)):
            with open(path + ".partial", "w") as file:
                file.write("".join(line + "\n" for line in text))
            os.replace(path + ".partial", path)


def parts_text(run, whole):
    """Where the seconds of a run's process went, by its summary.json; what is before and after training is the rest."""
    with open(os.path.join(run, "summary.json")) as file:
        parts = sorted(json.load(file)["seconds"].items(), key=lambda part: -part[1])
    text = ", ".join(f"{name} {seconds:.2f}" for name, seconds in parts if seconds >= 0.005)
    rest = whole - sum(seconds for _, seconds in parts)
    return f"the last took {whole:.2f} s: {text}; start and end of the program {rest:.2f}"


def mib(count):
    return f"{count / 2**20:.0f}" if count else "–"


def factor(value):
    return "–" if value is None else f"{value:g}x"


def verdict(value, floor, goal, share=None, share_goal=None):
    """How a ratio, larger better, stands; with a share of the bound, both must reach the goal."""
    has_goal = (goal is None or value >= goal) and (share_goal is None or share is not None and share >= share_goal)
    return "goal" if has_goal else "floor" if floor is not None and value >= floor else "below the floor"


def share_text(share, goal):
    if share is None:
        return "–"
    return f"{share:.0%}" + (f" (goal {goal:.0%})" if goal else "")
