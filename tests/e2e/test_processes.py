"""Processes that die, hang, are told to stop, or get in each other's way."""
import contextlib
import os
import signal
import subprocess
import time
import unittest

from support import TRAIN, E2eCase, run

INTERRUPTED = 75  # kExitInterrupted

MPIRUN = ["env", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "mpirun", "--oversubscribe", "--bind-to",
          "none"]
LONG = ["train.steps=100000", "checkpoint.every_steps=20", "eval.sets=[]"]


def ranks_of(launcher):
    """{rank: pid} of the plsc-train processes below a launcher, by their environment."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/environ", "rb") as f:
                env = dict(e.split(b"=", 1) for e in f.read().split(b"\0") if b"=" in e)
            with open(f"/proc/{entry}/cmdline", "rb") as f:
                program = f.read().split(b"\0")[0]
        except OSError:
            continue
        if b"PLSC_E2E" in env and env[b"PLSC_E2E"] == launcher and b"OMPI_COMM_WORLD_RANK" in env and program.endswith(b"plsc-train"):
            found[int(env[b"OMPI_COMM_WORLD_RANK"])] = int(entry)
    return found


class Processes(E2eCase):
    def start(self, name, ranks, overrides=(), starter=()):
        """A run that would last for hours, after its first steps; `starter`: of the ranks, where it is not our own."""
        args = [*starter, TRAIN, "-c", self.config(name)] + ([] if starter else ["-o", f"ranks={ranks}"])
        for o in LONG + list(overrides):
            args += ["-o", o]
        self.log = open(self.folder(name + ".out"), "w+")
        self.addCleanup(self.log.close)
        process = subprocess.Popen(args, stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, "PLSC_E2E": name})
        self.addCleanup(self.kill_all, name, process)
        self.wait_for(lambda: os.path.exists(self.folder(f"{name}/metrics.jsonl")) and len(self.losses(name)) > 2,
                      "the first steps", process)
        return process

    def kill_all(self, name, process):
        process.poll() is None and process.kill()
        for pid in ranks_of(name.encode()).values():
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def wait_for(self, condition, what, process=None, seconds=90):
        end = time.time() + seconds
        while not condition():
            if time.time() > end or (process and process.poll() is not None):
                self.fail(f"{what} did not come\n{self.output()[-3000:]}")
            time.sleep(0.1)

    def output(self):
        self.log.flush()
        with open(self.log.name) as f:
            return f.read()

    def test_dead_rank_is_named_and_the_others_end(self):
        process = self.start("dead", 3)
        os.kill(ranks_of(b"dead")[1], signal.SIGKILL)
        killed = time.time()
        # Of the rank that died, or of one that found it dead before mpirun did.
        self.assertIn(process.wait(timeout=60), (128 + signal.SIGKILL, 1))
        self.assertLess(time.time() - killed, 30)
        self.wait_for(lambda: not ranks_of(b"dead"), "the end of the others")
        self.assertRegex(self.output(), r"rank 1\b")

    def test_hung_rank_is_named(self):
        process = self.start("hung", 3, ["comm.timeout=5s"])
        os.kill(ranks_of(b"hung")[2], signal.SIGSTOP)
        self.assertNotEqual(process.wait(timeout=90), 0)
        self.assertRegex(self.output(), r"rank 2\b")

    def test_hung_rank_of_a_group_is_named(self):
        """Not the one that waits for it in its group, nor those of the other group, which are further."""
        process = self.start("hung_group", 4, ["comm.timeout=5s", "model.sync_batch_norm=2"])
        os.kill(ranks_of(b"hung_group")[3], signal.SIGSTOP)
        self.assertNotEqual(process.wait(timeout=90), 0)
        self.assertRegex(self.output(), r"Missing: rank 3\b")

    def assert_stopped(self, name, process):
        """It has ended in order: a checkpoint of the last step, and no word from a starter that killed ranks."""
        self.assertEqual(process.wait(timeout=60), INTERRUPTED, self.output())
        self.assertIn("stopped on request", self.output())
        self.assertNotRegex(self.output(), "by signal|killed|died")
        done = len(self.losses(name))
        self.assertTrue(os.path.isdir(self.checkpoint(name, done)), done)
        return done

    def test_a_request_to_stop_writes_a_checkpoint_and_resumes(self):
        for ranks, number in ((1, signal.SIGTERM), (1, signal.SIGUSR2), (2, signal.SIGINT), (2, signal.SIGTERM),
                              (3, signal.SIGUSR1)):
            name = f"stop{ranks}{number}"
            process = self.start(name, ranks)
            process.send_signal(number)
            done = self.assert_stopped(name, process)
            self.assertNotIn("---", self.output())  # mpirun's page of advice
        self.train(name, 2, overrides=[f"train.steps={done + 3}", "eval.sets=[]"])
        self.assertEqual(len(self.losses(name)), done + 3)

    def test_a_request_to_every_process_at_once(self):
        # As Slurm ends a job: the launcher, mpirun, which would end the ranks, and the ranks.
        process = self.start("everyone", 3)
        ranks = ranks_of(b"everyone").values()
        with open(f"/proc/{list(ranks)[0]}/stat") as f:
            mpirun = int(f.read().rsplit(")", 1)[1].split()[1])
        for pid in [mpirun, *ranks, process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        self.assert_stopped("everyone", process)

    def test_a_request_to_one_rank_stops_all(self):
        for name, number, target in (("one0", signal.SIGTERM, 0), ("one2", signal.SIGUSR1, 2)):
            process = self.start(name, 3, starter=MPIRUN + ["-np", "3"])
            os.kill(ranks_of(name.encode())[target], number)
            self.assert_stopped(name, process)

    def test_a_request_through_mpirun(self):
        process = self.start("through", 3, starter=MPIRUN + ["-np", "3"])
        process.send_signal(signal.SIGUSR1)
        self.assert_stopped("through", process)

    def test_a_request_that_mpirun_loses_is_repeated(self):
        # mpirun takes signals before it has ranks to forward them to; here one that hears the third alone.
        os.mkdir(self.folder("deaf"))
        mpirun = self.folder("deaf/mpirun")
        with open(mpirun, "w") as f:
            f.write("#!/bin/bash\nheard=0\ntrap 'heard=$((heard + 1)); [ $heard -lt 3 ] || exit 75' USR1\n"
                    f"touch {self.folder('deaf/ready')}\nfor i in {{1..300}}; do sleep 0.1; done\n")
        os.chmod(mpirun, 0o755)
        process = subprocess.Popen([TRAIN, "-c", self.config("lost"), "-o", "ranks=2"],
                                   env={**os.environ, "PATH": f"{self.folder('deaf')}:{os.environ['PATH']}"})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        end = time.time() + 30
        while not os.path.exists(self.folder("deaf/ready")):
            self.assertLess(time.time(), end)
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(timeout=60), INTERRUPTED)

    def test_a_second_interrupt_ends_at_once(self):
        process = self.start("twice_told", 2)
        for pid in ranks_of(b"twice_told").values():
            os.kill(pid, signal.SIGSTOP)  # these will not save
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGINT)
        self.assertNotIn(process.wait(timeout=40), (0, INTERRUPTED))
        self.assertIn("ended at a second interrupt", self.output())

    def test_interrupt_before_the_first_step_ends_at_once(self):
        pipe = self.folder("slow.txt")  # a list that never comes: a scan that takes hours
        os.mkfifo(pipe)
        for ranks, number in ((1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)):
            name = f"early{ranks}{number}"
            args = [TRAIN, "-c", self.config(name), "-o", f"ranks={ranks}", "-o", f"data.train={pipe}"]
            self.log = open(self.folder(name + ".out"), "w+")
            self.addCleanup(self.log.close)
            process = subprocess.Popen(args, stdout=self.log, stderr=subprocess.STDOUT, env={**os.environ, "PLSC_E2E": name})
            self.addCleanup(self.kill_all, name, process)
            self.wait_for(lambda: os.path.exists(self.folder(f"{name}/train.log")), "the opening of the data", process)
            time.sleep(0.5)
            process.send_signal(number)
            self.assertEqual(process.wait(timeout=20), INTERRUPTED)
            self.wait_for(lambda: not ranks_of(name.encode()), "the end of the ranks")
            self.assertEqual(self.output().count("nothing to save"), 1, self.output())
            self.assertNotIn("died", self.output())

    def newest(self, name):
        """The step of the newest checkpoint; 0: none."""
        folder = self.folder(name + "/checkpoints")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        return max([int(n[5:]) for n in names if n.startswith("step_")], default=0)

    def test_killed_at_any_time_resumes(self):
        for delay in (0.0, 0.3, 0.7):
            before = self.newest("killed")
            process = self.start("killed", 2)
            self.wait_for(lambda: self.newest("killed") > before, "another checkpoint", process)
            time.sleep(delay)
            for pid in ranks_of(b"killed").values():
                os.kill(pid, signal.SIGKILL)
            process.wait(timeout=60)
        steps = self.newest("killed") + 5
        self.train("killed", 2, overrides=[f"train.steps={steps}", "eval.sets=[]"])
        self.assertEqual([m["step"] for m in self.metrics("killed")], list(range(1, steps + 1)))

    def test_two_runs_into_one_output(self):
        process = self.start("twice", 1)
        done = run([TRAIN, "-c", self.config("twice"), "-o", "ranks=2"], fails=True)
        self.assertIn(self.folder("twice"), done.stdout)
        self.assertIsNone(process.poll())

    def test_under_mpirun(self):
        run(MPIRUN + ["-np", "2", TRAIN, "-c", self.config("mpirun"), "-o", "train.steps=3"])
        self.assertEqual(len(self.losses("mpirun")), 3)

    def test_scheduler_tasks_without_mpi(self):
        done = run([TRAIN, "-c", self.config("slurm")], fails=True,
                   env={"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "4"})
        self.assertIn("--mpi=pmix", done.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
