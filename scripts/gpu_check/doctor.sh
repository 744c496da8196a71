# Stage 1: what plsc-train itself says of the machine. Sourced by gpu_check.sh.
# shellcheck shell=bash disable=SC2154

doctor_stage() {
  begin_stage doctor 15
  run_unit doctor 60 "$plsc_train" doctor --json
  # Its JSON goes into the report as it is, where it is one object of text that ends.
  if [ "$(grep -v '^[[:space:]]*$' "$unit_output" | tail -n 1 | tail -c 2)" = "}" ]; then
    sed -n '/^{/,$p' "$unit_output" >"$work/doctor.json"
  fi
  judge doctor ""
}
