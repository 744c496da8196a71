"""Gradients of which the largest elements alone are sent (comm.compress): bytes, checkpoints, and that training goes on."""
import json
import os
import shutil
import unittest

from support import E2eCase, tensors

EXCLUDE = 1000
COMMON = ["train.steps=12", "comm.bucket=64KiB", "schedule.warmup_steps=0", "schedule.base_lr=0.05"]


def topk(**keys):
    keys = {"method": "topk", "ratio": 0.01, "warmup_epochs": 0, "exclude": EXCLUDE, "intra_node": "none", **keys}
    return "comm.compress={" + ", ".join(f"{k}: {v}" for k, v in keys.items()) + "}"


class Compressed(E2eCase):
    def test_bytes(self):
        common = COMMON + ["train.deterministic=false", "train.steps=3"]
        self.train("dense", 2, overrides=common)
        self.train("sparse", 2, overrides=common + [topk(ratio=0.001)])
        stored = tensors(self.checkpoint("dense", 3))
        covered = [len(v) // 4 for k, v in stored.items() if k.startswith("optimizer:momentum.") and len(v) >= 4 * EXCLUDE]
        kept = {k for k in tensors(self.checkpoint("sparse", 3)) if ":unsent." in k}
        self.assertGreaterEqual(len(covered), 3)
        self.assertEqual(len(kept), len(covered))
        # Of two ranks each sends half of a sum and gets it back, 4 bytes an element; or its indices and values.
        whole, sent = 4 * sum(covered), 8 * sum(-(-n // 1000) for n in covered)
        saved = self.metrics("dense")[-1]["comm_bytes"] - self.metrics("sparse")[-1]["comm_bytes"]
        self.assertGreater(whole, 50 * (whole - saved))
        # Parts in the dense buckets end on 64 bytes.
        self.assertLess(abs(saved - (whole - sent)), 64 * (len(covered) + 2))

    def test_resume(self):
        # An epoch has 10 steps, the first of which send more: the checkpoint is in the second one.
        common = COMMON + ["checkpoint.every_steps=11", "checkpoint.keep=9", "optimizer.nesterov=true",
                           topk(warmup_epochs=1), "train.steps=22"]
        self.assertIn("sums       not exact with comm.compress:", self.train("run", 2, overrides=common).stdout)
        before, last = tensors(self.checkpoint("run", 22)), self.metrics("run")[-1]
        sent = [m["comm_bytes"] for m in self.metrics("run")]
        self.assertGreater(sent[8], sent[12])
        shutil.rmtree(self.checkpoint("run", 22))
        done = self.train("run", 2, overrides=common)
        self.assertIn("resuming", done.stdout)
        after = tensors(self.checkpoint("run", 22))
        self.assertEqual(sorted(before), sorted(after))
        self.assertEqual([k for k in before if before[k] != after[k]], [])
        self.assertEqual(last["loss"], self.metrics("run")[-1]["loss"])
        # It has learnt something, and goes on elsewhere.
        losses = self.losses("run")
        self.assertLess(sum(losses[-5:]), 0.9 * sum(losses[:5]))
        shutil.rmtree(self.checkpoint("run", 22))
        self.assertIn("is shared out evenly", self.train("run", 3, overrides=common).stdout)
        shutil.rmtree(self.checkpoint("run", 22))
        dense = [o for o in common if "compress" not in o]
        done = self.train("run", 2, overrides=dense)
        self.assertIn("what was not sent yet of its gradients is left", done.stdout)
        self.assertIn("comm.compress.method topk -> none", done.stdout)

    def test_summed_on_the_host(self):
        common = COMMON + ["train.clip_norm=2", "train.accumulate=2"]
        done = self.train("hosts", 4, overrides=common + [topk(intra_node="dense")])
        self.assertIn("all ranks are on one host", done.stdout)
        # One node's: as large as the weights, and what pads them.
        sizes = {k.split(":unsent.")[1]: len(v) for k, v in tensors(self.checkpoint("hosts", 12)).items() if ":unsent." in k}
        stored = tensors(self.checkpoint("hosts", 12))
        for name, size in sizes.items():
            self.assertLess(0, size)
            self.assertLess(size - len(stored["backbone:" + name]), 4 * 16 * 4)

    def test_lars_and_a_growing_batch(self):
        # All that FCCS has, and compressed gradients: the batch has grown to the double when epoch 2 ends.
        common = COMMON[1:] + ["optimizer={name: lars, trust: 0.1, head: {name: sgd}}",
                               "train.grow={factor: 2, from_epoch: 1, until_epoch: 2}", "train.epochs=3", "checkpoint.every_epochs=1", "checkpoint.keep=9", "eval.sets=[]",
                               "schedule={name: constant, base_lr: 0.05}", topk(warmup_epochs=1)]
        self.train("fccs", 2, overrides=common)
        lines = self.metrics("fccs")
        self.assertEqual(lines[-1]["batch"], 2 * lines[0]["batch"])
        self.assertLess(lines[-1]["comm_bytes"], lines[0]["comm_bytes"])
        self.assertLess(lines[-1]["loss"], 0.8 * lines[0]["loss"])
        last = lines[-1]["step"]
        before = tensors(self.checkpoint("fccs", last))
        shutil.rmtree(self.checkpoint("fccs", last))
        self.assertIn("resuming", self.train("fccs", 2, overrides=common).stdout)
        after = tensors(self.checkpoint("fccs", last))
        self.assertEqual(sorted(before), sorted(after))
        self.assertEqual([k for k in before if before[k] != after[k]], [])

    def test_the_trust_ratio_counts(self):
        # All weights are compressed, and norms and slopes have no ratio: `trust` can act on what is sent alone.
        common = COMMON + ["train.steps=3", topk(exclude=1)]
        losses = []
        for trust in (0.1, 0.3):
            self.train(f"trust{trust}", 2, overrides=common + [f"optimizer={{name: lars, trust: {trust}, head: {{name: sgd}}}}"])
            losses.append(self.losses(f"trust{trust}"))
        self.assertEqual(losses[0][0], losses[1][0])
        self.assertGreater(abs(losses[0][2] - losses[1][2]), 1e-3)

    def test_refused(self):
        for override, text in (("optimizer.name=adamw", "found topk with optimizer.name adamw, expected sgd or lars"),
                               ("train.deterministic=true", "found topk with train.deterministic true")):
            done = self.train("refused", 1, overrides=COMMON + [topk(), override], fails=True)
            self.assertIn(text, done.stdout)


if __name__ == "__main__":
    unittest.main()
