"""Sharding rules by hand, and the update over every kind of mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from score_jax.algorithm import stage_coefficients
from score_jax.models import gemma, inference, lora, model_config, transformer
from score_jax.training import optimizers, rl_update, sharding, train_state
from tests.support import small_batch, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')

_STAGE = stage_coefficients.stage_two()
_IN_LOSS = np.ones((8, 2), bool)
_WIDE = dataclasses.replace(
  small_batch.CONFIG, num_layers=2, num_heads=8, num_kv_heads=8
)


def _mesh(shape):
  return sharding.make_mesh(jax.devices(), *shape)


def _specs(config, shape, rules=sharding.UPDATE_RULES):
  shardings = sharding.param_shardings(config, _mesh(shape), rules)
  return jax.tree.map(lambda s: s.spec, shardings)


def test_update_rules():
  specs = _specs(gemma.CONFIGS['gemma-2-2b'], (2, 2, 2))
  block = specs['pattern']['0']
  assert specs['embedding'] == P(('fsdp', 'tensor'), None)
  assert specs['final_norm']['scale'] == P(None)
  assert block['attention']['q'] == P(None, 'fsdp', 'tensor')
  assert block['attention']['v'] == P(None, 'fsdp', 'tensor')
  assert block['attention']['o'] == P(None, 'tensor', 'fsdp')
  assert block['mlp']['gate'] == P(None, 'fsdp', 'tensor')
  assert block['mlp']['down'] == P(None, 'tensor', 'fsdp')
  assert block['pre_mlp_norm']['scale'] == P(None, None)


@pytest.mark.parametrize(
  ('vocab_size', 'width', 'expected'),
  [
    # 257 is prime: the width takes fsdp in its place; tensor has no use.
    (257, 8, P(None, 'fsdp')),
    # 258 = 2 x 129 divides by fsdp, but by no four devices.
    (258, 8, P('fsdp', None)),
    # Neither divides.
    (257, 9, P(None, None)),
    (256, 8, P(('fsdp', 'tensor'), None)),
  ],
)
def test_embedding_that_does_not_divide(vocab_size, width, expected):
  config = dataclasses.replace(
    small_batch.CONFIG, vocab_size=vocab_size, width=width
  )
  assert _specs(config, (2, 2, 2))['embedding'] == expected


@pytest.mark.parametrize(
  ('heads', 'kv_heads', 'q', 'k'),
  [
    (8, 4, 'tensor', 'tensor'),
    # A head is never split, although 1 x 4 columns divide by 4.
    (8, 1, 'tensor', None),
    (3, 3, None, None),
    (1, 1, None, None),
  ],
)
def test_heads_that_do_not_divide(heads, kv_heads, q, k):
  config = dataclasses.replace(
    small_batch.CONFIG, num_heads=heads, num_kv_heads=kv_heads
  )
  attention = _specs(config, (2, 1, 4))['pattern']['0']['attention']
  assert attention['q'][2] == q
  assert attention['k'][2] == k
  assert attention['o'][1] == q


def test_moments_are_sharded_as_their_parameters():
  mesh = _mesh((1, 4, 2))
  params = small_batch.params(0)
  shardings = sharding.param_shardings(small_batch.CONFIG, mesh)
  state = train_state.init_state(params, optimizers.make_optimizer(1e-3))
  placed = sharding.state_shardings(state, shardings)
  assert placed.params == shardings
  adam = optax.tree.get(placed.opt_state, 'mu')
  assert adam == shardings
  assert optax.tree.get(placed.opt_state, 'nu') == shardings
  assert placed.step.spec == P()
  assert (
    optax.tree.get_all_with_path(placed.opt_state, 'count')[0][1].spec == P()
  )


@pytest.mark.parametrize(
  ('kv_heads', 'axes', 'q'),
  [
    (4, ('data', 'fsdp'), P(None, 'tensor')),
    (1, ('data', 'fsdp', 'tensor'), P(None, None)),
  ],
)
def test_rollout_splits_heads_or_sequences(kv_heads, axes, q):
  config = dataclasses.replace(
    small_models.CONFIGS['gemma2'], num_kv_heads=kv_heads
  )
  placement = sharding.rollout_shardings(config, _mesh((2, 1, 4)))
  made = jax.eval_shape(
    lambda: inference.inference_params(
      transformer.init_params(config, jax.random.key(0))
    )
  )
  assert jax.tree.structure(made) == jax.tree.structure(placement.params)
  # Three layers in a pattern of two: the last comes from the remainder.
  for layer in ('0', '1', '2'):
    weights = placement.params['layers'][layer]
    assert weights['attention']['q'].spec == q, layer
    # 24 wide, 40 hidden: split unless the sequences are.
    assert weights['mlp']['down'].spec == P(q[1], None), layer
  assert placement.batch.spec == P(axes)


@pytest.mark.parametrize('shape', [(3, 1, 1), (8, 2, 1), (0, 8, 1)])
def test_mesh_of_another_size_is_rejected(shape):
  with pytest.raises(ValueError, match='there are 8'):
    _mesh(shape)


def test_rollout_mesh_keeps_the_order_of_devices():
  mesh = _mesh((1, 8, 1))
  other = sharding.rollout_mesh(mesh, 4)
  assert dict(other.shape) == {'data': 2, 'fsdp': 1, 'tensor': 4}
  assert other.devices.ravel().tolist() == mesh.devices.ravel().tolist()
  with pytest.raises(ValueError, match='tensor=3'):
    sharding.rollout_mesh(mesh, 3)


def test_inference_params_on_another_mesh_of_the_same_devices():
  """One program reads the update's shardings and writes the rollout's."""
  config = small_models.CONFIGS['gemma2']
  params = small_models.params('gemma2')
  mesh = _mesh((1, 8, 1))
  placed = jax.device_put(params, sharding.param_shardings(config, mesh))
  placement = sharding.rollout_shardings(config, sharding.rollout_mesh(mesh, 2))
  made = jax.jit(inference.inference_params, out_shardings=placement.params)(
    placed
  )
  assert made['layers']['0']['mlp']['up'].sharding.spec == P(None, 'tensor')
  small_batch.assert_close(made, inference.inference_params(params), atol=0)


def test_inference_params_with_adapters():
  """In bfloat16 decode has adapters beside the weights, sharded alike."""
  config = small_models.CONFIGS['gemma2']
  params = small_models.params('gemma2')
  adapters = lora.init_adapters(params, jax.random.key(0), rank=2)
  mesh = _mesh((1, 4, 2))
  trained = sharding.adapter_shardings(config, mesh, adapters)
  q, o = (trained['pattern']['0']['attention'][n] for n in ('q', 'o'))
  assert (q.a.spec, q.b.spec) == (
    P(None, 'fsdp', None),
    P(None, None, 'tensor'),
  )
  assert (o.a.spec, o.b.spec) == (
    P(None, 'tensor', None),
    P(None, None, 'fsdp'),
  )
  placed = sharding.rollout_shardings(config, mesh, adapters)
  make = functools.partial(inference.inference_params, dtype=jnp.bfloat16)
  made = jax.jit(make, out_shardings=placed.params)(
    lora.attach(params, jax.device_put(adapters, trained))
  )
  q = made['layers']['2']['attention']['q'].adapter
  assert (q.a.sharding.spec, q.b.sharding.spec) == (
    P(None, None),
    P(None, 'tensor'),
  )


def _update(config, mesh=None, seed=0, **options):
  """Adam's update of one batch: the state after it, and its metrics."""
  optimizer = optimizers.make_optimizer(1e-3)
  init = jax.jit(transformer.init_params, static_argnums=0)
  params, reference = (
    init(config, jax.random.key(i)) for i in (seed, seed + 1)
  )
  batch = (small_batch.make_batch(), _IN_LOSS)
  if mesh:
    shardings = sharding.param_shardings(config, mesh)
    params, reference = jax.device_put((params, reference), (shardings,) * 2)
    batch = jax.device_put(batch, sharding.batch_sharding(mesh))
  state = train_state.init_state(params, optimizer)
  placed = sharding.state_shardings(state, shardings) if mesh else None
  train_step = rl_update.make_train_step(
    config,
    optimizer,
    shardings=placed,
    unroll=False,
    **options,
  )
  return train_step(state, reference, *batch, _STAGE)


_CONFIGS = {
  'wide': _WIDE,
  'one head, prime vocabulary': dataclasses.replace(
    small_batch.CONFIG, vocab_size=257, num_heads=1, num_kv_heads=1
  ),
  'three heads': dataclasses.replace(
    small_batch.CONFIG, num_heads=3, num_kv_heads=3
  ),
}


@pytest.mark.parametrize(
  ('name', 'shape', 'micro_batches', 'length_buckets'),
  [
    ('wide', (2, 2, 2), 2, 2),
    pytest.param('wide', (2, 2, 2), 2, 1, marks=pytest.mark.slow),
    pytest.param('wide', (8, 1, 1), 1, 1, marks=pytest.mark.slow),
    pytest.param('wide', (1, 8, 1), 1, 1, marks=pytest.mark.slow),
    pytest.param('wide', (1, 1, 8), 4, 3, marks=pytest.mark.slow),
    pytest.param(
      'one head, prime vocabulary', (2, 2, 2), 1, 1, marks=pytest.mark.slow
    ),
    pytest.param('three heads', (1, 1, 8), 1, 1, marks=pytest.mark.slow),
  ],
)
def test_update_on_a_mesh(
  name, shape, micro_batches, length_buckets, one_device
):
  config: model_config.ModelConfig = _CONFIGS[name]
  after, metrics = _update(
    config,
    _mesh(shape),
    micro_batches=micro_batches,
    length_buckets=length_buckets,
  )
  expected, expected_metrics = one_device(name)
  small_batch.assert_close(after.opt_state, expected.opt_state, atol=1e-6)
  # Adam's steps are 1e-3; it divides the gradient by its size, and where that
  # is nothing but rounding, the step is too.
  small_batch.assert_close(after.params, expected.params, atol=1e-4)
  for metric, (total, count) in metrics.items():
    assert int(count) == int(expected_metrics[metric][1])
    assert float(total) == pytest.approx(
      float(expected_metrics[metric][0]), rel=1e-4, abs=1e-4
    ), metric


@pytest.fixture(scope='module')
def one_device():
  """The update of a configuration on one device, made once."""
  made = {}

  def get(name):
    if name not in made:
      made[name] = jax.device_get(_update(_CONFIGS[name]))
    return made[name]

  return get
