# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv in the clone and installs
# the pinned requirements into it, once. Sets `root` (the clone) and `python`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
python=$venv/bin/python

say() { printf '%s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

is_python311() {
  "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null
}

has_venv() { "$1" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; }

# Prints the interpreter to make .venv with: $PYTHON where it is set, else the
# first Python 3.11, one that can make virtual environments preferred.
find_python() {
  local candidate found=
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python \
    /usr/bin/python3.11; do
    is_python311 "$candidate" || continue
    if has_venv "$candidate"; then
      echo "$candidate"
      return
    fi
    found=${found:-$candidate}
  done
  [[ -n $found ]] || fail 'score_jax needs Python 3.11, and none was found.

  Debian 12:  apt install python3 python3-venv
  macOS:      brew install python@3.11
  elsewhere:  uv python install 3.11, or pyenv install 3.11

Or name it: PYTHON=/path/to/python3.11 bash launch/quickstart.sh'
  fail "$found cannot make virtual environments: it has no ensurepip.

  Debian 12:  apt install python3-venv

Then run this again."
}

make_venv() {
  if [[ -x $python ]] && "$python" -m pip --version >/dev/null 2>&1; then
    is_python311 "$python" || fail "$venv is not of Python 3.11." \
      "Remove it (rm -r '$venv') and run this again."
    return
  fi
  local interpreter
  interpreter=$(find_python)
  say "Making a virtual environment in $venv."
  # --clear: what an interrupted earlier run left there is of no use.
  "$interpreter" -m venv --clear "$venv"
}

# install_requirements FILE: installs a requirements file, and keeps a copy of
# it in .venv so that the next run has nothing to do.
install_requirements() {
  local requirements=$root/$1 stamp=$venv/installed-$1 log=$venv/install.log
  cmp -s "$requirements" "$stamp" && return
  say "Installing $(grep -c == "$requirements") pinned packages of $1" \
    '(once, a few minutes).'
  if ! "$python" -m pip install --disable-pip-version-check \
    --requirement "$requirements" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "Installing $1 failed; the end of the log is above, the rest in $log."
  fi
  cp "$requirements" "$stamp"
}

# install_accelerator EXTRA: jax's packages for tpu or cuda12, in the version of
# requirements.txt, once.
install_accelerator() {
  install_package "$1" "jax[$1]==$(version_of jax requirements.txt)"
}

# version_of PACKAGE FILE: prints the version that a requirements file pins.
version_of() { sed -n "s/^$1==//p" "$root/$2"; }

# install_package NAME REQUIREMENT: installs a package beside those of
# requirements.txt, once.
install_package() {
  local stamp=$venv/installed-$1 log=$venv/install.log
  [[ -f $stamp && $(<"$stamp") == "$2" ]] && return
  say "Installing $2 (once)."
  if ! "$python" -m pip install --disable-pip-version-check \
    --requirement "$root/requirements.txt" "$2" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "Installing $2 failed; the end of the log is above, the rest in $log."
  fi
  echo "$2" >"$stamp"
}
