#!/usr/bin/env python3
"""scripts/gpu_check.sh from end to end on the stand-in for a GPU, at tiny sizes; and what it says where a program hangs
or fails, where the curves part, and where there is no GPU.

PLSC_BIN is the folder of plsc-data, plsc-train-standin, bench_step-standin and bench_head-standin.
"""
import json
import os
import shutil
import stat
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
BIN = os.environ.get("PLSC_BIN", os.path.join(ROOT, "build/cuda/bin"))
PROGRAMS = {"plsc-train": "plsc-train-standin", "plsc-data": "plsc-data", "bench_step": "bench_step-standin",
            "bench_head": "bench_head-standin"}
PASSES = 'echo "All tests passed (123 assertions in 4 test cases)"'


@unittest.skipUnless(all(os.path.exists(os.path.join(BIN, p)) for p in PROGRAMS.values()),
                     f"the stand-in's programs are not in {BIN} (preset cuda, target cuda_tests)")
class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="plsc-gpu-check-")
        self.bin = os.path.join(self.root, "bin")
        self.out = os.path.join(self.root, "report")
        os.mkdir(self.bin)
        for name, program in PROGRAMS.items():
            os.symlink(os.path.join(BIN, program), os.path.join(self.bin, name))

    def tearDown(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def script(self, name, text):
        path = os.path.join(self.bin, name)
        if os.path.lexists(path):
            os.remove(path)
        with open(path, "w") as f:
            f.write("#!/bin/sh\n" + text + "\n")
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)

    def check(self, *arguments, devices="1"):
        """Runs the check; returns its status and what it printed. Its report is in self.report."""
        env = {**os.environ, "PLSC_CHECK_BIN": self.bin, "PLSC_STANDIN_DEVICES": devices, "CUDA_HOME": self.bin,
               "PATH": f"{self.bin}:{os.environ['PATH']}",
               "PYTHON": os.path.join(self.bin, "python")}
        done = subprocess.run(["bash", os.path.join(ROOT, "scripts/gpu_check.sh"), "--output", self.out, *arguments],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=800, env=env)
        self.report = None
        if os.path.exists(os.path.join(self.out, "report.json")):
            with open(os.path.join(self.out, "report.json")) as f:
                self.report = json.load(f, parse_constant=self.fail)  # NaN is no JSON
        return done.returncode, done.stdout

    def units(self, stage):
        return {u["unit"]: u for u in self.report["units"] if u["stage"] == stage}

    def play_pytorch(self):
        """In place of PyTorch: ten images a second, half a GiB a class; batches of 16 are not compiled."""
        line = ('{"bench":"step","program":"PyTorch 0","backbone":"tiny","image":16,"batch":%s,"ranks":1,'
                '"precision":"bf16","classes":%s,"embedding":16,"ratio":1,"compiled":%s,"images_per_s":10.0,'
                '"images_per_s_lowest":9.0,"images_per_s_highest":11.0,"step_ms":100.0,'
                '"phases_ms":{"head forward":3.5},"device_memory_used":%s,"last_loss":NaN}\\n')
        self.script("python", 'if [ "$1" = -c ]; then echo 0.0; exit; fi\n'
                    'while [ $# -gt 0 ]; do case $1 in --classes) classes=$2 ;; --batch) batch=$2 ;; esac\n'
                    'shift; done\n'
                    '[ $batch = 16 ] && compiled=false\n'
                    "for c in $(echo $classes | tr , ' '); do\n"
                    f"printf '{line}' $batch $c ${{compiled:-true}} $((c << 29)); done")

    def test_everything_on_the_stand_in(self):
        self.script("test_gpu_fake", PASSES)
        self.play_pytorch()
        # What plsc-train says of the machine is tested elsewhere; here it is a line of JSON.
        os.rename(os.path.join(self.bin, "plsc-train"), os.path.join(self.bin, "real"))
        self.script("plsc-train", 'case "$1" in doctor) echo \'{"ok": "a \\"quoted\\" word"}\' ;; '
                                  f'*) exec {self.bin}/real "$@" ;; esac')
        status, out = self.check("--tiny", "--budget", "12m")
        self.assertEqual(status, 0, out)
        self.assertEqual(self.report["state"], "nothing failed")
        self.assertEqual(self.report["doctor"], {"ok": 'a "quoted" word'})
        self.assertEqual(self.units("tests")["test_gpu_fake"]["note"], "123 assertions in 4 test cases")
        train = self.units("train")
        for name in ("cpu", "gpu", "nccl", "mpi_2_on_1", "no_graphs", "resumed", "quickstart"):
            self.assertEqual(train[name]["result"], "passed", train[name])
        self.assertEqual(train["Omniglot"]["result"], "skipped")
        with open(os.path.join(self.out, "curves.csv")) as f:
            lines = f.read().splitlines()
        self.assertEqual(lines[0], "step,cpu,gpu,nccl,mpi_2_on_1")
        self.assertEqual(len(lines), 21)
        targets = {t["name"]: t for t in self.report["targets"]}
        self.assertEqual(targets["curves of GPU and CPU, 20 steps, fp32"]["holds"], "yes")
        heads = [t for name, t in targets.items() if name.startswith("head: ")]
        self.assertEqual([t["holds"] != "not measured" for t in heads], [True, True])
        bench = self.units("bench")
        self.assertEqual({u["unit"]: u for u in bench.values() if u["result"] == "failed"}, {})
        for batch in (16, 8):
            lines = self.report["bench"]
            ours = [line["images_per_s"] for line in lines if line["unit"] == f"ours {batch}"]
            used = [line["device_memory_used"] for line in lines
                    if line["unit"] in (f"ours {batch}", f"ours {batch} few classes")]
            rate = targets[f"images/s to PyTorch's: iresnet50, bf16, 400 classes, batch {batch}"]
            self.assertEqual(len(ours), 2)
            compiled = batch == 8
            self.assertEqual(rate["measured"],
                             f"{sum(ours) / 20:.3f} (2 pairs)" + ("" if compiled else ", PyTorch not compiled"))
            self.assertEqual(rate["holds"],
                             "not measured" if not compiled else "yes" if sum(ours) / 20 >= 1.3 else "no")
            memory = targets[f"head memory to PyTorch's: 400 classes, batch {batch}"]
            self.assertEqual(memory["measured"].split()[0], f"{(max(used) - min(used)) / (300 << 29):.3f}")
            self.assertEqual(memory["holds"], "yes")
        steps = [line for line in lines if line["bench"] == "step" and line["program"] == "plsc-train"]
        self.assertGreater(len(steps), 10)
        for line in steps:
            self.assertGreater(line["images_per_s"], 0)
            self.assertIn("head forward", line["phases_ms"])
            self.assertLess(sum(line["phases_ms"].values()), 2.5 * line["step_ms"])
        self.assertEqual({line["precision"] for line in steps}, {"bf16", "tf32", "fp16", "fp32"})
        self.assertLessEqual(len(os.listdir(self.out)), 8)
        with open(os.path.join(self.out, "report.md")) as f:
            text = f.read()
        for part in ("## Targets", "## Units", "## Curves", "## Benchmarks", "Where a step goes", "- revision: ",
                     "| not finite |"):
            self.assertIn(part, text)

    def test_what_hangs_is_ended_and_the_next_goes_on(self):
        pids = os.path.join(self.root, "pids")
        self.script("test_gpu_a_hangs", f'setsid sh -c "echo \\$\\$ >{pids}; trap \\"\\" TERM; '
                                        'while :; do sleep 1; done" &\nsleep 1000')
        self.script("test_gpu_b_wrong", 'echo "assertions: 5 | 4 passed | 1 failed"; exit 1')
        self.script("test_gpu_c_right", PASSES)
        self.script("test_gpu_d_skips", 'echo "skipped: not on this one"; exit 77')
        status, out = self.check("--only", "tests", "--budget", "16")
        self.assertEqual(status, 1, out)
        tests = self.units("tests")
        self.assertEqual([tests["test_gpu_" + name]["result"] for name in ("a_hangs", "b_wrong", "c_right", "d_skips")],
                         ["failed", "failed", "passed", "skipped"])
        self.assertIn("ended after its limit", tests["test_gpu_a_hangs"]["note"])
        self.assertIn("1 failed", tests["test_gpu_b_wrong"]["note"])
        with open(pids) as f:
            pid = int(f.read())
        for _ in range(50):  # its parent may take a moment to bury it
            if not self.runs(pid):
                break
            time.sleep(0.1)
        self.assertFalse(self.runs(pid))
        self.assertEqual({u["stage"] for u in self.report["units"]}, {"tests"})

    # As NVIDIA's does: a call of CUDA that failed is a finding, handled or not, unless it is told to leave calls alone.
    SANITIZER = r"""
case "$*" in *"--report-api-errors no"*) api=no ;; *) api=yes ;; esac
while [ "${1#--}" != "$1" ]; do case $1 in --tool) tool=$2 ;; esac; shift 2; done
"$@" || exit
if [ $api = yes ]; then echo '========= Program hit cudaErrorMemoryAllocation (error 2)'; found=1; fi
%s
case $tool in
  racecheck) echo "========= RACECHECK SUMMARY: ${found:-0} hazards displayed (0 errors, 0 warnings)" ;;
  *) echo "========= ERROR SUMMARY: ${found:-0} errors" ;;
esac
[ -z "$found" ] || exit 9
"""

    def test_the_sanitizer(self):
        self.script("test_gpu_nn", f'{PASSES}; echo "0.012 s: a case"; echo "0.010 s: another"')
        self.script("test_gpu_device", f'{PASSES}; echo "0.012 s: a case"')
        self.script("test_gpu_head_kernels", f'{PASSES}; echo "0.012 s: a case"')
        self.script("compute-sanitizer", self.SANITIZER % "")
        status, out = self.check("--only", "tests", "--budget", "60")
        self.assertEqual(status, 0, out)
        race = self.units("tests")["racecheck test_gpu_head_kernels"]
        self.assertEqual((race["result"], race["note"]), ("passed", "1 sections, 0 errors"))

        self.script("compute-sanitizer", self.SANITIZER % 'case "$tool $1" in "racecheck "*kernels) echo '
                    '"========= Error: Race reported"; found=1 ;; esac')
        status, out = self.check("--only", "tests", "--budget", "60")
        self.assertEqual(status, 1, out)
        tests = self.units("tests")
        self.assertEqual((tests["memcheck test_gpu_nn"]["result"], tests["memcheck test_gpu_nn"]["note"]),
                         ("passed", "2 sections, 0 errors"))
        self.assertEqual(tests["memcheck test_gpu_device"]["result"], "passed", tests["memcheck test_gpu_device"])
        self.assertEqual(tests["racecheck test_gpu_head_kernels"]["result"], "failed")
        self.assertIn("Race reported", tests["racecheck test_gpu_head_kernels"]["note"])

    def test_a_machine_that_the_sanitizer_cannot_look_at(self):
        """Some virtual machines: it says so, and the program fails at its first call."""
        self.script("test_gpu_nn", PASSES)
        self.script("compute-sanitizer", 'echo "========= Error: Device not supported. See the list"; exit 1')
        status, out = self.check("--only", "tests", "--budget", "60")
        self.assertEqual(status, 0, out)
        unit = self.units("tests")["memcheck test_gpu_nn"]
        self.assertEqual(unit["result"], "skipped")
        self.assertIn("Device not supported", unit["note"])

    @staticmethod
    def runs(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return f.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def test_curves_that_part_fail(self):
        """A build whose GPU computes something else: another scale there. What is not needed for that ends at once."""
        os.rename(os.path.join(self.bin, "plsc-train"), os.path.join(self.bin, "real"))
        self.script("plsc-train", f'case "$*" in *device=cpu*) exec {self.bin}/real "$@" ;;\n'
                                  f'*runs/gpu*) exec {self.bin}/real "$@" -o head.scale=31 ;;\n'
                                  '*) echo "error: not for this test"; exit 3 ;; esac')
        status, out = self.check("--only", "train", "--tiny", "--budget", "200")
        self.assertEqual(status, 1, out)
        train = self.units("train")
        self.assertEqual(train["cpu"]["result"], "passed")
        self.assertEqual(train["gpu"]["result"], "failed")
        self.assertIn("part from the CPU's", train["gpu"]["note"])
        self.assertIn("not for this test", train["nccl"]["note"])
        self.assertEqual(self.report["targets"][0]["holds"], "no")

    def test_without_a_gpu_it_says_so(self):
        self.script("test_gpu_fake", PASSES)
        status, out = self.check("--tiny", "--budget", "120", devices="0")
        self.assertEqual(status, 1, out)
        self.assertIn("nothing is proved: no GPU here", self.report["state"])
        self.assertEqual(self.units("tests")["tests on a GPU"]["result"], "skipped")
        self.assertEqual(self.units("bench")["benchmarks"]["result"], "skipped")
        train = self.units("train")
        self.assertEqual([train[name]["result"] for name in ("cpu", "cpu_2_ranks", "cpu_resumed")], ["passed"] * 3)
        self.assertTrue(self.report["targets"])
        self.assertEqual({t["holds"] for t in self.report["targets"]}, {"not measured"})

    def test_the_command_line(self):
        for arguments, text in ((["--budget", "soon"], "expected seconds"), (["--only", "sleep"], "--only sleep"),
                                (["--fast"], "unknown option"), (["--data", "/nowhere"], "no such folder")):
            status, out = self.check(*arguments)
            self.assertEqual(status, 2)
            self.assertIn(text, out)
        os.remove(os.path.join(self.bin, "plsc-train"))
        status, out = self.check("--tiny")
        self.assertEqual(status, 2)
        self.assertIn("no plsc-train in", out)
        status, out = self.check("--help")
        self.assertEqual(status, 0)
        self.assertIn("--budget TIME", out)
        self.assertNotIn("pipefail", out)
        self.assertIsNone(self.report)


if __name__ == "__main__":
    unittest.main(verbosity=2)
