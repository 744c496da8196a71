"""Classes that come, go, move and are renamed between two starts of a run, and between a run and one that takes its
weights: each class goes on with its own centre."""
import os
import shutil
import struct
import unittest

from support import LINEAR, E2eCase, tensors

COLUMNS = 32
# No step changes a centre: what a checkpoint holds is what was taken up, or drawn.
STILL = ["schedule.base_lr=1e-30", "optimizer.weight_decay=0"]
NO_EVAL = ["eval.sets=[]"]


class Classes(E2eCase):
    def setUp(self):
        self.classes = sorted(os.listdir(os.path.join(self.data, "train")))

    def source(self, name, classes):
        """A data folder with these classes: {name there: name in the data set}, or a list of both alike."""
        folder = self.folder(name)
        pairs = classes.items() if isinstance(classes, dict) else zip(classes, classes)
        for there, here in pairs:
            shutil.copytree(os.path.join(self.data, "train", here), os.path.join(folder, there))
        return folder

    def base(self, name, classes, ranks=1, options=()):
        train = self.source(name + "-data", classes)
        self.train(name, ranks, config=self.config(name, train=train),
                   overrides=NO_EVAL + ["train.steps=6", *options])

    def resume(self, name, data, steps, ranks=1, options=(), fails=False):
        return self.train(name, ranks, config=self.config(name, train=data), fails=fails,
                          overrides=NO_EVAL + STILL + [f"train.steps={steps}", *options]).stdout

    def rows(self, name, step, tensor="head:centers", width=4 * COLUMNS):
        """{class name: its row} of a checkpoint."""
        folder = self.checkpoint(name, step)
        whole = tensors(folder)[tensor]
        with open(os.path.join(folder, "classes.txt")) as f:
            names = [line.rstrip("\n").split("\t")[1] for line in f]
        return {n: whole[i * width:(i + 1) * width] for i, n in enumerate(names)}

    def check_rows(self, before, after, renamed=None):
        """Every class of `after` that was there before has its row, and new ones rows of their own."""
        new = []
        for name, row in after.items():
            old = (renamed or {}).get(name, name)
            if old in before:
                self.assertEqual(row, before[old], name)
            else:
                new.append(row)
        self.assertFalse(set(new) & set(before.values()))
        return len(new)

    def test_new_classes_between_others(self):
        for method, ranks in (("full", (2, 3)), ("uniform", (3, 2))):
            name = "came-" + method
            sampling = [f"head.sampling={{method: {method}, ratio: 0.4}}"] if method == "uniform" else []
            self.base(name, self.classes[5:20:2] + self.classes[21:30], ranks[0], sampling)
            data = self.source(name + "-more", self.classes[3:32])
            said = self.resume(name, data, 7, ranks[1], sampling)
            self.assertIn("17 classes -> 29: 12 new, 0 left out, 17 with another number (matched by name)", said)
            before, after = self.rows(name, 6), self.rows(name, 7)
            if method == "full":
                self.assertEqual(self.check_rows(before, after), 12)
                values = struct.unpack(f"<{COLUMNS}f", after[self.classes[3]])
                self.assertTrue(0.001 < max(map(abs, values)) < 0.1)  # drawn with a deviation of 0.01
            # What is owed to rows that lag is as it was; new ones owe nothing. And the run goes on from there.
            if method == "uniform":
                last = self.rows(name, 7, "optimizer:last_update", 8)
                self.assertTrue(all(struct.unpack("<q", row)[0] >= 6 for n, row in last.items() if n not in before))
            again = self.train(name, 1, config=self.config(name, train=data),
                               overrides=NO_EVAL + sampling + ["train.steps=20"]).stdout
            self.assertNotIn("classes changed", again)
            self.assertIn("complete", again)

    def test_a_linear_heads_classes_keep_their_biases(self):
        self.base("linear", self.classes[5:20], 2, LINEAR)
        self.resume("linear", self.source("linear-more", self.classes[3:20]), 7, 3, LINEAR)
        width = 4 * (COLUMNS + 8)
        before, after = self.rows("linear", 6, width=width), self.rows("linear", 7, width=width)
        self.assertEqual(self.check_rows(before, after), 2)
        bias = {name: struct.unpack_from("<f", row, 4 * COLUMNS)[0] for name, row in after.items()}
        for name, value in bias.items():
            self.assertEqual(abs(value) > 1e-20, name in before, f"{name}: {value}")  # a new one has taken one still step

    def test_renamed_and_left_out(self):
        first, second, third, *others = self.classes[:12]
        self.base("map", [first, second, third, *others])
        # The first two have changed names, the third is gone: the same file at both starts, applied once.
        data = self.source("map-data2", {first: second, second: first, **{n: n for n in others}})
        mapping = self.folder("map.tsv")
        with open(mapping, "w") as f:
            f.write(f"{first}\t{second}\n{second}\t{first}\n")
        said = self.resume("map", data, 7, options=[f"head.class_map={mapping}"], fails=True)
        self.assertIn(f"1 class(es) that this run does not have: '{third}'", said)
        with open(mapping, "a") as f:
            f.write(f"{third}\t-\n")
        said = self.resume("map", data, 7, options=[f"head.class_map={mapping}"])
        self.assertIn("12 classes -> 11: 0 new, 1 left out", said)
        swapped = {first: second, second: first}
        self.assertEqual(self.check_rows(self.rows("map", 6), self.rows("map", 7), swapped), 0)
        self.assertNotIn("classes changed", self.resume("map", data, 8, options=[f"head.class_map={mapping}"]))
        self.assertEqual(self.rows("map", 7), self.rows("map", 8))

    def test_a_mapping_without_a_checkpoint_is_told(self):
        data = self.source("fresh-map", self.classes[:12])
        mapping = self.folder("unused.tsv")
        with open(mapping, "w") as f:
            f.write("a\tb\n")
        said = self.resume("fresh", data, 1, options=[f"head.class_map={mapping}"])
        self.assertIn("unused.tsv is not used: there is no checkpoint to go on from", said)

    def test_unused_places_behind_the_classes(self):
        self.base("places", self.classes[:12])
        data = self.source("places-more", self.classes[:12])
        said = self.resume("places", data, 7, ranks=2, options=["head.classes=20"])
        self.assertIn("12 classes -> 20: 8 new, 0 left out, 0 with another number", said)
        self.assertEqual(self.check_rows(self.rows("places", 6), self.rows("places", 7)), 0)

    def test_lost_classes_end_the_start(self):
        self.base("lost", self.classes[:12])
        data = self.source("lost-data2", self.classes[4:16])
        said = self.resume("lost", data, 7, ranks=2, fails=True)
        self.assertIn("4 class(es)", said)
        self.assertIn("head.class_map", said)
        self.assertEqual(os.listdir(os.path.join(self.folder("lost"), "checkpoints")).count("step_00000006"), 1)

    def test_init_takes_the_classes_that_it_knows(self):
        self.base("from", self.classes[:12], 2)
        data = self.source("init-data", self.classes[8:20])
        init = [f"init.from={self.checkpoint('from', 6)}", "train.steps=1"]
        said = self.resume("init", data, 1, ranks=3, options=init)
        self.assertIn("12 classes -> 12: 8 new, 8 left out, 4 with another number", said)
        self.assertEqual(self.check_rows(self.rows("from", 6), self.rows("init", 1)), 8)
        other = self.source("init-other", self.classes[20:32])
        said = self.resume("init2", other, 1, options=init)
        self.assertIn("start at random: it has none of this run's classes", said)
        said = self.resume("init3", other, 1, options=init + ["init.head=true"], fails=True)
        self.assertIn("init.head is true", said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
