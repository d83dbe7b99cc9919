"""The nouns on the host: what is asked, what was written, how it was graded.

One word per thing: *problem, prompt, attempt* (text), *turn* (index, from 1),
*instruction, trajectory, score* (what a grader returned), *correct* (score over
a threshold), *reward* (shaped), *advantage, policy, reference, stage, step,
preset, run*. This module imports no jax: grader processes read it.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any, Literal, NamedTuple, Protocol


@dataclasses.dataclass(frozen=True)
class Problem:
  """One question with its reference answer.

  Attributes:
    id: stable and unique in its data set.
    task: name of the task whose grader grades it.
    question: the text that is asked.
    reference: the answer (math) or the canonical solution (code).
    columns: the data set's own columns, by name, for graders and user rewards.

  Example:
    >>> sj.Problem('7', task='sums', question='2+3=', reference='5').columns
    {}
  """

  id: str
  task: str
  question: str
  reference: str
  columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Attempt:
  """What the policy wrote in one turn.

  Attributes:
    text: the attempt, up to its stop token or stop text.
    turn: 1 for the first attempt.
    finished: False where the token limit cut it off.

  Example:
    >>> sj.Attempt('5', turn=2)
    Attempt(text='5', turn=2, finished=True)
  """

  text: str
  turn: int = 1
  finished: bool = True


VerdictLabel = Literal[
  'correct', 'wrong', 'unparseable', 'timeout', 'crash', 'ungraded'
]


@dataclasses.dataclass(frozen=True)
class Verdict:
  """A grader's verdict on one attempt.

  Attributes:
    label: what happened; `ungraded` where a reward function returned None.
    score: the grader's value (0 or 1 for the built-in ones); None where grading
      failed, which leaves the attempt out of what is made of scores.
    seconds: time spent on it.
    reason: one line for people.
    reward: verdict of the training rewards, where these are not the grader's
      scores: its score is the reward.

  Example:
    >>> sj.Verdict('correct', score=1.0, seconds=0.2).score
    1.0
  """

  label: VerdictLabel
  score: float | None
  seconds: float = 0.0
  reason: str = ''
  reward: 'Verdict | None' = None

  @property
  def for_training(self) -> 'Verdict':
    """The verdict whose score is what training rewards."""
    return self.reward or self


class StoppedError(Exception):
  """Somebody asked to stop: what was going on is abandoned, not failed."""


class Grader(Protocol):
  """Grades attempts; may hold worker processes until it is closed."""

  def grade(
    self, problems: Sequence[Problem], attempts: Sequence[Attempt]
  ) -> list[Verdict]:
    """Returns one verdict for each (problem, attempt), in order."""

  def close(self) -> None:
    """Ends what the grader started. May be called twice."""


class PretrainingExample(NamedTuple):
  """Two attempts at a problem, for a base policy to imitate.

  Attributes:
    message: text of the first user message.
    first: the first attempt.
    second: the second attempt, and every later one.
    first_in_loss: whether the first attempt is imitated, or only read.
  """

  message: str
  first: str
  second: str
  first_in_loss: bool


# The problems of a `Task`, by name.
SPLITS = ('train', 'validation', 'test')


@dataclasses.dataclass(frozen=True)
class Task:
  """What is asked and how it is graded.

  Attributes:
    name: its key in `tasks.registry.TASKS`.
    train: problems for training; disjoint from the other two.
    test: held-out problems, for final evaluations alone.
    prompt: text of a problem's first user message.
    instruction: text of the user message between attempts.
    make_grader: starts a grader, whose verdicts have training rewards apart.
    refine_instruction: replaces `instruction` in the Self-Refine baseline.
    validation: held-out problems that whatever is chosen is chosen by.
    stop_texts: texts with which the prompt shows that an answer has ended, for
      `ChatFormat.stop_texts`; of a model that writes no end-of-text token.
    problem_from_text: reads a problem that a person types, with its reference;
      ValueError where it is none. None: any text is a question.
    pretraining_examples: makes so many examples for a base policy from a NumPy
      generator; none shows a held-out problem. None: references are imitated.

  Example:
    >>> problem = sj.Problem('7', 'sums', question='2+3=', reference='5')
    >>> task = sj.Task(
    ...   'sums', train=[problem], test=[], prompt=lambda p: p.question,
    ...   instruction='Look again', make_grader=lambda: grader)
    >>> task.prompt(problem)
    '2+3='
  """

  name: str
  train: Sequence[Problem]
  test: Sequence[Problem]
  prompt: Callable[[Problem], str]
  instruction: str
  make_grader: Callable[[], Grader]
  refine_instruction: str = ''
  validation: Sequence[Problem] = ()
  stop_texts: Sequence[str] = ()
  problem_from_text: Callable[[str], Problem] | None = None
  pretraining_examples: (
    Callable[[Any, int], Sequence[PretrainingExample]] | None
  ) = None
