# Stage 4: rates and memory, beside PyTorch's where it is. Each line of a bench is kept as it is. Sourced by
# gpu_check.sh.
# shellcheck shell=bash disable=SC2154,SC2034

mib=1048576

# bench UNIT LIMIT PROGRAM ARGS...: its JSON lines join the others, each with the unit's name.
bench() {
  local name=$1 limit=$2 lines
  shift 2
  run_unit "$name" "$limit" "$@"
  # What Python writes for a loss that is not finite is no JSON.
  lines=$(grep '^{"bench"' "$unit_output" |
    sed "s|^{|{\"unit\":\"$name\",|; s/:-\{0,1\}\(NaN\|Infinity\)/:null/g" || true)
  if [ -n "$lines" ]; then printf '%s\n' "$lines" >>"$work/bench.jsonl"; fi
  if [ $unit_rc = 0 ] && [ -z "$lines" ]; then unit_rc=1; fi
  judge "$name" "$(note_of <<<"$lines" | sed 's/; $//')"
}

note_of() {
  local line
  while IFS= read -r line; do
    case $line in
      *'"bench":"step"'*)
        printf '%s classes: %.0f images/s%s, %.2f GiB; ' \
          "$(field classes <<<"$line")" "$(field images_per_s <<<"$line")" \
          "$(grep -q '"compiled":false' <<<"$line" && echo ' (not compiled)')" \
          "$(awk -v b="$(field device_memory_used <<<"$line")" 'BEGIN { print b / 2^30 }')"
        ;;
      *'"bench":"head"'*)
        printf '%.3f ms, %.0f %% of what binds (%s)' "$(field head_ms <<<"$line")" \
          "$(awk -v f="$(field fraction <<<"$line")" 'BEGIN { print 100 * f }')" "$(field binds <<<"$line")"
        ;;
    esac
  done
}

# ours UNIT ARGS...; theirs UNIT ARGS...: steps of iresnet50 in bf16, unless the arguments say otherwise.
ours() {
  local name=$1
  shift
  start "$bench_folder/bench_step" --device cuda "${common[@]}" "$@"
  bench "$name" 150 "${command[@]}"
}
theirs() {
  local name=$1
  shift
  if [ -n "$no_pytorch" ]; then skip "$name" "$no_pytorch"; return; fi
  bench "$name" 240 "$python" "$here/bench/step_pytorch.py" "${their_common[@]}" "$@"
}
head_bench() {
  local name=$1
  shift
  start "$bench_folder/bench_head" --device cuda --precision bf16 "${head_common[@]}" "$@"
  bench "$name" 90 "${command[@]}"
}

# Every GPU of this machine, a rank each: as many images a rank as one alone takes.
several_gpus() {
  if [ "$gpus" -lt 2 ]; then skip "ours on several GPUs" "one GPU here"; return; fi
  start "$bench_folder/bench_step" --device cuda "${common[@]}" --batch $((small * gpus)) --classes "$million"
  bench "ours $small a rank on $gpus GPUs" 150 mpirun -np "$gpus" --bind-to none "${command[@]}"
}

# values UNIT CLASSES FIELD: of a field in the lines of units of this name, in order.
values() {
  local line
  { grep -F "\"unit\":\"$1\"" "$work/bench.jsonl" | grep -F "\"classes\":$2,"; } | while IFS= read -r line; do
    field "$3" <<<"$line"
  done
}
least() { values "$@" | sort -g | sed -n 1p; }
last() { values "$@" | sed -n '$p'; }

# ratio_of_pairs OURS THEIRS CLASSES FIELD: the mean over the pairs, first with first; empty where there is none.
ratio_of_pairs() {
  paste <(values "$1" "$3" "$4") <(values "$2" "$3" "$4") | awk 'NF == 2 && $2 > 0 { sum += $1 / $2; n++ }
    END { if (n) printf "%.3f (%d pair%s)", sum / n, n, (n > 1 ? "s" : "") }'
}

# The head with other tiles than it chooses: what a choice by its second-level cache is worth on this GPU.
head_tiles() {
  local batch tile
  for batch in $large $small; do
    for tile in "${head_tile_rows[@]}"; do
      head_bench "head $batch tiles of $tile" --classes "$million" --batch "$batch" --head-tile "$tile" --tiles "$tile"
    done
  done
}

judge_rate() {  # BATCH
  local ratio holds="not measured"
  ratio=$(ratio_of_pairs "ours $1" "PyTorch $1" "$million" images_per_s)
  if grep -F "\"unit\":\"PyTorch $1\"" "$work/bench.jsonl" | grep -q '"compiled":false'; then
    ratio="$ratio, PyTorch not compiled"  # there is no C compiler: not what the target is about
  elif [ -n "$ratio" ]; then holds=$(awk -v r="$ratio" 'BEGIN { print (r + 0 >= 1.3 ? "yes" : "no") }'); fi
  target "images/s to PyTorch's: iresnet50, bf16, $million classes, batch $1" "${ratio:--}" "at least 1.3" "$holds"
}

# The head's memory is the peak of the process less that of the same run with a thousand classes.
judge_memory() {  # BATCH
  local a b c d ratio="" holds="not measured"
  a=$(least "ours $1" "$million" device_memory_used) b=$(least "ours $1 few classes" "$few" device_memory_used)
  c=$(least "PyTorch $1" "$million" device_memory_used) d=$(least "PyTorch $1" "$few" device_memory_used)
  if [ -n "$a" ] && [ -n "$b" ] && [ -n "$c" ] && [ -n "$d" ]; then
    ratio=$(awk -v ours=$((a - b)) -v theirs=$((c - d)) \
      'BEGIN { if (theirs > 0) printf "%.3f (%.2f GiB to %.2f)", ours / theirs, ours / 2^30, theirs / 2^30 }')
    if [ -n "$ratio" ]; then holds=$(awk -v r="$ratio" 'BEGIN { print (r + 0 <= 1 / 3 ? "yes" : "no") }'); fi
  fi
  target "head memory to PyTorch's: $million classes, batch $1" "${ratio:--}" "at most 0.333" "$holds"
}

judge_head() {  # BATCH
  local line fraction="" holds="not measured"
  line=$(grep "\"unit\":\"head $1\"" "$work/bench.jsonl" | tail -n 1 || true)
  if [ -n "$line" ]; then
    fraction=$(field fraction <<<"$line")
    holds=$(awk -v f="$fraction" 'BEGIN { print (f + 0 >= .6 ? "yes" : "no") }')
    fraction=$(printf '%.3f (%s bind)' "$fraction" "$(field binds <<<"$line")")
  fi
  target "head: max(products, bytes) to its time, $million classes, batch $1" "${fraction:--}" "at least 0.6" "$holds"
}

judge_all() {
  local batch
  for batch in $large $small; do
    judge_rate "$batch"
    judge_head "$batch"
    judge_memory "$batch"
  done
  write_report
}

# Whether PyTorch is here, and sees the GPU: no_pytorch says why not.
find_pytorch() {
  no_pytorch=""
  if ! command -v "$python" >/dev/null; then no_pytorch="there is no $python"; return; fi
  run_unit "look for PyTorch" 90 "$python" -c 'import torch, sys; print(torch.__version__)
sys.exit(0 if torch.cuda.is_available() or sys.argv[1] == "true" else 3)' $tiny
  if [ $unit_rc = 0 ]; then
    judge "look for PyTorch" "$(last_words)"
  elif [ $unit_rc = 3 ]; then
    no_pytorch="PyTorch $(last_words) sees no GPU"
  else
    no_pytorch="no PyTorch for $python: $(last_words)"
  fi
  if [ -n "$no_pytorch" ]; then note_unit "look for PyTorch" skipped "$no_pytorch"; fi
}

choose_sizes() {
  million=1000000 few=1000 large=1024 small=128
  common=(--backbone iresnet50 --precision bf16 --steps 20) their_common=("${common[@]}") head_common=(--steps 20)
  resnet=(--backbone resnet50) head_tile_rows=(4096 8192 16384 32768)
  if ! $tiny; then return; fi
  million=400 few=100 large=16 small=8
  resnet=() head_tile_rows=(128)
  common=(--backbone tiny --image 16 --embedding-size 16 --precision bf16 --steps 2 --warmup 4)
  their_common=("${common[@]}" --device cpu --no-compile)
  head_common=(--columns 32 --steps 2 --tiles 128 256)
}

# The sizes that a face recogniser's head grows to. 10 M sampled.
head_sizes() {
  local classes
  for classes in $((million / 10)) $((4 * million)); do
    ours "ours $small $classes classes" --batch $small --classes "$classes"
    if $full; then theirs "PyTorch $small $classes classes" --batch $small --classes "$classes"; fi
  done
  ours "ours $small sampled" --batch $small --classes $((10 * million)) --ratio .1
  if $full; then theirs "PyTorch $small sampled" --batch $small --classes $((10 * million)) --ratio .1; fi
}

precisions() {
  local precision a b ratio
  for precision in tf32 fp16 fp32; do
    ours "ours $small $precision" --batch $small --classes "$million" --precision $precision
  done
  for precision in bf16 fp16; do
    a="ours $small $precision"
    if [ $precision = bf16 ]; then a="ours $small"; fi
    for b in tf32 fp32; do
      ratio=$(ratio_of "$(last "$a" "$million" images_per_s)" "$(last "ours $small $b" "$million" images_per_s)")
      if [ -z "$ratio" ]; then continue; fi
      target "images/s in $precision to $b, batch $small (PLSC published 1.42 to fp32)" "$ratio" none -
    done
  done
  write_report
}

ratio_of() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { if (a && b) printf "%.2f", a / b }'; }

# 100 M classes with 16-bit centres, as many as there is memory for: weights take 2 bytes an element, momentum 4, and
# the step of the last update 8 a row; beside them 10 GiB for the rest.
hundred_million() {
  local classes=$((100 * million)) width=512 row memory=$((gpu_memory / mib)) most name
  if $tiny; then width=16; fi
  name="$classes x $width, bf16 centres, ratio .001, 20 steps"
  row=$((width * 6 + 8))
  most=$(((memory - 10240) * mib / row))
  if $tiny; then most=$((memory * mib / 2 / row)); fi
  if [ "$most" -lt $classes ]; then
    target "$name" "-" "where memory allows" \
      "it wants $((classes * row / mib / 1024 + 10)) GiB, and $((memory / 1024)) are here"
    classes=$((most / (5 * million) * 5 * million))
    if [ "$classes" -lt "$million" ]; then skip "many classes" "no memory for $((5 * million))"; return; fi
  fi
  ours "many classes" --batch $small --classes "$classes" --ratio .001 --store bf16
  if [ $unit_rc = 0 ] && [ $classes = $((100 * million)) ]; then
    target "$name" "$(last "many classes" "$classes" step_ms) ms a step" "where memory allows" yes
  fi
  write_report
}

# The lines of the benches as tables. One awk: the report is written often.
bench_tables() {
  awk '
    function text(name,    at, rest) {  # of a key whose value holds no comma
      at = index($0, "\"" name "\":")
      if (!at) return ""
      rest = substr($0, at + length(name) + 3)
      sub(/^"/, "", rest)
      sub(/[",}].*/, "", rest)
      return rest
    }
    function phases(    at, rest, n, i, pair, out) {
      at = index($0, "\"phases_ms\":{")
      rest = substr($0, at + 13)
      sub(/}.*/, "", rest)
      n = split(rest, pair, /,"/)
      for (i = 1; i <= n; i++) {
        gsub(/"/, "", pair[i])
        at = match(pair[i], /:[^:]*$/)
        out = out sprintf("%s%s %.3f", (i > 1 ? "; " : ""), substr(pair[i], 1, at - 1), substr(pair[i], at + 1))
      }
      return out
    }
    /"bench":"step"/ {
      if (!steps++) {
        printf "| unit | program | batch | classes | precision | images/s (lowest, highest) | ms a step "
        print "| device memory, GiB | loss |\n|---|---|---|---|---|---|---|---|---|"
      }
      loss = text("last_loss")
      loss = loss == "null" ? "not finite" : sprintf("%.3f", loss)
      printf "| %s | %s | %s | %s | %s | %.0f (%.0f, %.0f) | %.2f | %.2f | %s |\n", text("unit"), text("program"),
        text("batch"), text("classes"), text("precision"), text("images_per_s"), text("images_per_s_lowest"),
        text("images_per_s_highest"), text("step_ms"), text("device_memory_used") / 2^30, loss
      where = where "- " text("unit") ", " text("program") ", " text("classes") " classes: " phases() "\n"
    }
    /"bench":"head"/ {
      heads = heads sprintf("| %s | %s | %s | %.3f | %.3f (%s) | %.0f | %.3f (%.0f) | %s | %.3f |\n",
        text("unit"), text("batch"), text("classes"), text("head_ms"), text("products_ms"), text("products_tile"),
        text("products_gflop_per_s"), text("bytes_ms"), text("copy_gb_per_s"), text("binds"), text("fraction"))
    }
    END {
      if (where != "") printf "\nWhere a step goes, in ms:\n\n%s", where
      if (heads == "") exit
      printf "\n| head | batch | classes | ms | products, ms (rows of a tile) | GFLOP/s | bytes, ms (GB/s) | binds "
      printf "| fraction |\n|---|---|---|---|---|---|---|---|---|\n%s", heads
    }' "$work/bench.jsonl"
}

bench_stage() {
  local batch
  begin_stage bench 100
  choose_sizes
  judge_all
  if [ "$gpus" = 0 ]; then skip "benchmarks" "no GPU: $no_gpu"; return; fi
  for batch in $large $small; do
    head_bench "head $batch" --classes "$million" --batch "$batch"
    judge_all
  done
  find_pytorch
  # Ours, theirs, ours, theirs: what the machine's moods do they do to both. Theirs also with few classes, for memory.
  for batch in $large $small; do
    ours "ours $batch" --batch "$batch" --classes "$million"
    ours "ours $batch few classes" --batch "$batch" --classes "$few"
    theirs "PyTorch $batch" --batch "$batch" --classes "$few,$million"
    judge_all
  done
  several_gpus
  precisions
  for batch in $large $small; do
    ours "ours $batch" --batch "$batch" --classes "$million"
    theirs "PyTorch $batch" --batch "$batch" --classes "$million"
    judge_all
  done
  hundred_million
  head_tiles
  head_sizes
  ours "ours $small resnet50" --batch $small --classes "$million" "${resnet[@]}"
  if ! $full; then return; fi
  theirs "PyTorch $small resnet50" --batch $small --classes "$million" "${resnet[@]}"
  ours "ours $large resnet50" --batch $large --classes "$million" "${resnet[@]}"
}
