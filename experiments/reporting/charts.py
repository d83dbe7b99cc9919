"""Pictures of evaluations: outcomes, edits, attempts, samples, difficulty."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import axes as mpl_axes
from matplotlib import figure as mpl_figure
from matplotlib import ticker
import numpy as np

from experiments.reporting import plots, tables
from score_jax.evaluation import changes

# Corrected and spoilt stand out from what stayed as it was.
OUTCOME_COLOURS = dict(
  zip(changes.OUTCOMES, ('#9dbfd6', '#0b8a62', '#c8451b', '#c5cbd3'))
)
OUTCOME_LABELS = dict(
  zip(
    changes.OUTCOMES,
    ('right twice', 'corrected', 'spoilt', 'wrong twice'),
  )
)
_MARKERS = 'os^Dv'
_SEED_ALPHA = 0.35


def draw_turns(
  policies: Mapping[str, Sequence[Mapping[str, Any]]],
) -> mpl_figure.Figure:
  """From the first to the last turn's accuracy, a line a policy.

  Args:
    policies: by policy, the first one on top, its summaries in one or more
      seeds; the mean is drawn, and each seed as a small dot.
  """
  axes = plots.new_axes(6.4, 1.1 + 0.36 * len(policies))
  axes.grid(axis='y', visible=False)
  axes.grid(axis='x', color=plots.GRID)
  for y, summaries in enumerate(policies.values()):
    turns = max(map(tables.number_of_turns, summaries))
    ends = [
      [100 * s[f'acc_t{k}'] for s in summaries if f'acc_t{k}' in s]
      for k in (1, turns)
    ]
    first, last = map(np.mean, ends)
    axes.plot([first, last], [y, y], color=plots.MUTED, linewidth=1.5, zorder=1)
    for i, (mean, values) in enumerate(zip((first, last), ends)):
      colour = plots.COLOURS[i]
      if len(values) > 1:
        axes.scatter(values, [y] * len(values), s=9, color=colour, alpha=0.5)
      label = ('first attempt', 'last attempt')[i] if not y else None
      axes.scatter(
        [mean], [y], s=55, color=colour, marker=_MARKERS[i], zorder=3,
        edgecolor=plots.PAPER, label=label,
      )  # fmt: skip
  axes.set_yticks(range(len(policies)), list(policies))
  axes.set_ylim(len(policies) - 0.5, -0.5)
  axes.tick_params(axis='y', length=0, labelcolor=plots.INK)
  axes.spines['left'].set_visible(False)
  axes.set_xlim(left=0)
  axes.set_xlabel('accuracy', fontsize=11)
  axes.xaxis.set_major_formatter(ticker.PercentFormatter(decimals=0))
  plots.add_legend(axes, loc='lower center', bbox_to_anchor=(0.5, 1.0), ncols=2)
  return axes.figure


def draw_transitions(
  counts: Mapping[str, Mapping[str, int]],
) -> mpl_figure.Figure:
  """What the second attempt made of the first, a bar of 100 % a policy.

  Args:
    counts: `changes.transition_counts` by policy, the first one on top.
  """
  axes = plots.new_axes(height=1.2 + 0.5 * len(counts))
  names = list(counts)
  left = np.zeros(len(names))
  totals = np.array([sum(counts[name].values()) for name in names])
  for outcome in changes.OUTCOMES:
    shares = 100 * np.array([counts[n][outcome] for n in names]) / totals
    colour = OUTCOME_COLOURS[outcome]
    label = OUTCOME_LABELS[outcome]
    axes.barh(names, shares, left=left, color=colour, label=label, height=0.62)
    for y, (start, share) in enumerate(zip(left, shares)):
      if share >= 6:
        axes.text(
          start + share / 2, y, f'{share:.0f}', ha='center', va='center',
          fontsize=10, color=_on(outcome),
        )  # fmt: skip
    left += shares
  axes.invert_yaxis()
  axes.set_xlim(0, 100)
  axes.set_xlabel('percent of problems', fontsize=11)
  axes.grid(visible=False)
  axes.spines[['left', 'bottom']].set_visible(False)
  axes.tick_params(length=0)
  plots.add_legend(
    axes, loc='lower center', bbox_to_anchor=(0.45, 1.0), ncols=4,
    columnspacing=1.2, handlelength=1.0,
  )  # fmt: skip
  return axes.figure


def draw_edit_ratios(
  histograms: Mapping[str, Mapping[str, Sequence[float]]],
) -> mpl_figure.Figure:
  """Densities of the edit-distance ratio, one outline a policy (Figure 3).

  Args:
    histograms: `changes.ratio_histogram` by policy.
  """
  axes = plots.new_axes()
  for i, (name, histogram) in enumerate(histograms.items()):
    counts = np.array(histogram['counts'], float)
    edges = np.array(histogram['edges'])
    density = counts / counts.sum() / np.diff(edges)
    colour = plots.COLOURS[i % len(plots.COLOURS)]
    axes.stairs(density, edges, color=colour, linewidth=2, label=name)
    axes.stairs(density, edges, color=colour, alpha=0.12, fill=True)
  axes.set_xlim(0, 1)
  axes.set_xlabel('edit distance / total length', fontsize=11)
  axes.set_ylabel('density', fontsize=11)
  plots.add_legend(axes, loc='upper right')
  return axes.figure


def draw_attempts(
  accuracies: Mapping[str, Sequence[Mapping[str, Any]]],
) -> mpl_figure.Figure:
  """Accuracy over attempts (Figure 8), a line a policy.

  Args:
    accuracies: by policy, policy summaries of one or more seeds; the mean is
      drawn over them, and one seed with its 95 % intervals.
  """
  axes = plots.new_axes()
  for i, (name, summaries) in enumerate(accuracies.items()):
    turns = tables.number_of_turns(summaries[0])
    metrics = [f'acc_t{k}' for k in range(1, turns + 1)]
    _draw_line(axes, i, name, range(1, turns + 1), summaries, metrics)
  axes.set_xlabel('attempt', fontsize=11)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_ylim(bottom=0)
  plots.in_percent(axes)
  plots.add_legend(axes, loc='best')
  return axes.figure


def draw_scaling(scaling: Mapping[str, Any]) -> mpl_figure.Figure:
  """Accuracy over samples spent, in parallel or with corrections (Figure 1).

  Args:
    scaling: from `scaling.inference_scaling`.
  """
  axes = plots.new_axes()
  places = np.arange(len(scaling['budgets']))
  for i, (name, label) in enumerate(
    (('parallel', '2K attempts'), ('corrected', 'K attempts, corrected once'))
  ):
    values = 100 * np.array(scaling[name])
    bounds = 100 * np.array(scaling[f'{name}_ci95']).T
    _draw_interval(axes, i, places, values, bounds, label)
  axes.set_xticks(places, [str(budget) for budget in scaling['budgets']])
  axes.set_xlabel('attempts spent on a problem', fontsize=11)
  plots.in_percent(axes, 'accuracy of the vote')
  plots.add_legend(axes, loc='best')
  return axes.figure


def draw_groups(
  groups: Mapping[str, Mapping[str, Any]], column: str
) -> mpl_figure.Figure:
  """Accuracy of two turns by groups of problems (Figure 7's problems).

  Args:
    groups: policy summaries from `breakdown.by_group`.
    column: what the groups differ in.
  """
  axes = plots.new_axes()
  places = np.arange(len(groups))
  for turn in (1, 2):
    name = f'acc_t{turn}'
    values = 100 * np.array([held[name] for held in groups.values()])
    bounds = 100 * np.array([held[f'{name}_ci95'] for held in groups.values()])
    axes.bar(
      places + 0.4 * (turn - 1.5), values, width=0.38,
      color=plots.COLOURS[turn - 1], label=f'turn {turn}',
      yerr=np.abs(bounds.T - values), ecolor=plots.MUTED, capsize=2,
    )  # fmt: skip
  axes.set_xticks(
    places, [f'{name}\n({held["problems"]})' for name, held in groups.items()]
  )
  axes.set_xlabel(f'{column.replace("_", " ")} (problems)', fontsize=11)
  axes.set_ylim(0, 105)
  plots.in_percent(axes)
  plots.add_legend(axes, loc='best')
  return axes.figure


def _draw_line(
  axes: mpl_axes.Axes,
  index: int,
  name: str,
  places: Sequence[float],
  summaries: Sequence[Mapping[str, Any]],
  metrics: Sequence[str],
) -> None:
  """Values of metrics with their intervals, or over seeds with each seed."""
  values = 100 * np.array([[s[m] for m in metrics] for s in summaries])
  places = np.array(places)
  if len(summaries) == 1:
    bounds = 100 * np.array([summaries[0][f'{m}_ci95'] for m in metrics]).T
    _draw_interval(axes, index, places, values[0], bounds, name)
    return
  colour = plots.COLOURS[index % len(plots.COLOURS)]
  for seed in values:
    axes.plot(places, seed, color=colour, alpha=_SEED_ALPHA, linewidth=1)
  _draw_interval(axes, index, places, values.mean(axis=0), None, name)


def _draw_interval(axes, index, places, values, bounds, label) -> None:
  colour = plots.COLOURS[index % len(plots.COLOURS)]
  if bounds is not None:
    axes.fill_between(places, *bounds, color=colour, alpha=0.15, linewidth=0)
  axes.plot(
    places, values, color=colour, linewidth=2, label=label,
    marker=_MARKERS[index % len(_MARKERS)], markersize=5,
    markeredgecolor=plots.PAPER,
  )  # fmt: skip


def _on(outcome: str) -> str:
  """A colour to write with on an outcome's bar."""
  strong = outcome in ('wrong_right', 'right_wrong')
  return '#ffffff' if strong else plots.INK
