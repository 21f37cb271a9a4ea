"""Programs that take turns on one machine: each is a process of its own that answers a number of steps, read from its
standard input, with one line of JSON (`{"seconds": [...], ...}`). Used by compare_torch.py, compare_torch_update.py and
gpu_goals.py; nothing here imports PyTorch."""
import contextlib
import fcntl
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
TORCH_CONTENDER = os.path.join(HERE, "torch_contender.py")


def cpu_model():
    text = open("/proc/cpuinfo").read()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    isa = "AVX-512 with bf16, AMX" if "amx_bf16" in flags else "AVX-512 with bf16" if "avx512_bf16" in flags else "AVX-512" if "avx512f" in flags else "AVX2"
    name = next((line for line in text.splitlines() if line.startswith("model name")), ": unknown").split(":")[1]
    return f"{name.strip()}, {isa}, {os.cpu_count()} CPUs"


def find_program(name, folder=None):
    """Path of one of graft's programs: in `folder`, else in the first build under build/ that has it."""
    builds = [os.path.join(ROOT, build, "bin") for build in ("build/cpu", "build/cuda", "build/ci", "build")]
    for candidate in [folder] if folder else builds:
        path = os.path.join(candidate, name)
        if os.path.exists(path):
            return path
    where = folder or "build/"
    sys.exit(f"bench: no {name} under {where}; run scripts/test.sh, or name the folder with --bin")


def our_environment(threads=0):
    """The environment of graft's programs. GRAFT_LIBRARY_PATH is where they find cuDNN and cuBLAS; PyTorch must not see
    it, since it brings its own."""
    env = dict(os.environ)
    path = env.get("GRAFT_LIBRARY_PATH")
    if path:
        env["LD_LIBRARY_PATH"] = ":".join(filter(None, [path, env.get("LD_LIBRARY_PATH")]))
    if threads:
        env["OMP_NUM_THREADS"] = str(threads)
    return env


class LeftOut(Exception):
    """A contender that cannot take part; the text is the reason in one line."""


class Contender:
    def __init__(self, command, env=None, limit_s=300):
        """Starts it and waits for its name. `limit_s`: seconds that any single answer may take."""
        self.limit_s, self.rounds, self.reply, self.name, self.steps = limit_s, [], {}, None, 0
        self._errors = tempfile.TemporaryFile()
        try:
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                            env=env)
        except OSError as error:
            self._errors.close()
            raise LeftOut(f"{command[0]} does not start: {error.strerror}") from None
        try:
            self.name = self._answer()["name"]
        except LeftOut:
            self.close()
            raise

    def _answer(self):
        ready, _, _ = select.select([self.process.stdout], [], [], self.limit_s)
        if not ready:
            self.process.kill()
            self.process.wait()
            raise LeftOut(f"no answer within {self.limit_s} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise LeftOut(self._last_words())
        try:
            return json.loads(line)
        except ValueError:
            self.process.kill()
            self.process.wait()
            raise LeftOut(f"it answered with something else than JSON: {line.decode(errors='replace').strip()[:120]}") \
                from None

    def _last_words(self):
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines() if line.strip()]
        telling = [line for line in lines if "Error" in line or "error" in line]
        return (telling or lines or ["it ended without a word"])[-1][:200]

    def run(self, steps, keep=True):
        """Mean seconds of a step over `steps` steps; kept as one round."""
        try:
            self.process.stdin.write(f"{steps}\n".encode())
            self.process.stdin.flush()
        except OSError:
            self.process.wait()
            raise LeftOut(self._last_words()) from None
        self.reply, self.steps = self._answer(), steps
        seconds = statistics.fmean(self.reply["seconds"])
        if keep:
            self.rounds.append(seconds)
        return seconds

    def park(self):
        """For PyTorch's, which take 0 steps as this: until its turn it holds no more memory of the device than it must,
        and in its turn it looks for the fastest algorithms, with the device to itself."""
        self.run(0, keep=False)

    def close(self):
        try:
            self.process.stdin.close()
        except OSError:
            pass  # it has ended already
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._errors.close()


class Turns:
    """For several processes on one machine: they load side by side, and are timed one after another while nobody loads.
    A lock on `path`, which those that load share; without a path there is nobody else."""

    def __init__(self, path):
        self._file = open(path, "w") if path else None
        self._choice = open(path + ".choice", "w") if path else None
        self._lock(fcntl.LOCK_SH)

    @contextlib.contextmanager
    def choosing(self):
        """While graft times plans: one process at a time, though others load."""
        if not self._choice:
            yield
            return
        fcntl.flock(self._choice, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._choice, fcntl.LOCK_UN)

    def _lock(self, kind):
        if self._file:
            fcntl.flock(self._file, kind)

    @contextlib.contextmanager
    def timing(self):
        self._lock(fcntl.LOCK_EX)
        try:
            yield
        finally:
            self._lock(fcntl.LOCK_SH)


def alternate(contenders, rounds, steps, warm_up=2):
    """Warms all up, then lets them take turns. One that fails is closed and dropped.
    Returns (those that stayed, [(name, reason)] of those that did not)."""
    left_out = []

    def each(call):
        for c in list(contenders):
            try:
                call(c)
            except LeftOut as reason:
                left_out.append((c.name, str(reason)))
                contenders.remove(c)
                c.close()

    contenders = list(contenders)
    each(lambda c: c.run(warm_up, keep=False))
    for _ in range(rounds):
        each(lambda c: c.run(steps))
    return contenders, left_out


def ratios(theirs, ours):
    """Per-round ratios theirs / ours: (median, lowest, highest)."""
    each = [a / b for a, b in zip(theirs.rounds, ours.rounds)]
    return statistics.median(each), min(each), max(each)


def time_process(command, env=None, limit_s=300):
    """Seconds from the start of a process to its exit; LeftOut when it fails."""
    start = time.perf_counter()
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise LeftOut(f"no end within {limit_s} s") from None
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["it ended without a word"]
        raise LeftOut(words[-1][:200])
    return time.perf_counter() - start, done.stdout.decode()
