"""Sampling by the class graph (head.sampling.method knn): the same on any number of ranks, resumed to the bit before and
behind the first graph, left where the classes are others, probed, and refused where it cannot be."""
import os
import random
import shutil
import sys
import tempfile
import unittest

from support import BIN, LINEAR, E2eCase, run, tensors

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/bench")

# An epoch has 10 steps, the warm-up 5; 40 classes, of which some 21 are in a batch, and 32 take part.
KNN = ["head.sampling={method: knn, active: 32, neighbours: 5, rebuild: {every_epochs: .6}}"]
BUILDS = [5, 11, 17]
NO_EVAL = ["eval.sets=[]"]


class Knn(E2eCase):
    def events(self, name):
        """(step, event) of what was done with the graph."""
        return [(m["step"], m["event"]) for m in self.metrics(name, "graph")]

    def built(self, name):
        return [step for step, event in self.events(name) if event == "built"]

    def assert_same_tensors(self, a, b, step):
        a, b = tensors(self.checkpoint(a, step)), tensors(self.checkpoint(b, step))
        self.assertEqual(a.keys(), b.keys())
        self.assertEqual([name for name in a if a[name] != b[name]], [])

    def test_the_same_on_any_number_of_ranks(self):
        for ranks in (1, 2, 3):
            out = self.train(f"ranks{ranks}", ranks, overrides=KNN + NO_EVAL + ["train.steps=20", "train.batch_size=31"])
            self.assertIn("knn sampling of 32 classes, 5 neighbours", out.stdout)
            self.assertIn("sampling is uniform up to step 5", out.stdout)
            self.assertEqual(out.stdout.count("class graph built in "), len(BUILDS))
            self.assertEqual(self.built(f"ranks{ranks}"), BUILDS)
        first = self.losses("ranks1")
        for ranks in (2, 3):
            self.assert_close(first, self.losses(f"ranks{ranks}"), 1e-12)
            self.assert_same_tensors("ranks1", f"ranks{ranks}", 20)
        self.assertIn("optimizer:neighbours", tensors(self.checkpoint("ranks1", 20)))
        ages = [m.get("graph_age") for m in self.metrics("ranks1")]
        self.assertEqual(ages[:8], [None] * 5 + [1, 2, 3])
        self.assertEqual(ages[10:13], [6, 1, 2])
        for line in self.metrics("ranks1", "graph"):
            self.assertEqual(line["recall"] is None, line["step"] == 5)

    def test_begins_as_uniform(self):
        self.train("knn", overrides=KNN + NO_EVAL + ["train.steps=8"])
        self.train("uniform", overrides=NO_EVAL + ["train.steps=8", "head.sampling={method: uniform, ratio: .8}"])
        knn, uniform = self.losses("knn"), self.losses("uniform")
        self.assertEqual(knn[:5], uniform[:5])
        self.assertNotEqual(knn[5], uniform[5])  # the graph is in use from the step behind the warm-up

    def check_resumes(self, name, steps, ranks, overrides):
        """20 steps straight against a run that stops at each of `steps`, on the next of `ranks` each time."""
        options = KNN + NO_EVAL + ["train.steps=20", "checkpoint.keep=30"] + overrides
        self.train(name, ranks[0], overrides=options)
        cut = name + "-cut"
        for part, step in enumerate(steps):
            every = ["checkpoint.every_steps=1"]
            out = self.train(cut, ranks[part % len(ranks)], overrides=options + every).stdout
            for later in range(step + 1, 21):
                shutil.rmtree(self.checkpoint(cut, later), ignore_errors=True)
            if part > 0:
                self.assertIn(f"step_{steps[part - 1]:08d}", out)
        self.train(cut, ranks[len(steps) % len(ranks)], overrides=options)
        self.assert_same_tensors(name, cut, 20)
        self.assert_close(self.losses(name), self.losses(cut), 1e-12)
        self.assertEqual(self.built(cut), BUILDS)

    def test_resumes_to_the_bit(self):
        # Before the first graph, where it is built, between two, and where the next one is.
        self.check_resumes("resumed", (3, 5, 8, 11), (1, 2, 3), [])

    def test_resumes_to_the_bit_lazily_in_host_memory_with_accumulation(self):
        self.check_resumes("lazy", (6, 17), (2,), ["head.update=lazy", "train.accumulate=2", "head.store.tier=host",
                                                   "head.store.dtype=bf16"])

    def test_takes_over_from_uniform_where_the_graph_is_due(self):
        """What has not been done when a run goes on is done before its first step."""
        options = NO_EVAL + ["train.steps=20", "checkpoint.every_steps=5", "checkpoint.keep=9"]
        self.train("straight", overrides=options + KNN)
        self.train("over", 2, overrides=options + ["head.sampling={method: uniform, active: 32}"])
        for step in (10, 15, 20):
            shutil.rmtree(self.checkpoint("over", step))
        out = self.train("over", 3, overrides=options + KNN).stdout
        self.assertIn("head.sampling.method uniform -> knn", out)
        self.assertEqual(self.built("over"), BUILDS)
        self.assert_same_tensors("straight", "over", 20)

    def test_probes(self):
        options = NO_EVAL + ["train.steps=20", "head.sampling={method: knn, active: 32, neighbours: 5}"]
        self.train("pass", 2, overrides=options + ["head.sampling.rebuild.probe_recall=.001"])
        self.assertEqual(self.events("pass"), [(5, "built")] + [(step, "probed") for step in (8, 11, 14, 17)])
        self.train("fail", 2, overrides=options + ["head.sampling.rebuild.probe_recall=1"])
        found = self.metrics("fail", "graph")
        fails = [m["step"] for m in found if m["event"] == "probed" and m["recall"] < 1]
        self.assertEqual(self.built("fail"), [5] + fails)
        self.assertGreater(len(fails), 0)
        self.train("alone", 1, overrides=options + ["head.sampling.rebuild.probe_recall=1"])
        self.assertEqual(self.events("fail"), self.events("alone"))
        self.assert_same_tensors("fail", "alone", 20)

    def test_other_classes_leave_the_graph(self):
        classes = sorted(os.listdir(os.path.join(self.data, "train")))
        folders = {}
        for name, kept in (("few", classes[:20]), ("more", classes[:24])):
            folders[name] = self.folder(name + "-data")
            for one in kept:
                shutil.copytree(os.path.join(self.data, "train", one), os.path.join(folders[name], one))
        def options(steps):
            return NO_EVAL + [f"train.steps={steps}", "schedule.warmup_steps=3", "head.sampling="
                              "{method: knn, ratio: .9, neighbours: 5, rebuild: {every_epochs: 1}}"]
        self.train("classes", 2, config=self.config("classes", train=folders["few"]), overrides=options(6))
        self.assertEqual(self.built("classes"), [3])  # an epoch has 5 steps
        out = self.train("classes", 2, config=self.config("classes", train=folders["more"]), overrides=options(16)).stdout
        self.assertIn("20 classes -> 24: 4 new", out)
        self.assertIn("is left: it is of other classes", out)
        self.assertIn("none yet: it is built before the first step", out)
        self.assertEqual(self.built("classes"), [3, 6, 9, 15])  # an epoch has 6 steps now

    def test_more_neighbours_leave_the_graph(self):
        never = ["head.sampling.rebuild.every_epochs=none"]
        self.train("more", overrides=KNN + NO_EVAL + never + ["train.steps=8"])
        out = self.train("more", 2, overrides=KNN + NO_EVAL + never + ["train.steps=14", "head.sampling.neighbours=6"]).stdout
        self.assertIn("is of (40, 5) (classes, neighbours), expected (40, 6) or wider", out)
        self.assertIn("head.sampling.neighbours 5 -> 6", out)
        self.assertEqual(self.built("more"), [5, 8])  # not a step without one

    def test_fewer_neighbours_take_the_graph(self):
        """Up to its first graph, and while that is in use, the run is that of the fewer neighbours."""
        options = KNN + NO_EVAL + ["train.steps=14", "checkpoint.every_steps=5", "checkpoint.keep=9"]
        self.train("narrow", overrides=options + ["head.sampling.neighbours=3"])
        self.train("wide", 2, overrides=options)
        for step in (10, 14):
            shutil.rmtree(self.checkpoint("wide", step))
        out = self.train("wide", 3, overrides=options + ["head.sampling.neighbours=3"]).stdout
        self.assertIn("head.sampling.neighbours 5 -> 3", out)
        self.assertIn("at the start that which was built at step 5", out)
        self.assertEqual(self.built("wide"), [5, 11])
        self.assert_same_tensors("narrow", "wide", 14)

    def test_a_batch_that_fills_the_step(self):
        few = ["head.sampling={method: knn, active: 8, neighbours: 5}"]
        out = self.train("filled", overrides=few + NO_EVAL + ["train.steps=1"]).stdout
        self.assertIn("8 of 40 classes are to take part in a step, which the labels of a batch of ", out)
        out = self.train("room", overrides=KNN + NO_EVAL + ["train.steps=1"]).stdout
        self.assertNotIn("are to take part", out)

    def test_a_run_that_ends_before_the_first_graph(self):
        out = self.train("short", overrides=KNN + NO_EVAL + ["train.steps=4"]).stdout
        self.assertIn("none in this run", out)
        self.assertEqual(self.events("short"), [])
        self.assertNotIn("optimizer:neighbours", tensors(self.checkpoint("short", 4)))

    def test_refusals(self):
        for overrides, texts in (
                (LINEAR, ("head.sampling.method: found knn with head.kind linear", "full or uniform")),
                (["head.sampling.active=41"], ("head.sampling.active: found 41", "at most the number of classes, 40")),
                (["head.classes=1500000000"], ("the class graph of 1500000000 classes", "of class centres and their momentum")),
                (["head.sampling.neighbours=751"], ("head.sampling.neighbours: found '751', expected a whole number from 1 to 750",))):
            out = self.train("refused", 2, overrides=KNN + NO_EVAL + overrides, fails=True).stdout
            for text in texts:
                self.assertIn(text, out)
            self.assertFalse(os.path.exists(self.folder("refused/metrics.jsonl")))

    def test_the_table_of_accuracies(self):
        """scripts/bench/sampling_accuracy.py: three tiny runs, none of which comes twice."""
        command = [sys.executable, os.path.join(BENCH, "sampling_accuracy.py"), "--out", self.folder("table"), "--bin", BIN,
                   "--small", "--sets", "glyphs", "--ratios", ".1", "--seeds", "1", "-o", "train.epochs=.3"]
        out = run(command).stdout
        for text in ("[1/3] glyphs, full, seed 1: top-1", "[3/3]", "| glyphs | full | 1 |", "| glyphs | knn 10 % | 1 |"):
            self.assertIn(text, out)
        again = run(command).stdout
        self.assertNotIn("/3]", again)
        self.assertTrue(out.endswith(again))  # the table alone


class Pictures(unittest.TestCase):
    def test_pictures_of_one_bit(self):
        sys.path.insert(0, BENCH)
        import bit_png
        draw = random.Random(3)
        rows = ["".join(draw.choice("01") for _ in range(21)) for _ in range(10)]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = os.path.join(folder.name, "bits.png")
        bit_png.write(path, rows)
        self.assertEqual(bit_png.read(path), rows)
        turned = bit_png.turned(rows)
        self.assertEqual((len(turned), turned[0][0], turned[0][-1]), (21, rows[-1][0], rows[0][0]))
        self.assertEqual(bit_png.turned(bit_png.turned(bit_png.turned(turned))), rows)
        with open(path, "r+b") as f:
            f.seek(24)
            f.write(b"\x08")  # bits a pixel
        with self.assertRaisesRegex(ValueError, "depth 8"):
            bit_png.read(path)
        # Each of PNG's filters, put on by its definition.
        lines = [bytes(draw.randrange(256) for _ in range(5)) for _ in range(5)]
        raw = b""
        for kind, (line, above) in enumerate(zip(lines, [bytes(5)] + lines)):
            raw += bytes([kind])
            for x in range(5):
                left, up, corner = line[x - 1] if x else 0, above[x], above[x - 1] if x else 0
                paeth = min((left, up, corner), key=lambda c: abs(left + up - corner - c))
                raw += bytes([(line[x] - (0, left, up, (left + up) // 2, paeth)[kind]) & 255])
        self.assertEqual(bit_png.unfiltered(raw, 5, 5, "x"), lines)


if __name__ == "__main__":
    unittest.main(verbosity=2)
