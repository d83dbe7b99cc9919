"""FLOPs against a count of every product, times against loops over tokens."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from experiments.config import groups
from experiments.planning import chips, programs, roofline, workload
from score_jax.models import gemma
from score_jax.training import sharding
from tests.support import small_models

_CHIP = chips.Chip('slow', flops=1e6, memory=1e9, bandwidth=1e4)


def _slow_token(config, place):
  """FLOPs of one token of a forward pass, term by term, without logits."""
  c, products = config, 0
  for kind in c.layer_kinds:
    products += c.width * c.num_heads * c.head_dim  # q
    products += 2 * c.width * c.num_kv_heads * c.head_dim  # k, v
    products += c.num_heads * c.head_dim * c.width  # o
    products += 3 * c.width * c.mlp_width
    for key in range(place + 1):
      seen = kind != 'local' or key > place - c.window
      products += seen * 2 * c.num_heads * c.head_dim  # scores, mixture
  return 2 * products


@pytest.mark.parametrize('name', small_models.CONFIGS)
@pytest.mark.parametrize('length', [3, 17])
def test_forward(name, length):
  config = small_models.CONFIGS[name]
  expected = sum(_slow_token(config, place) for place in range(length))
  expected += 2 * 2 * config.width * config.vocab_size
  assert roofline.forward_flops(config, length, 2) == expected


def test_update_counts_four_forward_passes_or_three():
  config = small_models.CONFIGS['gemma2']
  forward = roofline.forward_flops(config, 10, 5)
  # Policy forward, backward (two), reference forward.
  model = programs.Model(config)
  assert roofline.update_flops(model, 6, 10, 5) == 6 * 4 * forward
  adapted = programs.Model(config, lora=groups.LoRA(rank=1))
  assert roofline.update_flops(adapted, 6, 10, 5) == 6 * 3 * forward


def test_two_flops_a_parameter_and_token():
  """Gemma 2 2B: 2.6e9 parameters, the embedding counted once as the head."""
  config = gemma.CONFIGS['gemma-2-2b']
  found = roofline.forward_flops(config, 1000, 1000)
  assert found == pytest.approx(2 * 2.61e9 * 1000, rel=0.05)


_NO_LORA = groups.LoRA()


def _work(config, lora=_NO_LORA, segments=1, rows=None):
  mesh = sharding.make_mesh(jax.devices(), 1, 8, 1)
  return workload.Workload(
    model=programs.Model(config, lora=lora, dtype=jnp.bfloat16),
    sizes=programs.Sizes(
      problems=8, samples=2, prompt=5, max_new_tokens=(9, 9), separator=3
    ),
    mesh=mesh,
    rollout_mesh=mesh,
    episode_options={'compactions': 0, 'segments': segments, 'rows': rows},
    micro_batch=8,
    update_options={},
    disk=None,
    steps=1,
    beside=None,
  )


@pytest.mark.parametrize('name', ['gemma1', 'gemma2'])
@pytest.mark.parametrize('weights', [1e3, 1e8])
def test_rollout_bound_token_by_token(name, weights):
  """Attempts of 7 of 9 tokens, prompts of 5, 3 tokens between the attempts."""
  config = small_models.CONFIGS[name]
  head = 2 * config.width * config.vocab_size
  seconds = 0.0
  # 8 prompts and 16 separators on 8 devices; places 12 to 14 are separators.
  for place in range(5):
    seconds += 8 * _slow_token(config, place) / 8 / 1e6
  for place in range(12, 15):
    seconds += 16 * _slow_token(config, place) / 8 / 1e6
  # Each step feeds the newest token: 7 from the prompt's last on, 7 from the
  # separator's last on.
  for place in [*range(4, 11), *range(14, 21)]:
    flops = 2 * (_slow_token(config, place) + head)
    cache = 0
    for kind in config.layer_kinds:
      keys = min(place + 1, config.window if kind == 'local' else math.inf)
      cache += 2 * keys * config.num_kv_heads * config.head_dim * 2  # bytes
    seconds += max(flops / 1e6, (weights + 2 * cache) / 1e4)
  found = roofline.rollout_seconds(_work(config), _CHIP, weights, 7)
  assert found.lower == pytest.approx(seconds)
  assert found.upper is None  # so small a model


def test_update_bound():
  work = _work(small_models.CONFIGS['gemma2'])
  # 5 + 7 + 3 + 7 tokens, logits of the attempts' 14.
  flops = roofline.update_flops(work.model, 16, 22, 14)
  found = roofline.update_seconds(work, _CHIP, 7)
  assert found == roofline.Range(flops / 8 / 1e6, None)


def test_upper_ends():
  config = gemma.CONFIGS['gemma-2-2b']
  work, chip = _work(config), chips.CHIPS['v5p']
  update = roofline.update_seconds(work, chip, 9)
  assert update.upper == pytest.approx(update.lower / 0.35)
  # Shorter attempts do less, but the program computes whole sequences.
  shorter = roofline.update_seconds(work, chip, 4)
  assert shorter.lower < update.lower
  assert shorter.upper == update.upper
  # At the full length a decode step reads 26 layers' keys and values of 26
  # tokens of 2 sequences, 4 heads of 256 in bfloat16; weights decide.
  weights = 5e9
  step = (weights + 2 * 26 * 2 * 26 * 4 * 256 * 2) / chip.bandwidth
  rollout = roofline.rollout_seconds(work, chip, weights, 9)
  prefill = rollout.lower - 18 * weights / chip.bandwidth
  assert rollout.upper == pytest.approx(
    18 * step * roofline.DECODE_OVERHEAD, rel=prefill / rollout.lower * 3
  )


def test_segments_that_are_read():
  """26 slots are four segments, of 8, 8, 8 and 2; queries see 5 to 25 keys."""
  config, chip = gemma.CONFIGS['gemma-2-2b'], chips.CHIPS['v5p']
  whole, part = (
    roofline.rollout_seconds(_work(config, segments=n), chip, 5e9, 9).upper
    for n in (1, 4)
  )
  a_key = 2 * 26 * 2 * 4 * 256 * 2 / chip.bandwidth * roofline.DECODE_OVERHEAD
  # Attempt 1 sees 5 to 13 keys, attempt 2 17 to 25.
  ends = [8] * 4 + [16] * 5 + [24] * 8 + [26]
  assert whole - part == pytest.approx(sum(26 - end for end in ends) * a_key)


def test_rows_read_the_weights_more_often():
  """A device's 2 sequences, one after the other: the weights twice as often."""
  config, chip = gemma.CONFIGS['gemma-2-2b'], chips.CHIPS['v5p']
  one, both = (
    roofline.rollout_seconds(_work(config, rows=n), chip, 5e9, 9)
    for n in (1, 2)
  )
  again = 18 * 5e9 / chip.bandwidth
  assert one.lower - both.lower == pytest.approx(again)
  assert one.upper - both.upper == pytest.approx(
    again * roofline.DECODE_OVERHEAD
  )


@pytest.mark.parametrize(
  ('name', 'lora'),
  [
    ('gemma-3-1b', groups.LoRA()),
    ('gemma-2-2b', groups.LoRA(rank=16)),
  ],
)
def test_no_upper_end_where_nothing_is_published(name, lora):
  work = _work(gemma.CONFIGS[name], lora)
  update = roofline.update_seconds(work, chips.CHIPS['v5p'], 9)
  rollout = roofline.rollout_seconds(work, chips.CHIPS['v5p'], 2e9, 9)
  assert update.upper is rollout.upper is None
  assert min(update.lower, rollout.lower) > 0


def test_ranges():
  known, unknown = roofline.Range(1.0, 3.0), roofline.Range(2.0, None)
  assert (known + known) * 2 == roofline.Range(4.0, 12.0)
  assert (known + unknown) * 2 == roofline.Range(6.0, None)


def test_work_is_shared_by_all_devices():
  work = _work(small_models.CONFIGS['gemma2'])
  one = dataclasses.replace(
    work, mesh=sharding.make_mesh(jax.devices()[:1], 1, 1, 1)
  )
  eight = roofline.update_seconds(work, _CHIP, 9)
  assert roofline.update_seconds(one, _CHIP, 9).lower == 8 * eight.lower
