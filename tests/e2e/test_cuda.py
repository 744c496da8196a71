"""Training by the whole CUDA path, on the tests' stand-in for the vendor's libraries (tests/support/cuda): the losses are
the CPU's, on any number of ranks, by NCCL and through host memory; recorded steps, resumes, half precision."""
import glob
import json
import os
import unittest

from support import D_SOFTMAX, E2eCase, LINEAR, read_npy, run, tensors

STANDIN = os.environ.get("PLSC_STANDIN_BIN", "")


@unittest.skipUnless(os.path.exists(STANDIN), "plsc-train-standin is not built (preset cuda)")
class Cuda(E2eCase):
    def cuda(self, name, *overrides, ranks=1, gpus=None, steps=20, env=None, resume="none", fails=False, evaluates=False):
        """Trains on as many played GPUs as ranks into folder `name`; returns what was printed."""
        args = [STANDIN, "-c", self.config(name), "--resume", resume]
        # A gentle rate and centres that are not short (whose directions would turn fast): steep steps magnify the
        # rounding of sums in another order from one to the next.
        defaults = ["device=cuda", f"ranks={ranks}", f"train.steps={steps}", "head.init_std=.3",
                    "schedule={base_lr: .02, warmup_steps: 5}"] + ([] if evaluates else ["eval.sets=[]"])
        for override in defaults + list(overrides):
            args += ["-o", override]
        return run(args, fails=fails, env={"PLSC_STANDIN_DEVICES": str(gpus or ranks), **(env or {})}).stdout

    def on_cpu(self, name, *overrides, steps=20):
        self.cuda(name, "device=cpu", *overrides, steps=steps)
        return self.losses(name)

    def assert_same_tensors(self, a, b, step):
        a, b = tensors(self.checkpoint(a, step)), tensors(self.checkpoint(b, step))
        self.assertEqual(a.keys(), b.keys())
        self.assertEqual([name for name in a if a[name] != b[name]], [])

    def test_losses_are_the_cpus(self):
        expected = self.on_cpu("cpu")
        for name, ranks, gpus, overrides in (("one", 1, 1, ()), ("two", 2, 2, ()), ("four", 4, 4, ()),
                                             ("three_staged", 3, 2, ("comm.backend=mpi",)),
                                             ("plain", 1, 1, ("train.graphs=false",))):
            with self.subTest(name):
                out = self.cuda(name, *overrides, ranks=ranks, gpus=gpus)
                self.assertEqual("joined by NCCL" in out, name in ("two", "four"))
                self.assert_close(self.losses(name), expected, 1e-4)
        self.assertGreater(expected[0], 1.05 * expected[-1])

    def test_sampled_accumulated_and_other_heads(self):
        for name, overrides in (("sampled", ["head.sampling={method: uniform, ratio: .8}"]),
                                ("lazy", ["head.sampling={method: uniform, ratio: .8}", "head.update=lazy"]),
                                ("knn", ["head.sampling={method: knn, ratio: .8, neighbours: 5, "
                                         "rebuild: {every_epochs: .25}}"]),
                                ("accumulated", ["train.accumulate=2"]),
                                ("uneven", ["train.accumulate=2", "train.batch_size=33"]),
                                ("linear", LINEAR),
                                ("linear_sampled", LINEAR + ["head.sampling={method: uniform, ratio: .8}"]),
                                ("dissected", D_SOFTMAX + ["head.sampling={method: uniform, ratio: .8}"]),
                                ("wide", ["head.scale=120", "head.interclass_filter=.4"]),
                                ("resnet", ["model.backbone={kind: resnet, stem: 8, widths: [8, 16], blocks: [1, 1]}"])):
            with self.subTest(name):
                expected = self.on_cpu(name + "_cpu", *overrides, steps=10)
                self.cuda(name, *overrides, steps=10, ranks=2)
                self.assert_close(self.losses(name), expected, 1e-4)

    def test_recorded_steps_have_the_same_bits(self):
        """Whether calls are recorded or not, and in whatever order the device takes what events allow."""
        self.cuda("recorded", ranks=2)
        self.cuda("called", "train.graphs=false", ranks=2)
        self.cuda("ordered", ranks=2, env={"PLSC_STANDIN_SEED": "77"})
        self.assert_same_tensors("recorded", "called", 20)
        self.assert_same_tensors("recorded", "ordered", 20)

    def counters(self, name, steps, *overrides):
        prefix = self.folder(f"counters_{name}_{steps}")
        self.cuda(f"{name}_{steps}", *overrides, steps=steps, env={"PLSC_STANDIN_COUNTERS": prefix})
        (file,) = glob.glob(prefix + "*")
        with open(file) as f:
            return json.load(f)

    def test_a_step_neither_allocates_nor_waits(self):
        for name, overrides in (("recorded", []), ("called", ["train.graphs=false"]),
                                ("sampled", ["head.sampling={method: uniform, ratio: .8}"]), ("linear", LINEAR),
                                ("far", ["head.sampling={method: uniform, ratio: .8}", "head.store={tier: host}"]),
                                ("accumulated", ["train.accumulate=2"])):
            with self.subTest(name):
                few, many = self.counters(name, 8, *overrides), self.counters(name, 24, *overrides)
                self.assertEqual(few["device_allocations"], many["device_allocations"])
                self.assertEqual(few["pinned_allocations"], many["pinned_allocations"])
                self.assertEqual(few["synchronisations"], many["synchronisations"])
                per_step = (many["graph_launches"] - few["graph_launches"]) / 16
                # Forward and backward; on one rank nothing cuts them.
                self.assertEqual(per_step, {"called": 0, "accumulated": 4}.get(name, 2))

    def test_resume_is_bit_exact_and_crosses_devices(self):
        for name, overrides in (("fp32", []), ("bf16", ["train.precision=bf16", "head.store={dtype: bf16}"]),
                                ("fp16", ["train.precision=fp16", "head.sampling={method: uniform, ratio: .3}"]),
                                ("linear", LINEAR + ["train.precision=fp16", "head.store={dtype: bf16}"]),
                                ("knn", ["head.sampling={method: knn, ratio: .8, neighbours: 5, scoring: bf16, "
                                         "rebuild: {probe_recall: .9}}", "head.store={tier: host}"])):
            with self.subTest(name):
                overrides = overrides + ["train.deterministic=true"]
                self.cuda(name, *overrides, ranks=2)
                overrides.append("checkpoint.every_steps=11")
                self.cuda(name + "_cut", *overrides, ranks=2)
                os.rename(self.checkpoint(name + "_cut", 20), self.folder(name + "_later"))
                self.cuda(name + "_cut", *overrides, ranks=2, resume="auto")
                self.assert_same_tensors(name, name + "_cut", 20)
        # Centres in fp32 go on in bf16, and the other way round.
        for name, types in (("narrow", ("fp32", "bf16")), ("wide", ("bf16", "fp32"))):
            for steps, dtype in zip((11, 20), types):
                out = self.cuda("store_" + name, f"head.store={{dtype: {dtype}}}", steps=steps, resume="auto", ranks=2)
            self.assertIn("head.store.dtype", out)  # told as a change
            self.assertEqual(len(self.losses("store_" + name)), 20)
        expected = self.on_cpu("home")
        self.on_cpu("crossing", "checkpoint.every_steps=10")
        os.rename(self.checkpoint("crossing", 20), self.folder("crossed"))
        out = self.cuda("crossing", resume="auto", ranks=2)
        self.assertIn("resuming", out)
        self.assert_close(self.losses("crossing"), expected, 1e-4)

    def test_half_precision(self):
        expected = self.on_cpu("full", steps=40)
        for precision in ("tf32", "bf16", "fp16"):
            with self.subTest(precision):
                self.cuda(precision, f"train.precision={precision}", steps=40, ranks=2)
                got = [loss for loss in self.losses(precision) if loss is not None]
                self.assertNotEqual(got[0], expected[0])
                self.assertLess(abs(sum(got[-8:]) - sum(expected[-8:])) / sum(expected[-8:]), 0.1)
        lines = self.metrics("fp16")
        self.assertLessEqual(lines[-1]["loss_scale"], 65536)
        # An overflow halves the scale and leaves the step out; there is none in the other types.
        for before, line in zip(lines, lines[1:]):
            self.assertEqual(line["loss_scale"], before["loss_scale"] / (2 if line["skipped"] else 1))
        self.assertNotIn("loss_scale", self.metrics("bf16")[-1])

    def test_evaluation_and_embeddings_are_the_cpus(self):
        out = self.cuda("evaluated", "eval.every_epochs=none", "eval.every_steps=5", steps=15, ranks=2, evaluates=True)
        self.assertIn("accuracy", out)
        self.cuda("unevaluated", steps=15, ranks=2)
        self.assert_same_tensors("evaluated", "unevaluated", 15)  # recordings come to no harm
        folder = self.checkpoint("evaluated", 15)
        for device in ("cuda", "cpu"):
            run([STANDIN, "embed", "--checkpoint", folder, "--input", os.path.join(self.data, "verify"), "--output",
                 self.folder(device + ".npy"), "--top", "3", "-o", f"device={device}"],
                env={"PLSC_STANDIN_DEVICES": "2"})
        shape, cuda = read_npy(self.folder("cuda.npy"))
        self.assertEqual(read_npy(self.folder("cpu.npy"))[0], shape)
        cpu = read_npy(self.folder("cpu.npy"))[1]
        self.assertLess(max(abs(a - b) for a, b in zip(cuda, cpu)), 1e-4 * max(map(abs, cpu)))

    def test_out_of_memory_says_where_it_went(self):
        out = self.cuda("full", env={"PLSC_STANDIN_MEMORY": "6MiB"}, fails=True)
        for text in ("out of GPU memory", "asked for", "activations", "free"):
            self.assertIn(text, out)

    def test_a_graph_that_a_gpu_cannot_hold_is_refused_at_the_start(self):
        """50,000 lists of 1,500 candidates are 858 MiB, which are taken when the warm-up is over."""
        for tier, hint in (("device", "head.store: {tier: host}"), ("host", "more GPUs")):
            out = self.cuda(tier, "head.classes=50000", f"head.store.tier={tier}",
                            "head.sampling={method: knn, ratio: .01, neighbours: 750}",
                            env={"PLSC_STANDIN_MEMORY": "512MiB"}, fails=True)
            for text in ("the class graph of 50000 classes with head.sampling.neighbours 750", "of a rank's GPU memory", hint):
                self.assertIn(text, out)
            self.assertEqual(out.count("of a rank's GPU memory"), 1, out)
            self.assertFalse(os.path.exists(self.folder(f"{tier}/metrics.jsonl")))

    def test_class_centres_by_every_optimizer(self):
        """As on the CPU, in steps that neither allocate nor wait, and resumed to the bit."""
        uniform, far = "head.sampling={method: uniform, ratio: .8}", "head.store={tier: host}"
        for name, overrides in (("rows_lars", ["optimizer={head: {name: lars}, trust: .02}", uniform]),
                                ("rows_adamw", ["optimizer.head={name: adamw, lr: .1}", uniform]),
                                ("rows_adamw_far", ["optimizer.head={name: adamw, lr: .1}", uniform, far]),
                                ("rows_lamb", ["optimizer.head={name: lamb, lr: .1}", uniform, "head.update=lazy"]),
                                ("rows_adamw_full", ["optimizer.head={name: adamw, lr: .1}", "train.accumulate=2"])):
            with self.subTest(name):
                expected = self.on_cpu(name + "_cpu", *overrides)
                overrides += ["train.deterministic=true", "checkpoint.keep=3"]
                self.cuda(name, *overrides, "checkpoint.every_steps=11", ranks=2)
                self.assert_close(self.losses(name), expected, 1e-4)
                os.rename(self.checkpoint(name, 20), self.folder(name + "_straight"))
                self.cuda(name, *overrides, ranks=2, resume="auto")
                a, b = tensors(self.folder(name + "_straight")), tensors(self.checkpoint(name, 20))
                self.assertEqual([key for key in a if a[key] != b.get(key)], [])
                few, many = self.counters(name, 8, *overrides), self.counters(name, 24, *overrides)
                for count in ("device_allocations", "pinned_allocations", "synchronisations"):
                    self.assertEqual(few[count], many[count], count)

    def test_absurd_rate_stops_without_a_checkpoint_of_it(self):
        out = self.cuda("absurd", "schedule={base_lr: 1e30, warmup_steps: 0}", "checkpoint.every_steps=1", fails=True,
                        ranks=2)
        self.assertIn("not finite", out)
        self.assertEqual(out.count("not finite"), 1, out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
