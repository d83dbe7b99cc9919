"""A run's two compiled programs, lowered from shapes: no weight exists.

The rollout's episode and the update can so be compiled, and looked at, for any
number of devices of any kind on a machine that has none of them.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from experiments.config import groups
from score_jax import arrays
from score_jax.algorithm import stage_coefficients
from score_jax.models import attention as attention_lib
from score_jax.models import inference, lora, model_config, transformer
from score_jax.rollout import engine, turn_separator
from score_jax.training import optimizers, rl_update, sharding

# End-of-turn and end-of-text, as Gemma's tuned checkpoints have them.
_STOP_IDS = 2
# One device: the program's arguments are on the default one.
_UNSHARDED = sharding.ProgramShardings(None, None, None)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of an episode.

  Attributes:
    problems: N.
    samples: G.
    prompt: P, tokens of the prompt bucket.
    max_new_tokens: most tokens of each of the K attempts.
    separator: most tokens given between two attempts.
  """

  problems: int
  samples: int
  prompt: int
  max_new_tokens: tuple[int, ...]
  separator: int

  @property
  def batch_size(self) -> int:
    """B, sequences of an update."""
    return self.problems * self.samples

  @property
  def length(self) -> int:
    """T, tokens of the longest possible sequence."""
    return turn_separator.sequence_length(
      self.prompt, self.max_new_tokens, self.separator
    )


@dataclasses.dataclass(frozen=True)
class Model:
  """A model as shapes. Its methods' `mesh` is None for one default device.

  Attributes:
    config: the model.
    lora: adapters that are trained instead of the weights; rank 0: none.
    dtype: of activations, of decode's weights and cache.
    frozen_dtype: of the reference, which adapters are attached to.
    transposed: layout of the cache, see `kv_cache.Keys`.
    attention: path of `attention.attend`; None: the default device's, as for
      `transposed`.
  """

  config: model_config.ModelConfig
  lora: groups.LoRA = groups.LoRA()
  dtype: Any = jnp.float32
  frozen_dtype: Any = jnp.float32
  transposed: bool | None = None
  attention: attention_lib.Path | None = None

  def reference(self, mesh: jax.sharding.Mesh | None = None) -> Any:
    """Shapes of the reference, which is also what adapters are attached to."""
    weights = self._weights(self.frozen_dtype)
    return with_shardings(weights, self._param_shardings(mesh))

  def state(self, mesh: jax.sharding.Mesh | None = None) -> arrays.TrainState:
    """Shapes of the state that an update takes and returns."""
    params = self._trained()
    scalar = functools.partial(_shape, ())
    state = arrays.TrainState(
      step=scalar(),
      params=params,
      opt_state=jax.eval_shape(_optimizer().init, params),
      beta2=scalar(jnp.float32),
      skipped=scalar(),
    )
    if mesh is None:
      return state
    if self.lora.rank:
      of_params = sharding.adapter_shardings(self.config, mesh, params)
    else:
      of_params = self._param_shardings(mesh)
    return with_shardings(state, sharding.state_shardings(state, of_params))

  def inference_params(self, mesh: jax.sharding.Mesh | None = None) -> Any:
    """Shapes of the parameters that decode reads, on the rollout's mesh."""

    def make(trained, frozen):
      return inference.inference_params(
        lora.complete(trained, frozen), self.dtype
      )

    shapes = jax.eval_shape(
      make, self._trained(), self._weights(self.frozen_dtype)
    )
    return with_shardings(shapes, self.rollout_shardings(mesh).params)

  def rollout_shardings(
    self, mesh: jax.sharding.Mesh | None
  ) -> sharding.ProgramShardings:
    """Shardings of the episode's arguments."""
    if mesh is None:
      return _UNSHARDED
    # In float32 `inference_params` merges adapters into the weights.
    is_apart = self.lora.rank and self.dtype != jnp.float32
    return sharding.rollout_shardings(
      self.config, mesh, self._trained() if is_apart else None
    )

  def _weights(self, dtype):
    """Shapes of all parameters, matrices in a dtype."""

    def make():
      params = transformer.init_params(self.config, jax.random.key(0))
      return transformer.cast(params, dtype)

    return jax.eval_shape(make)

  def _trained(self):
    """Shapes of what an update changes: all weights, or adapters."""
    weights = self._weights(jnp.float32)
    if not self.lora.rank:
      return weights
    make = functools.partial(
      lora.init_adapters, **dataclasses.asdict(self.lora)
    )
    return jax.eval_shape(make, weights, jax.random.key(0))

  def _param_shardings(self, mesh):
    return mesh and sharding.param_shardings(self.config, mesh)


def lower_episode(
  model: Model,
  sizes: Sizes,
  mesh: jax.sharding.Mesh | None = None,
  **options,
):
  """Lowers `engine.sample_episodes`, with these options, for the mesh."""
  shardings = model.rollout_shardings(mesh)
  by_sequence = functools.partial(_shape, sharding=shardings.batch)
  everywhere = functools.partial(_shape, sharding=shardings.replicated)
  between = len(sizes.max_new_tokens) - 1
  table, count = everywhere((between, sizes.separator)), everywhere((between,))
  key = jax.eval_shape(lambda: jax.random.key(0)).dtype
  return engine.sample_episodes.lower(
    model.inference_params(mesh),
    arrays.Prompts(
      by_sequence((sizes.problems, sizes.prompt)),
      by_sequence((sizes.problems,)),
    ),
    by_sequence((sizes.batch_size,), key),
    turn_separator.TurnSeparators(
      table, count, table, count, everywhere((_STOP_IDS,))
    ),
    config=model.config,
    max_new_tokens=sizes.max_new_tokens,
    samples_per_problem=sizes.samples,
    dtype=model.dtype,
    cache_dtype=model.dtype,
    transposed=model.transposed,
    attention=model.attention,
    sharding=shardings.batch,
    **options,
  )


def lower_update(
  model: Model,
  batch_size: int,
  length: int,
  *,
  turns: int = 2,
  mesh: jax.sharding.Mesh | None = None,
  **options,
):
  """Lowers the update; one serves all stages, whose coefficients it is given.

  Args:
    model: the model.
    batch_size: B.
    length: T.
    turns: K.
    mesh: of the update.
    **options: of `rl_update.make_train_step`.
  """
  state = model.state(mesh)
  batch_sharding = replicated = None
  if mesh is not None:
    options['shardings'] = jax.tree.map(lambda s: s.sharding, state)
    batch_sharding = sharding.batch_sharding(mesh)
    replicated = sharding.replicated(mesh)
  train_step = rl_update.make_train_step(
    model.config,
    _optimizer(),
    dtype=model.dtype,
    attention=model.attention,
    **options,
  )
  by_sequence = functools.partial(_shape, sharding=batch_sharding)
  per_token, per_turn = (batch_size, length), (batch_size, turns)
  batch = arrays.TrainBatch(
    arrays.Trajectory(
      tokens=by_sequence(per_token),
      turn=by_sequence(per_token),
      sampled=by_sequence(per_turn, jnp.bool_),
      logprobs=by_sequence(per_token, jnp.float32),
      length=by_sequence((batch_size,)),
      finished=by_sequence(per_turn, jnp.bool_),
      problem_index=by_sequence((batch_size,)),
    ),
    advantages=by_sequence(per_turn, jnp.float32),
  )
  stage = jax.tree.map(
    lambda x: _shape(jnp.shape(x), jnp.result_type(x), replicated),
    stage_coefficients.stage_two(turns=turns),
  )
  return train_step.lower(
    state,
    model.reference(mesh),
    batch,
    by_sequence(per_turn, jnp.bool_),
    stage,
  )


def with_shardings(tree: Any, shardings: Any) -> Any:
  """Shapes with shardings; None: wherever the program likes."""
  if shardings is None:
    return tree
  return jax.tree.map(
    lambda s, sharding: _shape(s.shape, s.dtype, sharding), tree, shardings
  )


def _optimizer():
  # The learning rate is a constant of the program: any will do.
  return optimizers.make_optimizer(1e-5)


def _shape(dims, dtype=jnp.int32, sharding=None):
  return jax.ShapeDtypeStruct(dims, dtype, sharding=sharding)
