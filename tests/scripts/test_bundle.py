#!/usr/bin/env python3
"""scripts/bundle.sh: the bundle of an existing build runs in an empty root file system, in this machine's, from a folder
with a space in its name and through a link; nothing of the node but its C library gets in; a library that is not on the
checked list stops it; CUDA's libraries are found where they may be.

    tests/scripts/test_bundle.py [BUILD ...]     build folders to pack; build/cuda (the default where it is), build/cpu

With PLSC_BUNDLE_SUITES="bullseye trixie" the bundles also run in fresh root file systems of these Debian suites.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
BUSYBOX = "/bin/busybox"
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
CONFIG = """\
output: run
seed: 3
data: {train: data/train, image_size: [24, 24], channels: 1}
model: {backbone: {kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}, embedding_size: 32}
train: {batch_size: 30, steps: 6}
checkpoint: {every_epochs: none, at_end: true}
eval: {every_epochs: none, at_end: true, sets: [{name: glyphs, folder: data/verify, pairs: data/pairs.txt}]}
"""
# What a user does, in a shell that need not have more than `echo`, in the working folder; $B is the bundle's bin/.
SESSION = """\
set -e
"$B/plsc-train" --version
"$B/plsc-data" synth --output data --classes 12 --images-per-class 8 --held-out 5 --size 24 --channels 1 --seed 1
"$B/plsc-train" -c tiny.yaml -o ranks=2
"$B/plsc-train" -c tiny.yaml -o ranks=2 -o train.steps=9
"$B/plsc-train" eval -c tiny.yaml --checkpoint run/checkpoints/latest -o ranks=1
"$B/mpirun" -np 2 "$B/plsc-train" -c tiny.yaml -o output=run2
"$B/run" test_golden_nn
"$B/run" tests/test_parity_head
"""


def run(args, status=0, env=None, cwd=ROOT, timeout=600, clean=False):
    """Runs a command; its output is one text. Fails the test where it ends with another status."""
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, cwd=cwd,
                          env={**({} if clean else os.environ), **AS_ROOT, **(env or {})})
    if done.returncode != status:
        raise AssertionError(f"{' '.join(args)} ended with {done.returncode}, not {status}:\n{done.stdout[-6000:]}")
    return done.stdout


def bundle(build, folder, *options, **more):
    """Packs a build; returns the bundle's folder and what was printed."""
    text = run(["scripts/bundle.sh", "--build", build, "--output", folder, *options], **more)
    return glob.glob(f"{folder}/plsc-train-*-linux-x86_64")[0], text


def may_mount():
    """Whether this process may make file systems of its own: root, in a container that allows it."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "-m", "-p", "-f", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                                                capture_output=True).returncode == 0


def in_root(root, script, **more):
    """Runs a script by /bin/sh of the root file system `root`, with /proc, /sys, /dev and /tmp made for it."""
    setup = textwrap.dedent("""\
        set -e
        cd "$1" && mkdir -p proc sys dev tmp
        mount -t proc proc proc && mount -t tmpfs tmpfs dev && mkdir dev/shm
        mount -t sysfs sysfs sys || mount --rbind /sys sys
        for device in null zero random urandom; do touch dev/$device; mount --bind /dev/$device dev/$device; done
        ln -s /proc/self/fd dev/fd
        exec chroot . /bin/sh -c "$2"
        """)
    return run(["unshare", "-m", "-p", "-f", "/bin/sh", "-c", setup, "sh", root, script], clean=True,
               env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **more)


def loaded_libraries(folder):
    """The shared libraries that the processes of a run used, by the loader's own account (LD_DEBUG)."""
    found = set()
    for path in glob.glob(f"{folder}/loads.*"):
        with open(path, errors="replace") as f:
            found |= {os.path.realpath(p) for p in re.findall(r"calling init: (\S.*)$", f.read(), re.M)}
    return found


class OneBuild:
    """The cases of one bundle; a class below names the build."""
    build, options, cuda = "", [], False  # the options of every bundle that is made of it

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="plsc-bundle-")
        try:
            cls.bundle, cls.text = bundle(cls.build, cls.folder, *cls.options)
        except BaseException:
            shutil.rmtree(cls.folder)
            raise

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder)

    def work(self, name):
        folder = os.path.join(self.folder, name)
        os.makedirs(folder)
        with open(os.path.join(folder, "tiny.yaml"), "w") as f:
            f.write(CONFIG)
        return folder

    def check_session(self, text):
        self.assertIn("resuming from run/checkpoints/step_00000006: step 6 of 9", text)
        self.assertEqual(text.count("complete after"), 3, text[-4000:])
        self.assertGreaterEqual(text.count("glyphs: accuracy"), 4)
        self.assertEqual(text.count("device     2 x cpu"), 3)
        self.assertEqual(text.count("All tests passed"), 2)

    def session_in(self, root):
        """The session with the bundle at a place with a space, started through a link."""
        home = os.path.join(root, "opt", "a folder")
        os.makedirs(home)
        os.rename(self.bundle, os.path.join(home, "plsc"))
        try:
            os.symlink("a folder/plsc/bin", os.path.join(root, "opt/link"))
            os.makedirs(os.path.join(root, "job"))
            with open(os.path.join(root, "job/tiny.yaml"), "w") as f:
                f.write(CONFIG)
            library = ('"$B/../libexec/node_glibc" 2>/dev/null && echo "C library of the node" || '
                       'echo "C library of the bundle"\n')
            cuda = '"$B/plsc-train" -c tiny.yaml -o device=cuda -o ranks=1 -o output=run3 || echo "status $?"\n'
            return in_root(root, "export HOME=/tmp; cd /job; B=/opt/link\n" + SESSION + library + cuda)
        finally:
            os.rename(os.path.join(home, "plsc"), self.bundle)
            shutil.rmtree(os.path.join(root, "opt"))
            shutil.rmtree(os.path.join(root, "job"))

    def check_without_cuda(self, text):
        if self.cuda:
            self.assertIn("error: device: cuda: the CUDA libraries libcublasLt.so", text)
            self.assertIn("name their folders in PLSC_CUDA_LIBS", text)
        else:
            self.assertIn("error: device: cuda: this build of plsc-train has no CUDA backend", text)
        self.assertIn("status 1", text)

    @unittest.skipUnless(may_mount(), "needs root, and leave to mount")
    @unittest.skipUnless(os.path.exists(BUSYBOX), "needs busybox (busybox-static)")
    def test_in_an_empty_root(self):
        root = os.path.join(self.folder, "empty")
        os.makedirs(os.path.join(root, "bin"))
        for name in ("sh", "readlink"):
            shutil.copy(BUSYBOX, os.path.join(root, "bin", name))
        text = self.session_in(root)
        self.check_session(text)
        self.check_without_cuda(text)
        self.assertIn("C library of the bundle", text)

    @unittest.skipUnless(may_mount(), "needs root, and leave to mount")
    @unittest.skipUnless(os.environ.get("PLSC_BUNDLE_SUITES"), "no suites given (PLSC_BUNDLE_SUITES)")
    def test_in_other_distributions(self):
        for suite in os.environ["PLSC_BUNDLE_SUITES"].split():
            with self.subTest(suite):
                root = os.path.join(self.folder, suite)
                run(["debootstrap", "--variant=minbase", suite, root])
                text = self.session_in(root)
                self.check_session(text)
                library = re.search(r"C library of the (\w+)", text).group(1)
                self.assertEqual(library, "bundle" if suite in ("buster", "bullseye") else "node")

    def test_on_this_machine(self):
        """The node's C library is new enough and is used; of its other libraries none is, not even through
        LD_LIBRARY_PATH."""
        folder = self.work("here")
        text = run(["/bin/sh", "-c", SESSION], cwd=folder, env={
            "B": f"{self.bundle}/bin", "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{folder}/loads",
            "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu"})
        self.check_session(text)
        loaded = loaded_libraries(folder)
        own = {os.path.basename(p) for p in loaded if p.startswith(self.bundle)}
        self.assertTrue({"libdnnl.so.2", "libmpi.so.40", "libpmix.so.2", "mca_btl_vader.so"} <= own, own)
        glibc = set(os.listdir(f"{self.bundle}/lib/glibc"))
        self.assertFalse(own & glibc)
        foreign = {p for p in loaded if not p.startswith(self.bundle) and os.path.basename(p) not in glibc}
        # The shell's; InfiniBand's driver's and CUDA's, where the node has them.
        known = r"/lib(tinfo|selinux|pcre2-8|nss_\w+|ibverbs|mlx\d|rdmacm|nl-3|nl-route-3|cu\w+|nvrtc|nccl)\.so"
        foreign = {p for p in foreign if not re.search(known, p)}
        self.assertEqual(foreign, set())

    def test_contents(self):
        for name in ("README.md", "LICENSE", "configs/quickstart.yaml", "licences/PACKAGES.txt",
                     "licences/libopenmpi3.txt", "licences/catch2.txt", "REVISION", "scripts/gpu_check.sh",
                     "scripts/bench/step_pytorch.py", "tests/golden/head/data/labels.npy", "libexec/bench/bench_head"):
            self.assertTrue(os.path.exists(os.path.join(self.bundle, name)), name)
        self.assertFalse(glob.glob(f"{self.bundle}/lib/**/libcuda.so*", recursive=True))
        self.assertFalse(glob.glob(f"{self.bundle}/lib/**/libopencv_imgcodecs*", recursive=True))
        listed = run([f"{self.bundle}/bin/run", "--help"])
        self.assertIn("tests/test_parity_backend", listed)
        wrong = run([f"{self.bundle}/bin/run", "no_such_program"], status=1)
        self.assertIn("no_such_program: no such program", wrong)
        if self.cuda:
            gpu = sorted(os.listdir(f"{self.bundle}/libexec/tests"))
            self.assertIn("test_gpu_head", gpu)
            self.assertFalse(os.path.exists(f"{self.bundle}/lib/cuda"))

    def test_own_c_library(self):
        """As on a node with an older C library: every process of the bundle has the bundle's, its mpirun and ranks too."""
        folder = self.work("own")
        session = "".join(line for line in SESSION.splitlines(True) if "plsc-data" in line or "ranks=2\n" in line)
        text = run(["/bin/sh", "-e", "-c", session], cwd=folder, env={
            "B": f"{self.bundle}/bin", "PLSC_GLIBC": "own", "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{folder}/loads"})
        self.assertIn("complete after", text)
        own = {os.path.basename(p) for p in loaded_libraries(folder) if p.startswith(self.bundle)}
        self.assertIn("libc.so.6", own)

    def test_unlisted_library(self):
        """A library that nobody has looked at is refused, and who needs it is named."""
        listing = os.path.join(self.folder, "libraries.txt")
        with open(f"{ROOT}/scripts/bundle_libraries.txt") as f, open(listing, "w") as out:
            out.write("".join(line for line in f if not line.startswith("libpng16")))
        text = run(["scripts/bundle.sh", "--build", self.build, "--output", self.folder, *self.options, "--no-archive"], status=1,
                   env={"PLSC_BUNDLE_LIBRARIES": listing})
        self.assertRegex(text, r"libpng16\.so\.16, which plsc-\w+ needs, is not in .*libraries\.txt")
        self.assertTrue(os.path.exists(self.bundle), "a failed run has removed the bundle that was there")

    def test_other_host(self):
        """mpirun's helper on another host comes from the same folder, by whatever starts commands there (here: a script
        in place of ssh, which gives it a bare environment)."""
        folder = self.work("hosts")
        with open(f"{folder}/agent", "w") as f:
            f.write('#!/bin/sh\necho "$1" >>"$0.log"\nshift\nexec env -i PATH=/usr/bin:/bin HOME=/ '
                    'OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 /bin/sh -c "$*"\n')
        os.chmod(f"{folder}/agent", 0o755)
        with open(f"{folder}/hosts", "w") as f:
            f.write("127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
        binaries = f"{self.bundle}/bin"
        run([f"{binaries}/plsc-data", "synth", "--output", "data", "--classes", "12", "--images-per-class", "8",
             "--held-out", "5", "--size", "24", "--channels", "1"], cwd=folder)
        text = run([f"{binaries}/mpirun", "-np", "2", "--hostfile", "hosts", "--map-by", "node", "--bind-to", "none",
                    "-mca", "plm_rsh_agent", f"{folder}/agent", f"{binaries}/plsc-train", "-c", "tiny.yaml"], cwd=folder)
        self.assertIn("complete after", text)
        self.assertIn("2 x cpu", text)
        with open(f"{folder}/agent.log") as f:
            self.assertEqual(f.read(), "127.0.0.2\n")

    @unittest.skipUnless(shutil.which("mpirun"), "needs the system's Open MPI")
    def test_system_mpi(self):
        """The site's MPI, and none of the bundle's."""
        folder = self.work("site")
        bare, _ = bundle(self.build, folder, *self.options, "--system-mpi", "--no-archive")
        self.assertFalse(os.path.exists(f"{bare}/mpi") or glob.glob(f"{bare}/lib/libmpi*"))
        session = SESSION.replace('"$B/mpirun"', "mpirun")
        text = run(["/bin/sh", "-c", session], cwd=folder, env={
            "B": f"{bare}/bin", "LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": f"{folder}/loads"})
        self.check_session(text)
        self.assertIn(os.path.realpath("/usr/lib/x86_64-linux-gnu/libmpi.so.40"), loaded_libraries(folder))

    def test_archive(self):
        size = re.search(r"tar\.xz: (\d+) MiB", self.text)
        self.assertLessEqual(int(size.group(1)), 45)
        names = run(["tar", "-tf", glob.glob(f"{self.folder}/*.tar.xz")[0]])
        self.assertIn("-linux-x86_64/bin/plsc-train\n", names)


class Refusals(unittest.TestCase):
    """What stops the script before anything is built."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="plsc-bundle-")
        self.addCleanup(shutil.rmtree, self.folder)

    def test_options(self):
        self.assertIn("--no-cuda-libs", run(["scripts/bundle.sh", "--help"]))
        self.assertIn("unknown option --what", run(["scripts/bundle.sh", "--what"], status=2))
        self.assertIn("--build needs a value", run(["scripts/bundle.sh", "--build"], status=2))
        self.assertIn("is no build folder", run(["scripts/bundle.sh", "--build", self.folder], status=1))

    def test_build_for_one_cpu(self):
        open(f"{self.folder}/CMakeCache.txt", "w").close()
        with open(f"{self.folder}/compile_commands.json", "w") as f:
            f.write('[{"command": "c++ -O3 -march=native -c x.cpp"}]')
        text = run(["scripts/bundle.sh", "--build", self.folder], status=1)
        self.assertIn("-march=native", text)

    def test_missing_tools(self):
        for name in ("bash", "dirname"):
            os.symlink(shutil.which(name), f"{self.folder}/{name}")
        text = run(["bash", "scripts/bundle.sh"], status=1, env={"PATH": self.folder})
        self.assertIn("patchelf is missing: apt-get install patchelf", text)


class CpuBundle(OneBuild, unittest.TestCase):
    build = "build/cpu"


class CudaBundle(OneBuild, unittest.TestCase):
    build, options, cuda = "build/cuda", ["--no-cuda-libs"], True


if __name__ == "__main__":
    os.chdir(ROOT)
    builds = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not builds:
        builds = ["build/cuda" if os.path.exists("build/cuda/CMakeCache.txt") else "build/cpu"]
    cases = [case for case in (CpuBundle, CudaBundle) if case.build in builds]
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite(load(case) for case in [Refusals, *cases])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    sys.exit(0 if result.wasSuccessful() and cases else 1)
