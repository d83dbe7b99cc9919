"""The work of all programs: a Gemma-2-like model, prompts, attempt lengths.

Imports neither jax nor torch, since baselines of either kind use it. Weights
are random and drawn by each program: with lengths forced, neither time nor
memory depends on them.
"""

import dataclasses
import json
from typing import Any

import numpy as np

PAD, STOP, FIRST_WORD = 0, 1, 6
# Quantiles, a twentieth apart, of the lengths of the reference solutions of
# MATH's 12,500 problems (Hendrycks et al., 2021, arXiv:2103.03874).
_MATH_CHARACTERS = (
  (26, 112, 155, 184, 213, 243, 271, 301, 334, 368, 405, 444, 492, 542, 604)
  + (682, 775, 898, 1085, 1441, 6767)
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Workload:
  """Sizes of the model and of the episodes.

  Attributes:
    rows: B, sequences: G samples of each of B / G problems.
    samples: G.
    prompt: P, tokens of every prompt.
    limit: most tokens of each of the two attempts.
    instruction: I, tokens between the attempts.
    layers: alternating local and global ones, 32.5M parameters if 8.
    dtype: of weights and activations, 'float32' or 'bfloat16'.
    devices: that share the sequences of an update (ours alone).
    seed: of prompts and lengths.
    lengths: of attempts, 'geometric' or 'math', see `attempt_lengths`.
    at_once: sequences that a rollout in parts decodes at a time; None: half.
    architecture: `config.json` of a published model, whose sizes are those
      above; None: the Gemma-2-like one.
  """

  rows: int = 64
  samples: int = 8
  prompt: int = 64
  limit: int = 64
  instruction: int = 16
  layers: int = 8
  width: int = 512
  heads: int = 8
  kv_heads: int = 4
  head_dim: int = 64
  mlp: int = 2048
  vocab: int = 2048
  window: int = 4096
  dtype: str = 'float32'
  devices: int = 1
  seed: int = 0
  lengths: str = 'geometric'
  at_once: int | None = None
  architecture: dict[str, Any] | None = None

  @property
  def length(self) -> int:
    """T, tokens of the longest possible sequence."""
    return self.prompt + 2 * self.limit + self.instruction

  @property
  def weights(self) -> int:
    """Parameters of the layers' matrices, without the output layer."""
    attention = 2 * self.width * (self.heads + self.kv_heads) * self.head_dim
    return self.layers * (attention + 3 * self.width * self.mlp)

  def rollout_floats(self) -> float:
    """FLOPs of an episode: attempts and separators, and each prompt once.

    Two for each weight and token, and attention over the keys before it.
    """
    lengths = self.attempt_lengths().astype(float)
    problems = self.rows / self.samples
    tokens = problems * self.prompt + self.rows * self.instruction
    tokens += lengths.sum()
    ends = self.prompt + self.instruction + lengths.sum(axis=1)
    keys = problems * self.prompt**2 / 2
    keys += (ends**2 - self.prompt**2).sum() / 2
    # Every attempt token is drawn from logits.
    return self._floats(tokens, lengths.sum(), keys)

  def update_floats(self, reference: bool) -> float:
    """FLOPs of forward and backward, and of a reference's forward pass."""
    _, turn = self.episodes()
    lengths = self.prompt + self.instruction + self.attempt_lengths().sum(1)
    forward = self._floats(
      lengths.sum(), (turn > 0).sum(), (lengths.astype(float) ** 2).sum() / 2
    )
    return forward * (4 if reference else 3)

  def _floats(self, tokens, logits, keys):
    head = self.width * self.vocab * logits
    attention = 2 * self.layers * self.heads * self.head_dim * keys
    return float(2 * (self.weights * tokens + head + attention))

  def prompts(self) -> np.ndarray:
    """I32 [B, P], the samples of a problem adjacent and equal."""
    rng = np.random.default_rng(self.seed)
    shape = (self.rows // self.samples, self.prompt)
    words = rng.integers(FIRST_WORD, self.vocab, shape, np.int32)
    return np.repeat(words, self.samples, axis=0)

  def between(self) -> np.ndarray:
    """I32 [I], the instruction."""
    return np.arange(self.instruction, dtype=np.int32) + FIRST_WORD

  def attempt_lengths(self) -> np.ndarray:
    """I32 [B, 2] in [1, limit].

    Geometric ones have a third of the limit on average before they are cut.
    Those of MATH are drawn from its quantiles, four characters a token, scaled
    as if the limit were 512.
    """
    rng = np.random.default_rng(self.seed + 1)
    shape = (self.rows, 2)
    if self.lengths == 'geometric':
      drawn = rng.geometric(min(1, 3 / self.limit), shape)
    else:
      shares = np.linspace(0, 1, len(_MATH_CHARACTERS))
      characters = np.interp(rng.random(shape), shares, _MATH_CHARACTERS)
      drawn = np.ceil(characters / 4 * self.limit / 512)
    return np.clip(drawn, 1, self.limit).astype(np.int32)

  def episodes(self) -> tuple[np.ndarray, np.ndarray]:
    """Finished sequences for updates: tokens and turns, i32 [B, T] each."""
    rng = np.random.default_rng(self.seed + 2)
    tokens = np.zeros((self.rows, self.length), np.int32)
    turn = np.zeros((self.rows, self.length), np.int32)
    prompts, between = self.prompts(), self.between()
    for row, lengths in enumerate(self.attempt_lengths()):
      attempts = [
        np.append(rng.integers(FIRST_WORD, self.vocab, n - 1), STOP)
        for n in lengths
      ]
      pieces = (prompts[row], attempts[0], between, attempts[1])
      joined = np.concatenate(pieces)
      tokens[row, : len(joined)] = joined
      whose = np.repeat([0, 1, 0, 2], [len(piece) for piece in pieces])
      turn[row, : len(joined)] = whose
    return tokens, turn

  def to_json(self) -> str:
    """The work as a word of a baseline's command line."""
    return json.dumps(dataclasses.asdict(self))

  @classmethod
  def from_json(cls, text: str) -> 'Workload':
    """The inverse of `to_json`."""
    return cls(**json.loads(text))
