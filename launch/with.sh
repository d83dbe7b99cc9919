#!/usr/bin/env bash
# Runs a program on this machine's accelerator, with its own set-up:
#
#   bash launch/with.sh tpu|cuda|cpu [MODULE [flags ...]]
#   bash launch/with.sh tpu experiments.train --preset=gemma3_1b_gsm8k_v5e8 ...
#
# Makes .venv in the clone as quickstart.sh does, adds jax's packages for the
# accelerator and the clients of hubs (hf:, kaggle:) and of buckets (gs://)
# once, and runs `python -m MODULE` in the clone; without MODULE it only installs.
# Where there is no such accelerator, programs say so and end;
# JAX_PLATFORMS=cpu runs them all the same.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case ${1:-} in
  tpu) extra=tpu platforms=tpu,cpu ;;
  cuda) extra=cuda12 platforms=cuda,cpu ;;
  cpu) extra='' platforms=cpu ;;
  *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac

cd "$root"
make_venv
install_requirements requirements.txt
[[ -z $extra ]] || install_accelerator "$extra"
install_extra hub
install_extra gs
[[ -n ${2:-} ]] || exit 0
# Named, so that jax fails without it instead of computing on the CPU.
export JAX_PLATFORMS=${JAX_PLATFORMS:-$platforms}
exec "$python" -m "${@:2}"
