#!/usr/bin/env bash
# Makes a folder (and a .tar.xz of it) from which plsc-train runs on any x86-64 Linux with nothing installed: programs,
# tests, benches, configurations, MPI, and every shared library that a bare node may lack, but for the GPU's driver.
#   scripts/bundle.sh                     builds build/bundle (with CUDA where nvcc is), packs build/plsc-train-VERSION-...
#     --no-cuda-libs      leaves CUDA's libraries (1.3 GiB) out: found at every start in CUDA_HOME, LD_LIBRARY_PATH or
#                         NVIDIA's packages of the active Python environment
#     --system-mpi        leaves MPI out: the site's libmpi.so.40 and mpirun are used (Open MPI 4 or 5)
#     --cpu               without CUDA (builds build/bundle-cpu)
#     --cuda-architectures LIST   of the build, e.g. "80-real;90-real"; the default holds 7.5 to 9.0, and PTX
#     --build DIR         packs the programs of this build folder (any preset's), which are brought up to date first
#     --cpu-tests DIR     takes the CPU's tests from this build folder
#     --output DIR        where the folder and the archive go (default: build)
#     --no-archive        the folder alone
# Made on Debian 12 alone. A bundle needs Linux 3.2 on x86-64 and a POSIX shell; it brings its C library, which is used
# where the node's is older. The archive without CUDA's libraries may take 45 MiB; what may be in it is listed in
# scripts/bundle_libraries.txt, and any other library stops this script.
set -euo pipefail
cd "$(dirname "$0")/.."

most_mib=45  # the archive without CUDA's libraries
cuda_libs=true system_mpi=false cpu=false archive=true build="" cpu_tests="" output=build architectures=""
while [ $# -gt 0 ]; do
  case $1 in
    --no-cuda-libs) cuda_libs=false ;;
    --system-mpi) system_mpi=true ;;
    --cpu) cpu=true ;;
    --no-archive) archive=false ;;
    --build | --cpu-tests | --output | --cuda-architectures)
      [ $# -gt 1 ] || { echo "bundle.sh: $1 needs a value" >&2; exit 2; }
      case $1 in --build) build=$2 ;; --cpu-tests) cpu_tests=$2 ;; --output) output=$2 ;; *) architectures=$2 ;; esac
      shift ;;
    --help | -h) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) echo "bundle.sh: unknown option $1; scripts/bundle.sh --help lists them" >&2; exit 2 ;;
  esac
  shift
done

need() { command -v "$1" >/dev/null || { echo "bundle.sh: $1 is missing: apt-get install $2" >&2; exit 1; }; }
need patchelf patchelf
need readelf binutils
need python3 python3
need gcc gcc
need git git
need dpkg-query "dpkg (bundles are made on Debian)"
if $archive; then need xz xz-utils; fi

nvcc=${CUDACXX:-$(command -v nvcc || true)}
if [ -z "$build" ]; then
  preset="bundle" options=()
  if $cpu || [ -z "$nvcc" ]; then preset="bundle-cpu"; fi
  [ -n "$architectures" ] && options+=(-DCMAKE_CUDA_ARCHITECTURES="$architectures")
  build=build/$preset
  cmake --preset $preset "${options[@]}" >/dev/null
fi
cpu_tests=${cpu_tests:-$build}
for folder in "$build" "$cpu_tests"; do
  if [ ! -e "$folder/CMakeCache.txt" ]; then
    echo "bundle.sh: $folder is no build folder: cmake --preset cpu makes one" >&2
    exit 1
  fi
  if grep -q -e '-march=native' "$folder/compile_commands.json"; then
    echo "bundle.sh: $folder compiles with -march=native: its programs would run on this machine's CPU alone" >&2
    exit 1
  fi
done
cmake --build "$build" --target bundle_programs
cmake --build "$cpu_tests" --target bundle_cpu_tests

version=$(sed -n 's/^CMAKE_PROJECT_VERSION:[A-Z]*=//p' "$build/CMakeCache.txt")
name=plsc-train-$version-linux-x86_64
mkdir -p "$output"
# Made aside and moved at the end: a failed run leaves no folder that looks whole.
work=$(mktemp -d "$output/.bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
bundle=$work/$name

collect=(--programs "$build/bundle_programs.txt" --programs "$cpu_tests/bundle_cpu_tests.txt")
collect+=(--libraries "${PLSC_BUNDLE_LIBRARIES:-scripts/bundle_libraries.txt}")
cuda=false
if grep -q '^plsc-train-cuda ' "$build/bundle_programs.txt"; then cuda=true; fi
if $cuda && $cuda_libs; then collect+=(--cuda); fi
if $system_mpi; then collect+=(--system-mpi); fi
python3 scripts/bundle/collect.py "${collect[@]}" --output "$bundle"

# wrapper PLACE START: a script that starts something by libexec/start.sh.
wrapper() {
  local place=$1 start=$2 up=..
  case $place in mpi/*) up=../.. ;; esac
  mkdir -p "$(dirname "$bundle/$place")"
  sed -e "s|@PROGRAM@|${place##*/}|" -e "s|@UP@|$up|" -e "s|@START@|$start \"\$@\"|" scripts/bundle/wrapper.sh >"$bundle/$place"
  chmod 755 "$bundle/$place"
}
wrapper bin/plsc-train "start plsc-train"
wrapper bin/plsc-data "start plsc-data"
wrapper bin/run run
if ! $system_mpi; then
  wrapper bin/mpirun start_mpirun
  wrapper bin/mpiexec start_mpirun
  wrapper mpi/bin/orted start_orted
  mkdir -p "$bundle/mpi/etc"
  cp scripts/bundle/openmpi-mca-params.conf "$bundle/mpi/etc/"
fi
cp scripts/bundle/start.sh scripts/bundle/find_cuda.sh "$bundle/libexec/"
gcc -O2 -o "$bundle/libexec/node_glibc" scripts/bundle/node_glibc.c
strip "$bundle/libexec/node_glibc"

# Beside the programs, in the places that they have in the sources: what tests and benches read, and what people read.
git ls-files -z README.md LICENSE configs scripts/slurm scripts/gpu_check.sh scripts/gpu_check scripts/bench tests/golden |
  grep -zvE '\.(cpp|h|cu)$|CMakeLists\.txt$' | xargs -0 cp --parents -t "$bundle"

# Which sources these programs are of; "-dirty" where they have changed since.
git describe --always --dirty --abbrev=40 --exclude '*' >"$bundle/REVISION"

rm -rf "${output:?}/$name" "${output:?}/$name.tar.xz"
mv "$bundle" "$output/$name"
size() { du -sm --apparent-size "$1" | cut -f1; }
echo "$output/$name: $(size "$output/$name") MiB"
if $archive; then
  (cd "$output" && tar --sort=name --owner=0 --group=0 --numeric-owner -cf - "$name" | xz -T0 -6 >"$name.tar.xz")
  mib=$(size "$output/$name.tar.xz")
  echo "$output/$name.tar.xz: $mib MiB"
  if ! { $cuda && $cuda_libs; } && [ "$mib" -gt $most_mib ]; then
    echo "bundle.sh: found $mib MiB, expected at most $most_mib: leave something out" >&2
    exit 1
  fi
fi
