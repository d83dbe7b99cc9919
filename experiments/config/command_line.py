"""From the command line to settings: the preset first, then the flags over it.

Parsing, help and suggestions are tyro's. What is wrong ends the program with
exit code 2; misspelt flags do so before jax is imported.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import importlib
import pkgutil
import sys
from typing import Any, NoReturn

import tyro

from experiments import presets
from experiments.config import checks, schema


def preset_names() -> list[str]:
  """Names of the files in experiments/presets."""
  return sorted(m.name for m in pkgutil.iter_modules(presets.__path__))


def load_preset(name: str) -> tuple[schema.Settings, str]:
  """A preset's settings and its document.

  Raises:
    ValueError: there is no such preset.
  """
  names = preset_names()
  if name not in names:
    raise ValueError(f'--preset={name}: {checks.known_names(name, names)}')
  module = importlib.import_module(f'{presets.__name__}.{name}')
  return dataclasses.replace(module.SETTINGS, preset=name), module.__doc__


def parse_settings(
  arguments: Sequence[str] | None = None,
  *,
  program: str = 'experiments.train',
  default: schema.Settings | None = None,
) -> schema.Settings:
  """Settings from the command line; exits with code 2 where it is wrong.

  Args:
    arguments: the command line, by default the program's own.
    program: module name, for `python -m ...` in messages.
    default: what flags change where no --preset is given; None: the preset that
      `Settings` names.
  """
  settings = parse(
    schema.Settings,
    arguments,
    program=program,
    **preset_options(arguments, default),
  )
  reject_errors(settings)
  return settings


def preset_options(
  arguments: Sequence[str] | None, default: schema.Settings | None = None
) -> dict[str, Any]:
  """Options of `parse` for settings over the preset that a command line names.

  See `parse_settings`. Exits with code 2 where there is no such preset.
  """
  parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  parser.add_argument('--preset')
  name = parser.parse_known_args(arguments)[0].preset
  if name is None and default is not None:
    return {
      'default': default,
      'document': "No preset: the paper's settings.",
    }
  try:
    settings, document = load_preset(name or schema.Settings.preset)
  except ValueError as error:
    reject(str(error))
  return {
    'default': settings,
    'document': f'Preset {settings.preset!r}. {document}',
  }


def parse(
  cls: type,
  arguments: Sequence[str] | None = None,
  *,
  program: str,
  document: str,
  **options: Any,
) -> Any:
  """A dataclass from the command line, one flag a field.

  Args:
    cls: the dataclass.
    arguments: the command line, by default the program's own.
    program: module name, for `python -m ...` in messages.
    document: what `--help` says above the flags.
    **options: of `tyro.cli`. `default`: values of the flags that are not given;
      `return_unknown_args=True`: also return the arguments that are not of this
      dataclass, for a program that hands them on.
  """
  return tyro.cli(
    cls,
    args=arguments,
    prog=f'python -m {program}',
    description=document,
    **options,
  )


def reject_errors(settings: schema.Settings) -> None:
  """Exits with code 2 where settings are impossible, and says which."""
  errors = checks.find_errors(settings)
  if errors:
    reject('\n       '.join(errors))


def reject(message: str) -> NoReturn:
  """Prints an error and exits with code 2."""
  print(f'error: {message}', file=sys.stderr)
  raise SystemExit(2)
