#!/usr/bin/env python3
"""scripts/check_layers.py finds each kind of mistake, and nothing in a good tree."""
import os
import subprocess
import sys
import tempfile
import unittest

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "check_layers.py")
HEADER = "// A header.\n#pragma once\n"
GOOD = {
    "src/base/error.h": HEADER,
    "src/tensor/tensor.h": HEADER + '#include "base/error.h"\n',
    "src/config/config.h": HEADER,
    "src/nn/conv.h": HEADER + '#include "tensor/tensor.h"\n#include "kernels/math/rng.h"\n',
    "src/head/head.h": HEADER,
    "src/train/step.cpp": '#include "nn/conv.h"\n#include <vector>\n',
    "src/backend/cpu/gemm.cpp": '#include <oneapi/dnnl/dnnl.hpp>\n#include "kernels/cpu/sgd.h"\n',
    "src/comm/mpi_collective.cpp": "#include <mpi.h>\n",
    "kernels/math/rng.h": HEADER,
    "kernels/cpu/sgd.h": HEADER + '#include "kernels/math/rng.h"\n',
    "data_tools/main.cpp": '#include "config/config.h"\n',
}


class CheckLayers(unittest.TestCase):
    def run_on(self, extra):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**GOOD, **extra}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)) or root, exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run([sys.executable, SCRIPT, root], capture_output=True, text=True, check=False)
            return done.returncode, done.stdout

    def expect(self, path, text, line, what):
        status, output = self.run_on({path: text})
        self.assertEqual(status, 1, output)
        self.assertIn(f"{path}:{line}: ", output)
        self.assertIn(what, output)
        self.assertIn("1 findings", output)

    def test_good_tree(self):
        status, output = self.run_on({})
        self.assertEqual(status, 0, output)
        self.assertIn("0 findings", output)

    def test_include_upwards(self):
        self.expect("src/nn/x.cpp", '\n#include "train/step.h"\n#include "base/error.h"\n', 2, "is no file of src/")
        self.expect("src/base/x.cpp", '#include "nn/conv.h"\n', 1, "base may not include nn, which is above it")

    def test_include_sibling(self):
        self.expect("src/nn/x.cpp", '#include "head/head.h"\n', 1, "which is a sibling")

    def test_kernels(self):
        self.expect("src/nn/x.cpp", '#include "kernels/cpu/sgd.h"\n', 1, "from src/backend/cpu alone")
        self.expect("kernels/cpu/x.cpp", '#include "base/error.h"\n', 1, "knows nothing of src/")

    def test_vendor_headers(self):
        self.expect("src/nn/x.cpp", "#include <oneapi/dnnl/dnnl.hpp>\n", 1, "belongs in src/backend/cpu/")
        self.expect("src/comm/single.cpp", "#include <mpi.h>\n", 1, "<mpi.h> belongs in")
        self.expect("src/train/x.cpp", "#include <yaml-cpp/yaml.h>\n", 1, "src/config/")

    def test_data_tools(self):
        self.expect("data_tools/x.cpp", '#include "nn/conv.h"\n', 1, "data_tools may not include nn")

    def test_headers(self):
        self.expect("src/nn/x.h", "#pragma once\n", 1, "opens with a comment")
        self.expect("src/nn/x.h", "// A header.\n", 1, "#pragma once")

    def test_length(self):
        self.expect("src/nn/x.cpp", "int x;\n" * 501, 502, "more than 500")
        status, output = self.run_on({"src/nn/x.cpp": "// Long because of a table.\n" + "int x;\n" * 501})
        self.assertEqual(status, 0, output)

    def test_words(self):
        self.expect("src/nn/x.cpp", "int a;  // TO" "DO later\n", 1, "unfinished")
        self.expect("scripts/x.sh", "cd /ho" "me/me/plsc\n", 1, "one person's machine")
        self.expect("NOTES.md", "As issue " "#12 says\n", 1, "ticket")


if __name__ == "__main__":
    unittest.main()
