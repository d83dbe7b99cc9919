#!/usr/bin/env bash
# Runs this clone on every worker of a Cloud TPU VM, one host or a pod slice:
#
#   export TPU=NAME ZONE=us-central2-b          # and gcloud's own configuration
#   bash launch/tpu_vm.sh start experiments.train --preset=NAME --run-dir=DIR ...
#   bash launch/tpu_vm.sh log                   # what the first worker prints
#   bash launch/tpu_vm.sh stop                  # saves, then ends all workers
#
# `start` copies the last commit (not what is uncommitted) to ~/score_jax of each
# worker, makes the environment there (launch/with.sh tpu), and leaves the
# program running; --processes.coordinator=auto joins the workers. The same
# `start` goes on with a run that was stopped. Of a pod, DIR must be on a file
# system that all workers have mounted (Filestore, or a bucket through gcsfuse).
#
# Tried with a stand-in for gcloud that runs the commands here; not on a TPU.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '%s\n' "$*" >&2; }
usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }

[[ -n ${TPU:-} && -n ${ZONE:-} ]] || usage
command -v gcloud >/dev/null || { say 'gcloud is not installed.'; exit 1; }

# on WORKERS COMMAND: runs a shell command on all workers, or on one.
on() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker="$1" \
    --command="$2"
}

copy_commit() {
  local archive
  archive=$(mktemp -d)/score_jax.tar.gz
  git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  gcloud compute tpus tpu-vm scp "$archive" "$TPU": --zone="$ZONE" --worker=all
  rm -r "$(dirname "$archive")"
  on all 'mkdir -p score_jax && tar -xzf score_jax.tar.gz -C score_jax'
}

# The images' own Python is older than 3.11.
python311='command -v python3.11 >/dev/null || {
  sudo add-apt-repository -y ppa:deadsnakes/ppa &&
  sudo apt-get install -y python3.11 python3.11-venv; } >/dev/null'

start() {
  local arguments
  [[ $# -gt 0 ]] || usage
  printf -v arguments '%q ' "$@" --processes.coordinator=auto
  copy_commit
  on all "$python311"
  # In a session of its own, that the program outlives this connection.
  on all "cd score_jax || exit; setsid nohup bash -c '
      echo \$\$ >../score_jax.pid; exec bash launch/with.sh tpu \"\$@\"
    ' start $arguments >../score_jax.log 2>&1 </dev/null &"
  say "Started; see: TPU=$TPU ZONE=$ZONE bash launch/tpu_vm.sh log"
}

case ${1:-} in
  start) start "${@:2}" ;;
  log) on 0 'tail -n 50 -f score_jax.log' ;;
  # A signal to one process stops all of them after a step.
  stop) on 0 "kill -TERM \$(cat score_jax.pid)" ;;
  *) usage ;;
esac
