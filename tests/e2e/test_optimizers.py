"""AdamW, LARS and LAMB in whole runs: they learn, resume to the bit, and give the same weights on any number of ranks;
the average of the weights, which is evaluated where that is asked for."""
import os
import shutil
import unittest

from support import E2eCase, TRAIN, read_npy, run, tensors

# The head's rows are updated by SGD; its rate is the one of the plain configuration, .1.
OPTIMIZERS = {
    "sgd": [],
    "adamw": ["optimizer={name: adamw, weight_decay: .01, head: {name: sgd, lr: 50, weight_decay: 5e-4}}",
              "schedule.base_lr=.002"],
    "lars": ["optimizer={name: lars, trust: .02, head: {name: sgd, lr: .1}, norms: {lr: .1}}", "schedule.base_lr=1"],
    "lamb": ["optimizer={name: lamb, weight_decay: .01, epsilon: 1e-6, head: {name: sgd, lr: 20, weight_decay: 5e-4}, "
             "norms: {weight_decay: 0}}", "schedule.base_lr=.005"],
}
MOMENTS = {"sgd": {"momentum"}, "lars": {"momentum"}, "adamw": {"exp_avg", "exp_avg_sq"},
           "lamb": {"exp_avg", "exp_avg_sq"}}
EMA = ["train.ema={decay: .9, every: 2}", "eval.weights=ema"]


class Optimizers(E2eCase):
    def check(self, name):
        """40 steps straight on one rank, against 14 on three ranks and the rest on two: with exact sums, to the bit."""
        options = OPTIMIZERS[name] + EMA
        straight, pieces = name + "-straight", name + "-pieces"
        self.train(straight, 1, overrides=options)
        self.train(pieces, 3, overrides=options + ["checkpoint.every_steps=14", "checkpoint.keep=10"])
        shutil.rmtree(self.checkpoint(pieces, 40))
        shutil.rmtree(self.checkpoint(pieces, 28))
        done = self.train(pieces, 2, overrides=options)
        self.assertIn("step_00000014", done.stdout)
        a, b = tensors(self.checkpoint(straight, 40)), tensors(self.checkpoint(pieces, 40))
        self.assertEqual(sorted(a), sorted(b))
        self.assertEqual([key for key in a if a[key] != b[key]], [])
        moments = {key.split(":")[1].split(".")[0] for key in a if key.startswith("optimizer:") and key.count(".") > 1}
        self.assertEqual(moments, MOMENTS[name])
        # It learns: about 10 at the start (scale 16), and after 40 steps of 30 images well below.
        losses = self.losses(straight)
        first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
        self.assertLess(last, .8 * first, losses)
        self.assertEqual([len(self.losses(pieces)), len(self.metrics(pieces, "eval"))],
                         [40, len(self.metrics(straight, "eval"))])

    def test_sgd(self):
        self.check("sgd")

    def test_adamw(self):
        self.check("adamw")

    def test_lars(self):
        self.check("lars")

    def test_lamb(self):
        self.check("lamb")

    def test_clipping_with_the_head(self):
        """The norm is that of all gradients on any number of ranks, to the bit: it scales every weight's step."""
        options = ["train.clip_head=true", "train.clip_norm=.5", "train.batch_size=31", "train.steps=12",
                   "head.sampling={method: uniform, ratio: 0.3}"]
        for ranks in (1, 2, 3):
            self.train(f"clip{ranks}", ranks, overrides=options)
        first = tensors(self.checkpoint("clip1", 12))
        for ranks in (2, 3):
            other = tensors(self.checkpoint(f"clip{ranks}", 12))
            self.assertEqual([key for key in first if first[key] != other[key]], [])
        self.train("unclipped", overrides=options[1:])
        norms = [[m["grad_norm"] for m in self.metrics(name)] for name in ("clip1", "unclipped")]
        self.assertGreater(norms[0][0], norms[1][0])  # from the same weights; the head's is in the one
        self.assertGreater(min(norms[0]), .5)         # all of these steps are clipped

    def test_another_optimizers_checkpoint(self):
        self.train("mixed", overrides=["train.steps=3"])
        done = self.train("mixed", overrides=OPTIMIZERS["adamw"] + ["train.steps=5"], fails=True)
        self.assertIn("written by a run with optimizer.name sgd, expected adamw", done.stdout)
        self.assertIn("set optimizer.name: sgd, or train into another output folder", done.stdout)
        # What the message says works.
        self.train("taken", overrides=OPTIMIZERS["adamw"] + ["train.steps=5", f"init.from={self.checkpoint('mixed', 3)}"])
        self.assertEqual(len(self.losses("taken")), 5)


class AveragedWeights(E2eCase):
    def embed(self, checkpoint, output, *options):
        path = self.folder(output + ".npy")
        run([TRAIN, "embed", "--checkpoint", checkpoint, "--input", os.path.join(self.data, "verify"), "--output", path,
             *options])
        return read_npy(path)

    def test_raw_and_average(self):
        trained = self.train("kept", overrides=EMA + ["train.steps=10"])
        folder = self.checkpoint("kept", 10)
        stored = tensors(folder)
        raw = {k.split(":")[1]: v for k, v in stored.items() if k.startswith("backbone:")}
        average = {k.split(":")[1]: v for k, v in stored.items() if k.startswith("backbone_ema:")}
        self.assertEqual(sorted(raw), sorted(average))
        same = [k for k in raw if raw[k] == average[k]]
        self.assertEqual([k for k in same if not k.endswith("num_batches_tracked") and k != "features.weight"], [])
        # eval.weights is that of the training unless the command line says otherwise.
        default, ema = self.embed(folder, "default"), self.embed(folder, "ema", "--weights", "ema")
        plain = self.embed(folder, "raw", "--weights", "raw")
        self.assertEqual(default, ema)
        self.assertNotEqual(ema, plain)
        # The file of averages is one of weights, like any other.
        config = self.config("eval")
        of_file = run([TRAIN, "eval", "-c", config, "--checkpoint", folder + "/backbone_ema.safetensors"]).stdout
        of_folder = run([TRAIN, "eval", "-c", config, "--checkpoint", folder, "--weights", "ema"]).stdout
        self.assertIn("averaged weights", of_folder)
        result = [line.split("glyphs:")[1].split("%")[0] for line in (of_file + of_folder).splitlines() if "glyphs:" in line]
        self.assertEqual(len(result), 2)
        self.assertEqual(result[0], result[1])
        # The training's own evaluation was of the averages.
        self.assertIn("glyphs (averaged weights): accuracy ", trained.stdout)
        training = self.metrics("kept", "eval")[-1]
        self.assertEqual(training["weights"], "ema")
        self.assertIn(f"{100 * training['accuracy']:.2f}", result[0])

    def test_begins_with_the_weights_that_are_there(self):
        self.train("late", overrides=["train.steps=3"])
        folder = self.checkpoint("late", 3)
        done = run([TRAIN, "eval", "-c", self.config("late"), "--checkpoint", folder, "--weights", "ema"], fails=True)
        self.assertIn("holds no averaged weights", done.stdout)
        done = self.train("late", overrides=EMA + ["train.steps=6"])
        self.assertIn("the average begins with the weights that are in it", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
