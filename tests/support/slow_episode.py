"""An episode written for the reader: Python lists and full forward passes.

No cache, no masks over rows, no loop on the device, and the token is drawn
from a float64 inverse CDF. The engine must give the same tokens.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tests.support import small_models


@dataclasses.dataclass
class Row:
  """One row while it grows."""

  tokens: list[int]
  turn: list[int]
  logprobs: list[float]
  finished: list[bool]
  attempt: int = 0  # from 0
  count: int = 0  # tokens of the attempt so far


def log_softmax(logits):
  """In float64, over the last axis."""
  logits = np.asarray(logits, np.float64)
  logits = logits - logits.max(axis=-1, keepdims=True)
  return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def inverse_cdf(logprobs, uniform) -> int:
  """First token whose cumulated probability is above the uniform."""
  ends = np.cumsum(np.exp(logprobs))
  return int(np.searchsorted(ends / ends[-1], uniform, side='right'))


def run(
  config,
  params,
  prompts,
  separators,
  max_new_tokens,
  copies,
  *,
  uniforms=None,
  temperature=1.0,
) -> list[Row]:
  """Rows of the episode; greedy without `uniforms` [B, T]."""
  rows = []
  for tokens, length in zip(prompts.tokens.tolist(), prompts.length.tolist()):
    for _ in range(copies):
      prompt = tokens[:length]
      rows.append(Row(prompt, [0] * length, [0.0] * length, []))
  total = prompts.tokens.shape[1] + sum(max_new_tokens)
  total += (len(max_new_tokens) - 1) * separators.longest
  while any(row.attempt < len(max_new_tokens) for row in rows):
    block = np.zeros((len(rows), total), np.int32)
    for b, row in enumerate(rows):
      block[b, : len(row.tokens)] = row.tokens
    lengths = np.array([len(row.tokens) for row in rows], np.int32)
    logits = small_models.full_logits(
      config, params, jnp.asarray(block), jnp.asarray(lengths)
    )
    logprobs = log_softmax(np.asarray(logits, np.float64) / temperature)
    for b, row in enumerate(rows):
      if row.attempt < len(max_new_tokens):
        uniform = None if uniforms is None else uniforms[b, len(row.tokens)]
        _extend(
          row, logprobs[b, lengths[b] - 1], uniform, separators, max_new_tokens
        )
  return rows


def _extend(row, logprobs, uniform, separators, max_new_tokens):
  """One more token, and what is given after it if it ends the attempt."""
  if uniform is None:
    token = int(np.argmax(logprobs))
  else:
    token = inverse_cdf(logprobs, uniform)
  row.tokens.append(token)
  row.turn.append(row.attempt + 1)
  row.logprobs.append(logprobs[token])
  row.count += 1
  stopped = token in separators.stop_ids.tolist()
  if not stopped and row.count < max_new_tokens[row.attempt]:
    return
  row.finished.append(stopped)
  if row.attempt + 1 < len(max_new_tokens):
    table, lengths = (
      (separators.after_stop, separators.after_stop_length)
      if stopped
      else (separators.after_cut, separators.after_cut_length)
    )
    given = table[row.attempt].tolist()[: int(lengths[row.attempt])]
    row.tokens += given
    row.turn += [0] * len(given)
    row.logprobs += [0.0] * len(given)
  row.attempt += 1
  row.count = 0
