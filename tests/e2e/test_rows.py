"""Class centres that are updated by LARS, AdamW and LAMB: whole trainings with all and with sampled ones, resumed on the
same ranks and on others, evaluated, and taken up by another optimizer."""
import os
import shutil
import unittest

from support import LINEAR, TRAIN, E2eCase, run, tensors

UNIFORM = "head.sampling={method: uniform, ratio: 0.3}"
LAZY = "head.update=lazy"
# The rates of the schedule are SGD's: AdamW's and LAMB's are a tenth of them, of LARS the ratio is larger than by default.
BY = {
    "lars": ["optimizer.head={name: lars}", "optimizer.trust=0.02"],
    "adamw": ["optimizer.head={name: adamw, lr: 0.1, weight_decay: 0.05}"],
    "lamb": ["optimizer.head={name: lamb, lr: 0.1}"],
}
BF16 = "head.store={tier: host, dtype: bf16, momentum: bf16}"


class Rows(E2eCase):
    def test_trains_all_classes_and_sampled_ones(self):
        for name, options in BY.items():
            for head, more in {"full": [], "sampled": [UNIFORM, LAZY], "linear": LINEAR}.items():
                with self.subTest(optimizer=name, head=head):
                    folder = f"{name}-{head}"
                    self.train(folder, overrides=options + more)
                    losses = self.losses(folder)
                    self.assertEqual(len(losses), 40)
                    # A margin's loss begins far above ln 40, and falls fast; a linear head's begins there.
                    self.assertLess(sum(losses[-5:]), (0.98 if head == "linear" else 0.8) * sum(losses[:5]))
                    stored = tensors(self.checkpoint(folder, 40))
                    second = stored.get("optimizer:second_moment", b"")
                    self.assertEqual(len(second), 0 if name == "lars" else 40 * 4)

    def check_resume(self, name, ranks, options):
        """40 steps straight against 20, a new process, and 20 more."""
        straight, halves = name + "-straight", name + "-halves"
        self.train(straight, ranks, overrides=options + ["checkpoint.every_steps=7", "checkpoint.keep=10"])
        self.train(halves, ranks, overrides=options + ["checkpoint.every_steps=20", "checkpoint.keep=10"])
        shutil.rmtree(self.checkpoint(halves, 40))
        self.assertIn("step_00000020", self.train(halves, ranks, overrides=options).stdout)
        a, b = tensors(self.checkpoint(straight, 40)), tensors(self.checkpoint(halves, 40))
        self.assertEqual(sorted(a), sorted(b))
        for key in a:
            self.assertEqual(a[key], b[key], key)
        self.assertEqual(self.losses(straight), self.losses(halves))

    def test_a_resume_is_exact(self):
        for name, ranks, more in [("lars", 2, [UNIFORM]), ("adamw", 2, [UNIFORM]), ("adamw", 1, [UNIFORM, BF16]),
                                  ("lamb", 2, [UNIFORM, LAZY]), ("adamw", 2, ["train.accumulate=2",
                                                                              "model.sync_batch_norm=false"])]:
            with self.subTest(optimizer=name, options=more):
                self.check_resume(f"{name}-{ranks}-{len(more)}", ranks, BY[name] + more)

    def test_one_optimizer_for_all(self):
        """The class centres follow optimizer.name, and are clipped together with the network."""
        for name, more in {"adamw": ["schedule.base_lr=.005", UNIFORM], "lamb": ["schedule.base_lr=.01"]}.items():
            with self.subTest(optimizer=name):
                options = [f"optimizer.name={name}", "train.clip_head=true", "train.clip_norm=2"]
                self.check_resume(name + "-all", 2, options + more)
                self.assertIn("optimizer:second_moment", tensors(self.checkpoint(name + "-all-straight", 40)))

    def test_three_ranks_resume_on_any_and_all_evaluate_the_same(self):
        for name, more in {"lars": [UNIFORM], "adamw": [UNIFORM], "lamb": [UNIFORM, LAZY]}.items():
            options = BY[name] + more
            three = name + "-three"
            self.train(three, 3, overrides=options + ["train.steps=10"])
            first = {}
            for ranks in (1, 2, 4):
                with self.subTest(optimizer=name, ranks=ranks):
                    folder = f"{name}-on{ranks}"
                    shutil.copytree(self.folder(three), self.folder(folder))
                    self.train(folder, ranks, overrides=options + ["train.steps=14"])
                    stored = tensors(self.checkpoint(folder, 14))
                    self.assertEqual(len(self.losses(folder)), 14)
                    if ranks == 1:
                        first = {"losses": self.losses(folder), "stored": stored}
                    self.assert_close(first["losses"], self.losses(folder), 1e-12)  # exact sums (test_ranks.py)
                    self.assertEqual(first["stored"], stored)

    def test_rows_that_lag_are_evaluated_as_they_would_be(self):
        """An evaluation during training, which reads rows through the table, and one of the checkpoint, which catches
        them up first."""
        sets = "eval.sets=[{name: held, kind: classification, data: %s}]" % os.path.join(self.data, "train")
        for name in ("lars", "adamw"):
            with self.subTest(optimizer=name):
                folder = name + "-evaluated"
                self.train(folder, 2, overrides=BY[name] + [UNIFORM, sets])
                trained = self.metrics(folder, "eval")[-1]
                self.assertGreater(trained["top1"], 2 / 40)
                done = run([TRAIN, "eval", "-c", os.path.join(self.folder(folder), "config.yaml"), "-o", "ranks=1",
                            "--checkpoint", self.checkpoint(folder, 40)])
                self.assertIn(f"top-1 {100 * trained['top1']:.2f} %, top-5 {100 * trained['top5']:.2f} %", done.stdout)

    def test_another_optimizer_takes_up_the_centres_and_says_what_it_leaves(self):
        self.train("changes", 2, overrides=BY["adamw"] + [UNIFORM, "train.steps=10"])
        done = self.train("changes", 1, overrides=BY["lars"] + [UNIFORM, "train.steps=14"])
        self.assertIn("were updated by adamw, from here on they are by lars, which begins anew: their moments are not used",
                      done.stdout)
        self.assertEqual(len(self.losses("changes")), 14)

    def test_lamb_cannot_catch_up(self):
        done = self.train("refused", overrides=BY["lamb"] + [UNIFORM], fails=True)
        self.assertIn("head.update: found dense with class centres that are updated by lamb", done.stdout)
        self.assertIn("expected head.update lazy", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
