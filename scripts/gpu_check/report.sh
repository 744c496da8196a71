# The report: report.md for people, report.json for programs. Written anew after each unit. Sourced by gpu_check.sh.
# shellcheck shell=bash disable=SC2154,SC2034

begin_report() {
  : >"$work/units.tsv"
  : >"$work/targets.tsv"
  : >"$work/bench.jsonl"
  : >"$work/curves.tsv"
  : >"$output/logs.txt"
  begun=$(date -u '+%Y-%m-%d %H:%M UTC')
  : >"$work/facts.tsv"
  state="looking at the machine"
  write_report  # a driver may hang already here
  find_gpus
  machine_facts >"$work/facts.tsv"
  state="still running"
  write_report
  cat "$work/facts.tsv"
}

# target NAME MEASURED TARGET HOLDS: HOLDS is yes, no or "not measured". The last word on a name counts.
target() {
  grep -vF "$1"$'\t' "$work/targets.tsv" >"$work/targets.new" || true
  printf '%s\t%s\t%s\t%s\n' "$@" >>"$work/targets.new"
  mv "$work/targets.new" "$work/targets.tsv"
}

# escaped: text for between the quotes of JSON; tabs and the ends of lines stay.
escaped() { tr -d '\000-\010\013-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }
json() { printf '"%s"' "$(printf '%s' "$1" | tr '\t\n' '  ' | escaped)"; }
count() { cut -f3 "$work/units.tsv" | grep -cx "$1" || true; }

# rows FILE: the lines of a .tsv file as those of a table.
rows() {
  sed 's/|/\\|/g' "$1" | awk -F'\t' '{
    printf "|"
    for (i = 1; i <= NF; i++) printf " %s |", ($i == "failed" ? "**failed**" : $i)
    print ""
  }'
}

write_markdown() {
  local a b
  printf '# GPU check: %s\n\n' "$state"
  printf '%s, %d of %d seconds; %s passed, %s failed, %s skipped.\n\n' "$begun" $(($(now) - check_begin)) "$budget" \
    "$(count passed)" "$(count failed)" "$(count skipped)"
  if $tiny; then printf 'Sizes for trying the script (`--tiny`): the rates say nothing.\n\n'; fi
  while IFS=$'\t' read -r a b; do printf -- '- %s: %s\n' "$a" "$b"; done <"$work/facts.tsv"
  printf '\n## Targets\n\n| what | measured | target | holds |\n|---|---|---|---|\n'
  rows "$work/targets.tsv"
  printf '\n## Units\n\n| stage | unit | result | s | |\n|---|---|---|---|---|\n'
  rows "$work/units.tsv"
  if [ -s "$work/curves.md" ]; then printf '\n## Curves\n\n'; cat "$work/curves.md"; fi
  if [ -s "$work/bench.jsonl" ]; then printf '\n## Benchmarks\n\n'; bench_tables; fi
}

# list FILE "NAME NAME ...": the lines of a .tsv file as JSON objects of texts.
list() {
  escaped <"$1" | awk -F'\t' -v names="$2" 'BEGIN { n = split(names, name, " "); printf "[" }
    { printf "%s\n    {", (NR > 1 ? "," : "")
      for (i = 1; i <= n; i++) printf "%s\"%s\": \"%s\"", (i > 1 ? ", " : ""), name[i], $i
      printf "}" }
    END { printf "]" }'
}

write_json() {
  printf '{\n  "state": %s,\n  "begun": %s,\n  "seconds": %d,\n  "budget": %d,\n  "tiny": %s,\n' "$(json "$state")" \
    "$(json "$begun")" $(($(now) - check_begin)) "$budget" "$tiny"
  printf '  "machine": %s,\n' "$(list "$work/facts.tsv" "name value")"
  printf '  "targets": %s,\n' "$(list "$work/targets.tsv" "name measured target holds")"
  printf '  "units": %s,\n' "$(list "$work/units.tsv" "stage unit result seconds note")"
  if [ -s "$work/doctor.json" ]; then printf '  "doctor": %s,\n' "$(cat "$work/doctor.json")"; fi
  printf '  "bench": [%s]\n}\n' "$(paste -sd, "$work/bench.jsonl")"
}

write_report() {
  write_markdown >"$output/.report.md.new"
  mv "$output/.report.md.new" "$output/report.md"
  write_json >"$output/.report.json.new"
  mv "$output/.report.json.new" "$output/report.json"
}

finish_report() {
  local failed status=0
  failed=$(count failed)
  state="nothing failed"
  if [ "$failed" -gt 0 ]; then state="$failed failed" status=1; fi
  if [ "$gpus" = 0 ]; then state="nothing is proved: no GPU here ($no_gpu); $state" status=1; fi
  write_report
  printf '\n%s\n' "$state"
  awk -F'\t' '{ printf "  %-62s %-34s %-12s %s\n", $1, $2, $3, $4 }' "$work/targets.tsv"
  printf 'the report: %s\n' "$output/report.md"
  exit $status
}
