"""plsc-train doctor: what it says of a machine and a configuration that could train, and of some that could not. A
machine with GPUs is played by plsc-train-standin (tests/cuda/app.cmake)."""
import json
import os
import subprocess
import sys
import unittest

from support import TRAIN, E2eCase, run

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import two_hosts  # noqa: E402

STANDIN = os.environ.get("PLSC_STANDIN_BIN", "")
# The graph is built after the first step.
KNN = ["head.sampling={method: knn, ratio: 0.1, neighbours: 20}", "schedule.warmup_steps=1"]
MPI = {f"OMPI_{name}": "1" for name in ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM", "MCA_rmaps_base_oversubscribe")}
MPI |= {"PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}
# NVIDIA's driver library, as far as CUDA's runtime asks for it, with a kernel module that never answers.
HANGING_DRIVER = """
#include <string.h>
#include <unistd.h>
int hang() { for (;;) sleep(1); }
int version(int* v) { *v = 99000; return 0; }
int cuGetProcAddress_v2(const char* name, void** found, int v, unsigned long flags, int* status) {
  if (status) *status = 0;
  *found = !strcmp(name, "cuDriverGetVersion") ? (void*)version
           : !strcmp(name, "cuGetProcAddress") ? (void*)cuGetProcAddress_v2 : (void*)hang;
  return 0;
}
int cuDriverGetVersion(int* v) { return version(v); }
int cuInit(unsigned flags) { return hang(); }
"""


class DoctorCase(E2eCase):
    def doctor(self, *arguments, fails=False, binary=TRAIN, env=None, launcher=()):
        """What `doctor --json` printed, read; its status is checked against what it says. fails=None: either will do."""
        args = [*launcher, binary, "doctor", "--json", *arguments]
        done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300,
                              env={**os.environ, **(env or {})})
        self.assertIn(done.returncode, (0, 1), done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["exit_status"], done.returncode)
        self.assertEqual(report["verdict"] == "fail", done.returncode == 1)
        if fails is not None:
            self.assertEqual(done.returncode == 1, fails, json.dumps(report["findings"], indent=1))
        return report

    def line(self, report, section):
        found = [line for line in report["lines"] if line["section"] == section]
        self.assertEqual(len(found), 1, f"{section} in {[line['section'] for line in report['lines']]}")
        return found[0]

    def failure(self, report, section):
        """The one failure of a report, which is of this section: (text, hint)."""
        failures = [f for f in report["findings"] if f["grade"] == "fail"]
        self.assertEqual([f["section"] for f in failures], [section], failures)
        return failures[0]["text"], failures[0]["hint"]

    def numbers(self, report, section, name):
        return [f["number"] for f in report["facts"] if (f["section"], f["name"]) == (section, name) and "number" in f]


class Doctor(DoctorCase):
    def test_alone_without_a_configuration(self):
        report = self.doctor("-o", "device=cpu", "--output", self.root)
        self.assertEqual(report["ranks"], 1)
        self.assertEqual(len(report["hosts"]), 1)
        for section in ("program", "ranks", "memory", "limits", "gpus", "devices", "rates", "disk"):
            self.assertEqual(self.line(report, section)["grade"], "ok", report["findings"])
        # Whether others compute beside the tests is not the tests' affair; that it is told is.
        load, cores = self.numbers(report, "cpu", "load")[0], os.sysconf("SC_NPROCESSORS_ONLN")
        told = [f["text"] for f in report["findings"] if f["section"] == "cpu"]
        self.assertEqual(["others compute here" in text for text in told], [True] if load > 1.5 * cores else [])
        self.assertGreater(self.numbers(report, "rates", "product")[0], 0)
        self.assertGreater(self.numbers(report, "memory", "total")[0], 1 << 28)
        self.assertEqual(self.line(report, "ranks")["text"], "1, one process, without MPI")
        self.assertNotIn("data", [line["section"] for line in report["lines"]])

    def test_keys_of_the_json(self):
        report = self.doctor("-o", "device=cpu", "--output", self.root)
        self.assertEqual(list(report), ["program", "verdict", "exit_status", "ranks", "hosts", "seconds", "lines",
                                        "findings", "facts"])
        for fact in report["facts"]:
            self.assertTrue({"rank", "host", "section", "name"} < set(fact), fact)
            self.assertTrue(("number" in fact and "unit" in fact) != ("text" in fact), fact)
        help_text = run([TRAIN, "doctor", "--help"]).stdout
        for key in list(report) + ["section", "grade", "where", "hint", "rank", "host", "unit"]:
            self.assertIn(key, help_text)

    def test_sheet_is_one_screen_for_people(self):
        out = run([TRAIN, "doctor", "-c", self.config("sheet")]).stdout
        lines = out.splitlines()
        self.assertTrue(lines[0].startswith("plsc-train doctor: 1 rank on 1 host, "), out)
        self.assertTrue(lines[-1].startswith("verdict: training could run"), out)
        self.assertLess(len(lines), 40)
        self.assertLessEqual(max(map(len, lines)), 100)
        self.assertNotIn("\033", out)  # no terminal

    def test_good_configuration_on_ranks_of_its_own(self):
        config = self.config("good")
        for ranks in (1, 2, 3):
            report = self.doctor("-c", config, "--ranks", str(ranks))
            self.assertEqual(report["ranks"], ranks)
            self.assertEqual(self.numbers(report, "data", "samples"), [320])  # once a host
            self.assertEqual(self.numbers(report, "data", "classes"), [40])
            self.assertEqual(self.numbers(report, "evaluation", "glyphs"), [80])
            self.assertEqual(self.numbers(report, "memory fit", "classes"), [40])
            self.assertEqual(len(self.numbers(report, "rates", "product")), ranks)
            self.assertEqual("by MPI" in self.line(report, "all-reduce")["text"], ranks > 1)
        # It leaves nothing behind, not even the run's folder.
        self.assertFalse(os.path.exists(self.folder("good")))
        self.assertEqual([name for name in os.listdir(self.root) if "doctor" in name], [])

    def test_ranks_of_mpirun(self):
        report = self.doctor("-o", "device=cpu", "--output", self.root, env=MPI, launcher=["mpirun", "-np", "2"])
        self.assertEqual(report["ranks"], 2)
        self.assertIn("started by mpirun", self.line(report, "ranks")["text"])
        self.assertGreater(self.numbers(report, "all-reduce", "rate")[0], 0)

    def test_the_estimate_of_a_checkpoint_is_what_training_writes(self):
        for name, store, more in (("on_host", "{tier: host, dtype: bf16, momentum: bf16}", []),
                                  ("graph", "{tier: device}", KNN),
                                  ("estimate", "{tier: device}", [])):
            # As many classes as the rest is little beside: headers, and buffers without momentum.
            overrides = ["head.classes=20000", f"head.store={store}", *more]
            report = self.doctor("-c", self.config(name), *[part for o in overrides for part in ("-o", o)])
            self.train(name, overrides=["train.steps=2", "eval.sets=[]", *overrides])
            folder = self.checkpoint(name, 2)
            written = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)
                          if name.endswith(".safetensors"))
            expected = self.numbers(report, "disk", "checkpoint")[0]
            self.assertLess(abs(written - expected), 0.02 * written)

        # What is there makes room by its bytes, however many classes the next checkpoints have.
        report = self.doctor("-c", self.config("estimate"), "-o", "head.classes=400000", "-o", "checkpoint.keep=3",
                             fails=None)
        there = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
        one = self.numbers(report, "disk", "checkpoint")[0]
        self.assertGreater(one, 10 * there)
        self.assertAlmostEqual(self.numbers(report, "disk", "wanted")[0], 4 * one - there, delta=1)

    def test_missing_data(self):
        config = self.config("missing", train=self.folder("nowhere"))
        for ranks in ("1", "2"):
            text, hint = self.failure(self.doctor("-c", config, "--ranks", ranks, fails=True), "data")
            self.assertIn(self.folder("nowhere") + ": no such file or folder", text)
            self.assertIn("mounted on this host", hint)

    def test_data_that_do_not_answer(self):
        # A pipe that nobody writes to is opened for ever, as a file of a server that is gone.
        pipe = self.folder("pipe.rec")
        os.mkfifo(pipe)
        text, hint = self.failure(self.doctor("-c", self.config("hangs", train=pipe), "--limit", "5", fails=True), "data")
        self.assertIn(f"the file system of {pipe} does not answer", text)
        self.assertIn("file server", hint)

    def test_missing_evaluation_set(self):
        config = self.config("no_eval", verify=self.folder("nowhere"))
        text, _ = self.failure(self.doctor("-c", config, fails=True), "evaluation")
        self.assertIn("nowhere", text)

    def test_damaged_image(self):
        images = self.folder("damaged_data")
        for label in ("a", "b"):
            os.makedirs(os.path.join(images, label))
            for i in range(20):
                with open(os.path.join(images, label, f"{i}.png"), "wb") as f:
                    f.write(b"\x89PNG\r\n\x1a\nnot really")
        config = self.config("damaged", train=images)
        text, _ = self.failure(self.doctor("-c", config, fails=True), "data")
        self.assertIn("damaged_data/a/0.png", text)

    def test_batch_larger_than_the_data_and_labels_beyond_head_classes(self):
        text, _ = self.failure(self.doctor("-c", self.config("batch"), "-o", "train.batch_size=500", fails=True), "data")
        self.assertIn("320 samples are fewer than one global batch of 500", text)
        text, _ = self.failure(self.doctor("-c", self.config("labels"), "-o", "head.classes=10", fails=True), "data")
        self.assertIn("but head.classes is 10", text)

    def test_sampling_that_training_refuses(self):
        for ranks in ("1", "2"):
            text, _ = self.failure(self.doctor("-c", self.config("active"), "--ranks", ranks, "-o",
                                               "head.sampling={method: uniform, active: 41}", fails=True), "memory fit")
            self.assertIn("head.sampling.active: found 41, expected at most the number of classes, 40", text)

    def test_too_many_classes(self):
        config = self.config("classes")
        report = self.doctor("-c", config, "-o", "head.classes=1000000000000", fails=True)
        text = [f["text"] for f in report["findings"] if f["section"] == "memory fit"][0]
        largest = self.numbers(report, "memory fit", "largest")[0]
        self.assertIn(f"is about {int(largest):,}", text)
        self.assertGreater(largest, 0)
        # Half of what it says fits, whatever the disk says.
        half = self.doctor("-c", config, "-o", f"head.classes={int(largest / 2)}", fails=None)
        self.assertEqual(self.line(half, "memory fit")["grade"], "ok")

    def test_a_batch_that_does_not_fit_is_not_blamed_on_the_classes(self):
        # The number of classes may be known or, where the data are missing, not.
        for train, classes in (("synthetic", "40"), (self.folder("nowhere"), "auto")):
            report = self.doctor("-c", self.config("images", train=train), "-o", "train.batch_size=1000000000", "-o",
                                 f"head.classes={classes}", fails=True)
            found = [f for f in report["findings"] if f["section"] == "memory fit"]
            self.assertEqual([f["grade"] for f in found], ["fail"])
            self.assertIn("the network and its batch do not fit, whatever the number of classes", found[0]["text"])
            self.assertIn("1000000000 images at a time", found[0]["text"])
            self.assertIn("lower train.batch_size first", found[0]["hint"])
            self.assertEqual(self.numbers(report, "memory fit", "largest"), [])

    def test_without_proc_the_memory_is_not_known(self):
        hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
        if subprocess.run([*hidden, "true"], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("mounting over /proc is not allowed here")
        report = self.doctor("-c", self.config("no_proc"), launcher=hidden)
        for section in ("memory", "memory fit"):
            self.assertEqual(self.line(report, section)["grade"], "warn")
        self.assertIn("available: not known", self.line(report, "memory")["text"])
        for name in ("available", "room", "largest"):
            self.assertEqual(self.numbers(report, "memory", name) + self.numbers(report, "memory fit", name), [])

    def test_output_that_cannot_be_written(self):
        blocked = self.folder("file")
        with open(blocked, "w") as f:
            f.write("not a folder")
        text, hint = self.failure(self.doctor("-o", "device=cpu", "--output", blocked + "/runs", fails=True), "disk")
        self.assertIn("is no folder", text)
        self.assertIn("choose another `output`", hint)
        # Nobody can make a file here, root neither; nothing is said of its space.
        text, hint = self.failure(self.doctor("-c", self.config("proc"), "--output", "/proc/runs/a", fails=True), "disk")
        self.assertIn("/proc cannot be written: ", text)
        self.assertIn("choose another `output`", hint)

    def test_output_that_is_to_be_made(self):
        report = self.doctor("-o", "device=cpu", "--output", self.folder("new/run"))
        self.assertIn(f"new/run (to be made in {self.root})", self.line(report, "disk")["text"])
        self.assertFalse(os.path.exists(self.folder("new")))

    def test_small_disk(self):
        disk = self.folder("disk")
        os.makedirs(disk)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], stderr=subprocess.DEVNULL).returncode:
            self.skipTest("mounting a tmpfs is not allowed here")
        try:
            config = self.config("small")
            # 20,000 classes x 32 numbers, with momentum: 4.9 MiB.
            report = self.doctor("-c", config, "--output", disk, "-o", "head.classes=20000", fails=True)
            text, hint = self.failure(report, "disk")
            self.assertRegex(text, "free in .*disk, and one checkpoint takes [45]")
            self.assertNotIn("checkpoint.keep", hint)  # fewer of them do not help one
            # One fits, and all that are to be kept do not.
            report = self.doctor("-c", config, "--output", disk, "-o", "head.classes=2000")
            self.assertEqual(self.line(report, "disk")["grade"], "warn")
            self.assertIn("checkpoint.keep", [f["hint"] for f in report["findings"] if f["section"] == "disk"][0])
            self.assertEqual(os.listdir(disk), [])
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_errors_of_the_configuration_are_told_as_ever(self):
        for ranks in ((), ("--ranks", "2")):
            out = run([TRAIN, "doctor", "-c", self.config("wrong"), "-o", "train.epoch=3", *ranks], fails=True).stdout
            self.assertIn("did you mean 'train.epochs'", out)
            self.assertEqual(out.count("plsc-train: "), 1, out)

    def test_errors_of_the_configuration_as_json(self):
        config = self.config("wrong_json")
        for launcher, ranks in (((), ()), ((), ("--ranks", "2")), (("mpirun", "-np", "2"), ())):
            report = self.doctor("-c", config, "-o", "train.epoch=3", *ranks, fails=True, env=MPI, launcher=launcher)
            self.assertEqual(list(report), ["program", "verdict", "exit_status", "findings"])
            text, _ = self.failure(report, "configuration")
            self.assertIn("did you mean 'train.epochs'", text)

    def test_a_build_without_cuda(self):
        if os.path.exists(STANDIN):
            self.skipTest("this build has CUDA")
        report = self.doctor("--output", self.root)
        self.assertIn("this build of plsc-train has no CUDA backend", self.line(report, "gpus")["text"])
        tools = self.folder("tools")
        os.makedirs(tools)
        with open(os.path.join(tools, "nvidia-smi"), "w") as f:
            f.write("#!/bin/sh\n")
        os.chmod(f.name, 0o755)
        report = self.doctor("--output", self.root, env={"PATH": f"{tools}:{os.environ['PATH']}"})
        self.assertEqual(self.line(report, "gpus")["grade"], "warn")
        told = [f for f in report["findings"] if f["section"] == "gpus"][0]
        self.assertIn("but this build has no CUDA", told["text"])
        self.assertIn("bundle with CUDA", told["hint"])
        text, hint = self.failure(self.doctor("-o", "device=cuda", "--output", self.root, fails=True), "devices")
        self.assertIn("device: cuda: this build of plsc-train has no CUDA backend", text)
        self.assertIn("use device: cpu", hint)


@unittest.skipUnless(os.path.exists(STANDIN), "plsc-train-standin is not built (preset cuda)")
class DoctorOfGpus(DoctorCase):
    def gpus(self, count, *arguments, fails=False, **variables):
        return self.doctor("--output", self.root, *arguments, fails=fails, binary=STANDIN,
                           env={"PLSC_STANDIN_DEVICES": str(count), **variables})

    def test_two_gpus(self):
        report = self.gpus(2, "-c", self.config("gpus"), "-o", "device=auto")
        self.assertEqual(report["ranks"], 2)
        self.assertIn("2 x stand-in (9.0)", self.line(report, "gpus")["text"])
        self.assertIn("peer access between all", self.line(report, "gpus")["text"])
        self.assertIn("rank 0: GPU 0", self.line(report, "devices")["text"])
        self.assertIn("rank 1: GPU 1", self.line(report, "devices")["text"])
        self.assertIn("by NCCL", self.line(report, "all-reduce")["text"])
        for library in ("driver", "CUDA", "cuBLASLt", "cuDNN", "NCCL"):
            self.assertIn(library, self.line(report, "libraries")["text"])
        for rate in ("product", "to device", "to host", "copy"):
            self.assertEqual(len(self.numbers(report, "rates", rate)), 2)

    def test_more_ranks_than_gpus(self):
        text, hint = self.failure(self.gpus(1, "--ranks", "2", fails=True), "devices")
        self.assertIn("2 ranks on host", text)
        report = self.gpus(1, "--ranks", "2", "-o", "comm.backend=mpi")
        self.assertIn("by MPI through host memory", self.line(report, "all-reduce")["text"])

    def test_a_gpu_without_code_for_it(self):
        report = self.gpus(1, PLSC_STANDIN_CAPABILITY="6.1", fails=True)
        found = [f for f in report["findings"] if f["section"] == "gpus"]
        self.assertIn("compute capability 6.1", found[0]["text"])
        self.assertIn("CMAKE_CUDA_ARCHITECTURES=61-real", found[0]["hint"])

    def test_no_gpu_and_an_old_driver(self):
        for devices, text in (("0", "this machine has no GPU"), ("old-driver", "install a newer driver")):
            report = self.gpus(devices)
            self.assertIn(text, self.line(report, "gpus")["text"])
            self.assertEqual(self.line(report, "gpus")["grade"], "warn")
            self.assertIn("cpu", self.line(report, "devices")["text"])
            _, hint = self.failure(self.gpus(devices, "-o", "device=cuda", fails=True), "devices")
            self.assertIn("use device: cpu", hint)

    def test_a_driver_that_does_not_answer(self):
        library = self.folder("libcuda.so.1")
        subprocess.run(["cc", "-x", "c", "-", "-shared", "-fPIC", "-w", "-o", library], input=HANGING_DRIVER, text=True, check=True)
        path = f"{self.root}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
        for launcher in ((), ("mpirun", "-np", "2", "-x", "LD_LIBRARY_PATH")):
            report = self.doctor("--limit", "5", "--output", self.root, fails=True, env={**MPI, "LD_LIBRARY_PATH": path},
                                 launcher=launcher)
            text, _ = self.failure(report, "gpus")
            self.assertEqual(text, "NVIDIA's driver does not answer")
            self.assertIn("disk", [line["section"] for line in report["lines"]])  # the rest is looked at all the same

    def test_too_many_classes_for_a_gpu(self):
        report = self.gpus(1, "-c", self.config("gpu_classes"), "-o", "device=cuda", "-o", "head.classes=100000000",
                           fails=True)
        self.assertEqual(self.line(report, "memory fit")["grade"], "fail")
        self.assertLess(self.numbers(report, "memory fit", "largest")[0], 2 ** 31 / (32 * 8))

    def test_classes_of_a_gpu_in_host_memory(self):
        for tier, fits in (("device", False), ("host", True)):
            report = self.gpus(1, "-c", self.config("tier"), "-o", "device=cuda", "-o", "head.classes=10000000", "-o",
                               f"head.store.tier={tier}", fails=None)
            self.assertEqual(self.line(report, "memory fit")["grade"] != "fail", fits, report["findings"])
            # Weights and momentum in fp32, wherever they are.
            rows = 10000000 * 32 * 8
            self.assertGreater(self.numbers(report, "memory fit", "host needed" if fits else "needed")[0], rows)
            self.assertGreater(self.numbers(report, "disk", "checkpoint")[0], rows)
            self.assertLess(self.numbers(report, "disk", "checkpoint")[0], 1.01 * rows)
            shown = "of host memory a rank" in self.line(report, "memory fit")["text"]
            self.assertEqual(shown, fits)

    def test_a_collective_that_hangs_ends_the_doctor(self):
        done = run([STANDIN, "doctor", "--json", "--limit", "5", "--output", self.root], fails=True, timeout=120,
                   env={"PLSC_STANDIN_DEVICES": "2", "PLSC_STANDIN_NCCL": "hang:rank=1:call=3"})
        self.assertIn("for the other ranks", done.stdout)
        self.assertIn('"verdict": "fail"', done.stdout)  # what was known is told


@unittest.skipIf(two_hosts.missing(), two_hosts.missing())
class DoctorOfHosts(DoctorCase):
    def setUp(self):
        self.pair = two_hosts.TwoHosts()
        self.addCleanup(self.pair.stop)
        self.alpha, self.beta = self.pair.start()

    def on_both(self, name, *arguments, fails=False, **env):
        return self.doctor("-c", self.config(name), *arguments, fails=fails, env={**self.pair.env, **env},
                           launcher=self.pair.mpirun())

    def test_hosts_that_share_a_folder(self):
        for host in (self.alpha, self.beta):
            host.add_bridge("docker0", "172.17.0.1/16")
        report = self.on_both("hosts")
        self.assertEqual((report["ranks"], report["hosts"]), (4, ["alpha", "beta"]))
        self.assertIn("seen by all hosts", self.line(report, "disk")["text"])
        self.assertIn("cable (10.77.0.1", self.line(report, "network")["text"])
        self.assertIn("docker0", self.line(report, "network")["text"])  # and that Open MPI leaves it out
        self.assertIn("alpha - beta", self.line(report, "hosts")["text"])
        self.assertGreater(self.numbers(report, "hosts", "slowest")[0], 0)

    def test_the_host_without_data_and_with_a_disk_of_its_own_is_named(self):
        output = self.folder("apart")
        os.makedirs(output)
        for folder in (output, self.data):
            self.beta.run("mount", "-t", "tmpfs", "none", folder)
        report = self.on_both("apart", fails=True)
        failures = {f["section"]: (f["where"], f["text"]) for f in report["findings"] if f["grade"] == "fail"}
        self.assertEqual({section: where for section, (where, _) in failures.items()},
                         {"data": "host beta", "evaluation": "host beta", "disk": "host beta"})
        self.assertIn("no such file or folder", failures["data"][1])
        self.assertIn("is not the folder that rank 0 (host alpha) sees", failures["disk"][1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
