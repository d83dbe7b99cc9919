"""A Hugging Face directory from a checkpoint or a run.

    python -m experiments.convert --from=runs/tiny --to=served --verify

--from is a run directory (and --policy one of its policies), a Hugging Face
directory, or an Orbax checkpoint as on Kaggle (and --model what it is). The
result loads in transformers and vLLM. Works on the host's CPU and memory alone.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
import shutil
import sys
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from rich import console as rich_console
import tyro

from experiments.config import command_line, schema
from experiments.run import (
  base_model,
  building,
  context,
  policies,
  run_directory,
)
from score_jax.interop import (
  checkpoint_formats,
  export_check,
  hugging_face_config,
  hugging_face_export,
)
from score_jax.models import (
  chat,
  lora,
  model_config,
  param_builder,
  tokenization,
)

_KINDS = {
  'hugging_face': 'Hugging Face checkpoint',
  'orbax': 'Orbax checkpoint',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """What to convert, and into what."""

  source: Annotated[str, tyro.conf.arg(name='from')]
  """Run directory, Hugging Face directory or Orbax checkpoint."""
  target: Annotated[str, tyro.conf.arg(name='to')]
  """Directory to make."""
  policy: str | None = None
  """Of a run: base or a stage (stage1, stage2); None: the last finished."""
  init_from: str | None = None
  """Of a run: where the checkpoint is now that it began with; None: where it
  was. Needed for its base policy, and for adapters."""
  model: str | None = None
  """Name of the model, such as gemma-2-2b; an Orbax checkpoint needs it."""
  tokenizer: str | None = None
  """Its tokenizer.model; None: in the checkpoint's directory or beside it."""
  chat_style: Literal['auto', 'gemma', 'plain'] = 'auto'
  """How messages are set apart: gemma for instruction-tuned models; auto: as in
  the run, or by whether the checkpoint has a chat template."""
  dtype: Literal['bfloat16', 'float32'] = 'bfloat16'
  """Of the weights written."""
  max_file_gb: float = 5.0
  """Most weights in one file, in 10**9 bytes."""
  verify: bool = False
  """Read back what was written and compare every tensor; where transformers is
  installed, compare logits too."""


@dataclasses.dataclass(frozen=True)
class Source:
  """A policy to write out.

  Attributes:
    title: what it is, for people.
    config: the model.
    params: its parameters.
    chat_format: its tokenizer and how messages are set apart.
    padded_vocab: embedding rows that its checkpoint had; None: unknown.
  """

  title: str
  config: model_config.ModelConfig
  params: Any
  chat_format: chat.ChatFormat
  padded_vocab: int | None


def main(arguments: Sequence[str] | None = None) -> int:
  """Converts, says what came of it, returns the exit code."""
  options = command_line.parse(
    Options,
    arguments,
    program='experiments.convert',
    document=__doc__,
  )
  # Accelerators may be busy, or too small for weights that nobody split.
  jax.config.update('jax_platforms', 'cpu')
  console = rich_console.Console(highlight=False)
  try:
    return convert(options, console)
  except (OSError, ValueError, run_directory.RunError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('stopped; nothing half-written is left', file=sys.stderr)
    return 130


def convert(options: Options, console: rich_console.Console) -> int:
  """Reads, writes and, if asked to, verifies; the exit code.

  Raises:
    OSError, ValueError, RunError: the source cannot be read, or the target not
      be written.
  """
  target = pathlib.Path(options.target)
  if target.exists():
    raise FileExistsError(
      f'--to={target} is there already; remove it, or choose another directory'
    )
  with console.status(f'Reading {options.source}'):
    source = read(options)
  console.print(
    f'read     {source.title}\n         {_describe(source.config)}',
    markup=False,
    soft_wrap=True,
  )
  dtype = jnp.dtype(options.dtype)
  _check_space(target, source.config, dtype)
  with console.status(f'Writing {target}'):
    hugging_face_export.export(
      target,
      source.config,
      source.params,
      tokenizer_path=source.chat_format.tokenizer.path,
      chat_style=source.chat_format.style,
      padded_vocab=source.padded_vocab,
      dtype=dtype,
      max_file_bytes=round(options.max_file_gb * 1e9),
    )
  _report(console, target, source, options.dtype)
  if options.verify:
    with console.status(f'Verifying {target}'):
      findings = export_check.verify(
        target, source.config, source.params, source.chat_format, dtype
      )
    for finding in findings:
      console.print(f'checked  {finding.text}', markup=False, soft_wrap=True)
    if not all(finding.is_right for finding in findings):
      print(f'error: {target} is not what was read', file=sys.stderr)
      return 1
  _say_how_to_use(console, target, source.chat_format.style)
  return 0


def read(options: Options) -> Source:
  """The policy that the flags mean.

  Raises:
    OSError, ValueError, RunError: it is not there, or cannot be read.
  """
  path = pathlib.Path(options.source)
  if is_run(path):
    return read_run(path, options)
  for flag in ('policy', 'init_from'):
    value = getattr(options, flag)
    if value is not None:
      raise ValueError(
        f'{schema.flag(flag)}={value} is for run directories, and {path} '
        'is none'
      )
  return read_checkpoint(path, options)


def is_run(path: pathlib.Path) -> bool:
  """Whether a directory is a run's: its config.json has settings."""
  config = path / 'config.json'
  return config.is_file() and '"settings"' in config.read_text()


def read_checkpoint(path: pathlib.Path, options: Options) -> Source:
  """A checkpoint that somebody published."""
  kind = checkpoint_formats.identify(path)
  tokenizer = tokenization.Tokenizer(
    options.tokenizer or checkpoint_formats.find_tokenizer(path)
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
    style = 'gemma' if base_model.has_template(path) else 'plain'
  title, padded_vocab = f'{_KINDS[kind]} {path}', None
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
  )


def read_run(path: pathlib.Path, options: Options) -> Source:
  """A policy of one of our runs; its data and graders are not needed."""
  directory = run_directory.RunDirectory(path)
  settings = directory.read_settings()
  if not directory.tokenizer.exists():
    raise run_directory.RunError(f'{path} has no tokenizer and no policy yet')
  name = policies.choose_finished(directory, options.policy)
  settings = dataclasses.replace(
    settings,
    # Here it is one process and, whatever trained it, one device.
    mesh=schema.Mesh(fsdp=1),
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
    building.make_layout(settings, config),
  )
  if options.chat_style != 'auto':
    chat_format = dataclasses.replace(chat_format, style=options.chat_style)
  has_config = (directory.pretrained / 'config.json').is_file()
  return Source(
    f'policy {name} of run {path}',
    config,
    _merge(policies.stage_policy(run, name), options.dtype),
    chat_format,
    hugging_face_config.embedding_rows(directory.pretrained)
    if has_config
    else None,
  )


def _merge(params: Any, dtype: str) -> Any:
  """Plain weights; those with adapters are let go of one after the other."""
  for name, value in params.items():
    if isinstance(value, dict):
      _merge(value, dtype)
    else:
      params[name] = lora.merge(value, jnp.dtype(dtype))
  return params


def _describe(config: model_config.ModelConfig) -> str:
  layers = f'{config.num_layers} layer{"s" * (config.num_layers > 1)}'
  return (
    f'{layers} of width {config.width}, vocabulary of {config.vocab_size:,}, '
    f'{_parameters(config):,} parameters'
  )


def _parameters(config: model_config.ModelConfig) -> int:
  shapes = param_builder.param_shapes(config)
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def _check_space(target, config, dtype) -> None:
  parent = target.resolve().parent
  while not parent.exists():
    parent = parent.parent
  needed, free = (
    1.01 * _parameters(config) * dtype.itemsize,
    shutil.disk_usage(parent).free,
  )
  if needed > free:
    raise OSError(
      f'--to={target} needs {needed / 1e9:.1f} GB, and {parent} has '
      f'{free / 1e9:.1f} GB left; choose another disk'
    )


def _report(console, target, source, dtype) -> None:
  parts = sorted(target.glob('*.safetensors'))
  size = sum(part.stat().st_size for part in parts)
  rows = source.padded_vocab or source.config.vocab_size
  padding = rows - source.config.vocab_size
  console.print(
    f'written  {target}: {_size(size)} of {dtype} in {len(parts)} '
    f'{"file" if len(parts) == 1 else "files"}; {rows:,} embedding rows'
    + (f', the last {padding:,} of them padding' if padding else ''),
    markup=False,
    soft_wrap=True,
  )
  for file in sorted(target.iterdir()):
    console.print(
      f'         {file.name:34} {_size(file.stat().st_size):>10}',
      markup=False,
      soft_wrap=True,
    )


def _size(count: int) -> str:
  """A number of bytes for people, in powers of ten as disks are sold."""
  for unit, divisor in (('GB', 1e9), ('MB', 1e6)):
    if count >= divisor:
      return f'{count / divisor:.2f} {unit}'
  return f'{count / 1e3:.1f} kB'


def _say_how_to_use(console, target, style) -> None:
  template = ''
  if style == 'plain':
    name = hugging_face_export.PLAIN_TEMPLATE
    template = f' --chat-template={target / name}'
  console.print(
    f'next     vllm serve {target}{template}\n'
    '         python -c "from transformers import pipeline; '
    f"print(pipeline('text-generation', '{target}')('12 + 7 ='))\"",
    markup=False,
    soft_wrap=True,
  )


if __name__ == '__main__':
  sys.exit(main())
