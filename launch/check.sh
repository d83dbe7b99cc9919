#!/usr/bin/env bash
# Lints and tests, with its own set-up (see quickstart.sh):
#
#   bash launch/check.sh [--parity] [--slow] [pytest arguments ...]
#
#   --parity  also installs requirements-parity.txt (PyTorch, transformers), so
#             that the comparisons with Hugging Face run instead of skipping
#   --slow    runs the slow tests instead of the ordinary ones
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

# Succeeds where packages can be installed without asking anybody: as root, and
# on a CI machine with passwordless sudo.
can_apt_install() {
  command -v apt-get >/dev/null || return 1
  [[ $(id -u) == 0 ]] || { [[ -n ${CI:-} ]] && sudo -n true 2>/dev/null; }
}

apt_install() {
  local as_root=()
  [[ $(id -u) == 0 ]] || as_root=(sudo -n)
  say "Installing $* with apt."
  { "${as_root[@]}" apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" \
      apt-get install -qq -y --no-install-recommends "$@"; } >/dev/null 2>&1
}

parity=false
selection=()
pytest_arguments=()
for argument in "$@"; do
  case $argument in
    --parity) parity=true ;;
    --slow) selection=(-m slow) ;;
    -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
    *) pytest_arguments+=("$argument") ;;
  esac
done

cd "$root"
make_venv
install_requirements requirements.txt
if $parity; then
  install_requirements requirements-parity.txt
fi

# Programs that a policy wrote run in bubblewrap.
if ! command -v bwrap >/dev/null; then
  { can_apt_install && apt_install bubblewrap; } || say \
    'bubblewrap is missing and could not be installed (Debian: apt install' \
    'bubblewrap): tests of that sandbox will be skipped, and named below.'
fi

say 'ruff check'
"$python" -m ruff check --quiet .
say 'ruff format --check'
"$python" -m ruff format --check --quiet . || fail \
  'Not formatted as above; run: .venv/bin/ruff format .'
say 'pytest'
# -ra names what was skipped, with the reason. The slow tests are deselected:
# they have a run of their own.
# Two processes, each with whole files: compilation is not parallel in itself.
exec "$python" -m pytest -ra -q -n 2 --dist=loadfile --durations=10 ${selection[@]+"${selection[@]}"} \
  ${pytest_arguments[@]+"${pytest_arguments[@]}"}
