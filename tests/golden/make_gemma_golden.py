"""Writes tests/golden/<model>.npz: logits of small models of `transformers`.

    python -m tests.golden.make_gemma_golden

Needs the `parity` extra. Each file holds the model's `config.json`, the shapes
of its tensors (whose values follow from their names, see
tests/support/random_checkpoints.py), and tokens with their logits.
"""

import json
import pathlib
import tempfile

import numpy as np
import transformers

from tests.support import hugging_face

DIRECTORY = pathlib.Path(__file__).parent
ROWS, LENGTH = 2, 40


def main():
  for name in hugging_face.CONFIGS:
    model = hugging_face.model(name)
    with tempfile.TemporaryDirectory() as directory:
      model.save_pretrained(directory)
      config = json.loads((pathlib.Path(directory) / 'config.json').read_text())
    shapes = {
      key: list(value.shape)
      for key, value in model.state_dict().items()
      if key != 'lm_head.weight'
    }
    tokens = np.random.RandomState(1).randint(
      4, hugging_face.VOCAB, (ROWS, LENGTH), dtype=np.int32
    )
    np.savez_compressed(
      DIRECTORY / f'{name}.npz',
      config=json.dumps(config),
      shapes=json.dumps(shapes),
      vocab_size=hugging_face.VOCAB,
      tokens=tokens,
      logits=hugging_face.logits(model, tokens),
    )
    print(f'{name}.npz, of transformers {transformers.__version__}')


if __name__ == '__main__':
  main()
