"""Episode and update of published models, compiled for TPUs ahead of time.

Needs libtpu (the `tpu` extra), but no TPU. Optimisation level O0: the default
compiles several times longer and needs about the same memory. What a v5e-16
holds, and what its programs copy and send, is asserted; speed is not known
here.
"""

import jax
import jax.numpy as jnp
import pytest

from experiments.planning import chips, memory, programs
from score_jax.models import gemma, splash
from score_jax.training import sharding
from tests.support import compiled_text

pytestmark = pytest.mark.slow

NAMES = ('gemma-1-2b', 'gemma-2-2b', 'gemma-3-1b')
# Four sequences a device, of 4688 tokens: longer than Gemma 2's window of 4096.
SIZES = programs.Sizes(
  problems=16, samples=4, prompt=512, max_new_tokens=(2048, 2048), separator=80
)
# A length that is no model's width, so that logits can be told from weights.
UPDATE_BATCH, UPDATE_LENGTH, MICRO_BATCHES = 64, 1920, 4


@pytest.fixture(scope='module')
def slice16():
  """Chip and mesh of a v5e-16; programs are compiled quickly meanwhile."""
  try:
    chip, devices = chips.find('v5e-16')
  except chips.TopologyError as error:
    pytest.skip(str(error))
  before = jax.config.jax_optimization_level
  jax.config.update('jax_optimization_level', 'O0')
  yield chip, sharding.make_mesh(devices, 1, len(devices), 1)
  jax.config.update('jax_optimization_level', before)


def _model(name):
  return programs.Model(
    gemma.CONFIGS[name],
    dtype=jnp.bfloat16,
    frozen_dtype=jnp.bfloat16,
    transposed=False,
    attention='splash',
  )


@pytest.mark.parametrize('name', NAMES)
def test_episode(name, slice16):
  chip, mesh = slice16
  model = _model(name)
  config = model.config
  compiled = programs.lower_episode(model, SIZES, mesh).compile()
  text = compiled.as_text()
  cache = memory.cache(model, SIZES)
  smallest = min(keys.k.size for keys in cache.layers) // mesh.size
  logits = SIZES.batch_size * config.vocab_size // mesh.size
  loops = compiled_text.loop_bodies(text)
  decode = {
    i.computation
    for i in compiled_text.stored_arrays(text)
    if i.computation in loops and i.elements == logits
  }
  assert decode
  # The weights that a token is drawn by are copied into blocks, once; beside
  # Gemma 3 1B's rings they are large.
  copies = compiled_text.copies_in_loops(text, smallest)
  assert not [
    i for i in copies if i.computation in decode and i.elements != logits
  ]
  for i in compiled_text.stored_arrays(text):
    assert i.elements <= config.vocab_size * config.width, i.line
  peak = compiled.memory_analysis().peak_memory_in_bytes
  print(f'{name}: {peak / 2**30:.2f} GiB a device')
  assert peak < chip.memory
  # Sequences are independent: nothing crosses devices but whether all ended.
  for i in compiled_text.stored_arrays(text):
    if i.opcode.startswith(('all-gather', 'all-to-all', 'collective-permute')):
      assert i.elements <= SIZES.batch_size, i.line


@pytest.mark.parametrize('name', NAMES)
def test_update(name, slice16):
  chip, mesh = slice16
  model = _model(name)
  config = model.config
  compiled = programs.lower_update(
    model,
    UPDATE_BATCH,
    UPDATE_LENGTH,
    mesh=mesh,
    micro_batches=MICRO_BATCHES,
    unroll=False,
    remat=True,
  ).compile()
  text = compiled.as_text()
  # Layers' weights travel, not the products of activations with them.
  for i in compiled_text.stored_arrays(text):
    if i.opcode.startswith(('all-', 'reduce-scatter', 'collective-permute')):
      assert not {UPDATE_LENGTH, config.mlp_width} <= set(i.dims), i.line
  rows = UPDATE_BATCH // MICRO_BATCHES // mesh.size
  vocabularies = {config.vocab_size, config.vocab_size // mesh.size}
  logits = [
    i
    for i in compiled_text.stored_arrays(text)
    if vocabularies & set(i.dims) and config.width not in i.dims
  ]
  largest = max(i.elements for i in logits)
  # Chunks of 128 tokens, far from whole sequences.
  assert largest <= rows * UPDATE_LENGTH * config.vocab_size // 2
  peak = compiled.memory_analysis().peak_memory_in_bytes
  print(f'{name}: {peak / 2**30:.2f} GiB a device')
  assert peak < chip.memory


@pytest.mark.parametrize('window', [None, 700])
def test_attention_kernel(slice16, window):
  """Gemma 2's heads, soft-cap and a window, forward and backward."""
  _, mesh = slice16
  rows = sharding.batch_sharding(mesh)

  def array(heads):
    shape = (mesh.size, UPDATE_LENGTH, heads, 256)
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=rows)

  def total(q, k, v):
    out = splash.attend(q, k, v, window=window, softcap=50.0, sharding=rows)
    return out.astype(jnp.float32).sum()

  gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
  compiled = gradient.lower(array(8), array(4), array(4)).compile()
  # Scores of whole sequences are 8 x 1920 x 1920 numbers a device.
  sizes = [i.elements for i in compiled_text.stored_arrays(compiled.as_text())]
  assert max(sizes) < 8 * UPDATE_LENGTH**2 / 4
