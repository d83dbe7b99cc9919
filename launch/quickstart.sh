#!/usr/bin/env bash
# From a fresh clone to a policy that corrects itself, on a CPU, in minutes:
#
#   bash launch/quickstart.sh [flags of experiments.train ...]
#
# makes .venv in the clone, installs the pinned requirements once, and runs
# `python -m experiments.train --preset=tiny`. Relative paths in flags are
# relative to the clone. PYTHON=/path/to/python3.13 chooses an interpreter.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

cd "$root"
make_venv
install_requirements requirements.txt
exec "$python" -m experiments.train --preset=tiny "$@"
