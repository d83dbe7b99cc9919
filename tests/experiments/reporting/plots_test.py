"""The picture shows what the records say, where they say it."""

from matplotlib import figure, image
import numpy as np
import pytest

from experiments.reporting import plots


def record(stage, step, first, second):
  return {
    'stage': stage,
    'step': step,
    'score/acc_t1': first,
    'score/acc_t2': second,
    'loss': 1.0,
  }


RECORDS = [
  {'stage': 'base', 'step': 0, 'loss': 2.0},
  *[record('stage1', i, 0.5, 0.4 + 0.01 * i) for i in range(10)],
  *[record('stage2', i, 0.5 + 0.01 * i, 0.6 + 0.01 * i) for i in range(20)],
]
EVALUATIONS = [
  {
    'stage': 'stage1',
    'step': 0,
    'label': 'held-out',
    'acc_t1': 0.5,
    'acc_t2': 0.4,
  },
  {
    'label': 'held-out',
    'stage': 'stage2',
    'step': 20,
    'acc_t1': 0.7,
    'acc_t1_ci95': [0.68, 0.73],
    'acc_t2': 0.8,
  },
  {'stage': 'stage2', 'step': 10, 'label': 'validation', 'acc_t1': 0.6},
]


@pytest.fixture(name='drawn')
def fixture_drawn(monkeypatch):
  """The figures that were saved, to look at what is in them."""
  figures = []
  save = figure.Figure.savefig

  def keep(self, *args, **kwargs):
    figures.append(self)
    save(self, *args, **kwargs)

  monkeypatch.setattr(figure.Figure, 'savefig', keep)
  return figures


def test_writes_a_picture(tmp_path):
  path = tmp_path / 'curves.png'
  plots.learning_curves(RECORDS, path, evaluations=EVALUATIONS, title='Sums')
  pixels = image.imread(path)
  assert pixels.shape[:2] == (750, 1350)
  assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


def test_stages_lie_end_to_end(tmp_path, drawn):
  plots.learning_curves(RECORDS, tmp_path / 'curves.png', window=1)
  (axes,) = drawn[0].axes
  curves = [
    line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 2
  ]
  # Turn 1 then turn 2; of each the raw and the smooth line of both stages.
  assert len(curves) == 8
  np.testing.assert_allclose(curves[0], [[i, 50] for i in range(10)])
  np.testing.assert_allclose(
    curves[2], [[10 + i, 50 + i] for i in range(20)], rtol=1e-6
  )
  np.testing.assert_allclose(curves[4], [[i, 40 + i] for i in range(10)])
  np.testing.assert_allclose(curves[4], curves[5])  # window 1
  boundaries = [line for line in axes.lines if len(line.get_xdata()) == 2]
  assert [line.get_xdata()[0] for line in boundaries] == [10]
  assert {'stage1', 'stage2'} <= {t.get_text() for t in axes.texts}
  labels = [t.get_text() for t in axes.get_legend().get_texts()]
  assert labels == ['turn 1, training', 'turn 2, training']


def test_evaluations_stand_at_finished_updates(tmp_path, drawn):
  plots.learning_curves(
    RECORDS,
    tmp_path / 'curves.png',
    evaluations=EVALUATIONS,
  )
  (axes,) = drawn[0].axes
  points = {
    tuple(point): segment[:, 1]
    for container in axes.containers
    for point, segment in zip(
      container[0].get_xydata().round(6), container[2][0].get_segments()
    )
  }
  assert set(points) == {(0, 50), (0, 40), (20, 60), (30, 70), (30, 80)}
  np.testing.assert_allclose(points[30, 70], [68, 73])
  labels = [t.get_text() for t in axes.get_legend().get_texts()]
  assert labels == [
    'turn 1, training',
    'turn 2, training',
    'turn 1, held-out',
    'turn 1, validation',
    'turn 2, held-out',
  ]
  # Only points of the second label are hollow.
  faces = {
    container.get_label(): container[0].get_markerfacecolor()
    for container in axes.containers
  }
  assert faces['turn 1, validation'] == plots.PAPER
  assert faces['turn 1, held-out'] == plots.COLOURS[0]


@pytest.mark.parametrize('window', [1, 2, 3, 7, 50])
def test_smooth_against_a_loop(window):
  values = np.random.default_rng(0).random(20)
  half = window // 2
  expected = [
    np.mean([values[j] for j in range(20) if abs(i - j) <= half])
    for i in range(20)
  ]
  np.testing.assert_allclose(plots.smooth(values, window), expected)


def test_nothing_to_draw_is_said(tmp_path):
  with pytest.raises(ValueError, match='nothing to draw'):
    plots.learning_curves(RECORDS[:1], tmp_path / 'curves.png')


def test_unknown_stages_are_rejected(tmp_path):
  with pytest.raises(ValueError, match='base.*step 0 of the first stage'):
    plots.learning_curves(
      RECORDS,
      tmp_path / 'curves.png',
      evaluations=[{'stage': 'base', 'step': 0, 'acc_t1': 0.5}],
    )
