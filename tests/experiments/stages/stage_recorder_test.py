"""What a step leaves behind: numbers by hand, and the stop at infinity."""

import dataclasses
import io
import types as python_types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from rich import console as rich_console

from experiments.config import command_line
from experiments.run import run_directory, transcripts
from experiments.stages import rl_stage, stage_recorder
from score_jax import arrays, types
from score_jax.algorithm import stage_coefficients
from tests.support import small_run


def verdict(score):
  if score is None:
    return types.Verdict('timeout', None)
  return types.Verdict('correct' if score else 'wrong', score)


def attempts_of(rows):
  return [
    [types.Attempt(text, k + 1, finished) for k, (text, finished)
     in enumerate(row)]
    for row in rows
  ]  # fmt: skip


PROBLEM = types.Problem('1+2', 'arithmetic', '1+2', '03')


def episodes_of(attempts, verdicts):
  return transcripts.episodes([PROBLEM] * len(attempts), attempts, verdicts)


def test_attempt_metrics_by_hand():
  # Two problems of two samples. The first problem has spread in turn 2 only,
  # the second in turn 1 only (its other attempt timed out).
  scores = [(0.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, None)]
  verdicts = [[verdict(score) for score in row] for row in scores]
  attempts = attempts_of(
    [
      [('5', True), ('5', True)],
      [('5', True), ('67', False)],
      [('8', False), ('8', True)],
      [('9', True), ('1', True)],
    ]
  )
  values = rl_stage.attempt_metrics(
    episodes_of(attempts, verdicts), 2, stage_coefficients.stage_two()
  )
  assert values['reward/timeouts'] == 1
  assert values['reward/ungraded'] == 1
  # Over the three rows that are graded whole.
  assert values['score/acc_t1'] == pytest.approx(1 / 3)
  assert values['score/acc_t2'] == pytest.approx(1 / 3)
  assert values['score/i_to_c'] == pytest.approx(1 / 3)
  assert values['score/c_to_i'] == pytest.approx(1 / 3)
  # The scores that the stage rewards, without bonus: 2 in 4 rows.
  assert values['reward/selection'] == pytest.approx(2 / 4)
  assert values['score/frac_zero_spread_t1'] == 0.5
  assert values['score/frac_zero_spread_t2'] == 0.5
  assert values['score/frac_zero_spread'] == 0.0
  assert (values['truncated/turn1'], values['truncated/turn2']) == (0.25, 0.25)
  assert values['score/frac_identical'] == 0.5
  # Stage I rewards turn 2 alone: the second problem teaches nothing.
  values = rl_stage.attempt_metrics(
    episodes_of(attempts, verdicts), 2, stage_coefficients.stage_one()
  )
  assert values['score/frac_zero_spread'] == 0.5
  assert values['reward/selection'] == pytest.approx(1 / 4)


def test_accuracies_are_not_the_rewards():
  # By hand: right at turn 2 alone, whatever is rewarded; the last reward is
  # missing, and so is one grade.
  rows = [
    [(0.0, 0.9), (1.0, 0.1)],
    [(0.0, 0.9), (1.0, 0.3)],
    [(0.0, 0.9), (1.0, 0.1)],
    [(None, 0.5), (1.0, None)],
  ]
  verdicts = [
    [
      dataclasses.replace(verdict(score), reward=verdict(reward))
      for score, reward in row
    ]
    for row in rows
  ]
  attempts = attempts_of([[('5', True), ('6', True)]] * 4)
  values = rl_stage.attempt_metrics(
    episodes_of(attempts, verdicts), 2, stage_coefficients.stage_two()
  )
  assert (values['score/acc_t1'], values['score/acc_t2']) == (0.0, 1.0)
  assert values['score/ungraded'] == 1
  assert values['reward/ungraded'] == 1
  # (0.9 * 3 + 0.5 + 0.1 + 0.3 + 0.1) / 4.
  assert values['reward/selection'] == pytest.approx(3.7 / 4)
  assert values['score/frac_zero_spread_t1'] == 0.5
  assert values['score/frac_zero_spread_t2'] == 0.5


def test_one_turn_has_no_text_metrics():
  values = rl_stage.attempt_metrics(
    episodes_of(
      attempts_of([[('5', True)], [('6', True)]]),
      [[verdict(1.0)], [verdict(0.0)]],
    ),
    2,
    stage_coefficients.make_stage([1.0], [0.0], [0.1]),
  )
  assert values['score/acc_t1'] == 0.5
  assert 'score/frac_identical' not in values
  assert 'score/acc_t2' not in values


class Recorded:
  """A recorder of a stage of six steps, and what is written to its console."""

  def __init__(self, path, *more):
    self.output = io.StringIO()
    # All that a recorder reads of a run.
    self.run = python_types.SimpleNamespace(
      settings=command_line.parse_settings([*small_run.FLAGS, *more]),
      directory=run_directory.RunDirectory(path),
      layout=python_types.SimpleNamespace(dtype=jnp.float32),
      stages={'stage2': None},
      console=rich_console.Console(file=self.output, width=200),
    )
    self.directory = self.run.directory.stage('stage2')
    self.state = arrays.TrainState(
      step=jnp.int32(0),
      params={'w': jnp.zeros(2)},
      opt_state=optax.sgd(1.0).init({'w': jnp.zeros(2)}),
      beta2=jnp.float32(0.1),
      skipped=jnp.int32(0),
    )
    self.evaluated = []
    self.is_stopped = False

  def open(self, steps=6, **options):
    return stage_recorder.StageRecorder(
      self.run, 'stage2', steps, self.state, self._evaluate, **options
    )

  def _evaluate(self, params):
    if self.is_stopped:
      raise types.StoppedError
    self.evaluated.append(float(params['w'][0]))
    return {'eval/acc_t1': float(params['w'][0])}

  def step(self, recorder, number, score, skipped=0, learning=1.0):
    """One step after which w is its number, and all attempts score so."""
    recorder.begin_step()
    state = self.state.replace(
      step=jnp.int32(number),
      params={'w': jnp.full(2, float(number))},
      skipped=jnp.int32(skipped),
    )
    trajectory = jax.tree.map(
      jnp.asarray,
      arrays.Trajectory(
        tokens=np.zeros((4, 6), np.int32),
        turn=np.tile(np.array([0, 1, 1, 0, 2, 2], np.int32), (4, 1)),
        sampled=np.ones((4, 2), bool),
        logprobs=np.zeros((4, 6), np.float32),
        length=np.full(4, 6, np.int32),
        finished=np.ones((4, 2), bool),
        problem_index=np.zeros(4, np.int32),
      ),
    )
    episodes = episodes_of(
      attempts_of([[('03', True), ('03', True)]] * 4),
      [[verdict(score), verdict(score)]] * 4,
    )
    report = stage_recorder.StepReport(
      trajectory,
      # Every second update is clipped.
      {
        'loss': (jnp.float32(3.0), jnp.int32(2)),
        'clipped': (jnp.float32(number % 2), jnp.int32(1)),
        'learning_attempts': (jnp.float32(learning), jnp.int32(1)),
      },
      rl_stage.attempt_metrics(episodes, 4, stage_coefficients.stage_two()),
      episodes,
    )
    recorder.end_step(state, report)
    return state


def test_the_best_policy_is_that_of_the_best_window(tmp_path):
  recorded = Recorded(tmp_path, '--checkpoint-every=2')
  with recorded.open() as recorder:
    # Mean scores of the windows that end at 2, 4 and 6: 0.5, 1, 0.
    for number, score in enumerate([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], start=1):
      recorded.step(recorder, number, score)
    best = recorder.chosen_policy()
  assert float(best['w'][0]) == 4
  said = recorded.output.getvalue()
  assert 'best by training reward, of step 4' in said
  assert 'Share of problems without reward spread: 100 %' in said
  assert 'Share of updates with a clipped gradient: 50%.' in said
  assert recorded.directory.is_finished(6)
  [last] = small_run.metrics(tmp_path, 'stage2')[-1:]
  assert last['loss'] == 1.5
  assert last['step'] == 6


def test_the_last_policy_where_that_is_asked_for(tmp_path):
  recorded = Recorded(
    tmp_path, '--checkpoint-every=2', '--checkpoint-selection=last'
  )
  with recorded.open() as recorder:
    for number, score in enumerate([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], start=1):
      recorded.step(recorder, number, score)
    assert float(recorder.chosen_policy()['w'][0]) == 6


def test_the_best_policy_by_what_is_measured_for_each_checkpoint(tmp_path):
  recorded = Recorded(tmp_path, '--checkpoint-every=4')
  with recorded.open(select_by='eval/acc_t1') as recorder:
    # `_evaluate` returns the step: the last is best, whatever attempts scored.
    for number, score in enumerate([1.0, 1.0, 1.0, 1.0, 0.0, 0.0], start=1):
      recorded.step(recorder, number, score)
    assert float(recorder.chosen_policy()['w'][0]) == 6
  assert recorded.evaluated == [4.0, 6.0]
  assert 'best on the validation problems' in recorded.output.getvalue()


def test_a_continued_stage_knows_its_earlier_scores(tmp_path):
  scores = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0]
  recorded = Recorded(tmp_path, '--checkpoint-every=3')
  with recorded.open() as recorder:
    for number in (1, 2):
      state = recorded.step(recorder, number, scores[number - 1])
    # Stopped between two checkpoints.
    recorder.save(state)
    recorder.save(state)
  again = Recorded(tmp_path, '--checkpoint-every=3')
  with again.open() as recorder:
    assert int(recorder.state.step) == 2
    for number in (3, 4, 5, 6):
      again.step(recorder, number, scores[number - 1])
    # Windows: 1 to 3 and 4 to 6, both 2/3; of equals the earlier.
    assert float(recorder.chosen_policy()['w'][0]) == 3
  assert 'going on after step 2 of 6' in again.output.getvalue()
  steps = [r['step'] for r in small_run.metrics(tmp_path, 'stage2')]
  assert steps == [1, 2, 3, 4, 5, 6]


def test_a_damaged_log_changes_no_score(tmp_path, caplog):
  scores = [0.0, 1.0, 1.0, 1.0, 0.0, 1.0]
  recorded = Recorded(tmp_path, '--checkpoint-every=3')
  with recorded.open() as recorder:
    for number in (1, 2):
      state = recorded.step(recorder, number, scores[number - 1])
    recorder.save(state)
  recorded.directory.metrics.unlink()
  with recorded.open() as recorder:
    for number in (3, 4, 5):
      recorded.step(recorder, number, scores[number - 1])
  assert caplog.text.count('2 of 2 lines are lost, steps 1 to 2') == 1
  # Without a single record of the scores: of equals, the earlier is the best.
  recorded.directory.metrics.write_text('')
  with recorded.open() as recorder:
    for number in (4, 5, 6):
      recorded.step(recorder, number, scores[number - 1])
    assert float(recorder.chosen_policy()['w'][0]) == 3
  assert 'best by training reward, of step 3' in recorded.output.getvalue()


def test_evaluation_every_so_often(tmp_path):
  recorded = Recorded(tmp_path, '--eval-every=2')
  with recorded.open() as recorder:
    for number in (1, 2, 3, 4):
      recorded.step(recorder, number, 1.0)
  assert recorded.evaluated == [2.0, 4.0]
  values = [r.get('eval/acc_t1') for r in small_run.metrics(tmp_path, 'stage2')]
  assert values == [None, 2.0, None, 4.0]


@pytest.mark.parametrize('select_by', ['eval/acc_t1', 'reward/selection'])
def test_an_evaluation_that_is_stopped_is_made_later(tmp_path, select_by):
  # Of checkpoints 2, 4 and 6 the second is the best, whoever chooses.
  scores = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]

  def recorded_in(path):
    flags = ('--checkpoint-every=2', '--eval-every=2')
    return Recorded(path, *flags)

  def finish(recorded, recorder, after):
    for number in range(after + 1, 7):
      recorded.step(recorder, number, scores[number - 1])
    return float(recorder.chosen_policy()['w'][0])

  whole = recorded_in(tmp_path / 'whole')
  with whole.open(select_by=select_by) as recorder:
    best = finish(whole, recorder, 0)
  stopped = recorded_in(tmp_path / 'stopped')
  with stopped.open(select_by=select_by) as recorder:
    for number in (1, 2, 3):
      stopped.step(recorder, number, scores[number - 1])
    stopped.is_stopped = True
    recorder.save(stopped.step(recorder, 4, scores[3]))
  # The step is kept, without its evaluation; a second stop changes nothing.
  assert (
    'eval/acc_t1' not in small_run.metrics(tmp_path / 'stopped', 'stage2')[-1]
  )
  with (
    stopped.open(select_by=select_by) as recorder,
    pytest.raises(types.StoppedError),
  ):
    recorder.complete_record()
  stopped.is_stopped = False
  with stopped.open(select_by=select_by) as recorder:
    assert int(recorder.state.step) == 4
    recorder.complete_record()
    assert finish(stopped, recorder, 4) == best
  assert stopped.evaluated == [2.0, 4.0, 6.0]
  records = [
    small_run.metrics(tmp_path / name, 'stage2')
    for name in ('whole', 'stopped')
  ]
  assert records[0] == records[1]


def test_a_record_is_written_beside_the_next_rollout(tmp_path):
  def written():
    return [r['step'] for r in small_run.metrics(tmp_path, 'stage2')]

  flags = ('--checkpoint-every=5', '--log-samples-every=4')
  recorded = Recorded(tmp_path, *flags)
  with recorded.open(steps=20) as recorder:
    recorded.step(recorder, 1, 1.0)
    assert written() == []
    recorder.write()
    assert written() == [1]
    recorder.write()
    recorded.step(recorder, 2, 1.0)
    assert written() == [1]
    # Nobody wrote: the next step does.
    recorded.step(recorder, 3, 1.0)
    assert written() == [1, 2]
    # Samples and checkpoints come after the record of their step.
    recorded.step(recorder, 4, 1.0)
    assert written() == [1, 2, 3, 4]
    recorded.step(recorder, 5, 1.0)
    assert written() == [1, 2, 3, 4, 5]
    recorded.step(recorder, 6, 1.0)
    assert written() == [1, 2, 3, 4, 5]
  # However the stage ends.
  assert written() == [1, 2, 3, 4, 5, 6]
  said = recorded.output.getvalue()
  assert said.index('stage2   4/20') < said.index('stage2, step 4')


def test_a_trace_of_some_steps(tmp_path):
  recorded = Recorded(tmp_path, '--profile=2')
  with recorded.open() as recorder:
    for number in (1, 2, 3):
      assert not recorded.directory.profile.exists() or number > 2
      recorded.step(recorder, number, 1.0)
  [trace] = recorded.directory.profile.rglob('perfetto_trace.json.gz')
  assert trace.stat().st_size
  said = recorded.output.getvalue()
  assert f'steps traced: 2, in {recorded.directory.profile}' in said
  # A start that makes fewer steps has a shorter one.
  with recorded.open() as recorder:
    for number in (1, 2):
      recorded.step(recorder, number, 1.0)
  assert 'steps traced: 1, in' in recorded.output.getvalue()


def test_updates_that_stay_not_finite_end_the_run(tmp_path):
  recorded = Recorded(tmp_path)
  with recorded.open() as recorder:
    for number in (1, 2, 3, 4):
      recorded.step(recorder, number, 1.0, skipped=number)
    with pytest.raises(FloatingPointError, match='5 updates in a row') as error:
      recorded.step(recorder, 5, 1.0, skipped=5)
  path = recorded.directory.path / 'not_finite'
  # A supervised one, that experiments.replay does not make again.
  assert f'is in {path}. To go on' in str(error.value)
  assert f'--fork-from={tmp_path} ' in str(error.value)
  with np.load(path / 'batch.npz') as batch:
    assert set(batch) == {*vars(_empty_trajectory()), 'dtype'}
    assert batch['tokens'].shape == (4, 6)
    assert batch['dtype'] == 'float32'
  # The step that ended it is logged, and not saved.
  assert len(small_run.metrics(tmp_path, 'stage2')) == 5


def test_an_alarm_is_said_once_and_counted(tmp_path, caplog):
  def repeated():
    said = [record.getMessage() for record in caplog.records]
    return [text for text in said if 'have the same reward' in text]

  recorded = Recorded(tmp_path, '--checkpoint-every=12')
  with recorded.open(steps=20) as recorder:
    for number in range(1, 13):
      recorded.step(recorder, number, 0.0)
  [sentence] = repeated()
  assert sentence.startswith('stage2, step 10: at 100% of the problems')
  counts = [r['alarms'] for r in small_run.metrics(tmp_path, 'stage2')]
  assert counts == [0.0] * 9 + [1.0] * 3
  with recorded.open(steps=20) as recorder:
    recorded.step(recorder, 13, 0.0)
  assert len(repeated()) == 1
  assert small_run.metrics(tmp_path, 'stage2')[-1]['alarms'] == 1


def test_updates_without_an_attempt_to_learn_from_end_the_run(tmp_path):
  recorded = Recorded(tmp_path, '--checkpoint-every=2')
  with recorded.open(steps=20) as recorder:
    # Four in a row, one with something to learn from, and five in a row.
    for number in range(1, 10):
      recorded.step(recorder, number, 0.0, learning=float(number == 5))
    with pytest.raises(run_directory.RunError, match='5 updates in a row') as e:
      recorded.step(recorder, 10, 0.0, learning=0.0)
  assert 'reward/ungraded 0' in str(e.value)
  assert 'truncated/turn1 0' in str(e.value)
  # A run that is continued has not forgotten them.
  with recorded.open(steps=20) as recorder:
    assert int(recorder.state.step) == 8
    recorded.step(recorder, 9, 0.0, learning=0.0)
    with pytest.raises(run_directory.RunError, match='5 updates in a row'):
      recorded.step(recorder, 10, 0.0, learning=0.0)


def _empty_trajectory():
  return arrays.Trajectory(*[None] * 7)


def test_a_stage_of_no_steps_is_the_policy_it_starts_from(tmp_path):
  recorded = Recorded(tmp_path)
  with recorded.open(steps=0) as recorder:
    assert float(recorder.chosen_policy()['w'][0]) == 0
  assert 'of step 0' in recorded.output.getvalue()
  assert 'spread' not in recorded.output.getvalue()
