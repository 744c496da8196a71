#!/usr/bin/env bash
# Proves or disproves a machine and a build: one command, one report.
#
#   scripts/gpu_check.sh [--bundle DIR] [--budget 9m] [--only doctor,tests,train,bench] [--full] [--data DIR]
#                        [--output DIR] [--tiny]
#
#   --bundle DIR   the programs of a bundle, by itself the one that this script lies in; else those of build/cuda/bin
#   --budget TIME  seconds, or 9m: what all of it may take. Stages come in order of worth, each with a share of what is
#                  left; what hangs is ended with all that it started, told, and the next one goes on
#   --only LIST    these stages alone
#   --full         also what is long: PyTorch at all head sizes, more networks; wants --budget 1h
#   --data DIR     Omniglot for a longer curve: background.rec, or background/ with a folder a class
#   --output DIR   where the report goes: gpu_check_report, which is replaced
#   --tiny         sizes for trying this script; the rates say nothing then
#
# Writes report.md and report.json (anew after each unit of work, so that half a check is a report, too), logs.txt and
# curves.csv. Needs bash, coreutils, sed, grep, awk and util-linux; no network. Python with PyTorch, where it is there,
# is what the rates are compared with (PYTHON names it).
# Status 0: nothing failed. 1: something did, or there is no GPU. 2: the command line. A target that is missed is told,
# and fails nothing.
# Environment: PLSC_CHECK_BIN is a folder with all programs, in place of build/cuda/bin.
set -uo pipefail  # no -e: where a part fails, the check says so and goes on
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; }
wrong() {
  echo "gpu_check.sh: $1" >&2
  echo "try: $0 --help" >&2
  exit 2
}
seconds_of() {  # "90", "90s", "9m", "1h"
  local number=${1%[smh]}
  [[ $number =~ ^[0-9]+$ && $number -gt 0 ]] || wrong "--budget $1: expected seconds, or minutes as 9m, or hours as 1h"
  case $1 in *m) echo $((number * 60)) ;; *h) echo $((number * 3600)) ;; *) echo "$number" ;; esac
}

bundle="" budget=540 only=doctor,tests,train,bench full=false data="" output=gpu_check_report tiny=false
while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) usage; exit 0 ;;
    --full) full=true; shift; continue ;;
    --tiny) tiny=true; shift; continue ;;
    --bundle | --budget | --only | --data | --output) [ $# -ge 2 ] || wrong "$1 wants a value" ;;
    *) wrong "unknown option $1" ;;
  esac
  case $1 in
    --bundle) bundle=$2 ;;
    --budget) budget=$(seconds_of "$2") || exit 2 ;;
    --only) only=$2 ;;
    --data) data=$2 ;;
    --output) output=$2 ;;
  esac
  shift 2
done
for stage in ${only//,/ }; do
  case $stage in
    doctor | tests | train | bench) ;;
    *) wrong "--only $stage: expected doctor, tests, train or bench" ;;
  esac
done
if [ -z "$bundle" ] && [ -d "$here/../libexec/tests" ]; then bundle=$here/..; fi
if [ -n "$bundle" ] && [ ! -d "$bundle" ]; then wrong "--bundle $bundle: there is no such folder"; fi
if [ -n "$data" ] && [ ! -d "$data" ]; then wrong "--data $data: there is no such folder"; fi
[ -z "$bundle" ] || bundle=$(cd "$bundle" && pwd)
[ -z "$data" ] || data=$(cd "$data" && pwd)
wanted() { [[ ,$only, == *,$1,* ]]; }

# shellcheck source=/dev/null
source "$here/gpu_check/programs.sh"
if [ ! -x "$plsc_train" ]; then
  wrong "there is no plsc-train in $bin: build the preset cuda with the target cuda_tests, or name a bundle (--bundle DIR)"
fi

mkdir -p "$output"
output=$(cd "$output" && pwd)
rm -f "$output"/{report.md,report.json,logs.txt,curves.csv}
work=$(mktemp -d)

for part in units report doctor tests train bench; do
  # shellcheck source=/dev/null
  source "$here/gpu_check/$part.sh"
done
trap 'end_units; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

begin_report
if wanted doctor; then doctor_stage; fi
if wanted tests; then tests_stage; fi
if wanted train; then train_stage; fi
if wanted bench; then bench_stage; fi
finish_report
