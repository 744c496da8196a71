# Stage 1: what plsc-train itself says of the machine. Sourced by gpu_check.sh.
# shellcheck shell=bash disable=SC2154

doctor_stage() {
  begin_stage doctor 15
  run_unit doctor 60 "$plsc_train" doctor --json
  # Its JSON goes into the report as it is, where it came to its end: one line, or from a brace to the brace below it.
  awk '!on && /^[{].*[}]$/ { print; exit }
    /^[{]/ { on = 1 }
    on { print }
    on && /^[}]/ { exit }' "$unit_output" >"$work/doctor.json"
  if [ "$(sed -n '$p' "$work/doctor.json" | tail -c 2)" != "}" ]; then : >"$work/doctor.json"; fi
  judge doctor ""
}
