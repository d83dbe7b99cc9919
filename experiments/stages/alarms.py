"""Alarms: metrics of training that tell early that a run goes wrong.

Each is raised once a stage, where the mean over a window of updates is beyond a
bound. The bounds are far from what training that goes well has; they stop
nothing.
"""

import collections
from collections.abc import Callable, Iterator, Mapping
import dataclasses
import re

WINDOW = 10  # updates


@dataclasses.dataclass(frozen=True)
class Alarm:
  """A bound on a metric.

  Attributes:
    metric: regular expression of its name; a group is the turn.
    is_beyond: (mean over the window, mean over the stage's first window) ->
      whether to raise it.
    sentence: what it means and what to do; {mean} and {turn} are filled in.
    per_token: the metric is divided by the attempt's length.
    after: updates before which it is not raised.
  """

  metric: str
  is_beyond: Callable[[float, float], bool]
  sentence: str
  per_token: bool = False
  after: int = WINDOW


ALARMS = (
  Alarm(
    'score/frac_zero_spread',
    lambda mean, first: mean >= 0.95,
    'at {mean:.0%} of the problems all samples have the same reward, and teach '
    'nothing: take easier or harder problems, or raise --samples-per-problem',
  ),
  Alarm(
    'score/frac_identical',
    lambda mean, first: mean >= 0.95,
    '{mean:.0%} of the second attempts repeat the first one: the policy has '
    'stopped correcting. More Stage I (--steps-stage1, --beta2), more problems '
    'or a base policy that repeats less may help',
    # A base policy that repeats itself needs time to learn not to.
    after=3 * WINDOW,
  ),
  Alarm(
    r'entropy/turn(\d)',
    lambda mean, first: mean <= 0.001,
    'attempts of turn {turn} are nearly the same whatever is drawn ({mean:.4f} '
    'nats a token): a higher --temperature or --beta1, or a lower '
    '--learning-rate, keeps more variety',
  ),
  Alarm(
    r'kl/turn(\d)',
    lambda mean, first: mean >= 1.0,
    'turn {turn} is {mean:.1f} nats a token away from the reference: a lower '
    '--learning-rate or a higher --beta1 or --beta2 holds it back',
    per_token=True,
  ),
  Alarm(
    r'length/turn(\d)',
    lambda mean, first: mean <= 0.2 * first,
    'attempts of turn {turn} have shrunk to {mean:.1f} tokens: does the grader '
    'pay for empty ones? See samples.jsonl',
  ),
  Alarm(
    r'truncated/turn(\d)',
    lambda mean, first: mean >= 0.5,
    '{mean:.0%} of the attempts of turn {turn} are cut off: raise '
    '--max-attempt-tokens',
  ),
  Alarm(
    'engine/logprob_gap_max',
    # Rounding to bfloat16 makes some tenths of a nat at unlikely tokens.
    lambda mean, first: mean >= 1.5,
    'a token has other log-probabilities where it is sampled than where it is '
    'learnt from, by up to {mean:.1f} nats, so that updates are not on-policy: '
    'see whether --dtype=float32 ends it',
  ),
)


class Alarms:
  """The alarms of one stage."""

  def __init__(self):
    self.raised: set[str] = set()
    self._recent: dict[str, collections.deque] = {}
    self._first: dict[str, float] = {}
    self._updates = 0

  def read(self, values: Mapping[str, float]) -> list[str]:
    """Sentences of the alarms that an update's metrics raise."""
    sentences = []
    self._updates += 1
    for alarm in ALARMS:
      for name, turn in _matching(alarm.metric, values):
        value = values[name]
        if alarm.per_token:
          value /= values.get(f'length/turn{turn}') or 1
        mean = self._mean(name, value)
        if mean is None or name in self.raised or self._updates < alarm.after:
          continue
        if alarm.is_beyond(mean, self._first[name]):
          self.raised.add(name)
          sentences.append(alarm.sentence.format(mean=mean, turn=turn))
    return sentences

  def _mean(self, name: str, value: float) -> float | None:
    """Mean over the window, None before there is a whole one."""
    recent = self._recent.setdefault(name, collections.deque(maxlen=WINDOW))
    recent.append(value)
    if len(recent) < WINDOW:
      return None
    mean = sum(recent) / WINDOW
    self._first.setdefault(name, mean)
    return mean


def _matching(
  metric: str, values: Mapping[str, float]
) -> Iterator[tuple[str, str]]:
  """(name, turn) of the metrics that match, turn '' where there is none."""
  for name, value in values.items():
    found = re.fullmatch(metric, name)
    if found and value is not None:
      yield name, found[1] if found.groups() else ''
