#!/usr/bin/env bash
# From a fresh clone to a trained network: installs the packages, builds, draws a data set, trains on two ranks,
# evaluates on classes that were not trained on. Run it again and it goes on where it stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=build/cpu/bin
data=data/quickstart
run=runs/quickstart
stage() { printf '\n== %s  (%d:%02d)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

stage "packages"
scripts/install_deps.sh

stage "build: plsc-train and plsc-data into $bin"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset cpu >"$log" 2>&1 || { cat "$log"; exit 1; }
cmake --build --preset cpu --target plsc-train plsc-data

if [ ! -e "$data/pairs.txt" ]; then
  stage "data: 600 classes of drawn glyphs to train on, 100 others to verify on, into $data"
  rm -rf "$data"
  "$bin/plsc-data" synth --output "$data" --classes 600 --images-per-class 20 --held-out 100 \
    --size 32 --channels 1 --seed 1
fi

stage "train: configs/quickstart.yaml on two ranks"
"$bin/plsc-train" --config configs/quickstart.yaml

accuracy=$(grep '"kind":"eval"' "$run/metrics.jsonl" | tail -1 | sed 's/.*"accuracy":\([0-9.e-]*\).*/\1/')
checkpoint=$run/checkpoints/$(cat "$run/checkpoints/latest")
stage "done"
cat <<END
verification accuracy on held-out classes: $(awk -v a="$accuracy" 'BEGIN { printf "%.2f %%", 100 * a }')
checkpoint:                                $checkpoint
metrics, log, ROC curve:                   $run/metrics.jsonl, $run/train.log, $run/roc.png

Try next:
  $bin/plsc-train embed --checkpoint $checkpoint --input $data/verify --output runs/embeddings.npy --top 3
  $bin/plsc-train -c configs/quickstart.yaml -o output=runs/cosface -o head.margin=cosface -o train.epochs=4
END
