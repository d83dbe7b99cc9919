"""What every function of a run needs, in one frozen record."""

import dataclasses

from rich import console as rich_console

from experiments import methods
from experiments.config import schema
from experiments.run import run_directory
from score_jax import types
from score_jax.io import stop_signals
from score_jax.models import chat, model_config
from score_jax.rollout import episodes
from score_jax.training import layout


@dataclasses.dataclass(frozen=True)
class StoredRun:
  """What reading a run's policies takes; neither problems nor graders.

  Attributes:
    settings: that the run was started with.
    directory: of the run.
    config: the model.
    chat_format: its tokenizer and turns.
    layout: its shardings.
  """

  settings: schema.Settings
  directory: run_directory.RunDirectory
  config: model_config.ModelConfig
  chat_format: chat.ChatFormat
  layout: layout.Layout

  @property
  def stages(self) -> methods.Stages:
    """What the run trains after the base policy, by name, in order."""
    return methods.stages(self.settings)


@dataclasses.dataclass(frozen=True)
class Run(StoredRun):
  """What making episodes and training takes besides.

  Attributes:
    task: problems, all of whose prompts fit.
    sampler: makes episodes.
    console: for people.
    stop: whether a signal asked to save and leave.
    grader: of the task; None until `building.with_grader` started it.
  """

  task: types.Task
  sampler: episodes.EpisodeSampler
  console: rich_console.Console
  stop: stop_signals.StopRequest
  grader: types.Grader | None = None
