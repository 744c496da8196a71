"""Training by the whole CUDA path, on the tests' stand-in for the vendor's libraries (tests/support/cuda): the losses are
the CPU's, on any number of ranks, by NCCL and through host memory; recorded steps, resumes, half precision."""
import glob
import json
import os
import unittest

from support import D_SOFTMAX, E2eCase, LINEAR, read_npy, run, tensors

# Keys of the head, of the optimizer, and the rate; the head's is that of the other tests, .02.
OPTIMIZERS = {"adamw": ("lr: 10", "weight_decay: .01", "schedule.base_lr=.002"),
              "lars": ("lr: .1", "trust: .02, norms: {lr: .1}", "schedule.base_lr=.2"),
              "lamb": ("lr: 4", "epsilon: 1e-6", "schedule.base_lr=.005")}

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
                                ("pipeline", ["train.pipeline=3"]),
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

    def test_a_pipeline_is_its_micro_batches_one_after_another(self):
        options = ["train.precision=fp16", "head.sampling={method: uniform, ratio: .8}", "head.store={tier: host}",
                   "model.dropout=.2", "train.deterministic=true"]
        for way in ("accumulate", "pipeline"):
            self.cuda(way, *options, f"train.{way}=3", steps=6, ranks=2)
        self.assertEqual(self.losses("accumulate"), self.losses("pipeline"))
        self.assert_same_tensors("accumulate", "pipeline", 6)

    def test_optimizers(self):
        # Adam divides by the root of what it averages, so that where a gradient is nothing but rounding (a shift in front
        # of a batch norm has none) that rounding decides on the sign of a whole step: losses differ by more than SGD's.
        for name, options in OPTIMIZERS.items():
            with self.subTest(name):
                options = [f"optimizer={{name: {name}, head: {{name: sgd, {options[0]}}}, {options[1]}}}", options[2],
                           "train.ema={decay: .9, every: 2}", "train.clip_head=true"]
                expected = self.on_cpu(name + "_cpu", *options, steps=10)
                self.cuda(name, *options, steps=10, ranks=2)
                self.assert_close(self.losses(name), expected, 1e-3)
                self.cuda(name + "_again", *options, "checkpoint.every_steps=5", steps=5, ranks=2)
                out = self.cuda(name + "_again", *options, steps=10, ranks=2, resume="auto")
                self.assertIn("step 5 of 10", out)
                self.assertEqual(self.losses(name)[:5], self.losses(name + "_again")[:5])

    def test_recorded_steps_have_the_same_bits(self):
        """Whether calls are recorded or not, and in whatever order the device takes what events allow."""
        self.cuda("recorded", ranks=2)
        self.cuda("called", "train.graphs=false", ranks=2)
        self.cuda("ordered", ranks=2, env={"PLSC_STANDIN_SEED": "77"})
        self.assert_same_tensors("recorded", "called", 20)
        self.assert_same_tensors("recorded", "ordered", 20)

    def test_a_batch_that_grows(self):
        """As on a CPU; steps of each number of passes are recorded, or done call by call, with the same bits."""
        growing = ["train.batch_size=12", "train.grow={factor: 2, from_epoch: .2, until_epoch: .5}"]
        self.cuda("growing_cpu", "device=cpu", *growing, steps=14)
        batches = [m["batch"] for m in self.metrics("growing_cpu")]
        # Two steps of a size are done call by call, the third is recorded, the others are played.
        self.assertTrue(all(batches.count(n) >= 5 for n in (12, 24)), batches)
        self.cuda("growing", *growing, ranks=2, steps=14)
        self.cuda("growing_called", *growing, "train.graphs=false", ranks=2, steps=14)
        self.assert_close(self.losses("growing"), self.losses("growing_cpu"), 1e-4)
        self.assert_same_tensors("growing", "growing_called", 14)

    def test_sums_in_bf16_and_their_trace(self):
        """By NCCL and through host memory the same bits: one rounding, one order; recorded or not."""
        trace = self.folder("trace.json")
        common = ["comm.dtype=bf16", "comm.bucket=32KiB", "log.trace_first=4", "log.trace_steps=3"]
        self.cuda("narrow", *common, f"log.trace={trace}", ranks=2)
        self.cuda("narrow_called", *common, "train.graphs=false", ranks=2)
        self.cuda("narrow_staged", *common, "comm.backend=mpi", ranks=2)
        self.cuda("wide", "comm.bucket=32KiB", ranks=2)
        self.assert_same_tensors("narrow", "narrow_called", 20)
        self.assert_same_tensors("narrow", "narrow_staged", 20)
        narrow, wide, staged = (self.metrics(n)[-1] for n in ("narrow", "wide", "narrow_staged"))
        self.assertNotEqual(narrow["loss"], wide["loss"])
        self.assertLess(narrow["comm_bytes"], wide["comm_bytes"])
        self.assertAlmostEqual(narrow["comm_bytes"] / staged["comm_bytes"], 1, delta=.05)
        self.assertTrue(all(0 <= m["comm_exposed"] for m in self.metrics("narrow")))
        with open(trace) as f:
            events = [e for e in json.load(f)["traceEvents"] if e["ph"] == "X"]
        for rank in (0, 1):
            for track in (0, 1):  # of the host, and of the device
                forward = [e["args"]["step"] for e in events
                           if (e["pid"], e["tid"], e["name"]) == (rank, track, "forward")]
                self.assertEqual(forward, [5, 6, 7])
                last = max(e["ts"] + e["dur"] for e in events if e["pid"] == rank and e["args"].get("step") == 7)
                later = [e for e in events if (e["pid"], e["tid"]) == (rank, track) and e["ts"] > last]
                self.assertEqual(later, [])
                self.assertEqual({e["args"]["step"] for e in events if "step" in e["args"]} - {3, 4, 8}, {5, 6, 7})
            buckets = [e for e in events if e["pid"] == rank and e["name"].startswith("gradient bucket")]
            self.assertGreaterEqual(len(buckets), 6)
            self.assertTrue(all(e["dur"] >= 0 for e in events))

    def test_compressed_gradients(self):
        """Recorded by NCCL, and called through host memory, to the same bits; the share that is sent changes with the epoch,
        and with it what is recorded."""
        common = ["comm.compress={method: topk, ratio: .02, warmup_epochs: 1, exclude: 1000, intra_node: none}",
                  "train.precision=fp16"]
        self.cuda("sparse", *common, ranks=2, steps=14)
        self.cuda("sparse_called", *common, "train.graphs=false", "comm.backend=mpi", ranks=2, steps=14)
        self.assert_same_tensors("sparse", "sparse_called", 14)
        sent = [m["comm_bytes"] for m in self.metrics("sparse")]
        self.assertGreater(sent[0], sent[-1])
        # A host's ranks sum theirs first.
        summed = [common[0], "comm.compress.intra_node=dense"]
        self.cuda("summed", *summed, ranks=2, steps=8)
        self.cuda("summed_called", *summed, "train.graphs=false", ranks=2, steps=8)
        self.assert_same_tensors("summed", "summed_called", 8)

    def test_recomputed_blocks_have_the_same_bits(self):
        """In recorded steps and in others, where the second pass falls into the recording of the backward pass."""
        resnet = "model.backbone={kind: resnet, stem: 8, widths: [8, 16], blocks: [2, 1]}"
        for name, ranks, overrides, parts in (
                ("synchronised", 2, [], ("all", "[layer1]")),
                ("own", 1, ["model.sync_batch_norm=false", "train.accumulate=2", "train.precision=fp16"], ("all",)),
                ("called", 1, ["train.graphs=false", "train.precision=bf16"], ("[stem, layer2]",)),
                ("residual", 1, [resnet, "train.deterministic=true"], ("all",))):
            with self.subTest(name):
                self.cuda(name, *overrides, ranks=ranks, steps=8)
                for i, choice in enumerate(parts):
                    self.cuda(f"{name}_{i}", *overrides, f"model.recompute={choice}", ranks=ranks, steps=8)
                    self.assert_same_tensors(name, f"{name}_{i}", 8)
                    self.assertEqual(self.losses(f"{name}_{i}"), self.losses(name))

    def test_groups_of_batch_norm(self):
        """Four ranks in groups of two: by NCCL in recorded steps and in others, and through host memory, as on a CPU."""
        grouped = ["model.sync_batch_norm=2", "ranks=4"]
        self.cuda("grouped_cpu", "device=cpu", *grouped, steps=8)
        expected = self.losses("grouped_cpu")
        for name, overrides in (("nccl", []), ("called", ["train.graphs=false"]), ("staged", ["comm.backend=mpi"])):
            with self.subTest(name):
                self.cuda(name, *grouped, *overrides, gpus=4, steps=8)
                self.assert_close(self.losses(name), expected, 1e-4)
        self.assert_same_tensors("nccl", "called", 8)
        self.cuda("all_ranks", "ranks=4", gpus=4, steps=8)
        self.assertGreater(abs(self.losses("all_ranks")[-1] - expected[-1]), 1e-3 * expected[-1])  # or nothing is shown

    def counters(self, name, steps, *overrides):
        prefix = self.folder(f"counters_{name}_{steps}")
        self.cuda(f"{name}_{steps}", *overrides, steps=steps, env={"PLSC_STANDIN_COUNTERS": prefix})
        (file,) = glob.glob(prefix + "*")
        with open(file) as f:
            return json.load(f)

    def test_a_step_neither_allocates_nor_waits(self):
        for name, overrides in (("recorded", []), ("called", ["train.graphs=false"]),
                                ("sampled", ["head.sampling={method: uniform, ratio: .8}"]), ("linear", LINEAR),
                                ("lamb", ["optimizer={name: lamb, head: {name: sgd}}", "train={ema: {decay: .9}}"]),
                                ("clipped", ["train.clip_head=true"]),
                                ("far", ["head.sampling={method: uniform, ratio: .8}", "head.store={tier: host}"]),
                                ("accumulated", ["train.accumulate=2"]), ("pipeline", ["train.pipeline=2"]),
                                ("recomputed", ["model.recompute=all"])):
            with self.subTest(name):
                few, many = self.counters(name, 8, *overrides), self.counters(name, 14, *overrides)
                self.assertEqual(few["device_allocations"], many["device_allocations"])
                self.assertEqual(few["pinned_allocations"], many["pinned_allocations"])
                self.assertEqual(few["synchronisations"], many["synchronisations"])
                per_step = (many["graph_launches"] - few["graph_launches"]) / 6
                # Forward and backward; on one rank nothing cuts them.
                self.assertEqual(per_step, {"called": 0, "accumulated": 4, "pipeline": 4}.get(name, 2))

    def test_resume_is_bit_exact_and_crosses_devices(self):
        for name, overrides in (("fp32", []), ("lamb", ["train.precision=fp16", "train.ema={decay: .9, every: 3}",
                                                        "optimizer={name: lamb, head: {name: sgd}}"]),
                                ("bf16", ["train.precision=bf16", "head.store={dtype: bf16}"]),
                                ("fp16", ["train.precision=fp16", "head.sampling={method: uniform, ratio: .3}",
                                          "train.pipeline=2"]),
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
        averages = "train.ema={decay: .9}"
        self.cuda("average", averages, "eval={weights: ema, every_epochs: none, every_steps: 5}", steps=15, ranks=2,
                  evaluates=True)
        self.cuda("unused_average", averages, steps=15, ranks=2)
        self.assert_same_tensors("average", "unused_average", 15)
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
                few, many = self.counters(name, 8, *overrides), self.counters(name, 14, *overrides)
                for count in ("device_allocations", "pinned_allocations", "synchronisations"):
                    self.assertEqual(few[count], many[count], count)

    def test_absurd_rate_stops_without_a_checkpoint_of_it(self):
        out = self.cuda("absurd", "schedule={base_lr: 1e30, warmup_steps: 0}", "checkpoint.every_steps=1", fails=True,
                        ranks=2)
        self.assertIn("not finite", out)
        self.assertEqual(out.count("not finite"), 1, out)


if __name__ == "__main__":
    unittest.main(verbosity=2)
