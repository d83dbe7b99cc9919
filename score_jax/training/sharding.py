"""Shardings: from logical axis names of arrays to the axes of the mesh.

The mesh has three axes: `data` (sequences alone), `fsdp` (sequences, and in the
update the parameters, gathered layer by layer), `tensor` (heads, hidden units
and vocabulary). GSPMD does the rest. Nothing is ever padded: a dimension that
does not divide is split over fewer axes, at worst over none.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import types
from typing import Any

import jax
from jax import sharding as jax_sharding

from score_jax import arrays
from score_jax.models import lora, model_config, transformer

AXES = ('data', 'fsdp', 'tensor')
_BATCH_AXES = ('data', 'fsdp')
_AUTO = (jax_sharding.AxisType.Auto,) * len(AXES)

Rules = Mapping[str, tuple[str, ...]]

# A dimension with this name is split over those of these mesh axes, in this
# order, that divide it and that no earlier dimension of the array has taken. So
# an embedding whose vocabulary does not divide is split along its width.
UPDATE_RULES: Rules = types.MappingProxyType(
  {
    'vocab': ('fsdp', 'tensor'),
    'embed': ('fsdp',),
    'heads': ('tensor',),
    'kv_heads': ('tensor',),
    'mlp': ('tensor',),
  }
)
# Decode reads all weights for every token. Weights split over `fsdp` would be
# gathered for every token (XLA does not hoist it out of the loop), so only
# `tensor` splits them.
ROLLOUT_RULES: Rules = types.MappingProxyType(
  {
    'vocab': ('tensor',),
    'heads': ('tensor',),
    'kv_heads': ('tensor',),
    'mlp': ('tensor',),
  }
)

# Gather the weights that `fsdp` splits, then multiply. XLA's windowed einsum
# multiplies the pieces as they arrive, and so writes and reads the sum once for
# every device, in the activations' dtype.
_TPU_OPTIONS = {'xla_jf_spmd_threshold_for_windowed_einsum_mib': '1000000'}


@dataclasses.dataclass(frozen=True)
class ProgramShardings:
  """Shardings of a program's arguments.

  Attributes:
    params: a sharding for each parameter.
    batch: of arrays whose first dimension is sequences or problems.
    replicated: of everything else.
  """

  params: Any
  batch: jax_sharding.NamedSharding
  replicated: jax_sharding.NamedSharding


def make_mesh(
  devices: Sequence[Any], data: int, fsdp: int, tensor: int
) -> jax_sharding.Mesh:
  """A mesh (data, fsdp, tensor) of all these devices, axis types Auto.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  shape = (data, fsdp, tensor)
  if min(shape) < 1 or math.prod(shape) != len(devices):
    raise ValueError(
      f'a mesh of data={data} x fsdp={fsdp} x tensor={tensor} has '
      f'{math.prod(shape)} devices, but there are {len(devices)}: make the '
      'product of data, fsdp and tensor equal to it'
    )
  return jax.make_mesh(shape, AXES, axis_types=_AUTO, devices=devices)


def rollout_mesh(mesh: jax_sharding.Mesh, tensor: int) -> jax_sharding.Mesh:
  """The same devices, in the same order, as (devices / tensor, 1, tensor).

  Decode is fastest with few devices to a weight and the sequences split over
  many. The order is kept because one program may then take arrays of both
  meshes.

  Raises:
    ValueError: tensor does not divide the number of devices.
  """
  if tensor < 1 or mesh.size % tensor:
    raise ValueError(
      f'tensor={tensor} does not divide {mesh.size} devices: choose a divisor'
    )
  return jax_sharding.Mesh(
    mesh.devices.reshape(-1, 1, tensor), AXES, axis_types=_AUTO
  )


def update_layout(
  shardings: arrays.TrainState | None,
) -> tuple[jax_sharding.NamedSharding | None, dict[str, Any]]:
  """Sharding of the batch, and jit's options, for an update of such a state.

  Args:
    shardings: of the state; None: it is on one device.
  """
  if shardings is None:
    return None, {}
  mesh = jax.tree.leaves(shardings)[0].mesh
  options = {'out_shardings': (shardings, None)}
  if mesh.devices.flat[0].platform == 'tpu':
    options['compiler_options'] = dict(_TPU_OPTIONS)
  return batch_sharding(mesh), options


def replicated(mesh: jax_sharding.Mesh) -> jax_sharding.NamedSharding:
  """The whole array on every device."""
  return _named(mesh)


def batch_sharding(mesh: jax_sharding.Mesh) -> jax_sharding.NamedSharding:
  """First dimension over data and fsdp, whose product must divide it."""
  return _named(mesh, _BATCH_AXES)


def param_shardings(
  config: model_config.ModelConfig,
  mesh: jax_sharding.Mesh,
  rules: Rules = UPDATE_RULES,
) -> Any:
  """A sharding for each parameter of `transformer.init_params`."""
  shapes = jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )
  return tree_shardings(
    config, mesh, shapes, transformer.logical_axes(config), rules
  )


def adapter_shardings(
  config: model_config.ModelConfig,
  mesh: jax_sharding.Mesh,
  adapters: Any,
  rules: Rules = UPDATE_RULES,
) -> Any:
  """A sharding for each array of adapters: the base's, with the rank whole."""
  axes = lora.logical_axes(transformer.logical_axes(config), adapters)
  return tree_shardings(config, mesh, adapters, axes, rules)


def tree_shardings(
  config: model_config.ModelConfig,
  mesh: jax_sharding.Mesh,
  tree: Any,
  axes: Any,
  rules: Rules = UPDATE_RULES,
) -> Any:
  """Shardings of arrays, or shapes, that carry logical axis names.

  Args:
    config: the model. Its numbers of heads decide whether `heads` and
      `kv_heads` divide, since a head is never split.
    mesh: from `make_mesh`.
    tree: leaves with a shape.
    axes: the same tree, of a tuple for each leaf: a name or None for each
      dimension.
    rules: from names to mesh axes.
  """
  heads = {'heads': config.num_heads, 'kv_heads': config.num_kv_heads}

  def shard(leaf, names):
    counts = [heads.get(n, size) for n, size in zip(names, leaf.shape)]
    return _named(mesh, *_split(mesh, names, counts, rules))

  return jax.tree.map(shard, tree, axes)


def state_shardings(state: arrays.TrainState, params: Any) -> arrays.TrainState:
  """Shardings of a `TrainState`: moments as the parameter they belong to.

  For an update's `out_shardings`. Without them the compiler splits arrays that
  were replicated, and the next update is compiled again.

  Args:
    state: arrays or shapes.
    params: a sharding for each leaf of `state.params`.

  Returns:
    The state's tree; scalars, and arrays of no parameter, replicated.
  """
  paths, _ = jax.tree_util.tree_flatten_with_path(state.params)
  of_params = {
    (path, leaf.shape): sharding
    for (path, leaf), sharding in zip(
      paths, jax.tree.leaves(params), strict=True
    )
  }
  everywhere = replicated(jax.tree.leaves(params)[0].mesh)

  def shard(path, leaf):
    """A moment's path ends with its parameter's path."""
    ends = ((path[i:], leaf.shape) for i in range(len(path)))
    return next((of_params[e] for e in ends if e in of_params), everywhere)

  return jax.tree_util.tree_map_with_path(shard, state)


def rollout_shardings(
  config: model_config.ModelConfig,
  mesh: jax_sharding.Mesh,
  adapters: Any = None,
) -> ProgramShardings:
  """Shardings of decode's weights (`inference.inference_params`) and batch.

  Weights are split over `tensor` alone. Where it does not divide the key-value
  heads, weights are not split, and the batch is split over it too: otherwise
  every device of the axis would hold the whole cache and compute the same.

  Args:
    config: the model.
    mesh: of the rollout.
    adapters: arrays or shapes of the inference params' adapters; None: there
      are none, or they are merged.
  """
  if config.num_kv_heads % mesh.shape['tensor']:
    rules, batch_axes = {}, AXES
  else:
    rules, batch_axes = ROLLOUT_RULES, _BATCH_AXES
  stacked = param_shardings(config, mesh, rules)
  if adapters is not None:
    of_adapters = adapter_shardings(config, mesh, adapters, rules)
    stacked = lora.join(stacked, of_adapters)
  return ProgramShardings(
    params=_unstacked(config, stacked),
    batch=_named(mesh, batch_axes),
    replicated=replicated(mesh),
  )


def _named(mesh, *axes):
  return jax_sharding.NamedSharding(mesh, jax_sharding.PartitionSpec(*axes))


def _split(mesh, names, counts, rules):
  """Entries of the array's partition spec, by the rule of `UPDATE_RULES`."""
  taken = set()
  for name, count in zip(names, counts, strict=True):
    chosen = []
    for axis in rules.get(name, ()):
      parts = math.prod(mesh.shape[a] for a in (*chosen, axis))
      if axis not in taken and count % parts == 0:
        chosen.append(axis)
    taken.update(chosen)
    yield tuple(chosen) or None


def _unstacked(config, shardings):
  """Shardings of `transformer.unstack`'s tree, from those of its argument."""
  period = len(config.layer_pattern)

  def layer(index):
    repeat, kind = divmod(index, period)
    if repeat == config.num_repeats:
      return shardings['remainder'][str(kind)]
    # Without the leading axis, over which a stack has its layers.
    return jax.tree.map(
      lambda s: _named(s.mesh, *s.spec[1:]), shardings['pattern'][str(kind)]
    )

  return {
    'embedding': shardings['embedding'],
    'final_norm': shardings['final_norm'],
    'layers': {str(i): layer(i) for i in range(config.num_layers)},
  }
