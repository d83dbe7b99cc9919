"""Transformer and tokenizer of a run: a published checkpoint's or its own.

With `--init-from` the base policy is that checkpoint, downloaded if it is a
name. Its small files (config.json, tokenizer.model, ...) are copied into the
run directory, so that the run can be read without it; its weights are not.
"""

import dataclasses
import hashlib
import pathlib
import shutil
from typing import Any

import jax.numpy as jnp

from experiments import methods
from experiments.config import groups, schema
from experiments.run import run_directory
from score_jax import distributed, types
from score_jax.interop import checkpoint_formats, hub
from score_jax.io import json_files
from score_jax.models import chat, gemma, model_config, tokenization

_SMALL = ('*.json', '*.jinja')
_TOKENIZER_PROBLEMS = 300
_TOKENIZER_PIECES = 300


def resolve(
  settings: schema.Settings, directory: run_directory.RunDirectory
) -> schema.Settings:
  """The settings with --chat-style=auto resolved by the checkpoint. Collective.

  Raises:
    RunError: --init-from is not to be had, or missing where it is needed.
  """
  if settings.model.name and settings.init_from is None:
    raise run_directory.RunError(
      f'--model.name={settings.model.name} is a published model: pass its '
      'checkpoint with --init-from=PATH'
    )
  style = settings.chat_style
  if style == 'auto':
    style = _chat_style(settings, directory)
  return dataclasses.replace(settings, chat_style=style)


def _chat_style(settings, directory) -> str:
  if settings.init_from is None:
    return 'plain'
  source = directory.pretrained
  if not distributed.agree(source.exists()):
    source = _source(settings)
  is_tuned = distributed.by_first(lambda: has_template(source))
  return 'gemma' if is_tuned else 'plain'


def load(
  settings: schema.Settings,
  task: types.Task | None,
  directory: run_directory.RunDirectory,
) -> tuple[model_config.ModelConfig, chat.ChatFormat]:
  """Model and chat format of a run; copies or trains its tokenizer if needed.

  Args:
    settings: the run's.
    task: its task; None where the run has a tokenizer and samples nothing.
    directory: the run's.

  Raises:
    RunError: the checkpoint, its configuration or its tokenizer is missing or
      does not fit.
  """
  settings = resolve(settings, directory)
  if settings.init_from is None:
    return _from_scratch(settings, task, directory)
  try:
    if not distributed.agree(directory.tokenizer.exists()):
      source = _source(settings)
      distributed.by_first(
        lambda: _copy_small_files(settings, source, directory)
      )
    directory.share()
    tokenizer = tokenization.Tokenizer(directory.tokenizer)
    config = _config(settings, directory, tokenizer)
    return config, _chat_format(settings, task, tokenizer)
  except (OSError, ValueError) as error:
    raise run_directory.RunError(
      f'{error} (see --init-from, --model.name, --tokenizer, --chat-style)'
    ) from error


def import_weights(
  settings: schema.Settings,
  config: model_config.ModelConfig,
  *,
  dtype=jnp.float32,
  shardings: Any = None,
) -> Any:
  """Parameters of the checkpoint that the run starts from. Collective.

  Raises:
    RunError: it is not to be had, is damaged, or is of another model.
  """
  try:
    return checkpoint_formats.load(
      _source(settings), config, dtype=dtype, shardings=shardings
    )
  except (OSError, ValueError) as error:
    raise run_directory.RunError(str(error)) from error


def fingerprint(directory: pathlib.Path) -> str:
  """Digest of a checkpoint: names, sizes and first 64 KiB of its larger files.

  Not of all their bytes, which may be many gigabytes.
  """
  total = hashlib.sha256()
  for path in sorted(directory.rglob('*')):
    if path.is_file() and not path.match('*.json'):
      total.update(str(path.relative_to(directory)).encode())
      total.update(str(path.stat().st_size).encode())
      with path.open('rb') as file:
        total.update(file.read(2**16))
  return total.hexdigest()[:16]


def note_source(
  settings: schema.Settings, directory: run_directory.RunDirectory
) -> None:
  """Notes the checkpoint of the base policy, or checks that it is the same.

  Collective.

  Raises:
    RunError: --init-from holds another checkpoint than the run began with.
  """
  source = _source(settings)
  # A branch may move on: the revision is noted as well.
  name = hub.pinned(settings.init_from)
  distributed.by_first(lambda: _note_source(name, source, directory))


def _note_source(name, source, directory) -> None:
  found, base = fingerprint(source), directory.stage(methods.BASE)
  if not base.source.exists():
    record = {'init_from': name, 'fingerprint': found}
    base.written.replace_json(base.source, record)
    return
  noted = json_files.read_json(base.source)
  if not isinstance(noted, dict) or 'fingerprint' not in noted:
    raise run_directory.RunError(f'{base.source} is damaged; restore it')
  if noted['fingerprint'] != found:
    raise run_directory.RunError(
      f'--init-from={name} is another checkpoint than the one '
      f'that {directory} began with ({noted["init_from"]}); pass that '
      'one, or start another run with --run-dir=DIR'
    )


def _source(settings: schema.Settings) -> pathlib.Path:
  """Directory of --init-from, downloaded if need be. Collective."""
  try:
    return hub.fetch(settings.init_from)
  except hub.HubError as error:
    raise run_directory.RunError(f'--init-from={error}') from error


def has_template(directory: pathlib.Path) -> bool:
  """Whether a checkpoint comes with a chat template, as tuned ones do."""
  if any(directory.glob('chat_template.*')):
    return True
  path = directory / 'tokenizer_config.json'
  return path.is_file() and '"chat_template"' in path.read_text()


def _copy_small_files(settings, source, directory) -> None:
  directory.pretrained.mkdir(exist_ok=True)
  for pattern in _SMALL:
    for path in source.glob(pattern):
      if not path.name.endswith('.index.json'):
        _copy(path, directory.pretrained / path.name, directory)
  for path in checkpoint_formats.notices(source):
    _copy(path, directory.pretrained / path.name, directory)
  # Last: a run that has its tokenizer has everything.
  tokenizer = settings.tokenizer or checkpoint_formats.find_tokenizer(source)
  _copy(tokenizer, directory.tokenizer, directory)


def _copy(source, path, directory) -> None:
  temporary = path.with_name(f'.{path.name}.tmp')
  shutil.copy(source, temporary)
  _put(temporary, path, directory)


def _put(
  made: pathlib.Path, path: pathlib.Path, directory: run_directory.RunDirectory
) -> None:
  """Gives a file that was copied or made its name in the run.

  Raises:
    RunError: the run began with another one, which is missing.
  """
  if not directory.written.accepts(path, made.read_bytes()):
    made.unlink()
    raise run_directory.RunError(
      f'{path} is missing, and what is made in its place now is not the same; '
      'restore it, or start another run with --run-dir=DIR'
    )
  directory.written.vouch(path, made)
  made.replace(path)


def _config(settings, directory, tokenizer) -> model_config.ModelConfig:
  """Configuration of the checkpoint, from its config.json or --model.name."""
  name = settings.model.name
  if (directory.pretrained / 'config.json').is_file():
    there = pathlib.Path(settings.init_from)
    # An error names the user's own file where it still exists.
    path = there if there.is_dir() else directory.pretrained
    try:
      return checkpoint_formats.read_config(path, name, tokenizer=tokenizer)
    except ValueError as error:
      if name is None:
        raise
      raise ValueError(
        f'{error}\nThe model is {name}, as --model.name or the preset says; '
        'pass its checkpoint, or --model.name=None for what is there'
      ) from error
  if name is None:
    # Raises, with the reason and what to do.
    return checkpoint_formats.read_config(_source(settings))
  config = checkpoint_formats.named_config(name)
  gemma.check_tokenizer(config, tokenizer)
  return config


def _from_scratch(settings, task, directory):
  distributed.by_first(lambda: _make_tokenizer(task, directory))
  directory.share()
  try:
    tokenizer = tokenization.Tokenizer(directory.tokenizer)
  except ValueError as error:
    raise run_directory.RunError(str(error)) from error
  config = own_config(settings.model, tokenizer.vocab_size)
  return config, _chat_format(settings, task, tokenizer)


def _chat_format(settings, task, tokenizer) -> chat.ChatFormat:
  stop_texts = () if task is None else tuple(task.stop_texts)
  return chat.ChatFormat(tokenizer, settings.chat_style, stop_texts)


def own_config(
  model: groups.Model, vocab_size: int
) -> model_config.ModelConfig:
  """The transformer of a run that makes its own."""
  return model_config.ModelConfig(
    vocab_size=vocab_size,
    width=model.width,
    num_layers=model.layers,
    num_heads=model.heads,
    num_kv_heads=model.kv_heads,
    head_dim=model.head_dim,
    mlp_width=model.ffw,
    global_rope_base=model.rope_base,
  )


def _make_tokenizer(
  task: types.Task, directory: run_directory.RunDirectory
) -> None:
  path = directory.tokenizer
  if path.exists():
    return
  texts = (
    f'{task.prompt(problem)}\n{problem.reference}\n{task.instruction}'
    for problem in task.train[:_TOKENIZER_PROBLEMS]
  )
  # Sentencepiece learns from lines.
  lines = [line for text in texts for line in text.splitlines()]
  # A killed run must not leave half a tokenizer under the final name.
  temporary = path.with_name(f'.{path.name}.tmp')
  tokenization.train(lines, temporary, _TOKENIZER_PIECES)
  _put(temporary, path, directory)
