"""What is compiled: how often, and what the program must not contain."""

import logging
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_jax.models import config as model_config
from score_jax.models import kv_cache, transformer
from score_jax.rollout import engine, randomness
from tests import small_models

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
_ROWS = 6
_LIMITS = (5, 4)


def _arguments(prompt=14, seed=0, **options):
  """Arguments of `sample_episodes` for a prompt bucket."""
  boundaries = small_models.boundaries(2)
  params = transformer.init_params(_CONFIG, jax.random.key(0))
  defaults = {
    'params': params,
    'prompts': small_models.prompts((prompt, 2, 3), prompt, seed),
    'row_keys': small_models.row_keys(seed, problems=3),
    'boundaries': boundaries,
    'config': _CONFIG,
    'limits': _LIMITS,
    'samples_per_problem': 2,
    'temperature': 1.0,
    'forced_lengths': jnp.ones((_ROWS, 2), jnp.int32),
    'given': engine.no_given_attempts(_ROWS, 2),
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
  assert run(forced_lengths=jnp.full((_ROWS, 2), 3, jnp.int32)) == 0
  given = engine.GivenAttempts(
    jnp.full((_ROWS, 2, 1), 9, jnp.int32), jnp.ones((_ROWS, 2), jnp.int32)
  )
  assert run(given=given) == 0
  other = small_models.boundaries(2, stop_ids=(3, 4))
  other = other.replace(
    after_stop=other.after_stop + 1, after_stop_length=jnp.array([1])
  )
  assert run(boundaries=other) == 0
  params = transformer.init_params(_CONFIG, jax.random.key(1))
  assert run(params=params) == 0
  # Another bucket is another program, and only one.
  assert run(prompt=9) == 1
  assert run(prompt=9, temperature=2.0) == 0
  assert run(prompt=14, temperature=2.0) == 0


_INSTRUCTION = re.compile(
  r'^\s*(?:ROOT )?%?[\w.\-]+ = \(?(\w+)\[([\d,]+)\]\S* ([\w\-]+)\(', re.M
)


def _instructions(text):
  """(elements of the result, operation, shape) of all array instructions."""
  for dtype, dims, operation in _INSTRUCTION.findall(text):
    sizes = [int(d) for d in dims.split(',')]
    yield math.prod(sizes), operation, f'{dtype}[{dims}]'


@pytest.fixture(scope='module')
def episode_text():
  arguments = _arguments(prompt=14)
  # The last turn's append must be skipped without copying the cache, too.
  return engine.sample_episodes.lower(**arguments).compile().as_text()


def _cache_sizes(prompt=14):
  block = small_models.boundaries(2).block
  length = engine.row_length(prompt, _LIMITS, block)
  cache = kv_cache.empty(_CONFIG, _ROWS, length, block=block)
  return {keys.k.size for keys in cache.layers}


def test_the_cache_is_never_copied_or_transposed(episode_text):
  # 6 rows x 2 heads x 6 x (14 + 5 + 5 + 4 = 28 slots, ring of 7 + 5 - 1 = 11).
  sizes = _cache_sizes()
  assert sizes == {6 * 2 * 6 * 28, 6 * 2 * 6 * 11}
  seen = [
    (operation, shape)
    for size, operation, shape in _instructions(episode_text)
    if size in sizes
  ]
  # The parser does see the cache: every layer's keys and values are scattered
  # in place, once in the decode loop and once in the block between turns.
  operations = [operation for operation, _ in seen]
  assert operations.count('scatter') >= 8
  copies = [s for s in seen if s[0] in ('copy', 'transpose', 'select')]
  assert not copies


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
    for size, operation, _ in _instructions(text)
  )


def test_no_logits_of_whole_rows(episode_text):
  # [B, V] exists, the logits of a step; [N, P, V], smaller than [B, T, V], of
  # the prefill must not.
  sizes = [size for size, _, _ in _instructions(episode_text)]
  assert _ROWS * 211 in sizes
  assert max(sizes) < 3 * 14 * 211


def test_uniforms_are_made_before_the_loops(episode_text):
  # A row's keys are hashed once an episode, not once a token.
  del episode_text
  arguments = _arguments()
  jaxpr = jax.make_jaxpr(
    lambda keys: engine.sample_episodes(**(arguments | {'row_keys': keys}))
  )(arguments['row_keys'])
  loops = [
    equation
    for equation in jaxpr.jaxpr.eqns[0].params['jaxpr'].jaxpr.eqns
    if equation.primitive.name in ('while', 'scan')
  ]
  assert loops
  assert all('random_bits' not in str(loop.params) for loop in loops)
  assert 'random_bits' in str(jaxpr)


def test_forced_and_free_decode_agree():
  """Forcing the lengths that came out freely changes no token before the end."""
  arguments = _arguments()
  free = engine.sample_episodes(**(arguments | {'forced_lengths': None}))
  turn = np.asarray(free.turn)
  lengths = np.stack([(turn == k + 1).sum(axis=1) for k in range(2)], axis=1)
  forced = engine.sample_episodes(
    **(arguments | {'forced_lengths': jnp.asarray(lengths, jnp.int32)})
  )
  before_end = (
    np.arange(turn.shape[1])[None]
    < (np.asarray(arguments['prompts'].length).repeat(2) + lengths[:, 0] - 1)[
      :, None
    ]
  )
  np.testing.assert_array_equal(
    np.asarray(free.tokens)[before_end], np.asarray(forced.tokens)[before_end]
  )
