#!/usr/bin/env bash
# What one worker of a Cloud TPU VM does; tpu_vm.sh calls it there.
#
#   bash launch/tpu_worker.sh setup          Python, packages, bubblewrap
#   bash launch/tpu_worker.sh doctor         what jax sees; on all workers at once
#   bash launch/tpu_worker.sh start MODULE [flags]
#   bash launch/tpu_worker.sh state          running | ended CODE TIME | died | none,
#                                            "by hand" after stop
#   bash launch/tpu_worker.sh log [OFFSET]   size of the log, then its bytes from
#                                            OFFSET on, else the last 4,000
#   bash launch/tpu_worker.sh tail           the log's last 50 lines
#   bash launch/tpu_worker.sh error          first error of a program that failed
#   bash launch/tpu_worker.sh stop           saves, then ends the program
#   bash launch/tpu_worker.sh kill           ends it at once
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
run=$HOME/score_jax.run
# Where tpu_vm.sh leaves $HF_TOKEN, for weights behind a licence.
token=$HOME/score_jax.token
# Where pip and uv put programs of a user.
export PATH=$HOME/.local/bin:$PATH
# What the first line of an error looks like.
error_line='^(Traceback |[Ee]rror: |ERROR|Fatal |[A-Za-z_.]+(Error|Exception)(:|$))|RESOURCE_EXHAUSTED|Killed|command not found'

# The images' Python may be too old, and apt is often locked while a fresh VM
# updates itself: so a Python comes from uv, and uv from pip.
find_uv() {
  local interpreter
  interpreter=$(find_python)
  [[ -z $interpreter ]] || ! has_venv "$interpreter" || return 0
  command -v uv >/dev/null || PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install \
    --quiet --user --disable-pip-version-check uv
}

find_bubblewrap() {
  command -v bwrap >/dev/null || sudo -n apt-get install -qq -y \
    -o DPkg::Lock::Timeout=60 bubblewrap >/dev/null 2>&1 ||
    say 'No bubblewrap (is apt locked?): tasks with programs need' \
      '--sandbox=landlock, others nothing.'
}

setup() {
  find_uv
  bash "$root/launch/with.sh" tpu
  find_bubblewrap
  say 'Set up.'
}

doctor() {
  # Exit code 2: no sandbox for programs, which most tasks do not need.
  timeout 600 bash "$root/launch/with.sh" tpu experiments.doctor || [[ $? == 2 ]]
}

# The lock is the kernel's: it ends with the program, whatever ends that.
is_running() { ! flock --nonblock "$run/lock" true; }

start() {
  mkdir -p "$run"
  if is_running; then
    say 'Running already.'
    return
  fi
  rm -f "$run"/{pid,ended,log,by_hand}
  # In a session of its own, that the program outlives this connection.
  setsid nohup flock --nonblock "$run/lock" bash "${BASH_SOURCE[0]}" supervise \
    "$@" >"$run/log" 2>&1 </dev/null &
  until [[ -s $run/pid ]] || ! kill -0 $! 2>/dev/null; do sleep 0.05; done
}

supervise() {
  local code=0
  if [[ -e $token ]]; then
    HF_TOKEN=$(<"$token")
    export HF_TOKEN
  fi
  bash "$root/launch/with.sh" tpu "$@" &
  echo $! >"$run/pid"
  wait $! || code=$?
  echo "$code $(date +%s.%N)" >"$run/ended"
}

state() {
  local found=none
  if [[ -s $run/ended ]]; then
    found="ended $(<"$run/ended")"
    # A machine that is taken away ends its programs as stop does.
    [[ $found != 'ended 143 '* || -e $run/by_hand ]] || found=died
  elif [[ -e $run/pid ]]; then
    is_running && found=running || found=died  # with its machine
  fi
  [[ ! -e $run/by_hand ]] || found+=' by hand'
  echo "$found"
}

log() {
  local size offset
  size=$(stat --format=%s "$run/log")
  offset=${1:-$((size > 4000 ? size - 4000 : 0))}
  echo "$size"
  tail --bytes="+$((offset + 1))" "$run/log" | head --bytes=$((size - offset))
}

# error: lines that begin with when the program ended, for one order of all.
error() {
  local code when
  [[ -s $run/ended ]] || return 0
  read -r code when <"$run/ended"
  [[ $code != 0 ]] || return 0
  {
    echo "ended with exit code $code at $(date --date="@$when" +%T)"
    awk -v error="$error_line" '$0 ~ error { found = 1 } found && ++n <= 30 {
      print "  " $0 }' "$run/log" | grep . || tail -n 20 "$run/log"
  } | sed "s/^/$when /"
}

stop() {
  [[ $(state) == running ]] || return 0
  touch "$run/by_hand"
  kill -TERM "$(<"$run/pid")"
}

end_now() {
  ! is_running || kill -KILL -- "-$(ps -o pgid= "$(<"$run/pid")" | tr -d ' ')"
}

# Of output that comes from all workers, each line has its worker's name.
case ${1:-} in
  setup | doctor) "$@" 2>&1 | sed -u "s/^/$HOSTNAME: /" ;;
  state) state | sed "s/^/$HOSTNAME: /" ;;
  error) error | sed "s/ / $HOSTNAME: /" ;;
  tail) tail --lines=50 "$run/log" | sed "s/^/$HOSTNAME: /" ;;
  kill) end_now ;;
  start | supervise | log | stop) "$@" ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
