#!/usr/bin/env bash
# Runs a command as an ordinary user on a fresh Debian 13, whose Python is 3.13,
# in a clone of this repository's last commit:
#
#   bash tests/launch/debian13.sh DIRECTORY bash launch/quickstart.sh
#
# DIRECTORY becomes the machine's root: debootstrap makes it where it is missing
# (400 MB), and rm -r removes it, since nothing stays mounted in it. Needs root.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[[ -n ${2:-} ]] || { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }
machine=$(realpath -m "$1") clone=/home/user/score_jax

if [[ ! -d $machine$clone ]]; then
  debootstrap --variant=minbase \
    --include=python3,python3-venv,git,ca-certificates,bubblewrap \
    trixie "$machine" >&2
  # How packages are reached from here.
  cp /etc/resolv.conf /etc/hosts "$machine/etc/"
  cp /etc/ssl/certs/ca-certificates.crt "$machine/etc/ssl/certs/"
  chroot "$machine" useradd --create-home user
  git clone --quiet --no-hardlinks "file://$repository" "$machine$clone"
  chroot "$machine" chown -R user: "$clone"
fi

settings=()
for name in {http,https,no}_proxy SSL_CERT_FILE PIP_CERT PIP_INDEX_URL \
  UV_DEFAULT_INDEX; do
  [[ -z ${!name:-} ]] || settings+=("$name=${!name}")
done
# A root of its own, not a chroot: in that the kernel refuses the user namespaces
# of bubblewrap. All mounts end with the command.
# shellcheck disable=SC2016
exec unshare --mount --pid --fork --kill-child bash -euc '
  cd "$1"
  mount --bind . .
  cd "$1"
  mount -t proc proc proc
  mount --rbind /dev dev
  mount --rbind /sys sys
  pivot_root . .
  umount -l .
  exec chroot . setpriv --reuid=user --regid=user --init-groups \
    env -i --chdir="$2" HOME=/home/user PATH=/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 "${@:3}"
' debian13 "$machine" "$clone" ${settings[@]+"${settings[@]}"} "${@:2}"
