"""Published checkpoints of each kind: identified, described and read.

| kind           | contents                                   | module         |
|----------------|--------------------------------------------|----------------|
| 'hugging_face' | `config.json` and safetensors              | hugging_face_* |
| 'orbax'        | Google's, as on Kaggle: tensors, no config | orbax_import   |
| 'gguf'         | llama.cpp's: one file, tokenizer included  | gguf_import    |
"""

import difflib
import json
import pathlib
from typing import Any, Literal

import jax.numpy as jnp

from score_jax.interop import (
  gguf_import,
  hugging_face_config,
  hugging_face_weights,
  orbax_import,
)
from score_jax.models import gemma, model_config, tokenization

Kind = Literal['hugging_face', 'orbax', 'gguf']

_ORBAX_FILES = ('_METADATA', 'manifest.ocdbt', 'checkpoint')
_CONFIG = 'config.json'
_TOKENIZER = 'tokenizer.model'
# What a licence wants to be handed on with the weights, as published.
_NOTICES = ('LICENSE*', 'NOTICE*', '*TERMS*')


def identify(path: str | pathlib.Path) -> Kind:
  """Returns the kind of checkpoint at a path, by the names of its files.

  Raises:
    FileNotFoundError: there is neither such a directory nor such a GGUF file.
    ValueError: it holds no checkpoint that can be read. The message lists its
      files, and subdirectories that hold one.
  """
  path = pathlib.Path(path)
  if path.is_file() and path.suffix == gguf_import.SUFFIX:
    return 'gguf'
  if not path.is_dir():
    raise FileNotFoundError(
      f'{path} is not a directory; pass the directory of a checkpoint, or a '
      'GGUF file'
    )
  kind = _kind(path)
  if kind:
    return kind
  if (path / _CONFIG).is_file() and '"settings"' in (
    path / _CONFIG
  ).read_text():
    raise ValueError(
      f'{path} is a run directory, not a checkpoint; export one of its '
      'policies first'
    )
  inside = _inside(path)
  if inside:
    raise ValueError(
      f'{path} holds no checkpoint itself; pass the one in it: '
      f'{" or ".join(str(p) for p in inside)}'
    )
  names = sorted(p.name for p in path.iterdir())
  listed = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
  raise ValueError(
    f'{path} holds neither a Hugging Face checkpoint (config.json, '
    '*.safetensors) nor an Orbax one (_METADATA); it holds '
    f'{listed or "nothing"}'
  )


def inner(path: pathlib.Path) -> pathlib.Path:
  """The only checkpoint inside a directory that is none itself, or else `path`.

  Kaggle's downloads of Orbax checkpoints have it beside `tokenizer.model`.
  """
  inside = [] if _kind(path) else _inside(path)
  return inside[0] if len(inside) == 1 else path


def _inside(path: pathlib.Path) -> list[pathlib.Path]:
  """Directories in `path` that hold a checkpoint."""
  return sorted(p for p in path.iterdir() if p.is_dir() and _kind(p))


def _kind(path: pathlib.Path) -> Kind | None:
  if any((path / name).exists() for name in _ORBAX_FILES):
    return 'orbax'
  config = path / _CONFIG
  if (
    any(path.glob('*.safetensors'))
    or (path / hugging_face_weights.INDEX).exists()
    or (config.is_file() and '"model_type"' in config.read_text())
  ):
    return 'hugging_face'
  return None


def read_config(
  path: str | pathlib.Path,
  name: str | None = None,
  *,
  tokenizer: tokenization.Tokenizer | None = None,
) -> model_config.ModelConfig:
  """Returns the model of a checkpoint.

  Args:
    path: directory of the checkpoint, or GGUF file.
    name: of `gemma.CONFIGS`. Required for an Orbax checkpoint, which does not
      describe its model; a Hugging Face or GGUF one must agree with it.
    tokenizer: the checkpoint's. If the vocabulary is not one of Gemma's,
      embedding rows beyond the tokenizer's pieces count as padding.

  Raises:
    FileNotFoundError: there is no checkpoint, or no `config.json`.
    ValueError: the name is missing, unknown or another model's, or the
      tokenizer is another model's. The message lists what differs.

  Example:
    >>> sj.checkpoint_config('served').num_layers
    1
  """
  kind = identify(path)
  if name is not None:
    config = named_config(name)
    if kind == 'hugging_face':
      hugging_face_config.check(config, path)
    elif kind == 'gguf':
      found = gguf_import.read_config(path, config.vocab_size)
      hugging_face_config.require(config, found, path)
  elif kind == 'orbax':
    raise ValueError(
      f'{path} is an Orbax checkpoint, which does not say what model it is; '
      f'pass its name, one of {", ".join(gemma.CONFIGS)}'
    )
  elif kind == 'gguf':
    pieces = None if tokenizer is None else tokenizer.vocab_size
    config = gguf_import.read_config(path, pieces)
  else:
    config = hugging_face_config.read(path)
    if tokenizer is not None and gemma.special_tokens(config) is None:
      # Fewer rows than pieces are an error, which `check_tokenizer` raises.
      rows = config.vocab_size
      pieces = min(rows, tokenizer.vocab_size)
      config = hugging_face_config.read(path, pieces)
  if tokenizer is not None:
    gemma.check_tokenizer(config, tokenizer)
    if kind == 'hugging_face':
      _check_end_of_turn(pathlib.Path(path), tokenizer)
  return config


def _check_end_of_turn(
  path: pathlib.Path, tokenizer: tokenization.Tokenizer
) -> None:
  """Rejects a tokenizer whose end of turn is not a stop id of the checkpoint.

  Checkpoints that stop at a single id are not instruction-tuned and pass.
  """
  for name in ('generation_config.json', 'config.json'):
    if not (path / name).is_file():
      continue
    stops = json.loads((path / name).read_text()).get('eos_token_id')
    end = tokenizer.piece_id(tokenization.END_OF_TURN)
    if isinstance(stops, list) and len(stops) > 1 and end not in stops:
      raise ValueError(
        f'{tokenizer.path} is not the tokenizer of this checkpoint: '
        f'{tokenization.END_OF_TURN} is {end}, and {path / name} stops at '
        f'{stops}. Pass the tokenizer.model that was published beside it'
      )


def named_config(name: str) -> model_config.ModelConfig:
  """Returns a model of `gemma.CONFIGS`.

  Raises:
    ValueError: the name is unknown.
  """
  if name in gemma.CONFIGS:
    return gemma.CONFIGS[name]
  close = difflib.get_close_matches(name, gemma.CONFIGS, n=1)
  hint = f' (did you mean {close[0]}?)' if close else ''
  raise ValueError(
    f'there is no model {name!r}{hint}; there are {", ".join(gemma.CONFIGS)}'
  )


def find_tokenizer(path: str | pathlib.Path) -> pathlib.Path:
  """Finds `tokenizer.model` in a checkpoint's directory, or beside it.

  Raises:
    FileNotFoundError: it is in neither.
  """
  path = pathlib.Path(path)
  for directory in (path, path.resolve().parent):
    if (directory / _TOKENIZER).is_file():
      return directory / _TOKENIZER
  raise FileNotFoundError(
    f'there is no {_TOKENIZER} in {path} or beside it; pass the tokenizer that '
    'was published with the checkpoint'
  )


def notices(path: str | pathlib.Path) -> list[pathlib.Path]:
  """Files in a checkpoint's directory that its licence wants handed on."""
  path = pathlib.Path(path)
  directory = path if path.is_dir() else path.parent
  return sorted({p for name in _NOTICES for p in directory.glob(name)})


def load(
  path: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype: Any = jnp.float32,
  shardings: Any = None,
) -> Any:
  """Reads the parameters of a checkpoint of any kind.

  Embedding rows beyond `config.vocab_size` are cut; vision towers are not read.
  Tensors are copied straight to their shards: beyond the result, host memory
  stays near one tensor.

  Args:
    path: directory of the checkpoint, or GGUF file.
    config: its model, see `read_config`.
    dtype: of the parameters.
    shardings: of each parameter, a tree like them; None: the default device.

  Returns:
    A tree like `transformer.init_params`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the checkpoint is another model's, or damaged, or not a
      checkpoint. The message names the file or the tensors.

  Example:
    >>> config = sj.checkpoint_config('served')
    >>> params = sj.load_checkpoint('served', config, dtype='bfloat16')
  """
  importers = {
    'hugging_face': hugging_face_weights.load,
    'orbax': orbax_import.load,
    'gguf': gguf_import.load,
  }
  return importers[identify(path)](
    path, config, dtype=dtype, shardings=shardings
  )
