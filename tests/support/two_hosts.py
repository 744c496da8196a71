"""Two hosts on this machine: each a set of namespaces with a network, host name, processes, /dev/shm and sshd of its own,
joined by a cable (veth) that can be cut. The file system is shared, as a cluster's. Takes root; nothing outlives the
processes of a host, since nothing is named outside its namespaces."""
import os
import shutil
import subprocess
import tempfile
import time

PROGRAMS = ("ip", "unshare", "nsenter", "ssh", "sshd", "ssh-keygen", "mpirun")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NAMESPACES = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
# The host's first process; $0 is its name, $1 the file of host names.
FIRST_PROCESS = """set -e
hostname "$0"
mount --bind "$1" /etc/hosts
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
mkdir /run/sshd
ip link set lo up
echo ready
exec sleep infinity
"""
SSHD_CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""
SSH_CONFIG = """\
Host *
  IdentityFile {folder}/key
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
"""


def missing():
    """Why there can be no two hosts here; empty: there can."""
    absent = [p for p in PROGRAMS if shutil.which(p, path=PATH) is None]
    if absent:
        return f"not installed here: {', '.join(absent)} (apt-get install openssh-server iproute2)"
    done = subprocess.run([*NAMESPACES, "sh", "-c", "hostname a && mount -t tmpfs none /dev/shm && "
                           "ip link add cable type veth peer name other"], env={**os.environ, "PATH": PATH}, capture_output=True, text=True)
    return f"a process may not have a network of its own here: {done.stderr.strip()}" if done.returncode else ""


class Host:
    def __init__(self, name, address, folder):
        self.name, self.address = name, address
        self.holder = subprocess.Popen([*NAMESPACES, "sh", "-c", FIRST_PROCESS, name, f"{folder}/hosts"], text=True,
                                       env={**os.environ, "PATH": PATH}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != "ready\n":
            raise RuntimeError(f"host {name} does not start")
        with open(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children") as f:
            self.pid = int(f.read())  # of its first process, seen from here

    def command(self, *args):
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--pid", "--", *args]

    def run(self, *args):
        subprocess.run(self.command(*args), env={**os.environ, "PATH": PATH}, check=True, stdin=subprocess.DEVNULL)

    def add_bridge(self, name, address):
        """An interface as container software makes one: up, with an address, leading nowhere."""
        self.run("ip", "link", "add", name, "type", "bridge")
        self.run("ip", "address", "add", address, "dev", name)
        self.run("ip", "link", "set", name, "up")

    def power_off(self):
        """Every process of it ends, without a word."""
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class TwoHosts:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="plsc-hosts-")
        os.chmod(self.folder, 0o755)
        self.hosts = []
        self.write("hosts", "127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n")
        self.write("sshd_config", SSHD_CONFIG.format(folder=self.folder))
        self.write("ssh_config", SSH_CONFIG.format(folder=self.folder))
        self.write("hostfile", "alpha slots=2\nbeta slots=2\n")
        for name in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.folder}/{name}"], check=True)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PMI", "OMPI_"))}
        self.env.update(PATH=PATH, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                        OMPI_MCA_plm_rsh_agent=f"ssh -F {self.folder}/ssh_config")

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as f:
            f.write(text)

    def start(self):
        for name, address in (("alpha", "10.77.0.1"), ("beta", "10.77.0.2")):
            self.hosts.append(Host(name, address, self.folder))
        alpha, beta = self.hosts
        # From outside, where the other host's process has a number.
        subprocess.run(["nsenter", "--target", str(alpha.pid), "--net", "ip", "link", "add", "cable", "type", "veth", "peer",
                        "name", "cable", "netns", str(beta.pid)], env={**os.environ, "PATH": PATH}, check=True)
        sshd = shutil.which("sshd", path=PATH)  # by its whole path, as it wants
        for host in self.hosts:
            host.run("ip", "address", "add", f"{host.address}/24", "dev", "cable")
            host.run("ip", "link", "set", "cable", "up")
            host.run(sshd, "-f", f"{self.folder}/sshd_config")
        return alpha, beta

    def mpirun(self, *args):
        """The words that start `args` on four ranks, two on each host."""
        return self.hosts[0].command("mpirun", "-np", "4", "--hostfile", f"{self.folder}/hostfile", "--bind-to", "none", *args)

    def stop(self):
        for host in self.hosts:
            if host.holder.poll() is None:
                host.power_off()
        shutil.rmtree(self.folder, ignore_errors=True)
