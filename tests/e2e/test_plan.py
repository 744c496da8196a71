"""plsc-train plan against what trainings then took: the most memory of tensors and workspaces, as the program itself
counts it, and the resident memory of its processes, as the system does."""
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

from support import LINEAR, TRAIN, run

STANDIN = os.environ.get("PLSC_STANDIN_BIN", "")
# How far off a plan may be, as a part of what was measured. Counted bytes are exact but for threads that take scratch
# memory in one order or another (COUNTED); resident ones hang on what the libraries make at run time and on how the
# system hands out pages besides (RESIDENT).
COUNTED, RESIDENT = 0.01, 0.08
# And in bytes, where that is more: how many rows a sampled step has differs from step to step, and with it the size of a
# tile, so that blocks of another size are kept beside the first ones. Seen: 229 and 252 KB.
TILES = 256 << 10
# A segment of a GPU's arena. A plan takes a convolution's workspace to be the largest that any algorithm wants, as the
# race has it; the algorithm that wins may want none. Where that is the only large block of a recording, so is this.
SEGMENT = 32 << 20
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
UNIT = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MPI = {f"OMPI_{name}": "1" for name in ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM", "MCA_rmaps_base_oversubscribe")}
MPI |= {"PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}

CONFIG = """\
output: {output}
device: cpu
data: {{train: synthetic, synthetic: {{classes: 100, images: 2000}}, image_size: [24, 24], channels: 1}}
model: {{backbone: {{kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}}, embedding_size: 256}}
head: {{classes: 150000}}
train: {{batch_size: 48, steps: 3, threads: 1}}
checkpoint: {{every_epochs: none, at_end: false}}
log: {{every_steps: 1}}
"""

UNIFORM = "head.sampling={method: uniform, ratio: 0.1}"
# The graph is built after the first step.
KNN = ["head.sampling={method: knn, ratio: 0.1, neighbours: 20}", "schedule.warmup_steps=1"]
# On GPUs after steps are recorded, as it mostly is.
KNN_LATER = KNN[:1] + ["schedule.warmup_steps=3"]
TOPK = "comm.compress={method: topk, "
HOST = "head.store={tier: host}"
SMALL_HOST = "head.store={tier: host, dtype: bf16, momentum: bf16}"
LARGER = ["model.backbone=iresnet18", "data.image_size=[56, 56]", "data.channels=3", "train.batch_size=24",
          "head.classes=5000"]
BOTTLENECK = ["model.backbone={kind: resnet, stem: 16, widths: [16, 32, 64, 128], blocks: [1, 1, 1, 1], bottleneck: true}",
              "data.image_size=[64, 64]", "head.classes=20000"]
# Of 12 images to 48 in the first steps.
GROWING = ["train.batch_size=12", "train.grow={factor: 4, until_epoch: .05}", "train.steps=10"]
# Name: ranks, changes of CONFIG.
CONFIGURATIONS = {
    "full": (1, []),
    "full on 2": (2, []),
    "full on 3": (3, ["head.classes=300001", "train.batch_size=50"]),
    "full on 4": (4, ["head.classes=300000"]),
    "uniform": (1, [UNIFORM]),
    "uniform on 2": (2, [UNIFORM, "train.accumulate=2", "head.classes=300000"]),
    "rows in bf16": (1, ["head.store={dtype: bf16, momentum: bf16}", UNIFORM]),
    "rows on the host": (1, [HOST, UNIFORM]),
    "rows on the host on 2": (2, [SMALL_HOST, "head.classes=300000"]),
    "kept gradient": (1, ["train.accumulate=2"]),
    "pipeline": (1, BOTTLENECK + ["train.batch_size=60", "train.pipeline=4"]),
    "pipeline on 2": (2, [UNIFORM, "train.pipeline=3", "head.classes=300000"]),
    "a batch that grows, on 2": (2, GROWING),
    "two moments and an average": (1, LARGER + ["optimizer={name: lamb, head: {name: sgd}}", "train.ema.decay=.99"]),
    "clipped head on 2": (2, ["train.clip_head=true"]),
    "bf16": (1, ["train.precision=bf16"]),
    "bf16, larger network": (1, LARGER + ["train.precision=bf16"]),
    "exact sums": (1, LARGER + ["model.sync_batch_norm=true"]),
    "exact sums on 2": (2, ["model.sync_batch_norm=true", "head.classes=200000"]),
    "bottlenecks": (1, BOTTLENECK + ["train.batch_size=64"]),
    "recomputed": (1, LARGER + ["model.recompute=all"]),
    "recomputed on 2": (2, LARGER + ["model.recompute=[stem, layer1]", "model.sync_batch_norm=true", "train.accumulate=2"]),
    "compressed on 2": (2, LARGER + [TOPK + "intra_node: none}"]),
    "compressed on 4, summed on the host": (4, ["head.classes=200000", TOPK + "warmup_epochs: 0, exclude: 500}"]),
    "groups of batch norm on 4": (4, ["model.sync_batch_norm=2", "head.classes=200000"]),
    "recomputed bottlenecks": (1, BOTTLENECK + ["train.batch_size=64", "model.recompute=all"]),
    "graph of classes": (1, KNN + ["head.classes=30000"]),
    "graph of classes on 2": (2, KNN + ["head.classes=40000", "head.sampling.scoring=bf16", "head.store.dtype=bf16"]),
    "d-softmax": (1, ["head.kind=d_softmax", UNIFORM]),
    "linear head": (1, LINEAR + ["head.classes=200000"]),
    "rows by adamw": (1, ["optimizer.head={name: adamw}"]),
    "rows by adamw, sampled, on 2": (2, [UNIFORM, "optimizer.head={name: adamw}", "head.classes=300000"]),
    "rows by lars": (1, ["optimizer.head={name: lars}", UNIFORM]),
    "rows by lamb": (1, ["optimizer.head={name: lamb}", UNIFORM, "head.update=lazy"]),
}


# The same on GPUs that the tests' stand-in plays, by the arena's own count.
ON_GPUS = {
    "fp32": (1, []),
    "bf16 on 2": (2, ["train.precision=bf16"]),
    "fp16": (1, ["train.precision=fp16"]),
    "two moments, an average and a clipped head": (
        1, ["optimizer={name: lamb, head: {name: sgd}}", "train={ema: {decay: .99}, clip_head: true}"]),
    "a batch that grows": (1, GROWING + ["head.classes=2000"]),
    "uniform, call by call": (1, [UNIFORM, "train.graphs=false"]),
    "rows on the host": (1, [HOST, UNIFORM]),
    "rows on the host on 2": (2, [SMALL_HOST, "train.precision=bf16"]),
    "rows by adamw on the host": (1, [HOST, UNIFORM, "optimizer.head={name: adamw}"]),
    "bottlenecks": (1, BOTTLENECK + ["data.image_size=[32, 32]", "train.accumulate=2"]),
    "pipeline on 2": (2, ["train.pipeline=2", "train.precision=bf16"]),
    "recomputed": (1, ["model.recompute=all", "train.precision=fp16"]),
    "compressed on 2": (2, [TOPK + "intra_node: none, warmup_epochs: 0, exclude: 500}"]),
    "recomputed on 2": (2, ["model.recompute=[stem, layer2]", "model.sync_batch_norm=true", "train.accumulate=2"]),
    "graph of classes": (1, KNN_LATER + ["head.classes=3000"]),
    "graph of classes on 2": (2, KNN_LATER + ["head.classes=3000", "train.precision=bf16", "head.sampling.scoring=bf16"]),
}
LARGE_WORKSPACES = {"bottlenecks"}


def bytes_of(text):
    """Of "860.6 MiB"."""
    number, unit = text.split()
    return float(number) * UNIT[unit]


class PlanCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.root = tempfile.mkdtemp(prefix="plsc-plan-")
        cls.path = os.path.join(cls.root, "plan.yaml")
        with open(cls.path, "w") as f:
            f.write(CONFIG.format(output=os.path.join(cls.root, "run")))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.root, ignore_errors=True)

    def plan(self, *arguments, status=0, program=TRAIN, env=None):
        """What it prints. `status` None: it may fit or not."""
        done = subprocess.run([program, "plan", "-c", self.path, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=120, env={**os.environ, **(env or {})})
        self.assertIn(done.returncode, (0, 1) if status is None else (status,), done.stdout)
        return done.stdout


class Plan(PlanCase):
    def measure(self, name, ranks, overrides):
        """Bytes that a training counts, and the resident bytes of its largest process; None where it cannot be here."""
        options = [part for o in overrides + [f"ranks={ranks}", f"output={os.path.join(self.root, name)}"] for part in ("-o", o)]
        process = subprocess.Popen([TRAIN, "-c", self.path, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True, env={**os.environ, **MPI})
        text = process.stdout.read()
        process.stdout.close()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if "no bf16" in text:
            return None
        self.assertEqual(process.returncode, 0, text)
        found = re.search(r"memory +at most .*, ([0-9.]+ [KMG]?i?B) with what is kept", text)
        self.assertRegex(text, r"plan +[0-9.]+ [KMG]iB of [0-9.]+ [KMG]iB a rank: ")
        return bytes_of(found[1]), usage.ru_maxrss * 1024

    def check(self, name):
        ranks, overrides = CONFIGURATIONS[name]
        words = ["--json", "--ranks", str(ranks), *[p for o in overrides for p in ("-o", o)]]
        measured = self.measure(name, ranks, overrides)
        if measured is None:
            self.assertIn("no bf16", self.plan(*words, status=1))
            self.skipTest("this CPU has no bf16 instructions")
        plan = json.loads(self.plan(*words))
        planned, resident = plan["counted"], plan["host_bytes"]
        # Neither counts rows in host memory; that they are there the resident memory tells.
        text = (f"{name}: planned {planned / 2**20:.1f} MiB, counted {measured[0] / 2**20:.1f}; "
                f"planned {resident / 2**20:.1f} MiB, resident {measured[1] / 2**20:.1f}")
        print(text)
        self.assertLess(abs(planned - measured[0]), max(TILES, COUNTED * measured[0]), text)
        self.assertLess(abs(resident - measured[1]), RESIDENT * measured[1], text)

    def test_a_table_and_what_fits(self):
        text = self.plan("--ranks", "4", "--host-memory", "8GiB", "--tflops", "1", "--memory-gbps", "50", "--link-gbps",
                         "10")
        for part in ("class centres", "kept for reuse", "backward", "images/s", "classes would fit", "of 2.0 GiB"):
            self.assertIn(part, text)
        self.assertIn("it does not fit; the first thing to change: head.store: {dtype: bf16}",
                      self.plan("-o", "head.classes=10000000", "--host-memory", "18GB", status=1))

    def test_more_ranks(self):
        rows = json.loads(self.plan("--sweep", "ranks=1,2,8", "--json", "-o", "head.classes=1000000"))
        self.assertEqual([r["ranks"] for r in rows], [1, 2, 8])
        self.assertEqual([r["rows"] for r in rows], [1000000, 500000, 125000])
        self.assertEqual(rows[0]["memory"]["class centres"], 1000000 * 256 * 4)
        alone = json.loads(self.plan("--ranks", "1", "--json", "-o", "head.classes=1000000"))
        self.assertEqual([set(r) for r in rows], [set(alone)] * 3)
        self.assertIn("time: not known without the rates of products (--tflops or --measure), memory (--memory-gbps or "
                      "--measure), link (--link-gbps)", self.plan("--sweep", "ranks=1,2"))
        self.assertGreater(rows[1]["host_bytes"], rows[2]["host_bytes"])
        self.assertIn("classes a rank", self.plan("--sweep", "ranks=1,2"))
        for wrong in ("8,64", "ranks=", "ranks=0", "ranks=a", "ranks=1048577", "ranks=9999999"):
            self.assertIn("--sweep: found", self.plan("--sweep", wrong, status=1))

    def test_more_ranks_than_images(self):
        sweep = ["--sweep", "ranks=8,1024", "-o", "train.batch_size=512"]
        rows = json.loads(self.plan(*sweep, "--json", status=1))
        self.assertEqual([(r["ranks"], r["fits"]) for r in rows], [(8, True), (1024, False)])
        self.assertIn("train.batch_size: the batch of 512 images is smaller than the ranks, 1024", rows[1]["error"])
        self.assertNotIn("\n", rows[1]["error"])
        self.assertRegex(self.plan(*sweep, status=1), r"\n +8 +18,?750 .*\n +1024 +- +.*train.batch_size")
        self.assertRegex(self.plan("--sweep", "ranks=1024", "-o", "train.batch_size=512", status=1), r" 1024 +- +.*batch_size")

    def test_ranks_that_are_advised_are_enough(self):
        # Not even bf16 fits one host of 12 GB.
        options = ["-o", "head.classes=12000000", "--host-memory", "12GB", "-o", "train.batch_size=256"]
        text = self.plan("--ranks", "1", *options, status=1)
        advised = re.search(r"the first thing to change: (\d+) ranks( on \d+ hosts)?: then", text)
        self.assertIsNotNone(advised, text)
        self.plan("--ranks", advised[1], *options)

    def test_as_many_classes_as_a_graph_can_have(self):
        gpus = ["-o", "device=cuda", "--device-memory", "80GiB", "-o", "head.sampling={method: knn, ratio: 0.1}", "-o",
                "train.batch_size=2048", "--host-memory", "2TB"]
        rows = json.loads(self.plan("--sweep", "ranks=8,128,256", "--json", *gpus))
        self.assertEqual([r["largest_classes"] == 2 ** 31 - 1 for r in rows], [False, True, True])

    def test_what_training_refuses_is_no_plan(self):
        for sampling, text in (("{method: uniform, active: 150001}", "expected at most the number of classes, 150000"),
                               ("{method: knn}", "found knn with 3000000000 classes, expected at most 2147483647")):
            classes = "3000000000" if "knn" in sampling else "150000"
            for more in ([], ["--sweep", "ranks=1,2"], ["--json"]):
                self.assertIn(text, self.plan("-o", f"head.sampling={sampling}", "-o", f"head.classes={classes}", *more,
                                              status=1))

    def test_every_key_of_the_json_is_explained(self):
        plan = json.loads(self.plan("--json", *[p for o in KNN + ["head.classes=1000"] for p in ("-o", o)]))
        explained = subprocess.run([TRAIN, "plan", "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
        explained = set(re.findall(r"\w+", explained[explained.index("The JSON is"):]))
        self.assertEqual(set(plan) - explained, set())
        self.assertEqual(set(plan["graph"]) - explained, set())

    def test_gpus_by_name_on_hosts_that_share_a_network(self):
        gpus = ["-o", "device=cuda", "-o", "head.classes=1000000", "-o", "train.batch_size=960", "-o", "train.precision=bf16", "--gpu", "A100", "--gpus-per-node", "4", "--json"]
        slow, fast = (json.loads(self.plan(*gpus, "--network-gbps", n, "--sweep", "ranks=4,8,48")) for n in ("1", "400"))
        self.assertEqual({r["precision"] for r in slow}, {"bf16"})
        self.assertEqual(slow[0]["device_room"], 79 * 2 ** 30)
        # Within a host nothing goes over the network.
        self.assertEqual(slow[0]["phases"], fast[0]["phases"])
        for on_slow, on_fast in zip(slow[1:], fast[1:]):
            self.assertEqual(on_slow["phases"][0]["flop"], on_fast["phases"][0]["flop"])
            waits = on_slow["exposed_seconds"] - on_fast["exposed_seconds"]
            self.assertGreater(waits, 0)
            self.assertAlmostEqual(on_slow["step_seconds"] - on_fast["step_seconds"], waits, delta=1e-9)
            self.assertAlmostEqual(on_slow["images_per_second"], on_slow["ranks"] * on_slow["images"] / on_slow["step_seconds"], delta=1e-6)
            # At least the gradients of the network, to all other hosts and back, but for what the pass hides.
            hosts = on_slow["ranks"] / 4
            sent = 2 * 4 * on_slow["parameters"] * (hosts - 1) / hosts / (1e9 / 8)
            self.assertGreater(on_slow["step_seconds"], sent)
        text = self.plan(*gpus[:-1], "--network-gbps", "25", "--sweep", "ranks=4,8")
        self.assertIn("images/s", text)
        self.assertIn("rates of A100 as --help says and as given: 16 bit", text)
        self.assertIn("of the step waits for other ranks", self.plan(*gpus[:-1], "--network-gbps", "1", "--ranks", "8"))
        # What is given comes before the table's; what is not known is named.
        given = json.loads(self.plan(*gpus, "--ranks", "1", "--tflops", "1"))
        self.assertGreater(given["step_seconds"], 3 * json.loads(self.plan(*gpus, "--ranks", "1"))["step_seconds"])
        bare = ["-o", "device=cuda", "--device-memory", "80GiB", "--tflops", "1", "--memory-gbps", "1000", "--ranks", "8",
                "--gpus-per-node", "4", "--json"]
        self.assertEqual(json.loads(self.plan(*bare, "--network-gbps", "25"))["missing_rates"], ["--link-gbps"])
        self.assertEqual(json.loads(self.plan(*bare, "--network-gbps", "25", "--link-gbps", "100"))["missing_rates"], [])

    def test_gpus_that_have_no_name(self):
        self.assertIn("--gpu: found 'K80', expected one of V100, A100, H100, H200",
                      self.plan("-o", "device=cuda", "--gpu", "K80", status=1))
        self.assertIn("--gpu: device: cpu computes on none", self.plan("--gpu", "V100", status=1))
        self.assertIn("--gpu and --measure: ", self.plan("-o", "device=cuda", "--gpu", "V100", "--measure", status=1))
        self.assertIn("V100 has compute capability 7.0, and it needs 8.0",
                      self.plan("-o", "device=cuda", "--gpu", "V100", "-o", "train.precision=bf16", status=1))

    def test_published_rates_are_those_that_the_gpus_are_set_by(self):
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../scripts/bench"))
        import published
        folder = tempfile.mkdtemp(dir=self.root)  # it has a plan.yaml of its own
        planner = published.Planner(TRAIN, folder)
        for point in published.CALIBRATION:
            rate = planner.plan(point, point["gpu"], point["network"], "--ranks", str(point["ranks"]))["images_per_second"]
            # To three digits of a part: half a per cent.
            self.assertLess(abs(published.error(rate, point["rate"])), 0.005, point)
        # The farthest of the others, 256 GPUs over 25 Gbit/s, with what their source does not say assumed: a tenth off
        # (scripts/bench/published.md), and as much again for what steps may come to do.
        far = published.POINTS[-1]
        plan = planner.plan(far, far["gpu"], far["network"], "--ranks", str(far["ranks"]))
        self.assertLess(abs(published.error(plan["images_per_second"], far["rate"])), 0.2)

    def test_gpus_from_a_machine_without(self):
        plan = json.loads(self.plan("--json", "-o", "device=cuda", "--device-memory", "32GB", "--ranks", "8", "-o",
                                    "train.precision=bf16", "-o", "head.classes=10000000"))
        self.assertEqual((plan["device"], plan["precision"], plan["device_room"]), ("cuda", "bf16", 32e9))
        self.assertGreater(plan["device_bytes"], 2 * 1250000 * 256 * 4)
        self.assertTrue(plan["fits"])
        self.assertGreater(plan["largest_classes"], 10000000)
        self.assertIn("device: cpu has no memory of its own", self.plan("--device-memory", "32GB", status=1))

    def test_rows_in_host_memory_are_planned_without_any(self):
        many = ["-o", "head.classes=100000000", "-o", SMALL_HOST, "-o", UNIFORM]
        plan = json.loads(self.plan("--json", "--host-memory", "200GB", *many))
        self.assertEqual(plan["host_memory"]["class centres"], 100000000 * 256 * 2)
        self.assertEqual(plan["host_memory"]["their momentum"], 100000000 * 256 * 2)
        self.assertTrue(plan["fits"])
        # All that the plans of this file took so far.
        self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, 1 << 30)
        text = self.plan("-o", "device=cuda", "--device-memory", "32GB", *many)
        self.assertIn("in bf16 in host memory, uniform ratio 0.1", text)
        self.assertIn("between the GPU and its host's memory", text)
        self.assertIn("not known without --host-memory", text)
        gpu = ["-o", "device=cuda", "-o", "head.classes=20000000", "--device-memory", "16GB", "--ranks-per-host", "1"]
        self.assertIn("the first thing to change: head.store: {tier: host}: then a rank takes",
                      self.plan(*gpu, "--host-memory", "64GB", status=1))
        timed = ["--tflops", "50", "--memory-gbps", "3000", "--json", "--host-memory", "64GB"]
        self.assertIsNone(json.loads(self.plan(*gpu, "-o", HOST, *timed))["step_seconds"])
        self.assertGreater(json.loads(self.plan(*gpu, "-o", HOST, *timed, "--host-gbps", "50"))["step_seconds"],
                           2 * 20000000 * 256 * 4 / 50e9)

    def test_rates_of_this_machine(self):
        plan = json.loads(self.plan("--json", "--measure"))
        self.assertGreater(plan["step_seconds"], 0)

    def test_a_cpu_that_cannot_is_no_end(self):
        text = self.plan("-o", "device=auto", "-o", "train.precision=fp16", status=1, env=NO_GPU)
        self.assertRegex(text, r"hint: use train.precision: fp32.*; --device-memory 80GiB \(or -o device=cuda\) plans for a GPU")
        self.plan("-o", "device=auto", "-o", "train.precision=fp16", "--device-memory", "80GiB", "--host-memory", "1TiB")
        text = self.plan("-o", "train.precision=bf16", status=None)
        if "no bf16" in text:
            self.assertIn("; -o device=cuda --device-memory 80GiB plans for a GPU", text)

    def test_what_was_not_judged_is_told(self):
        gpu = ["-o", "device=cuda", "-o", "train.precision=fp32"]
        text = self.plan(*gpu, env=NO_GPU)
        self.assertIn("whether it fits the GPU was not judged", text)
        self.assertIn("not known without --device-memory\n", text)
        plan = json.loads(self.plan(*gpu, "--json", env=NO_GPU))
        self.assertEqual((plan["missing_room"], plan["missing_rates"]), (["--device-memory"], ["--tflops", "--memory-gbps"]))
        self.assertNotIn("not judged, nor", self.plan(*gpu, "--device-memory", "80GiB"))

    def test_sizes_and_numbers(self):
        for option in ("--device-memory", "--host-memory"):
            for wrong in ("0", "80", "1e5", "-5GiB", "80gib", "x"):
                self.assertIn(f"{option}: found '{wrong}', expected a size such as 80GiB",
                              self.plan(option, wrong, status=2))
        for option in ("--link-gbps", "--tflops", "--memory-gbps", "--host-gbps"):
            for wrong in ("0", "-1", "abc", "inf"):
                self.assertIn(f"{option}: found '{wrong}', expected a number > 0\n", self.plan(option, wrong, status=2))
        for option in ("--ranks", "--ranks-per-host"):
            for wrong in ("0", "-1", "1.5", "9999999"):
                self.assertIn(f"{option}: found '{wrong}', expected a whole number from 1 to 1048576\n",
                              self.plan(option, wrong, status=2))
        for text, size in (("0.5GiB", 2 ** 29), ("1048576", 2 ** 20), ("500MB", 5e8), ("2T", 2 ** 41)):
            plan = json.loads(self.plan("--json", "-o", "device=cuda", "--host-memory", "1TiB", "--device-memory", text,
                                        status=None))
            self.assertEqual(plan["device_room"], size)

    def test_data_that_are_not_there(self):
        missing = ["-o", "data.train=/nowhere/train.rec", "-o", "head.classes=auto"]
        self.assertIn("-o head.classes=N", self.plan(*missing, status=1))
        self.plan("-o", "data.train=/nowhere/train.rec")


@unittest.skipUnless(os.path.exists(STANDIN), "plsc-train-standin is not built (preset cuda)")
class PlanOnGpus(PlanCase):
    def check(self, name):
        ranks, overrides = ON_GPUS[name]
        # The stand-in computes on the host, and not fast.
        changes = ["device=cuda", "head.classes=20000", "train.batch_size=16", "train.steps=4"] + overrides
        options = [part for o in changes for part in ("-o", o)]
        plan = json.loads(self.plan("--json", "--ranks", str(ranks), *options, program=STANDIN))
        done = run([STANDIN, "-c", self.path, *options, "-o", f"ranks={ranks}", "-o",
                    f"output={os.path.join(self.root, name)}"], env={"PLSC_STANDIN_DEVICES": str(ranks), **MPI})
        found = re.search(r"memory +at most ([0-9.]+ [KMG]iB) of tensors .*, ([0-9.]+ [KMG]iB) with what is kept",
                          done.stdout)
        in_use, reserved = bytes_of(found[1]), bytes_of(found[2])
        text = (f"{name}: planned {plan['device_bytes'] / 2**20:.1f} MiB, in use {found[1]}; "
                f"planned {plan['counted'] / 2**20:.1f} MiB with what is kept, counted {found[2]}")
        print(text)
        self.assertLess(abs(plan["device_bytes"] - in_use), COUNTED * in_use, text)
        self.assertLess(abs(plan["counted"] - reserved), COUNTED * reserved + (SEGMENT if name in LARGE_WORKSPACES else 0),
                        text)

    def test_rates_of_a_gpu_without_bf16(self):
        old = {"PLSC_STANDIN_CAPABILITY": "7.5"}
        with unittest.mock.patch.dict(os.environ, old):
            plan = json.loads(self.plan("--json", "--measure", "-o", "device=cuda", "-o", "train.precision=fp16", "-o",
                                        "head.classes=1000", program=STANDIN))
        self.assertGreater(plan["step_seconds"], 0)


def add(case, name):
    setattr(case, "test_memory_" + re.sub(r"\W+", "_", name), lambda self: self.check(name))


for each in CONFIGURATIONS:
    add(Plan, each)
for each in ON_GPUS:
    add(PlanOnGpus, each)

if __name__ == "__main__":
    unittest.main()
