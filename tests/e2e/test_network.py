"""Hosts behind a switch whose ports have a rate (scripts/bench/network_namespaces.py): what their interfaces count against
the plan, and that nothing is left of them. Skipped where a process may not make networks of its own."""
import glob
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from support import TRAIN

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "../../scripts/bench/network_namespaces.py")
sys.path.insert(0, os.path.dirname(SCRIPT))
import network_namespaces as bench  # noqa: E402
from network_namespaces import hosts  # noqa: E402

WHY = hosts.missing(shaped=True)
# How far counted bytes may be off the plan's. Acknowledgements are 2.2 % at the most; messages of MPI have headers, too, and
# ranks exchange labels and small values that a plan leaves out.
OFF = 0.05


def processes_of(folder):
    """Those that name it in their command line."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as f:
                if folder.encode() in f.read():
                    found.append(path)
        except OSError:  # it has ended
            pass
    return found


@unittest.skipIf(WHY, WHY)
class Network(unittest.TestCase):
    def check(self, count, rate, variant, off=OFF):
        with bench.Bench(TRAIN, count, rate) as hosts_of_it:
            shaped = subprocess.run(hosts_of_it.cluster.hosts[0].command("tc", "qdisc", "show", "dev", hosts.CABLE), env=hosts.ENV,
                                    stdout=subprocess.PIPE, text=True, check=True).stdout
            self.assertIn("tbf", shaped)
            m = hosts_of_it.measure(bench.VARIANTS[variant], warm_up=2, steps=6)
        print(f"{count} hosts, {variant}: {m}")
        self.assertGreater(m["rate"], 0)
        # Not fewer than the frames of the tensors: 1 % for steps that begin and end with something on its way.
        self.assertGreater(m["off"], -0.01)
        self.assertLess(m["off"], off)
        return m

    def test_bytes_on_the_wire_are_those_of_the_plan(self):
        dense = self.check(2, "1gbit", "dense")
        # On a busy machine acknowledgements find less to ride on: 66 bytes for every second frame and each message are 3 %.
        topk = self.check(2, "1gbit", "topk", OFF + 0.03)
        # So little that what messages take beside their tensors is seen.
        self.assertGreater(topk["planned"], 1.05 * topk["tensors"])
        # Norms, slopes, small weights, labels and embeddings are sent as before.
        self.assertLess(topk["counted"], 0.2 * dense["counted"])
        exact = self.check(2, "1gbit", "exact")
        # Twice the bytes of each gradient; the embeddings are what they were.
        self.assertGreater(exact["counted"], 1.8 * dense["counted"])

    def test_four_hosts(self):
        self.check(4, "1gbit", "dense")

    def test_nothing_is_left_of_them(self):
        for variant, send, status, text in (("broken: head.scale=-1", None, 1, "network_namespaces.py: broken: "),
                                            ("dense", signal.SIGINT, 130, ""), ("dense", signal.SIGTERM, 143, "")):
            with tempfile.TemporaryDirectory() as folder:
                words = ["--add", variant] if ":" in variant else []
                words += ["--variants", variant.split(":")[0], "--program", TRAIN, "--steps", "1000" if send else "1"]
                process = subprocess.Popen([sys.executable, SCRIPT, *words], env={**os.environ, "TMPDIR": folder},
                                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.addCleanup(process.kill)
                if send:
                    self.wait_for_training(folder)
                    self.assertNotEqual(processes_of(folder), [])
                    process.send_signal(send)
                out, err = process.communicate(timeout=60)
                self.assertEqual(process.returncode, status, out + err)
                self.assertIn(text, err)
                self.assertEqual(os.listdir(folder), [])
                end = time.time() + 10
                while processes_of(folder) and time.time() < end:  # a process that was killed takes its time
                    time.sleep(0.1)
                self.assertEqual(processes_of(folder), [])

    def wait_for_training(self, folder):
        end = time.time() + 60
        while not glob.glob(folder + "/plsc-hosts-*/run1/metrics.jsonl"):
            self.assertLess(time.time(), end, "no training has begun")
            time.sleep(0.1)

    def test_words_that_it_does_not_know(self):
        for words, text in ((["--variants", "nothing"], "--variants: found nothing, expected some of dense, "),
                            (["--add", "no colon"], "found 'no colon', expected")):
            done = subprocess.run([sys.executable, SCRIPT, *words], stderr=subprocess.PIPE, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn(text, done.stderr)


if __name__ == "__main__":
    if WHY:
        print("skipped:", WHY)
        sys.exit(77)
    unittest.main(verbosity=2)
