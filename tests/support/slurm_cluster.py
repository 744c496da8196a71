"""A Slurm cluster of two nodes on this machine: munged, slurmctld and two slurmd, all in one temporary folder.

A node is a slurmd with a host name and a /dev/shm of its own (namespaces, so it takes root); their network is the same.
Slurm, PMIx and Open MPI take them for two hosts: ranks of different nodes talk over TCP. Each node claims more cores than
there are, and GPUs, so that batch scripts run as they are.
"""
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge"
# As root of a host of its own; $0 is the host's name.
OWN_HOST = ["unshare", "--mount", "--uts", "sh", "-c", 'hostname "$0" && mount -t tmpfs none /dev/shm && exec "$@"']

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A job that is put back into the queue waits until the credential of its last turn has expired.
AuthInfo=socket={folder}/munge/socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# The PMIx servers of two nodes would meet in one folder of /tmp.
TmpFS={folder}/tmp-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
MpiDefault=none
ReturnToService=2
KillWait=15
MinJobAge=3600
GresTypes=gpu
NodeName=node1 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=64 RealMemory=1000 Gres=gpu:4
NodeName=node2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=64 RealMemory=1000 Gres=gpu:4
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why there can be no cluster here; empty: there can."""
    absent = [p for p in PROGRAMS if shutil.which(p, path=search_path()) is None]
    if absent:
        return f"Slurm is not installed here: no {', '.join(absent)} (apt-get install {PACKAGES})"
    if subprocess.run([*OWN_HOST, "node1", "true"], capture_output=True).returncode != 0:
        return "a process may not have a host name and a /dev/shm of its own here: no two nodes"
    return ""


def search_path():
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class SlurmCluster:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="plsc-slurm-")
        self.daemons = []
        os.chmod(self.folder, 0o755)  # munged wants a folder that others cannot write, and that clients can enter
        for name in ("munge", "state", "spool-node1", "spool-node2", "tmp-node1", "tmp-node2"):
            os.mkdir(f"{self.folder}/{name}", 0o755)
        self.conf = f"{self.folder}/slurm.conf"
        self.write("slurm.conf", CONF.format(folder=self.folder, host=socket.gethostname().split(".")[0],
                                             user=getpass.getuser(), ports=free_ports(3)))
        self.write("gres.conf", f"Name=gpu File={self.folder}/gpu[0-3]\n")
        for number in range(4):
            self.write(f"gpu{number}", "")
        self.write("cgroup.conf", "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
        # Nothing of a job or a scheduler around this test may reach the cluster's own.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "PMI", "OMPI_"))}
        self.env.update(SLURM_CONF=self.conf, PATH=search_path())

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as f:
            f.write(text)

    def start(self):
        """Raises RuntimeError with the logs where the cluster does not come up."""
        with open(os.open(f"{self.folder}/munge/key", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(os.urandom(1024))
        munge = f"{self.folder}/munge"
        self.daemon("munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key",
                    f"--log-file={munge}/log", f"--pid-file={munge}/pid", f"--seed-file={munge}/seed")
        self.wait_for(lambda: os.path.exists(f"{munge}/socket"), "munged's socket")
        self.daemon("slurmctld", "-D", "-i")
        for node in ("node1", "node2"):
            self.daemon(*OWN_HOST, node, "slurmd", "-D", "-N", node)
        self.wait_for(lambda: self.ask("sinfo", "--noheader", "--format=%t %D").split() == ["idle", "2"], "two idle nodes")

    def daemon(self, *args):
        with open(f"{self.folder}/{len(self.daemons)}.out", "a") as out:
            self.daemons.append(subprocess.Popen(args, env=self.env, stdin=subprocess.DEVNULL, stdout=out,
                                                 stderr=subprocess.STDOUT, start_new_session=True))

    def stop(self):
        """Ends all jobs and daemons, and whatever else was started with this cluster's configuration."""
        if len(self.daemons) > 1:
            self.ask("scancel", "--user", getpass.getuser(), "--signal=KILL")
        for daemon in reversed(self.daemons):
            daemon.kill()
            daemon.wait()
        for _ in range(50):
            left = self.processes()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.1)
        shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self):
        """Of this cluster: daemons, steps, jobs."""
        mark = f"SLURM_CONF={self.conf}".encode()
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{entry}/environ", "rb") as f:
                    if mark in f.read().split(b"\0"):
                        found.append(int(entry))
            except OSError:
                pass
        return found

    def wait_for(self, condition, what, seconds=30):
        end = time.time() + seconds
        while not condition():
            dead = [" ".join(d.args) for d in self.daemons if d.poll() is not None]
            if time.time() > end or dead:
                raise RuntimeError(f"{what} did not come; ended: {dead}\n{self.logs()}")
            time.sleep(0.1)

    def logs(self):
        text = ""
        for name in sorted(os.listdir(self.folder)):
            if name.endswith((".log", ".out")):
                with open(f"{self.folder}/{name}", errors="replace") as f:
                    text += f"== {name}\n{f.read()[-2000:]}\n"
        return text

    def run(self, *args, timeout=120, **env):
        """A finished client of the cluster, its output one text."""
        return subprocess.run(args, env={**self.env, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=timeout)

    def ask(self, *args):
        return self.run(*args).stdout.strip()

    def submit(self, *args, folder, **env):
        """Submits from `folder`; the job's number."""
        done = subprocess.run(["sbatch", "--parsable", *args], env={**self.env, **env}, cwd=folder, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"sbatch {args}: {done.stderr}")
        return done.stdout.strip()

    def job(self, number):
        """{"JobState": "COMPLETED", "ExitCode": "0:0", "Restarts": "0", ...}"""
        return dict(re.findall(r"(\w+)=(\S*)", self.ask("scontrol", "--oneliner", "show", "job", number)))
