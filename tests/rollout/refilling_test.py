"""Rows that take the next sequence make the same episodes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import kv_cache, model_config
from score_jax.rollout import engine, given_attempts, refilling, sequence_state
from score_jax.training import sharding
from tests.support import compiled_text, small_models

# A policy without weights: the next token is the sum of all tokens before it,
# each times its place from 1, modulo the vocabulary.
_VOCAB = 13
_CONFIG = model_config.ModelConfig(
  vocab_size=_VOCAB,
  width=1,
  num_layers=1,
  num_heads=1,
  num_kv_heads=1,
  head_dim=2,
  mlp_width=1,
)
_PROMPTS = ((2, 9), (2, 9), (7,), (5, 3, 8))
_LENGTHS = ((4, 2), (1, 1), (2, 1), (1, 1))
_LONGEST, _TOTAL = 4, 3 + 2 * 4 + 5


def _as_keys(tokens):
  """Tokens [B, S] as keys f32 [B, S, 1, 2]."""
  tokens = jnp.asarray(tokens, jnp.float32)
  return jnp.repeat(tokens[:, :, None, None], 2, axis=3)


def _forward(steps, tokens, positions, cache):
  """Stores tokens as keys, and sums them; notes the rows of decode steps."""
  slots = cache.slots_of('global', positions)
  keys = kv_cache.write(cache.layers[0], slots, *[_as_keys(tokens)] * 2)
  stored = kv_cache.write_positions(cache.positions['global'], slots, positions)
  rows, block = tokens.shape
  if block == 1:
    jax.debug.callback(lambda _: steps.append(rows), stored[0, 0])
  # Empty slots have position -1.
  summed = (keys.k[:, 0, 0] * (stored + 1)).sum(axis=1)
  hidden = jnp.broadcast_to(summed[:, None, None], (rows, block, 1))
  return hidden, cache.after([keys], {'global': stored}, block)


def _unembed(hidden):
  return jax.nn.one_hot(hidden[:, 0].astype(jnp.int32) % _VOCAB, _VOCAB)


def _slow_episode(prompt, lengths, separator):
  """Tokens, and the attempts they are of; a stop token ends each attempt."""
  tokens, turns = list(prompt), [0] * len(prompt)
  for turn, length in enumerate(lengths):
    given = separator if turn else []
    tokens, turns = tokens + given, turns + [0] * len(given)
    for column in range(length):
      drawn = sum(place * t for place, t in enumerate(tokens, 1)) % _VOCAB
      tokens.append(drawn if column < length - 1 else small_models.STOP)
      turns.append(turn + 1)
  return tokens, turns


def _refill():
  """Episodes in two rows, and the rows of each decode step."""
  steps, batch = [], len(_PROMPTS)
  prompts = np.array([[*p, *[0] * (_TOTAL - len(p))] for p in _PROMPTS])
  length = np.array([len(p) for p in _PROMPTS], np.int32)
  between = small_models.separators(2)

  @jax.jit
  def run(started, rules):
    index = jnp.arange(3)[None]
    positions = jnp.where(index < started.length[:, None] - 1, index, -1)

    def cache_of(index):
      keys = kv_cache.of_block(
        *[_as_keys(started.tokens[index, :3])] * 2, transposed=True
      )
      return kv_cache.from_prefix(
        _CONFIG,
        [keys],
        positions[index],
        _TOTAL,
        block=between.longest,
        lock_step=False,
      )

    return refilling.run(
      functools.partial(_forward, steps),
      _unembed,
      rules,
      started,
      cache_of,
      rows=2,
      longest=_LONGEST,
      compactions=0,
    )

  found = run(
    sequence_state.Sequences(
      cache=None,
      tokens=prompts.astype(np.int32),
      turn=np.zeros((batch, _TOTAL), np.int32),
      logprobs=np.zeros((batch, _TOTAL), np.float32),
      length=length,
      finished=np.zeros((batch, 2), bool),
    ),
    sequence_state.Rules(
      separators=between,
      max_new_tokens=np.array([_LONGEST] * 2),
      temperature=np.float32(1),
      uniforms=None,
      given_tokens=np.zeros((batch, 2, 1), np.int32),
      given_length=np.zeros((batch, 2), np.int32),
      forced_length=np.array(_LENGTHS, np.int32),
    ),
  )
  found = jax.device_get(found)
  jax.effects_barrier()
  return found, steps


def test_rows_do_not_wait_for_others():
  """Two rows: one of 4 + 2 tokens, one of 1 + 1, then 2 + 1, then 1 + 1.

  Pairs that wait for each other would take 4 + 2 and then 2 + 1 steps.
  """
  found, steps = _refill()
  assert steps == [2] * 7
  separator = np.asarray(small_models.separators(2).after_stop)[0, :2].tolist()
  for i, (prompt, lengths) in enumerate(zip(_PROMPTS, _LENGTHS, strict=True)):
    tokens, turns = _slow_episode(prompt, lengths, separator)
    assert found.length[i] == len(tokens)
    assert found.tokens[i, : len(tokens)].tolist() == tokens
    assert found.turn[i, : len(tokens)].tolist() == turns
  assert found.finished.all()


def _assert_same(found, expected):
  for name in ('tokens', 'turn', 'length', 'finished', 'sampled'):
    np.testing.assert_array_equal(
      getattr(found, name), getattr(expected, name), name
    )
  np.testing.assert_allclose(found.logprobs, expected.logprobs, atol=1e-5)


def _compare(name, turns, rows, compactions=0, **options):
  options = {'temperature': 0.7} | options
  expected = small_models.run(name, turns, **options)
  found = small_models.run(
    name, turns, rows=rows, compactions=compactions, **options
  )
  _assert_same(found, expected)
  return expected


@pytest.mark.slow
@pytest.mark.parametrize(
  ('rows', 'compactions'), [(1, 0), (3, 0), (4, 2), (7, 1)]
)
def test_the_same_episodes(rows, compactions):
  """Local layers have rings of 10 slots, and sequences 40 tokens."""
  drawn = np.random.default_rng(0).geometric(0.3, (8, 2))
  lengths = np.minimum(drawn, small_models.LIMITS[:2]).astype(np.int32)
  _compare('gemma2', 2, rows, compactions, forced_lengths=jnp.asarray(lengths))


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'transposed', 'turns'),
  [
    ('gemma1', True, 1),
    ('gemma1', False, 3),
    ('gemma3', True, 3),
    ('gemma3', False, 2),
  ],
)
def test_stop_tokens_and_cut_off_attempts(name, transposed, turns):
  found = _compare(name, turns, 3, transposed=transposed)
  assert 0 < found.finished.sum() < found.finished.size


@pytest.mark.slow
@pytest.mark.parametrize('closes_turn', [True, False])
def test_stop_texts(closes_turn):
  separators = small_models.with_stop_texts(
    small_models.separators(2), closes_turn=closes_turn
  )
  found = _compare('gemma2', 2, 3, separators=separators)
  assert found.finished.any()


@pytest.mark.slow
def test_greedy():
  _compare('gemma2', 2, 3, greedy=True)


@pytest.mark.slow
def test_given_attempts():
  length = np.zeros((8, 2), np.int32)
  length[[0, 3, 4, 6], 0] = 1, 5, 8, 2
  length[[3, 5], 1] = 9, 1
  given = given_attempts.GivenAttempts(
    jnp.full((8, 2, max(small_models.LIMITS)), 9, jnp.int32),
    jnp.asarray(length),
  )
  found = _compare('gemma2', 2, 3, given=given)
  assert found.sampled.tolist() == (length == 0).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'transposed', 'segments'),
  [('gemma1', False, 5), ('gemma3', True, 1)],
)
def test_several_devices(name, transposed, segments):
  """Each refills its own rows: nothing crosses devices."""
  mesh = sharding.make_mesh(jax.devices()[:2], 1, 2, 1)
  arguments = small_models.arguments(
    name,
    2,
    temperature=0.7,
    sharding=sharding.batch_sharding(mesh),
    transposed=transposed,
    segments=segments,
    rows=2,
    compactions=1,
  )
  text = engine.sample_episodes.lower(**arguments).compile().as_text()
  for i in compiled_text.instructions(text):
    is_exchange = i.opcode.startswith(('all-', 'collective-', 'reduce-scatter'))
    assert not is_exchange, i.line
  found = engine.sample_episodes(**arguments)
  _assert_same(found, small_models.run(name, 2, temperature=0.7))


@pytest.mark.slow
def test_devices_that_share_a_sequence():
  """Two copies of the weights, each of two devices, refill their own rows."""
  mesh = sharding.make_mesh(jax.devices()[:4], 1, 2, 2)
  of_batch = sharding.batch_sharding(mesh)
  found = small_models.run(
    'gemma2', 2, temperature=0.7, rows=2, compactions=1, sharding=of_batch
  )
  _assert_same(found, small_models.run('gemma2', 2, temperature=0.7))
