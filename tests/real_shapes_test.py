"""Episode and update at real vocabularies, windows and heads, on a CPU.

One model a generation, with two layers. Only compiled, never run: what matters
is which arrays the program makes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments.planning import memory, programs
from score_jax.models import gemma
from tests.support import compiled_text

NAMES = ('gemma-1-2b', 'gemma-2-2b', 'gemma-3-1b')
# Sequences of 4776 tokens: longer than Gemma 2's window of 4096.
SIZES = programs.Sizes(
  problems=2, samples=2, prompt=640, max_new_tokens=(2048, 2048), separator=40
)


def _two_layers(name):
  config = gemma.CONFIGS[name]
  pattern = ('local', 'global') if config.window else ('global',)
  return dataclasses.replace(config, num_layers=2, layer_pattern=pattern)


@pytest.mark.parametrize('name', NAMES)
def test_episode(name):
  config = _two_layers(name)
  model = programs.Model(config)
  compiled = programs.lower_episode(model, SIZES).compile()
  text = compiled.as_text()
  logits = SIZES.batch_size * config.vocab_size
  loops = compiled_text.loop_bodies(text)
  decode = {
    i.computation
    for i in compiled_text.stored_arrays(text)
    if i.computation in loops and i.elements == logits
  }
  assert len(decode) == 1  # of both attempts: one program, one set of logits
  cache = memory.cache(model, SIZES)
  caches = [keys.k.size for keys in cache.layers]
  copies = compiled_text.copies_in_loops(text, min(caches))
  assert not [i for i in copies if i.computation in decode]
  # Weights least of all: nothing that a token needs is larger than a layer's
  # cache or the logits.
  made = [
    i
    for i in compiled_text.stored_arrays(text)
    if i.computation in decode and i.opcode in ('copy', 'fusion', 'transpose')
  ]
  assert max(i.elements for i in made) <= max(logits, *caches)
  # At a turn change keys and values of a ring are copied twice: the block
  # reads what it then overwrites. A cost once a turn, not once a token.
  of_cache = [i for i in copies if i.elements in caches]
  assert len(of_cache) <= 4 * config.layer_kinds.count('local')
  # The largest array is the embedding.
  largest = max(i.elements for i in compiled_text.stored_arrays(text))
  assert largest <= config.vocab_size * config.width
  # Beyond weights and cache: a few logits, scores of the prompts and of the
  # block, hidden units of the MLP.
  block = SIZES.batch_size * SIZES.separator
  prompts = SIZES.problems * SIZES.prompt
  working = (
    4 * logits
    + 3 * prompts * (config.mlp_width + config.num_heads * SIZES.prompt)
    + 5 * block * config.num_heads * SIZES.length
  )
  needed = sum(leaf.size for leaf in jax.tree.leaves(cache)) + working
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * needed


@pytest.mark.parametrize(
  'name',
  # A quarter of a minute each, Gemma 2 half of one.
  [*(pytest.param(n, marks=pytest.mark.slow) for n in NAMES[:2]), NAMES[2]],
)
def test_update(name):
  config = _two_layers(name)
  rows, length = 4, 1024
  compiled = programs.lower_update(
    programs.Model(config), rows, length, remat=True
  ).compile()
  stored = compiled_text.stored_arrays(compiled.as_text())
  largest = max(i.elements for i in stored)
  # The embedding is larger than a chunk of logits, [B, 128, V], and far
  # smaller than the logits of whole sequences would be.
  assert largest == config.vocab_size * config.width
  assert largest < rows * length * config.vocab_size / 1.5


def test_the_reader_of_compiled_text_sees_copies():
  """What the assertions above look for is found where it is."""

  @jax.jit
  def copying(x, y):
    def body(_, carry):
      x, y = carry
      return y, x.at[0].add(y[0])

    return jax.lax.fori_loop(0, 5, body, (x, y))

  text = copying.lower(jnp.zeros(4096), jnp.ones(4096)).compile().as_text()
  assert compiled_text.copies_in_loops(text, 4096)
  assert not compiled_text.copies_in_loops(text, 4097)
