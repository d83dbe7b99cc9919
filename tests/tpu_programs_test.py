"""Episode and update of published models, compiled for TPUs ahead of time.

Needs libtpu (the `tpu` extra), but no TPU. Optimisation level O0: the default
compiles several times longer and needs the same memory. What a v5e-16 holds,
and what its programs copy, is asserted; speed is not known here.
"""

import os

import jax
from jax import sharding
from jax.experimental import topologies
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import gemma, kv_cache, splash, transformer
from tests import programs

pytestmark = pytest.mark.slow

NAMES = ('gemma-1-2b', 'gemma-2-2b', 'gemma-3-1b')
DEVICES = 16
HBM = 15.75 * 2**30  # bytes a v5e offers to programs
# Four rows a device, of 4688 tokens: longer than Gemma 2's window of 4096.
SIZES = programs.Sizes(
  problems=16, samples=4, prompt=512, limits=(2048, 2048), block=80
)
# A length that is no model's width, so that logits can be told from weights.
UPDATE_ROWS, UPDATE_LENGTH, MICRO_BATCHES = 64, 1920, 4

# So that libtpu neither asks a metadata server nor minds another process.
_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-16',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_WORKER_ID': '0',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}


@pytest.fixture(scope='module')
def mesh():
  """A v5e-16 as one axis; programs are compiled quickly while it is used."""
  os.environ.update(_ENVIRONMENT)
  try:
    topology = topologies.get_topology_desc(
      platform='tpu', topology_name='v5e:4x4'
    )
  except RuntimeError as error:
    pytest.skip(f'libtpu is missing: install the tpu extra ({error})')
  before = jax.config.jax_optimization_level
  jax.config.update('jax_optimization_level', 'O0')
  yield sharding.Mesh(
    np.array(topology.devices),
    ('fsdp',),
    axis_types=(sharding.AxisType.Auto,),
  )
  jax.config.update('jax_optimization_level', before)


def _named(mesh, *axes):
  return sharding.NamedSharding(mesh, sharding.PartitionSpec(*axes))


@pytest.mark.parametrize('name', NAMES)
def test_episode(name, mesh):
  config = gemma.CONFIGS[name]
  compiled = programs.lower_episode(
    config,
    SIZES,
    dtype=jnp.bfloat16,
    transposed=False,
    replicated=_named(mesh),
    by_row=_named(mesh, 'fsdp'),
  ).compile()
  text = compiled.as_text()
  cache = jax.eval_shape(
    lambda: kv_cache.empty(
      config, SIZES.rows, SIZES.length, block=SIZES.block, transposed=False
    )
  )
  smallest = min(keys.k.size for keys in cache.layers) // DEVICES
  logits = SIZES.rows * config.vocab_size // DEVICES
  loops = programs.loop_bodies(text)
  decode = {
    i.computation
    for i in programs.stored_arrays(text)
    if i.computation in loops and i.elements == logits
  }
  assert decode
  copies = programs.copies_in_loops(text, smallest)
  assert not [i for i in copies if i.computation in decode]
  for i in programs.stored_arrays(text):
    assert i.elements <= config.vocab_size * config.width, i.line
  peak = compiled.memory_analysis().peak_memory_in_bytes
  print(f'{name}: {peak / 2**30:.2f} GiB a device')
  assert peak < HBM
  # Rows are independent: nothing crosses devices but whether all have ended.
  for i in programs.stored_arrays(text):
    if i.opcode.startswith(('all-gather', 'all-to-all', 'collective-permute')):
      assert i.elements <= SIZES.rows, i.line


@pytest.mark.parametrize('name', NAMES)
def test_update(name, mesh):
  config = gemma.CONFIGS[name]

  def spread(names):
    """The first of the large axes over the devices."""
    large = next((n for n in names if n in ('vocab', 'embed')), None)
    return _named(mesh, *('fsdp' if n == large else None for n in names))

  compiled = programs.lower_update(
    config,
    UPDATE_ROWS,
    UPDATE_LENGTH,
    shardings=jax.tree.map(
      spread,
      transformer.logical_axes(config),
      is_leaf=lambda names: isinstance(names, tuple),
    ),
    replicated=_named(mesh),
    by_row=_named(mesh, 'fsdp'),
    reference_dtype=jnp.bfloat16,
    dtype=jnp.bfloat16,
    micro_batches=MICRO_BATCHES,
    unroll=False,
    remat=True,
    attention='xla',
  ).compile()
  rows = UPDATE_ROWS // MICRO_BATCHES // DEVICES
  vocabularies = {config.vocab_size, config.vocab_size // DEVICES}
  logits = [
    i
    for i in programs.stored_arrays(compiled.as_text())
    if vocabularies & set(i.dims) and config.width not in i.dims
  ]
  largest = max(i.elements for i in logits)
  # Chunks of 128 tokens, far from whole rows.
  assert largest <= rows * UPDATE_LENGTH * config.vocab_size // 2
  peak = compiled.memory_analysis().peak_memory_in_bytes
  print(f'{name}: {peak / 2**30:.2f} GiB a device')
  assert peak < HBM


@pytest.mark.parametrize('window', [None, 700])
def test_attention_kernel(mesh, window):
  """Gemma 2's heads, soft-cap and a window, forward and backward."""
  rows = _named(mesh, 'fsdp')

  def array(heads):
    shape = (DEVICES, UPDATE_LENGTH, heads, 256)
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=rows)

  def total(q, k, v):
    out = splash.attend(q, k, v, window=window, softcap=50.0, rows=rows)
    return out.astype(jnp.float32).sum()

  gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
  compiled = gradient.lower(array(8), array(4), array(4)).compile()
  # Scores of whole rows are 8 x 1920 x 1920 numbers a device.
  sizes = [i.elements for i in programs.stored_arrays(compiled.as_text())]
  assert max(sizes) < 8 * UPDATE_LENGTH**2 / 4
