"""Weights in the formats that others publish: Hugging Face safetensors.

Tensors are read one at a time into the stacked leaf that they belong to, so
that the host never holds more than one leaf besides what it hands to jax.
Every name and shape is checked before the first tensor is read.
"""

from collections.abc import Mapping
import contextlib
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from score_jax.models import config as model_config
from score_jax.models import hugging_face_config, transformer

# Of a layer: our path to (Hugging Face's name, whether it is [out, in]).
_MATRICES = {
  'attention/q': ('self_attn.q_proj.weight', True),
  'attention/k': ('self_attn.k_proj.weight', True),
  'attention/v': ('self_attn.v_proj.weight', True),
  'attention/o': ('self_attn.o_proj.weight', True),
  'mlp/gate': ('mlp.gate_proj.weight', True),
  'mlp/up': ('mlp.up_proj.weight', True),
  'mlp/down': ('mlp.down_proj.weight', True),
  'attention/q_norm/scale': ('self_attn.q_norm.weight', False),
  'attention/k_norm/scale': ('self_attn.k_norm.weight', False),
  'pre_attention_norm/scale': ('input_layernorm.weight', False),
}
_NORMS_GEMMA_1 = {
  'pre_mlp_norm/scale': ('post_attention_layernorm.weight', False),
}
# The same name as in Gemma 1 for another place: before the residual sum.
_NORMS_GEMMA_2_3 = {
  'post_attention_norm/scale': ('post_attention_layernorm.weight', False),
  'pre_mlp_norm/scale': ('pre_feedforward_layernorm.weight', False),
  'post_mlp_norm/scale': ('post_feedforward_layernorm.weight', False),
}
_PREFIXES = ('model.', 'language_model.model.', 'model.language_model.', '')
_VISION = (
  'vision_tower.',
  'multi_modal_projector.',
  'model.vision_tower.',
  'model.multi_modal_projector.',
)
_HEADS = ('lm_head.weight', 'language_model.lm_head.weight')
_DTYPES = ('F32', 'BF16', 'F16')


def load_hugging_face(
  directory: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype=jnp.float32,
  shardings: Any = None,
):
  """Parameters of a Hugging Face checkpoint of Gemma 1, 2 or 3.

  Embedding rows beyond `config.vocab_size` (padding) are cut; tensors of a
  vision tower are not read.

  Args:
    directory: holds `config.json` and `model.safetensors`, or the parts that
      `model.safetensors.index.json` names.
    config: the model; must agree with `config.json`.
    dtype: of the parameters.
    shardings: of each parameter, a tree like them; None: the default device.

  Returns:
    A tree like `transformer.init_params`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the checkpoint is of another model, a tensor is missing, extra
      or of another shape or kind, or the output layer is not tied. The message
      names each.
  """
  hugging_face_config.check(config, directory)
  shapes = jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )
  with contextlib.ExitStack() as stack:
    files = _open(pathlib.Path(directory), stack)
    names = _names(files)
    _check(directory, files, names, config, shapes)

    def read(path, shape, sharding=None):
      leaf = np.empty(shape.shape, dtype)
      sources, transposed = _sources(config, path)
      for i, source in enumerate(sources):
        tensor = files[names[source]].get_tensor(names[source])
        part = leaf if len(shape.shape) == tensor.ndim else leaf[i]
        part[...] = tensor.T if transposed else tensor[: part.shape[0]]
      return jax.device_put(leaf, sharding)

    trees = (shapes,) if shardings is None else (shapes, shardings)
    return jax.tree.map_with_path(read, *trees)


def _open(directory, stack) -> dict[str, Any]:
  """Open files by the name of each tensor in them."""
  index = directory / 'model.safetensors.index.json'
  if index.is_file():
    parts = sorted(set(json.loads(index.read_text())['weight_map'].values()))
  else:
    parts = ['model.safetensors']
  missing = [part for part in parts if not (directory / part).is_file()]
  if missing:
    there = sorted(path.name for path in directory.iterdir())
    raise FileNotFoundError(
      f'{directory} lacks {", ".join(missing)}; there are {", ".join(there)}'
    )
  files = {}
  for part in parts:
    try:
      file = safetensors.safe_open(directory / part, 'numpy')
    except safetensors.SafetensorError as error:
      raise ValueError(
        f'{directory / part} is damaged or cut short ({error}); fetch it again'
      ) from error
    stack.enter_context(file)
    files |= dict.fromkeys(file.keys(), file)
  return files


def _names(files) -> dict[str, str]:
  """Names in the files by their names without the model's prefix."""
  prefix = next(
    (p for p in _PREFIXES if f'{p}embed_tokens.weight' in files), 'model.'
  )
  return {
    name.removeprefix(prefix): name
    for name in files
    if not name.startswith(_VISION)
  }


def _sources(config, path) -> tuple[list[str], bool]:
  """Names of the tensors that make a leaf, in order; whether transposed."""
  first, *rest = (key.key for key in path)
  if first == 'embedding':
    return ['embed_tokens.weight'], False
  if first == 'final_norm':
    return ['norm.weight'], False
  norms = _NORMS_GEMMA_2_3 if config.post_norms else _NORMS_GEMMA_1
  name, transposed = (_MATRICES | norms)['/'.join(rest[1:])]
  period, place = len(config.layer_pattern), int(rest[0])
  in_repeats = config.num_repeats * period
  if first == 'pattern':
    layers = range(place, in_repeats, period)
  else:
    layers = [in_repeats + place]
  return [f'layers.{layer}.{name}' for layer in layers], transposed


def _expected(config, shapes) -> Mapping[str, tuple[int, ...]]:
  """Shape that each tensor has in the files."""
  expected = {}
  for path, leaf in jax.tree.leaves_with_path(shapes):
    sources, transposed = _sources(config, path)
    shape = leaf.shape[1:] if path[0].key == 'pattern' else leaf.shape
    shape = shape[::-1] if transposed else shape
    expected |= dict.fromkeys(sources, shape)
  return expected


def _check(directory, files, names, config, shapes) -> None:
  expected = _expected(config, shapes)
  wrong = []
  for name, shape in expected.items():
    if name not in names:
      wrong.append(f'{name} is missing')
      continue
    part = files[names[name]].get_slice(names[name])
    found = tuple(part.get_shape())
    padded = name == 'embed_tokens.weight' and found[:1] > shape[:1]
    if (found[1:] if padded else found) != (shape[1:] if padded else shape):
      wrong.append(f'{names[name]} is {list(found)}, expected {list(shape)}')
    if part.get_dtype() not in _DTYPES:
      wrong.append(
        f'{names[name]} holds {part.get_dtype()}, expected one of '
        f'{", ".join(_DTYPES)}'
      )
  for name in names.keys() - expected.keys():
    if name not in _HEADS:
      wrong.append(f'{names[name]} is not part of the model')
    elif not _tied(files, names, name):
      wrong.append(
        f'{name} differs from the embedding; only tied outputs are supported'
      )
  if wrong:
    listed = '\n'.join(f'  {line}' for line in sorted(wrong)[:20])
    more = f'\n  and {len(wrong) - 20} more' if len(wrong) > 20 else ''
    raise ValueError(f'{directory} does not fit the model:\n{listed}{more}')


def _tied(files, names, head) -> bool:
  embedding = names.get('embed_tokens.weight')
  if embedding is None:
    return False
  return np.array_equal(
    files[head].get_tensor(head), files[embedding].get_tensor(embedding)
  )
