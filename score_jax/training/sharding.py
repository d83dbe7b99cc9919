"""Which array lies where: from logical axis names to the axes of the mesh.

The mesh has three axes: `data` (rows alone), `fsdp` (rows, and in the update
the parameters, gathered layer by layer), `tensor` (heads, hidden units and
vocabulary). GSPMD does the rest. Nothing is ever padded: a dimension that does
not divide is split over fewer axes, at worst over none.
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
_ROW_AXES = ('data', 'fsdp')
_AUTO = (jax_sharding.AxisType.Auto,) * len(AXES)

Rules = Mapping[str, tuple[str, ...]]

# A dimension with this name is split over as many of these mesh axes, in this
# order, as divide it and no dimension before it in the array has taken. So an
# embedding whose rows do not divide is split along its width instead.
UPDATE_RULES: Rules = types.MappingProxyType(
  {
    'vocab': ('fsdp', 'tensor'),
    'embed': ('fsdp',),
    'heads': ('tensor',),
    'kv_heads': ('tensor',),
    'mlp': ('tensor',),
  }
)
# Decode reads all weights for every token: what `fsdp` splits would be gathered
# for every token, so that only `tensor` splits.
ROLLOUT_RULES: Rules = types.MappingProxyType(
  {
    'vocab': ('tensor',),
    'heads': ('tensor',),
    'kv_heads': ('tensor',),
    'mlp': ('tensor',),
  }
)

# Weights that `fsdp` spreads are gathered, then multiplied. Multiplying pieces
# as they come, XLA's way with large products, writes and reads the sum once for
# every device, in the activations' dtype.
_TPU_OPTIONS = {'xla_jf_spmd_threshold_for_windowed_einsum_mib': '1000000'}


@dataclasses.dataclass(frozen=True)
class ProgramShardings:
  """Where a program's arguments lie.

  Attributes:
    params: a sharding for each parameter.
    batch: of arrays with an entry for each row, or each problem, in front.
    replicated: of everything else.
  """

  params: Any
  batch: jax_sharding.NamedSharding
  replicated: jax_sharding.NamedSharding


def make_mesh(
  devices: Sequence[Any], data: int, fsdp: int, tensor: int
) -> jax_sharding.Mesh:
  """The mesh (data, fsdp, tensor) of all these devices, axis types Auto.

  Raises:
    ValueError: the sizes do not multiply to the number of devices.
  """
  shape = (data, fsdp, tensor)
  if min(shape) < 1 or math.prod(shape) != len(devices):
    raise ValueError(
      f'a mesh of data={data} x fsdp={fsdp} x tensor={tensor} has '
      f'{math.prod(shape)} devices, but there are {len(devices)}: make the '
      'product of --mesh.data, --mesh.fsdp and --mesh.tensor equal to it'
    )
  return jax.make_mesh(shape, AXES, axis_types=_AUTO, devices=devices)


def rollout_mesh(mesh: jax_sharding.Mesh, tensor: int) -> jax_sharding.Mesh:
  """The same devices, in the same order, as (devices / tensor, 1, tensor).

  Decode wants few devices to share a weight's product, and many rows apart.
  The order is kept, because a program may take arrays of both meshes then.

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
  """Where activations lie, and jit's options, for an update of such a state.

  Args:
    shardings: of the state; None: it lies on one device.
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
  """Rows over data and fsdp; their number must be a multiple of both."""
  return _named(mesh, _ROW_AXES)


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
  """A sharding for each array of adapters: as the base's, the rank whole."""
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
    config: the model. Its head counts decide whether `heads` and `kv_heads`
      divide, since no head is ever cut.
    mesh: from `make_mesh`.
    tree: leaves with a shape.
    axes: the same tree of tuples of names, a name or None a dimension.
    rules: from names to mesh axes.
  """
  heads = {'heads': config.num_heads, 'kv_heads': config.num_kv_heads}

  def place(leaf, names):
    counts = [heads.get(n, size) for n, size in zip(names, leaf.shape)]
    return _named(mesh, *_split(mesh, names, counts, rules))

  return jax.tree.map(place, tree, axes)


def state_shardings(state: arrays.TrainState, params: Any) -> arrays.TrainState:
  """Shardings of a `TrainState`: moments lie as the parameter they belong to.

  An update needs them as its `out_shardings`. Left alone, the compiler spreads
  what was replicated, and the next update would be compiled once more.

  Args:
    state: arrays or shapes.
    params: a sharding for each leaf of `state.params`.

  Returns:
    The state's tree; scalars, and what belongs to no parameter, replicated.
  """
  paths, _ = jax.tree_util.tree_flatten_with_path(state.params)
  of_params = {
    (path, leaf.shape): sharding
    for (path, leaf), sharding in zip(
      paths, jax.tree.leaves(params), strict=True
    )
  }
  everywhere = replicated(jax.tree.leaves(params)[0].mesh)

  def place(path, leaf):
    """A moment's path ends with its parameter's."""
    ends = ((path[i:], leaf.shape) for i in range(len(path)))
    return next((of_params[e] for e in ends if e in of_params), everywhere)

  return jax.tree_util.tree_map_with_path(place, state)


def rollout_shardings(
  config: model_config.ModelConfig,
  mesh: jax_sharding.Mesh,
  adapters: Any = None,
) -> ProgramShardings:
  """Where decode has its weights (`inference.inference_params`) and its rows.

  Weights are split over `tensor` alone. Where it does not divide the key-value
  heads, they are not split, and rows go over it too: a cache that every device
  of the axis holds whole would cost its size in memory and gain nothing.

  Args:
    config: the model.
    mesh: of the rollout.
    adapters: those that the view has, of arrays or of shapes; None: it has
      none, or they are merged.
  """
  if config.num_kv_heads % mesh.shape['tensor']:
    rules, row_axes = {}, AXES
  else:
    rules, row_axes = ROLLOUT_RULES, _ROW_AXES
  stacked = param_shardings(config, mesh, rules)
  if adapters is not None:
    of_adapters = adapter_shardings(config, mesh, adapters, rules)
    stacked = lora.join(stacked, of_adapters)
  return ProgramShardings(
    params=_unstacked(config, stacked),
    batch=_named(mesh, row_axes),
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
    repeat, place = divmod(index, period)
    if repeat == config.num_repeats:
      return shardings['remainder'][str(place)]
    return jax.tree.map(
      lambda s: _named(s.mesh, *s.spec[1:]), shardings['pattern'][str(place)]
    )

  return {
    'embedding': shardings['embedding'],
    'final_norm': shardings['final_norm'],
    'layers': {str(i): layer(i) for i in range(config.num_layers)},
  }
