"""A run's compiled programs, lowered from shapes alone: no weight exists.

So a program for any number of devices of any kind can be compiled and looked at
where none of them is.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import arrays
from score_jax.algorithm import stage_coefficients
from score_jax.models import inference, lora, model_config, transformer
from score_jax.rollout import engine, turn_separator
from score_jax.training import optimizers, rl_update, sharding

_STOP_IDS = 2


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Of an episode.

  Attributes:
    problems: N.
    samples: G.
    prompt: P, the bucket.
    max_new_tokens: of the attempts.
    block: I, the longest text between attempts.
  """

  problems: int
  samples: int
  prompt: int
  max_new_tokens: tuple[int, ...]
  block: int

  @property
  def rows(self) -> int:
    """B."""
    return self.problems * self.samples

  @property
  def length(self) -> int:
    """T."""
    return engine.sequence_length(self.prompt, self.max_new_tokens, self.block)


@dataclasses.dataclass(frozen=True)
class Lora:
  """Adapters, see `models.lora`."""

  rank: int
  alpha: float = 16.0
  targets: tuple[str, ...] = lora.TARGETS


@dataclasses.dataclass(frozen=True)
class Model:
  """A model as shapes.

  Attributes:
    config: the model.
    adapters: that are trained instead of the weights.
    dtype: of activations, of decode's weights and cache.
    frozen_dtype: of the reference, and of weights that only adapters train on.
    transposed: layout of the cache, see `kv_cache.Keys`.
  """

  config: model_config.ModelConfig
  adapters: Lora | None = None
  dtype: Any = jnp.float32
  frozen_dtype: Any = jnp.float32
  transposed: bool | None = None

  def weights(self, dtype=jnp.float32) -> Any:
    """Shapes of all parameters, matrices in a dtype."""

    def make():
      params = transformer.init_params(self.config, jax.random.key(0))
      return transformer.cast(params, dtype)

    return jax.eval_shape(make)

  def trained(self) -> Any:
    """Shapes of what is trained: the weights, or adapters."""
    if self.adapters is None:
      return self.weights()
    make = functools.partial(
      lora.init_adapters, **dataclasses.asdict(self.adapters)
    )
    return jax.eval_shape(make, self.weights(), jax.random.key(0))

  def decoded(self) -> Any:
    """Shapes of what decode reads."""

    def view(trained, frozen):
      return inference.inference_params(
        lora.complete(trained, frozen), self.dtype
      )

    frozen = self.weights(self.frozen_dtype)
    return jax.eval_shape(view, self.trained(), frozen)


@dataclasses.dataclass(frozen=True)
class Places:
  """Shardings of a program's arguments; None: the default device.

  Attributes:
    weights: of all parameters.
    trained: of what is trained.
    rows: of arrays with an entry for each row or problem.
    replicated: of everything else.
  """

  weights: Any = None
  trained: Any = None
  rows: Any = None
  replicated: Any = None


def update_places(model: Model, mesh: jax.sharding.Mesh) -> Places:
  """Where the update has its arguments."""
  weights = sharding.param_shardings(model.config, mesh)
  trained = weights
  if model.adapters is not None:
    trained = sharding.adapter_shardings(model.config, mesh, model.trained())
  return Places(
    weights, trained, sharding.batch_sharding(mesh), sharding.replicated(mesh)
  )


def episode_places(model: Model, mesh: jax.sharding.Mesh) -> Places:
  """Where the episode has its arguments."""
  adapters = None
  if model.adapters is not None and model.dtype != jnp.float32:
    adapters = model.trained()  # in float32 the view merges them
  where = sharding.rollout_shardings(model.config, mesh, adapters)
  return Places(where.params, None, where.rows, where.replicated)


def lower_episode(model: Model, sizes: Sizes, places: Places | None = None):
  """Lowers `engine.sample_episodes`."""
  places = places or Places()
  between = len(sizes.max_new_tokens) - 1
  at_rows = functools.partial(_shape, sharding=places.rows)
  everywhere = functools.partial(_shape, sharding=places.replicated)
  table, count = everywhere((between, sizes.block)), everywhere((between,))
  key = jax.eval_shape(lambda: jax.random.key(0)).dtype
  episode = functools.partial(
    engine.sample_episodes,
    config=model.config,
    max_new_tokens=sizes.max_new_tokens,
    samples_per_problem=sizes.samples,
    dtype=model.dtype,
    cache_dtype=model.dtype,
    transposed=model.transposed,
  )
  # Without it the compiler may gather what it returns, at every token.
  out = {} if places.rows is None else {'out_shardings': places.rows}
  return jax.jit(episode, **out).lower(
    placed(model.decoded(), places.weights),
    arrays.Prompts(
      at_rows((sizes.problems, sizes.prompt)), at_rows((sizes.problems,))
    ),
    at_rows((sizes.rows,), key),
    turn_separator.TurnSeparators(
      table, count, table, count, everywhere((_STOP_IDS,))
    ),
  )


def lower_update(
  model: Model,
  batch_size: int,
  length: int,
  *,
  turns: int = 2,
  places: Places | None = None,
  **options,
):
  """Lowers the update of `training.rl_update`; the stage is an argument of it.

  Args:
    model: the model.
    batch_size: B.
    length: T.
    turns: K.
    places: of its arguments; None: the default device.
    **options: of `step.make_train_step`.
  """
  places = places or Places()
  optimizer = optimizers.make_optimizer(1e-5)
  state = train_state(model, optimizer, places)
  if places.trained is not None:
    options['shardings'] = jax.tree.map(lambda s: s.sharding, state)
  train_step = rl_update.make_train_step(
    model.config,
    optimizer,
    dtype=model.dtype,
    **options,
  )
  at_rows = functools.partial(_shape, sharding=places.rows)
  per_token, per_turn = (batch_size, length), (batch_size, turns)
  batch = arrays.TrainBatch(
    arrays.Trajectory(
      tokens=at_rows(per_token),
      turn=at_rows(per_token),
      sampled=at_rows(per_turn, jnp.bool_),
      logprobs=at_rows(per_token, jnp.float32),
      length=at_rows((batch_size,)),
      finished=at_rows(per_turn, jnp.bool_),
      problem_index=at_rows((batch_size,)),
    ),
    advantages=at_rows(per_turn, jnp.float32),
  )
  stage = jax.tree.map(
    lambda x: _shape(jnp.shape(x), jnp.result_type(x), places.replicated),
    stage_coefficients.stage_two(turns=turns),
  )
  return train_step.lower(
    state,
    reference(model, places),
    batch,
    at_rows(per_turn, jnp.bool_),
    stage,
  )


def reference(model: Model, places: Places) -> Any:
  """Shapes of the reference, which is also what adapters are attached to."""
  return placed(model.weights(model.frozen_dtype), places.weights)


def train_state(
  model: Model, optimizer: Any, places: Places
) -> arrays.TrainState:
  """Shapes of the state that an update takes and returns."""
  params = model.trained()
  number = functools.partial(_shape, ())
  state = arrays.TrainState(
    step=number(),
    params=params,
    opt_state=jax.eval_shape(optimizer.init, params),
    beta2=number(jnp.float32),
    skipped=number(),
  )
  if places.trained is None:
    return state
  return placed(state, sharding.state_shardings(state, places.trained))


def placed(tree: Any, shardings: Any) -> Any:
  """Shapes with shardings; None: wherever the program likes."""
  if shardings is None:
    return tree
  return jax.tree.map(
    lambda s, sharding: _shape(s.shape, s.dtype, sharding), tree, shardings
  )


def _shape(dims, dtype=jnp.int32, sharding=None):
  return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)
