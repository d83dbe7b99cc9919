"""The picture of a run: accuracy of each turn over its stages."""

from collections.abc import Mapping, Sequence
import itertools
import os
from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker
from matplotlib.backends import backend_agg
import numpy as np

# Series, told apart in grey and with every colour vision; one a turn. Each
# colour stands for one thing, so that a page can replace them (reporting.svg).
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')
INK, MUTED, GRID, PAPER = '#1b2430', '#5d6774', '#e4e7ec', '#fefefe'
_RAW_ALPHA = 0.25
_WIDE = 7  # inches that four entries of a legend need side by side


def new_axes(width: float = 5.2, height: float = 3.4) -> mpl_axes.Axes:
  """Axes of a new picture, in inches, as all pictures here look."""
  picture = mpl_figure.Figure(figsize=(width, height), layout='constrained')
  backend_agg.FigureCanvasAgg(picture)
  axes = picture.add_subplot()
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(MUTED)
  axes.tick_params(colors=MUTED, labelsize=10)
  axes.xaxis.label.set_color(INK)
  axes.yaxis.label.set_color(INK)
  axes.grid(axis='y', color=GRID)
  axes.set_axisbelow(True)
  return axes


def in_percent(axes: mpl_axes.Axes, label: str = 'accuracy') -> None:
  """Makes the y axis one of percent, nowhere below 0, called `label`."""
  low, high = axes.get_ylim()
  axes.set_ylim(max(low, 0), max(high, low + 5))
  axes.set_ylabel(label, fontsize=11)
  axes.yaxis.set_major_formatter(ticker.PercentFormatter(decimals=0))


def add_legend(axes: mpl_axes.Axes, **options: Any) -> None:
  """A legend without a frame, where it covers least."""
  axes.legend(frameon=False, fontsize=10, labelcolor=INK, **options)


def save_png(picture: mpl_figure.Figure, path: str | os.PathLike[str]) -> None:
  """Writes a PNG on white; an older one is replaced."""
  picture.savefig(path, dpi=150, format='png', facecolor='white')


def _accuracy(record: Mapping[str, Any], turn: int) -> float | None:
  """Of a training record (`score/acc_t1`) or an evaluation (`acc_t1`)."""
  return record.get(f'score/acc_t{turn}', record.get(f'acc_t{turn}'))


def _num_turns(records: Sequence[Mapping[str, Any]]) -> int:
  """Highest turn of which any record has an accuracy."""
  turns = itertools.takewhile(
    lambda k: any(_accuracy(r, k) is not None for r in records),
    itertools.count(1),
  )
  return sum(1 for _ in turns)


def _offsets(
  records: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[int, int]]:
  """First step and length of each stage, laid end to end in their order."""
  lengths: dict[str, int] = {}
  for record in records:
    stage = record['stage']
    lengths[stage] = max(lengths.get(stage, 0), record['step'] + 1)
  starts = itertools.accumulate(lengths.values(), initial=0)
  return {
    stage: (start, length)
    for (stage, length), start in zip(lengths.items(), starts)
  }


def smooth(values: np.ndarray, window: int) -> np.ndarray:
  """Centred moving average, over what there is of the window at the ends.

  Args:
    values: [S].
    window: its width in entries; an even one counts as the odd one above it.

  Returns:
    float64 [S].
  """
  half = window // 2
  sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, float))])
  places = np.arange(len(values))
  low = np.maximum(places - half, 0)
  high = np.minimum(places + half + 1, len(values))
  return (sums[high] - sums[low]) / (high - low)


def _draw_training(
  axes: mpl_axes.Axes,
  records: Sequence[Mapping[str, Any]],
  turn: int,
  offsets: Mapping[str, tuple[int, int]],
  window: int | None,
) -> None:
  """A turn's raw values, light, and their average, stage by stage."""
  label = f'turn {turn}, training'
  for stage, (start, length) in offsets.items():
    points = sorted(
      (start + r['step'], 100 * _accuracy(r, turn))
      for r in records
      if r['stage'] == stage and _accuracy(r, turn) is not None
    )
    if not points:
      continue
    steps, values = np.array(points).T
    colour = COLOURS[(turn - 1) % len(COLOURS)]
    axes.plot(steps, values, color=colour, alpha=_RAW_ALPHA, linewidth=0.8)
    average = smooth(values, window or max(1, length // 15))
    axes.plot(steps, average, color=colour, linewidth=2, label=label)
    label = None  # one entry in the legend, whatever the number of stages


def _draw_evaluations(
  axes: mpl_axes.Axes,
  evaluations: Sequence[Mapping[str, Any]],
  turn: int,
  offsets: Mapping[str, tuple[int, int]],
  name: str,
) -> None:
  """A turn's accuracy in evaluations, with its interval if known."""
  label = f'turn {turn}, {name}'
  for record in evaluations:
    value = _accuracy(record, turn)
    if value is None:
      continue
    low, high = record.get(f'acc_t{turn}_ci95', (value, value))
    axes.errorbar(
      offsets[record['stage']][0] + record['step'],
      100 * value,
      yerr=[[100 * (value - low)], [100 * (high - value)]],
      fmt='os^Dv'[(turn - 1) % 5],
      color=COLOURS[(turn - 1) % len(COLOURS)],
      markeredgecolor=PAPER,
      markersize=8,
      capsize=3,
      zorder=3,
      clip_on=False,
      label=label,
    )
    label = None


def _mark_stages(
  axes: mpl_axes.Axes, offsets: Mapping[str, tuple[int, int]]
) -> None:
  """Names each stage above its part of the axis, with a line between."""
  for stage, (start, length) in offsets.items():
    if start:
      axes.axvline(start, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
      stage,
      (start + length / 2, 1),
      xycoords=axes.get_xaxis_transform(),
      xytext=(0, 5),
      textcoords='offset points',
      ha='center',
      fontsize=11,
      color=MUTED,
    )


def learning_curves(
  records: Sequence[Mapping[str, Any]],
  path: str | os.PathLike[str],
  **options: Any,
) -> None:
  """Draws `draw_learning_curves` and writes it to `path` as a PNG."""
  save_png(draw_learning_curves(records, **options), path)


def draw_learning_curves(
  records: Sequence[Mapping[str, Any]],
  *,
  evaluations: Sequence[Mapping[str, Any]] = (),
  evaluation_label: str = 'held-out',
  window: int | None = None,
  title: str | None = None,
  size: tuple[float, float] = (9, 5),
) -> mpl_figure.Figure:
  """The accuracy of every turn over all stages.

  Args:
    records: as read from metrics.jsonl, in the order of the stages: `stage`,
      `step` (updates before it in its stage) and `score/acc_t1`, ... as
      fractions. Records without accuracies (of pre-training, say) are not read.
    evaluations: points on held-out problems: `stage`, `step`, `acc_t1`, ... and
      perhaps `acc_t1_ci95`, as in a policy summary.
    evaluation_label: what they are called, e.g. 'held-out, greedy'.
    window: steps that the heavy lines average over; a 15th of a stage if None.
    title: above the picture.
    size: width and height in inches.

  Raises:
    ValueError: no record has an accuracy, or an evaluation is of a stage
      without records.
  """
  turns = _num_turns(records)
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
  for turn in range(1, turns + 1):
    _draw_training(axes, records, turn, offsets, window)
    _draw_evaluations(axes, evaluations, turn, offsets, evaluation_label)
  _mark_stages(axes, offsets)
  total = sum(length for _, length in offsets.values())
  axes.set_xlim(-0.01 * total, 1.01 * total)
  axes.set_xlabel('update', fontsize=11)
  in_percent(axes)
  # Below, because curves go everywhere.
  add_legend(
    axes,
    loc='upper center',
    bbox_to_anchor=(0.5, -0.14 * 5 / size[1]),
    ncols=4 if size[0] > _WIDE else 2,
  )
  if title:
    axes.set_title(title, fontsize=13, pad=22, color=INK)
  return axes.figure
