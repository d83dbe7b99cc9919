# shellcheck shell=bash
# Sourced by the scripts beside it: makes .venv in the clone and installs
# the pinned requirements into it, once. Sets `root` (the clone) and `python`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
python=$venv/bin/python
# A notebook's, of a package that .venv does not have.
unset MPLBACKEND

say() { printf '%s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

is_supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
    2>/dev/null
}

has_venv() { "$1" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; }

# Prints the interpreter to make .venv with, or nothing: $PYTHON where it is set,
# else the first supported Python, one that can make virtual environments
# preferred.
find_python() {
  local candidates=(python3 python3.13 python3.12 python3.11 python
    /usr/bin/python3)
  [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
  local candidate found=
  for candidate in "${candidates[@]}"; do
    is_supported "$candidate" || continue
    if has_venv "$candidate"; then
      echo "$candidate"
      return
    fi
    found=${found:-$candidate}
  done
  echo "$found"
}

# no_python INTERPRETER: ends with what to install. INTERPRETER is one without
# ensurepip, or empty.
no_python() {
  local what='score_jax needs Python 3.11, 3.12 or 3.13, and none was found.'
  [[ -z ${PYTHON:-} ]] || what="$PYTHON is not Python 3.11, 3.12 or 3.13."
  [[ -z $1 ]] || what="$1 cannot make virtual environments: it has no ensurepip."
  fail "$what

  Debian:        apt install python3 python3-venv
  macOS:         brew install python@3.13
  without root:  install uv (https://docs.astral.sh/uv), which does the rest

Then run this again, or name another Python:
PYTHON=/path/to/python3.13 bash launch/quickstart.sh"
}

make_venv() {
  if [[ -x $python ]] && "$python" -m pip --version >/dev/null 2>&1; then
    is_supported "$python" || fail "$venv is not of Python 3.11, 3.12 or 3.13." \
      "Remove it (rm -r '$venv') and run this again."
    return
  fi
  local interpreter make
  interpreter=$(find_python)
  if [[ -n $interpreter ]] && has_venv "$interpreter"; then
    make=("$interpreter" -m venv)
  elif command -v uv >/dev/null && [[ -n $interpreter || -z ${PYTHON:-} ]]; then
    # Where there is no such Python, uv downloads one. --seed: with pip.
    make=(uv venv --quiet --seed --python "${interpreter:->=3.11,<3.14}")
  else
    no_python "$interpreter"
  fi
  say "Making a virtual environment in $venv."
  # --clear: what an interrupted earlier run left there is of no use.
  "${make[@]}" --clear "$venv"
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

# install_extra NAME: packages of an extra of setup.cfg, once.
install_extra() {
  local packages
  mapfile -t packages < <(sed -n "/^$1 =/,/^[^ ]/s/^  //p" "$root/setup.cfg")
  install_package "$1" "${packages[@]}"
}

# install_package NAME REQUIREMENT...: installs packages beside those of
# requirements.txt, once.
install_package() {
  local stamp=$venv/installed-$1 log=$venv/install.log what=${*:2}
  [[ -f $stamp && $(<"$stamp") == "$what" ]] && return
  say "Installing $what (once)."
  if ! "$python" -m pip install --disable-pip-version-check \
    --requirement "$root/requirements.txt" "${@:2}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    fail "Installing $what failed; the end of the log is above, the rest in $log."
  fi
  echo "$what" >"$stamp"
}
