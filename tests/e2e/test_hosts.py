"""One training on two hosts: namespaces with a network and an sshd of their own, joined by a cable. Skipped where a
process may not make them."""
import os
import subprocess
import sys
import time
import unittest

from support import TRAIN, E2eCase, tensors

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../support"))
import two_hosts  # noqa: E402

STEPS = 30
# So that mpirun itself notices within seconds that a host does not answer; by itself it takes a quarter of an hour. Sooner
# than the ranks, who give up after comm.timeout, here 5 s: then mpirun has something to send to that host, and a connection
# with something to send is not probed but given up after that quarter of an hour.
KEEPALIVE = {f"OMPI_MCA_oob_tcp_keepalive_{k}": v for k, v in (("time", "1"), ("intvl", "1"), ("probes", "2"))}


@unittest.skipIf(two_hosts.missing(), two_hosts.missing())
class Hosts(E2eCase):
    def setUp(self):
        self.pair = two_hosts.TwoHosts()
        self.addCleanup(self.pair.stop)
        self.alpha, self.beta = self.pair.start()

    def words(self, name, overrides):
        common = ["train.threads=1", "eval.sets=[]", "comm.timeout=5", *overrides]
        return [TRAIN, "-c", self.config(name), *(w for o in common for w in ("-o", o))]

    def start(self, name, overrides, **env):
        """Four ranks, two on each host; the output comes to the file `name`.out."""
        with open(self.folder(name + ".out"), "a") as out:
            process = subprocess.Popen(self.pair.mpirun(*self.words(name, overrides)), env={**self.pair.env, **env},
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def output(self, name):
        with open(self.folder(name + ".out")) as f:
            return f.read()

    def wait_for(self, condition, what, name, seconds=60):
        end = time.time() + seconds
        while not condition():
            if time.time() > end:
                self.fail(f"{what} did not come\n{self.output(name)}")
            time.sleep(0.1)

    def start_long(self, name, **env):
        """A run that has just written a checkpoint."""
        process = self.start(name, ["train.steps=100000", "checkpoint.every_steps=5"], **env)
        self.wait_for(lambda: os.path.isdir(self.checkpoint(name, 10)), "a checkpoint", name)
        return process

    def assert_ends(self, name, process, text):
        """In seconds, with an error that matches."""
        try:
            self.assertNotEqual(process.wait(timeout=60), 0)
        except subprocess.TimeoutExpired:
            self.fail(f"it does not end\n{self.output(name)}")
        self.assertRegex(self.output(name), text)

    def assert_resumes(self, name):
        """Every checkpoint that is there is whole, and the same run goes on from the newest."""
        folder = self.folder(name + "/checkpoints")
        names = sorted(n for n in os.listdir(folder) if n.startswith("step_"))
        for checkpoint in names:
            subprocess.run([TRAIN, "inspect", "--checkpoint", f"{folder}/{checkpoint}"], check=True, stdout=subprocess.DEVNULL)
        steps = int(names[-1][5:]) + 5
        self.train(name, 2, overrides=[f"train.steps={steps}", "train.threads=1", "eval.sets=[]"])
        self.assertEqual([m["step"] for m in self.metrics(name)], list(range(1, steps + 1)))

    def test_the_same_training_as_on_one_host(self):
        # With what container software leaves on many hosts: a bridge of one and the same address, where Open MPI by
        # itself connects ranks to themselves and hangs.
        for host in (self.alpha, self.beta):
            host.add_bridge("docker0", "172.17.0.1/16")
        process = self.start("two", [f"train.steps={STEPS}", "checkpoint.at_end=true"])
        self.wait_for(lambda: process.poll() is not None, "the end", "two")
        self.assertEqual(process.returncode, 0, self.output("two"))
        self.assertNotIn("without a monitor", self.output("two"))
        self.train("one", 4, overrides=[f"train.steps={STEPS}", "train.threads=1", "eval.sets=[]"])
        self.assert_close(self.losses("one"), self.losses("two"), 1e-12)
        self.assertEqual(tensors(self.checkpoint("one", STEPS)), tensors(self.checkpoint("two", STEPS)))
        with open(self.folder("two/run.json")) as f:
            text = f.read()
        self.assertEqual((text.count('"alpha"'), text.count('"beta"')), (2, 2), text)

    def test_a_host_that_loses_its_power(self):
        process = self.start_long("power", **KEEPALIVE)
        self.beta.power_off()
        self.assert_ends("power", process, "beta")
        self.assert_resumes("power")

    def test_a_cable_that_is_cut(self):
        process = self.start_long("cable", **KEEPALIVE)
        self.alpha.run("ip", "link", "set", "cable", "down")
        self.assert_ends("cable", process, "beta")
        self.assert_resumes("cable")

    def test_the_ranks_name_who_is_missing(self):
        # mpirun says nothing for long; the ranks do after comm.timeout.
        self.start_long("silent")
        self.alpha.run("ip", "link", "set", "cable", "down")
        self.wait_for(lambda: "plsc-train: rank" in self.output("silent"), "the error", "silent")
        self.assertRegex(self.output("silent"), r"Missing: rank [23] \(host beta, pid \d+\)")

    def test_a_network_that_joins_nobody(self):
        for host in (self.alpha, self.beta):
            host.add_bridge("docker0", "172.17.0.1/16")
        process = self.start("wrong", [f"train.steps={STEPS}"], OMPI_MCA_btl_tcp_if_include="docker0")
        self.assert_ends("wrong", process, r"have not reached each other")
        self.assertRegex(self.output("wrong"), r"btl_tcp_if_include.*alpha has: cable \(10\.77\.0\.1\) docker0 \(172\.17\.0\.1\)")


if __name__ == "__main__":
    if two_hosts.missing():
        print("skipped:", two_hosts.missing())
        sys.exit(77)
    unittest.main(verbosity=2)
