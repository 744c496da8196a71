"""Several hosts on this machine: each a set of namespaces with a network, host name, processes, /dev/shm and sshd of its
own. The file system is shared, as a cluster's. Takes root; nothing outlives the processes of a host, since nothing is
named outside its namespaces."""
import os
import select
import shutil
import subprocess
import tempfile

PROGRAMS = ("ip", "tc", "unshare", "nsenter", "ssh", "sshd", "ssh-keygen", "mpirun")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
ENV = {**os.environ, "PATH": PATH}
NAMESPACES = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
NAMES = ("alpha", "beta", "gamma", "delta")
CABLE = "cable"  # the interface of each host to the others
NETWORK = "10.77.0"  # the first three bytes of their addresses
# Linux's own choice, whatever this machine has. BBR, paced by what an idle connection was seen to carry, takes milliseconds
# for a message of three packets.
TCP = "cubic"
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


def missing(shaped=False):
    """Why there can be no such hosts here, or, where `shaped`, none whose links have a rate; empty: there can."""
    absent = [p for p in PROGRAMS if shutil.which(p, path=PATH) is None]
    if absent:
        return f"not installed here: {', '.join(absent)} (apt-get install openssh-server iproute2)"
    script = "hostname a && mount -t tmpfs none /dev/shm && ip link add cable type veth peer name other"
    if shaped:
        script += " && ip link add name bridge type bridge && tc qdisc add dev cable " + tbf("1gbit")
    done = subprocess.run([*NAMESPACES, "sh", "-c", script], env=ENV, capture_output=True, text=True)
    return f"a process may not have a network of its own here: {done.stderr.strip()}" if done.returncode else ""


def tbf(rate):
    """The words of `tc qdisc` that hold an interface to a rate ("100mbit"), in the direction that it sends. Packets wait up to
    half a second, so that TCP slows down before any is lost."""
    return f"root tbf rate {rate} burst 128kb latency 500ms"


def has_tcp():
    with open("/proc/sys/net/ipv4/tcp_available_congestion_control") as f:
        return TCP in f.read().split()


class Host:
    def __init__(self, name, address, folder):
        self.name, self.address = name, address
        self.holder = subprocess.Popen([*NAMESPACES, "sh", "-c", FIRST_PROCESS, name, f"{folder}/hosts"], text=True,
                                       env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        try:
            if self.holder.stdout.readline() != "ready\n":
                raise RuntimeError(f"host {name} does not start")
            with open(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children") as f:
                self.pid = int(f.read())  # of its first process, seen from here
            self.life = os.pidfd_open(self.pid)
        except BaseException:
            self.holder.kill()
            raise

    def command(self, *args):
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--mount", "--pid", "--", *args]

    def run(self, *args):
        subprocess.run(self.command(*args), env=ENV, check=True, stdin=subprocess.DEVNULL)

    def add_bridge(self, name, address=None):
        """With an address: an interface as container software makes one, leading nowhere."""
        self.run("ip", "link", "add", name, "type", "bridge")
        if address:
            self.run("ip", "address", "add", address, "dev", name)
        self.run("ip", "link", "set", name, "up")

    def add_cable(self, name, other, name_there):
        """Joins an interface of this host and one of another. Not up yet."""
        # From outside, where the other host's process has a number.
        subprocess.run(["nsenter", "--target", str(self.pid), "--net", "ip", "link", "add", name, "type", "veth", "peer", "name",
                        name_there, "netns", str(other.pid)], env=ENV, check=True)

    def open_cable(self):
        self.run("ip", "address", "add", f"{self.address}/24", "dev", CABLE)
        self.run("ip", "link", "set", CABLE, "up")

    def counters(self):
        """(bytes received, bytes sent) by the cable so far, as the interface counts them: frames without preamble, checksum
        and gap."""
        done = subprocess.run(self.command("cat", "/proc/net/dev"), env=ENV, check=True, capture_output=True, text=True)
        words = next(line for line in done.stdout.splitlines() if line.strip().startswith(CABLE + ":")).split(":")[1].split()
        return int(words[0]), int(words[8])

    def power_off(self):
        """Every process of it ends, without a word."""
        self.holder.kill()
        self.holder.wait()
        select.select([self.life], [], [], 10)  # the first one ends behind all others
        os.close(self.life)
        self.holder.stdout.close()


class Hosts:
    """`slots`: ranks on each. How they are joined a subclass says: join()."""

    def __init__(self, count, slots):
        self.hosts, self.ranks = [], count * slots
        self.folder = tempfile.mkdtemp(prefix="plsc-hosts-")
        try:
            self.write_all(count, slots)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "PMI", "OMPI_"))}
        self.env.update(PATH=PATH, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                        OMPI_MCA_plm_rsh_agent=f"ssh -F {self.folder}/ssh_config", OMPI_MCA_orte_tmpdir_base=self.folder)

    def write_all(self, count, slots):
        os.chmod(self.folder, 0o755)
        self.addresses = {name: f"{NETWORK}.{i + 1}" for i, name in enumerate(NAMES[:count])}
        self.write("hosts", "127.0.0.1 localhost\n" + "".join(f"{a} {n}\n" for n, a in self.addresses.items()))
        self.write("sshd_config", SSHD_CONFIG.format(folder=self.folder))
        self.write("ssh_config", SSH_CONFIG.format(folder=self.folder))
        self.write("hostfile", "".join(f"{name} slots={slots}\n" for name in self.addresses))
        for name in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{self.folder}/{name}"], check=True)

    def write(self, name, text):
        with open(f"{self.folder}/{name}", "w") as f:
            f.write(text)

    def start(self):
        for name, address in self.addresses.items():
            self.hosts.append(Host(name, address, self.folder))
        self.join()
        sshd = shutil.which("sshd", path=PATH)  # by its whole path, as it wants
        for host in self.hosts:
            host.run(sshd, "-f", f"{self.folder}/sshd_config")
        return self.hosts

    def mpirun(self, *args):
        """The words that start `args` on all ranks."""
        return self.hosts[0].command("mpirun", "-np", str(self.ranks), "--hostfile", f"{self.folder}/hostfile", "--bind-to",
                                     "none", *args)

    def machines(self):
        return self.hosts

    def stop(self):
        for host in self.machines():
            if host.holder.poll() is None:
                host.power_off()
        shutil.rmtree(self.folder, ignore_errors=True)


class SwitchedHosts(Hosts):
    """Up to four hosts, each with a cable to a switch (a bridge in a network of its own). Every cable has a rate each way,
    as a port has: "1gbit", or "" for none."""

    def __init__(self, count, rate, slots=1):
        super().__init__(count, slots)
        self.rate, self.switch = rate, None

    def machines(self):
        return self.hosts + ([self.switch] if self.switch else [])

    def join(self):
        self.switch = Host("switch", None, self.folder)
        self.switch.add_bridge("bridge")
        for number, host in enumerate(self.hosts):
            port = f"port{number}"
            host.add_cable(CABLE, self.switch, port)
            # A packet a frame, as a network card would send them: else a counter sees pieces of 64 KiB with one header.
            host.run("ip", "link", "set", CABLE, "gso_max_segs", "1")
            host.open_cable()
            if has_tcp():
                host.run("ip", "route", "replace", f"{NETWORK}.0/24", "dev", CABLE, "congctl", TCP)
            self.switch.run("ip", "link", "set", port, "master", "bridge", "up")
            if self.rate:
                host.run("tc", "qdisc", "add", "dev", CABLE, *tbf(self.rate).split())
                self.switch.run("tc", "qdisc", "add", "dev", port, *tbf(self.rate).split())
