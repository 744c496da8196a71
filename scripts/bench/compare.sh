#!/usr/bin/env bash
# Ours against PyTorch, in turn on the same machine, so that its moods hit both: A B A B ..., the ratio pair by pair.
#   PYTHON=python3 scripts/bench/compare.sh backbone --precision fp32      # iresnet18 at 112x112, batch 32
#   PYTHON=python3 scripts/bench/compare.sh omniglot --data data/omniglot  # training, images decoded beforehand
#   PYTHON=python3 scripts/bench/compare.sh head --classes 1000000         # full softmax, batch 128 (16 GiB for PyTorch)
# PAIRS=3 sets the number of pairs. Needs PyTorch for PYTHON; build with: cmake --preset cpu && cmake --build --preset cpu
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
pairs=${PAIRS:-3}
bin=build/cpu/bin
what=${1:?backbone, omniglot or head}
shift

rate() { grep -oE '[0-9.]+ images/s' | tail -1 | grep -oE '^[0-9.]+'; }
seconds() { grep -oE '^step +[0-9.]+ s' | grep -oE '[0-9.]+'; }

ours() {
  case "$what" in
    backbone) $bin/bench_backbone --backbone iresnet18 --batch 32 --size 112 "$@" | rate ;;
    head) $bin/bench_head "$@" | seconds ;;
    omniglot)
      local out
      out=$(mktemp -d)
      $bin/plsc-train -c configs/omniglot.yaml -o output="$out/run" -o data.train="$2/background" -o eval.sets=[] \
        -o train.steps=220 -o checkpoint.at_end=false -o log.every_steps=100 >/dev/null 2>&1
      # The first line pays for decoding; the second is 100 steps of cached images.
      sed -n 2p "$out/run/metrics.jsonl" | grep -oE '"images_per_s":[0-9.]+' | grep -oE '[0-9.]+$'
      rm -rf "$out"
      ;;
  esac
}

theirs() {
  case "$what" in
    backbone) "$python" scripts/bench/backbone_pytorch.py --backbone iresnet18 --batch 32 --size 112 "$@" | rate ;;
    head) "$python" scripts/bench/head_pytorch.py "$@" | seconds ;;
    omniglot) "$python" scripts/bench/omniglot_pytorch.py --data "$2" --steps 110 | rate ;;
  esac
}

printf '%-6s %12s %12s %8s\n' pair ours pytorch ratio
for ((i = 1; i <= pairs; i++)); do
  a=$(ours "$@")
  b=$(theirs "$@")
  # Rates: more is better; the head's figure is seconds.
  awk -v i=$i -v a="$a" -v b="$b" -v seconds="$([ "$what" = head ] && echo 1 || echo 0)" \
    'BEGIN { printf "%-6d %12.2f %12.2f %8.2f\n", i, a, b, seconds ? b / a : a / b }'
done
