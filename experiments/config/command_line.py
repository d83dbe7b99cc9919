"""From the command line to settings: the preset first, then the flags over it.

What is wrong is refused with exit code 2 and a suggestion, before jax is
imported. `parse` does the same for the other programs of this floor.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import difflib
import importlib
import pkgutil
import sys
import types
from typing import Any, NoReturn, TypeVar

import tyro

from experiments import presets
from experiments.config import checks, schema

T = TypeVar('T')


def preset_names() -> list[str]:
  """Names of the files in experiments/presets."""
  return sorted(m.name for m in pkgutil.iter_modules(presets.__path__))


def load_preset(name: str) -> tuple[schema.Settings, str]:
  """A preset's settings and the document that it is.

  Raises:
    ValueError: there is no such preset.
  """
  names = preset_names()
  if name not in names:
    raise ValueError(
      f'there is no preset {name!r}{_suggest(name, names)}; '
      f'there are: {", ".join(names)}'
    )
  module = importlib.import_module(f'{presets.__name__}.{name}')
  return dataclasses.replace(module.SETTINGS, preset=name), module.__doc__


def parse_settings(
  arguments: Sequence[str] | None = None,
  *,
  program: str = 'experiments.train',
  default: schema.Settings | None = None,
) -> schema.Settings:
  """Settings from the command line; exits with code 2 where it is wrong.

  `default` is what flags change where no --preset is named; None: the preset
  that `Settings` names.
  """
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  name = _value_of('--preset', arguments)
  document = "No preset: the paper's settings."
  if name or default is None:
    name = name or schema.Settings.preset
    try:
      default, document = load_preset(name)
    except ValueError as error:
      refuse(str(error))
    document = f'Preset {name!r}. {document}'
  parsed = parse(
    schema.Settings,
    arguments,
    default=default,
    program=program,
    document=document,
  )
  reject_errors(parsed)
  return parsed


def reject_errors(settings: schema.Settings) -> None:
  """Exits with code 2 where settings are impossible, and says which."""
  mistakes = checks.find_errors(settings)
  if mistakes:
    refuse('\n       '.join(mistakes))


def split(
  arguments: Sequence[str], fields: Mapping[str, object]
) -> tuple[list[str], list[str]]:
  """The arguments that are flags of these fields, and all others.

  For a program that hands on what it does not know itself; a value goes with
  the flag before it, and --help with the first list.
  """
  known = {schema.flag(name) for name in fields} | {'--help'}
  known |= {'--no-' + name.removeprefix('--') for name in known}
  own: list[str] = []
  rest: list[str] = []
  chosen = own
  for argument in arguments:
    if argument.startswith('--'):
      name = argument.partition('=')[0].replace('_', '-')
      chosen = own if name in known else rest
    chosen.append(argument)
  return own, rest


def parse(
  cls: type[T],
  arguments: Sequence[str] | None = None,
  *,
  default: T | None = None,
  program: str,
  document: str,
  renamed: Mapping[str, str] = types.MappingProxyType({}),
) -> T:
  """A record from the command line, one flag a field.

  Args:
    cls: a dataclass.
    arguments: the command line, by default the program's own.
    default: what flags that are not given leave as it is.
    program: module name, for `python -m ...` in messages.
    document: what `--help` says above the flags.
    renamed: fields whose flags tyro is told to call otherwise.
  """
  arguments = list(sys.argv[1:] if arguments is None else arguments)
  defaults = _defaults(cls, default)
  defaults = {renamed.get(name, name): v for name, v in defaults.items()}
  mistake = _find_error(arguments, defaults)
  if mistake:
    refuse(f'{mistake}\n       all flags: python -m {program} --help')
  return tyro.cli(
    cls,
    **({} if default is None else {'default': default}),
    args=arguments,
    prog=f'python -m {program}',
    description=document,
  )


def _defaults(cls: type, default: Any) -> dict[str, Any]:
  """Values by dotted name; None for a field that has to be given."""
  needed = [
    field.name
    for field in dataclasses.fields(cls)
    if field.default is field.default_factory is dataclasses.MISSING
  ]
  if default is None:
    default = cls(**dict.fromkeys(needed))
  return schema.flatten(default)


def refuse(message: str) -> NoReturn:
  """Prints an error and exits with code 2."""
  print(f'error: {message}', file=sys.stderr)
  raise SystemExit(2)


def _find_error(arguments: Sequence[str], defaults: dict) -> str | None:
  """What is wrong with the names of the flags, or None."""
  switches = {
    schema.flag(name)
    for name, value in defaults.items()
    if isinstance(value, bool)
  }
  known = {schema.flag(name) for name in defaults} | {'--help'}
  known |= {'--no-' + name.removeprefix('--') for name in switches}
  for argument in arguments:
    name, is_joined, _ = argument.partition('=')
    name = name.replace('_', '-')
    if not argument.startswith('--'):
      continue
    if name not in known:
      return f'there is no flag {name}{_suggest(name, known)}'
    if is_joined and name in switches:
      return (
        f'{name} takes no value: write {name}, or '
        f'--no-{name.removeprefix("--")} for the opposite'
      )
  return None


def _suggest(name: str, known: Sequence[str]) -> str:
  """The known names that are closest, as a question; nothing if all are far."""
  initials = {'--' + ''.join(w[:1] for w in k.split('-')): k for k in known}
  if name in initials:
    return f' (did you mean {initials[name]}?)'
  close = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
  likeness = [difflib.SequenceMatcher(None, name, c).ratio() for c in close]
  best = [c for c, r in zip(close, likeness) if r == likeness[0]]
  return f' (did you mean {" or ".join(sorted(best))}?)' if best else ''


def _value_of(flag: str, arguments: Sequence[str]) -> str | None:
  """The last value that a flag is given, or None."""
  value = None
  for i, argument in enumerate(arguments):
    if argument.startswith(flag + '='):
      value = argument.partition('=')[2]
    elif argument == flag and i + 1 < len(arguments):
      value = arguments[i + 1]
  return value
