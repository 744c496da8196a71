"""What the end-to-end tests share: a small data set, a small configuration, and running the programs."""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import unittest

BIN = os.environ.get("PLSC_BIN", os.path.join(os.path.dirname(__file__), "../../build/cpu/bin"))
TRAIN = os.path.join(BIN, "plsc-train")
DATA = os.path.join(BIN, "plsc-data")

# Other heads beside CONFIG, which gives it a margin and a scale: back to their defaults.
LINEAR = ["head.kind=linear", "head.scale=64", "head.margin=arcface"]
D_SOFTMAX = ["head.kind=d_softmax", "head.margin=arcface"]

CONFIG = """\
output: {output}
seed: 3
device: cpu
data: {{train: {train}, image_size: [24, 24], channels: 1, augment: [flip: 0.5]}}
model: {{backbone: {{kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}}, embedding_size: 32, sync_batch_norm: true}}
head: {{scale: 16, margin: {{m1: 1, m2: 0.2, m3: 0}}}}
schedule: {{base_lr: 0.1, warmup_steps: 5}}
train: {{batch_size: 30, steps: 40}}
checkpoint: {{every_epochs: none, at_end: true}}
eval: {{every_epochs: none, at_end: true, sets: [{{name: glyphs, folder: {verify}, pairs: {pairs}}}]}}
log: {{every_steps: 1}}
"""


class E2eCase(unittest.TestCase):
    """A folder of its own, with the synthetic data made once per test file."""

    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="plsc-e2e-")
        cls.data = os.path.join(cls.root, "data")
        run([DATA, "synth", "--output", cls.data, "--classes", "40", "--images-per-class", "8", "--held-out", "10",
             "--size", "24", "--channels", "1", "--seed", "5"])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root, ignore_errors=True)

    def folder(self, name):
        return os.path.join(self.root, name)

    def config(self, name, **values):
        """Writes a configuration whose output is folder `name`; returns its path."""
        path = self.folder(name + ".yaml")
        defaults = dict(output=self.folder(name), train=os.path.join(self.data, "train"),
                        verify=os.path.join(self.data, "verify"), pairs=os.path.join(self.data, "pairs.txt"))
        with open(path, "w") as f:
            f.write(CONFIG.format(**{**defaults, **values}))
        return path

    def train(self, name, ranks=1, resume=None, overrides=(), config=None, **options):
        """Trains into folder `name`; returns the finished process. Fails the test unless `fails` is set."""
        args = [TRAIN, "-c", config or self.config(name), "-o", f"ranks={ranks}", "-o", f"output={self.folder(name)}"]
        for override in overrides:
            args += ["-o", override]
        if resume:
            args += ["--resume", resume]
        return run(args, **options)

    def metrics(self, name, kind="train"):
        with open(os.path.join(self.folder(name), "metrics.jsonl")) as f:
            return [m for m in map(json.loads, f) if m["kind"] == kind]

    def losses(self, name):
        return [m["loss"] for m in self.metrics(name)]

    def checkpoint(self, name, step):
        return os.path.join(self.folder(name), "checkpoints", f"step_{step:08d}")

    def assert_close(self, a, b, relative):
        self.assertEqual(len(a), len(b))
        for i, (x, y) in enumerate(zip(a, b)):
            self.assertLessEqual(abs(x - y), relative * max(abs(x), abs(y)), f"entry {i}: {x} and {y}")


def run(args, fails=False, timeout=300, env=None):
    """Runs a program to its end; its output is one text. `fails`: a non-zero status is expected."""
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
                          env={**os.environ, **(env or {})})
    if (done.returncode != 0) != fails:
        raise AssertionError(f"{' '.join(args)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return done


def tensors(folder):
    """{name: bytes} of all tensors of a checkpoint, shards joined in order of their rows."""
    found = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".safetensors"):
            continue
        with open(os.path.join(folder, file), "rb") as f:
            length = struct.unpack("<Q", f.read(8))[0]
            header = json.loads(f.read(length))
            body = f.read()
        for name, info in header.items():
            if name != "__metadata__":
                begin, end = info["data_offsets"]
                key = file.split(".")[0] + ":" + name
                found[key] = found.get(key, b"") + body[begin:end]
    return found


def read_npy(path):
    """(shape, values) of a float32 .npy."""
    with open(path, "rb") as f:
        assert f.read(6) == b"\x93NUMPY"
        major = f.read(2)[0]
        length = struct.unpack("<H" if major == 1 else "<I", f.read(2 if major == 1 else 4))[0]
        header = eval(f.read(length).decode(), {"__builtins__": {}}, {})  # a literal dict, of a file that we wrote
        data = f.read()
    assert header["descr"] == "<f4" and not header["fortran_order"]
    return header["shape"], struct.unpack(f"<{len(data) // 4}f", data)


def shared_data(name):
    """A file of ../shared/data beside the project (or $PLSC_SHARED_DATA), or None."""
    base = os.environ.get("PLSC_SHARED_DATA", os.path.join(os.path.dirname(__file__), "../../../shared/data"))
    path = os.path.join(base, name)
    return path if os.path.exists(path) else None
