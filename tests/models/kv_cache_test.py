"""The cache against dictionaries and double loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import cache_attention, kv_cache
from tests.support import small_models

_CONFIG = small_models.CONFIGS['gemma2']  # window 6
_K, _H = _CONFIG.num_kv_heads, _CONFIG.head_dim


@pytest.mark.parametrize(
  ('length', 'block', 'expected'),
  [
    (40, 1, 6),  # the window
    (40, 5, 10),  # the window and a block whose first token needs its 5 before
    (9, 5, 9),  # never longer than the row
    (3, 1, 3),
  ],
)
def test_ring_length(length, block, expected):
  assert kv_cache.ring_length(_CONFIG, length, block) == expected


@pytest.mark.parametrize(
  ('length', 'transposed', 'expected', 'rings'),
  [
    (20, True, {'global': 20, 'local': 9}, ('local',)),
    (20, False, {'global': 24, 'local': 16}, ('local',)),
    (16, False, {'global': 16, 'local': 16}, ()),  # as long: no ring
  ],
)
def test_untransposed_slots_fill_sublanes(length, transposed, expected, rings):
  """A window of 6 and blocks of 4: rings of 9 slots at least."""
  cache = kv_cache.empty(_CONFIG, 2, length, block=4, transposed=transposed)
  slots = {kind: s.shape[1] for kind, s in cache.positions.items()}
  assert (slots, cache.rings) == (expected, rings)


def test_ring_length_without_a_window():
  config = small_models.CONFIGS['gemma1']
  assert kv_cache.ring_length(config, 40, 5) == 40


# A ring of 4 slots; 4 stands for "not written".
@pytest.mark.parametrize(
  ('positions', 'expected'),
  [
    ([0, 1, 2], [0, 1, 2]),
    ([3, 4, 5], [3, 0, 1]),  # wraps
    ([7, -1, -1], [3, 4, 4]),  # padding after
    ([-1, -1, 2], [4, 4, 2]),  # padding before
    ([0, 1, 2, 3, 4, 5], [4, 4, 2, 3, 0, 1]),  # the last four of six remain
    ([-1, -1], [4, 4]),  # a row that has ended
  ],
)
def test_own_slots(positions, expected):
  stored = jnp.full((1, 4), -1)
  slots = kv_cache.own_slots(stored, jnp.array([positions]))
  assert slots.tolist() == [expected]


def test_visible_by_hand():
  # Query at 5, keys at 2..6 and an empty slot; a window of 3 sees 3, 4, 5.
  query, keys = jnp.array([[5]]), jnp.array([[2, 3, 4, 5, 6, -1]])
  assert cache_attention.visible(query, keys, 3).tolist() == [
    [[False, True, True, True, False, False]]
  ]
  assert cache_attention.visible(query, keys, None).tolist() == [
    [[True, True, True, True, False, False]]
  ]
  # Padding has position -1 and sees nothing, not even itself.
  assert not cache_attention.visible(jnp.array([[-1]]), keys, None).any()


@jax.jit
def _write(layer, stored, positions, k, v):
  slots = kv_cache.own_slots(stored, positions)
  stored = kv_cache.write_positions(stored, slots, positions)
  return kv_cache.write(layer, slots, k, v), stored


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('kind', ['global', 'local'])
def test_a_cache_holds_what_a_dictionary_would(transposed, kind):
  """Blocks of 3 with padding into 3 rows, until the rings have wrapped."""
  rng = np.random.default_rng(0)
  cache = kv_cache.empty(_CONFIG, 3, 24, block=3, transposed=transposed)
  layer = cache.layers[_CONFIG.layer_kinds.index(kind)]
  stored = cache.positions[kind]
  ring = {'global': 24, 'local': 8}[kind]
  assert stored.shape == (3, ring)
  assert layer.num_slots == ring
  held = [{} for _ in range(3)]
  length = np.zeros(3, int)
  for _ in range(6):
    counts = rng.integers(0, 4, 3)
    offset = np.arange(3)[None]
    positions = np.where(offset < counts[:, None], length[:, None] + offset, -1)
    k = rng.normal(size=(3, 3, _K, _H)).astype(np.float32)
    v = rng.normal(size=(3, 3, _K, _H)).astype(np.float32)
    layer, stored = _write(layer, stored, positions, k, v)
    for b, i in np.argwhere(positions >= 0):
      held[b][positions[b, i] % ring] = (positions[b, i], k[b, i], v[b, i])
    length += counts
  assert kind == 'global' or length.max() > ring
  k, v, stored = map(np.asarray, (layer.k, layer.v, stored))
  if transposed:
    k, v = k.transpose(0, 3, 1, 2), v.transpose(0, 2, 1, 3)
  for b in range(3):
    for slot in range(ring):
      position, key, value = held[b].get(slot, (-1, 0.0, 0.0))
      assert int(stored[b, slot]) == position
      np.testing.assert_array_equal(k[b, slot], np.zeros_like(k[b, slot]) + key)
      np.testing.assert_array_equal(
        v[b, slot], np.zeros_like(v[b, slot]) + value
      )


@pytest.mark.parametrize('name', ['gemma1', 'gemma2'])
def test_lock_step_writes_every_block_to_the_next_slots(name):
  """Blocks of 2 with padding into 3 rows of 16 slots, after prompts of 5."""
  config = small_models.CONFIGS[name]
  cache = kv_cache.empty(config, 3, 16, block=2, transposed=False)
  # Gemma 2's local layers have a ring of 8, which lock-step would spoil.
  assert cache.is_in_step('global')
  assert not (name == 'gemma2' and cache.is_in_step('local'))
  lengths, kind = np.array([4, 2, 0]), 'global'
  layer = cache.layers[config.layer_kinds.index(kind)]
  shape = (3, 5, *layer.k.shape[2:])
  prompts = np.where(np.arange(5) < lengths[:, None], np.arange(5), -1)
  cache = kv_cache.from_prefix(
    config,
    [kv_cache.Keys(jnp.ones(shape), jnp.ones(shape))] * config.num_layers,
    jnp.asarray(prompts),
    16,
    block=2,
  )
  assert int(cache.next_slot) == 4  # a prompt's last token is not in it
  expected = np.full((3, 16), -1)
  expected[:, :5] = prompts
  rng = np.random.default_rng(0)
  layer = cache.layers[config.layer_kinds.index(kind)]
  held = np.array(layer.k)
  for start in (4, 6, 8):
    real = rng.random((3, 2)) < 0.6
    positions = np.where(real, lengths[:, None] + np.arange(2), -1)
    k = rng.normal(size=(3, 2, *shape[2:])).astype(np.float32)
    slots = cache.slots_of(kind, jnp.asarray(positions))
    layer = kv_cache.write(layer, slots, jnp.asarray(k), jnp.asarray(-k))
    stored = kv_cache.write_positions(
      cache.positions[kind], slots, jnp.asarray(positions)
    )
    cache = cache.after(cache.layers, cache.positions | {kind: stored}, 2)
    expected[:, start : start + 2] = positions
    held[:, start : start + 2] = k
    lengths += 2
  np.testing.assert_array_equal(cache.positions[kind], expected)
  np.testing.assert_array_equal(layer.k, held)
  np.testing.assert_array_equal(layer.v[:, 4:10], -held[:, 4:10])


def test_the_transposed_layout_has_no_lock_step():
  config = small_models.CONFIGS['gemma1']
  cache = kv_cache.empty(config, 3, 12, transposed=True)
  positions = jnp.array([[3], [-1], [0]])
  assert cache.slots_of('global', positions).tolist() == [[3], [12], [0]]


def _slow_attend(q, k, v, mask, softcap):
  """Of q [B, Q, N, H]; k, v [B, S, K, H]; mask [B, Q, S]; float64 loops."""
  out = np.zeros(q.shape)
  group = q.shape[2] // k.shape[2]
  for b, i, n in np.ndindex(q.shape[:3]):
    scores = k[b, :, n // group] @ q[b, i, n]
    if softcap:
      scores = softcap * np.tanh(scores / softcap)
    weights = np.where(mask[b, i], np.exp(scores - scores.max()), 0)
    out[b, i, n] = weights / weights.sum() @ v[b, :, n // group]
  return out


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('softcap', [None, 2.0])
def test_attention_spans_all_pieces(transposed, softcap):
  """Two pieces of 5 and 3 keys are one softmax over 8; 4 heads on 2."""
  rng = np.random.default_rng(0)
  q = rng.normal(size=(2, 3, 4, _H))
  k, v = rng.normal(size=(2, 2, 8, _K, _H))
  mask = rng.random((2, 3, 8)) < 0.6
  mask[:, :, 0] = True

  def piece(part):
    block = kv_cache.of_block(
      jnp.asarray(k[:, part], jnp.float32),
      jnp.asarray(v[:, part], jnp.float32),
      transposed,
    )
    return block, jnp.asarray(mask[:, :, part])

  attend = jax.jit(cache_attention.attend, static_argnames='softcap')
  out = attend(
    jnp.asarray(q, jnp.float32),
    [piece(slice(0, 5)), piece(slice(5, 8))],
    softcap=softcap,
  )
  expected = _slow_attend(q, k, v, mask, softcap)
  np.testing.assert_allclose(out, expected, atol=2e-6)


@pytest.mark.parametrize(
  ('slots', 'segments', 'expected'),
  [
    (40, 1, (40,)),
    (40, 5, (8, 16, 24, 32, 40)),
    (40, 3, (16, 32, 40)),  # 14 is no multiple of 8
    (4, 3, (4,)),
  ],
)
def test_segment_ends(slots, segments, expected):
  assert cache_attention.segment_ends(slots, segments) == expected


@pytest.mark.parametrize('transposed', [False, True])
def test_live_slots_are_all_that_is_read(transposed):
  """Of 24 slots in three segments; those after the first live ones are NaN."""
  rng = np.random.default_rng(0)
  q = rng.normal(size=(2, 1, 4, _H)).astype(np.float32)
  k, v = rng.normal(size=(2, 2, 24, _K, _H)).astype(np.float32)
  attend = jax.jit(
    cache_attention.attend_live, static_argnums=4, static_argnames='softcap'
  )
  for live, read in ((1, 8), (8, 8), (9, 16), (17, 24), (24, 24)):
    mask = np.broadcast_to(np.arange(24) < live, (2, 1, 24))
    expected = _slow_attend(q, k, v, mask, None)
    spoilt_k, spoilt_v = np.array(k), np.array(v)
    spoilt_k[:, read:] = spoilt_v[:, read:] = np.nan
    keys = kv_cache.of_block(
      jnp.asarray(spoilt_k), jnp.asarray(spoilt_v), transposed
    )
    out = attend(jnp.asarray(q), keys, jnp.asarray(mask), jnp.int32(live), 3)
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_joined_heads_are_the_same_attention():
  """4 heads on 2, one product a sequence; other heads' keys are huge."""
  rng = np.random.default_rng(0)
  q = rng.normal(size=(2, 1, 4, _H)).astype(np.float32)
  k, v = rng.normal(size=(2, 2, 9, _K, _H)).astype(np.float32)
  k[:, :, 1] *= 1e3
  v[:, :, 1] *= 1e3
  mask = rng.random((2, 1, 9)) < 0.6
  mask[:, :, 0] = True
  expected = _slow_attend(q, k, v, mask, 2.0)
  joined = kv_cache.Keys(jnp.asarray(k), jnp.asarray(v))
  apart = joined.replace(has_all_heads=False)
  attend = jax.jit(
    cache_attention.attend_live, static_argnums=4, static_argnames='softcap'
  )
  for keys in (joined, apart):
    out = attend(jnp.asarray(q), keys, jnp.asarray(mask), None, 1, softcap=2.0)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=2e-6)


def test_what_is_live():
  config, now = small_models.CONFIGS['gemma2'], jnp.array([[4], [-1], [2]])
  own = kv_cache.empty(config, 3, 20, transposed=True)
  assert int(own.live('global', now)) == 5  # slot = position
  assert own.live('local', now) is None
  step = kv_cache.empty(config, 3, 20, transposed=False)
  step = step.replace(next_slot=jnp.int32(9))
  assert int(step.live('global', now)) == 10


def test_a_query_that_sees_nothing_is_finite():
  keys = kv_cache.of_block(*jnp.ones((2, 1, 5, _K, _H)), True)
  q = jnp.ones((1, 2, 4, _H))
  out = cache_attention.attend(q, [(keys, jnp.zeros((1, 2, 5), bool))])
  assert jnp.isfinite(out).all()


@pytest.mark.parametrize('transposed', [False, True])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_a_prefix_is_shared_by_its_copies(transposed, dtype):
  """Prompts of 13 and 2 tokens, 3 copies each, rows of 20, rings of 6 + 2."""
  rng = np.random.default_rng(0)
  lengths, copies, ring = (13, 2), 3, 8
  k, v = rng.normal(size=(2, 2, 13, _K, _H)).astype(np.float32)
  index = np.arange(13)[None]
  positions = np.where(index < np.array(lengths)[:, None], index, -1)
  layer = kv_cache.of_block(jnp.asarray(k), jnp.asarray(v), transposed)
  from_prefix = jax.jit(
    kv_cache.from_prefix,
    static_argnums=(0, 3),
    static_argnames=('copies', 'block', 'dtype'),
  )
  cache = from_prefix(
    _CONFIG,
    [layer] * _CONFIG.num_layers,
    jnp.asarray(positions, jnp.int32),
    20,
    copies=copies,
    block=3,
    dtype=dtype,
  )
  for kind, held in zip(_CONFIG.layer_kinds, cache.layers):
    stored = np.asarray(cache.positions[kind])
    assert held.k.dtype == held.v.dtype == dtype
    keys, values = np.asarray(held.k), np.asarray(held.v)
    for row in range(6):
      problem = row // copies
      length = lengths[problem]
      first = 0 if kind == 'global' else max(0, length - ring)
      slots = stored.shape[1]
      kept = {p % slots: p for p in range(first, length)}
      for slot in range(slots):
        assert stored[row, slot] == kept.get(slot, -1)
      for slot, p in kept.items():
        key = keys[row, :, :, slot] if transposed else keys[row, slot]
        value = values[row, :, slot] if transposed else values[row, slot]
        np.testing.assert_array_equal(key, np.asarray(k[problem, p], dtype))
        np.testing.assert_array_equal(value, np.asarray(v[problem, p], dtype))


@pytest.mark.parametrize('name', ['gemma1', 'gemma2', 'gemma3'])
def test_only_the_kinds_in_use_are_kept(name):
  config = small_models.CONFIGS[name]
  cache = kv_cache.empty(config, 2, 30, block=4, transposed=True)
  assert set(cache.positions) == set(config.layer_kinds)
  assert len(cache.layers) == config.num_layers
  only_local = dataclasses.replace(config, layer_pattern=('local',), window=6)
  cache = kv_cache.empty(only_local, 2, 30, block=4, transposed=False)
  # Rings of 9 slots, 16 with whole sublanes, are all that is allocated.
  shape = (2, 16, config.num_kv_heads, config.head_dim)
  assert all(layer.k.shape == shape for layer in cache.layers)
  assert jax.tree.leaves(cache.positions)[0].shape == (2, 16)
