"""What is compiled: how often, and what the program must not contain."""

import dataclasses
import logging
import math
import re

import jax
import jax.numpy as jnp
import pytest

from score_jax.models import kv_cache, model_config, transformer
from score_jax.rollout import engine, given_attempts, turn_separator
from tests.support import small_models

_CONFIG = model_config.ModelConfig(
  vocab_size=211,
  width=16,
  num_layers=2,
  num_heads=4,
  num_kv_heads=2,
  head_dim=6,
  mlp_width=20,
  layer_pattern=('local', 'global'),
  window=7,
)
_BATCH = 6
_LIMITS = (5, 4)
_init = jax.jit(transformer.init_params, static_argnums=0)


def _arguments(prompt=14, seed=0, **options):
  """Arguments of `sample_episodes` for a prompt bucket."""
  separators = small_models.separators(2)
  defaults = {
    'params': _init(_CONFIG, jax.random.key(0)),
    'prompts': small_models.prompts((prompt, 2, 3), prompt, seed),
    'sequence_keys': small_models.sequence_keys(seed, problems=3),
    'separators': separators,
    'config': _CONFIG,
    'max_new_tokens': _LIMITS,
    'samples_per_problem': 2,
    'temperature': 1.0,
    'forced_lengths': jnp.ones((_BATCH, 2), jnp.int32),
    'given': given_attempts.none(_BATCH, 2),
  }
  return defaults | options


@pytest.fixture
def compilations(caplog):
  """Counts the programs of `sample_episodes` that jax compiles."""
  caplog.set_level(logging.WARNING, logger='jax')

  def count(function):
    caplog.clear()
    with jax.log_compiles():
      jax.block_until_ready(function())
    return sum(
      record.getMessage().startswith('Compiling')
      and 'sample_episodes' in record.getMessage()
      for record in caplog.records
    )

  return count


def test_one_program_a_bucket_whatever_the_values(compilations):
  def run(**options):
    arguments = _arguments(**options)
    return compilations(lambda: engine.sample_episodes(**arguments))

  assert run() == 1
  assert run() == 0
  assert run(seed=1) == 0
  assert run(temperature=0.5) == 0
  assert run(forced_lengths=jnp.full((_BATCH, 2), 3, jnp.int32)) == 0
  given = given_attempts.GivenAttempts(
    jnp.full((_BATCH, 2, 1), 9, jnp.int32), jnp.ones((_BATCH, 2), jnp.int32)
  )
  assert run(given=given) == 0
  other = small_models.separators(2, stop_ids=(3, 4))
  other = other.replace(
    after_stop=other.after_stop + 1, after_stop_length=jnp.array([1])
  )
  assert run(separators=other) == 0
  assert run(params=_init(_CONFIG, jax.random.key(1))) == 0
  # Another bucket is another program, and only one.
  assert run(prompt=9) == 1
  assert run(prompt=9, temperature=2.0) == 0
  assert run(prompt=14, temperature=2.0) == 0


_INSTRUCTION = re.compile(
  r'^\s*(?:ROOT )?%?[\w.\-]+ = \(?(\w+)\[([\d,]+)\]\S* ([\w\-]+)\(', re.M
)
_CALLED = re.compile(r'(?:calls|to_apply|body|condition)=%?([\w.\-]+)')
_MOVES = {
  'copy',
  'transpose',
  'select',
  'convert',
  'pad',
  'slice',
  'concatenate',
}


def _instructions(text):
  """(elements of the result, operation) of all array instructions."""
  for _, dims, operation in _INSTRUCTION.findall(text):
    yield math.prod(int(d) for d in dims.split(',')), operation


def _computations(text):
  """The program's computations by name."""
  parts = re.split(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$', text, flags=re.M)
  return dict(zip(parts[1::2], parts[2::2]))


def _with_callees(computations, name):
  """Text of a computation and of all that it calls."""
  text = computations[name]
  return text + ''.join(
    _with_callees(computations, called) for called in _CALLED.findall(text)
  )


@pytest.fixture(scope='module')
def episode_text():
  return engine.sample_episodes.lower(**_arguments()).compile().as_text()


def _step_text(text):
  """The decode loop: the one loop that makes [B, V] logits itself."""
  computations = _computations(text)
  bodies = set(re.findall(r'body=%?([\w.\-]+)', text))
  logits = f'f32[{_BATCH},{_CONFIG.vocab_size}]'
  (step,) = [name for name in bodies if logits in computations[name]]
  return _with_callees(computations, step)


@pytest.fixture(scope='module')
def step_text(episode_text):
  return _step_text(episode_text)


# K [6, 2, 6, slots] of the global layer, 14 + 5 + 5 + 4 = 28 slots, and of the
# local one, a ring of 7 + 5 - 1 = 11; V the same.
_GLOBAL, _RING = 6 * 2 * 6 * 28, 6 * 2 * 6 * 11


def _operations(text, size):
  return [operation for n, operation in _instructions(text) if n == size]


def test_the_sizes_are_those_of_the_cache():
  block = small_models.separators(2).longest
  length = turn_separator.sequence_length(14, _LIMITS, block)
  cache = kv_cache.empty(_CONFIG, _BATCH, length, block=block)
  assert [keys.k.size for keys in cache.layers] == [_RING, _GLOBAL]


@pytest.mark.parametrize('size', [_GLOBAL, _RING])
def test_decode_neither_copies_nor_transposes_the_cache(step_text, size):
  operations = _operations(step_text, size)
  assert operations.count('scatter') == 2  # keys and values, in place
  assert not _MOVES & set(operations)


def test_a_turn_change_copies_rings_only(episode_text):
  """And the last turn, which has no block after it, copies nothing.

  The block attends to the old ring, so that writing needs a copy: at most two
  of keys and of values, once a turn.
  """
  # The prefill may pad its keys to T slots: that makes the cache.
  assert _MOVES & set(_operations(episode_text, _GLOBAL)) <= {'pad'}
  operations = _operations(episode_text, _RING)
  assert operations.count('copy') <= 4
  assert _MOVES & set(operations) <= {'copy'}


def test_lock_step_scatters_nothing():
  """Not transposed and without a ring: one slice for keys, one for values."""
  config = dataclasses.replace(_CONFIG, window=100)
  text = (
    engine.sample_episodes.lower(**_arguments(config=config, transposed=False))
    .compile()
    .as_text()
  )
  # 28 slots are 32 in whole sublanes.
  operations = _operations(_step_text(text), _GLOBAL // 28 * 32)
  # Of two layers; a CPU fuses the values' into their reading, once more.
  assert operations.count('dynamic-update-slice') in (4, 6)
  assert 'scatter' not in _step_text(text)


def test_cond_would_have_copied_the_cache():
  """What the test above guards against is there to be found."""

  def step(cache, flag):
    cache = cache.at[:, 0].set(1.0)
    return jax.lax.cond(
      flag, lambda c: c.at[:, 1].set(c[:, 2]), lambda c: c, cache
    )

  def loop(cache, flags):
    return jax.lax.scan(lambda c, f: (step(c, f), None), cache, flags)[0]

  text = (
    jax.jit(loop)
    .lower(jnp.zeros((7, 13)), jnp.zeros(3, bool))
    .compile()
    .as_text()
  )
  assert any(
    size == 7 * 13 and operation == 'copy'
    for size, operation in _instructions(text)
  )


def test_without_stop_texts_nothing_looks_for_them(episode_text):
  # Their automaton is the only thing in numbers of 8 bits.
  assert 'u8[' not in episode_text
  separators = small_models.with_stop_texts(small_models.separators(2))
  lowered = engine.sample_episodes.lower(**_arguments(separators=separators))
  assert 'ui8>' in lowered.as_text()


def test_no_logits_of_whole_sequences(episode_text):
  # [B, V] exists, the logits of a step; [N, P, V] of the prefill, which is
  # smaller than [B, T, V], must not.
  sizes = [size for size, _ in _instructions(episode_text)]
  assert _BATCH * _CONFIG.vocab_size in sizes
  assert max(sizes) < 3 * 14 * _CONFIG.vocab_size


def test_uniforms_are_made_before_the_loops():
  # A loop would hash them anew for every token.
  arguments = _arguments()
  jaxpr = jax.make_jaxpr(
    lambda keys: engine.sample_episodes(**(arguments | {'sequence_keys': keys}))
  )(arguments['sequence_keys'])
  loops = [
    equation
    for equation in jaxpr.jaxpr.eqns[0].params['jaxpr'].jaxpr.eqns
    if equation.primitive.name in ('while', 'scan')
  ]
  assert loops
  assert all('random_bits' not in str(loop.params) for loop in loops)
  assert 'random_bits' in str(jaxpr)
