"""The batch scripts on a real Slurm of two nodes: trainings that complete, are stopped and go on, are cancelled, and
fail. Where Slurm is not installed these tests are skipped; what the scripts decide is then still tested with its
commands acted (class Decisions)."""
import os
import stat
import subprocess
import sys
import unittest

from support import TRAIN, E2eCase

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import slurm_cluster  # noqa: E402

SOURCE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
INTERRUPTED = 75
# Some seconds, on a fast machine, too: steps over shared memory, and over TCP between two nodes that share few cores.
ONE_NODE_STEPS, STEPS = 4000, 100


def plsc_folder(where, program):
    """A folder as a bundle is: bin/plsc-train and the scripts."""
    os.makedirs(f"{where}/bin")
    os.symlink(program, f"{where}/bin/plsc-train")
    os.symlink(f"{SOURCE}/scripts", f"{where}/scripts")
    return where


@unittest.skipIf(slurm_cluster.missing(), slurm_cluster.missing())
class BatchScripts(E2eCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(super().tearDownClass)
        cls.plsc = plsc_folder(os.path.join(cls.root, "plsc"), os.path.abspath(TRAIN))
        cls.cluster = slurm_cluster.SlurmCluster()
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()

    def submit(self, script, name, *words, options=(), overrides=(), **env):
        """One of the batch scripts as it is, for a run into folder `name`; the job's number."""
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
        # One thread a rank: 64 cores that are not there make no sensible number of threads. The loopback network, which
        # Open MPI leaves out by itself, is the only one that every machine has.
        common = [f"train.steps={ONE_NODE_STEPS if 'one' in script else STEPS}", "train.threads=1", "eval.sets=[]", *overrides]
        words = [*words, *(w for o in common for w in ("-o", o))]
        path = os.path.join(SOURCE, "scripts/slurm", script)
        return self.cluster.submit(*options, path, *words, folder=self.plsc, CONFIG=self.config(name),
                                   OMPI_MCA_btl_tcp_if_include="lo", OMPI_MCA_oob_tcp_if_include="lo", **root, **env)

    def one_node(self, name, **more):
        return self.submit("one_node.sbatch", name, "-o", "ranks=2", **more)

    def multi_node(self, name, options=(), **more):
        return self.submit("multi_node.sbatch", name, options=["--ntasks-per-node=2", *options], **more)

    def log(self, job):
        path = f"{self.plsc}/plsc-train-{job}.log"
        if not os.path.exists(path):
            return "(no log)"
        with open(path) as f:
            return f.read()

    def wait_for(self, condition, what, job, seconds=60):
        try:
            self.cluster.wait_for(condition, what, seconds)
        except RuntimeError as error:
            self.fail(f"{error}\n{self.cluster.job(job)}\n{self.log(job)}")

    def wait_for_steps(self, name, job, steps=10):
        path = self.folder(f"{name}/metrics.jsonl")
        self.wait_for(lambda: os.path.exists(path) and len(self.losses(name)) > steps, f"step {steps}", job)

    def wait_for_end(self, job):
        """The job's last state; a slow machine, too, comes to it."""
        running = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED")
        self.wait_for(lambda: self.cluster.job(job)["JobState"] not in running, "the end of the job", job, seconds=300)
        return self.cluster.job(job)

    def assert_complete(self, name, job, restarts, steps=STEPS):
        end = self.wait_for_end(job)
        self.assertEqual((end["JobState"], end["ExitCode"], end["Restarts"]), ("COMPLETED", "0:0", str(restarts)),
                         self.log(job))
        self.assertEqual([m["step"] for m in self.metrics(name)], list(range(1, steps + 1)))
        straight = f"straight{steps}"
        if not os.path.isdir(self.folder(straight)):
            self.train(straight, 1, overrides=[f"train.steps={steps}", "train.threads=1", "eval.sets=[]"])
        # Exact sums: not a bit of a weight depends on the ranks; the loss itself is a sum of doubles over them.
        self.assert_close(self.losses(straight), self.losses(name), 1e-12)

    def assert_saved_when_cancelled(self, name, job, restarts):
        self.cluster.run("scancel", job)
        end = self.wait_for_end(job)
        self.assertEqual((end["JobState"], end["Restarts"]), ("CANCELLED", str(restarts)), self.log(job))
        self.wait_for(lambda: "stopped; the job is being ended" in self.log(job), "the script's last word", job)
        self.assertTrue(os.path.isdir(self.checkpoint(name, len(self.losses(name)))), self.log(job))

    def test_stopped_twice_and_complete_on_one_node(self):
        job, done = self.one_node("one"), 0
        for turn in (1, 2):
            self.wait_for_steps("one", job, done + 150)
            self.cluster.run("scancel", "--batch", "--signal=USR1", job)  # as --signal=B:USR1@... does
            self.wait_for(lambda: self.cluster.job(job)["Restarts"] == str(turn), "the requeue", job)
            done = len(self.losses("one"))
        self.assert_complete("one", job, restarts=2, steps=ONE_NODE_STEPS)
        self.assertEqual(self.log(job).count("stopped on request"), 2, self.log(job))
        self.assertEqual(self.log(job).count("resuming from"), 2, self.log(job))

    def test_stopped_and_complete_on_two_nodes(self):
        job = self.multi_node("two")
        self.wait_for_steps("two", job)
        self.cluster.run("scancel", "--batch", "--signal=USR1", job)
        self.assert_complete("two", job, restarts=1)
        self.assertIn("4 x cpu", self.log(job))
        self.assertIn("on node[1-2]", self.log(job))

    def test_tasks_that_are_told_themselves(self):
        # --signal=USR1 without B: the tasks get it, and not the batch shell.
        job = self.multi_node("tasks")
        self.wait_for_steps("tasks", job)
        self.cluster.run("scancel", "--signal=USR1", job)
        self.assert_complete("tasks", job, restarts=1)

    def test_mpirun_inside_the_allocation(self):
        job = self.multi_node("mpirun", LAUNCH="mpirun")
        self.wait_for_steps("mpirun", job)
        self.cluster.run("scancel", "--batch", "--signal=USR1", job)
        self.assert_complete("mpirun", job, restarts=1)
        self.assertIn("4 x cpu", self.log(job))

    def test_the_time_limit_and_a_cancelled_job(self):
        # Slurm looks at limits every 30 s or so, and may come a minute early: 55 s before the end of a minute is soon.
        job = self.multi_node("limit", options=["--time=1", "--signal=B:USR1@55"], overrides=["train.steps=1000000"])
        self.wait_for(lambda: self.cluster.job(job)["Restarts"] == "1", "the requeue", job)
        self.assertIn("stopped on request", self.log(job))
        # The second turn has an hour: else its own signal comes, soon or late, around that of scancel.
        self.assertEqual(self.cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=60").stdout, "")
        stopped = len(self.losses("limit"))
        self.wait_for_steps("limit", job, stopped + 10)
        self.assert_saved_when_cancelled("limit", job, restarts=1)

    def test_a_cancelled_job_on_one_node(self):
        job = self.one_node("cancelled", overrides=["train.steps=1000000"])
        self.wait_for_steps("cancelled", job)
        self.assert_saved_when_cancelled("cancelled", job, restarts=0)

    def test_an_error_is_not_tried_again(self):
        for name, submit in (("wrong1", self.one_node), ("wrong2", self.multi_node)):
            job = submit(name, overrides=[f"data.train={self.folder('nowhere')}"])
            end = self.wait_for_end(job)
            self.assertEqual((end["JobState"], end["ExitCode"], end["Restarts"]), ("FAILED", "1:0", "0"), self.log(job))
            self.assertEqual(self.log(job).count("error: data.train"), 1, self.log(job))

    def test_a_dead_rank_ends_the_job(self):
        job = self.multi_node("dead", overrides=["train.steps=1000000"])
        self.wait_for_steps("dead", job)
        ranks = {}
        for pid in self.cluster.processes():
            with open(f"/proc/{pid}/environ", "rb") as f:
                env = dict(e.split(b"=", 1) for e in f.read().split(b"\0") if b"=" in e)
            if b"PMIX_RANK" in env:
                ranks[int(env[b"PMIX_RANK"])] = pid
        os.kill(ranks[3], 9)
        end = self.wait_for_end(job)
        self.assertEqual((end["JobState"], end["Restarts"]), ("FAILED", "0"), self.log(job))
        self.assertRegex(self.log(job), r"rank 3 .*died")

    def test_srun_without_pmix(self):
        done = self.cluster.run("srun", "--nodes=2", "--ntasks=4", "--mpi=none", TRAIN, "-c", self.config("apart"))
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(done.stdout.count("plsc-train: error"), 1, done.stdout)
        self.assertIn("--mpi=pmix", done.stdout)
        self.assertFalse(os.path.exists(self.folder("apart/metrics.jsonl")))


class Decisions(E2eCase):
    """train_and_requeue.sh with Slurm's commands and plsc-train acted by scripts."""

    def run_job(self, name, status, state="RUNNING None", launch="own", tool=None, **env):
        """One turn of job 7, whose training ends with `status`; (its output, its status, what was requeued)."""
        folder = self.folder(name)
        if not os.path.isdir(folder):
            program = self.script(f"{name}-train", f"""
                if [ "$1" = config ]; then echo "output: {folder}/run    # f.yaml:1"; exit 0; fi
                echo "trained by $0 $*"; {tool or ''}
                exit {status}""")
            plsc_folder(folder, program)
            tools = {"squeue": f"echo '{state}'", "scontrol": f'echo "$*" >>{folder}/requeued',
                     "srun": 'case "$*" in --mpi=list) echo "${MPI_LIST:-none}"; eval "${ASKED:-}" ;; '
                             '*) echo "srun $*, fences $SLURM_PMIX_FENCE_BARRIER $SLURM_PMIX_FENCE" ;; esac',
                     "mpirun": 'echo "mpirun $*"; eval "${MPIRUN:-}"'}
            os.mkdir(f"{folder}/tools")
            for tool_name, text in tools.items():
                self.script(f"{name}/tools/{tool_name}", text)
        done = subprocess.run([f"{folder}/scripts/slurm/train_and_requeue.sh", "--launch", launch, "-c", "f.yaml"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                              env={**os.environ, "PATH": f"{folder}/tools:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
                                   "SLURM_NTASKS": "8", **env})
        requeued = ""
        if os.path.exists(f"{folder}/requeued"):
            with open(f"{folder}/requeued") as f:
                requeued = f.read()
        return done.stdout, done.returncode, requeued

    def script(self, name, text):
        path = self.folder(name)
        with open(path, "w") as f:
            f.write("#!/bin/bash\n" + text + "\n")
        os.chmod(path, stat.S_IRWXU)
        return path

    def test_what_goes_back_into_the_queue(self):
        for name, status, state, back in (("done", 0, "RUNNING None", False), ("failed", 1, "RUNNING None", False),
                                          ("killed", 137, "RUNNING None", False), ("told", 75, "RUNNING None", True),
                                          ("limit", 75, "COMPLETING TimeLimit", True),
                                          ("cancelled", 75, "COMPLETING None", False)):
            output, returned, requeued = self.run_job(name, status, state)
            self.assertEqual(returned, status, output)
            self.assertEqual(requeued, "requeue 7\n" if back else "", name + output)

    def test_turns_without_progress_end(self):
        for turn in (1, 2):
            self.assertEqual(self.run_job("idle", 75)[2].count("requeue 7"), turn)
        output, _, requeued = self.run_job("idle", 75)
        self.assertEqual(requeued.count("requeue 7"), 2)
        self.assertIn("not again", output)
        # Another job begins its count anew.
        self.assertEqual(self.run_job("idle", 75, SLURM_JOB_ID="8")[2].count("requeue 8"), 1)

    def test_turns_with_progress_go_on(self):
        checkpoints = self.folder("busy/run/checkpoints")
        save = f"mkdir -p {checkpoints}/step_$(date +%s%N)"
        for turn in range(1, 6):
            self.assertEqual(self.run_job("busy", 75, tool=save)[2].count("requeue 7"), turn)

    def test_a_signal_that_nobody_took_is_a_request(self):
        # The program dies of it, as before its handlers are there. Several times: what bash is told first is chance.
        for number in range(10):
            output, returned, requeued = self.run_job(f"early{number}", 0, tool="kill -USR1 $PPID; kill -USR1 $$; sleep 5")
            self.assertEqual((returned, requeued), (75, "requeue 7\n"), output)

    def test_a_signal_before_the_training_is_passed_on(self):
        # While the script still asks Slurm how to start the ranks.
        for number in ("USR1", "TERM"):
            output, returned, requeued = self.run_job(f"before{number}", 0, launch="auto", ASKED=f"kill -{number} $PPID",
                                                      MPIRUN="exec sleep 30")
            self.assertEqual((returned, requeued), (75, "requeue 7\n"), output)

    def test_a_signal_that_mpirun_loses_is_repeated(self):
        # mpirun takes signals before it has ranks to forward them to; here one that hears the third alone.
        deaf = "heard=0; trap 'heard=$((heard + 1)); [ $heard -lt 3 ] || exit 75' USR1; kill -USR1 $PPID; " \
               "for i in {1..300}; do sleep 0.1; done"
        output, returned, requeued = self.run_job("lost", 0, launch="mpirun", MPIRUN=deaf)
        self.assertEqual((returned, requeued), (75, "requeue 7\n"), output)

    def test_how_ranks_are_started(self):
        by_srun = self.run_job("auto1", 0, launch="auto", MPI_LIST="pmix none")[0]
        self.assertIn("srun --mpi=pmix", by_srun)
        self.assertIn("fences true ring", by_srun)
        self.assertIn("mpirun -np 8", self.run_job("auto2", 0, launch="auto")[0])
        self.assertIn("--cpus-per-task=3 ", self.run_job("cores", 0, launch="srun", SLURM_CPUS_PER_TASK="3")[0])
        output, returned, _ = self.run_job("typo", 0, launch="sruns")
        self.assertEqual(returned, 2, output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
