"""Google's Gemma 3 270M, simulated whole: Orbax in, Hugging Face out."""

import json

import jax.numpy as jnp
import pytest
from sentencepiece import sentencepiece_model_pb2

from experiments import convert
from experiments.benchmarks import gemma_import
from score_jax.models import gemma, tokenization
from tests.support import exports


def write_tokenizer(path, special):
  """A tokenizer of Gemma's size: pieces that never occur fill it up."""
  pieces = tokenization.gemma_pieces(special)
  tokenization.train(exports.CORPUS, path, 480, pieces)
  model = sentencepiece_model_pb2.ModelProto()
  model.ParseFromString(path.read_bytes())
  lowest = min(piece.score for piece in model.pieces)
  for index in range(len(model.pieces), special.vocab_size):
    model.pieces.add(piece=f'\u2581filler{index}', score=lowest - index)
  path.write_bytes(model.SerializeToString())


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.filterwarnings('ignore::FutureWarning')
def test_gemma_3_270m(tmp_path, capsys):
  write_tokenizer(tmp_path / 'tokenizer.model', gemma.GEMMA_3_TOKENS)
  options = gemma_import.Options(model='gemma-3-270m', format='orbax')
  gemma_import.write(options, str(tmp_path / 'orbax'))
  code = convert.main(
    [
      f'--from={tmp_path / "orbax"}',
      f'--to={tmp_path / "out"}',
      '--model=gemma-3-270m',
      '--chat-style=gemma',
      '--max-file-gb=0.2',
      '--verify',
    ]
  )
  assert code == 0
  shown = ' '.join(capsys.readouterr().out.split())
  assert '268,098,176 parameters' in shown
  assert 'every tensor, read back, is equal to the bit' in shown
  config = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert config['vocab_size'] == 262_144
  assert config['dtype'] == jnp.dtype(jnp.bfloat16).name
  # The embedding alone has more than 0.2 GB.
  index = tmp_path / 'out' / 'model.safetensors.index.json'
  assert len(set(json.loads(index.read_text())['weight_map'].values())) == 3
