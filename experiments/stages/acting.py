"""Acting and grading: each of them goes on while the devices sample."""

from collections.abc import Sequence
import dataclasses
from typing import Any

from experiments import methods
from experiments.run import context, transcripts
from experiments.stages import rl_stage
from score_jax import arrays, types
from score_jax.evaluation import evaluate
from score_jax.rollout import randomness


@dataclasses.dataclass
class Rollout:
  """A batch of episodes that the devices sample, part after part.

  Attributes:
    run: the run.
    parts: problems and trajectory of each part, in the order of the batch.
    episodes: those that are graded already, in the same order.
  """

  run: context.Run
  parts: Sequence[tuple[Sequence[types.Problem], arrays.Trajectory]]
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


def begin(
  run: context.Run,
  name: str,
  stage: methods.RLStage,
  number: int,
  policy: Any,
  reference: Any,
) -> Rollout:
  """Lets the devices sample the batch of a stage's update; does not wait.

  Random numbers belong to problem and sample, so that parts are what the batch
  would be at once, up to rounding.

  Args:
    run: the run.
    name: the stage's name.
    stage: the stage.
    number: of the update in its stage, from 0.
    policy: samples.
    reference: samples the first attempts that are given, if some are.
  """
  settings = run.settings
  problems = run.batch(stage.first_batch + number)
  params = run.layout.inference_params(policy)
  size = len(problems) // settings.rollout.parts
  parts = []
  for start in range(0, len(problems), size):
    part = problems[start : start + size]
    trajectory = run.sampler.sample(
      params,
      part,
      randomness.stream(settings.seed, 'train', name, number),
      samples_per_problem=settings.samples_per_problem,
      turns=stage.coefficients.turns,
      temperature=settings.temperature,
      given=rl_stage.given_first_attempts(run, stage, reference, part),
    )
    parts.append((part, trajectory))
  return Rollout(run, parts)
