"""What users get wrong and what disks do: every error says what was found, what was expected and where, and costs
no checkpoint."""
import os
import resource
import shutil
import subprocess
import time
import unittest

from support import DATA, TRAIN, E2eCase, run


def fill(path):
    """Writes until the disk is full."""
    with open(path, "wb", buffering=0) as f:
        try:
            while f.write(bytes(1024)) == 1024:
                pass
        except OSError:
            pass


class Errors(E2eCase):
    def refused(self, name, *words, ranks=1, overrides=(), **options):
        """The run fails and its message holds every word; an error is printed once, whatever the number of ranks."""
        done = self.train(name, ranks, overrides=overrides, fails=True, **options)
        for word in words:
            self.assertIn(word, done.stdout)
        return done.stdout

    def test_unknown_key(self):
        path = self.config("unknown")
        with open(path, "a") as f:
            f.write("optimiser: {name: sgd}\n")
        self.refused("unknown", "unknown.yaml:", "optimiser", "optimizer", config=path)

    def test_once_under_a_foreign_mpirun(self):
        args = ["mpirun", "-np", "3", "--oversubscribe", TRAIN, "-c", self.config("foreign"), "-o", "head.scales=1"]
        out = run(args, fails=True, env=dict(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")).stdout
        self.assertEqual(out.count("head.scales"), 1, out)
        self.assertEqual(out.count("error:"), 1, out)

    def test_once_under_srun_without_mpi(self):
        args = [TRAIN, "-c", self.config("srun"), "-o", "head.scales=1"]
        for rank in range(2):
            env = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": str(rank)}
            self.assertEqual(run(args, fails=True, env=env).stdout.count("head.scales"), 1 - rank)

    def test_wrong_type(self):
        self.refused("type", "train.batch_size", "many", overrides=["train.batch_size=many"])

    def test_missing_data(self):
        out = self.refused("missing", "/nowhere/train.rec", ranks=2, overrides=["data.train=/nowhere/train.rec"])
        self.assertEqual(out.count("/nowhere/train.rec"), 1, out)

    def test_missing_evaluation_file(self):
        self.refused("noeval", "/nowhere/lfw.bin", overrides=["eval.sets=[{name: lfw, bin: /nowhere/lfw.bin}]"])

    def test_empty_data(self):
        os.makedirs(self.folder("empty"), exist_ok=True)
        self.refused("empty-run", self.folder("empty"), overrides=[f"data.train={self.folder('empty')}"])

    def test_label_out_of_range(self):
        self.refused("range", "39", "classes", ranks=2, overrides=["head.classes=39"])
        rec = self.folder("labels/train.rec")
        run([DATA, "pack", "--input", os.path.join(self.data, "train"), "--output", rec, "--no-shuffle"])
        for ranks in (1, 2, 3):
            out = self.refused("range-rec", "train.rec", "sample '313'", "label 39", "head.classes is 39", ranks=ranks,
                               overrides=["head.classes=39", f"data.train={rec}"])
            self.assertEqual(out.count("label 39"), 1, out)
        # A property that says fewer: the record is named when it is read.
        run([DATA, "pack", "--input", os.path.join(self.data, "train"), "--output", rec])
        with open(self.folder("labels/train.property"), "w") as f:
            f.write("39,24,24\n")
        self.refused("range-property", "train.rec, offset", "label 39 is out of range", ".property", ranks=2,
                     overrides=[f"data.train={rec}", "train.steps=11"])

    def test_fewer_samples_than_a_batch(self):
        self.refused("few", "320", "1000", overrides=["train.batch_size=1000"])

    def test_fewer_samples_than_ranks(self):
        images = [os.path.join(folder, f) for folder, _, files in os.walk(os.path.join(self.data, "train")) for f in files]
        path = self.folder("two.txt")
        with open(path, "w") as f:
            f.writelines(f"{image} {label}\n" for label, image in enumerate(sorted(images)[:2]))
        self.refused("samples", "two.txt", "2 samples", ranks=3, overrides=[f"data.train={path}", "train.batch_size=3"])
        self.refused("ranks", "batch", ranks=3, overrides=["train.batch_size=2"])

    def test_damaged_records(self):
        folder = self.folder("rec")
        os.makedirs(folder)
        rec = os.path.join(folder, "train.rec")
        run([DATA, "pack", "--input", os.path.join(self.data, "train"), "--output", rec])
        with open(rec, "rb") as f:
            whole = f.read()
        with open(rec, "wb") as f:
            f.write(whole[:len(whole) // 2 + 1])
        self.refused("truncated", "train.rec", "offset", overrides=[f"data.train={rec}"])
        at = len(whole) // 2
        with open(rec, "wb") as f:
            f.write(whole[:at] + bytes(2000) + whole[at + 2000:])
        self.refused("corrupt", "train.rec", overrides=[f"data.train={rec}"])

    def test_corrupt_image_stops_or_is_skipped(self):
        folder = self.folder("photos")
        shutil.copytree(os.path.join(self.data, "train"), folder)
        victim = os.path.join(folder, sorted(os.listdir(folder))[3])
        victim = os.path.join(victim, sorted(os.listdir(victim))[0])
        with open(victim, "wb") as f:
            f.write(b"\x89PNG\r\n\x1a\nnonsense")
        steps = ["train.steps=11", f"data.train={folder}"]
        self.refused("stop", victim, ranks=2, overrides=steps)
        done = self.train("skip", 2, overrides=steps + ["data.on_error=skip"])
        with open(self.folder("skip/train.log")) as f:
            self.assertIn(os.path.basename(victim), done.stdout + f.read())
        # The replacement is the same on any number of ranks, and so is all the rest (test_ranks.py).
        self.train("skip1", 1, overrides=steps + ["data.on_error=skip"])
        self.assert_close(self.losses("skip"), self.losses("skip1"), 1e-12)

    def test_the_command_line(self):
        for words in ([], ["faces.yaml"], ["doctor", "--limit", "1"], ["-c", "x.yaml", "--what"]):
            self.assertEqual(subprocess.run([TRAIN, *words], capture_output=True).returncode, 2, words)

    def test_override_inside_a_value(self):
        self.refused("inside", "head.sampling", "uniform", "method",
                     overrides=["head.sampling=uniform", "head.sampling.ratio=0.2"])
        self.refused("inside", "expected head.sampling.method uniform or knn", overrides=["head.sampling.ratio=0.2"])

    def run_files(self, name):
        texts = []
        for file in ("config.yaml", "run.json", "classes.txt"):
            with open(self.folder(f"{name}/{file}")) as f:
                texts.append(f.read())
        return texts

    def test_checkpoint_of_another_model(self):
        self.train("model", overrides=["train.steps=2"])
        before = self.run_files("model")
        self.refused("model", "another model", ranks=2, overrides=[
            "train.steps=4", "model.backbone={kind: iresnet, stem: 8, widths: [8, 24], blocks: [1, 1]}"])
        self.assertEqual(self.run_files("model"), before)  # a refused start changes nothing

    def test_no_restart_from_nothing_beside_damaged_checkpoints(self):
        self.train("beside", overrides=["train.steps=2"])
        manifest = os.path.join(self.checkpoint("beside", 2), "manifest.json")
        with open(manifest, "r+") as f:
            f.truncate(100)
        out = self.refused("beside", manifest, "cut short", "--resume none", overrides=["train.steps=4"])
        self.assertEqual(out.count("hint:"), 1, out)
        self.assertNotIn("json.exception", out)
        self.assertEqual(len(self.losses("beside")), 2)
        self.train("beside", overrides=["train.steps=3"], resume="none")
        self.assertEqual(len(self.losses("beside")), 3)
        self.assertTrue(os.path.exists(self.folder("beside/checkpoints.1/step_00000002")))

    def test_resume_with_other_classes(self):
        folder = self.folder("classes")
        shutil.copytree(os.path.join(self.data, "train"), folder)
        overrides = [f"data.train={folder}"]
        self.train("named", overrides=overrides + ["train.steps=2"])
        first = sorted(os.listdir(folder))[0]
        os.rename(os.path.join(folder, first), os.path.join(folder, "zzz"))
        self.refused("named", "does not have", first, "head.class_map", ranks=2, overrides=overrides + ["train.steps=4"])

    def test_evaluation_that_fails_costs_no_checkpoint(self):
        folder = self.folder("verify")
        shutil.copytree(os.path.join(self.data, "verify"), folder)
        with open(os.path.join(self.data, "pairs.txt")) as f:
            first = next(line for line in f if not line.startswith("#")).split()[0]
        for path, _, files in os.walk(folder):
            for file in files:
                # The first image of the list is tried at the start: that one stays.
                if os.path.join(path, file) != os.path.join(folder, first):
                    with open(os.path.join(path, file), "wb") as f:
                        f.write(b"no image")
        self.refused("evalfail", folder, ranks=2, config=self.config("evalfail", verify=folder),
                     overrides=["train.steps=3"])
        self.assertTrue(os.path.isdir(self.checkpoint("evalfail", 3)))

    def test_evaluation_set_of_another_size(self):
        other = self.folder("other")
        run([DATA, "synth", "--output", other, "--classes", "4", "--images-per-class", "4", "--held-out", "4",
             "--size", "32", "--channels", "1", "--seed", "5"])
        config = self.config("evalsize", verify=os.path.join(other, "verify"), pairs=os.path.join(other, "pairs.txt"))
        self.refused("evalsize", "glyphs", "32", "24", "data.resize", ranks=2, config=config)
        self.assertFalse(os.path.exists(self.folder("evalsize/metrics.jsonl")))

    def test_best_metric_that_the_pairs_cannot_resolve(self):
        self.refused("best", "tar_at_far.1e-6", "tar_at_far.1e-1", overrides=[
            "checkpoint.best={set: glyphs, metric: tar_at_far.1e-6}"])
        self.assertFalse(os.path.exists(self.folder("best/metrics.jsonl")))

    def test_checksum_mismatch(self):
        self.train("sum", overrides=["train.steps=2"])
        file = os.path.join(self.checkpoint("sum", 2), "head.00000-of-00001.safetensors")
        with open(file, "r+b") as f:
            body = f.read()
            f.seek(len(body) - 5)
            f.write(bytes([body[-5] ^ 1]))
        self.refused("sum", "checksum", "head.00000-of-00001.safetensors", overrides=["train.steps=4"])
        run([TRAIN, "inspect", "--checkpoint", self.checkpoint("sum", 2)], fails=True)

    def test_a_trace_that_cannot_be(self):
        """It is told at the start, not when the steps are done."""
        a_file = self.config("trace")
        self.refused("trace", f"log.trace: {a_file}/t.json", "choose another log.trace", ranks=2,
                     overrides=[f"log.trace={a_file}/t.json"])
        self.assertFalse(os.path.exists(self.folder("trace/metrics.jsonl")))
        path = self.folder("traces/new/t.json")
        out = self.train("trace", 2, overrides=["train.steps=5", "eval.sets=[]", f"log.trace={path}"]).stdout
        told = out.index("log.trace: there will be none: the run's last step is 5, the first one that is traced would be 6")
        self.assertLess(told, out.index("step 1/5"))
        self.assertIn("no trace: the run ends before step 6", out)
        out = self.train("trace", 2, overrides=["train.steps=11", "eval.sets=[]", f"log.trace={path}"]).stdout
        self.assertNotIn("there will be none", out)
        self.assertTrue(os.path.getsize(path))

    def test_full_disk_keeps_the_old_checkpoint(self):
        disk = self.folder("disk")
        os.makedirs(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
            self.skipTest("a small disk cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk])
        self.train("disk/run", 2, overrides=["train.steps=2"], config=self.config("small"))
        filler = os.path.join(disk, "filler")
        fill(filler)
        self.refused("disk/run", "disk/run", "free", ranks=2, overrides=["train.steps=4"], config=self.config("small"))
        os.remove(filler)
        self.train("disk/run", 2, overrides=["train.steps=4"], config=self.config("small"))
        self.assertEqual([m["step"] for m in self.metrics("disk/run")], [1, 2, 3, 4])

    def test_training_goes_on_while_the_disk_is_full(self):
        disk = self.folder("hour")
        os.makedirs(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], capture_output=True).returncode:
            self.skipTest("a small disk cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk])
        args = [TRAIN, "-c", self.config("hour/run"), "-o", "ranks=2", "-o", "train.steps=100000", "-o", "eval.sets=[]",
                "-o", "checkpoint.every_steps=20"]
        path = self.folder("hour.out")
        with open(path, "w") as log:
            process = subprocess.Popen(args, stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(process.kill)

        def output():
            with open(path) as log:
                return log.read()

        def wait_for(condition):
            end = time.time() + 60
            while not condition():
                self.assertIsNone(process.poll(), output()[-3000:])
                self.assertLess(time.time(), end, output()[-3000:])
                time.sleep(0.1)

        wait_for(lambda: "checkpoint " in output())
        fill(os.path.join(disk, "filler"))
        wait_for(lambda: "is not saved, training goes on" in output())
        os.remove(os.path.join(disk, "filler"))
        before = len(output())
        wait_for(lambda: "checkpoint /" in output()[before:])
        process.terminate()
        self.assertEqual(process.wait(timeout=60), 75, output()[-3000:])
        steps = [m["step"] for m in self.metrics("hour/run")]
        self.assertEqual(steps, list(range(1, len(steps) + 1)))

    def test_failed_write_keeps_the_old_checkpoint(self):
        self.train("full", overrides=["train.steps=2"])
        before = sorted(os.listdir(self.folder("full/checkpoints")))
        # No file may grow beyond 16 KiB: what a full disk does to a shard, without one.
        args = [TRAIN, "-c", self.config("full"), "-o", "train.steps=4", "-o", "ranks=1"]
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384)))
        self.assertNotEqual(done.returncode, 0, done.stdout)
        self.assertIn("step_", done.stdout)
        self.assertEqual(sorted(os.listdir(self.folder("full/checkpoints"))), before)
        self.train("full", overrides=["train.steps=4"])

    def test_non_finite_loss_names_the_step_and_touches_nothing(self):
        out = self.refused("nan", "step", "finite", ranks=2, overrides=["schedule={base_lr: 1.0e+38}", "train.clip_norm=none",
                                                                         "head.margin=none"])
        self.assertNotIn("checkpoint /", out)
        self.assertFalse(os.path.exists(self.checkpoint("nan", 40)))

    def test_bf16_is_refused_by_name_where_it_is_not(self):
        with open("/proc/cpuinfo") as f:
            flags = f.read()
        if "avx512_bf16" in flags or "amx_bf16" in flags:
            self.train("bf16", overrides=["train.precision=bf16", "train.steps=3"])
        else:
            self.refused("bf16", "bf16", "fp32", overrides=["train.precision=bf16"])

    def test_cuda_is_refused_by_name(self):
        self.refused("cuda", "cuda", "cpu", overrides=["device=cuda"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
