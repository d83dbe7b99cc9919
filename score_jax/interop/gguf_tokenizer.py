"""The sentencepiece model that a GGUF vocabulary was made from, rebuilt."""

from collections.abc import Mapping, Sequence

from sentencepiece import sentencepiece_model_pb2

# Special ids by their names in a sentencepiece model: their keys in the file.
SPECIAL = {'pad': 'padding', 'eos': 'eos', 'bos': 'bos', 'unk': 'unknown'}
_SPACE = '\u2581'  # what pieces have for a space


def build(
  pieces: Sequence[str],
  scores: Sequence[float],
  kinds: Sequence[int],
  ids: Mapping[str, int],
) -> bytes:
  """Returns the `tokenizer.model` of a Gemma vocabulary.

  llama.cpp numbers the kinds of pieces as sentencepiece does, with two changes
  that are undone here. It calls all special pieces control pieces, which text
  cannot be encoded to; to Gemma only padding, EOS and BOS are, and turn tokens
  and unused pieces are user-defined. It writes user-defined pieces with spaces.
  Where the embedding has more rows, it appends pieces of the kind UNUSED, which
  are left out.

  Args:
    pieces: of the vocabulary, [V].
    scores: of each piece.
    kinds: of each piece.
    ids: of the special pieces in `SPECIAL`.
  """
  model = sentencepiece_model_pb2.ModelProto()
  kind_of = model.SentencePiece.Type
  size = max(i + 1 for i, kind in enumerate(kinds) if kind != kind_of.UNUSED)
  rows = zip(pieces[:size], scores, kinds)
  for index, (piece, score, kind) in enumerate(rows):
    if index == ids['unk']:
      kind = kind_of.UNKNOWN
    elif kind == kind_of.CONTROL and index not in ids.values():
      kind = kind_of.USER_DEFINED
    if kind == kind_of.USER_DEFINED:
      piece = piece.replace(' ', _SPACE)
    model.pieces.add(piece=piece, score=score, type=kind)
  # As Gemma's: bytes for what has no piece, and text is left as it is.
  trainer = model.trainer_spec
  trainer.model_type = trainer.BPE
  trainer.vocab_size = len(model.pieces)
  trainer.byte_fallback = True
  for name, index in ids.items():
    setattr(trainer, f'{name}_id', index)
    setattr(trainer, f'{name}_piece', model.pieces[index].piece)
  normalizer = model.normalizer_spec
  normalizer.name = 'identity'
  normalizer.add_dummy_prefix = False
  normalizer.remove_extra_whitespaces = False
  return model.SerializeToString()
