"""The same configuration gives the same loss curve on 1, 2, 3 and 4 ranks: the strongest test of the head, batch norm,
the loader and the gradient sums together. On Omniglot where it is at hand, on synthetic glyphs in any case.

With exact sums (train.deterministic, which synchronised batch norm turns on in fp32) not a bit of the weights depends on
the number of ranks or threads. Without them rounding grows: a sum in another order moves a weight by its last bit, which
moves some activation across a PReLU's kink, where the gradient jumps (scripts/bench/README.md)."""
import array
import json
import os
import shutil
import tarfile
import unittest

from support import E2eCase, shared_data, tensors

UNIFORM = "head.sampling={method: uniform, ratio: 0.3}"


class RankInvariance(E2eCase):
    def curves(self, name, ranks, overrides, **options):
        curves = []
        for n in ranks:
            self.train(f"{name}{n}", n, overrides=overrides, **options)
            curves.append(self.losses(f"{name}{n}"))
        return curves

    def assert_same_run(self, name, ranks, overrides, steps, **options):
        """Losses to the rounding of doubles (they are summed over ranks), every stored tensor to the bit."""
        curves = self.curves(name, ranks, overrides + [f"train.steps={steps}"], **options)
        stored = tensors(self.checkpoint(f"{name}{ranks[0]}", steps))
        for n, curve in zip(ranks[1:], curves[1:]):
            self.assertEqual(len(curve), steps)
            self.assert_close(curves[0], curve, 1e-12)
            other = tensors(self.checkpoint(f"{name}{n}", steps))
            self.assertEqual([key for key in stored if stored[key] != other.get(key)], [], f"{n} ranks")

    def test_50_steps(self):
        # 31 samples divide by no number of ranks; in the second run the update waits for two micro-batches.
        self.assert_same_run("inv", (1, 2, 3, 4), [UNIFORM, "train.batch_size=31"], 50)
        self.assert_same_run("acc", (1, 3), ["train.batch_size=31", "train.accumulate=2", "model.dropout=0.2"], 20)

    def test_a_pipeline_is_its_micro_batches_one_after_another(self):
        """The same bits, also without exact sums, and the same bytes on the way."""
        for name, ranks, more in (("summed", 3, [UNIFORM]), ("inexact", 2, ["train.deterministic=false"])):
            overrides = ["train.batch_size=31", "train.steps=10", "model.dropout=0.2", "model.recompute=[layer1]", *more]
            self.train(name + "1", ranks, overrides=[*overrides, "train.accumulate=3"])
            self.train(name + "2", ranks, overrides=[*overrides, "train.pipeline=3"])
            self.assertEqual(self.losses(name + "1"), self.losses(name + "2"))
            one, other = (tensors(self.checkpoint(f"{name}{n}", 10)) for n in (1, 2))
            self.assertEqual([key for key in one if one[key] != other.get(key)], [])
            sent = [[m["comm_bytes"] for m in self.metrics(f"{name}{n}")] for n in (1, 2)]
            self.assertEqual(sent[0], sent[1])

    def test_groups_of_batch_norm(self):
        """As all ranks where a group is all of them; otherwise the same each time, and another curve."""
        exact = ["train.steps=10", "train.deterministic=true"]
        for name, ranks, norms in (("all2", 2, "true"), ("two2", 2, "2"), ("two4", 4, "2"), ("again4", 4, "2"),
                                   ("all4", 4, "true")):
            self.train(name, ranks, overrides=exact + [f"model.sync_batch_norm={norms}"])
        two, four = tensors(self.checkpoint("two2", 10)), tensors(self.checkpoint("two4", 10))
        self.assertEqual([k for k, v in tensors(self.checkpoint("all2", 10)).items() if two[k] != v], [])
        self.assertEqual([k for k, v in tensors(self.checkpoint("again4", 10)).items() if four[k] != v], [])
        self.assertNotEqual(self.losses("two4"), self.losses("all4"))
        self.assert_close(self.losses("two4")[:1], self.losses("all4")[:1], 0.1)
        for ranks, text in ((3, "model.sync_batch_norm: there are 3 ranks, which are not whole groups of 2"),
                            ("auto", "model.sync_batch_norm: there is 1 rank, which is no group of 2")):
            done = self.train("uneven", ranks, overrides=exact + ["model.sync_batch_norm=2"], fails=True)
            self.assertIn(text, done.stdout)

    def test_threads(self):
        for threads in (1, 2, 3):
            self.train(f"threads{threads}", overrides=["train.steps=20", f"train.threads={threads}"])
        first = tensors(self.checkpoint("threads1", 20))
        for threads in (2, 3):
            self.assertEqual(first, tensors(self.checkpoint(f"threads{threads}", 20)))

    def test_without_exact_sums(self):
        first, *others = self.curves("plain", (1, 2, 3), [UNIFORM, "train.steps=50", "train.batch_size=31",
                                                          "train.deterministic=false"])
        for other in others:
            self.assertNotEqual(first, other)  # or the tests above show nothing
            self.assert_close(first[:6], other[:6], 1e-4)
            self.assert_close(first, other, 5e-2)

    def test_resumes_to_the_bit_on_other_ranks(self):
        self.train("straight", 1, overrides=[UNIFORM, "train.steps=20"])
        for n, ranks in enumerate((3, 1, 2, 4)):
            done = self.train("hopping", ranks, overrides=[UNIFORM, "train.steps=20"] + (
                [f"checkpoint.every_steps=5", "checkpoint.keep=9"] if n == 0 else []))
            # Each goes on from step 5 (n + 1), as if the one before had stopped there.
            for step in range(5 * (n + 1) + 5, 21, 5):
                shutil.rmtree(self.checkpoint("hopping", step), ignore_errors=True)
            self.assertNotIn("not bit for bit", done.stdout)
        self.train("hopping", 5, overrides=[UNIFORM, "train.steps=20"])
        self.assertEqual(tensors(self.checkpoint("straight", 20)), tensors(self.checkpoint("hopping", 20)))

    def test_one_step_of_everything(self):
        # After one step of plain SGD from equal weights the momentum is gradient + decay * weight: all gradients.
        for n in (1, 2, 3, 5):
            self.train(f"one{n}", n, overrides=["train.steps=1", "train.batch_size=32", "train.clip_norm=none",
                                                "optimizer.weight_decay=0"])
        base = self.gradients("one1")
        largest = max(max(map(abs, values)) for values in base.values())
        for n in (2, 3, 5):
            self.assert_close(self.losses("one1"), self.losses(f"one{n}"), 1e-5)
            other = self.gradients(f"one{n}")
            self.assertEqual(sorted(base), sorted(other))
            for key in base:
                # 1e-5 of the tensor's largest gradient; where that is nothing but rounding (a shift in front of a batch
                # norm has none), 1e-7 of the network's.
                scale = max(max(map(abs, base[key])), 1e-2 * largest)
                worst = max(abs(p - q) for p, q in zip(base[key], other[key]))
                self.assertLessEqual(worst, 1e-5 * scale, key)

    def gradients(self, name):
        """{tensor: values} of the momentum after one step from nothing, which is the gradient."""
        stored = tensors(self.checkpoint(name, 1))
        return {k: array.array("f", v) for k, v in stored.items()
                if k.startswith("optimizer:") and "last_update" not in k}

    def test_gradients_sent_as_bf16(self):
        common = ["train.steps=12", "log.every_steps=1", "train.deterministic=false", "comm.bucket=64KiB"]
        self.train("full", 2, overrides=common)
        self.train("half", 2, overrides=common + ["comm.dtype=bf16", "checkpoint.every_steps=6", "checkpoint.keep=9"])
        full, half = self.metrics("full"), self.metrics("half")
        # Eight bits of each gradient: the first loss is the same, later ones are near, none after the first is equal.
        self.assertEqual(full[0]["loss"], half[0]["loss"])
        self.assertNotEqual(full[-1]["loss"], half[-1]["loss"])
        self.assert_close(self.losses("full"), self.losses("half"), 2e-2)
        # Half of what goes out for gradients, with statistics, embeddings and sums as before.
        weights = sum(len(v) for k, v in tensors(self.checkpoint("full", 12)).items()
                      if k.startswith("optimizer:momentum."))
        saved = full[-1]["comm_bytes"] - half[-1]["comm_bytes"]
        # With two ranks each sends half of every bucket and gets it back: 4 bytes an element, or 2. Tensors are padded
        # to 64 bytes.
        self.assertGreaterEqual(saved, 0.5 * weights)
        self.assertLess(saved, 0.6 * weights)
        for line in full + half:
            self.assertGreaterEqual(line["comm_exposed"], 0)
            self.assertLess(line["comm_exposed"], 1)
        # And a resume is exact.
        shutil.rmtree(self.checkpoint("half", 12))
        self.train("half", 2, overrides=common + ["comm.dtype=bf16", "checkpoint.keep=9"])
        self.assertEqual(half[-1]["loss"], self.metrics("half")[-1]["loss"])

    def test_a_trace(self):
        path = self.folder("trace.json")
        self.train("traced", 2, overrides=["train.steps=12", f"log.trace={path}", "log.trace_first=3", "log.trace_steps=4",
                                           "comm.bucket=64KiB"])
        with open(path) as f:
            events = json.load(f)["traceEvents"]
        for rank in (0, 1):
            mine = [e for e in events if e["pid"] == rank and e["ph"] == "X"]
            self.assertEqual(sum(e["name"] == "backward" for e in mine), 4)
            self.assertEqual([e["args"]["step"] for e in mine if e["name"] == "forward"], [4, 5, 6, 7])
            buckets = [e for e in mine if e["name"].startswith("gradient bucket")]
            self.assertGreater(len(buckets), 4)
            self.assertTrue(all(e["args"]["bytes"] > 0 for e in buckets))

    def test_one_rank_has_no_communication(self):
        self.train("alone", 1, overrides=["train.steps=2", "log.every_steps=1"])
        self.assertNotIn("comm_exposed", self.metrics("alone")[0])

    def test_more_ranks_than_classes(self):
        lines = "".join(f"{self.data}/train/{c}/{i}\t{k}\n" for k, c in enumerate(sorted(os.listdir(self.data + "/train"))[:2])
                        for i in sorted(os.listdir(f"{self.data}/train/{c}")))
        path = self.folder("two.txt")
        with open(path, "w") as f:
            f.write(lines)
        first, second = self.curves("few", (1, 3), ["train.steps=5", "train.batch_size=8", f"data.train={path}", "eval.sets=[]"])
        self.assert_close(first, second, 1e-4)

    def test_omniglot(self):
        archive = shared_data("omniglot.tar.xz")
        if archive is None:
            self.skipTest("Omniglot is not at hand (shared/data/omniglot.tar.xz)")
        with tarfile.open(archive) as tar:
            tar.extractall(self.folder("omniglot"), members=[m for m in tar if "background" in m.name])
        source = os.path.join(os.path.dirname(__file__), "../../configs/omniglot.yaml")
        common = [f"data.train={self.folder('omniglot')}/background", "model.sync_batch_norm=true", UNIFORM,
                  "train.epochs=8", "eval.sets=[]", "log.every_steps=1", "checkpoint.every_epochs=none"]
        self.assert_same_run("omni", (1, 2, 3, 4), common + ["train.batch_size=120"], 50, config=source)
        self.assert_same_run("odd", (1, 3, 5), common + ["train.batch_size=128"], 10, config=source)


if __name__ == "__main__":
    unittest.main(verbosity=2)
