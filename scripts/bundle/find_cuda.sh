# Read by start.sh: where CUDA's libraries are on this node. POSIX shell.
#
# In this order: PLSC_CUDA_LIBS (folders, a colon between them), CUDA_HOME and CUDA_PATH, LD_LIBRARY_PATH, the Python
# environment that is active (VIRTUAL_ENV, CONDA_PREFIX: NVIDIA's packages, which PyTorch brings), the loader's own
# folders, /usr/local/cuda, and at last the packages of the python3 in PATH.

# add FOLDER...: those that exist, to $places.
add() {
  for folder; do
    if [ -d "$folder" ]; then places=$places:$folder; fi
  done
}

# toolkit FOLDER: the library folders of a CUDA toolkit.
toolkit() { if [ -n "$1" ]; then add "$1/lib64" "$1/lib" "$1/targets/x86_64-linux/lib"; fi; }

# packages FOLDER: NVIDIA's packages in a Python environment: nvidia/cu13/lib, nvidia/cudnn/lib, nvidia/nccl/lib, ...
packages() { if [ -n "$1" ]; then add "$1"/lib/python3*/site-packages/nvidia/*/lib; fi; }

# missing_in: sets $missing to the libraries that are in none of $places nor where the loader looks.
missing_in() {
  missing=
  for soname in $cuda_sonames; do
    look "$soname" "$places" || in_cache "$soname" || missing=${missing:+$missing, }$soname
  done
  [ -n "$missing" ]
}

# chosen_path: sets $library_path to those of $places that a library is taken from, in their order.
chosen_path() {
  chosen=:
  for soname in $cuda_sonames $cuda_optional; do
    if look "$soname" "$places"; then chosen=$chosen$found:; fi
  done
  site=$library_path  # of the site's MPI
  library_path=
  rest=$places:
  while [ -n "$rest" ]; do
    folder=${rest%%:*}
    rest=${rest#*:}
    case $chosen in
      *":$folder:"*) case ":$library_path:" in *":$folder:"*) ;; *) library_path=${library_path:+$library_path:}$folder ;; esac ;;
    esac
  done
  # Ranks that this program starts here need not look again.
  if [ -n "$library_path" ]; then PLSC_CUDA_LIBS=$library_path; export PLSC_CUDA_LIBS; fi
  library_path=$library_path${site:+${library_path:+:}$site}
}

# other_versions: sets $others to what is there of the missing libraries in another major version.
other_versions() {
  others=
  for soname in $(printf '%s' "$missing" | tr -d ,); do
    rest=$places:
    while [ -n "$rest" ]; do
      folder=${rest%%:*}
      rest=${rest#*:}
      for file in "$folder/${soname%.so.*}".so.[0-9]*; do
        case ${file##*.so.} in *.*) continue ;; esac  # libcudnn.so.8.9.7 is libcudnn.so.8
        if [ -n "$folder" ] && [ -e "$file" ]; then others="${others:+$others, }$file"; fi
      done
    done
  done
}

# find_cuda: whether all libraries are there. Sets library_path; where not, cuda_problem and cuda_remedy.
find_cuda() {
  if [ "$own_cuda" = yes ]; then return 0; fi
  places=${PLSC_CUDA_LIBS:-}
  toolkit "${CUDA_HOME:-}"
  toolkit "${CUDA_PATH:-}"
  places=$places:${LD_LIBRARY_PATH:-}
  packages "${VIRTUAL_ENV:-}"
  packages "${CONDA_PREFIX:-}"
  toolkit "${CONDA_PREFIX:-}"
  toolkit /usr/local/cuda
  for folder in /usr/local/cuda-[0-9]*; do toolkit "$folder"; done
  if missing_in; then
    add_python
    if missing_in; then
      explain_missing
      return 1
    fi
  fi
  chosen_path
}

# add_python: every folder that the python3 of PATH takes packages from.
add_python() {
  python=$(command -v python3) || python=$(command -v python) || return 0
  places=$places:$("$python" -c 'import glob, sys
print(":".join(d for p in sys.path if p for d in sorted(glob.glob(glob.escape(p) + "/nvidia/*/lib"))))' 2>/dev/null) || return 0
}

explain_missing() {
  other_versions
  cuda_problem="the CUDA libraries $missing were not found${others:+ (but other versions: $others)}"
  cuda_remedy="looked in PLSC_CUDA_LIBS (${PLSC_CUDA_LIBS:-not set}), CUDA_HOME (${CUDA_HOME:-not set}), LD_LIBRARY_PATH \
(${LD_LIBRARY_PATH:-not set}), the Python environment (${VIRTUAL_ENV:-${CONDA_PREFIX:-${python:-none}}}), the loader's \
cache and /usr/local/cuda: name their folders in PLSC_CUDA_LIBS, or activate a Python environment with NVIDIA's packages"
}
