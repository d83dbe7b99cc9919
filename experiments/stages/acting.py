"""Acting and grading: each of them goes on while the devices sample."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from experiments import methods
from experiments.run import context, transcripts
from experiments.stages import rl_stage, stage_recorder
from score_jax import arrays, types
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness


@dataclasses.dataclass
class Rollout:
  """A batch of episodes that the devices sample, part after part.

  Attributes:
    run: the run.
    parts: problems and trajectory of each part, in the order of the batch.
    is_fresh: whether the policy that is to learn from it samples it.
    episodes: those that are graded already, in the same order.
  """

  run: context.Run
  parts: Sequence[tuple[Sequence[types.Problem], arrays.Trajectory]]
  is_fresh: bool = True
  episodes: list[transcripts.Episode] = dataclasses.field(default_factory=list)

  def wait(self) -> arrays.Trajectory:
    """Waits for the whole batch, and returns it.

    Each part but the last is graded while the devices sample the next one.

    Raises:
      StoppedError: a signal came first.
    """
    for number, (_, trajectory) in enumerate(self.parts):
      if number:
        self._grade(number - 1)
      self.run.stop.wait(trajectory)
    return self.run.sampler.join([trajectory for _, trajectory in self.parts])

  def grade(self) -> list[transcripts.Episode]:
    """Grades what is left to grade; all episodes, once it was waited for.

    Collective: call it in every process.
    """
    self._grade(len(self.parts) - 1)
    return self.episodes

  def _grade(self, number: int) -> None:
    problems, trajectory = self.parts[number]
    attempts = self.run.sampler.attempts(trajectory)
    samples = len(attempts) // len(problems)
    asked = [problem for problem in problems for _ in range(samples)]
    verdicts = evaluate.grade_attempts(self.run.grader, asked, attempts)
    self.episodes += transcripts.episodes(asked, attempts, verdicts)


class Actor:
  """Lets the devices sample the batches of one stage.

  With --rollout.lag=1, a batch is begun ahead: as soon as the one before is
  sampled, by the policy that has yet to learn from it. Not across a checkpoint
  or an evaluation, after which nothing is ahead, as in a run that goes on from
  there: both sample the same batches.
  """

  def __init__(
    self,
    run: context.Run,
    name: str,
    stage: methods.RLStage,
    reference: Any,
  ):
    """Begins nothing.

    Args:
      run: the run.
      name: the stage's name.
      stage: the stage.
      reference: policy that samples the given first attempts, if there are any.
    """
    self._run = run
    self._name = name
    self._stage = stage
    self._reference = reference
    self._ahead: Rollout | None = None

  def begin(self, number: int, policy: Any) -> Rollout:
    """The batch of an update, by its number in the stage from 0.

    It was begun ahead, or this policy samples it; does not wait.
    """
    ahead, self._ahead = self._ahead, None
    return ahead or self._sample(number, policy, is_fresh=True)

  def begin_next(
    self,
    number: int,
    policy: Any,
    recorder: stage_recorder.StageRecorder,
  ) -> None:
    """With a lag, begins the batch of the update after this one.

    Args:
      number: of this update.
      policy: from before it.
      recorder: knows what comes between the two.
    """
    if self._run.settings.rollout.lag and not recorder.pauses_after(number + 1):
      self._ahead = self._sample(number + 1, policy, is_fresh=False)

  def wait_for_next(self, recorder: stage_recorder.StageRecorder) -> None:
    """Waits for what was begun ahead, which the update would wait for, too.

    Raises:
      StoppedError: a signal came first.
    """
    if self._ahead is not None:
      self._run.stop.wait([trajectory for _, trajectory in self._ahead.parts])
      recorder.end_part('ahead')

  def _sample(self, number: int, policy: Any, is_fresh: bool) -> Rollout:
    # Random numbers belong to a problem's occurrence and sample in the batch:
    # parts are what the batch would be at once, up to rounding.
    settings = self._run.settings
    problems = self._run.batch(self._stage.first_batch + number)
    params = self._run.layout.inference_params(policy)
    size = len(problems) // settings.rollout.parts
    parts = []
    for start in range(0, len(problems), size):
      before, part = problems[:start], problems[start : start + size]
      given = rl_stage.given_first_attempts(
        self._run, self._stage, self._reference, part, before
      )
      trajectory = self._run.sampler.sample(
        params,
        part,
        randomness.stream(settings.seed, 'train', self._name, number),
        samples_per_problem=settings.samples_per_problem,
        turns=self._stage.coefficients.turns,
        temperature=settings.temperature,
        given=given,
        before=before,
      )
      parts.append((part, trajectory))
    return Rollout(self._run, parts, is_fresh)
