"""Updates of adapters: what they learn, what they leave alone, what is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from score_jax import arrays
from score_jax.algorithm import stage_coefficients
from score_jax.checkpoints import checkpointing
from score_jax.models import inference, lora
from score_jax.training import (
  optimizers,
  rl_update,
  sft_update,
  sharding,
  train_state,
)
from tests.support import small_batch, small_models

pytestmark = pytest.mark.usefixtures('quick_compilation')

CONFIG = small_batch.CONFIG
ALL = jnp.ones((8, 2), bool)
STAGE = stage_coefficients.make_stage([1.0, 1.0], [0.0, 10.0], [0.3, 0.7])
SGD = optax.sgd(1.0)


@pytest.fixture(scope='module')
def base():
  return small_batch.params(0)


@pytest.fixture(scope='module')
def adapters(base):
  return small_models.adapters(base, rank=3, alpha=6.0)  # s = 2


@pytest.fixture(scope='module')
def sgd_step():
  return rl_update.make_train_step(CONFIG, SGD)


@pytest.fixture(scope='module')
def adam():
  optimizer = optimizers.make_optimizer(1e-2)
  return optimizer, rl_update.make_train_step(CONFIG, optimizer)


def gradient(step, params, reference, batch=None, stage=STAGE):
  state = train_state.init_state(params, SGD)
  batch = batch or small_batch.make_batch()
  return small_batch.gradient(step, state, reference, batch, ALL, stage)


@pytest.fixture(scope='module')
def of_adapters(base, adapters, sgd_step):
  """Gradient and metrics of the adapters, the base being the reference."""
  return gradient(sgd_step, adapters, base)


def test_the_update_is_that_of_the_merged_policy(
  base, adapters, sgd_step, of_adapters
):
  # The same policy with all parameters trained; then the chain rule for
  # W + s A B: dL/dA = s G B', dL/dB = s A' G.
  merged = lora.merge(lora.attach(base, adapters))
  whole, expected = gradient(sgd_step, merged, base)
  found, metrics = of_adapters
  for name, (total, count) in expected.items():
    if name != 'grad_norm':
      assert float(metrics[name][0]) == pytest.approx(float(total), abs=2e-4)
      assert int(metrics[name][1]) == int(count), name
  assert float(metrics['kl/turn1'][0]) > 0.01
  for part, names in (('attention', lora.ATTENTION), ('mlp', lora.MLP)):
    for name in names:
      g = whole['pattern']['0'][part][name][0]
      adapter = adapters['pattern']['0'][part][name]
      moved = found['pattern']['0'][part][name]
      np.testing.assert_allclose(
        moved.a[0], 2 * g @ adapter.b[0].T, atol=5e-5, err_msg=name
      )
      np.testing.assert_allclose(
        moved.b[0], 2 * adapter.a[0].T @ g, atol=5e-5, err_msg=name
      )


def test_a_stage_starts_at_its_reference(base, adapters, sgd_step):
  # Fresh adapters: the very logits of the base, so that every KL is 0, to the
  # rounding of sums over 19 tokens.
  fresh = lora.init_adapters(base, jax.random.key(0), rank=3)
  _, metrics = gradient(sgd_step, fresh, base)
  for turn in (1, 2):
    assert abs(float(metrics[f'kl/turn{turn}'][0])) < 1e-5
  # A Stage I that starts from another's policy: its adapters are the
  # reference's and the policy's, once each.
  reference = lora.attach(base, adapters)
  _, metrics = gradient(sgd_step, adapters, reference)
  for turn in (1, 2):
    assert abs(float(metrics[f'kl/turn{turn}'][0])) < 1e-5


def test_updates_leave_the_base_alone(base, adapters, adam):
  optimizer, step = adam
  before = jax.tree.map(np.array, base)
  reference = lora.attach(base, adapters)
  state = train_state.init_state(adapters, optimizer)
  losses = []
  for stage in (
    stage_coefficients.stage_one(),
    stage_coefficients.stage_one(),
    stage_coefficients.stage_two(),
  ):
    state, metrics = step(
      state, reference, small_batch.make_batch(), ALL, stage
    )
    losses.append(float(metrics['loss'][0]))
    assert float(metrics['grad_norm'][0]) > 0
  assert np.isfinite(losses).all()
  # The policy has left its reference, and nothing else has moved.
  assert float(metrics['kl/turn1'][0]) > 1e-4
  small_batch.assert_close(before, lora.base_of(reference), atol=0)
  moved = jax.tree.map(
    lambda new, old: float(jnp.abs(new - old).max()), state.params, adapters
  )
  assert min(jax.tree.leaves(moved)) > 1e-3


def size(tree):
  """Bytes of a tree's arrays."""
  return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))


def test_there_is_one_copy_of_the_weights(base, adapters, adam):
  # Bytes that the compiled update is given: the base once, and the adapters
  # with two moments each; with all parameters trained, four times the base.
  optimizer, step = adam

  def arguments(params):
    state = train_state.init_state(params, optimizer)
    batch = small_batch.make_batch()
    compiled = step.lower(state, base, batch, ALL, STAGE).compile()
    return compiled.memory_analysis().argument_size_in_bytes, state

  with_adapters, state = arguments(adapters)
  with_all, _ = arguments(base)
  assert with_all - with_adapters == 3 * (size(base) - size(adapters))
  assert size(state.opt_state) == 2 * size(adapters) + 4  # and a counter


def test_checkpoints_hold_adapters_only(adam, tmp_path):
  config = dataclasses.replace(CONFIG, width=128, mlp_width=512, num_layers=2)
  base = small_batch.params(0, config)
  adapters = small_models.adapters(base, rank=2)
  assert 20 * size(adapters) < size(base)
  files = {}
  for name, params in (('adapters', adapters), ('all', base)):
    # Moments that are not zeros, which would be compressed to nothing.
    state = train_state.init_state(params, adam[0])
    state = state.replace(
      opt_state=jax.tree.map(
        lambda leaf: (
          jax.random.normal(jax.random.key(1), leaf.shape)
          if leaf.ndim
          else leaf
        ),
        state.opt_state,
      )
    )
    with checkpointing.Checkpoints(tmp_path / name) as store:
      store.save(1, state)
      restored = store.restore(state).state
    small_batch.assert_close(restored, state, atol=0)
    paths = [p for p in (tmp_path / name).rglob('*') if p.is_file()]
    files[name] = sum(path.stat().st_size for path in paths)
  # Three numbers for each parameter; the rest is Orbax's and the manifest.
  assert files['adapters'] < 3 * size(adapters) + 2**16
  assert files['all'] > 2 * size(base)
  manifest = (tmp_path / 'adapters/1/manifest/metadata').read_text()
  assert 'params/pattern/0/attention/q/a' in manifest
  assert 'embedding' not in manifest


def test_a_resumed_run_goes_on_bit_for_bit(base, adapters, adam, tmp_path):
  optimizer, step = adam

  def update(state, seed):
    batch = small_batch.make_batch(seed=seed)
    return step(state, base, batch, ALL, STAGE)[0]

  state = train_state.init_state(adapters, optimizer)
  for seed in range(3):
    state = update(state, seed)
    if seed == 0:
      with checkpointing.Checkpoints(tmp_path) as store:
        store.save(1, state)
  target = train_state.init_state(
    lora.init_adapters(base, jax.random.key(9), rank=3, alpha=6.0), optimizer
  )
  with checkpointing.Checkpoints(tmp_path, read_only=True) as store:
    resumed = store.restore(target).state
  for seed in (1, 2):
    resumed = update(resumed, seed)
  assert jax.tree.structure(resumed) == jax.tree.structure(state)
  small_batch.assert_close(resumed, state, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('shape', 'q_a', 'q_b'),
  [
    ((4, 2, 1), ('fsdp', None), (None, 'tensor')),
    ((2, 2, 2), ('fsdp', None), (None, 'tensor')),
  ],
)
def test_eight_devices_make_the_same_update(
  base, adapters, of_adapters, shape, q_a, q_b
):
  mesh = sharding.make_mesh(jax.devices(), *shape)
  shardings = sharding.adapter_shardings(CONFIG, mesh, adapters)
  q = shardings['pattern']['0']['attention']['q']
  spec = jax.sharding.PartitionSpec
  assert (q.a.spec, q.b.spec) == (spec(None, *q_a), spec(None, *q_b))
  state = train_state.init_state(jax.device_put(adapters, shardings), SGD)
  where = train_state.state_shardings(
    SGD, jax.eval_shape(lambda: adapters), shardings
  )
  assert where == jax.tree.map(lambda leaf: leaf.sharding, state)
  step = rl_update.make_train_step(CONFIG, SGD, shardings=where)
  reference = jax.device_put(base, sharding.param_shardings(CONFIG, mesh))
  batch, loss_mask = jax.device_put(
    (small_batch.make_batch(), ALL), sharding.batch_sharding(mesh)
  )
  other, metrics = small_batch.gradient(
    step, state, reference, batch, loss_mask, STAGE
  )
  small_batch.assert_close(other, of_adapters[0], atol=2e-5)
  for name, (total, _) in metrics.items():
    assert float(total) == pytest.approx(
      float(of_adapters[1][name][0]), rel=1e-4, abs=1e-4
    ), name


def test_sampler_and_trainer_agree(base, adapters, sgd_step):
  merged = inference.inference_params(lora.attach(base, adapters))
  trajectory = small_batch.make_trajectory(merged, 1.0)
  batch = arrays.TrainBatch(trajectory, jnp.zeros((8, 2)))
  _, metrics = gradient(sgd_step, adapters, base, batch)
  assert float(metrics['engine/logprob_gap_max'][0]) < 1e-4
  # The base itself is another policy.
  _, metrics = gradient(sgd_step, base, base, batch)
  assert float(metrics['engine/logprob_gap_max'][0]) > 0.05


def test_sampler_does_not_round_adapters_to_a_narrow_base(base, adapters):
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), base)
  made = inference.inference_params(lora.attach(narrow, adapters))
  exact = inference.inference_params(
    lora.attach(jax.tree.map(lambda x: x.astype(jnp.float32), narrow), adapters)
  )
  small_batch.assert_close(made, exact, atol=0)


@pytest.mark.slow
def test_supervised_learning_of_adapters(base, adapters):
  # The same loss and chain rule as with the merged policy.
  step = sft_update.make_supervised_step(CONFIG, SGD)
  trajectory = small_batch.make_batch().trajectory

  def learn(params, *frozen):
    before = jax.tree.map(np.asarray, params)
    state = train_state.init_state(params, SGD)
    state, metrics = step(state, trajectory, ALL, *frozen)
    delta = jax.tree.map(lambda a, b: a - np.asarray(b), before, state.params)
    return delta, float(metrics['loss'][0])

  whole, expected = learn(lora.merge(lora.attach(base, adapters)))
  found, loss = learn(adapters, base)
  assert loss == pytest.approx(expected, rel=1e-5)
  g = whole['pattern']['0']['mlp']['down'][0]
  b = adapters['pattern']['0']['mlp']['down'].b[0]
  moved = found['pattern']['0']['mlp']['down'].a[0]
  np.testing.assert_allclose(moved, 2 * g @ b.T, atol=1e-5)
  assert np.abs(moved).max() > 1e-3
