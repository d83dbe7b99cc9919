"""The published sizes, against the reports and against each other."""

import dataclasses
import math

import jax
import pytest

from score_jax.models import gemma, transformer
from tests.support import exports


def _count(config):
  params = jax.eval_shape(
    lambda: transformer.init_params(config, jax.random.key(0))
  )
  total = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  return total, math.prod(params['embedding'].shape)


# Billions of parameters: without the embedding, the embedding with the rows
# that checkpoints pad it to, and their sum; as published.
PUBLISHED = [
  ('gemma-1-2b', 256_128, '1.982', '0.525', '2.506'),
  ('gemma-1-7b', 256_128, '7.751', '0.787', '8.538'),
  ('gemma-2-2b', 256_128, '2.025', '0.590', '2.615'),
  ('gemma-2-9b', 256_128, '8.324', '0.918', '9.242'),
  ('gemma-2-27b', 256_128, '26.05', '1.18', '27.23'),
  ('gemma-3-270m', 262_144, '0.100', '0.168', '0.268'),
  ('gemma-3-1b', 262_144, '0.698', '0.302', '1.000'),
  ('gemma-3-4b', 262_144, '3.209', '0.671', '3.880'),
  ('gemma-3-12b', 262_144, '10.76', '1.01', '11.77'),
  ('gemma-3-27b', 262_144, '25.60', '1.41', '27.01'),
]


@pytest.mark.parametrize(('name', 'rows', 'body', 'table', 'total'), PUBLISHED)
def test_parameter_counts(name, rows, body, table, total):
  config = dataclasses.replace(gemma.CONFIGS[name], vocab_size=rows)
  counted, embedding = _count(config)
  for number, published in (
    (counted - embedding, body),
    (embedding, table),
    (counted, total),
  ):
    decimals = len(published.split('.')[1])
    assert f'{number / 1e9:.{decimals}f}' == published
  assert len(PUBLISHED) == len(gemma.CONFIGS)


def test_parameter_count_by_hand():
  # Gemma 3 1B, a layer: q 1152 x 1024 and back 1024 x 1152; k and v 1152 x 256
  # each; three 1152 x 6912; norms 4 x 1152 + 2 x 256.
  layer = (
    2 * 1152 * 4 * 256 + 2 * 1152 * 256 + 3 * 1152 * 6912 + 4 * 1152 + 2 * 256
  )
  assert _count(gemma.CONFIGS['gemma-3-1b']) == (
    26 * layer + 1152 + 262_144 * 1152,
    262_144 * 1152,
  )


@pytest.mark.parametrize(
  ('name', 'local', 'total'),
  [
    ('gemma-1-2b', 0, 18),
    ('gemma-2-2b', 13, 26),
    ('gemma-2-9b', 21, 42),
    ('gemma-2-27b', 23, 46),
    ('gemma-3-270m', 15, 18),
    ('gemma-3-1b', 22, 26),
    ('gemma-3-4b', 29, 34),
    ('gemma-3-12b', 40, 48),
    ('gemma-3-27b', 52, 62),
  ],
)
def test_layer_kinds(name, local, total):
  config = gemma.CONFIGS[name]
  kinds = config.layer_kinds
  assert (kinds.count('local'), len(kinds)) == (local, total)
  if local:
    # The first layer is local, and a remainder too.
    assert kinds[0] == 'local'
    first_global = kinds.index('global')
    assert first_global == (1 if name.startswith('gemma-2') else 5)
    assert all(
      (kind == 'global') == ((i + 1) % (first_global + 1) == 0)
      for i, kind in enumerate(kinds)
    )


def test_query_scales_of_the_27b_models():
  # Width over heads, not head_dim: 4608 / 32 = 144 and 5376 / 32 = 168.
  assert gemma.CONFIGS['gemma-2-27b'].query_scale == 1 / 12
  assert gemma.CONFIGS['gemma-3-27b'].query_scale == 168**-0.5
  for name, config in gemma.CONFIGS.items():
    if not name.endswith('27b'):
      assert config.query_scale is None


@pytest.mark.parametrize('name', gemma.CONFIGS)
def test_special_tokens_of(name):
  # (vocabulary, start of turn, end of turn) of Gemma 1 and 2, and of Gemma 3.
  expected = (262_144, 105, 106) if '-3-' in name else (256_000, 106, 107)
  special = gemma.special_tokens(gemma.CONFIGS[name])
  found = (special.vocab_size, special.start_of_turn, special.end_of_turn)
  assert found == expected
  assert (special.pad, special.eos, special.bos, special.unk) == (0, 1, 2, 3)


def test_a_tokenizer_of_another_size_is_rejected():
  small_tokenizer = exports.tokenizer(pieces=320)
  pieces = small_tokenizer.vocab_size
  config = dataclasses.replace(gemma.CONFIGS['gemma-1-2b'], vocab_size=pieces)
  gemma.check_tokenizer(config, small_tokenizer)
  other = dataclasses.replace(config, vocab_size=pieces + 1)
  with pytest.raises(ValueError, match=f'has {pieces} pieces.*{pieces + 1}'):
    gemma.check_tokenizer(other, small_tokenizer)


def test_a_published_model_wants_its_own_tokenizer():
  tokenizer = exports.tokenizer(pieces=320)
  with pytest.raises(ValueError, match='vocab_size is .*has 262144') as error:
    gemma.check_tokenizer(gemma.CONFIGS['gemma-3-1b'], tokenizer)
  assert 'start_of_turn is None' in str(error.value)
