"""Plots of evaluations: outcomes, edits, attempts, samples, difficulty."""

from collections.abc import Mapping, Sequence

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
  zip(changes.OUTCOMES, ('right twice', 'corrected', 'spoilt', 'wrong twice'))
)
# Dark enough, in light and dark colour schemes, to write on in white.
_STRONG = ('wrong_right', 'right_wrong')

# By policy, its summaries: one a seed.
Summaries = Mapping[str, Sequence[tables.Record]]


def draw_turns(policies: Summaries) -> mpl_figure.Figure:
  """Draws a line a policy from the first to the last turn's accuracy.

  The mean over seeds is drawn, and each of several seeds as a small dot.
  """
  axes = plots.new_axes(6.4, 1.1 + 0.36 * len(policies))
  for y, summaries in enumerate(policies.values()):
    turns = max(map(tables.number_of_turns, summaries))
    ends = [
      [100 * s[f'acc_t{k}'] for s in summaries if f'acc_t{k}' in s]
      for k in (1, turns)
    ]
    means = [np.mean(values) for values in ends]
    axes.plot(means, [y, y], color=plots.MUTED, linewidth=1.5, zorder=1)
    for i, (mean, values) in enumerate(zip(means, ends)):
      style = plots.series(i)
      if len(values) > 1:
        dots = {'s': 9, 'alpha': 0.5, 'color': style['color']}
        axes.scatter(values, [y] * len(values), **dots)
      label = ('first attempt', 'last attempt')[i] if not y else None
      edge = {'edgecolor': plots.PAPER, 'zorder': 3}
      axes.scatter([mean], [y], s=55, label=label, **style, **edge)
  axes.set_yticks(range(len(policies)), list(policies))
  axes.set_ylim(len(policies) - 0.5, -0.5)
  axes.tick_params(axis='y', length=0, labelcolor=plots.INK)
  axes.grid(axis='y', visible=False)
  axes.grid(axis='x', color=plots.GRID)
  axes.spines['left'].set_visible(False)
  axes.set_xlim(left=0)
  axes.set_xlabel('accuracy', fontsize=11)
  axes.xaxis.set_major_formatter(ticker.PercentFormatter(decimals=0))
  plots.add_legend(axes, 'lower center', bbox_to_anchor=(0.5, 1), ncols=2)
  return axes.figure


def draw_transitions(
  counts: Mapping[str, Mapping[str, int]],
) -> mpl_figure.Figure:
  """Draws a bar of 100 % a policy, from its `changes.transition_counts`."""
  axes = plots.new_axes(height=1.2 + 0.5 * len(counts))
  left = np.zeros(len(counts))
  for outcome in changes.OUTCOMES:
    shares = np.array(
      [100 * held[outcome] / sum(held.values()) for held in counts.values()]
    )
    axes.barh(
      list(counts), shares, left=left, height=0.62,
      color=OUTCOME_COLOURS[outcome], label=OUTCOME_LABELS[outcome],
    )  # fmt: skip
    for y, (start, share) in enumerate(zip(left, shares)):
      if share >= 6:
        axes.text(
          start + share / 2, y, f'{share:.0f}', ha='center', va='center',
          fontsize=10, color='#ffffff' if outcome in _STRONG else plots.INK,
        )  # fmt: skip
    left += shares
  axes.invert_yaxis()
  axes.set_xlim(0, 100)
  axes.set_xlabel('percent of problems', fontsize=11)
  axes.grid(visible=False)
  axes.spines[['left', 'bottom']].set_visible(False)
  axes.tick_params(length=0)
  narrow = {'columnspacing': 1.2, 'handlelength': 1.0, 'ncols': 4}
  plots.add_legend(axes, 'lower center', bbox_to_anchor=(0.45, 1), **narrow)
  return axes.figure


def draw_edit_ratios(
  histograms: Mapping[str, Mapping[str, Sequence[float]]],
) -> mpl_figure.Figure:
  """Draws a density a policy, from its `changes.ratio_histogram` (Figure 3)."""
  axes = plots.new_axes()
  for i, (name, histogram) in enumerate(histograms.items()):
    counts = np.array(histogram['counts'], float)
    edges = np.array(histogram['edges'])
    density = counts / counts.sum() / np.diff(edges)
    colour = plots.series(i)['color']
    axes.stairs(density, edges, color=colour, linewidth=2, label=name)
    axes.stairs(density, edges, color=colour, alpha=0.12, fill=True)
  axes.set_xlim(0, 1)
  axes.set_xlabel('edit distance / total length', fontsize=11)
  axes.set_ylabel('density', fontsize=11)
  plots.add_legend(axes, 'upper right')
  return axes.figure


def draw_attempts(policies: Summaries) -> mpl_figure.Figure:
  """Draws accuracy over attempts (Figure 8), a line a policy.

  The mean of several seeds is drawn over them, a single seed with its 95 %
  intervals.
  """
  axes = plots.new_axes()
  for i, (name, summaries) in enumerate(policies.items()):
    turns = range(1, tables.number_of_turns(summaries[0]) + 1)
    values = 100 * np.array(
      [[s[f'acc_t{k}'] for k in turns] for s in summaries]
    )
    bounds = None
    if len(summaries) == 1:
      bounds = [summaries[0][f'acc_t{k}_ci95'] for k in turns]
    else:
      seeds = {'color': plots.series(i)['color'], 'alpha': 0.35, 'linewidth': 1}
      axes.plot(turns, values.T, **seeds)
    _draw_line(axes, i, turns, values.mean(axis=0), bounds, name)
  axes.set_xlabel('attempt', fontsize=11)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_ylim(bottom=0)
  plots.in_percent(axes)
  plots.add_legend(axes)
  return axes.figure


def draw_scaling(scaling: tables.Record) -> mpl_figure.Figure:
  """Draws a vote's accuracy over samples spent in either way (Figure 1, right).

  Args:
    scaling: from `scaling.inference_scaling`.
  """
  axes = plots.new_axes()
  positions = range(len(scaling['budgets']))
  labels = {
    'parallel': '2K attempts',
    'corrected': 'K attempts, corrected once',
  }
  for i, (name, label) in enumerate(labels.items()):
    values = 100 * np.array(scaling[name])
    _draw_line(axes, i, positions, values, scaling[f'{name}_ci95'], label)
  axes.set_xticks(positions, [str(budget) for budget in scaling['budgets']])
  axes.set_xlabel('attempts spent on a problem', fontsize=11)
  plots.in_percent(axes, 'accuracy of the vote')
  plots.add_legend(axes)
  return axes.figure


def draw_groups(
  groups: Mapping[str, tables.Record], column: str
) -> mpl_figure.Figure:
  """Draws accuracy of two turns by groups of problems, with 95 % intervals.

  Args:
    groups: policy summaries from `breakdown.by_group`.
    column: the problems' column that makes the groups.
  """
  axes = plots.new_axes()
  positions = np.arange(len(groups))
  for turn in (1, 2):
    name = f'acc_t{turn}'
    values = 100 * np.array([held[name] for held in groups.values()])
    bounds = 100 * np.array([held[f'{name}_ci95'] for held in groups.values()])
    axes.bar(
      positions + 0.4 * (turn - 1.5), values, width=0.38,
      color=plots.COLOURS[turn - 1], label=f'turn {turn}',
      yerr=np.abs(bounds.T - values), ecolor=plots.MUTED, capsize=2,
    )  # fmt: skip
  labels = [f'{name}\n({held["problems"]})' for name, held in groups.items()]
  axes.set_xticks(positions, labels)
  axes.set_xlabel(f'{column.replace("_", " ")} (problems)', fontsize=11)
  axes.set_ylim(0, 105)
  plots.in_percent(axes)
  plots.add_legend(axes)
  return axes.figure


def _draw_line(axes, index, positions, values, bounds, label) -> None:
  """Draws percentages [S] with bounds, fractions [S, 2] or None."""
  style = plots.series(index)
  if bounds is not None:
    area = {'color': style['color'], 'alpha': 0.15, 'linewidth': 0}
    axes.fill_between(positions, *(100 * np.array(bounds).T), **area)
  axes.plot(
    positions, values, linewidth=2, label=label, markersize=5,
    markeredgecolor=plots.PAPER, **style,
  )  # fmt: skip
