"""Acting and grading beside it: the order on the host, and whole runs."""

import types as python_types

import pytest

from experiments.stages import acting
from score_jax import types
from tests.support import small_run


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
