#!/usr/bin/env python3
"""Puts programs and every shared library that they need into a folder from which they run anywhere: scripts/bundle.sh
calls it. Fails at a library that the checked list (scripts/bundle_libraries.txt) does not name, and says who needs it.

    collect.py --programs FILE... --libraries FILE --output DIR [--cuda] [--system-mpi]

FILE of --programs: lines "PLACE FILE", a place below libexec/.
"""
import argparse
import fnmatch
import glob
import os
import re
import shutil
import subprocess
import sys

SYSTEM = "/usr/lib/x86_64-linux-gnu"
# Debian lets the administrator choose a BLAS; a bundle has the reference, whatever this machine has chosen.
REFERENCE_BLAS = [f"{SYSTEM}/lapack", f"{SYSTEM}/blas"]
PLUGIN_FOLDERS = {f"{SYSTEM}/openmpi/lib/openmpi3": "mpi/lib/openmpi", f"{SYSTEM}/pmix2/lib/pmix": "mpi/lib/pmix",
                  f"{SYSTEM}/ucx": "lib/ucx"}
MPI_PROGRAMS = {"/usr/bin/orterun": "mpi/bin/mpirun", "/usr/bin/orted": "libexec/orted"}
MPI_TEXTS = {"/usr/share/openmpi/help-*.txt": "mpi/share/openmpi", "/usr/share/pmix/help-*.txt": "mpi/share/pmix",
             f"{SYSTEM}/pmix2/share/pmix/help-*.txt": "mpi/share/pmix"}
# Packages whose code the programs hold themselves.
COMPILED_IN = ("catch2", "libcli11-dev", "nlohmann-json3-dev")


def fail(text, hint):
    sys.exit(f"collect.py: {text}\n  hint: {hint}")


class Elf:
    """What the dynamic section of a file says: needed (sonames), folders (its run path, made absolute)."""

    def __init__(self, path):
        text = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout
        self.needed = re.findall(r"\(NEEDED\).*\[(.*)\]", text)
        run_path = re.search(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", text)
        origin = os.path.dirname(os.path.realpath(path))
        self.folders = [f.replace("$ORIGIN", origin) for f in run_path.group(1).split(":")] if run_path else []


class LibraryList:
    """The checked list: soname patterns and their kinds."""

    def __init__(self, path):
        self.path, self.lines = path, []
        with open(path) as f:
            for number, line in enumerate(f, 1):
                words = line.split(None, 2)
                if not words or words[0].startswith("#"):
                    continue
                if len(words) < 3:
                    fail(f"{path}:{number}: found {line.strip()!r}, expected PATTERN KIND WHY", "say why it is carried")
                self.lines.append((words[0], words[1]))

    def kind(self, name):
        return next((kind for pattern, kind in self.lines if fnmatch.fnmatchcase(name, pattern)), None)

    def names(self, wanted):
        return [pattern for pattern, kind in self.lines if kind == wanted]


def loader_cache():
    """{soname: path} of this machine's dynamic loader."""
    text = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    found = {}
    for name, path in re.findall(r"^\t(\S+) \(.*x86-64.*\) => (.*)$", text, re.M):
        found.setdefault(name, path)
    return found


class Collector:
    def __init__(self, libraries, output, cuda, system_mpi):
        self.libraries, self.output, self.cuda, self.system_mpi = libraries, output, cuda, system_mpi
        self.cache = loader_cache()
        self.placed = {}      # place in the bundle -> the file it was copied from
        self.carried = set()  # sonames
        self.wanted = {}      # CUDA sonames -> the folder that this build linked them from
        self.cuda_programs = []

    def resolve(self, soname, elf, who):
        for folder in REFERENCE_BLAS + elf.folders:
            if os.path.exists(os.path.join(folder, soname)):
                return os.path.join(folder, soname)
        if soname in self.cache:
            return self.cache[soname]
        fail(f"{soname}, which {who} needs, is not on this machine", "install it, or build anew")

    def place(self, source, place):
        target = os.path.join(self.output, place)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(os.path.realpath(source), target)
        os.chmod(target, 0o755)
        self.placed[place] = source

    def follow(self, elf, who):
        """Carries what `elf` needs, and what that needs."""
        for soname in elf.needed:
            kind = self.libraries.kind(soname)
            if kind is None:
                fail(f"{soname}, which {who} needs, is not in {self.libraries.path}",
                     "leave out what needs it, or add a line there that says why every node should carry it")
            if kind == "cuda":
                self.wanted.setdefault(soname, os.path.dirname(self.resolve(soname, elf, who)))
            if kind in ("node", "glibc", "cuda") or (kind == "mpi" and self.system_mpi) or soname in self.carried:
                continue
            self.carried.add(soname)
            path = self.resolve(soname, elf, who)
            self.place(path, f"lib/{soname}")
            self.follow(Elf(path), soname)

    def add_programs(self, path):
        with open(path) as f:
            lines = [line.split(None, 1) for line in f.read().splitlines() if line]
        for place, source in lines:
            elf = Elf(source)
            self.place(source, f"libexec/{place}")
            subprocess.run(["strip", os.path.join(self.output, "libexec", place)], check=True)
            if any(self.libraries.kind(name) == "cuda" for name in elf.needed):
                self.cuda_programs.append(place)
            self.follow(elf, place)

    def add_mpi(self):
        for source, place in MPI_PROGRAMS.items():
            if not os.path.exists(source):
                fail(f"there is no {source}: a bundle carries Open MPI 4, as Debian 12 packs it",
                     "install openmpi-bin there, or use --system-mpi")
            self.place(source, place)
            self.follow(Elf(source), place)
        for folder, place in PLUGIN_FOLDERS.items():
            for source in sorted(glob.glob(f"{folder}/*.so*")):
                name = os.path.basename(source)
                if self.libraries.kind(name) == "plugin":
                    self.carried.add(name)
                    self.place(source, f"{place}/{name}")
                    self.follow(Elf(source), name)
        for pattern, place in MPI_TEXTS.items():
            for source in glob.glob(pattern):
                os.makedirs(os.path.join(self.output, place), exist_ok=True)
                shutil.copyfile(source, os.path.join(self.output, place, os.path.basename(source)))

    def add_glibc(self):
        for name in self.libraries.names("glibc"):
            source = "/lib64/" + name if name.startswith("ld-") else f"/lib/x86_64-linux-gnu/{name}"
            if not os.path.exists(source):
                fail(f"there is no {source}", "bundles are made on Debian")
            self.place(source, f"lib/glibc/{name}")

    def add_cuda(self):
        folders = sorted(set(self.wanted.values()))
        for folder in folders:
            for source in sorted(glob.glob(f"{folder}/lib*.so.*")):
                name = os.path.basename(source)
                # By soname alone: libcudnn.so.9, not libcudnn.so.9.1.0 beside it; alt: another build of the same.
                if self.libraries.kind(name) == "cuda" and ".alt." not in name and self.soname(source) == name:
                    self.place(source, f"lib/cuda/{name}")

    @staticmethod
    def soname(path):
        text = subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout
        found = re.search(r"\(SONAME\).*\[(.*)\]", text)
        return found.group(1) if found else None

    def set_run_paths(self):
        """Each file finds the bundle's libraries relative to itself, before LD_LIBRARY_PATH (hence --force-rpath): a
        node's libraries of the same names do not get in between. The C library's and NVIDIA's files stay as they are."""
        for place in self.placed:
            if place.startswith(("lib/glibc/", "lib/cuda/")):
                continue
            here = os.path.dirname(place)
            folders = ["lib"] + (["lib/cuda"] if self.cuda and place[len("libexec/"):] in self.cuda_programs else [])
            paths = ":".join("$ORIGIN" if f == here else "$ORIGIN/" + os.path.relpath(f, here) for f in folders)
            subprocess.run(["patchelf", "--force-rpath", "--set-rpath", paths, os.path.join(self.output, place)],
                           check=True)

    def add_licences(self):
        """The copyright file of each Debian package that a file is from, and a list of the packages."""
        sources = sorted({os.path.realpath(s) for s in self.placed.values()})
        names = {spelling for s in sources for spelling in (s, re.sub("^/usr/lib", "/lib", s))}
        text = subprocess.run(["dpkg-query", "-S", *sorted(names)], capture_output=True, text=True).stdout
        packages = sorted({p.strip().split(":")[0] for p in re.findall(r"^(.*?): /", text, re.M)} | set(COMPILED_IN))
        folder = os.path.join(self.output, "licences")
        os.makedirs(folder)
        listing = ["Shared libraries and MPI programs in this folder are Debian's, unchanged but for their run paths; some",
                   "packages are compiled into the programs. The sources of each version are on",
                   "https://snapshot.debian.org/. The terms are in the files beside this.", ""]
        for package in packages:
            shutil.copyfile(f"/usr/share/doc/{package}/copyright", os.path.join(folder, package + ".txt"))
            version = subprocess.run(["dpkg-query", "-W", "-f", "${Version} (source: ${source:Package} ${source:Version})\n",
                                      package], capture_output=True, text=True, check=True).stdout.splitlines()[0]
            listing.append(f"{package} {version}")
        if self.cuda:
            listing += ["", "lib/cuda: NVIDIA's, unchanged, under the terms of the CUDA toolkit, cuDNN and NCCL:",
                        "https://docs.nvidia.com/cuda/eula/ https://docs.nvidia.com/deeplearning/cudnn/sla/"]
        with open(os.path.join(folder, "PACKAGES.txt"), "w") as f:
            f.write("\n".join(listing) + "\n")

    def write_settings(self):
        optional = sorted({os.path.basename(p) for f in set(self.wanted.values())
                           for pattern in ("libcublas.so.[0-9]*", "libnvrtc.so.[0-9]*")
                           for p in glob.glob(f"{f}/{pattern}") if p.count(".") == 2})
        settings = {"own_mpi": "no" if self.system_mpi else "yes", "own_cuda": "yes" if self.cuda else "no",
                    "cuda_programs": " ".join(self.cuda_programs), "cuda_sonames": " ".join(sorted(self.wanted)),
                    "cuda_optional": " ".join(optional)}
        with open(os.path.join(self.output, "libexec/bundle.conf"), "w") as f:
            f.write("".join(f"{name}='{value}'\n" for name, value in settings.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", required=True, action="append")
    parser.add_argument("--libraries", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--cuda", action="store_true", help="carry CUDA's libraries")
    parser.add_argument("--system-mpi", action="store_true", help="leave MPI to the site")
    args = parser.parse_args()
    collector = Collector(LibraryList(args.libraries), args.output, args.cuda, args.system_mpi)
    for path in args.programs:
        collector.add_programs(path)
    if not args.system_mpi:
        collector.add_mpi()
    collector.add_glibc()
    if args.cuda:
        collector.add_cuda()
    collector.set_run_paths()
    collector.add_licences()
    collector.write_settings()


if __name__ == "__main__":
    main()
