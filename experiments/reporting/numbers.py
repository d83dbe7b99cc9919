"""Numbers of a page: in percent, with an interval or over seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.reporting import markup, tables


def cell(name: str, summaries: Sequence[Mapping[str, Any]]) -> markup.Html:
  """A metric of one run with its 95 % interval, or of several with the spread.

  The spread is the standard deviation over seeds (of n - 1); it holds what the
  interval of one run does not: that training again gives another policy.
  """
  held = [summary for summary in summaries if name in summary]
  if not held:
    return markup.Html('–')
  values = np.array([summary[name] for summary in held])
  if len(held) > 1:
    beneath = f'± {100 * values.std(ddof=1):.1f}'
  else:
    bounds = held[0].get(f'{name}_ci95', ())
    beneath = ', '.join(tables.percent(name, bound) for bound in bounds)
  return markup.join(
    [
      tables.percent(name, values.mean()),
      markup.element('small', beneath) if beneath else None,
    ]
  )


def metrics(
  summaries: Sequence[Mapping[str, Any]], *, most_turns: int = 3
) -> list[str]:
  """Metrics to show as columns; accuracies alone of longer episodes."""
  names = tables.columns(dict(enumerate(summaries)))
  turns = max(map(tables.number_of_turns, summaries))
  if turns <= most_turns:
    return names
  return [name for name in names if name.startswith('acc_t')]


def headings(names: Sequence[str]) -> list[str]:
  """What the columns of metrics are called."""
  return [tables.heading(name) for name in names]
