"""Text in, token rows out, and back: the host's side of an episode."""

from collections.abc import Sequence

import jax
import numpy as np

from score_jax import arrays, types
from score_jax.models import chat
from score_jax.rollout import engine


def encode_prompts(
  chat_format: chat.ChatFormat,
  messages: Sequence[str],
  buckets: Sequence[int],
) -> arrays.Prompts:
  """Prompts of first user messages, padded to the smallest bucket that fits.

  Args:
    chat_format: renders the messages.
    messages: one for each problem.
    buckets: allowed lengths P in tokens, increasing.

  Raises:
    ValueError: a prompt is longer than the largest bucket; nothing is cut.
  """
  ids = [chat_format.prompt(message) for message in messages]
  longest = max(range(len(ids)), key=lambda i: len(ids[i]))
  fitting = [size for size in buckets if size >= len(ids[longest])]
  if not fitting:
    raise ValueError(
      f'a prompt has {len(ids[longest])} tokens, more than the '
      f'{max(buckets)} of --max-prompt-tokens: raise it, or drop the problem '
      f'that begins {messages[longest][:80]!r}'
    )
  tokens = np.zeros((len(ids), min(fitting)), np.int32)
  for row, prompt in zip(tokens, ids):
    row[: len(prompt)] = prompt
  return arrays.Prompts(tokens, np.array([len(i) for i in ids], np.int32))


def decode_attempts(
  chat_format: chat.ChatFormat, trajectory: arrays.Trajectory
) -> list[list[types.Attempt]]:
  """The attempts of each row, [B] lists of K."""
  trajectory = jax.device_get(trajectory)
  turns = trajectory.finished.shape[1]
  return [
    [
      types.Attempt(
        text=chat_format.attempt_text(tokens[turn == k + 1]),
        turn=k + 1,
        finished=bool(finished[k]),
      )
      for k in range(turns)
    ]
    for tokens, turn, finished in zip(
      trajectory.tokens, trajectory.turn, trajectory.finished, strict=True
    )
  ]


def pack_rows(
  chat_format: chat.ChatFormat,
  messages: Sequence[str],
  attempts: Sequence[Sequence[str]],
  instructions: Sequence[str],
  length: int,
) -> arrays.Trajectory:
  """Rows of given attempts, each ended by a stop token, as in the engine.

  Args:
    chat_format: renders the messages.
    messages: first user messages [B].
    attempts: K texts a row.
    instructions: K - 1 texts between them.
    length: T.

  Returns:
    A trajectory [B, T] of which nothing was sampled.

  Raises:
    ValueError: a row is longer than T.
  """
  batch, turns = len(messages), len(attempts[0])
  tokens = np.zeros((batch, length), np.int32)
  turn = np.zeros((batch, length), np.int32)
  lengths = np.zeros(batch, np.int32)
  given = [chat_format.after_stop(text) for text in instructions]
  for i, (message, texts) in enumerate(zip(messages, attempts, strict=True)):
    ids = chat_format.prompt(message)
    owner = [0] * len(ids)
    for k, text in enumerate(texts):
      if k:
        ids += given[k - 1]
        owner += [0] * len(given[k - 1])
      attempt = chat_format.attempt_ids(text)
      ids += attempt
      owner += [k + 1] * len(attempt)
    if len(ids) > length:
      raise ValueError(
        f'row {i} has {len(ids)} tokens, more than {length}: {message[:80]!r}'
      )
    tokens[i, : len(ids)], turn[i, : len(ids)] = ids, owner
    lengths[i] = len(ids)
  return arrays.Trajectory(
    tokens=tokens,
    turn=turn,
    sampled=np.zeros((batch, turns), bool),
    logprobs=np.zeros((batch, length), np.float32),
    length=lengths,
    finished=np.ones((batch, turns), bool),
    problem_index=np.arange(batch, dtype=np.int32),
  )


def given_attempts(
  chat_format: chat.ChatFormat,
  attempts: Sequence[Sequence[types.Attempt | None]],
  limits: Sequence[int],
) -> engine.GivenAttempts:
  """Attempts to supply: [B] lists of K, None where the policy shall sample.

  An attempt longer than its turn's limit is cut there, as a sampled one is.
  """
  turns = len(attempts[0])
  tokens = np.zeros((len(attempts), turns, max(limits)), np.int32)
  length = np.zeros((len(attempts), turns), np.int32)
  for b, row in enumerate(attempts):
    for k, attempt in enumerate(row):
      if attempt is not None:
        ids = chat_format.attempt_ids(attempt.text)[: limits[k]]
        tokens[b, k, : len(ids)] = ids
        length[b, k] = len(ids)
  return engine.GivenAttempts(tokens, length)
