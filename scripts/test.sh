#!/usr/bin/env bash
# Builds and tests everything: what a change must pass.
#   scripts/test.sh           packages, build, format, layers, all tests, bundles, unit tests under the address and
#                             undefined-behaviour sanitizers; where nvcc is, the build is the one with CUDA, its kernels
#                             in emulation and its whole path on a stand-in for the vendor's libraries among the tests
#   scripts/test.sh --full    also: the build without CUDA beside the one with it, clang, the thread sanitizer, the
#                             quickstart in clean Debian 12 and 13 systems, and bundles in Debian 11 and 13
# Ends with "N passed, N failed"; the status is 0 only where nothing failed.
set -euo pipefail
cd "$(dirname "$0")/.."

full=false
case "${1:-}" in
  "") ;;
  --full) full=true ;;
  *) echo "usage: $0 [--full]" >&2; exit 2 ;;
esac

cores=$(nproc)
passed=0 failed=0 skipped=0
summary=()
export LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0"
# The OpenMP runtime and the system's libraries are not instrumented: what they do among themselves is not for us to judge.
export TSAN_OPTIONS="ignore_noninstrumented_modules=1"
# Tests run side by side: a thread that spins while it waits for others of its program takes a core from the rest.
export OMP_WAIT_POLICY=passive
# Where the tests run as root, OpenMPI must be told that this is meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# stage NAME COMMAND...: runs it, counts it as one check, and goes on where it fails.
stage() {
  local name=$1 begin=$SECONDS status=passed
  shift
  printf '\n== %s\n' "$name"
  "$@" || status=FAILED
  if [ $status = passed ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  summary+=("$(printf '%-44s %-7s %5d s' "$name" $status $((SECONDS - begin)))")
  [ $status = passed ]
}

# tests NAME PRESET ARGUMENTS...: runs ctest and adds its counts.
tests() {
  local name=$1 preset=$2 begin=$SECONDS log=build/$2/ctest.log total bad off status=passed
  shift 2
  printf '\n== %s\n' "$name"
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error -j "$cores" "$@" 2>&1 | tee "$log" || status=FAILED
  total=$(sed -n 's/.* tests failed out of \([0-9]*\).*/\1/p' "$log")
  bad=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed.*/\1/p' "$log")
  off=$(grep -c -E '\*\*\*Skipped' "$log" || true)
  if [ -z "$total" ]; then total=1 bad=1; fi
  passed=$((passed + total - bad - off)) failed=$((failed + bad)) skipped=$((skipped + off))
  summary+=("$(printf '%-44s %-7s %5d s   %d tests, %d failed, %d skipped' "$name" $status $((SECONDS - begin)) "$total" "$bad" "$off")")
}

build() {  # PRESET TARGET...: configures and builds; the log of CMake only where it fails
  local preset=$1 log options=(-DPLSC_TESTS=ON)
  shift
  # The tests emulate kernels: one architecture's code is enough to see that nvcc takes them. It is that of the GPU which
  # the stand-in plays, so that a program finds code for its GPU.
  [ "$preset" = cuda ] && options+=(-DCMAKE_CUDA_ARCHITECTURES="${PLSC_TEST_CUDA_ARCHITECTURES:-90-real}")
  log=$(mktemp)
  if ! cmake --preset "$preset" "${options[@]}" >"$log" 2>&1; then cat "$log"; rm -f "$log"; return 1; fi
  rm -f "$log"
  cmake --build --preset "$preset" --target "$@"
}

format() {
  if ! clang-format --version 2>/dev/null | grep -q 'version 14\.'; then
    echo "skipped: the sources are formatted by clang-format 14, which is not here"
    return 0
  fi
  git ls-files -z '*.h' '*.cpp' '*.cu' | xargs -0 clang-format --dry-run -Werror
}

layers() { python3 scripts/check_layers.py && python3 tests/scripts/test_check_layers.py; }

finish() {
  printf '\n'
  printf '%s\n' "${summary[@]}"
  printf '%-44s %13d s\n\n' "all" $SECONDS
  local skips=""
  [ $skipped -gt 0 ] && skips=", $skipped skipped"
  echo "$passed passed, $failed failed$skips"
  [ $failed -eq 0 ]
}

if $full; then deps=--full; else deps=--test; fi
stage "packages" scripts/install_deps.sh $deps || { finish; exit 1; }
stage "format" format || true
stage "layers" layers || true
if [ -n "${CUDACXX:-}" ] || command -v nvcc >/dev/null; then
  preset=cuda targets=(all cuda_tests)
else
  preset=cpu targets=(all)
  skipped=$((skipped + 1))
  summary+=("$(printf '%-44s %-7s' "CUDA: there is no nvcc" skipped)")
fi
if stage "build, $preset" build $preset "${targets[@]}"; then
  tests "tests" $preset
fi
# Its programs, linked once more and packed; in a root file system that has nothing.
stage "starting a bundle's programs" tests/scripts/test_bundle_start.py || true
bundles=false
if [ "$(. /etc/os-release && echo "${VERSION_ID:-}")" = 12 ]; then
  bundles=true
  stage "bundle" tests/scripts/test_bundle.py build/$preset || true
else
  skipped=$((skipped + 1))
  summary+=("$(printf '%-44s %-7s' "bundles: made on Debian 12" skipped)")
fi
if stage "build, address and undefined sanitizers" build asan unit_tests; then
  tests "unit tests, sanitized" asan -L unit
fi
if $full; then
  stage "cases that take minutes" build/$preset/bin/test_unit_head "[.full]" || true
  if [ $preset = cuda ] && stage "build, cpu" build cpu all; then
    tests "tests without CUDA" cpu
  fi
  if stage "build, clang" build clang all; then
    tests "unit, parity and golden tests, clang" clang -L 'unit|parity|golden'
  fi
  if stage "build, thread sanitizer" build tsan test_unit_base test_unit_data test_unit_comm; then
    # Only the parts that have threads of their own: the OpenMP runtime and OpenMPI are not instrumented.
    tests "threads, sanitized" tsan -R '^unit\.(base|data|comm)$'
  fi
  for suite in bookworm trixie; do
    stage "quickstart on a clean $suite" scripts/test_clean_root.sh $suite || true
  done
  if $bundles; then
    stage "bundles on an older and a newer Debian" env PLSC_BUNDLE_SUITES="bullseye trixie" \
      tests/scripts/test_bundle.py build/cpu build/$preset || true
  fi
fi
finish
