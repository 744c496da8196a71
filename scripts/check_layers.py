#!/usr/bin/env python3
"""Checks what the compiler does not: that includes go strictly down the layers, that each library's headers stay in
their one place, that files are short, and that nothing unfinished is left. Prints "path:line: what" for each finding.

    scripts/check_layers.py [ROOT]
"""
import os
import re
import sys

# A file may include its own layer and layers of a lower level; layers of one level are siblings.
LEVELS = {"base": 0, "tensor": 1, "config": 1, "backend": 2, "comm": 2, "runtime": 3, "nn": 4, "head": 4, "optim": 4,
          "data": 4, "checkpoint": 5, "eval": 5, "train": 6, "app": 7}
DATA_TOOLS_MAY = {"base", "config", "tensor", "backend", "comm", "runtime", "data"}

# A pattern of an include, and the paths where it may stand.
VENDORS = [
    (r"^oneapi/|^dnnl", [r"src/backend/cpu/"]),
    (r"^mpi\.h$|^mpi-ext\.h$", [r"src/comm/mpi[^/]*$", r"src/app/"]),
    (r"^yaml-cpp/", [r"src/config/"]),
    (r"^CLI/", [r"src/app/", r"data_tools/"]),
    (r"^opencv2/", [r"src/data/", r"src/eval/"]),
    (r"^jpeglib\.h$|^jerror\.h$|^turbojpeg\.h$", [r"src/data/"]),
    (r"^png\.h$", [r"src/data/"]),
    (r"^nlohmann/", [r"src/checkpoint/", r"src/head/", r"src/train/", r"src/app/", r"data_tools/"]),
    (r"^xxhash\.h$", [r"src/checkpoint/"]),
    (r"^spdlog/", [r"src/base/"]),
    (r"^omp\.h$", [r"src/base/", r"src/backend/cpu/"]),
    (r"^(cuda|cudnn|cublas|curand|cub/|thrust/)", [r"src/backend/cuda/", r"kernels/cuda/", r"src/comm/nccl[^/]*$",
                                                          r"tests/support/cuda/", r"tests/cuda/"]),
    (r"^nccl", [r"src/comm/nccl[^/]*$", r"tests/support/cuda/", r"tests/cuda/"]),
]
WORDS = [
    (re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b"), "unfinished work is left in the text"),
    (re.compile(r"(?<![\w.:/])/(home|Users|root|work)/\w"), "a path of one person's machine"),
    (re.compile(r"\bissue #?\d", re.I), "text names a ticket; say what it was about instead"),
]
SUFFIXES = (".h", ".cpp", ".cu", ".py", ".sh", ".yaml", ".md", ".txt", ".cmake", ".json")
CODE = (".h", ".cpp", ".cu")
LONGEST = 500  # lines; a longer file says why in its first 15 lines: "Long because ..."
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def layer_of(path):
    """'nn' for src/nn/conv.h, 'kernels/cpu' for kernels/cpu/x.h, else the first folder."""
    parts = path.split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] == "kernels" and len(parts) > 2:
        return "/".join(parts[:2])
    return parts[0]


def include_problem(path, name):
    """What is wrong with a project header `name` in the file `path`, or None."""
    here, there = layer_of(path), layer_of(name if name.startswith("kernels/") else "src/" + name)
    if there == "kernels/math":
        return None
    if there == "kernels/cpu" or there == "kernels/cuda":
        device = there.split("/")[1]
        if here == there or path.startswith(f"src/backend/{device}/"):
            return None
        return f"{there} may be included from src/backend/{device} alone"
    if here.startswith("kernels"):
        return "kernels/ knows nothing of src/"
    if here == "data_tools":
        return None if there in DATA_TOOLS_MAY else f"data_tools may not include {there}"
    if there not in LEVELS:
        return f"'{there}' is no layer"
    if here not in LEVELS:
        return f"'{here}' is no layer; add it to LEVELS"
    if here == there or LEVELS[there] < LEVELS[here]:
        return None
    kind = "a sibling" if LEVELS[there] == LEVELS[here] else "above it"
    return f"{here} may not include {there}, which is {kind}"


def vendor_problem(path, name):
    for pattern, places in VENDORS:
        if re.search(pattern, name) and not any(re.match(place, path) for place in places):
            return f"<{name}> belongs in {', '.join(p.rstrip('$').replace('[^/]*', '*') for p in places)}"
    return None


def check_includes(root, path, lines):
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        kind, name = match.groups()
        problem = vendor_problem(path, name)
        is_ours = any(os.path.exists(os.path.join(root, base, name)) for base in ("src", ".", "data_tools"))
        if not problem and kind == '"':
            if not is_ours:
                problem = f'"{name}" is no file of src/ or the root; the path starts there'
            elif name.startswith("kernels/") or os.path.exists(os.path.join(root, "src", name)):
                problem = include_problem(path, name)
        if problem:
            yield number, problem


def check_file(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        lines = file.read().split("\n")
    if path.endswith(CODE) and path.startswith(("src/", "kernels/", "data_tools/")):
        yield from check_includes(root, path, lines)
    if path.endswith(".h"):
        if not lines[0].startswith("//"):
            yield 1, "a header opens with a comment: what it is, what it is not"
        if "#pragma once" not in lines:
            yield 1, "a header needs #pragma once"
    if path.endswith(CODE + (".py", ".sh")) and len(lines) > LONGEST:
        if not any("Long because" in line for line in lines[:15]):
            yield len(lines), f"{len(lines)} lines; more than {LONGEST} want a reason ('Long because ...' at the top)"
    for number, line in enumerate(lines, 1):
        for pattern, what in WORDS:
            if pattern.search(line):
                yield number, what


def files_of(root):
    for folder, folders, names in os.walk(root):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        if relative == ".":
            folders[:] = [f for f in folders if f not in ("build", "runs", "data", ".git")]
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted(names):
            if name.endswith(SUFFIXES):
                yield name if relative == "." else f"{relative}/{name}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    checked = found = 0
    for path in files_of(root):
        checked += 1
        for number, what in check_file(root, path):
            print(f"{path}:{number}: {what}")
            found += 1
    print(f"check_layers: {checked} files, {found} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
