#!/usr/bin/env bash
# Runs this clone on a Cloud TPU VM, one host or a pod slice:
#
#   tpu='--name=NAME --zone=us-west4-a --type=v5e-8'
#   bash launch/tpu_vm.sh run $tpu --spot experiments.train \
#     --preset=gemma3_1b_gsm8k_v5e8 --init-from=hf:google/gemma-3-1b-it \
#     --run-dir=gs://BUCKET/NAME
#
#   create   asks for the slice in a queue, and waits for it
#   setup    copies the last commit (not what is uncommitted) to every worker,
#            installs packages, looks at the devices
#   run      all of that where it is needed, starts the program on every worker,
#            and shows what it prints. A slice that is preempted is asked for
#            again and goes on. The same command later only watches
#   attach   watches what runs
#   logs     the end of the first worker's log; --worker=N or --worker=all
#   stop     saves, then ends the program on all workers
#   delete   gives the slice back, with its disks
#
#   --type=TYPE      v4-8, v5e-1, v5e-8, v5p-8, v6e-8, ...: as experiments.plan
#   --spot           cheaper, and can be taken away
#   --runtime=NAME   image of the workers, if not the usual one of the type
#   --every=SECONDS  how often to look (30)
#   --dry-run        prints each command instead of running it
#
# --run-dir is in a bucket, or on a file system that outlives the slice and that
# all workers have mounted. $HF_TOKEN of this machine is given to the workers.
#
# Tried with a stand-in for gcloud, and gcloud itself parses every command; not
# tried on a TPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '%s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }
usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }

preempted=75
name='' zone='' type='' runtime='' every=30 worker=0 spot=() dry_run=false
verb=${1:-}
shift || usage
while [[ ${1:-} == -* ]]; do
  # `--name NAME` is `--name=NAME`.
  case $1 in
    --spot | --dry-run | *=*) ;;
    *) [[ $# -gt 1 ]] || usage; set -- "$1=$2" "${@:3}" ;;
  esac
  case $1 in
    --name=*) name=${1#*=} ;;
    --zone=*) zone=${1#*=} ;;
    --type=*) type=${1#*=} ;;
    --runtime=*) runtime=${1#*=} ;;
    --every=*) every=${1#*=} ;;
    --worker=*) worker=${1#*=} ;;
    --spot) spot=(--spot) ;;
    --dry-run) dry_run=true ;;
    *) fail "No such option: $1. See: bash launch/tpu_vm.sh" ;;
  esac
  shift
done
program=("$@")
[[ -n $name && -n $zone ]] || { say '--name and --zone are needed.'; usage; }
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
exec 3>&1

# call COMMAND: runs it, or prints it so that a shell could run it.
call() {
  if $dry_run; then
    { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; } >&3
  else
    "$@"
  fi
}

queued() {
  call gcloud compute tpus queued-resources "$1" "$name" --zone="$zone" "${@:2}"
}

# on WORKERS COMMAND: runs a shell command on all workers, or on one.
on() {
  call gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker="$1" \
    --command="$2"
}

on_worker() { on "$1" "bash score_jax/launch/tpu_worker.sh $2"; }

pause() { $dry_run || sleep "$every"; }

# Sets `state`: of the queued resource; ABSENT without one, UNKNOWN where gcloud
# could not ask.
read_state() {
  state=$(queued describe --format='value(state.state)' 2>"$scratch/describe") ||
    if grep -q NOT_FOUND "$scratch/describe"; then
      state=ABSENT
    else
      state=UNKNOWN
    fi
}

# Sets `accelerator` and `image`, in Google's words for --type.
find_type() {
  [[ -n $type ]] || fail '--type is missing, such as --type=v5e-8.'
  accelerator=$type
  case $type in
    v4-*) image=tpu-ubuntu2204-base ;;
    v5e-* | v5litepod-*)
      accelerator=v5litepod-${type#*-} image=v2-alpha-tpuv5-lite ;;
    v5p-*) image=v2-alpha-tpuv5 ;;
    v6e-*) image=v2-alpha-tpuv6e ;;
    *) fail "--type=$type is not of v4, v5e, v5p or v6e, such as v5e-8." ;;
  esac
  image=${runtime:-$image}
}

# ask_for_slice TIMES: puts the request into the queue, TIMES tries.
ask_for_slice() {
  local tries
  for ((tries = $1; tries > 0; tries--)); do
    queued create --node-id="$name" --accelerator-type="$accelerator" \
      --runtime-version="$image" ${spot[@]+"${spot[@]}"} \
      2>"$scratch/create" && return
    cat "$scratch/create" >&2
    [[ $tries == 1 ]] || pause
  done
  ! grep -qi quota "$scratch/create" || say "No quota for $type" \
    "${spot[*]+as spot }in $zone: ask for it (IAM & Admin > Quotas, Cloud TPU" \
    'API), or try another --zone, --type, or with or without --spot.'
  exit 1
}

give_back() { queued delete --force --quiet; }

# create [TIMES]: returns once the slice is there, after TIMES tries at most.
create() {
  local before='' reason tries=${1:-1}
  find_type
  while :; do
    read_state
    if $dry_run; then
      ask_for_slice 1
      read_state
      return
    fi
    [[ $state == "$before" ]] || say "$(date +%T) $name: $state"
    before=$state
    case $state in
      ACTIVE) return ;;
      ABSENT) ask_for_slice "$tries" ;;
      SUSPENDED)  # preempted; such a request is not filled again
        give_back ;;
      FAILED)
        reason=$(queued describe --format='value(state.failedData.error.message)')
        fail "The request failed: $reason" \
          "Remove it with: bash launch/tpu_vm.sh delete --name=$name --zone=$zone" ;;
      UNKNOWN)
        cat "$scratch/describe" >&2
        [[ $tries != 1 ]] || exit 1
        pause ;;
      *) pause ;;
    esac
  done
}

# Sets `states`: a line a worker, "NAME: STATE". Fails where not all can be asked.
read_workers() {
  local state_there='! cd score_jax/launch || bash tpu_worker.sh state'
  states=$(on all "$state_there" 2>"$scratch/workers")
}

setup() {
  local archive=${TMPDIR:-/tmp}/score_jax_$name.tar.gz unpack
  # What was in the commit before and is not in this one goes.
  unpack='mkdir -p score_jax; cd score_jax; tar -tf ../score_jax.tar.gz'
  unpack+=' | cut -d/ -f1 | sort -u | xargs rm -rf; tar -xf ../score_jax.tar.gz'
  call git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  call gcloud compute tpus tpu-vm scp "$archive" "$name:score_jax.tar.gz" \
    --zone="$zone" --worker=all
  on all "$unpack"
  if [[ -n ${HF_TOKEN:-} ]]; then
    (umask 077 && printf '%s\n' "$HF_TOKEN" >"$scratch/token")
    call gcloud compute tpus tpu-vm scp "$scratch/token" \
      "$name:score_jax.token" --zone="$zone" --worker=all
  fi
  on_worker all setup || fail 'Setting up failed; the workers say why, above.'
  on_worker all doctor || fail 'No devices; the workers say why, above.'
}

# show_log OFFSET: prints what the first worker logged since, and sets `offset`.
show_log() {
  on_worker 0 "log $1" >"$scratch/log" 2>/dev/null || return 0
  ! $dry_run || return 0
  read -r offset <"$scratch/log"
  tail -n +2 "$scratch/log"
}

# Every worker's first error, the earliest first: the others may only say that
# one is gone.
show_errors() {
  say 'Errors, the earliest first:'
  on_worker all error 2>/dev/null | sort -s -k1,1n -k2,2 | cut -d' ' -f2- >&2 ||
    true
}

# watch [OFFSET]: shows the log until all programs have ended. Returns the exit
# code, or $preempted where the slice or a program is gone.
watch() {
  local offset=${1:-} patience=4 code
  while :; do
    if read_workers; then
      show_log "$offset"
      ! $dry_run || return 0
      # A signal to one worker stops all.
      [[ $states != *': died'* || $states == *' by hand'* ]] ||
        return "$preempted"
      [[ $states == *': running'* ]] || break
      # One failed, and others wait for it in vain.
      ! [[ $states =~ ': ended '[1-9] ]] || ((--patience > 0)) || break
    elif is_gone; then
      return "$preempted"
    fi
    pause
  done
  code=$(grep -o 'ended [0-9]*' <<<"$states" | cut -d' ' -f2 | sort -n | tail -n 1)
  case ${code:-none} in
    none) fail 'Nothing runs there.' ;;
    0) say 'Finished.' ;;
    143) say 'Stopped.' ;;
    *) show_errors; on_worker all kill ;;
  esac
  return "$code"
}

# Whether the slice was taken away, as its workers do not answer.
is_gone() {
  local node
  read_state
  case $state in
    SUSPENDING | SUSPENDED | FAILED | DELETING | ABSENT) return 0 ;;
  esac
  node=$(call gcloud compute tpus tpu-vm describe "$name" --zone="$zone" \
    --format='value(state)' 2>/dev/null) || true
  [[ $node != PREEMPTED && $node != TERMINATED ]] || return 0
  # Such as this machine's network: the workers do not need it.
  say "$(date +%T) The workers do not answer: $(tail -n 1 "$scratch/workers")"
  return 1
}

# Whether the workers answer, after a while or at once; else the slice is gone.
wait_for_workers() {
  until read_workers; do
    ! is_gone || return 1
    pause
  done
}

run() {
  local arguments code tries=1
  [[ ${#program[@]} -gt 0 ]] || usage
  printf -v arguments '%q ' "${program[@]}" --processes.coordinator=auto
  [[ -z ${spot[*]+spot} || ${program[*]} =~ --run-dir=(/|[a-z0-9]+://) ]] ||
    say '--run-dir is on the slice: a run is lost where a spot slice is taken.'
  trap 'say; say "It goes on. The same command watches it, stop ends it."
    exit 130' INT
  while :; do
    create "$tries"
    code=$preempted
    if wait_for_workers; then
      if [[ $states != *': running'* ]]; then
        setup
        on_worker all "start ${arguments% }"
      fi
      code=0
      watch 0 || code=$?
    fi
    [[ $code == "$preempted" ]] || exit "$code"
    read_state
    [[ $state != ABSENT && $state != DELETING ]] || fail "$name was deleted."
    say "$(date +%T) $name was taken away; the run goes on from its last" \
      'checkpoint.'
    if read_workers; then
      on_worker all kill  # what waits for a worker that was rebooted
    elif [[ $state == ACTIVE ]]; then
      give_back
    fi
    # The quota that it had may be counted a while longer.
    tries=20
  done
}

attach() {
  local code=0
  watch || code=$?
  [[ $code != "$preempted" ]] ||
    fail "$name was taken away. run asks for it again, and goes on."
  exit "$code"
}

stop() {
  on_worker 0 stop
  say 'It ends its step, and saves.'
  while read_workers && [[ $states == *': running'* ]]; do pause; done
}

command -v gcloud >/dev/null || $dry_run || fail 'gcloud is not installed.'
case $verb in
  create | setup | run | attach | stop) "$verb" ;;
  logs) on_worker "$worker" tail ;;
  delete) give_back ;;
  *) usage ;;
esac
