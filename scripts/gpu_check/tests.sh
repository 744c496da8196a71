# Stage 2: the tests for a real GPU, program by program, then the own kernels' under compute-sanitizer. Sourced by
# gpu_check.sh.
# shellcheck shell=bash disable=SC2154

# Programs that call own kernels alone: what the sanitizer finds there is ours, and they are quick under it.
sanitized="test_gpu_head_kernels test_gpu_nn test_gpu_device"

# "123 assertions in 4 test cases": what Catch2 counted.
counts() {
  grep -E '^All tests passed|^assertions:|^test cases:|^No tests ran' "$unit_output" | paste -sd';' |
    sed 's/All tests passed (\(.*\))/\1/; s/  */ /g'
}

# fair MOST: a limit of at most MOST seconds, and of half of what the stage has left: one that hangs must not take the
# others' time.
fair() {
  local half=$(((stage_deadline - $(now) + 1) / 2))
  echo $((half < $1 ? half : $1))
}

tests_stage() {
  local program found=false
  begin_stage tests 40
  if [ "$gpus" = 0 ]; then skip "tests on a GPU" "no GPU: $no_gpu"; return; fi
  for program in "$tests_folder"/test_gpu_*; do
    [ -x "$program" ] || continue
    found=true
    start "$program"
    run_unit "${program##*/}" "$(fair 120)" "${command[@]}"
    judge "${program##*/}" "$(counts)"
  done
  if ! $found; then
    unit_seconds=0
    note_unit "tests on a GPU" failed "$tests_folder has no test_gpu_*: build the target cuda_tests"
  fi
  sanitizer_units
}

find_sanitizer() {
  local file toolkit=${CUDA_HOME:-/usr/local/cuda}
  for file in "$(command -v compute-sanitizer || true)" "$toolkit"/{bin,compute-sanitizer}/compute-sanitizer; do
    if [ -n "$file" ] && [ -x "$file" ]; then echo "$file"; return; fi
  done
}

# One tool over one program's cases, but for the large ones. Under its limit: the cases that ended are what was looked
# at. Calls that CUDA refuses are no findings (a test asks for more memory than there is, and expects the refusal), and
# what a bundle's wrapper starts before the program need not use CUDA, nor be quick.
sanitize() {  # SANITIZER TOOL PROGRAM
  local name="$2 ${3##*/}" cases errors  # racecheck's line: RACECHECK SUMMARY: 0 hazards displayed (0 errors, ...)
  start "$3" '~[large]' -d yes
  run_unit "$name" "$(fair 60)" \
    "$1" --tool "$2" --error-exitcode 9 --print-limit 20 --report-api-errors no --target-processes all \
    --require-cuda-init no --launch-timeout 0 "${command[@]}"
  cases=$(grep -cE '^ *[0-9.]+ s: ' "$unit_output" || true)
  errors=$(sed -n 's/.*\(ERROR\|RACECHECK\) SUMMARY: \([0-9]*\).*/\2/p' "$unit_output" | tail -n 1)
  if grep -q '^========= .*Device not supported' "$unit_output"; then
    note_unit "$name" skipped "$(grep -m 1 'Device not supported' "$unit_output" | cut -c1-300)"
    return
  fi
  if [ $unit_rc = 124 ] && ! grep -qE '^========= .*(Invalid|Error|hazard|leak)' "$unit_output"; then
    if [ "$cases" -gt 0 ]; then
      note_unit "$name" passed "$cases sections looked at within $unit_limit s, no finding; the rest was cut off"
    else
      note_unit "$name" skipped "nothing was done within $unit_limit s"
    fi
    return
  fi
  judge "$name" "$cases sections, ${errors:-no count of} errors"
}

sanitizer_units() {
  local tool program sanitizer
  sanitizer=$(find_sanitizer)
  if [ -z "$sanitizer" ]; then skip "compute-sanitizer" "it is not on this machine"; return; fi
  for tool in memcheck racecheck; do
    for program in $sanitized; do
      if [ $tool = racecheck ] && [ "$program" != test_gpu_head_kernels ] && ! $full; then continue; fi
      if [ -x "$tests_folder/$program" ]; then sanitize "$sanitizer" $tool "$tests_folder/$program"; fi
    done
  done
}
