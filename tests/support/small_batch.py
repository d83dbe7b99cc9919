"""A small model, and sequences in the engine's layout."""

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays
from score_jax.models import model_config, transformer
from score_jax.rollout import engine, randomness, turn_separator

CONFIG = model_config.ModelConfig(
  vocab_size=19,
  width=8,
  num_layers=1,
  num_heads=2,
  num_kv_heads=1,
  head_dim=4,
  mlp_width=16,
)
# Tokens of prompt, attempt 1, instruction, attempt 2 of each sequence: unequal
# prompts, attempts of one token, a sequence that fills T = 12.
PIECES = np.array(
  [(2, 3, 2, 3), (2, 1, 2, 4), (2, 4, 2, 4), (2, 2, 2, 1)]
  + [(3, 3, 2, 2), (3, 1, 2, 1), (3, 3, 2, 4), (3, 2, 2, 3)]
)
SAMPLES = 4
LENGTH = 12


def params(seed: int, config: model_config.ModelConfig = CONFIG):
  """Fresh parameters; compiled, since eager operations compile one by one."""
  return _init(config, jax.random.key(seed))


_init = jax.jit(transformer.init_params, static_argnums=0)


def make_batch(size: int = 8, seed: int = 0) -> arrays.TrainBatch:
  """Random tokens, in the padding too."""
  rng = np.random.default_rng(seed)
  pieces = PIECES[:size]
  turn = np.zeros((size, LENGTH), np.int32)
  for owner, (prompt, first, given, second) in zip(turn, pieces):
    owner[prompt : prompt + first] = 1
    start = prompt + first + given
    owner[start : start + second] = 2
  trajectory = arrays.Trajectory(
    tokens=rng.integers(0, CONFIG.vocab_size, turn.shape).astype(np.int32),
    turn=turn,
    sampled=np.ones((size, 2), bool),
    logprobs=np.zeros(turn.shape, np.float32),
    length=pieces.sum(axis=1).astype(np.int32),
    finished=np.ones((size, 2), bool),
    problem_index=np.repeat(
      np.arange(size // SAMPLES, dtype=np.int32), SAMPLES
    ),
  )
  advantages = rng.normal(size=(size, 2)).astype(np.float32)
  return jax.tree.map(jnp.asarray, arrays.TrainBatch(trajectory, advantages))


def gradient(step, optimizer_state, reference, batch, loss_mask, stage):
  """The gradient that a step with `optax.sgd(1.0)` takes, and its metrics."""
  before = jax.tree.map(np.asarray, optimizer_state.params)
  after, metrics = step(optimizer_state, reference, batch, loss_mask, stage)
  delta = jax.tree.map(lambda a, b: a - np.asarray(b), before, after.params)
  return delta, metrics


def assert_close(one, other, atol):
  """Trees of arrays, leaf by leaf."""
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  for a, b in pairs:
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def make_trajectory(params, temperature):
  """Episodes of the engine: two problems, four samples each."""
  separators = turn_separator.TurnSeparators(
    after_stop=jnp.array([[5, 6, 0]]),
    after_stop_length=jnp.array([2]),
    after_cut=jnp.array([[1, 5, 6]]),
    after_cut_length=jnp.array([3]),
    stop_ids=jnp.array([1]),
  )
  prompts = arrays.Prompts(jnp.array([[2, 7, 8], [2, 9, 0]]), jnp.array([3, 2]))
  keys = randomness.sequence_keys(
    randomness.stream(0, 'train', 'stage1', 0), ['a', 'b'], 4
  )
  return engine.sample_episodes(
    params,
    prompts,
    keys,
    separators,
    config=CONFIG,
    max_new_tokens=(4, 5),
    samples_per_problem=4,
    temperature=jnp.float32(temperature),
  )
