#!/usr/bin/env python3
"""Tests of the Python side of the benchmarks, without PyTorch: bounds, loss curves, contenders that take turns, and the
rows of gpu_goals.py made from contenders that answer with known times.   bench_test.py SOURCE_DIR"""

import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest

SOURCE = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, os.path.join(SOURCE, "bench"))
import compare_curves  # noqa: E402
import gpu_goals  # noqa: E402
import roofline  # noqa: E402
from contenders import Contender, LeftOut, Turns, alternate, ratios, time_process  # noqa: E402


def program(answer, name="fake"):
    """A contender whose every answer is the Python expression `answer` of its number of steps `n`."""
    return [
        sys.executable, "-uc", f"import json, sys, time\nprint(json.dumps({{'name': '{name}'}}))\n"
        f"for line in sys.stdin:\n    n = int(line)\n    print(json.dumps({answer}))"
    ]


class Roofline(unittest.TestCase):

    def test_known_bounds(self):
        for arch, (h100, h200) in roofline.KNOWN.items():
            for bandwidth, known in ((3.0e12, h100), (4.3e12, h200)):
                self.assertEqual(
                    known,
                    tuple(
                        round(roofline.images_per_second(arch, level, 256, 790e12, bandwidth))
                        for level in roofline.LEVELS), arch)

    def test_a_faster_machine_has_a_higher_bound(self):
        slow, fast = (roofline.images_per_second("vgg19", "c1", 128, rate, 3e12) for rate in (400e12, 800e12))
        self.assertGreater(fast, 1.5 * slow)


class Curves(unittest.TestCase):

    @staticmethod
    def curve(seed, rate=0.02, first=2.0, noise=0.1):
        """A loss that falls from `first`; noise that differs from run to run grows in, as rounding does."""
        rng = random.Random(seed)
        return [first * (0.2 + 0.8 * (1 - rate)**i) + noise * min(1, i / 5) * rng.gauss(0, 1) for i in range(200)]

    def judge(self, device, precision="f32"):
        return compare_curves.judge(device, [self.curve(1), self.curve(2)], precision)[0]

    def test_another_draw_agrees(self):
        for seed in range(3, 40):
            self.assertEqual([], self.judge(self.curve(seed)), seed)

    def test_a_wrong_forward_pass_shows_in_the_first_loss(self):
        self.assertIn("first loss", self.judge(self.curve(3, first=2.001))[0])
        self.assertEqual([], self.judge(self.curve(3, first=2.001), "bf16"))

    def test_another_course_shows_in_the_area(self):
        self.assertIn("leaves", self.judge(self.curve(3, rate=0.01))[0])
        self.assertIn("leaves", self.judge(self.curve(3, rate=0.05))[0])

    def test_nan_is_wrong(self):
        self.assertEqual(2, len(self.judge([float("nan")] * 200)))


class Alternating(unittest.TestCase):

    def test_rounds_alternate_and_give_ratios(self):
        ours, theirs = Contender(program("{'seconds': [0.5]}")), Contender(program("{'seconds': [1.5]}", "other"))
        stayed, left_out = alternate([ours, theirs], 5, 3)
        self.assertEqual((2, []), (len(stayed), left_out))
        self.assertEqual(5, len(ours.rounds))
        self.assertEqual((3.0, 3.0, 3.0), ratios(theirs, ours))
        ours.close(), theirs.close()

    def test_one_that_fails_is_left_out_with_its_last_words(self):
        good, bad = Contender(program("{'seconds': [0.5]}")), Contender(
            program("sys.exit('RuntimeError: out of memory')", "bad"))
        stayed, left_out = alternate([bad, good], 2, 1)
        self.assertEqual([good], stayed)
        self.assertEqual([("bad", "RuntimeError: out of memory")], left_out)
        good.close()

    def test_one_that_hangs_is_ended(self):
        hanging = Contender(program("time.sleep(60)", "hanging"))
        hanging.limit_s = 1
        stayed, left_out = alternate([hanging], 2, 1)
        self.assertEqual([("hanging", "no answer within 1 s")], left_out)
        self.assertIsNotNone(hanging.process.poll())

    def test_one_that_does_not_start(self):
        with self.assertRaisesRegex(LeftOut, "does not start"):
            Contender(["/nowhere/program"])
        with self.assertRaisesRegex(LeftOut, "no GPU"):
            Contender([sys.executable, "-c", "raise SystemExit('no GPU')"])
        with self.assertRaisesRegex(LeftOut, "within 1 s"):
            time_process([sys.executable, "-c", "import time; time.sleep(60)"], limit_s=1)


class Goals(unittest.TestCase):

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def bench(self, **options):
        """With contenders of fixed speed in the place of graft's programs and of PyTorch."""
        path = os.path.join(self.folder.name, "")
        a = types.SimpleNamespace(stage="train",
                                  arch="resnet50",
                                  device="cuda:0",
                                  state=path,
                                  rows=path + "rows",
                                  md=path + "md",
                                  bin=path,
                                  all=False,
                                  alone=True,
                                  rehearse=False,
                                  turns=None,
                                  data=None)
        for key, value in options.items():
            setattr(a, key, value)
        return gpu_goals.Bench(a)

    def read(self, name):
        with open(os.path.join(self.folder.name, name)) as file:
            return file.read()

    def with_speeds(self,
                    bench,
                    ours,
                    theirs,
                    replays=1000,
                    eager=None,
                    any_order=None,
                    recomputing=None,
                    own_kernels=None):
        """eager, any_order, recomputing: seconds of graft with --no-graph, --deterministic off, --recompute; with
        --fused-norms off it takes a fourth longer, with --own-growth off a fifth. own_kernels: what it says of them."""
        answer = ("{{'seconds': [{}], 'peak_bytes': {} << 20, 'reserved_bytes': {} << 20, 'replays': {}, "
                  f"'own_kernels': {own_kernels or []}}}}}")
        bench.torch_reason = ""

        def start_ours(*words, deterministic="on", **_):
            seconds = eager if "--no-graph" in words else any_order if deterministic == "off" else ours
            used = 500
            if "--recompute" in words:
                seconds, used = recomputing or ours, 280
            if "--fused-norms" in words:
                seconds, used = 1.25 * ours, 650
            if "--own-growth" in words:
                seconds = (1.2 if "off" in words else 1.1) * ours
            contender = Contender(program(answer.format(seconds, used, 600, replays), "graft"))
            contender.precision = "bf16"
            return contender

        def start_theirs(job, *_, compile="", precision="", **__):
            if (compile, precision) not in theirs:
                raise LeftOut("no compiler")
            return Contender(
                program(answer.format(theirs[compile, precision], 1000, 1200, 0), f"PyTorch {compile} {precision}"))

        bench.ours, bench.theirs = start_ours, start_theirs
        with open(os.path.join(self.folder.name, "ceilings.json"), "w") as file:
            file.write('{"matrix_flops": 790e12, "copy_bytes": 3.0e12}')

    def test_the_best_opponent_counts(self):
        bench = self.bench()
        self.with_speeds(bench, 256 / 7500, {("", "bf16"): 256 / 3000, ("default", "bf16"): 256 / 3750})
        bench.train()
        rows = self.read("rows").splitlines()
        self.assertEqual(2, len(rows))
        self.assertIn(
            "| G12 | peak memory, training ResNet-50, batch 256, 224 px | 500 MiB | 1000 MiB, PyTorch  bf16 | 0.50, "
            "reserved 0.50 | 0.9 | 0.75 | – | goal |", rows[0])
        self.assertIn(
            "| G1 | training ResNet-50, batch 256, 224 px | 7500/s, bf16 | 3750/s, PyTorch default bf16 | 2.00 "
            "[2.00, 2.00] | 1.1x | 1.5x | 80% (goal 75%) | goal, so far |", rows[1])
        self.assertNotIn("one by one", self.read("md"))

    def test_a_densenet_is_also_measured_with_other_memory(self):
        bench = self.bench(arch="densenet121")
        self.with_speeds(bench, 0.1, {("", "bf16"): 0.2}, recomputing=0.11)
        bench.train()
        rows = self.read("rows").splitlines()
        self.assertIn("| 500 MiB | 1000 MiB, PyTorch  bf16 | 0.50, reserved 0.50 | 0.6 | 0.3 | – | floor |", rows[0])
        self.assertIn("--own-growth off | 500 MiB | 1000 MiB, PyTorch  bf16 | 0.50, reserved 0.50, a step takes 1.20", rows[2])
        self.assertIn(
            "| G12 | peak memory, training DenseNet-121, batch 256, 224 px, --recompute norms | 280 MiB | 1000 MiB, PyTorch"
            "  bf16 | 0.28, reserved 0.50, a step takes 1.10 [1.10, 1.10] times as long | 0.6 | 0.3 | – | goal |", rows[3])
        self.assertIn("--fused-norms off | 650 MiB | 1000 MiB, PyTorch  bf16 | 0.65, reserved 0.50, a step takes 1.25", rows[4])

    def test_what_was_chosen_between_kernels_is_told(self):
        bench = self.bench(arch="densenet121")
        lines = [
            "conv a growth 1: own, timed, 40.0 us, 0.0 MiB, within 0.001 of cudnn; which needs 52.0 us",
            "conv b growth 1: cudnn, timed, 40.0 us, 0.0 MiB, within 0.001 of own; which needs 41.9 us",
            "norm+conv c kernels 3: fused, cached, 40.0 us, 0.0 MiB", "norm+conv d kernels 3: parts, cached, 9.0 us, 0.0 MiB"
        ]
        self.with_speeds(bench, 0.1, {("", "bf16"): 0.2}, own_kernels=lines)
        bench.train()
        for line in lines[:2]:
            self.assertIn(f"- training DenseNet-121, batch 256, 224 px: {line}", self.read("md"))
        self.assertIn("one kernel in 1 of 2 shapes", self.read("md"))
        on, = [row for row in self.read("rows").splitlines() if "--own-growth on" in row]
        self.assertIn("a step takes 1.10", on)

    def test_where_others_took_the_memory_ours_starts_again_alone(self):
        refuses_once = os.path.join(self.folder.name, "refuses_once")
        open(refuses_once, "w").close()
        starts = (f"import os, sys; p = {refuses_once!r}\n"
                  "if os.path.exists(p): os.remove(p); sys.exit('cuda:0: no memory left')\n"
                  "print('{\"name\": \"graft\"}', flush=True)\n"
                  "for line in sys.stdin: print('{\"seconds\": [0.1]}', flush=True)")
        bench = self.bench(turns=os.path.join(self.folder.name, "turns"))
        bench.program, bench.common = lambda name: sys.executable, lambda **_: []
        ours = bench.ours("graft_train_step", "-c", starts)
        self.addCleanup(ours.close)
        self.assertEqual("bf16", ours.precision)
        self.assertIn("graft starts again, alone: cuda:0: no memory left", self.read("md"))
        open(refuses_once, "w").close()
        alone = self.bench()
        alone.program, alone.common = bench.program, bench.common
        with self.assertRaisesRegex(LeftOut, "no memory left"):
            alone.ours("graft_train_step", "-c", starts)

    def test_whole_fits_get_enough_images(self):
        few = os.path.join(self.folder.name, "few", "train", "cat")
        os.makedirs(few)
        for name in ("a.jpg", "b.PNG", "notes.txt"):
            open(os.path.join(few, name), "w").close()
        bench = self.bench(stage="probe", data=os.path.join(self.folder.name, "few"))
        for _ in range(2):  # a second stage finds them
            data, images = bench.many_images()
            self.assertEqual("5000 images, ", images)
            names = os.listdir(os.path.join(data, "train", "cat"))
            self.assertEqual(5000, len(names))
            self.assertIn("2499-b.PNG", names)
        bench.a.rehearse = True
        self.assertEqual((bench.a.data, ""), bench.many_images())

    def test_an_opponent_that_cannot_take_part_is_told(self):
        bench = self.bench()
        self.with_speeds(bench, 256 / 7500, {("", "bf16"): 256 / 3000})
        bench.train()
        self.assertIn("PyTorch default bf16 is left out: no compiler", self.read("md"))
        self.assertIn("3000/s, PyTorch  bf16", self.read("rows"))

    def test_stages_side_by_side_are_timed_one_at_a_time(self):
        path = os.path.join(self.folder.name, "turns")
        inside, most = [], []

        def stage(number):
            turns = Turns(path)  # all load
            time.sleep(0.05 * number)
            with turns.timing():
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.1)
                inside.remove(number)

        begin = time.perf_counter()
        stages = [threading.Thread(target=stage, args=(number, )) for number in range(4)]
        for one in stages:
            one.start()
        for one in stages:
            one.join()
        self.assertEqual([1] * 4, most)
        self.assertGreaterEqual(time.perf_counter() - begin, 0.15 + 4 * 0.1 - 0.01)  # none before the last had loaded

    def test_a_precision_that_fails_on_a_gpu_ends_the_stage(self):
        bench = self.bench()
        bench.program = lambda name: "/nowhere/" + name
        for device, tried in (("cuda:0", 0), ("cpu", 1)):
            bench.a.device = device
            with self.assertRaisesRegex(LeftOut, "does not start"):
                bench.ours("graft_train_step")
            self.assertEqual(tried, len(bench.report.notes))  # that bf16 is left out, before f16 is tried

    def test_steps_that_were_not_replayed_end_the_stage(self):
        bench = self.bench()
        self.with_speeds(bench, 256 / 7500, {}, replays=1)
        with self.assertRaisesRegex(LeftOut, "batch 256, 224 px: graft called its steps one by one;"):
            bench.train()
        self.assertIn("7500/s", self.read("rows"))

    def test_the_deterministic_mode_has_a_cost(self):
        for any_order, word in ((0.1, "goal"), (0.096, "goal"), (0.09, "floor"), (0.08, "above the floor")):
            bench = self.bench(stage="deterministic")
            self.with_speeds(bench, 0.1, {}, any_order=any_order)
            bench.deterministic()
            self.assertRegex(self.read("rows"), rf"\| G18 \| cost .* 2560/s, bf16 \| .* \| time {0.1 / any_order:.2f} .*"
                             rf"\| 1.15x \| 1.05x \| – \| {word} \|")

    def test_all_that_later_stages_compile_is_compiled_before(self):
        bench = self.bench(stage="compile")
        self.with_speeds(bench, 0.1, {}, eager=0.2)
        asked = []

        def start_theirs(job, *_, limit_s=0, compile="", **options):
            if compile:
                asked.append((job, compile, *sorted(options.items())))
            return Contender(program("{'seconds': [0.2], 'peak_bytes': 1, 'reserved_bytes': 1}"))

        bench.theirs = start_theirs
        bench.compile()
        before, asked[:] = set(asked), []
        for arch in roofline.ARCHITECTURES:
            bench.a.arch = arch
            bench.train()
            bench.infer()
        bench.latency()
        bench.small_batch()
        self.assertEqual(before, set(asked))
        self.assertEqual(12, len(before))

    def test_what_does_not_compile_is_tried_again_alone_and_told(self):
        bench = self.bench(stage="compile")
        self.with_speeds(bench, 0.1, {("default", "bf16"): 0.1})
        bench.compile()
        self.assertEqual(2, self.read("md").count("infer resnet50, batch 1, f16: not compiled: no compiler"))
        self.assertEqual(1, self.read("md").count("default, train vgg19, batch 128, bf16: "))
        bench.torch_reason = "not wanted"
        with self.assertRaisesRegex(LeftOut, "not wanted"):
            bench.compile()

    def test_plans_are_chosen_in_every_mode_that_is_timed(self):
        bench = self.bench(stage="plans")
        self.with_speeds(bench, 0.1, {}, any_order=0.1)
        bench.plans()
        for part in ("train VGG-19, batch 128, bf16:", "infer ResNet-50, batch 1, bf16:", "bf16, sums in any order:"):
            self.assertIn(part, self.read("md"))

    def test_a_goal_needs_its_share_of_the_bound(self):
        bench = self.bench()
        self.with_speeds(bench, 256 / 5000, {("", "bf16"): 256 / 2500})
        bench.train()
        self.assertIn("54% (goal 75%) | floor, so far |", self.read("rows"))

    def test_slower_is_below_the_floor(self):
        bench = self.bench()
        self.with_speeds(bench, 256 / 2500, {("", "bf16"): 256 / 2500})
        bench.train()
        self.assertIn("| below the floor |", self.read("rows"))

    def test_alone_without_pytorch_and_when_none_takes_part(self):
        for reason in ("no module named torch", ""):
            bench = self.bench()
            self.with_speeds(bench, 256 / 7500, {})
            bench.torch_reason = reason
            bench.train()
            self.assertIn("| 7500/s, bf16 | none | – |", self.read("rows"))
            self.assertIn("| alone |", self.read("rows"))

    def test_latency_is_held_against_milliseconds(self):
        bench = self.bench(stage="latency")
        self.with_speeds(bench, 0.0005, {("reduce-overhead", "f16"): 0.001})
        bench.latency()
        self.assertIn(
            "| G6 | latency ResNet-50, batch 1, 224 px | 0.500 ms, bf16 | 1.000 ms, PyTorch reduce-overhead f16 | 2.00 "
            "[2.00, 2.00] | 0.8 ms | 0.4 ms | – | floor |", self.read("rows"))

    def test_small_batches_have_a_goal_per_opponent(self):
        bench = self.bench(stage="small-batch")
        self.with_speeds(bench, 0.001, {("", "bf16"): 0.0025, ("reduce-overhead", "bf16"): 0.0015}, eager=0.002)
        bench.small_batch()
        rows = self.read("rows").splitlines()
        self.assertEqual(4, len(rows))
        self.assertIn(
            "against eager | 8000/s, bf16 | 3200/s, PyTorch  bf16 | 2.50 [2.50, 2.50] | 2x | 3x | – | floor |", rows[0])
        self.assertIn("| 1.1x | 1.4x | – | goal |", rows[1])
        self.assertIn("batch 8, 224 px: graft's steps take 2.00 [2.00, 2.00] times as long", self.read("md"))

    def test_kept_features_are_read_off_the_programs_table(self):
        text = "| wall clock | 10.61 | 4.06 | 2.6x | 2.5x to 2.7x |\n"
        cells = gpu_goals.Bench.boundary_cells("what", text, 2, 5)
        self.assertEqual(
            ("G10", "what", "4.06 s", "10.61 s, graft from images", "2.60 [2.50, 2.70]", "2x", "5x", "–", "floor"),
            cells)
        with self.assertRaises(LeftOut):
            gpu_goals.Bench.boundary_cells("what", "nothing", 2, 5)


class CommandLines(unittest.TestCase):

    def test_bad_calls_are_usage_errors(self):
        for script, arguments in (("gpu_goals.py", ["train"]), ("compare_torch.py", ["step", "--rounds", "2"]),
                                  ("compare_curves.py", ["--device", "a.csv", "--cpu", "b.csv"])):
            done = subprocess.run([sys.executable, os.path.join(SOURCE, "bench", script)] + arguments,
                                  capture_output=True,
                                  text=True)
            self.assertEqual(2, done.returncode, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=1)
