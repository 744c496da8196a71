# Stage 3: whole trainings. The GPU's loss curve against the CPU's, the ways in which ranks share GPUs, recorded steps,
# resumes; last the quickstart as a user runs it. Sourced by gpu_check.sh.
# shellcheck shell=bash disable=SC2154,SC2034

steps=20           # of a curve
close=1e-3         # relative: what two curves may differ by

# What all curves are trained with. The rate rises slowly: a steep one magnifies the rounding of sums in another order
# from step to step until it hides what is looked for. On glyphs a run on one CPU rank parts from one on two, without
# exact sums, by 2e-6 within 20 steps of this; with a warm-up of 1000 steps by 3e-4. That the network learns at all
# changes the losses by 3e-2.
write_config() {  # FILE DATA BACKBONE
  local batch=128 width=128
  if $tiny; then batch=32 width=32; fi
  cat >"$1" <<END
output: $work/runs/none
data: {train: $2, image_size: 32, channels: 1, resize: stretch, augment: none, cache: decoded}
model: {backbone: $3, embedding_size: $width, sync_batch_norm: true}
head: {margin: {m2: .3}, scale: 32}
schedule: {base_lr: .1, warmup_steps: 4000}
train: {batch_size: $batch, steps: $steps, precision: fp32}
checkpoint: {every_epochs: none, at_end: true}
eval: {every_epochs: none, at_end: false}
log: {every_steps: 1}
END
}

# run_train NAME LIMIT CONFIG KEY=VALUE...: trains into $work/runs/NAME; its losses go to $work/losses/NAME.
run_train() {
  local name=$1 limit=$2 config=$3 value words=()
  shift 3
  for value in "$@"; do words+=(-o "$value"); done
  run_unit "$name" "$limit" "$plsc_train" -c "$config" -o "output=$work/runs/$name" "${words[@]}"
  sed -n 's/^{"kind":"train".*"loss":\([-+0-9.einfa]*\).*/\1/p' "$work/runs/$name/metrics.jsonl" \
    >"$work/losses/$name" 2>/dev/null || true
}

# part A B: the largest relative difference of two curves; empty where one is shorter than it should be.
part() {
  paste "$work/losses/$1" "$work/losses/$2" 2>/dev/null | awk -v steps=$steps '
    NF == 2 { d = $1 - $2; if (d < 0) d = -d; e = d / ($2 < 0 ? -$2 : $2); if (!(e <= most)) most = e; n++ }
    END { if (n >= steps) printf "%.1e", most }'
}

within() { awk -v d="$1" -v most="$2" 'BEGIN { exit !(d != "" && d + 0 <= most + 0 && d == d) }'; }

# judge_curve NAME REFERENCE WHAT: the run that just ended, by its curve's distance from another's.
judge_curve() {
  local difference
  if [ $unit_rc != 0 ]; then judge "$1" ""; return; fi
  add_curve "$1"
  if [ ! -s "$work/losses/$2" ]; then
    note_unit "$1" skipped "it ran; there is no curve of $2 to compare it with"
    return
  fi
  difference=$(part "$1" "$2")
  if within "$difference" $close; then
    note_unit "$1" passed "$steps losses within ${difference} of $3"
  else
    note_unit "$1" failed "the losses part from $3 by ${difference:-more than can be said}, more than $close (relative)"
  fi
}

# add_curve NAME: into curves.csv and the report's table, beside those that are there.
add_curve() {
  grep -qx "$1" "$work/curves.tsv" || echo "$1" >>"$work/curves.tsv"
  local names=() files=() name
  while IFS= read -r name; do names+=("$name") files+=("$work/losses/$name"); done <"$work/curves.tsv"
  { (IFS=,; echo "step,${names[*]}"); paste -d, "${files[@]}" | awk '{ print NR "," $0 }'; } >"$output/curves.csv"
  awk -F, -v every=5 'NR == 1 { printf "|"; for (i = 1; i <= NF; i++) printf " %s |", $i; printf "\n|"
      for (i = 1; i <= NF; i++) printf "---|"; print "" }
    NR > 1 && ($1 == 1 || $1 % every == 0) && $1 <= 20 { printf "| %s |", $1
      for (i = 2; i <= NF; i++) printf " %.5f |", $i; print "" }' "$output/curves.csv" >"$work/curves.md"
}

# same_tensors A B STEP: whether two runs' checkpoints hold the same bits.
same_tensors() {
  local a b sums
  sums() { (cd "$work/runs/$1/checkpoints/$(printf 'step_%08d' "$2")" && sha256sum ./*.safetensors); }
  a=$(sums "$1" "$3" 2>/dev/null) && b=$(sums "$2" "$3" 2>/dev/null) && [ -n "$a" ] && [ "$a" = "$b" ]
}

judge_bits() {  # NAME OTHER WHAT
  if [ $unit_rc != 0 ]; then judge "$1" ""; return; fi
  if same_tensors "$1" "$2" $steps; then
    note_unit "$1" passed "every weight and momentum has the same bits as $3"
  else
    note_unit "$1" failed "the checkpoint at step $steps differs from that of $3"
  fi
}

# resumed NAME LIMIT CONFIG KEY=VALUE...: cut off behind step 11, and gone on with.
run_resumed() {
  local name=$1
  run_train "$@" checkpoint.every_steps=11
  if [ $unit_rc != 0 ]; then return; fi
  printf 'cut off\n'
  rm -rf "$work/runs/$name/checkpoints/$(printf 'step_%08d' $steps)"
  run_train "$@" checkpoint.every_steps=11
  if [ $unit_rc = 0 ] && ! grep -q 'resuming from' "$unit_output"; then unit_rc=1; fi
}

make_glyphs() {
  local size=(--classes 600 --images-per-class 20 --held-out 100)
  if $tiny; then size=(--classes 100 --images-per-class 8 --held-out 10); fi
  run_unit "draw glyphs" 60 "$plsc_data" synth --output "$work/glyphs" "${size[@]}" --size 32 --channels 1 --seed 1
  judge "draw glyphs" "${size[*]}"
  [ $unit_rc = 0 ]
}

# What a machine without a GPU can show: that this build trains at all.
cpu_train() {
  run_train cpu 60 "$work/glyphs.yaml" device=cpu ranks=1
  judge_curve cpu cpu "itself"
  run_train cpu_2_ranks 60 "$work/glyphs.yaml" device=cpu ranks=2
  judge_curve cpu_2_ranks cpu "one rank's"
  run_resumed cpu_resumed 60 "$work/glyphs.yaml" device=cpu ranks=1
  judge_bits cpu_resumed cpu "the run without a break"
}

# curves PREFIX CONFIG LIMIT: the CPU's curve, and the GPU's beside it in each way that this machine has.
gpu_curves() {
  local p=$1 config=$2 limit=$3
  run_train "${p}cpu" "$limit" "$config" device=cpu ranks=1
  judge_curve "${p}cpu" "${p}cpu" "itself"
  run_train "${p}gpu" "$limit" "$config" device=cuda ranks=1 train.deterministic=true
  judge_curve "${p}gpu" "${p}cpu" "the CPU's"
  local difference
  difference=$(part "${p}gpu" "${p}cpu")
  if [ -n "$difference" ]; then
    target "curves of GPU and CPU, 20 steps, fp32${p:+, Omniglot}" "$difference" "at most $close" \
      "$(within "$difference" $close && echo yes || echo no)"
  fi
  run_train "${p}nccl" "$limit" "$config" device=cuda ranks=1 comm.backend=nccl
  note_versions
  judge_curve "${p}nccl" "${p}cpu" "the CPU's"
  run_train "${p}mpi_2_on_1" "$limit" "$config" device=cuda ranks=2 gpus=[0] comm.backend=mpi
  judge_curve "${p}mpi_2_on_1" "${p}cpu" "the CPU's"
  if [ "$gpus" -gt 1 ]; then
    run_train "${p}nccl_$gpus" "$limit" "$config" device=cuda "ranks=$gpus" comm.backend=nccl
    judge_curve "${p}nccl_$gpus" "${p}cpu" "the CPU's"
  else
    skip "${p}nccl, several GPUs" "one GPU here"
  fi
}

# Of the libraries, as the run by NCCL that just ended tells them: into the report's head.
note_versions() {
  local versions
  versions=$(grep -o 'plsc-train [0-9].*' "$unit_output" | sed -n 1p)
  if [ -z "$versions" ] || grep -q '^versions' "$work/facts.tsv"; then return; fi
  printf 'versions\t%s\n' "$versions" >>"$work/facts.tsv"
}

gpu_bits() {
  local p=$1 config=$2
  run_train "${p}no_graphs" 90 "$config" device=cuda ranks=1 train.deterministic=true train.graphs=false
  judge_bits "${p}no_graphs" "${p}gpu" "the recorded run"
  run_resumed "${p}resumed" 90 "$config" device=cuda ranks=1 train.deterministic=true
  judge_bits "${p}resumed" "${p}gpu" "the run without a break"
}

# The quickstart as it is, on one rank; its accuracy is the proof that a network learns here.
quickstart() {
  local accuracy values=(device=auto ranks=1 "data.train=$work/glyphs/train")
  values+=("eval.sets=[{name: held_out, folder: $work/glyphs/verify, pairs: $work/glyphs/pairs.txt}]")
  if $tiny; then values+=(train.epochs=2 "model.backbone=$network"); fi
  run_train quickstart 120 "$configs/quickstart.yaml" "${values[@]}"
  accuracy=$(grep '"kind":"eval"' "$work/runs/quickstart/metrics.jsonl" 2>/dev/null | sed -n '$p' | field accuracy)
  if [ $unit_rc != 0 ]; then judge quickstart ""; return; fi
  if $tiny || awk -v a="${accuracy:-0}" 'BEGIN { exit !(a >= .9) }'; then
    note_unit quickstart passed "accuracy ${accuracy:-unknown} on classes that were not trained on"
  else
    note_unit quickstart failed "accuracy ${accuracy:-unknown}; on a CPU it is .96"
  fi
}

train_stage() {
  begin_stage train 50
  target "curves of GPU and CPU, 20 steps, fp32" "-" "at most $close" "not measured"
  mkdir -p "$work/runs" "$work/losses"
  network='{kind: iresnet, stem: 16, widths: [16, 32, 64, 128], blocks: [1, 1, 1, 1]}'
  if $tiny; then network='{kind: iresnet, stem: 8, widths: [8, 16], blocks: [1, 1]}'; fi
  make_glyphs || return 0
  write_config "$work/glyphs.yaml" "$work/glyphs/train" "$network"
  if [ "$gpus" = 0 ]; then
    cpu_train
    skip "trainings on a GPU" "no GPU: $no_gpu"
    return
  fi
  gpu_curves "" "$work/glyphs.yaml" 90
  gpu_bits "" "$work/glyphs.yaml"
  quickstart
  omniglot
}

omniglot() {
  local train=""
  if [ -d "$data/background" ]; then train=$data/background; fi
  if [ -e "$data/background.rec" ]; then train=$data/background.rec; fi
  if [ -z "$data" ]; then skip "Omniglot" "no --data"; return; fi
  if [ -z "$train" ]; then skip "Omniglot" "$data has neither background.rec nor background/"; return; fi
  local wide='{kind: iresnet, stem: 32, widths: [32, 64, 128, 256], blocks: [1, 1, 1, 1]}'
  if $tiny; then wide=$network; fi
  write_config "$work/omniglot.yaml" "$train" "$wide"
  gpu_curves omniglot_ "$work/omniglot.yaml" 120
}
