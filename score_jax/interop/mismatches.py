"""How checkpoints are refused: everything that does not fit, in one message."""

from collections.abc import Iterable
import pathlib

_MOST_LISTED = 20


def refuse(path: str | pathlib.Path, wrong: Iterable[str]) -> None:
  """Refuses a checkpoint in which anything is wrong.

  Args:
    path: of the checkpoint.
    wrong: a line for each tensor that does not fit; the first 20 are listed.

  Raises:
    ValueError: there is a line.
  """
  lines = sorted(wrong)
  if not lines:
    return
  listed = '\n'.join(f'  {line}' for line in lines[:_MOST_LISTED])
  rest = len(lines) - _MOST_LISTED
  more = f'\n  and {rest} more' if rest > 0 else ''
  raise ValueError(f'{path} does not fit the model:\n{listed}{more}')
