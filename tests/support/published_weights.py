"""Gemma 3 270M itself, where `launch/gemma3_270m.sh` has put it."""

import os
import pathlib

import pytest

_ROOT = pathlib.Path(__file__).resolve().parents[2]
# Names the directory, where it is not in the clone's weights/.
VARIABLE = 'SCORE_JAX_GEMMA3_270M'
_MISSING = 'is missing; run: bash launch/gemma3_270m.sh'


def directory() -> pathlib.Path:
  """The Hugging Face directory; skips the test where it is missing."""
  path = pathlib.Path(
    os.environ.get(VARIABLE) or _ROOT / 'weights' / 'gemma-3-270m'
  )
  if not (path / 'model.safetensors').is_file():
    pytest.skip(f'{path} {_MISSING} (or set {VARIABLE})')
  return path


def gguf_file() -> pathlib.Path:
  """The file that the directory was made from, beside it; or skips."""
  path = directory()
  path = path.with_name(f'{path.name}-q4_k_m.gguf')
  if not path.is_file():
    pytest.skip(f'{path} {_MISSING}')
  return path
