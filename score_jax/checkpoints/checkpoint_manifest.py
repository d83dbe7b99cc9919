"""The manifest of a checkpoint, by which a wrong byte is detected.

Orbax restores an array with a flipped bit, and casts to another dtype, without
an error. So each checkpoint carries dtype, shape and checksum of every leaf
(checksums.py), and a SHA-256 of the manifest itself.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
from typing import Any

import jax

from score_jax.checkpoints import checksums

# Of the manifest; a checkpoint of another format is rejected.
FORMAT = 3


class MismatchError(ValueError):
  """An intact checkpoint of other leaves, shapes or dtypes than asked for."""


class DamagedError(RuntimeError):
  """A checkpoint whose bytes are not those that were saved."""


# Of a checkpoint that cannot be restored as asked.
ERRORS = (DamagedError, MismatchError)


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


def make(
  leaves: Mapping[str, Any],
  metadata: Mapping[str, Any],
  score: float | None,
) -> dict[str, Any]:
  """The manifest of a state. Collective.

  Args:
    leaves: arrays by path.
    metadata: the caller's, as JSON can hold it.
    score: the higher the better, or None.

  Raises:
    FloatingPointError: a leaf is not finite; its path is in the message.
  """
  sums = checksums.add_up(
    {key: checksums.of_array(leaf) for key, leaf in leaves.items()}
  )
  for key, leaf in leaves.items():
    if sums[key].not_finite:
      raise FloatingPointError(
        f'{key} has {sums[key].not_finite} of {leaf.size} values that are not '
        'finite; the state is not saved, earlier checkpoints stay as they are'
      )
  body = {
    'format': FORMAT,
    'leaves': {
      key: {
        'dtype': str(leaf.dtype),
        'shape': list(leaf.shape),
        'checksum': sums[key].text,
      }
      for key, leaf in leaves.items()
    },
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


def check_parts(
  manifest: Mapping[str, Any], parts: Mapping[str, Sequence[checksums.Part]]
) -> None:
  """Checks what was read against the manifest's checksums. Collective.

  Args:
    manifest: of the checkpoint.
    parts: by leaf, those of this process's own shards.

  Raises:
    DamagedError: some differ; their paths are in the message.
  """
  wrong = [
    key
    for key, total in checksums.add_up(parts).items()
    if total.text != manifest['leaves'][key]['checksum']
  ]
  if wrong:
    raise DamagedError(f'wrong bytes in {", ".join(wrong[:4])}')


def _digest(body: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
