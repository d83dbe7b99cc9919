"""Converts a checkpoint or a policy of a run to a Hugging Face directory.

    python -m experiments.convert --from=runs/tiny --to=served --verify

--from is a run directory (--policy selects one of its policies), a Hugging Face
directory, an Orbax checkpoint as on Kaggle (--model names its model), a GGUF
file, whose quantized weights become the numbers that they stand for, or a name
that is downloaded, hf:OWNER/MODEL or kaggle:OWNER/MODEL/FRAMEWORK/VARIATION.
The result loads in transformers and vLLM. Only the CPU and host memory are
used.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import shutil
import sys
import tempfile
from typing import Annotated, Any, Literal

from etils import epath
import jax
import jax.numpy as jnp
from rich import console as rich_console
from rich import filesize
import tyro

from experiments.config import command_line, fields, groups
from experiments.run import (
  base_model,
  context,
  damage,
  layouts,
  policies,
  run_directory,
)
from score_jax.interop import (
  checkpoint_formats,
  export_check,
  gguf_import,
  hub,
  hugging_face_config,
  hugging_face_export,
  param_builder,
)
from score_jax.io import buckets
from score_jax.models import chat, lora, model_config, tokenization

_TITLES = {'hugging_face': 'Hugging Face', 'orbax': 'Orbax', 'gguf': 'GGUF'}


@dataclasses.dataclass(frozen=True)
class Options:
  """The source and target of the conversion."""

  source: Annotated[str, tyro.conf.arg(name='from')]
  """Run directory, Hugging Face directory, Orbax checkpoint, GGUF file, or a
  name or URL of a run or checkpoint that is downloaded."""
  target: Annotated[str, tyro.conf.arg(name='to')]
  """Directory to create, or its URL (gs://, s3://)."""
  policy: str | None = None
  """For a run: base or a stage (stage1, stage2); None: the last finished."""
  init_from: str | None = None
  """For a run: path or name of the checkpoint that it began with, if that has
  moved. Its base policy and its adapters need it."""
  model: str | None = None
  """Name of the model, such as gemma-2-2b; an Orbax checkpoint needs it."""
  tokenizer: str | None = None
  """Its tokenizer.model; None: in the checkpoint's directory or beside it, or
  in the GGUF file."""
  chat_style: Literal['auto', 'gemma', 'plain'] = 'auto'
  """Format of messages: gemma for instruction-tuned models, plain for base
  ones; auto: the run's, or gemma where the checkpoint has a chat template."""
  dtype: Literal['bfloat16', 'float32'] = 'bfloat16'
  """Dtype of the weights written."""
  max_file_gb: float = 5.0
  """Most weights in one file, in 10**9 bytes."""
  verify: bool = False
  """Read the result back and compare every tensor; where transformers is
  installed, compare logits too."""


@dataclasses.dataclass(frozen=True)
class Source:
  """A policy to export.

  Attributes:
    title: a description for people.
    config: the model.
    params: its parameters.
    chat_format: its tokenizer and chat template.
    padded_vocab: rows of its checkpoint's embedding table; None: unknown.
    notices: files that must accompany its weights.
  """

  title: str
  config: model_config.ModelConfig
  params: Any
  chat_format: chat.ChatFormat
  padded_vocab: int | None
  notices: Sequence[pathlib.Path]

  @property
  def num_params(self) -> int:
    """Number of parameters."""
    shapes = param_builder.param_shapes(self.config)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def main(arguments: Sequence[str] | None = None) -> int:
  """Converts, reports, returns the exit code."""
  options = command_line.parse(
    Options,
    arguments,
    program='experiments.convert',
    document=__doc__,
  )
  # Accelerators may be in use, or too small for weights that are not sharded.
  jax.config.update('jax_platforms', 'cpu')
  console = rich_console.Console(highlight=False, soft_wrap=True, markup=False)
  try:
    return convert(options, console)
  except (hub.HubError, OSError, ValueError, run_directory.RunError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('stopped; nothing half-written is left', file=sys.stderr)
    return 130


def convert(options: Options, console: rich_console.Console) -> int:
  """Reads, exports and, if asked to, verifies; returns the exit code.

  Raises:
    HubError, OSError, ValueError, RunError: the source cannot be read, or the
      target not be written.
  """
  if epath.Path(options.target).exists():
    raise FileExistsError(
      f'--to={options.target} already exists; remove it, or choose another '
      'directory'
    )
  with tempfile.TemporaryDirectory(prefix='score_jax_convert_') as scratch:
    with console.status(f'Reading {options.source}'):
      source = read(options, pathlib.Path(scratch))
    console.print(f'read     {source.title}\n         {_describe(source)}')
    with buckets.written(options.target) as target:
      is_right = _write(options, target, source, console)
  if not is_right:
    print(f'error: {options.target} differs from its source', file=sys.stderr)
    return 1
  _say_how_to_use(console, options.target, source.chat_format.style)
  return 0


def _write(
  options: Options,
  target: pathlib.Path,
  source: Source,
  console: rich_console.Console,
) -> bool:
  """Exports to a directory; whether it reads back right, if that is asked."""
  dtype = jnp.dtype(options.dtype)
  _check_space(target, source.num_params * dtype.itemsize)
  with console.status(f'Writing {options.target}'):
    hugging_face_export.export(
      target,
      source.config,
      source.params,
      tokenizer_path=source.chat_format.tokenizer.path,
      chat_style=source.chat_format.style,
      padded_vocab=source.padded_vocab,
      dtype=dtype,
      max_file_bytes=round(options.max_file_gb * 1e9),
      notices=source.notices,
    )
  _report(console, options, target, source)
  return not options.verify or _verify(console, target, source, dtype)


def read(options: Options, scratch: pathlib.Path) -> Source:
  """Reads the policy that the flags select.

  Args:
    options: the flags.
    scratch: directory for a tokenizer that has no file of its own.

  Raises:
    HubError, OSError, ValueError, RunError: it does not exist, or cannot be
      read.
  """
  if buckets.is_url(options.source) or not hub.is_name(options.source):
    directory = run_directory.RunDirectory.existing(options.source)
    if _is_run(directory):
      return read_run(directory, options)
  path = pathlib.Path(options.source)
  if hub.is_name(options.source):
    path = hub.fetch(options.source)
  for flag in ('policy', 'init_from'):
    value = getattr(options, flag)
    if value is not None:
      raise ValueError(
        f'{fields.flag(flag)}={value} is for run directories, and {path} '
        'is none'
      )
  return read_checkpoint(path, options, scratch)


def read_checkpoint(
  path: pathlib.Path, options: Options, scratch: pathlib.Path
) -> Source:
  """Reads a published checkpoint."""
  kind = checkpoint_formats.identify(path)
  if kind == 'orbax' and options.model is None:
    raise ValueError(
      f'{path} is an Orbax checkpoint, which does not say what model it is; '
      'name it, as in --model=gemma-2-2b'
    )
  tokenizer = tokenization.Tokenizer(
    options.tokenizer or _find_tokenizer(path, kind, scratch)
  )
  config = checkpoint_formats.read_config(
    path, options.model, tokenizer=tokenizer
  )
  style = options.chat_style
  if style == 'auto':
    if kind == 'orbax':
      raise ValueError(
        f'{path} does not say whether it is instruction-tuned; pass '
        '--chat-style=gemma if it is, --chat-style=plain if not'
      )
    has_template = (
      gguf_import.has_template if kind == 'gguf' else base_model.has_template
    )
    style = 'gemma' if has_template(path) else 'plain'
  title, padded_vocab = f'{_TITLES[kind]} checkpoint {path}', None
  if kind == 'hugging_face':
    padded_vocab = hugging_face_config.embedding_rows(path)
    if hugging_face_config.has_vision(path):
      title += ' (its text model; the vision tower is left out)'
  return Source(
    title,
    config,
    checkpoint_formats.load(path, config, dtype=jnp.dtype(options.dtype)),
    chat.ChatFormat(tokenizer, style),
    padded_vocab,
    checkpoint_formats.notices(path),
  )


def _find_tokenizer(
  path: pathlib.Path, kind: checkpoint_formats.Kind, scratch: pathlib.Path
) -> pathlib.Path:
  if kind == 'gguf':
    return gguf_import.write_tokenizer(path, scratch / 'tokenizer.model')
  try:
    return checkpoint_formats.find_tokenizer(path)
  except FileNotFoundError as error:
    raise FileNotFoundError(f'{error} (--tokenizer=PATH)') from error


def _is_run(directory: run_directory.RunDirectory) -> bool:
  config = directory.config
  return directory.written.has(config) or (
    config.is_file() and '"settings"' in config.read_text(errors='replace')
  )


def read_run(directory: run_directory.RunDirectory, options: Options) -> Source:
  """Reads a policy of a run; needs neither its data nor its graders."""
  settings = directory.read_settings()
  if not directory.tokenizer.exists():
    raise run_directory.RunError(
      f'there is no {directory.shown(directory.tokenizer)}, hence no policy'
    )
  damage.check(directory)
  name = policies.choose_finished(directory, options.policy)
  settings = dataclasses.replace(
    settings,
    # One process with one device, whatever the policy was trained on.
    mesh=groups.Mesh(fsdp=1),
    init_from=options.init_from or settings.init_from,
    reference_dtype=options.dtype,
  )
  if options.init_from is not None:
    base_model.note_source(settings, directory)
  config, chat_format = base_model.load(settings, None, directory)
  run = context.StoredRun(
    settings,
    directory,
    config,
    chat_format,
    layouts.make(settings, config),
  )
  if options.chat_style != 'auto':
    chat_format = dataclasses.replace(chat_format, style=options.chat_style)
  has_config = (directory.pretrained / 'config.json').is_file()
  return Source(
    f'policy {name} of run {directory}',
    config,
    _merge(policies.stage_policy(run, name), options.dtype),
    chat_format,
    hugging_face_config.embedding_rows(directory.pretrained)
    if has_config
    else None,
    checkpoint_formats.notices(directory.pretrained),
  )


def _merge(params: Any, dtype: str) -> Any:
  """Merges adapters in place, leaf by leaf, so that each is freed at once."""
  for name, value in params.items():
    if isinstance(value, dict):
      _merge(value, dtype)
    else:
      params[name] = lora.merge(value, jnp.dtype(dtype))
  return params


def _check_space(target: pathlib.Path, size: int) -> None:
  """Rejects a target whose disk has no room for `size` bytes of weights."""
  disk = next(p for p in target.resolve().parents if p.exists())
  free = shutil.disk_usage(disk).free
  if 1.01 * size > free:
    raise OSError(
      f'--to={target} needs {filesize.decimal(size)}, and {disk} has '
      f'{filesize.decimal(free)} left; choose another disk'
    )


def _verify(console, target, source, dtype) -> bool:
  with console.status(f'Verifying {target}'):
    findings = export_check.verify(
      target, source.config, source.params, source.chat_format, dtype
    )
  for finding in findings:
    console.print(f'checked  {finding.text}')
  return all(finding.is_right for finding in findings)


def _describe(source: Source) -> str:
  config = source.config
  return (
    f'{config.num_layers} layers of width {config.width}, vocabulary of '
    f'{config.vocab_size:,}, {source.num_params:,} parameters'
  )


def _report(console, options, target, source) -> None:
  padding = max(0, (source.padded_vocab or 0) - source.config.vocab_size)
  console.print(
    f'written  {options.target} in {options.dtype}'
    + (f', with {padding:,} embedding rows of padding' if padding else '')
  )
  for file in sorted(target.iterdir()):
    size = filesize.decimal(file.stat().st_size)
    console.print(f'         {file.name:34} {size:>10}')


def _say_how_to_use(console, target, style) -> None:
  template = ''
  if style == 'plain':
    name = hugging_face_export.PLAIN_TEMPLATE
    template = f' --chat-template={epath.Path(target) / name}'
  console.print(
    f'next     vllm serve {target}{template}\n'
    '         python -c "from transformers import pipeline; '
    f"print(pipeline('text-generation', '{target}')('12 + 7 ='))\""
  )


if __name__ == '__main__':
  sys.exit(main())
