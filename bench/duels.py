"""How graft and PyTorch come to a contest: contenders are started, loaded side by side where that does not change what
they will do, and take turns. The contests themselves: gpu_goals.py."""
import concurrent.futures
import os
import statistics
import sys
import time

from contenders import TORCH_CONTENDER, Contender, LeftOut, Turns, alternate, find_program, our_environment, ratios
from contenders import time_process
from goal_table import Report, contests


class Duels:

    def __init__(self, a):
        self.a, self.report, self.turns = a, Report(a), Turns(a.turns)
        self.started = []  # contenders, which end with the stage whatever happens to it
        self.rounds = 2 if a.rehearse else 5
        self.size = 32 if a.rehearse else 224
        self.threads = 1 if a.rehearse else 0
        self.torch_reason = self.torch_absence()

    def torch_absence(self):
        """Empty when PyTorch can compete on this device."""
        if self.a.alone:
            return "not wanted"
        known = os.path.join(self.a.state, "torch-works")  # starting it takes seconds, and stages are many
        if os.path.exists(known):
            return ""
        try:
            time_process([sys.executable, TORCH_CONTENDER, "versions", "--device",
                          self.a.device.split(":")[0]],
                         limit_s=120)
        except LeftOut as reason:
            self.report.note(f"PyTorch does not take part, graft is measured alone: {reason}")
            return str(reason)
        open(known, "w").close()
        return ""

    def program(self, name):
        return find_program(name, self.a.bin)

    def common(self, **options):
        words = ["--device", self.a.device, "--threads", str(self.threads)]
        for key, value in options.items():
            words += ["--" + key, str(value)]
        return words

    def ours(self, program, *words, precisions=("bf16", "f16", "f32"), **options):
        """graft in the first precision that it offers here: GPUs offer all, so that what fails there ends the stage."""
        if self.a.device.startswith("cuda"):
            precisions = precisions[:1]
        elif self.a.rehearse:  # every CPU has it
            precisions = precisions[-1:]
        for precision in precisions:
            try:
                return self.start_ours(program, words, precision, options)
            except LeftOut as reason:
                if precision != precisions[-1]:
                    if precision == precisions[0]:
                        self.report.note(f"graft does not take part in {precision}: {reason}")
                    continue
                if not self.a.turns:
                    raise
                self.report.note(f"graft starts again, alone: {reason}")
        with self.turns.timing():  # those that loaded beside it have the device's memory no more
            return self.start_ours(program, words, precisions[-1], options)

    def start_ours(self, program, words, precision, options):
        with self.turns.choosing():
            ours = Contender([self.program(program), *words] + self.common(precision=precision, **options),
                             our_environment(self.threads))
            self.started.append(ours)
            ours.run(2, keep=False)
        ours.precision = precision
        return ours

    def theirs(self, job, *words, limit_s=240, **options):
        opponent = Contender([sys.executable, TORCH_CONTENDER, job, *words] + self.common(**options), limit_s=limit_s)
        self.started.append(opponent)
        return opponent

    def steps_for(self, ours):
        """So many that a round takes about half a second."""
        if self.a.rehearse:
            return 1
        ours.run(5, keep=False)  # on a GPU a step is captured among the first
        return max(1, min(300, round(0.5 / ours.run(3, keep=False))))

    def contests(self, stage):
        return contests(stage, self.a.rehearse, self.a.all)

    def load(self, job, configurations, **options):
        """[(compile mode, precision, contender or why there is none)], compiled. Those that choose their algorithms in
        their turn start side by side. The others choose while they compile, and keep it in captured graphs; they, and
        those that failed beside others, for want of memory say, start alone."""

        def start(configuration, *words):
            mode, precision = configuration
            try:
                opponent = self.theirs(job, *words, precision=precision, **({"compile": mode} if mode else {}), **options)
            except LeftOut as reason:
                return mode, precision, reason
            try:
                opponent.run(2, keep=False)
                opponent.park()
            except LeftOut as reason:
                opponent.close()
                return mode, precision, reason
            return mode, precision, opponent

        early = [c for c in configurations if c[0] in ("", "default")]
        started = dict(zip(early, self.side_by_side(lambda c: start(c, "--tune-late"), early)))
        for configuration in () if self.torch_reason else configurations:
            if not isinstance(started.get(configuration, (None, ))[-1], Contender):
                with self.turns.timing():
                    started[configuration] = start(configuration)
        return [started[c] for c in configurations if c in started]

    def compile(self):
        """Starts whatever later stages compile, so that they find the kernels on disk. Those that time many kernels, and
        those that fail beside others, for want of memory say, start alone."""
        if self.torch_reason:
            raise LeftOut(self.torch_reason)
        jobs = [(job, dict(arch=arch, batch=batch, size=self.size, compile=mode, precision=precision))
                for stage in ("train", "infer", "latency", "small-batch")
                for job, arch, batch, configurations in contests(stage, self.a.rehearse)
                for mode, precision in configurations if mode]

        def start(one):
            """(whether it compiled, one line about it)"""
            job, options = one
            begin, what = time.perf_counter(), "PyTorch {compile}, {job} {arch}, batch {batch}, {precision}".format(
                job=job, **options)
            try:
                contender = self.theirs(job, **options)
                try:
                    contender.run(2, keep=False)
                finally:
                    contender.close()
            except LeftOut as reason:
                return False, f"{what}: not compiled: {reason}"
            return True, f"{what}: {time.perf_counter() - begin:.0f} s to compile"

        failed = [one for one in jobs if one[1]["compile"] == "max-autotune"]
        together = [one for one in jobs if one not in failed]
        with concurrent.futures.ThreadPoolExecutor(max(1, os.cpu_count() // 4)) as several:
            for one, (is_compiled, line) in zip(together, several.map(start, together)):
                self.report.note(line)
                if not is_compiled:
                    failed.append(one)
        compiled = len(jobs) - len(failed)
        for one in failed:
            is_compiled, line = start(one)
            self.report.note(line + ", alone")
            compiled += is_compiled
        if not compiled:
            raise LeftOut("PyTorch compiled nothing here")

    def side_by_side(self, function, arguments):
        """[function(argument)], all at once."""
        if self.torch_reason or not arguments:
            return []
        with concurrent.futures.ThreadPoolExecutor(len(arguments)) as several:
            return list(several.map(function, arguments))

    def duel(self, ours, what, per_step, loaded):
        """ours in turn with each opponent of `load`; yields (mode, name, contender, (ratio, low, high)) of each."""
        with self.turns.timing():
            yield from self.take_turns(ours, what, per_step, loaded)
        for _, _, opponent in loaded:
            if isinstance(opponent, Contender):
                opponent.close()

    def take_turns(self, ours, what, per_step, loaded):
        steps, is_described = self.steps_for(ours), False
        for mode, precision, opponent in loaded:
            if isinstance(opponent, LeftOut):
                self.report.note(f"{what}: PyTorch {mode or 'eager'} {precision} is left out: {opponent}")
                continue
            before, ours.rounds = ours.rounds, []
            stayed, left_out = alternate([opponent, ours], self.rounds, steps)
            for who, reason in left_out:
                self.report.note(f"{what}: {who} is left out: {reason}")
            if ours not in stayed:
                raise LeftOut(f"graft: {left_out[-1][1]}")
            if opponent not in stayed:
                ours.rounds = before
                continue
            if not is_described:
                self.describe(what, ours, per_step)
                is_described = True
            self.describe(what, opponent, per_step)
            yield mode, opponent.name, opponent, ratios(opponent, ours)
            try:
                opponent.park()
            except LeftOut as reason:
                self.report.note(f"{what}: {opponent.name} ended after its turn: {reason}")
        if not is_described:  # nobody stayed
            ours.rounds = [ours.run(steps, keep=False) for _ in range(self.rounds)]
            self.describe(what, ours, per_step)

    def describe(self, what, contender, per_step):
        rates = sorted(per_step / s for s in contender.rounds)
        self.report.detail(what,
                           contender.name + (f" {contender.precision}" if hasattr(contender, "precision") else ""),
                           f"{statistics.median(rates):.4g}/s", f"{rates[0]:.4g} to {rates[-1]:.4g}", contender.reply)
