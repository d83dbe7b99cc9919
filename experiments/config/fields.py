"""How a setting is declared, and what its declaration tells.

A record of settings is a frozen dataclass, whose nested records are groups:
`model.kv_heads` is the dotted name of a field of the group `model`.
"""

from collections.abc import Mapping
import dataclasses
from typing import Any, Literal

Affects = Literal['nothing', 'rounding', 'evaluation', 'stage', 'base']


def setting(default: Any, affects: Affects, **limits: float | bool) -> Any:
  """Declares a field: its default, and what is said of it as metadata.

  Args:
    default: the field's default.
    affects: the first thing that depends on it: `nothing`; `rounding`, the last
      bits of numbers; `evaluation`, only what is measured; `stage`, what stages
      learn; `base`, the base policy too, hence everything.
    **limits: `low`, `high`: lowest and highest value; `above`: value that it
      must exceed; `free=True`: it may change on resume although numbers depend
      on it, because it is a location, whose contents are compared by their
      digests, or because no update reads it.
  """
  is_free = affects in ('nothing', 'rounding', 'evaluation')
  metadata = {'affects': affects, 'free': is_free, **limits}
  return dataclasses.field(default=default, metadata=metadata)


def declarations(cls: type, prefix: str = '') -> dict[str, Mapping[str, Any]]:
  """Dotted field names to the metadata that `setting` made."""
  found = {}
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(field.type):
      found |= declarations(field.type, f'{prefix}{field.name}.')
    else:
      found[prefix + field.name] = field.metadata
  return found


def flag(name: str) -> str:
  """The flag of a field: `model.kv_heads` -> `--model.kv-heads`."""
  return '--' + name.replace('_', '-')


def flatten(settings: Any, prefix: str = '') -> dict[str, Any]:
  """Dotted field names to values, those of nested records included."""
  flat = {}
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    if dataclasses.is_dataclass(value):
      flat |= flatten(value, f'{prefix}{field.name}.')
    else:
      flat[prefix + field.name] = value
  return flat


def from_record(cls: type, record: Mapping[str, Any]) -> Any:
  """Settings from their `dataclasses.asdict`, or that as JSON.

  Raises:
    ValueError: the record has a setting that this version does not know.
  """
  types = {field.name: field.type for field in dataclasses.fields(cls)}
  unknown = sorted(record.keys() - types.keys())
  if unknown:
    raise ValueError(
      f'settings {unknown} are not known here: the run was written by another '
      'version of score_jax; use that version, or another --run-dir'
    )
  values = {}
  for name, value in record.items():
    if dataclasses.is_dataclass(types[name]):
      values[name] = from_record(types[name], value)
    else:
      # JSON has no tuples.
      values[name] = tuple(value) if isinstance(value, list) else value
  return cls(**values)


def differences(
  before: Mapping[str, Any], now: Mapping[str, Any], free: set[str]
) -> list[tuple[str, Any, Any]]:
  """Flags that differ, but for those that are free, with both values."""
  return [
    (flag(name), before[name], now[name])
    for name in now
    if name not in free and before[name] != now[name]
  ]


def as_flag(name: str, value: Any) -> str:
  """A flag with its value, as the command line takes it."""
  if isinstance(value, bool):
    return name if value else '--no-' + name.removeprefix('--')
  if isinstance(value, tuple):
    return ' '.join([name, *map(str, value)])
  return f'{name}={value}'
