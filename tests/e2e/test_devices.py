"""Which device a run takes, and what it says where it cannot have it. A machine with any number of GPUs is played by
plsc-train-standin (tests/cuda/app.cmake); without it what a build without CUDA says is tested alone."""
import os
import unittest

from support import TRAIN, E2eCase, run

STANDIN = os.environ.get("PLSC_STANDIN_BIN", "")


def needs_standin(test):
    return unittest.skipUnless(os.path.exists(STANDIN), "plsc-train-standin is not built (preset cuda)")(test)


class Devices(E2eCase):
    def program(self, name, gpus, overrides=(), ranks=None, fails=False, env=None, binary=STANDIN, resume="none"):
        """Runs the program on a machine with so many GPUs; returns what it printed."""
        args = [binary, "-c", self.config(name), "--resume", resume, "-o", "device=auto", "-o", "train.steps=3"]
        for override in list(overrides) + ([f"ranks={ranks}"] if ranks else []):
            args += ["-o", override]
        return run(args, fails=fails, env={"PLSC_STANDIN_DEVICES": str(gpus), **(env or {})}).stdout

    def refused(self, texts, gpus, *overrides, **options):
        out = self.program("refused", gpus, overrides, fails=True, **options)
        for text in texts:
            self.assertIn(text, out)
        self.assertEqual(out.count("plsc-train: "), 1, out)  # however many ranks there are
        self.assertNotIn("rank 0:", out)
        self.assertFalse(os.path.exists(self.folder("refused/metrics.jsonl")))

    @needs_standin
    def test_no_gpu(self):
        for ranks in (None, 2):
            self.refused(["device: cuda: this machine has no GPU", "use device: cpu"], 0, "device=cuda", ranks=ranks)

    @needs_standin
    def test_driver_that_is_too_old(self):
        self.refused(["device: cuda: ", "driver", "built with CUDA", "use device: cpu"], "old-driver", "device=cuda")

    @needs_standin
    def test_auto_without_a_gpu_takes_the_cpu_and_says_why(self):
        out = self.program("auto", 0)
        self.assertIn("auto is cpu: this machine has no GPU", out)
        self.assertIn("1 x cpu", out)

    @needs_standin
    def test_device_cpu_says_nothing_of_gpus(self):
        out = self.program("cpu", 2, ["device=cpu"])
        self.assertIn("1 x cpu", out)
        self.assertNotIn("GPU", out)

    @needs_standin
    def test_gpu_that_is_not_there(self):
        self.refused(["gpus: found 5, but 2 GPUs are visible", "CUDA_VISIBLE_DEVICES"], 2, "gpus=[5]")
        self.refused(["gpus: found 1, but 1 GPU is visible"], 2, "gpus=[1]", env={"CUDA_VISIBLE_DEVICES": "1"})

    @needs_standin
    def test_more_ranks_than_gpus(self):
        self.refused(["3 ranks on host", "but 2 GPUs", "comm: {backend: mpi}"], 2, ranks=3)
        self.refused(["2 ranks on host", "but 1 GPU"], 2, "gpus=[1]", ranks=2)

    @needs_standin
    def test_nccl_on_a_cpu(self):
        self.refused(["comm.backend: found nccl with device cpu"], 2, "device=cpu", "comm.backend=nccl")
        self.refused(["comm.backend: nccl: this machine has no GPU", "auto or mpi"], 0, "comm.backend=nccl", ranks=2)

    @needs_standin
    def test_precision_that_the_gpu_lacks(self):
        for precision, capability, instead in (("bf16", "7.5", "fp16 or fp32"), ("tf32", "7.5", "fp32 or fp16")):
            self.refused([f"train.precision: {precision}", f"compute capability {capability}", instead], 1,
                         f"train.precision={precision}", env={"PLSC_STANDIN_CAPABILITY": capability})

    @needs_standin
    def test_one_rank_a_gpu(self):
        out = self.program("own", 2)
        self.assertIn("auto is cuda: 2 GPUs", out)
        self.assertIn("device     2 x ", out)
        self.assertIn("joined by NCCL", out)
        self.assertIn("NCCL 2.", out)

    @needs_standin
    def test_one_of_two_gpus(self):
        self.assertIn("device     1 x ", self.program("one", 2, ["gpus=[1]"]))
        self.assertIn("device     1 x ", self.program("seen", 2, env={"CUDA_VISIBLE_DEVICES": "1"}))

    @needs_standin
    def test_a_scheduler_that_shows_each_rank_a_gpu_of_its_own(self):
        # As Slurm binds GPUs to tasks: each rank calls its own one number 0.
        script = f'CUDA_VISIBLE_DEVICES=$OMPI_COMM_WORLD_LOCAL_RANK exec "$0" "$@"'
        args = ["sh", "-c", script, STANDIN, "-c", self.config("bound"), "--resume", "none", "-o", "device=cuda",
                "-o", "train.steps=3"]
        variables = {f"OMPI_{name}": "1" for name in ("ALLOW_RUN_AS_ROOT", "ALLOW_RUN_AS_ROOT_CONFIRM",
                                                      "MCA_rmaps_base_oversubscribe")}
        out = run(["mpirun", "-np", "2"] + args, env={**variables, "PLSC_STANDIN_DEVICES": "2",
                                                      "PRTE_ALLOW_RUN_AS_ROOT": "1",
                                                      "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                                                      "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"}).stdout
        self.assertIn("device     2 x ", out)
        self.assertIn("joined by NCCL", out)

    @needs_standin
    def test_ranks_that_share_a_gpu(self):
        out = self.program("shared", 1, ["comm.backend=mpi"], ranks=2)
        self.assertIn("share GPUs", out)
        self.assertIn("through host memory by MPI", out)

    @needs_standin
    def test_a_collective_that_hangs_ends_the_run(self):
        out = self.program("hang", 2, ["comm.timeout=5s", "train.steps=40"], fails=True,
                           env={"PLSC_STANDIN_NCCL": "hang:rank=1:call=30"})
        self.assertIn("waited 5 s for the other ranks", out)
        self.assertEqual(out.count("plsc-train: "), 1, out)

    @needs_standin
    def test_an_error_of_nccl_ends_the_run(self):
        out = self.program("broken", 2, ["train.steps=40"], fails=True,
                           env={"PLSC_STANDIN_NCCL": "error:rank=1:call=30"})
        self.assertIn("rank 1: error: NCCL: ", out)
        self.assertEqual(out.count("plsc-train: "), 1, out)

    def test_a_build_without_cuda_never_mentions_it(self):
        if STANDIN:
            self.skipTest("this build has CUDA")
        out = self.program("plain", 0, binary=TRAIN)
        self.assertNotIn("cuda", out.lower())
        self.assertNotIn("gpu", out.lower())
        for override, text in (("device=cuda", "device: cuda: this build of plsc-train has no CUDA backend"),
                               ("comm.backend=nccl", "comm.backend: nccl: this build of plsc-train has no CUDA backend")):
            self.refused([text], 0, override, binary=TRAIN)


if __name__ == "__main__":
    unittest.main(verbosity=2)
