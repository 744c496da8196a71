"""A batch that grows (train.grow): the same run on any number of ranks and when it goes on from a checkpoint, to the bit;
what is said in epochs stays so; the configuration's mistakes."""
import json
import os
import shutil
import unittest

from support import E2eCase, TRAIN, run, tensors

# 320 images: 20 steps in the first epoch, most of 12 images; 6 of 48 in the last.
GROWING = ["train.batch_size=12", "train.steps=none", "train.epochs=3", "train.grow={factor: 4, from_epoch: .5, until_epoch: 2}",
           "optimizer={name: lars, trust: .02}", "schedule={name: constant, base_lr: .2, warmup_steps: 0, warmup_epochs: .5}"]
EACH = ["checkpoint.every_epochs=1", "checkpoint.keep=9", "eval.every_epochs=2", "eval.at_end=false"]


class Growing(E2eCase):
    def images(self):
        return sum(len(files) for _, _, files in os.walk(os.path.join(self.data, "train")))

    def saved(self, name):
        return sorted(int(s[5:]) for s in os.listdir(os.path.join(self.folder(name), "checkpoints")) if s[:5] == "step_")

    def test_on_any_ranks_and_resumed_to_the_bit(self):
        done = self.train("one", 1, overrides=GROWING + EACH)
        self.assertIn("and grows to 48, in 4 passes, from epoch 0.5 to 2", done.stdout)
        lines = self.metrics("one")
        batches = [m["batch"] for m in lines]
        self.assertEqual(sorted(set(batches)), [12, 24, 36, 48])
        self.assertEqual(batches, sorted(batches))
        # Whole epochs, each of all images but what is less than a batch.
        images = self.images()
        ends = [i for i, m in enumerate(lines) if m["epoch"] == int(m["epoch"])]
        self.assertEqual([lines[i]["epoch"] for i in ends], [1, 2, 3])
        self.assertEqual(ends[-1], len(lines) - 1)
        for begin, end in zip([-1] + ends, ends):
            used = sum(batches[begin + 1:end + 1])
            following = batches[min(end + 1, len(batches) - 1)]
            self.assertLessEqual(used, images)
            self.assertGreater(used + following, images)
        self.assertEqual(self.saved("one"), [i + 1 for i in ends])
        self.assertEqual([m["step"] for m in self.metrics("one", "eval")], [ends[1] + 1])
        self.assertIn("the batch has grown", run([TRAIN, "inspect", "--checkpoint", self.checkpoint("one", ends[1] + 1)]).stdout)

        last = ends[-1] + 1
        expected = tensors(self.checkpoint("one", last))
        self.train("three", 3, overrides=GROWING + EACH)
        self.assert_close(self.losses("one"), self.losses("three"), 1e-12)  # exact sums (test_ranks.py)
        self.assertEqual(tensors(self.checkpoint("three", last)), expected)
        # Behind the first epoch, within the growth, and on other ranks.
        shutil.copytree(self.folder("three"), self.folder("resumed"))
        for end in ends[1:]:
            shutil.rmtree(self.checkpoint("resumed", end + 1))
        done = self.train("resumed", 2, overrides=GROWING + EACH)
        self.assertIn(f"step {ends[0] + 1} of {last}", done.stdout)
        self.assertNotIn("counted anew", done.stdout)
        self.assertEqual(tensors(self.checkpoint("resumed", last)), expected)
        self.assertEqual([m["batch"] for m in self.metrics("resumed")], batches)

    def test_another_growth_is_told(self):
        self.train("changed", overrides=GROWING + ["train.epochs=1", "eval.sets=[]"])
        done = self.train("changed", overrides=GROWING + ["train.epochs=2", "train.grow.factor=9", "eval.sets=[]"])
        self.assertIn("the batch grows otherwise now", done.stdout)
        self.assertIn("train.grow.factor 4 -> 9", done.stdout)

    def test_too_few_images_and_the_plan(self):
        few = GROWING + [f"train.grow.factor={self.images() // 12 + 1}"]
        done = self.train("few", overrides=few, fails=True)
        self.assertIn("fewer than one global batch", done.stdout)
        self.assertIn("lower train.grow.factor", done.stdout)
        plan = [TRAIN, "plan", "-c", self.config("planned")]
        options = [word for o in GROWING for word in ("-o", o)]
        self.assertIn("48 images a step at the end, where the batch is 4 times as large as at first",
                      run(plan + options).stdout)
        # The same as a batch that is so large from the start.
        stays = [word for o in GROWING if "grow" not in o for word in ("-o", o)]
        grown = json.loads(run(plan + ["--json"] + options).stdout)
        large = json.loads(run(plan + ["--json"] + stays + ["-o", "train.batch_size=48", "-o", "train.accumulate=4"]).stdout)
        for key in ("images", "counted", "kept", "moment", "memory", "phases"):
            self.assertEqual(grown[key], large[key], key)
        self.assertEqual(grown["images"], 48)


if __name__ == "__main__":
    unittest.main(verbosity=2)
