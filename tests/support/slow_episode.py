"""An episode written for the reader: Python lists and full forward passes.

No cache, no batch masks, no loop on the device, and the token is drawn from a
float64 inverse CDF. The engine must give the same tokens.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from tests.support import small_models


@dataclasses.dataclass
class Episode:
  """One sequence while it grows."""

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
) -> list[Episode]:
  """B episodes; greedy without `uniforms` [B, T]."""
  episodes = []
  for tokens, length in zip(prompts.tokens.tolist(), prompts.length.tolist()):
    for _ in range(copies):
      prompt = tokens[:length]
      episodes.append(Episode(prompt, [0] * length, [0.0] * length, []))
  total = prompts.tokens.shape[1] + sum(max_new_tokens)
  total += (len(max_new_tokens) - 1) * separators.longest
  while any(episode.attempt < len(max_new_tokens) for episode in episodes):
    block = np.zeros((len(episodes), total), np.int32)
    for b, episode in enumerate(episodes):
      block[b, : len(episode.tokens)] = episode.tokens
    lengths = np.array([len(episode.tokens) for episode in episodes], np.int32)
    logits = small_models.full_logits(
      config, params, jnp.asarray(block), jnp.asarray(lengths)
    )
    logprobs = log_softmax(np.asarray(logits, np.float64) / temperature)
    for b, episode in enumerate(episodes):
      if episode.attempt < len(max_new_tokens):
        uniform = None if uniforms is None else uniforms[b, lengths[b]]
        last = logprobs[b, lengths[b] - 1]
        _extend(episode, last, uniform, separators, max_new_tokens)
  return episodes


def _extend(episode, logprobs, uniform, separators, max_new_tokens):
  """One more token, and what is given after it if it ends the attempt."""
  if uniform is None:
    token = int(np.argmax(logprobs))
  else:
    token = inverse_cdf(logprobs, uniform)
  episode.tokens.append(token)
  episode.turn.append(episode.attempt + 1)
  episode.logprobs.append(logprobs[token])
  episode.count += 1
  is_token = token in separators.stop_ids.tolist()
  is_text = separators.stop_table is not None and _has_stop_text(episode)
  stopped = is_token or is_text
  if not stopped and episode.count < max_new_tokens[episode.attempt]:
    return
  episode.finished.append(stopped)
  closed = is_token or (is_text and separators.stop_text_closes_turn)
  if episode.attempt + 1 < len(max_new_tokens):
    table, lengths = (
      (separators.after_stop, separators.after_stop_length)
      if closed
      else (separators.after_cut, separators.after_cut_length)
    )
    given = table[episode.attempt].tolist()[: int(lengths[episode.attempt])]
    episode.tokens += given
    episode.turn += [0] * len(given)
    episode.logprobs += [0.0] * len(given)
  episode.attempt += 1
  episode.count = 0


def _has_stop_text(episode) -> bool:
  """Whether the attempt so far has one of the small models' stop texts."""
  attempt = episode.tokens[-episode.count :]
  text = b''.join(small_models.PIECES[token] for token in attempt)
  return any(stop in text for stop in small_models.STOP_TEXTS)
