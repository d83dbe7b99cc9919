"""The `config.json` of a Hugging Face Gemma, read.

Both spellings are read: `rope_theta`, `rope_scaling` and
`sliding_window_pattern` of transformers 4, `rope_parameters` and `layer_types`
of transformers 5. What our model cannot do is rejected, never ignored.
"""

from collections.abc import Mapping
import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from score_jax.models import gemma, model_config

# What transformers assumes for settings that a file leaves out; those of the
# larger Gemma 3 leave out most.
_COMMON = {
  'vocab_size': 256_000,
  'head_dim': 256,
  'rms_norm_eps': 1e-6,
  'tie_word_embeddings': True,
  'attention_bias': False,
  'use_bidirectional_attention': None,
  'quantization_config': None,
  'attn_logit_softcapping': None,
  'final_logit_softcapping': None,
  'sliding_window': None,
  'layer_types': None,
  'query_pre_attn_scalar': None,
}
_GEMMA_2_3 = _COMMON | {
  'hidden_size': 2304,
  'intermediate_size': 9216,
  'num_hidden_layers': 26,
  'num_attention_heads': 8,
  'num_key_value_heads': 4,
  'query_pre_attn_scalar': 256,
  'sliding_window': 4096,
}
_DEFAULTS = {
  'gemma': _COMMON
  | {
    'hidden_size': 3072,
    'intermediate_size': 24576,
    'num_hidden_layers': 28,
    'num_attention_heads': 16,
    'num_key_value_heads': 16,
  },
  'gemma2': _GEMMA_2_3
  | {
    'sliding_window_pattern': 2,
    'attn_logit_softcapping': 50.0,
    'final_logit_softcapping': 30.0,
  },
  'gemma3_text': _GEMMA_2_3
  | {'vocab_size': 262_208, 'sliding_window_pattern': 6},
}
_ROPE_BASES = {  # (local, global), for files that leave them out
  'gemma': (10_000.0, 10_000.0),
  'gemma2': (10_000.0, 10_000.0),
  'gemma3_text': (10_000.0, 1_000_000.0),
}
_WITH_VISION = 'gemma3'
_KINDS = {'sliding_attention': 'local', 'full_attention': 'global'}
# Vocabulary by the number of embedding rows, where checkpoints pad it.
_PADDED = {
  256_128: gemma.GEMMA_1_2_TOKENS.vocab_size,
  262_208: gemma.GEMMA_3_TOKENS.vocab_size,
}


def read(
  directory: str | pathlib.Path, vocab_size: int | None = None
) -> model_config.ModelConfig:
  """Reads the model from a directory's `config.json`.

  Args:
    directory: of the checkpoint.
    vocab_size: pieces of its tokenizer; None: the file's number of embedding
      rows, less Gemma's known padding.

  Raises:
    FileNotFoundError: there is no `config.json`.
    ValueError: the model is not Gemma 1, 2 or 3, or uses something that is not
      supported.
  """
  path = _config_file(directory)
  return parse(path, _read_json(path), vocab_size)


def parse(
  path: pathlib.Path,
  file: Mapping[str, Any],
  vocab_size: int | None = None,
) -> model_config.ModelConfig:
  """Returns the model that the contents of a `config.json` describe.

  Args:
    path: of the file, for errors.
    file: its contents.
    vocab_size: as for `read`.

  Raises:
    ValueError: as `read`.
  """
  family, settings = _settings(path, file)
  _reject_unsupported(path, family, settings)
  kinds = _layer_kinds(path, family, settings)
  (local_base, local_scale), (base, scale) = _ropes(path, family, settings)
  if local_scale != 1 and 'local' in kinds:
    raise ValueError(f'{path}: RoPE scaling of sliding layers is not supported')
  rows = settings['vocab_size']
  scalar = settings['query_pre_attn_scalar']
  return model_config.ModelConfig(
    vocab_size=vocab_size or _PADDED.get(rows, rows),
    width=settings['hidden_size'],
    num_layers=settings['num_hidden_layers'],
    num_heads=settings['num_attention_heads'],
    num_kv_heads=settings['num_key_value_heads'],
    head_dim=settings['head_dim'],
    mlp_width=settings['intermediate_size'],
    layer_pattern=_pattern(kinds),
    window=settings['sliding_window'] if 'local' in kinds else None,
    query_scale=None if scalar is None else scalar**-0.5,
    qk_norm=family == 'gemma3_text',
    post_norms=family != 'gemma',
    norm_epsilon=settings['rms_norm_eps'],
    attention_softcap=settings['attn_logit_softcapping'],
    final_softcap=settings['final_logit_softcapping'],
    local_rope_base=local_base,
    global_rope_base=base,
    global_rope_scale=scale,
    round_embedding_scale=True,
  )


def embedding_rows(directory: str | pathlib.Path) -> int:
  """Returns the embedding's rows, padding included, from `config.json`.

  Raises:
    FileNotFoundError, ValueError: as `read`.
  """
  path = _config_file(directory)
  _, settings = _settings(path, _read_json(path))
  return settings['vocab_size']


def has_vision(directory: str | pathlib.Path) -> bool:
  """Whether `config.json` describes a vision tower, whose weights we skip."""
  return _read_json(_config_file(directory)).get('model_type') == _WITH_VISION


def check(
  config: model_config.ModelConfig, directory: str | pathlib.Path
) -> None:
  """Rejects a directory of another model than `config`; see `require`.

  Raises:
    FileNotFoundError, ValueError: as `read` and `require`.
  """
  found = read(directory, config.vocab_size)
  require(config, found, pathlib.Path(directory) / 'config.json')


def require(
  config: model_config.ModelConfig,
  found: model_config.ModelConfig,
  path: str | pathlib.Path,
) -> None:
  """Rejects a model `found` in the file `path` that is another than `config`.

  Ignored are how a pattern of layers is written, the RoPE base of a layer kind
  that does not occur, and how the embedding scale is rounded (a choice, not
  part of a checkpoint).

  Raises:
    ValueError: something differs; the message lists it line by line.
  """
  wanted, given = _essence(config), _essence(found)
  lines = [
    f'  {name}: {given[name]} in the checkpoint, {wanted[name]} in the model'
    for name in wanted
    if name in given and wanted[name] != given[name]
  ]
  if lines:
    raise ValueError(f'{path} describes another model:\n' + '\n'.join(lines))


def _config_file(directory: str | pathlib.Path) -> pathlib.Path:
  path = pathlib.Path(directory) / 'config.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'no config.json in {directory}; is it a Hugging Face checkpoint?'
    )
  return path


def _essence(config: model_config.ModelConfig) -> dict[str, Any]:
  """The fields that `check` compares, defaults resolved."""
  fields = dataclasses.asdict(config)
  fields['layer_pattern'] = config.layer_kinds
  fields['query_scale'] = config.query_scale or config.head_dim**-0.5
  # Files that were converted often write out the float32 next to 1e-6.
  fields['norm_epsilon'] = float(np.float32(config.norm_epsilon))
  del fields['round_embedding_scale']
  if 'local' not in config.layer_kinds:
    del fields['window'], fields['local_rope_base']
  if 'global' not in config.layer_kinds:
    del fields['global_rope_base'], fields['global_rope_scale']
  return fields


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error


def _settings(
  path: pathlib.Path, file: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
  family = file.get('model_type')
  if family == _WITH_VISION:  # its text model is meant
    file = file.get('text_config', {})
    family = 'gemma3_text'
  if family not in _DEFAULTS:
    raise ValueError(
      f'{path}: model_type {family!r} is not one of {sorted(_DEFAULTS)}; only '
      'Gemma 1, 2 and 3 can be read'
    )
  return family, _DEFAULTS[family] | dict(file)


def _reject_unsupported(path, family, settings: Mapping[str, Any]) -> None:
  activation = settings.get('hidden_activation') or settings.get(
    'hidden_act', 'gelu_pytorch_tanh'
  )
  # Gemma 1's first files say 'gelu' and mean the tanh approximation.
  activations = ('gelu_pytorch_tanh',) + (
    ('gelu',) if family == 'gemma' else ()
  )
  supported = {
    'hidden_activation': (activation, activations),
    'tie_word_embeddings': (settings['tie_word_embeddings'], (True,)),
    'attention_bias': (settings['attention_bias'], (False,)),
    'use_bidirectional_attention': (
      settings['use_bidirectional_attention'],
      (False, None),
    ),
    'quantization_config': (settings['quantization_config'], (None,)),
  }
  for name, (value, values) in supported.items():
    if value not in values:
      raise ValueError(
        f'{path}: {name} is {value!r}; only {values[0]!r} is supported'
      )
  epsilon = settings['rms_norm_eps']
  if not (isinstance(epsilon, float) and 0 < epsilon < 1):
    raise ValueError(
      f'{path}: rms_norm_eps is {epsilon!r}; it must be a number in (0, 1)'
    )


def _layer_kinds(path, family, settings) -> tuple[model_config.LayerKind, ...]:
  layers = settings['num_hidden_layers']
  if family == 'gemma':
    return ('global',) * layers
  types = settings['layer_types']
  if types is None:
    period = settings['sliding_window_pattern']
    types = [
      'full_attention' if (i + 1) % period == 0 else 'sliding_attention'
      for i in range(layers)
    ]
  if len(types) != layers or not set(types) <= set(_KINDS):
    raise ValueError(
      f'{path}: layer_types must name {layers} layers, each one of '
      f'{sorted(_KINDS)}; it is {types}'
    )
  return tuple(_KINDS[name] for name in types)


def _pattern(kinds) -> tuple[model_config.LayerKind, ...]:
  """The shortest pattern whose repetition, cut at the end, gives `kinds`."""
  for period in range(1, len(kinds) + 1):
    if all(kind == kinds[i % period] for i, kind in enumerate(kinds)):
      return kinds[:period]
  raise ValueError('a model needs at least one layer')


def _ropes(path, family, settings) -> list[tuple[float, float]]:
  """(base, position divisor) of local and of global layers."""
  names = ('sliding_attention', 'full_attention')
  parameters = settings.get('rope_parameters')
  if parameters is None:
    scaling = settings.get('rope_scaling') or {}
    spelt = {'full_attention': ('rope_theta', scaling)}
    spelt['sliding_attention'] = ('rope_local_base_freq', {})
    if family != 'gemma3_text':
      spelt['sliding_attention'] = spelt['full_attention']
    parameters = {
      kind: scaling | {'rope_theta': settings[base]}
      if base in settings
      else scaling
      for kind, (base, scaling) in spelt.items()
    }
  elif not set(parameters) & set(names):  # one for all layers
    parameters = dict.fromkeys(names, parameters)
  ropes = []
  for kind, base in zip(names, _ROPE_BASES[family]):
    rope = parameters.get(kind) or {}
    form = rope.get('rope_type', rope.get('type', 'default'))
    if form not in ('default', 'linear'):
      raise ValueError(
        f"{path}: rope_type {form!r}; only 'default' and 'linear' are supported"
      )
    scale = float(rope.get('factor', 1.0)) if form == 'linear' else 1.0
    ropes.append((float(rope.get('rope_theta', base)), scale))
  return ropes
