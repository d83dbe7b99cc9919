"""Episodes and updates on some devices, of one process or of several.

`python -m tests.support.one_layout RECORDED OUTPUT` computes them on all
devices of all processes; the test does the same in its own process.
"""

from collections.abc import Sequence
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.config import groups
from experiments.run import processes
from score_jax import arrays, distributed
from score_jax.algorithm import stage_coefficients
from score_jax.rollout import engine, randomness
from score_jax.training import (
  device_layout,
  optimizers,
  rl_update,
  sharding,
  train_state,
)
from tests.support import small_models

NAME = 'gemma1'
SEED = 3
TEMPERATURE = 0.7
UPDATES = 3
STAGES = {
  'stage1': stage_coefficients.stage_one(),
  'stage2': stage_coefficients.stage_two(),
}


def make_layout(devices: Sequence[Any]) -> device_layout.Layout:
  """Weights and sequences over all devices, as by default."""
  mesh = sharding.make_mesh(devices, 1, len(devices), 1)
  return device_layout.Layout(
    small_models.CONFIGS[NAME], mesh, mesh, jnp.float32
  )


def compute(
  devices: Sequence[Any], recorded: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Uniforms, episodes, and updates on recorded sequences."""
  places = make_layout(devices)
  params, reference = (
    jax.tree.map(
      distributed.put, small_models.params(NAME, seed), places.update.params
    )
    for seed in (0, 1)
  )
  return episodes(places, params) | updates(places, params, reference, recorded)


def episodes(
  places: device_layout.Layout, params: Any
) -> dict[str, np.ndarray]:
  """The first step's random numbers and trajectory."""
  keys = distributed.put_batch(
    small_models.sequence_keys(SEED), places.rollout.batch
  )
  prompts, given = distributed.put_batch(
    (
      small_models.prompts(small_models.PROMPT_LENGTHS, 12),
      small_models.no_given_attempts(8, 2),
    ),
    places.rollout.batch,
  )
  trajectory = engine.sample_episodes(
    places.inference_params(params),
    prompts,
    keys,
    small_models.separators(2),
    config=places.config,
    max_new_tokens=small_models.LIMITS[:2],
    samples_per_problem=small_models.SAMPLES,
    temperature=TEMPERATURE,
    given=given,
  )
  length = trajectory.tokens.shape[1]
  uniforms = jax.jit(randomness.uniforms, static_argnums=1)(keys, length)
  index, own = distributed.local_sequences(trajectory, places.rollout.batch)
  lengths = distributed.merge_sequences(index, own.length.tolist(), 8)
  return {'uniforms': distributed.to_host(uniforms), 'lengths': lengths} | {
    f'episodes/{key}': distributed.to_host(value)
    for key, value in vars(trajectory).items()
  }


def updates(
  places: device_layout.Layout, params: Any, reference: Any, recorded
) -> dict[str, np.ndarray]:
  """Each stage's first gradient, and its parameters after several updates.

  Stage II starts from Stage I's policy, in the same compiled program.
  """
  # The trace without decay is the gradient itself.
  optimizer = optax.chain(
    optax.trace(decay=0.0), optimizers.make_optimizer(1e-3)
  )
  train_step = rl_update.make_train_step(
    places.config,
    optimizer,
    shardings=train_state.state_shardings(
      optimizer, places.trained_shapes, places.trained
    ),
    micro_batches=2,
    temperature=TEMPERATURE,
    unroll=False,
  )
  found = {}
  for name, stage in STAGES.items():
    state = train_state.init_state(params, optimizer)
    for i in range(UPDATES):
      batch = places.put_batch(batch_of(recorded, i))
      loss_mask = batch.trajectory.sampled & np.ones((8, 2), bool)
      state, _ = train_step(state, reference, batch, loss_mask, stage)
      if i == 0:
        found |= _leaves(f'{name}/gradient', state.opt_state[0].trace)
    found |= _leaves(f'{name}/params', state.params)
    params = state.params
  return found


def _leaves(name: str, tree: Any) -> dict[str, np.ndarray]:
  return {
    name + jax.tree_util.keystr(path): distributed.to_host(leaf)
    for path, leaf in jax.tree.leaves_with_path(tree)
  }


def batch_of(recorded: dict[str, np.ndarray], step: int) -> arrays.TrainBatch:
  """Recorded sequences, with other advantages in each step."""
  advantages = np.random.default_rng(step).normal(size=(8, 2))
  trajectory = arrays.Trajectory(**recorded)
  return arrays.TrainBatch(trajectory, advantages.astype(np.float32))


def main(recorded: str, output: str) -> None:
  """Joins the processes and writes `compute` of the recorded sequences."""
  processes.join(groups.Processes())
  with np.load(recorded) as sequences:
    found = compute(jax.devices(), dict(sequences))
  distributed.by_first(lambda: np.savez(output, **found))


if __name__ == '__main__':
  main(*sys.argv[1:])
