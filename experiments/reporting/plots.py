"""How plots look, and the plot of a run: accuracy over its stages."""

from collections.abc import Mapping, Sequence
import itertools
import os
from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker
from matplotlib.backends import backend_agg
import numpy as np

# Series, told apart in grey and with every colour vision; one a turn. A colour
# stands for one thing, so that `page` can replace it by a CSS variable.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
INK, MUTED, GRID, PAPER = '#1b2430', '#5d6774', '#e4e7ec', '#fefefe'
_MARKERS = 'os^Dv*'
_WIDE = 7  # inches that four entries of a legend need side by side


def new_axes(width: float = 5.2, height: float = 3.4) -> mpl_axes.Axes:
  """The axes of a new figure of one plot, in inches."""
  axes = new_figure(width, height).add_subplot()
  style(axes)
  return axes


def new_figure(width: float, height: float) -> mpl_figure.Figure:
  """An empty figure, in inches, that needs no window."""
  figure = mpl_figure.Figure(figsize=(width, height), layout='constrained')
  backend_agg.FigureCanvasAgg(figure)
  return figure


def style(axes: mpl_axes.Axes) -> None:
  """Sets the colours, grid and spines that all plots share."""
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(MUTED)
  axes.tick_params(colors=MUTED, labelsize=10)
  axes.xaxis.label.set_color(INK)
  axes.yaxis.label.set_color(INK)
  axes.grid(axis='y', color=GRID)
  axes.set_axisbelow(True)


def series(index: int) -> dict[str, str]:
  """Colour and marker of a series."""
  return {
    'color': COLOURS[index % len(COLOURS)],
    'marker': _MARKERS[index % len(_MARKERS)],
  }


def in_percent(axes: mpl_axes.Axes, label: str = 'accuracy') -> None:
  """Formats the y axis in percent; it never begins below 0."""
  low, high = axes.get_ylim()
  axes.set_ylim(max(low, 0), max(high, low + 5))
  axes.set_ylabel(label, fontsize=11)
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(decimals=0))


def add_legend(axes: mpl_axes.Axes, loc: str = 'best', **options: Any) -> None:
  """A legend without a frame, by default where it covers least."""
  axes.legend(loc=loc, frameon=False, fontsize=10, labelcolor=INK, **options)


def save_png(figure: mpl_figure.Figure, path: str | os.PathLike[str]) -> None:
  """Writes a PNG on white; an older one is replaced."""
  figure.savefig(path, dpi=150, format='png', facecolor='white')


def learning_curves(
  records: Sequence[Mapping[str, Any]],
  path: str | os.PathLike[str],
  **options: Any,
) -> None:
  """Writes `draw_learning_curves` as a PNG."""
  save_png(draw_learning_curves(records, **options), path)


def draw_learning_curves(
  records: Sequence[Mapping[str, Any]],
  *,
  evaluations: Sequence[Mapping[str, Any]] = (),
  window: int | None = None,
  title: str = '',
  size: tuple[float, float] = (9, 5),
) -> mpl_figure.Figure:
  """Draws the accuracy of every turn over all stages.

  Args:
    records: of metrics.jsonl, in the order of the stages: `stage`, `step`
      (updates before it in its stage) and `score/acc_t1`, ... as fractions.
      Records without accuracies, such as pre-training's, are left out.
    evaluations: points on problems that are not trained on: `stage`, `step`,
      `acc_t1`, ... and perhaps `acc_t1_ci95`, as in a policy summary; `label`
      is their entry in the legend, such as 'held-out, greedy'. Points of the
      first label are filled, of others hollow.
    window: steps that the heavy lines average over; a 15th of a stage if None.
    title: above the plot.
    size: width and height in inches.

  Raises:
    ValueError: no record has an accuracy, or an evaluation is of a stage
      without records.
  """
  records = [r for r in records if _accuracy(r, 1) is not None]
  if not records:
    raise ValueError('no record has score/acc_t1: there is nothing to draw')
  offsets = _offsets(records)
  unknown = {e['stage'] for e in evaluations} - offsets.keys()
  if unknown:
    raise ValueError(
      f'evaluations of {sorted(unknown)}, but records only of {[*offsets]}: '
      'give the base policy as step 0 of the first stage'
    )
  axes = new_axes(*size)
  for turn in itertools.count(1):
    if all(_accuracy(record, turn) is None for record in records):
      break
    _draw_training(axes, records, turn, offsets, window)
    _draw_evaluations(axes, evaluations, turn, offsets)
  _mark_stages(axes, offsets)
  total = sum(length for _, length in offsets.values())
  axes.set_xlim(-0.01 * total, 1.01 * total)
  axes.set_xlabel('update', fontsize=11)
  axes.set_title(title, fontsize=13, pad=22 if title else None, color=INK)
  in_percent(axes)
  # Below, because curves go everywhere.
  below = (0.5, -0.14 * 5 / size[1])
  columns = 4 if size[0] > _WIDE else 2
  add_legend(axes, 'upper center', bbox_to_anchor=below, ncols=columns)
  return axes.figure


def _accuracy(record: Mapping[str, Any], turn: int) -> float | None:
  """A turn's accuracy in a training record or an evaluation, or None."""
  return record.get(f'score/acc_t{turn}', record.get(f'acc_t{turn}'))


def _offsets(
  records: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[int, int]]:
  """First update (of all stages, end to end) and length of each stage."""
  lengths: dict[str, int] = {}
  for record in records:
    stage = record['stage']
    lengths[stage] = max(lengths.get(stage, 0), record['step'] + 1)
  starts = itertools.accumulate(lengths.values(), initial=0)
  return dict(zip(lengths, zip(starts, lengths.values())))


def smooth(values: np.ndarray, window: int) -> np.ndarray:
  """Moving average of values [S] as float64 [S].

  The window is centred, an even width counting as the odd one above it, and cut
  off at both ends.
  """
  half = window // 2
  sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, float))])
  indices = np.arange(len(values))
  low = np.maximum(indices - half, 0)
  high = np.minimum(indices + half + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)


def _draw_training(axes, records, turn, offsets, window) -> None:
  """Draws a turn's accuracies thinly, and their moving average."""
  label = f'turn {turn}, training'
  colour = series(turn - 1)['color']
  for stage, (start, length) in offsets.items():
    points = sorted(
      (start + r['step'], 100 * _accuracy(r, turn))
      for r in records
      if r['stage'] == stage and _accuracy(r, turn) is not None
    )
    if not points:
      continue
    steps, values = np.array(points).T
    axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)
    average = smooth(values, window or max(1, length // 15))
    axes.plot(steps, average, color=colour, linewidth=2, label=label)
    label = None  # one entry in the legend, whatever the number of stages


def _draw_evaluations(axes, evaluations, turn, offsets) -> None:
  """Draws a turn's measured accuracies, with intervals where they are known."""
  labelled: dict[str, list[Mapping[str, Any]]] = {}
  for record in evaluations:
    if _accuracy(record, turn) is not None:
      labelled.setdefault(record['label'], []).append(record)
  for index, (label, records) in enumerate(labelled.items()):
    own = series(turn - 1)
    edge = {'markeredgecolor': PAPER}
    if index:
      edge = {'markeredgecolor': own['color'], 'markerfacecolor': PAPER}
    _draw_points(
      axes, records, turn, offsets, **own, **edge, label=f'turn {turn}, {label}'
    )


def _draw_points(axes, records, turn, offsets, **style) -> None:
  values = 100 * np.array([_accuracy(record, turn) for record in records])
  bounds = 100 * np.array(
    [r.get(f'acc_t{turn}_ci95', [_accuracy(r, turn)] * 2) for r in records]
  )
  axes.errorbar(
    [offsets[r['stage']][0] + r['step'] for r in records], values,
    yerr=np.abs(bounds.T - values), linestyle='', markersize=8, capsize=3,
    zorder=3, clip_on=False, **style,
  )  # fmt: skip


def _mark_stages(axes, offsets) -> None:
  """Writes each stage's name above its updates, with a line between two."""
  for stage, (start, length) in offsets.items():
    if start:
      axes.axvline(start, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
      stage, (start + length / 2, 1), xycoords=axes.get_xaxis_transform(),
      xytext=(0, 5), textcoords='offset points', ha='center', fontsize=11,
      color=MUTED,
    )  # fmt: skip
