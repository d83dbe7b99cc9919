#!/usr/bin/env bash
# Runs a program on this machine's accelerator, with its own set-up:
#
#   bash launch/with.sh tpu|cuda MODULE [flags ...]
#   bash launch/with.sh tpu experiments.train --preset=gemma3_1b_gsm8k_v5e8 ...
#
# Makes .venv in the clone as quickstart.sh does, adds jax's packages for the
# accelerator once, and runs `python -m MODULE` in the clone.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case ${1:-} in
  tpu) extra=tpu ;;
  cuda) extra=cuda12 ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
[[ -n ${2:-} ]] || fail 'Which program? For instance: experiments.doctor'

cd "$root"
make_venv
install_requirements requirements.txt
install_accelerator "$extra"
exec "$python" -m "${@:2}"
