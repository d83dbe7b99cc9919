"""The manifest of a checkpoint, by which a wrong byte is detected.

Orbax restores an array with a flipped bit, and casts to another dtype, without
an error. So each checkpoint carries dtype, shape and SHA-256 of every leaf's
global value (the same for any mesh), and a digest of the manifest itself.
"""

from collections.abc import Mapping
import hashlib
import json
from typing import Any

import jax
import numpy as np

from score_jax import distributed

# Of the manifest; a checkpoint of another format is rejected.
FORMAT = 1


class MismatchError(ValueError):
  """An intact checkpoint of other leaves, shapes or dtypes than asked for."""


class DamagedError(RuntimeError):
  """A checkpoint whose bytes are not those that were saved."""


def flatten(tree: Any) -> dict[str, Any]:
  """Leaves by path, such as `params/layers/attention/query`.

  Raises:
    TypeError: a leaf is no array, or of a dtype that jax does not keep.
    ValueError: two leaves have the same path.
  """
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    key = jax.tree_util.keystr(path, simple=True, separator='/')
    if not hasattr(leaf, 'dtype') or not hasattr(leaf, 'shape'):
      raise TypeError(f'{key} is {type(leaf).__name__}: only arrays are saved')
    if jax.dtypes.canonicalize_dtype(leaf.dtype) != leaf.dtype:
      raise TypeError(
        f'{key} is {leaf.dtype}, which jax would restore as '
        f'{jax.dtypes.canonicalize_dtype(leaf.dtype)}: convert it first'
      )
    if key in leaves:
      raise ValueError(f'two leaves have the path {key}; rename one')
    leaves[key] = leaf
  return leaves


def describe(value: np.ndarray) -> dict[str, Any]:
  """dtype, shape and SHA-256 of the bytes, in C order."""
  flat = np.ascontiguousarray(value).reshape(-1)
  return {
    'dtype': str(value.dtype),
    'shape': list(value.shape),
    'sha256': hashlib.sha256(flat.view(np.uint8)).hexdigest(),
  }


def make(
  leaves: Mapping[str, Any],
  metadata: Mapping[str, Any],
  score: float | None,
) -> dict[str, Any]:
  """The manifest of a state.

  Args:
    leaves: arrays by path.
    metadata: the caller's, as JSON can hold it.
    score: the higher the better, or None.

  Raises:
    FloatingPointError: a leaf is not finite; its path is in the message.
  """
  described = {}
  for key, leaf in leaves.items():
    value = distributed.to_host(leaf)
    _check_finite(key, value)
    described[key] = describe(value)
  body = {
    'format': FORMAT,
    'leaves': described,
    'metadata': dict(metadata),
    'score': score,
  }
  return body | {'sha256': _digest(body)}


def check(manifest: Any) -> None:
  """Checks a manifest against its own digest.

  Raises:
    DamagedError: it is incomplete, or its digest differs.
    MismatchError: it is of another format.
  """
  if not isinstance(manifest, Mapping) or 'sha256' not in manifest:
    raise DamagedError('its manifest is missing or incomplete')
  body = {key: v for key, v in manifest.items() if key != 'sha256'}
  if _digest(body) != manifest['sha256']:
    raise DamagedError("its manifest's digest is wrong")
  if manifest['format'] != FORMAT:
    raise MismatchError(
      f'the checkpoint is of format {manifest["format"]}, this version reads '
      f'{FORMAT}: use the version of score_jax that wrote it'
    )


def check_target(
  manifest: Mapping[str, Any], target: Mapping[str, Any], *, partial: bool
) -> None:
  """Checks that a target has the leaves, shapes and dtypes that were saved.

  Args:
    manifest: of the checkpoint.
    target: arrays or shapes by path.
    partial: the target may lack some of the saved leaves.

  Raises:
    MismatchError: the message lists the differences.
  """
  saved = manifest['leaves']
  differences = [f'{key} is not in it' for key in target if key not in saved]
  if not partial:
    differences += [
      f'{key} is in it but not asked for' for key in saved if key not in target
    ]
  for key in target.keys() & saved.keys():
    asked = (str(target[key].dtype), list(target[key].shape))
    was = (saved[key]['dtype'], saved[key]['shape'])
    if asked != was:
      differences.append(
        f'{key} is {was[0]}{was[1]}, asked for as {asked[0]}{asked[1]}'
      )
  if differences:
    raise MismatchError(
      'the checkpoint is of another model or version: '
      + '; '.join(sorted(differences)[:8])
      + (f'; and {len(differences) - 8} more' if len(differences) > 8 else '')
    )


def check_leaves(
  manifest: Mapping[str, Any], leaves: Mapping[str, Any]
) -> None:
  """Checks restored leaves against the manifest's digests.

  Raises:
    DamagedError: some differ; their paths are in the message.
  """
  wrong = [
    key
    for key, leaf in leaves.items()
    if describe(distributed.to_host(leaf)) != manifest['leaves'][key]
  ]
  if wrong:
    raise DamagedError(f'wrong bytes in {", ".join(wrong[:4])}')


def _check_finite(key: str, value: np.ndarray) -> None:
  # jax's test, since numpy does not count bfloat16 as a floating type.
  if not jax.numpy.issubdtype(value.dtype, jax.numpy.inexact):
    return
  bad = ~np.isfinite(value)
  if bad.any():
    raise FloatingPointError(
      f'{key} has {int(bad.sum())} of {bad.size} values that are not finite; '
      'the state is not saved, earlier checkpoints stay as they are'
    )


def _digest(body: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
