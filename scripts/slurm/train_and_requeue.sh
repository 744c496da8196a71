#!/usr/bin/env bash
# Runs plsc-train inside a Slurm job, and puts the job back into the queue where it was stopped before its end.
#   train_and_requeue.sh [--launch own|srun|mpirun|auto] -c FILE [WORDS OF plsc-train...]
#     own      plsc-train starts its ranks itself, on this node
#     srun     one rank a task, by `srun --mpi=pmix`
#     mpirun   one rank a task, by mpirun
#     auto     srun where this Slurm has PMIx, else mpirun (default)
# Called by one_node.sbatch and multi_node.sbatch, by `exec`: it must be the batch shell, which gets Slurm's signals.
#
# SIGUSR1 (from --signal=B:USR1@..., before the time limit) goes on to the ranks: they save and end with status 75. The
# job then goes back into the queue, and its next turn goes on from that checkpoint. It does not go back
#   - after an error (any other status);
#   - where it was cancelled: `scancel` also lets the ranks save, and whoever cancels a job does not want it back. With
#     --launch mpirun they save only where a step and a checkpoint take less than a second: scancel's SIGTERM goes to
#     mpirun and its helpers, too, and these then kill the ranks;
#   - after three turns in a row that brought no newer checkpoint: --time is too short for one, or something is wrong.
set -euo pipefail

readonly interrupted=75  # exit status of plsc-train: stopped on request, run it again
readonly most_idle=3     # turns in a row without a newer checkpoint
readonly starting=60     # seconds within which the ranks have started

say() { echo "train_and_requeue.sh: $*" >&2; }

launch=auto
case "${1:-}" in
  -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
  --launch) launch=${2:?--launch own|srun|mpirun|auto}; shift 2 ;;
esac
if [ -z "${SLURM_JOB_ID:-}" ]; then
  say "this is no Slurm job; submit it: sbatch scripts/slurm/one_node.sbatch"
  exit 2
fi

# Each of srun, mpirun and plsc-train's own launcher passes SIGUSR1 on to all ranks. SIGTERM is what scancel sends, and
# preemption. What comes before there is a training is kept for it.
asked=false woken=false pid='' repeater=''
# shellcheck disable=SC2317  # called by the trap
pass_on() {
  asked=true woken=true
  [ -n "$pid" ] || return 0
  kill -USR1 "$pid" 2>/dev/null || true
  if [ "$launch" != own ] && [ -z "$repeater" ]; then
    repeat_request &
    repeater=$!
  fi
}
# mpirun drops a signal that comes before it has ranks; plsc-train's own launcher sees to that by itself.
repeat_request() {
  while sleep 2 && [ $SECONDS -lt $starting ] && kill -USR1 "$pid" 2>/dev/null; do :; done
}
trap pass_on USR1 TERM

# The folder of plsc-train: a bundle has bin/, the sources have build/cuda or build/cpu.
root=$(cd "$(dirname "$0")/../.." && pwd)
train=
for folder in "$root/bin" "$root/build/cuda/bin" "$root/build/cpu/bin"; do
  if [ -x "$folder/plsc-train" ]; then train=$folder/plsc-train; break; fi
done
if [ -z "$train" ]; then
  say "no plsc-train in $root/bin, $root/build/cuda/bin or $root/build/cpu/bin: build it, or set PLSC to a bundle's folder"
  exit 1
fi

# Where checkpoints will lie; an error in the configuration ends the job here, once, and not on every rank.
words=()
for word in "$@"; do
  case "$word" in
    --resume | --resume=*) say "--resume would count in every turn of the job: leave it away"; exit 2 ;;
  esac
  words+=("$word")
done
output=$("$train" config "${words[@]}" | sed -n "s/^output: \(.*[^ ]\)  *#.*/\1/p")
output=${output#[\"\']}
output=${output%[\"\']}

if [ "$launch" = auto ]; then
  if srun --mpi=list 2>&1 | grep -q pmix; then launch=srun; else launch=mpirun; fi
fi
case "$launch" in
  own) command=("$train") ;;
  srun)
    # Or Slurm lets ranks of one node out of MPI_Init, and send, while those of another are not ready to receive: some
    # such messages end a rank by a null pointer inside Open MPI. (Otherwise plsc-train waits a second at its start.)
    export SLURM_PMIX_FENCE_BARRIER="${SLURM_PMIX_FENCE_BARRIER:-true}" SLURM_PMIX_FENCE="${SLURM_PMIX_FENCE:-ring}"
    command=(srun --mpi=pmix --kill-on-bad-exit=0)  # 0: the ranks end each other, and tell why first
    # Since Slurm 22.05 srun does not take this from the job by itself.
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || command+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")
    command+=("$train")
    ;;
  mpirun)
    mpirun=$(dirname "$train")/mpirun
    [ -x "$mpirun" ] || mpirun=mpirun
    # mpirun notices within half a minute, and not in a quarter of an hour, that a node does not answer any more.
    export OMPI_MCA_oob_tcp_keepalive_time="${OMPI_MCA_oob_tcp_keepalive_time:-10}"
    export OMPI_MCA_oob_tcp_keepalive_intvl="${OMPI_MCA_oob_tcp_keepalive_intvl:-5}"
    export OMPI_MCA_oob_tcp_keepalive_probes="${OMPI_MCA_oob_tcp_keepalive_probes:-3}"
    # No binding: Open MPI would bind a rank to one core, and the threads of a rank share the node's cores by number.
    command=("$mpirun" -np "$SLURM_NTASKS" --bind-to none "$train")
    ;;
  *) say "--launch is own, srun, mpirun or auto, not '$launch'"; exit 2 ;;
esac

newest_checkpoint() {
  [ -d "$output/checkpoints" ] || return 0
  find "$output/checkpoints" -maxdepth 1 -name 'step_*' -printf '%f\n' | sort | tail -n 1
}

# Counts the turns of this job, up to this one, that brought no newer checkpoint; the count lies beside the checkpoints.
idle_turns() {
  local file=$output/.slurm_turns job='' idle=0
  [ ! -f "$file" ] || read -r job idle <"$file"
  [ "$job" = "$SLURM_JOB_ID" ] || idle=0
  if [ "$(newest_checkpoint)" = "$began_with" ]; then idle=$((idle + 1)); else idle=0; fi
  mkdir -p "$output"
  echo "$SLURM_JOB_ID $idle" >"$file"
  echo "$idle"
}

# The job's state and what it waits or ends for: "RUNNING None", "COMPLETING TimeLimit".
job_state() {
  local try
  for try in 1 2 3 4 5; do
    squeue --noheader --jobs="$SLURM_JOB_ID" --format='%T %r' 2>/dev/null && return
    [ "$try" = 5 ] || sleep 5  # a controller that is busy or restarts
  done
  echo UNKNOWN
}

began_with=$(newest_checkpoint)
turn=$((${SLURM_RESTART_COUNT:-0} + 1))
say "turn $turn of job $SLURM_JOB_ID on ${SLURM_JOB_NODELIST:-?}, ranks by $launch; newest checkpoint: ${began_with:-none}"

# In the background, because bash handles a signal only after a command in the foreground has ended.
SECONDS=0
"${command[@]}" "${words[@]}" &
pid=$!
status=0
! $asked || pass_on
while :; do
  woken=false status=0
  wait "$pid" || status=$?
  $woken || break  # else `wait` may have ended for the signal alone
done
[ -z "$repeater" ] || kill "$repeater" 2>/dev/null || true
# Died of SIGUSR1 or SIGTERM: so early that nobody took the signal as a request yet. bash 5 gives -1 for a child that
# died of a signal, where that was seen before `wait` was called.
case "$asked $status" in "true 138" | "true 143" | "true -1") status=$interrupted ;; esac

if [ $status -ne $interrupted ]; then
  [ $status -eq 0 ] || say "ended with status $status: an error, so the job does not go back into the queue"
  exit $status
fi
state=$(job_state)
case "$state" in
  RUNNING* | *TimeLimit) ;;
  *)
    say "stopped; the job is being ended ($state) and does not go back into the queue. Submit it again to go on"
    exit $status
    ;;
esac
idle=$(idle_turns)
if [ "$idle" -ge $most_idle ]; then
  say "$idle turns without a newer checkpoint than '${began_with:-none}': not again. A longer --time may be what it needs"
  exit $status
fi
say "stopped; newest checkpoint: $(newest_checkpoint); back into the queue"
if ! scontrol requeue "$SLURM_JOB_ID"; then
  say "Slurm refuses to requeue the job: submit it again to go on"
fi
exit $status
