"""Checkpoints that others publish: which kind one is, its model, its weights.

| kind           | what it is                                 | module         |
|----------------|--------------------------------------------|----------------|
| 'hugging_face' | `config.json` and safetensors              | hugging_face_* |
| 'orbax'        | Google's, as on Kaggle: tensors, no config | orbax_import   |
"""

import difflib
import json
import pathlib
from typing import Any, Literal

import jax.numpy as jnp

from score_jax.interop import (
  hugging_face_config,
  hugging_face_import,
  orbax_import,
)
from score_jax.models import gemma, model_config, tokenization

Kind = Literal['hugging_face', 'orbax']

_ORBAX_FILES = ('_METADATA', 'manifest.ocdbt', 'checkpoint')
_CONFIG = 'config.json'
_TOKENIZER = 'tokenizer.model'


def identify(path: str | pathlib.Path) -> Kind:
  """The kind of checkpoint that a directory holds, by its files' names.

  Raises:
    FileNotFoundError: there is no such directory.
    ValueError: it holds no checkpoint that can be read. The message says what
      is there, and whether a directory in it holds one.
  """
  path = pathlib.Path(path)
  if not path.is_dir():
    raise FileNotFoundError(
      f'{path} is no directory; pass the directory of a checkpoint'
    )
  kind = _kind(path)
  if kind:
    return kind
  if (path / _CONFIG).is_file() and '"settings"' in (
    path / _CONFIG
  ).read_text():
    raise ValueError(
      f'{path} is a run directory; make a checkpoint of one of its policies '
      f'first: python -m experiments.convert --from={path} --to=DIR'
    )
  inside = sorted(p for p in path.iterdir() if p.is_dir() and _kind(p))
  if inside:
    raise ValueError(
      f'{path} holds no checkpoint itself; pass the one in it: '
      f'{" or ".join(str(p) for p in inside)}'
    )
  there = sorted(p.name for p in path.iterdir())
  listed = ', '.join(there[:5]) + (', ...' if len(there) > 5 else '')
  raise ValueError(
    f'{path} holds neither a Hugging Face checkpoint (config.json, '
    '*.safetensors) nor an Orbax one (_METADATA); it holds '
    f'{listed or "nothing"}'
  )


def _kind(path: pathlib.Path) -> Kind | None:
  if any((path / name).exists() for name in _ORBAX_FILES):
    return 'orbax'
  config = path / _CONFIG
  if (
    any(path.glob('*.safetensors'))
    or (path / hugging_face_import.INDEX).exists()
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
  """The model of a checkpoint.

  Args:
    path: of the checkpoint.
    name: of `gemma.CONFIGS`. A Hugging Face `config.json` must agree with it;
      an Orbax checkpoint, which does not say what it is, needs it.
    tokenizer: the checkpoint's; a wrong one is refused, and where the
      vocabulary is no Gemma's, embedding rows beyond its pieces are padding.

  Raises:
    FileNotFoundError: there is no checkpoint, or no `config.json`.
    ValueError: no name where one is needed, a name that does not exist or is
      another model's, or another model's tokenizer. The message says what to
      do, or lists what differs.
  """
  kind = identify(path)
  if name is not None:
    config = named_config(name)
    if kind == 'hugging_face':
      hugging_face_config.check(config, path)
  elif kind == 'orbax':
    raise ValueError(
      f'{path} is an Orbax checkpoint, which does not say what model it is; '
      'name it (--model.name; of experiments.convert, --model): '
      f'{", ".join(gemma.CONFIGS)}'
    )
  else:
    config = hugging_face_config.read(path)
    if tokenizer is not None and gemma.special_tokens(config) is None:
      # Rows without a piece; fewer rows than pieces are refused below.
      rows = config.vocab_size
      pieces = min(rows, tokenizer.vocab_size)
      config = hugging_face_config.read(path, pieces)
  if tokenizer is not None:
    gemma.check_tokenizer(config, tokenizer)
    _check_end_of_turn(pathlib.Path(path), tokenizer)
  return config


def _check_end_of_turn(
  path: pathlib.Path, tokenizer: tokenization.Tokenizer
) -> None:
  """Refuses a tokenizer whose turns end otherwise than the checkpoint's.

  Raises:
    ValueError: the checkpoint stops at several ids, as tuned ones do, and the
      tokenizer's end of turn is none of them.
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
  """A model of `gemma.CONFIGS`.

  Raises:
    ValueError: there is none of that name.
  """
  if name in gemma.CONFIGS:
    return gemma.CONFIGS[name]
  close = difflib.get_close_matches(name, gemma.CONFIGS, n=1)
  hint = f' (did you mean {close[0]}?)' if close else ''
  raise ValueError(
    f'there is no model {name!r}{hint}; there are {", ".join(gemma.CONFIGS)}'
  )


def find_tokenizer(path: str | pathlib.Path) -> pathlib.Path:
  """The `tokenizer.model` in a checkpoint's directory, or beside it.

  Raises:
    FileNotFoundError: there is none.
  """
  path = pathlib.Path(path)
  for directory in (path, path.resolve().parent):
    if (directory / _TOKENIZER).is_file():
      return directory / _TOKENIZER
  raise FileNotFoundError(
    f'there is no {_TOKENIZER} in {path} or beside it; pass the one that was '
    'published with the checkpoint (--tokenizer=PATH)'
  )


def load(
  path: str | pathlib.Path,
  config: model_config.ModelConfig,
  *,
  dtype: Any = jnp.float32,
  shardings: Any = None,
) -> Any:
  """Parameters of a checkpoint of either kind.

  Embedding rows beyond `config.vocab_size` are cut, vision towers left out.
  Tensors go straight to their shards: beyond the result, host memory stays
  near one tensor.

  Args:
    path: directory of the checkpoint.
    config: its model, see `read_config`.
    dtype: of the parameters.
    shardings: of each parameter, a tree like them; None: the default device.

  Returns:
    A tree like `transformer.init_params`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: the checkpoint is of another model, damaged, or no checkpoint.
      The message names the file or the tensors.
  """
  importers = {
    'hugging_face': hugging_face_import.load,
    'orbax': orbax_import.load,
  }
  return importers[identify(path)](
    path, config, dtype=dtype, shardings=shardings
  )
