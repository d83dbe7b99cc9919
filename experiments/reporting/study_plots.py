"""The plot of a study: what methods gain as one setting is varied."""

from collections.abc import Mapping
import os

from matplotlib import axes as mpl_axes
from matplotlib import ticker
import numpy as np

from experiments.reporting import plots, tables

_PANELS = {
  'acc_t1': 'accuracy of attempt 1',
  'acc_t2': 'accuracy of attempt 2',
  'delta': 'gain of attempt 2 over 1',
}

# By value of the setting, a row of `comparison_table.summarise`: a record of
# metrics (fractions) for each of its `seeds`, and their `mean`.
Points = Mapping[float, Mapping[str, tables.Record]]


def draw_study(
  curves: Mapping[str, Points],
  path: str | os.PathLike,
  *,
  label: str,
  notes: Mapping[float, str],
  is_logarithmic: bool = False,
) -> None:
  """Writes a PNG: means over seeds with 95 % intervals, a dot for each seed.

  Args:
    curves: by method's title; metrics `acc_t1`, `acc_t2` and `delta`.
    path: of the PNG.
    label: of the horizontal axis.
    notes: text beneath each value, such as what the base policy can do.
    is_logarithmic: whether the horizontal axis is.

  Raises:
    ValueError: there is nothing to draw.
  """
  if not any(curves.values()):
    raise ValueError('the study has no results: there is nothing to draw')
  figure = plots.new_figure(12, 4.2)
  panels = figure.subplots(1, len(_PANELS))
  # Both accuracies on one scale.
  panels[1].sharey(panels[0])
  for axes, (metric, name) in zip(panels, _PANELS.items()):
    for i, (method, points) in enumerate(curves.items()):
      _draw_curve(axes, method, points, metric, i)
    plots.style(axes)
    axes.set_title(name, fontsize=11)
    if is_logarithmic:
      axes.set_xscale('log')
      axes.minorticks_off()
    ticks = {value: f'{value:g}\n{note}' for value, note in notes.items()}
    axes.set_xticks(list(ticks), list(ticks.values()), fontsize=7.5)
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
  panels[-1].axhline(0, color=plots.MUTED, linewidth=0.8)
  figure.supxlabel(label, fontsize=10)
  entries = panels[0].get_legend_handles_labels()
  outside = 'outside right center'
  figure.legend(*entries, loc=outside, frameon=False, fontsize=9)
  plots.save_png(figure, path)


def _draw_curve(
  axes: mpl_axes.Axes, method: str, points: Points, metric: str, index: int
) -> None:
  """Draws one method in one panel."""
  style = plots.series(index)
  values = sorted(points)
  means = [points[value]['mean'] for value in values]
  centres = np.array([mean[metric] for mean in means])
  axes.plot(values, centres, label=method, markersize=5, **style)
  for value in values:
    seeds = [seed[metric] for seed in points[value]['seeds'].values()]
    if len(seeds) > 1:
      dots = {'linestyle': '', 'alpha': 0.35, 'markersize': 4}
      axes.plot([value] * len(seeds), seeds, **dots, **style)
  bounds = np.array(
    [mean.get(f'{metric}_ci95', [mean[metric]] * 2) for mean in means]
  )
  axes.errorbar(
    values, centres, yerr=np.abs(bounds.T - centres), linestyle='',
    color=style['color'], alpha=0.5, linewidth=1, capsize=2,
  )  # fmt: skip
