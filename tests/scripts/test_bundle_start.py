#!/usr/bin/env python3
"""The scripts that start a bundle's programs (scripts/bundle/*.sh), with stand-ins for the programs: where CUDA's
libraries are found, what is said where they are not, which program starts with which environment. Under every POSIX shell
that is here."""
import glob
import os
import shutil
import subprocess
import tempfile
import unittest

SCRIPTS = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../scripts/bundle"))
SHELLS = [s for s in (["/bin/dash"], ["/bin/busybox", "sh"], ["/bin/bash", "--posix"]) if os.path.exists(s[0])]
# Version 99: whatever CUDA this machine has, these are not among it.
CUBLAS, CUDNN, NCCL = "libcublasLt.so.99", "libcudnn.so.99", "libnccl.so.99"
PRINT = """#!/bin/sh
echo "program ${0##*/}"
for a; do echo "argument $a"; done
echo "library_path ${LD_LIBRARY_PATH:-}"
echo "problem ${PLSC_CUDA_PROBLEM:-}"
echo "remedy ${PLSC_CUDA_REMEDY:-}"
echo "executable ${PLSC_EXECUTABLE:-}"
echo "prefix ${OPAL_PREFIX:-}"
echo "plm ${OMPI_MCA_plm:-}"
echo "pml ${OMPI_MCA_pml:-}"
"""


class StartCase(unittest.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="plsc start "))
        self.root = os.path.join(self.folder, "a bundle")
        for name in ("bin", "libexec/tests", "lib/glibc", "mpi/bin"):
            os.makedirs(os.path.join(self.root, name))
        for name in ("start.sh", "find_cuda.sh"):
            shutil.copy(f"{SCRIPTS}/{name}", f"{self.root}/libexec")
        with open(f"{SCRIPTS}/wrapper.sh") as f:
            wrapper = f.read().replace("@UP@", "..")
        for name, start in (("plsc-train", "start plsc-train"), ("mpirun", "start_mpirun"), ("run", "run")):
            self.script(f"bin/{name}", wrapper.replace("@PROGRAM@", name).replace("@START@", start + ' "$@"'))
        for name in ("libexec/plsc-train", "libexec/plsc-train-cuda", "libexec/tests/test_gpu_x", "libexec/tests/test_y",
                     "mpi/bin/mpirun"):
            self.script(name, PRINT)
        self.glibc("exit 0")
        self.script("lib/glibc/ld-linux-x86-64.so.2", '#!/bin/sh\necho "loader $1 $2"\nshift 2\nexec "$@"\n')
        self.settings()

    def tearDown(self):
        shutil.rmtree(self.folder)

    def script(self, name, text):
        path = os.path.join(self.root, name)
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o755)

    def glibc(self, command):
        self.script("libexec/node_glibc", f"#!/bin/sh\n{command}\n")

    def settings(self, own_mpi="yes", own_cuda="no", programs="plsc-train-cuda tests/test_gpu_x"):
        with open(f"{self.root}/libexec/bundle.conf", "w") as f:
            f.write(f"own_mpi={own_mpi}\nown_cuda={own_cuda}\ncuda_programs='{programs}'\n"
                    f"cuda_sonames='{CUBLAS} {CUDNN} {NCCL}'\ncuda_optional='libnvrtc.so.99'\n")

    def libraries(self, folder, *names):
        """Empty files of these names in a folder of the test; returns it."""
        path = os.path.join(self.folder, folder)
        os.makedirs(path, exist_ok=True)
        for name in names:
            open(os.path.join(path, name), "w").close()
        return path

    def start(self, *args, status=0, program=None, cwd=None, **env):
        """Runs a script of the bundle under each shell; returns {what: value} of its lines, the same under all."""
        program = program or f"{self.root}/bin/plsc-train"
        answers = []
        for shell in SHELLS:
            done = subprocess.run([*shell, program, *args], capture_output=True, text=True, cwd=cwd,
                                  env={"PATH": "/usr/bin:/bin", "HOME": self.folder, **env})
            self.assertEqual(done.returncode, status, done.stdout + done.stderr)
            lines = (done.stdout + done.stderr).splitlines()
            answers.append({line.split(" ", 1)[0]: line.split(" ", 1)[1] if " " in line else "" for line in lines})
        for answer in answers[1:]:
            self.assertEqual(answer, answers[0])
        return answers[0]

    def assert_cuda(self, answer, *folders):
        self.assertEqual((answer["program"], answer["library_path"]), ("plsc-train-cuda", ":".join(folders)))
        self.assertEqual(answer["problem"], "")

    def test_cuda_home(self):
        lib = self.libraries("cuda 99/lib64", CUBLAS, CUDNN, NCCL)
        self.assert_cuda(self.start(CUDA_HOME=os.path.dirname(lib)), lib)

    def test_library_path_is_kept(self):
        other, lib = self.libraries("other"), self.libraries("site", CUBLAS, CUDNN, NCCL)
        self.assert_cuda(self.start(LD_LIBRARY_PATH=f"{other}:{lib}"), lib, other, lib)

    def test_a_folder_that_no_list_can_name(self):
        for name in ("a:b", "a;b"):
            moved = os.path.join(self.folder, name)
            os.rename(self.root, moved)
            try:
                answer = self.start(program=f"{moved}/bin/plsc-train", status=1)
            finally:
                os.rename(moved, self.root)
            self.assertIn("a path with : or ; cannot stand", answer["error:"])

    def test_python_environments(self):
        """The folders of NVIDIA's packages for CUDA 13 and for CUDA 12; compilers' and optional libraries with them."""
        for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
            site = f"{variable}/lib/python3.12/site-packages/nvidia"
            cu = self.libraries(f"{site}/cu99/lib", CUBLAS)
            nvrtc = self.libraries(f"{site}/cuda_nvrtc/lib", "libnvrtc.so.99")
            dnn, nccl = self.libraries(f"{site}/cudnn/lib", CUDNN), self.libraries(f"{site}/nccl/lib", NCCL)
            self.libraries(f"{site}/cufft/lib", "libcufft.so.99")
            self.assert_cuda(self.start(**{variable: os.path.join(self.folder, variable)}), cu, nvrtc, dnn, nccl)

    def test_python_in_path(self):
        """A Python without an environment around it: the folders that it takes packages from."""
        site = self.libraries("packages/nvidia/everything/lib", CUBLAS, CUDNN, NCCL)
        self.assert_cuda(self.start(PYTHONPATH=os.path.join(self.folder, "packages")), site)

    def test_named_folders_come_first(self):
        named = self.libraries("named", CUDNN)
        home = self.libraries("home/lib64", CUBLAS, CUDNN, NCCL)
        self.assert_cuda(self.start(PLSC_CUDA_LIBS=named, CUDA_HOME=os.path.join(self.folder, "home")), named, home)

    def test_missing(self):
        lib = self.libraries("old/lib64", CUBLAS, "libcudnn.so.8", "libcudnn.so.8.9.7")
        answer = self.start(CUDA_HOME=os.path.dirname(lib))
        self.assertEqual((answer["program"], answer["library_path"]), ("plsc-train", ""))
        self.assertTrue(answer["problem"].startswith(f"the CUDA libraries {CUDNN}, {NCCL} were not found "
                                                     f"(but other versions: "), answer["problem"])
        self.assertIn(f"{lib}/libcudnn.so.8", answer["problem"])
        self.assertNotIn("8.9.7", answer["problem"])
        self.assertIn(f"CUDA_HOME ({os.path.dirname(lib)})", answer["remedy"])
        self.assertIn("or use device: cpu", answer["remedy"])

    def test_tests_without_cuda(self):
        has_gpu = os.path.exists("/dev/nvidiactl")
        answer = self.start("test_gpu_x", program=f"{self.root}/bin/run", status=1 if has_gpu else 77)
        self.assertNotIn("program", answer)
        answer = self.start("tests/test_y", "one two", program=f"{self.root}/bin/run")
        self.assertEqual((answer["program"], answer["argument"]), ("test_y", "one two"))
        answer = self.start(f"{self.root}/libexec/tests/test_y", program=f"{self.root}/bin/run")
        self.assertEqual(answer["program"], "test_y")

    def test_carried_cuda(self):
        self.settings(own_cuda="yes")
        self.assert_cuda(self.start())

    def test_without_cuda_build(self):
        self.settings(programs="")
        answer = self.start(PLSC_CUDA_PROBLEM="of an outer program")
        self.assertEqual((answer["program"], answer["problem"]), ("plsc-train", ""))

    def test_links_and_folders(self):
        os.symlink("a bundle", f"{self.folder}/relative")
        os.symlink(f"{self.folder}/relative/bin/plsc-train", f"{self.folder}/train")
        os.symlink("train", f"{self.folder}/train2")
        for program, cwd in ((f"{self.folder}/train2", "/"), ("./train2", self.folder), ("bin/plsc-train", self.root),
                             ("plsc-train", f"{self.root}/bin"), ("../bin/plsc-train", f"{self.root}/libexec")):
            answer = self.start("-c", "a b", program=program, cwd=cwd)
            self.assertEqual(answer["executable"], f"{self.root}/bin/plsc-train")
            self.assertEqual((answer["prefix"], answer["argument"]), (f"{self.root}/mpi", "a b"))

    def test_older_c_library(self):
        lib = self.libraries("cuda/lib64", CUBLAS, CUDNN, NCCL)
        for command in ("exit 1", "exec /no/such/loader"):
            self.glibc(command)
            answer = self.start(CUDA_HOME=os.path.dirname(lib), LD_LIBRARY_PATH="/x")
            self.assertEqual(answer["loader"], f"--library-path {self.root}/lib/glibc:{lib}:/x")
            self.assertEqual((answer["program"], answer["library_path"]), ("plsc-train-cuda", "/x"))
        self.glibc("exit 0")
        self.assertNotIn("loader", self.start())
        self.assertIn("loader", self.start(PLSC_GLIBC="own"))

    def test_mpirun(self):
        """It gets the caller's LD_LIBRARY_PATH, and the folder that other hosts' helpers are started from."""
        program = f"{self.root}/bin/mpirun"
        answer = self.start("-np", program=program, LD_LIBRARY_PATH="/cuda:/x", PLSC_CALLER_LIBRARY_PATH="/x")
        self.assertEqual((answer["library_path"], answer["prefix"]), ("/x", f"{self.root}/mpi"))
        text = subprocess.run([program, "-np", "2"], capture_output=True, text=True).stdout
        self.assertIn(f"argument --prefix\nargument {self.root}/mpi\nargument -np\nargument 2\n", text)
        text = subprocess.run([program, "--prefix", "/y"], capture_output=True, text=True).stdout
        self.assertNotIn(f"argument {self.root}/mpi\n", text)

    def test_no_way_to_other_hosts(self):
        tools = self.libraries("tools")
        for name in ("sh", "readlink"):
            os.symlink(shutil.which(name), f"{tools}/{name}")
        self.assertEqual(self.start(program=f"{self.root}/bin/mpirun", PATH=tools)["plm"], "^rsh")
        self.script("../tools/ssh", "#!/bin/sh\n")
        self.assertEqual(self.start(program=f"{self.root}/bin/mpirun", PATH=tools)["plm"], "")

    def test_mpi_prefix_of_ranks(self):
        """mpirun puts its folder in front for every rank: that is not the user's."""
        answer = self.start(LD_LIBRARY_PATH=f"{self.root}/mpi/lib:{self.root}/mpi/lib:/x")
        self.assertEqual(answer["library_path"], "/x")
        self.assertEqual(self.start(LD_LIBRARY_PATH=f"{self.root}/mpi/lib")["library_path"], "")

    @unittest.skipIf(glob.glob("/sys/class/infiniband/*"), "this machine has InfiniBand")
    def test_without_infiniband(self):
        self.assertEqual(self.start()["pml"], "^ucx")
        self.assertEqual(self.start(OMPI_MCA_pml="ob1")["pml"], "ob1")
        # Other hosts may have it: mpirun passes its own variables to them.
        self.assertEqual(self.start(program=f"{self.root}/bin/mpirun")["pml"], "")

    def test_site_mpi(self):
        self.settings(own_mpi="no")
        lib = self.libraries("mpi site/lib", "libmpi.so.40")
        answer = self.start(MPI_HOME=os.path.dirname(lib))
        self.assertEqual((answer["library_path"], answer["prefix"]), (lib, ""))
        cuda = self.libraries("cuda/lib64", CUBLAS, CUDNN, NCCL)
        self.assert_cuda(self.start(MPI_HOME=os.path.dirname(lib), CUDA_HOME=os.path.dirname(cuda)), cuda, lib)


if __name__ == "__main__":
    unittest.main()
