"""A sentencepiece model from the vocabulary of a GGUF file."""

import sys

import pytest
from sentencepiece import sentencepiece_model_pb2

from experiments import convert
from score_jax.interop import gguf_import, gguf_tokenizer
from tests.support import exports

IDS = {'pad': 0, 'eos': 1, 'bos': 2, 'unk': 3}


def test_llama_cpp_s_changes_are_undone():
  serialized = exports.tokenizer(exports.SPECIAL['gemma3']).path.read_bytes()
  expected = sentencepiece_model_pb2.ModelProto.FromString(serialized)
  # Gemma has runs of spaces as pieces of their own.
  kind = expected.SentencePiece.Type
  expected.pieces.add(piece='\u2581' * 3, score=0, type=kind.USER_DEFINED)
  pieces = [p.piece for p in expected.pieces]
  kinds = [p.type for p in expected.pieces]
  assert kinds[:4] == [kind.CONTROL] * 3 + [kind.UNKNOWN]
  kinds[3] = kind.CONTROL
  for index in (4, 7, 105, 106):  # <mask>, <unused0>, both turn tokens
    assert kinds[index] == kind.USER_DEFINED
    kinds[index] = kind.CONTROL
  pieces[-1] = '   '
  scores = [p.score for p in expected.pieces]
  # Rows of the embedding beyond the vocabulary.
  pieces += ['[PAD600]', '[PAD601]']
  kinds += [kind.UNUSED] * 2
  scores += [-1e4] * 2
  found = sentencepiece_model_pb2.ModelProto.FromString(
    gguf_tokenizer.build(pieces, scores, kinds, IDS)
  )
  assert _rows(found) == _rows(expected)


def _rows(model):
  return [(p.piece, p.score, p.type) for p in model.pieces]


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'gguf', None)  # as if not installed
  gguf_import._open.cache_clear()
  (tmp_path / 'x.gguf').write_bytes(b'GGUF')
  with pytest.raises(ValueError, match='pip install'):
    gguf_import.read_config(tmp_path / 'x.gguf')
  flags = [f'--from={tmp_path / "x.gguf"}', f'--to={tmp_path / "x"}']
  assert convert.main(flags) == 2
  assert gguf_import.INSTALL in capsys.readouterr().err
