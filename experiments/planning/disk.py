"""Disk that a run's checkpoints, logs and exported policy take, from shapes."""

import dataclasses
import math
from typing import Any

import jax
from rich import filesize

from experiments import methods
from experiments.config import schema
from experiments.planning import programs
from score_jax.models import model_config

# What experiments.convert writes unless it is told otherwise: bfloat16.
_EXPORTED_BYTES = 2
# Of a step, roughly, in metrics.jsonl and TensorBoard's files together.
_METRICS_BYTES = 5000
# Episodes that are written each --log-samples-every steps, and the bytes of a
# token, with what is written of each attempt beside its text.
_SAMPLES, _TOKEN_BYTES = 4, 6


@dataclasses.dataclass(frozen=True)
class Disk:
  """Bytes on disk.

  Attributes:
    checkpoint: what is trained, and Adam's two moments of it.
    policy: what is trained, alone.
    largest: all checkpoints together at their most: those of earlier stages'
      policies, of the last one's best policy, its newest checkpoint, and the
      one that is being written (`checkpoints.checkpointing`).
    logs: metrics, samples and transcripts, roughly.
    export: the policy as experiments.convert writes it, adapters merged.
  """

  checkpoint: int
  policy: int
  largest: int
  logs: int
  export: int

  def __str__(self) -> str:
    size = filesize.decimal
    return (
      f'Disk: a checkpoint {size(self.checkpoint)}, a policy alone '
      f'{size(self.policy)}; at most {size(self.largest)} at a time, and about '
      f'{size(self.logs)} of logs and samples; the exported policy '
      f'{size(self.export)}.'
    )


def needed(settings: schema.Settings, config: model_config.ModelConfig) -> Disk:
  """Disk of a run of this model."""
  whole = programs.Model(config).state()
  state = programs.Model(config, lora=settings.lora).state()
  table = methods.stages(settings).values()
  trained = [s for s in table if not isinstance(s, methods.PromptStage)]
  checkpoint, policy = _bytes(state), _bytes(state.params)
  largest = kept = 0
  if settings.init_from is None and settings.model.name is None:
    # Pre-trained: all weights, also where stages train adapters alone.
    largest, kept = 2 * _bytes(whole), _bytes(whole.params)
  if trained:
    kept += len(trained) * policy
    largest = max(largest, kept + 2 * checkpoint)
  return Disk(
    checkpoint=checkpoint,
    policy=policy,
    largest=largest,
    logs=_logs(settings, len(table)),
    export=_EXPORTED_BYTES * _bytes(whole.params) // 4,
  )


def _logs(settings: schema.Settings, policies: int) -> int:
  steps = settings.steps_stage1 + settings.steps_stage2
  shown = _SAMPLES * steps // max(settings.log_samples_every, 1)
  episodes = settings.eval_problems * (policies + 1)
  if settings.log_samples_every:
    episodes += shown
  tokens = settings.attempt_tokens + settings.max_prompt_tokens
  return _METRICS_BYTES * steps + _TOKEN_BYTES * tokens * episodes


def _bytes(tree: Any) -> int:
  leaves = jax.tree.leaves(tree)
  return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves)
