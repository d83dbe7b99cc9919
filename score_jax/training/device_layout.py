"""A model's arrays on the devices: for the update and for the rollout.

One device is a mesh of one: there is no other path.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from score_jax import distributed
from score_jax.models import inference, lora, model_config, transformer
from score_jax.training import sharding

# So few layers compile quickly as a loop in Python, which runs faster on a CPU;
# more of them are scanned.
UNROLLED_LAYERS = 4


@dataclasses.dataclass(frozen=True)
class Adapters:
  """Low-rank adapters to train instead of all weights; see `models.lora`.

  Attributes:
    rank: of each adapter.
    alpha: an adapter's product is multiplied by alpha / rank.
    targets: names of the projections that get one, of `lora.TARGETS`.
  """

  rank: int
  alpha: float = 16.0
  targets: tuple[str, ...] = lora.TARGETS


@dataclasses.dataclass(frozen=True)
class Layout:
  """The devices of a run, and the shardings of what it keeps on them.

  Hashable, so that programs are compiled once for each layout.

  Attributes:
    config: the model.
    mesh: of the update, axes data, fsdp, tensor.
    rollout_mesh: the same devices for the rollout.
    dtype: of the rollout's weights, and of the operands of all products.
    adapters: trained instead of all weights; None: all weights are trained.
  """

  config: model_config.ModelConfig
  mesh: jax.sharding.Mesh
  rollout_mesh: jax.sharding.Mesh
  dtype: Any
  adapters: Adapters | None = None

  @functools.cached_property
  def update(self) -> sharding.ProgramShardings:
    """Shardings of the update's arguments."""
    return sharding.ProgramShardings(
      sharding.param_shardings(self.config, self.mesh),
      sharding.batch_sharding(self.mesh),
      sharding.replicated(self.mesh),
    )

  @functools.cached_property
  def rollout(self) -> sharding.ProgramShardings:
    """Shardings of an episode's arguments, of a policy without adapters."""
    return sharding.rollout_shardings(self.config, self.rollout_mesh)

  @property
  def activation_dtype(self) -> Any:
    """Of activations and of the rollout's cache."""
    return jnp.dtype(jnp.float32) if self.config.operands else self.dtype

  @property
  def unrolls(self) -> bool:
    """Whether updates run the layers in a Python loop."""
    return self.config.num_layers <= UNROLLED_LAYERS

  @functools.cached_property
  def trained_shapes(self) -> Any:
    """Shapes of what an update changes: all parameters, or the adapters.

    Raises:
      ValueError: adapters that this model cannot have.
    """
    params = jax.eval_shape(
      lambda: transformer.init_params(self.config, jax.random.key(0))
    )
    if self.adapters is None:
      return params
    return jax.eval_shape(
      functools.partial(self.new_adapters, key=jax.random.key(0)), params
    )

  @functools.cached_property
  def trained(self) -> Any:
    """Shardings of `trained_shapes`."""
    if self.adapters is None:
      return self.update.params
    return sharding.adapter_shardings(
      self.config, self.mesh, self.trained_shapes
    )

  def without_adapters(self) -> 'Layout':
    """The layout of an update that trains all weights."""
    return dataclasses.replace(self, adapters=None)

  def new_adapters(self, params: Any, key: jax.Array) -> Any:
    """Fresh adapters, which change nothing yet; see `lora.init_adapters`."""
    return lora.init_adapters(params, key, **dataclasses.asdict(self.adapters))

  def inference_params(self, params: Any) -> Any:
    """`inference.inference_params`, compiled, on the rollout's devices."""
    # A base policy has no adapters, and in float32 they are merged.
    is_adapted = self.dtype != jnp.float32 and lora.adapters_of(params)
    make = self._make_adapted if is_adapted else self._make_plain
    return make(params)

  @functools.cached_property
  def _make_plain(self) -> Callable[[Any], Any]:
    return self._compile(self.rollout.params)

  @functools.cached_property
  def _make_adapted(self) -> Callable[[Any], Any]:
    shardings = sharding.rollout_shardings(
      self.config, self.rollout_mesh, self.trained_shapes
    )
    return self._compile(shardings.params)

  def _compile(self, shardings: Any) -> Callable[[Any], Any]:
    return jax.jit(
      functools.partial(inference.inference_params, dtype=self.dtype),
      out_shardings=shardings,
    )

  def put_batch(self, tree: Any) -> Any:
    """Arrays [B, ...] on the devices of the update."""
    return distributed.put_batch(tree, self.update.batch)


def make(
  config: model_config.ModelConfig,
  devices: Sequence[Any],
  *,
  data: int = 1,
  fsdp: int = -1,
  tensor: int = 1,
  rollout_tensor: int | None = None,
  dtype: Any = jnp.float32,
  adapters: Adapters | None = None,
) -> Layout:
  """The layout of a model on devices.

  Args:
    config: the model.
    devices: all that there are.
    data: copies of the model, each with sequences of its own.
    fsdp: devices that share a copy's weights and optimizer state; -1: as many
      as are left.
    tensor: devices that share each layer's heads and hidden units.
    rollout_tensor: the same in the rollout, where all other devices take
      sequences; None: the update's mesh.
    dtype: of the rollout's weights, and of the operands of all products;
      activations and cache have it, too, unless the devices are CPUs, which
      are fast in products of narrow numbers alone and only if their sums are
      float32.
    adapters: trained instead of all weights.

  Raises:
    ValueError: the sizes do not multiply to the number of devices, or the
      model cannot have such adapters.
  """
  if fsdp == -1:
    fsdp = max(1, len(devices) // (data * tensor))
  mesh = rollout_mesh = sharding.make_mesh(devices, data, fsdp, tensor)
  if rollout_tensor is not None:
    rollout_mesh = sharding.rollout_mesh(mesh, rollout_tensor)
  dtype = jnp.dtype(dtype)
  if devices[0].platform == 'cpu' and dtype != jnp.float32:
    config = dataclasses.replace(config, operands=dtype.name)
  layout = Layout(config, mesh, rollout_mesh, dtype, adapters)
  # Adapters that do not fit are an error now, not after the first rollout.
  _ = layout.trained_shapes
  return layout


def resolve_dtype(name: str, platform: str) -> Any:
  """The dtype of a name; 'auto' is bfloat16 but on the platform cpu."""
  if name == 'auto':
    name = 'float32' if platform == 'cpu' else 'bfloat16'
  return jnp.dtype(name)
