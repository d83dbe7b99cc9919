"""The picture of a study: what a method gains as one setting is varied."""

from collections.abc import Mapping, Sequence
import os

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker
from matplotlib.backends import backend_agg
import numpy as np

# Told apart in grey and with every colour vision.
_COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
_MARKERS = 'os^Dv*'
_PANELS = {
  'acc_t1': 'accuracy of attempt 1',
  'acc_t2': 'accuracy of attempt 2',
  'delta': 'gain of attempt 2 over 1',
}

# Method -> value -> one record of metrics (fractions) for each seed.
Curves = Mapping[str, Mapping[float, Sequence[Mapping[str, float]]]]


def draw_study(
  curves: Curves,
  path: str | os.PathLike,
  *,
  label: str,
  notes: Mapping[float, str] | None = None,
  title: str = '',
) -> None:
  """Writes a PNG: a line through the means over seeds, a dot for each seed.

  Args:
    curves: by method's title and value; metrics `acc_t1`, `acc_t2`, `delta`.
    path: of the PNG.
    label: of the horizontal axis.
    notes: what is said beneath a value, such as what the base policy can do.
    title: above the panels.

  Raises:
    ValueError: there is nothing to draw.
  """
  if not any(curves.values()):
    raise ValueError('the study has no results: there is nothing to draw')
  figure = mpl_figure.Figure(figsize=(12, 4.2), layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  panels = figure.subplots(1, len(_PANELS))
  # Both accuracies on one scale.
  panels[1].sharey(panels[0])
  for axes, (metric, name) in zip(panels, _PANELS.items()):
    for i, (method, points) in enumerate(curves.items()):
      _draw_curve(axes, method, points, metric, i)
    axes.set_title(name, fontsize=11)
    if notes:
      ticks = {value: f'{value:g}\n{note}' for value, note in notes.items()}
      axes.set_xticks(list(ticks), list(ticks.values()), fontsize=7.5)
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
    axes.grid(alpha=0.25)
    for side in ('top', 'right'):
      axes.spines[side].set_visible(False)
  panels[-1].axhline(0, color='0.4', linewidth=0.8)
  figure.supxlabel(label, fontsize=10)
  figure.legend(
    *panels[0].get_legend_handles_labels(),
    loc='outside right center',
    frameon=False,
    fontsize=9,
  )
  if title:
    figure.suptitle(title)
  figure.savefig(path, dpi=150, format='png')


def _draw_curve(
  axes: mpl_axes.Axes,
  method: str,
  points: Mapping[float, Sequence[Mapping[str, float]]],
  metric: str,
  index: int,
) -> None:
  """One method in one panel."""
  style = {
    'color': _COLOURS[index % len(_COLOURS)],
    'marker': _MARKERS[index % len(_MARKERS)],
  }
  values = sorted(points)
  means = [np.mean([r[metric] for r in points[v]]) for v in values]
  axes.plot(values, means, label=method, linewidth=1.8, markersize=5, **style)
  for value in values:
    seeds = [record[metric] for record in points[value]]
    if len(seeds) > 1:
      axes.plot(
        [value] * len(seeds), seeds, linestyle='', alpha=0.35, markersize=4,
        **style,
      )  # fmt: skip
