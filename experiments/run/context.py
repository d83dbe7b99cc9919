"""One frozen record with what the functions of a run need."""

from collections.abc import Sequence
import dataclasses

from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.run import run_directory
from score_jax import types
from score_jax.io import stop_signals
from score_jax.models import chat, model_config
from score_jax.rollout import episodes
from score_jax.tasks import batches
from score_jax.training import device_layout


@dataclasses.dataclass(frozen=True)
class StoredRun:
  """A run whose policies can be read; without problems and graders.

  Attributes:
    settings: the settings that the run was started with.
    directory: its directory.
    config: its model.
    chat_format: its tokenizer and the format of its turns.
    layout: shardings of parameters and batches.
  """

  settings: schema.Settings
  directory: run_directory.RunDirectory
  config: model_config.ModelConfig
  chat_format: chat.ChatFormat
  layout: device_layout.Layout

  @property
  def stages(self) -> methods.Stages:
    """The stages that the run trains after the base policy, by name."""
    return methods.stages(self.settings)


@dataclasses.dataclass(frozen=True)
class Run(StoredRun):
  """A run that can sample, grade and train.

  Attributes:
    task: its problems, all of whose prompts fit.
    sampler: samples episodes.
    console: for people; silent in all processes but the first.
    stop: tells whether a signal asked to save and leave.
    grader: grades attempts; None until `building.with_grader` started it.
  """

  task: types.Task
  sampler: episodes.EpisodeSampler
  console: rich_console.Console
  stop: stop_signals.StopRequest
  grader: types.Grader | None = None

  @property
  def train_problems(self) -> Sequence[types.Problem]:
    """The problems that stages train on."""
    return self.task.train[: self.settings.train_problems]

  def batch(self, number: int) -> list[types.Problem]:
    """The problems of an update, by its number among those of all stages."""
    settings = self.settings
    return batches.batch(
      self.train_problems, settings.problems_per_step, settings.seed, number
    )
