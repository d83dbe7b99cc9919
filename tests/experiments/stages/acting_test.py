"""Acting and grading beside it: the order on the host, and whole runs."""

import os
import signal
import types as python_types

import pytest

from experiments.run import building, policies, run_directory
from experiments.stages import acting, rl_stage
from score_jax import types
from score_jax.io import json_files, metric_log
from score_jax.rollout import randomness
from tests.support import small_run

# Checkpoints after 4 and 8 updates, evaluations after 3 and 6.
LAG = (
  '--rollout.lag=1',
  '--steps-stage1=8',
  '--steps-stage2=8',
  '--checkpoint-every=4',
  '--eval-every=3',
  '--log-samples-every=1',
  '--learning-rate=3e-3',
  '--adaptive-beta2',
  '--drop-zero-spread',
  '--given-attempts-share=0.5',
)
STALE = [2, 3, 6, 8]


class Host:
  """What `acting` reads of a run; notes what is done, in its order.

  A trajectory is its part's number here.
  """

  def __init__(self):
    self.done = []
    self.stop = python_types.SimpleNamespace(wait=self._note('wait'))
    self.sampler = self.grader = self

  def _note(self, what):
    return lambda part: self.done.append((what, part))

  def join(self, parts):
    return parts

  def attempts(self, part):
    return [[types.Attempt(f'{part}.{sample}')] for sample in range(2)]

  def grade(self, problems, attempts):
    assert [p.id for p in problems] == [f'p{attempts[0].text[0]}'] * 2
    self.done.append(('grade', int(attempts[0].text[0])))
    return [types.Verdict('correct', 1.0)] * len(attempts)


def test_a_part_is_graded_while_the_next_one_is_sampled():
  host = Host()
  parts = [([types.Problem(f'p{i}', 'sums', '', '')], i) for i in range(3)]
  rollout = acting.Rollout(host, parts)
  assert rollout.wait() == [0, 1, 2]
  # The last one is left, for `grade`.
  assert host.done == [
    ('wait', 0), ('grade', 0), ('wait', 1), ('grade', 1), ('wait', 2)
  ]  # fmt: skip
  episodes = rollout.grade()
  assert host.done[5:] == [('grade', 2)]
  assert [e.attempts[0].text for e in episodes] == [
    '0.0', '0.1', '1.0', '1.1', '2.0', '2.1'
  ]  # fmt: skip


@pytest.mark.slow  # half a minute
def test_parts_change_nothing_but_rounding(finished, tmp_path):
  flags = ('--rollout.parts=2', '--mesh.fsdp=2', '--given-attempts-share=0.5')
  runs = []
  for name, more in (('whole', flags[2:]), ('parts', flags)):
    path = small_run.begin_from_base(finished, tmp_path / name, *more)
    assert small_run.main(path, *more) == 0
    runs.append(path)
  for stage in ('stage1', 'stage2'):
    one, other = ((r / stage / 'samples.jsonl').read_text() for r in runs)
    assert one == other
    for a, b in zip(*(small_run.metrics(r, stage) for r in runs), strict=True):
      assert a == pytest.approx(b, abs=1e-4)


@pytest.fixture(name='lagging', scope='module')
def fixture_lagging(finished, tmp_path_factory):
  """A run of stages of eight steps whose batches are sampled ahead."""
  path = tmp_path_factory.mktemp('lagging') / 'run'
  small_run.begin_from_base(finished, path, *LAG)
  assert small_run.main(path, *LAG) == 0
  return path


@pytest.mark.slow  # with all that follow, two minutes
@pytest.mark.parametrize('name', ['stage1', 'stage2'])
def test_only_batches_that_are_stale_have_weights(lagging, name):
  records = small_run.metrics(lagging, name)
  assert [r['step'] for r in records] == [*range(1, 9)]
  seen = set()
  for record in records:
    is_stale = record['step'] in STALE
    # What it would measure there is no rounding.
    assert ('engine/logprob_gap_max' in record) == (not is_stale)
    assert record.get('engine/logprob_gap_max', 0) < 1e-4
    # Without one where all problems are dropped.
    if 'importance/mean' in record:
      off = abs(record['importance/mean'] - 1)
      assert off > 1e-4 if is_stale else off < 1e-5
      seen.add(is_stale)
  assert seen == {False, True}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['stage1', 'stage2'])
def test_the_policy_before_an_update_samples_the_next_batch(lagging, name):
  run = building.reopen(run_directory.RunDirectory(lagging))
  stage = run.stages[name]
  problems = run.batch(stage.first_batch + 1)
  base, start = (
    policies.stage_policy(run, policy) for policy in ('base', stage.start)
  )
  made = run.sampler.attempts(
    run.sampler.sample(
      run.layout.inference_params(start),
      problems,
      randomness.stream(run.settings.seed, 'train', name, 1),
      samples_per_problem=4,
      given=rl_stage.given_first_attempts(run, stage, base, problems),
    )
  )
  texts = {
    (p.id, *[attempt.text for attempt in episode])
    for p, episode in zip([p for p in problems for _ in range(4)], made)
  }
  lines = json_files.read_lines(lagging / name / 'samples.jsonl')
  seen = [(r['id'], *r['attempts']) for r in lines if r['step'] == 2]
  assert len(seen) == 4
  assert texts.issuperset(seen)


class Killed(BaseException):
  """Ends a run at once, as SIGKILL does."""


@pytest.mark.slow
@pytest.mark.parametrize(
  ('step', 'is_killed', 'saved'), [(5, False, 4), (6, False, 6), (7, True, 4)]
)
def test_ended_with_a_batch_ahead(
  finished, lagging, tmp_path, monkeypatch, step, is_killed, saved
):
  """It goes on from the last step after which nothing was ahead."""
  path = tmp_path / 'run'
  small_run.begin_from_base(finished, path, *LAG)
  write = metric_log.MetricsLog.write

  def write_and_end(log, done, metrics):
    write(log, done, metrics)
    if (log._stage, done) == ('stage1', step):
      if is_killed:
        raise Killed
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(metric_log.MetricsLog, 'write', write_and_end)
    if is_killed:
      with pytest.raises(Killed):
        small_run.main(path, *LAG)
    else:
      assert small_run.main(path, *LAG) == 128 + signal.SIGTERM
  checkpoints = (path / 'stage1' / 'checkpoints').iterdir()
  assert max(int(p.name) for p in checkpoints) == saved
  assert small_run.main(path, *LAG) == 0
  small_run.assert_same(lagging, path)
