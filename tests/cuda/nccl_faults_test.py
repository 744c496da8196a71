"""Ranks joined by NCCL, of which one fails, dies or does not come: all of them end within the time-out, and the message
says what was waited for and who is to blame."""
import os
import subprocess
import time
import unittest

PROGRAM = os.environ["PLSC_GPU_RANK_PROGRAM"]
MPIRUN = os.environ.get("PLSC_MPIRUN", "mpirun")
LIMIT = 90  # seconds: generous, for a machine that is busy with other tests


class NcclFaults(unittest.TestCase):
    def ranks(self, n, action="run", victim=-1, fault=None, timeout=3, group=0):
        env = {**os.environ, "PLSC_STANDIN_DEVICES": str(n), **({"PLSC_STANDIN_NCCL": fault} if fault else {})}
        begin = time.monotonic()
        done = subprocess.run([MPIRUN, "-np", str(n), PROGRAM, str(timeout), action, str(victim),
                               *([str(group)] if group else [])], env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=LIMIT)
        self.seconds = time.monotonic() - begin
        return done.returncode, done.stdout

    def fails(self, texts, n=3, **how):
        status, out = self.ranks(n, **how)
        self.assertNotEqual(status, 0, out)
        for text in texts:
            self.assertIn(text, out)
        self.assertEqual(out.count("plsc-train: "), 1, out)  # one cause is told once
        return out

    def test_without_a_fault(self):
        status, out = self.ranks(3)
        self.assertEqual(status, 0, out)
        self.assertIn("done: 3", out)

    def test_a_rank_that_does_not_come_is_named(self):
        self.fails(["waited 3 s for the other ranks: the logit sums", "Missing: rank 1", "step 5", "phase forward"],
                   action="absent", victim=1)

    def test_groups_of_ranks(self):
        status, out = self.ranks(4, group=2)
        self.assertEqual(status, 0, out)
        self.assertIn("done: 8", out)  # two ones, and that of all four ranks
        out = self.fails(["waited 3 s for the other ranks", "Missing: rank 3", "step 5"], n=4, action="absent", victim=3,
                         group=2)
        self.assertNotIn("Missing: rank 2", out)
        self.fails(["rank 3", "died"], n=4, action="die", victim=3, timeout=600, group=2)

    def test_rank_0_does_not_come(self):
        self.fails(["waited 3 s for the other ranks: the logit sums", "Missing: rank 0"], action="absent", victim=0)

    def test_a_rank_that_dies_is_known_long_before_the_time_out(self):
        out = self.fails(["rank 2", "died", "step"], action="die", victim=2, timeout=600)
        self.assertNotIn("waited", out)

    def test_a_rank_that_fails_says_why(self):
        self.fails(["rank 1: error: the disk is full"], action="throw", victim=1, timeout=600)

    def test_an_error_of_nccl_ends_all_ranks(self):
        self.fails(["rank 1: error: NCCL: ", "unhandled system error"], fault="error:rank=1:call=4", timeout=600)

    def test_the_error_of_nccl_is_what_later_calls_tell(self):
        self.fails(["rank 1: error: NCCL: ", "unhandled system error"], action="ask", fault="error:rank=1:call=4", timeout=600)

    def test_a_collective_that_hangs_times_out(self):
        self.fails(["waited 3 s for the other ranks: the logit sums"], fault="hang:rank=1:call=4")


if __name__ == "__main__":
    unittest.main(verbosity=2)
