"""Resuming: bit-exact on the same ranks, possible on any number of them, and always from a whole checkpoint."""
import os
import shutil
import unittest

from support import E2eCase, tensors

UNIFORM = ["head.sampling={method: uniform, ratio: 0.3}"]


def damage(path):
    """One bit of the last bytes, as a disk does it: the length stays."""
    with open(path, "r+b") as f:
        f.seek(-5, os.SEEK_END)
        byte = f.read(1)[0]
        f.seek(-5, os.SEEK_END)
        f.write(bytes([byte ^ 1]))


class Resume(E2eCase):
    def check_bit_exact(self, name, ranks, overrides):
        """40 steps straight, with other checkpoints on the way, against 20, a new process, and 20 more."""
        straight, halves = name + "-straight", name + "-halves"
        self.train(straight, ranks, overrides=overrides + ["checkpoint.every_steps=7", "checkpoint.keep=10"])
        self.train(halves, ranks, overrides=overrides + ["checkpoint.every_steps=20", "checkpoint.keep=10"])
        shutil.rmtree(self.checkpoint(halves, 40))
        done = self.train(halves, ranks, overrides=overrides)
        self.assertIn("step_00000020", done.stdout)
        a, b = tensors(self.checkpoint(straight, 40)), tensors(self.checkpoint(halves, 40))
        self.assertEqual(sorted(a), sorted(b))
        for key in a:
            self.assertEqual(a[key], b[key], key)
        self.assertEqual(self.losses(straight), self.losses(halves))

    def test_bit_exact_one_rank(self):
        self.check_bit_exact("one", 1, [])

    def test_bit_exact_two_ranks_sampled(self):
        self.check_bit_exact("two", 2, UNIFORM)

    def test_bit_exact_two_ranks_sampled_lazily_with_accumulation(self):
        self.check_bit_exact("lazy", 2, UNIFORM + ["head.update=lazy", "train.accumulate=2", "model.dropout=0.2",
                                                   "model.sync_batch_norm=false"])

    def test_bit_exact_two_ranks_in_host_memory_as_a_pipeline(self):
        self.check_bit_exact("host", 2, UNIFORM + ["head.store={tier: host, dtype: bf16, momentum: bf16}",
                                                   "train.pipeline=3", "train.clip_head=true", "train.ema.decay=.9"])

    def test_three_ranks_resume_on_any(self):
        self.train("three", 3, overrides=UNIFORM + ["train.steps=10"])
        for ranks in (1, 2, 5):
            name = f"on{ranks}"
            shutil.copytree(self.folder("three"), self.folder(name))
            self.train(name, ranks, overrides=UNIFORM + ["train.steps=14"])
            losses = self.losses(name)
            self.assertEqual(len(losses), 14)
            if ranks == 1:
                first = losses
            self.assert_close(first, losses, 1e-12)  # exact sums (test_ranks.py)

    def test_says_what_has_changed(self):
        self.train("changed", overrides=["train.steps=2"])
        done = self.train("changed", overrides=["train.steps=3", "head.scale=17"])
        self.assertIn("head.scale 16 -> 17", done.stdout)

    def test_what_is_recomputed_may_change(self):
        """It is no change of the training: 40 steps straight, and 20 and 20 with blocks computed again."""
        self.train("kept", 2, overrides=["model.dropout=0.2", "checkpoint.every_steps=20", "checkpoint.keep=10"])
        shutil.copytree(self.folder("kept"), self.folder("mixed"))
        shutil.rmtree(self.checkpoint("mixed", 40))
        done = self.train("mixed", 2, overrides=["model.dropout=0.2", "model.recompute=all"])
        self.assertIn("step_00000020", done.stdout)
        self.assertNotIn("model.recompute", done.stdout)
        a, b = tensors(self.checkpoint("kept", 40)), tensors(self.checkpoint("mixed", 40))
        self.assertEqual(sorted(a), sorted(b))
        self.assertEqual([name for name in a if a[name] != b[name]], [])
        self.assertEqual(self.losses("kept"), self.losses("mixed"))

    def test_takes_the_newest_whole_checkpoint(self):
        self.train("broken", overrides=["checkpoint.every_steps=10", "checkpoint.keep=10", "train.steps=30"])
        os.remove(os.path.join(self.checkpoint("broken", 30), "manifest.json"))
        done = self.train("broken", overrides=["train.steps=30"])
        self.assertIn("step_00000020", done.stdout)
        self.assertEqual(len(self.losses("broken")), 30)

    def test_damage_that_only_reading_finds(self):
        """A changed byte in what one rank reads: all of them go on from the checkpoint before, as if there were no other."""
        options = UNIFORM + ["checkpoint.keep=2", "eval.sets=[]"]
        self.train("older", 2, overrides=options + ["train.steps=4"])
        options.append("train.ema.decay=.9")  # which only the newer one has
        self.train("older", 2, overrides=options + ["train.steps=8"])
        shutil.copytree(self.folder("older"), self.folder("alone"))
        shutil.rmtree(self.checkpoint("alone", 8))
        options.append("train.steps=10")
        self.train("alone", 2, overrides=options)
        expected = tensors(self.checkpoint("alone", 10))
        # The first and the last that are read, and what the second rank alone reads between them.
        for file in ("classes.txt", "head.00001-of-00002.safetensors", "backbone_ema.safetensors"):
            name = "damaged-" + file.split(".")[0]
            shutil.copytree(self.folder("older"), self.folder(name))
            damage(os.path.join(self.checkpoint(name, 8), file))
            out = self.train(name, 2, overrides=options).stdout
            for words in (f"{self.checkpoint(name, 8)}/{file}: damaged in block 0", "resuming from " + self.checkpoint(name, 4),
                          f"delete it, or mend it from a backup and go on from it with --resume {self.folder(name)}"
                          "/checkpoints/set_aside/step_00000008"):
                self.assertIn(words, out)
            found = tensors(self.checkpoint(name, 10))
            self.assertEqual(sorted(found), sorted(expected))
            self.assertEqual([key for key in found if found[key] != expected[key]], [])
            self.assertEqual(self.losses(name), self.losses("alone"))
            # It has not counted as one of those that are kept.
            self.assertEqual(sorted(n for n in os.listdir(self.folder(name + "/checkpoints")) if n.startswith("s")),
                             ["set_aside", "step_00000004", "step_00000010"])
            self.assertEqual(os.listdir(self.folder(name + "/checkpoints/set_aside")), ["step_00000008"])

    def test_damage_in_every_checkpoint_or_in_the_one_that_is_named(self):
        options = ["checkpoint.every_steps=2", "eval.sets=[]"]
        self.train("all", 2, overrides=options + ["train.steps=4"])
        damage(os.path.join(self.checkpoint("all", 4), "head.00001-of-00002.safetensors"))
        names = sorted(os.listdir(self.folder("all/checkpoints")))
        options.append("train.steps=6")
        out = self.train("all", 2, overrides=options, resume=self.checkpoint("all", 4), fails=True).stdout
        self.assertEqual(out.count("damaged in block 0"), 1, out)
        self.assertEqual(out.count("error:"), 1, out)
        damage(os.path.join(self.checkpoint("all", 2), "optimizer.safetensors"))
        out = self.train("all", 2, overrides=options, fails=True).stdout
        self.assertEqual(out.count("error:"), 1, out)
        self.assertEqual(out.count("hint:"), 1, out)
        for words in ("holds 2 checkpoint(s), and none can be used; the newest: ", "--resume none"):
            self.assertIn(words, out)
        self.assertEqual(sorted(os.listdir(self.folder("all/checkpoints"))), names)

    def test_explicit_folder_and_none(self):
        self.train("explicit", overrides=["checkpoint.every_steps=10", "checkpoint.keep=10", "train.steps=30"])
        done = self.train("explicit", overrides=["train.steps=30"], resume=self.checkpoint("explicit", 10))
        self.assertIn("step_00000010", done.stdout)
        self.assertEqual(len(self.losses("explicit")), 30)
        self.train("explicit", overrides=["train.steps=5"], resume="none")
        self.assertEqual(len(self.losses("explicit")), 5)
        self.assertTrue(os.path.isdir(self.folder("explicit/checkpoints.1")))


    def test_a_bad_sample_costs_no_step_that_is_done(self):
        """What is wrong with the samples of a step comes after the step before it is saved and noted."""
        bad = self.folder("bad_data")
        shutil.copytree(os.path.join(self.data, "train"), bad)
        first_class = sorted(os.listdir(bad))[0]
        image = os.path.join(bad, first_class, sorted(os.listdir(os.path.join(bad, first_class)))[0])
        with open(image, "w") as f:
            f.write("no image")
        config = self.config("bad", train=bad)
        options = ["checkpoint.every_steps=1", "checkpoint.keep=50", "eval.sets=[]", "train.steps=10"]
        self.train("bad", config=config, overrides=options, fails=True)
        done = len(self.metrics("bad"))
        self.assertGreater(done, 0, "the bad image came in the first step: another seed")
        self.assertTrue(os.path.exists(self.checkpoint("bad", done)))
        # The next step, and none before it, has the bad image.
        out = self.train("again", config=self.config("again", train=bad), overrides=options[:-1] + [f"train.steps={done}"])
        self.assertIn("complete", out.stdout)
        self.train("once_more", config=self.config("once_more", train=bad),
                   overrides=options[:-1] + [f"train.steps={done + 1}"], fails=True)


if __name__ == "__main__":
    unittest.main(verbosity=2)
