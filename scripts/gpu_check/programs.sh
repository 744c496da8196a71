# Where the programs are, and what machine this is: facts for the report's head. Sourced by gpu_check.sh.
# shellcheck shell=bash disable=SC2154,SC2034  # variables of the other parts

root=$(cd "$here/.." && pwd)
if [ -n "$bundle" ]; then
  bin=$bundle/bin tests_folder=$bundle/libexec/tests bench_folder=$bundle/libexec/bench configs=$bundle/configs
else
  bin=${PLSC_CHECK_BIN:-$root/build/cuda/bin} configs=$root/configs
  tests_folder=$bin bench_folder=$bin
fi
plsc_train=$bin/plsc-train plsc_data=$bin/plsc-data
python=${PYTHON:-python3}

# start PROGRAM ARGS...: the words that start a test or a bench, in the array `command`: in a bundle its wrapper finds
# the libraries. What is in a bundle's bin is such a wrapper itself.
start() {
  if [ -n "$bundle" ]; then command=("$bundle/bin/run" "$@"); else command=("$@"); fi
}

# The programs see one mpirun: the bundle's, or the machine's. As root, Open MPI wants to be told that this is meant.
if [ -n "$bundle" ]; then export PATH=$bundle/bin:$PATH; fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1
export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1

# field NAME < line: a number or a text without commas of one JSON object; empty where it is not there.
field() { sed -n "/\"$1\":/{s/.*\"$1\":\"\{0,1\}\([^,}\"]*\).*/\1/p;q;}"; }

revision() {
  local file
  for file in "$bundle/REVISION" "$bundle/share/REVISION" "$bin/REVISION"; do
    if [ -s "$file" ]; then head -n 1 "$file"; return; fi
  done
  if [ -z "$bundle" ] && git -C "$root" rev-parse HEAD >/dev/null 2>&1; then
    local dirty=""
    [ -z "$(git -C "$root" status --porcelain --untracked-files=no 2>/dev/null)" ] || dirty=", with changes"
    echo "$(git -C "$root" rev-parse HEAD)$dirty"
    return
  fi
  echo unknown
}

# GPUs as CUDA finds them: gpus (how many), gpu_name, gpu_memory (bytes, of the first), no_gpu (why there is none).
gpus=0 gpu_name="" gpu_memory=0 no_gpu=""
find_gpus() {
  local line
  start "$bench_folder/bench_step" --probe
  if line=$(timeout -k 5 60 "${command[@]}" 2>/dev/null | grep '^{') && [ -n "$line" ]; then
    gpus=$(grep -o '"capability":' <<<"$line" | wc -l)
    gpu_name=$(field name <<<"$line")
    gpu_memory=$(field memory <<<"$line")
    no_gpu=$(sed -n 's/.*"problem":"\(.*\)"}$/\1/p' <<<"$line")
  elif gpus=$(timeout -k 5 60 nvidia-smi -L 2>/dev/null | grep -c '^GPU') && [ "$gpus" -gt 0 ]; then
    gpu_name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | sed -n 1p)
  else
    gpus=0 no_gpu="bench_step --probe gave no answer, and nvidia-smi finds none"
  fi
  gpu_memory=${gpu_memory:-0}
}

# Names and values for the report's head, a tab between: "name<tab>value" a line.
machine_facts() {
  local version smi
  printf 'host\t%s\n' "$(uname -n)"
  printf 'system\t%s, %s\n' "$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release 2>/dev/null)" \
    "$(uname -sr)"
  printf 'processor\t%s, %s cores usable\n' "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | sed -n 1p)" "$(nproc)"
  printf 'memory\t%s\n' "$(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)"
  if [ "$gpus" -gt 0 ]; then
    printf 'GPUs\t%s x %s, %s\n' "$gpus" "$gpu_name" "$(awk -v b="$gpu_memory" 'BEGIN { printf "%.1f GiB", b / 2^30 }')"
    smi=$(timeout -k 5 20 nvidia-smi --format=csv,noheader \
      --query-gpu=driver_version,clocks.sm,clocks.max.sm,power.limit,memory.used 2>/dev/null | paste -sd';')
    printf 'driver, clock, highest, power, memory in use\t%s\n' "${smi:-nvidia-smi says nothing}"
  else
    printf 'GPUs\tnone: %s\n' "$no_gpu"
  fi
  printf 'build\t%s\n' "${bundle:-$bin}"
  printf 'revision\t%s\n' "$(revision)"
  version=$(timeout -k 5 60 "$plsc_train" --version 2>&1 | sed -n 1p)
  printf 'program\t%s\n' "${version:-$plsc_train does not start}"
}
