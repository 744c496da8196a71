# Units of work: a command with a limit. One that does not end in time is ended with everything that it started, which
# is found by a mark in its environment: ranks have process groups of their own. Sourced by gpu_check.sh.
# shellcheck shell=bash disable=SC2154,SC2034

now() { date +%s; }
check_begin=$(now)
deadline=$((check_begin + budget))
stage="" stage_deadline=0 units=0 mark_now=""
unit_rc=0 unit_output="" unit_seconds=0

# begin_stage NAME SHARE: it may take this many hundredths of what is left of the budget; the last one all of it.
begin_stage() {
  stage=$1
  local left=$((deadline - $(now))) share=$2 later
  later=$(for one in doctor tests train bench; do if wanted $one; then echo $one; fi; done | sed -n '$p')
  if [ "$later" = "$stage" ]; then share=100; fi
  stage_deadline=$(($(now) + left * share / 100))
  printf '\n== %s (at most %d s of %d)\n' "$stage" $((stage_deadline - $(now))) "$left"
}

# marked TOKEN: the processes that carry this mark.
marked() {
  grep -lzxF "PLSC_CHECK_UNIT=$1" /proc/[0-9]*/environ 2>/dev/null | sed 's|/proc/||; s|/environ||'
}

# end_marked TOKEN: asks them to end, and ends those that do not within three seconds. Status 1: some are still there.
end_marked() {
  local token=$1 pids i
  for ((i = 0; i < 12; i++)); do
    pids=$(marked "$token")
    [ -n "$pids" ] || return 0
    # shellcheck disable=SC2086
    if [ $i = 0 ]; then kill -TERM $pids 2>/dev/null || true; fi
    # shellcheck disable=SC2086
    if [ $i -ge 10 ]; then kill -KILL $pids 2>/dev/null || true; fi
    sleep 0.3
  done
  [ -z "$(marked "$token")" ]
}
end_units() { [ -z "$mark_now" ] || end_marked "$mark_now"; }

# run_unit NAME LIMIT COMMAND...: runs it for at most LIMIT seconds, less where the stage has less left. Sets unit_rc
# (124: ended by its limit; 125: the stage had no time for it, or not enough), unit_output (a file) and
# unit_seconds. Records nothing.
run_unit() {
  local name=$1 limit=$2 left pid begin step=0.05 cut=false
  shift 2
  unit_rc=0 unit_seconds=0 unit_output=$work/unit.txt
  : >"$unit_output"
  left=$((stage_deadline - $(now)))
  if [ "$left" -lt "$limit" ]; then limit=$left cut=true; fi
  if [ "$limit" -lt 1 ]; then unit_rc=125; return 0; fi
  units=$((units + 1))
  mark_now=$$.$units
  begin=$(now)
  printf '   %s ... ' "$name"
  PLSC_CHECK_UNIT=$mark_now setsid "$@" >"$unit_output" 2>&1 </dev/null &
  pid=$!
  while kill -0 $pid 2>/dev/null; do
    if [ $(($(now) - begin)) -ge "$limit" ]; then unit_rc=124; break; fi
    sleep $step
    step=0.2
  done
  if [ $unit_rc = 124 ]; then
    # What hangs in the driver outlives even SIGKILL: nobody waits for it.
    if end_marked "$mark_now"; then wait $pid 2>/dev/null || true; fi
  else
    wait $pid 2>/dev/null || unit_rc=$?
    end_marked "$mark_now"
  fi
  mark_now=""
  if [ $unit_rc = 124 ] && $cut; then unit_rc=125; fi
  unit_seconds=$(($(now) - begin))
  unit_limit=$limit
  keep_log "$name" "$*"
}

# keep_log NAME COMMAND: the unit's output behind the others; of a long one its ends.
keep_log() {
  {
    printf '==== %s: %s (status %s, %s s)\n$ %s\n' "$stage" "$1" "$unit_rc" "$unit_seconds" "$2"
    if [ "$(wc -c <"$unit_output")" -gt 120000 ]; then
      head -c 40000 "$unit_output"
      printf '\n[...]\n'
      tail -c 80000 "$unit_output"
    else
      cat "$unit_output"
    fi
    printf '\n'
  } >>"$output/logs.txt"
}

# last_words: the last line of the output that says something, as a note.
last_words() { grep -v '^[[:space:]]*$' "$unit_output" | grep -v '^[-=]*$' | tail -n 1 | cut -c1-300; }

first_error() {
  local line
  line=$(grep -iE 'error|FAILED' "$unit_output" | sed -n 1p | cut -c1-300)
  printf '%s' "${line:-$(last_words)}"
}

# why_not: what went wrong with the unit that just ran, in words.
why_not() {
  case $unit_rc in
    124) echo "ended after its limit of $unit_limit s, with all that it started" ;;
    125) echo "no time was left$([ "$unit_seconds" = 0 ] || echo ", after $unit_seconds s")" ;;
    *) echo "status $unit_rc: $(first_error)" ;;
  esac
}

# note_unit NAME STATUS NOTE: one line of the report, which is written anew. STATUS: passed, failed or skipped.
note_unit() {
  printf '%s\t%s\t%s\t%s\t%s\n' "$stage" "$1" "$2" "$unit_seconds" "$(printf '%s' "$3" | tr '\t\n' '  ')" \
    >>"$work/units.tsv"
  printf '%s%s\n' "$2" "${3:+: $3}"
  write_report
}

# judge NAME NOTE: the unit that just ran passed where its status is 0; NOTE is what to say then.
judge() {
  case $unit_rc in
    0) note_unit "$1" passed "$2" ;;
    77) note_unit "$1" skipped "$(last_words)" ;;
    125)
      if [ "$unit_seconds" = 0 ]; then printf '   %s ... ' "$1"; fi
      note_unit "$1" skipped "$(why_not)"
      ;;
    *) note_unit "$1" failed "$(why_not)" ;;
  esac
}

skip() {  # NAME REASON
  unit_seconds=0
  printf '   %s ... ' "$1"
  note_unit "$1" skipped "$2"
}
