"""The study's picture: every method and seed is in it."""

from matplotlib import figure as figure_lib
import pytest

from experiments.reporting import study_plots, tables


def row(*seeds, **intervals):
  return {
    'seeds': {str(i): seed for i, seed in enumerate(seeds)},
    'mean': tables.pool(seeds) | intervals,
  }


EQUAL = {'acc_t1': 0.2, 'acc_t2': 0.2, 'delta': 0.0}
CURVES = {
  'SCoRe': {
    0.9: row(EQUAL),
    0.5: row(
      {'acc_t1': 0.1, 'acc_t2': 0.3, 'delta': 0.2},
      {'acc_t1': 0.3, 'acc_t2': 0.4, 'delta': 0.1},
      acc_t2_ci95=[0.15, 0.5],
    ),
  },
  'Multi-turn RL': {0.5: row(EQUAL)},
}


def test_lines_are_the_means(tmp_path, monkeypatch):
  figures = []
  savefig = figure_lib.Figure.savefig

  def keep(figure, *args, **kwargs):
    figures.append(figure)
    savefig(figure, *args, **kwargs)

  monkeypatch.setattr(figure_lib.Figure, 'savefig', keep)
  path = tmp_path / 'study.png'
  study_plots.draw_study(
    CURVES, path, label='share of copies', notes={0.5: '2 %', 0.9: '0 %'}
  )
  assert path.read_bytes().startswith(b'\x89PNG')
  (figure,) = figures
  first, second, delta = figure.axes
  assert figure.get_supxlabel() == 'share of copies'
  ticks = [text.get_text() for text in first.get_xticklabels()]
  assert ticks == ['0.5\n2 %', '0.9\n0 %']
  labels = [text.get_text() for text in figure.legends[0].get_texts()]
  assert labels == ['SCoRe', 'Multi-turn RL']
  for axes, expected in ((first, 0.2), (second, 0.35), (delta, 0.15)):
    line = axes.lines[0]
    assert list(line.get_xdata()) == [0.5, 0.9]
    assert line.get_ydata()[0] == pytest.approx(expected)
    # The seeds themselves, where there are several.
    assert len(axes.lines[1].get_ydata()) == 2
  # Intervals, where they are known.
  bars = second.collections[0].get_segments()
  assert bars[0][:, 1].tolist() == pytest.approx([0.15, 0.5])
  assert bars[1][:, 1].tolist() == pytest.approx([0.2, 0.2])


def test_nothing_is_rejected(tmp_path):
  with pytest.raises(ValueError, match='nothing to draw'):
    study_plots.draw_study({}, tmp_path / 'study.png', label='', notes={})
