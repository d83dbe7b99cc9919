"""Small random checkpoints in Hugging Face's format, without PyTorch.

A tensor's values depend only on its name and shape, through NumPy's legacy
generator, whose stream never changes. So golden files need no weights.
"""

from collections.abc import Mapping
import json
import pathlib
import zlib

import numpy as np
from safetensors import numpy as safetensors_numpy


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Draws f32 values so large that masks, caps and norms make a difference.

  Matrices have gain 1.5 and norm scales a deviation of 0.3. Embeddings are
  small and the final norm is large, so that logits spread over several units
  and a tied output does not merely repeat its input.
  """
  draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
  if len(shape) == 1:
    draw = 0.3 * draw + (4.0 if name == 'model.norm.weight' else 0.0)
  else:
    draw *= 0.08 if 'embed_tokens' in name else 1.5 / np.sqrt(shape[1])
  return draw.astype(np.float32)


def write(
  directory: pathlib.Path,
  config: Mapping,
  shapes: Mapping[str, tuple[int, ...]],
) -> pathlib.Path:
  """Writes `config.json` and `model.safetensors`; returns the directory."""
  directory.mkdir(parents=True, exist_ok=True)
  (directory / 'config.json').write_text(json.dumps(dict(config)))
  tensors = {name: random_tensor(name, tuple(s)) for name, s in shapes.items()}
  safetensors_numpy.save_file(tensors, directory / 'model.safetensors')
  return directory
