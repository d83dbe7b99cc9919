"""Off-policy first attempts: attempts that an episode is given, not sampled.

A sequence may be given any of its attempts, as token ids, in place of sampling
them. They carry no log-probability and no gradient (`Trajectory.sampled` is
False for them). They come from texts (a data set's wrong answers to correct)
or from another policy's trajectory, token for token.
"""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays, distributed, types
from score_jax.models import chat

# Column of a problem whose text is its first attempt.
_COLUMN = 'given_attempt'


@struct.dataclass
class GivenAttempts:
  """Attempts that are given instead of sampled.

  Attributes:
    tokens: i32 [B, K, A]; stop tokens and stop texts included.
    length: i32 [B, K]; 0: the attempt is sampled.
  """

  tokens: jax.Array
  length: jax.Array


def none(batch_size: int, turns: int) -> GivenAttempts:
  """No attempt is given: every one is sampled."""
  return GivenAttempts(
    jnp.zeros((batch_size, turns, 1), jnp.int32),
    jnp.zeros((batch_size, turns), jnp.int32),
  )


def encode(
  chat_format: chat.ChatFormat,
  attempts: Sequence[Sequence[types.Attempt | None]],
  max_new_tokens: Sequence[int],
) -> GivenAttempts:
  """Attempts given as texts.

  Args:
    chat_format: tokenizes the texts and ends them.
    attempts: [B] lists of K; None where the policy samples.
    max_new_tokens: most tokens of each of the K attempts; a longer text is cut
      there, as a sampled attempt is.
  """
  turns = len(attempts[0])
  tokens = np.zeros((len(attempts), turns, max(max_new_tokens)), np.int32)
  length = np.zeros((len(attempts), turns), np.int32)
  for b, episode in enumerate(attempts):
    for k, attempt in enumerate(episode):
      if attempt is not None:
        ids = chat_format.attempt_ids(attempt.text)[: max_new_tokens[k]]
        tokens[b, k, : len(ids)] = ids
        length[b, k] = len(ids)
  return GivenAttempts(tokens, length)


def of_problems(
  chat_format: chat.ChatFormat,
  problems: Sequence[types.Problem],
  samples_per_problem: int,
  max_new_tokens: Sequence[int],
) -> GivenAttempts | None:
  """First attempts from the problems' column `given_attempt`.

  Returns:
    For N * G sequences, a problem's samples adjacent; None where no problem has
    the column.
  """
  texts = [problem.columns.get(_COLUMN) for problem in problems]
  if not any(texts):
    return None
  later = [None] * (len(max_new_tokens) - 1)
  attempts = [
    [types.Attempt(text) if text else None, *later]
    for text in texts
    for _ in range(samples_per_problem)
  ]
  return encode(chat_format, attempts, max_new_tokens)


def first_attempts_of(
  trajectory: arrays.Trajectory,
  *,
  attempt: int,
  turns: int,
  max_new_tokens: int,
  given_per_problem: int = 1,
  samples_per_problem: int = 1,
) -> GivenAttempts:
  """One attempt of each sampled sequence, given as a first attempt.

  Tokens are copied, never decoded. Collective: call it in every process.

  Args:
    trajectory: of N * C sequences, a problem's C adjacent.
    attempt: which of their attempts is given, from 1.
    turns: K, attempts of the sequences that it is given to.
    max_new_tokens: A, at least the tokens of any of the attempts.
    given_per_problem: C, of a problem's G sequences the first C are given one.
    samples_per_problem: G, at least C.

  Returns:
    Tokens [N * G, K, A] and lengths [N * G, K].
  """
  tokens, turn = map(distributed.to_host, (trajectory.tokens, trajectory.turn))
  batch = len(tokens) // given_per_problem * samples_per_problem
  given = np.zeros((batch, turns, max_new_tokens), np.int32)
  length = np.zeros((batch, turns), np.int32)
  for i, (ids, owner) in enumerate(zip(tokens, turn)):
    problem, sample = divmod(i, given_per_problem)
    b = problem * samples_per_problem + sample
    chosen = ids[owner == attempt]
    given[b, 0, : len(chosen)] = chosen
    length[b, 0] = len(chosen)
  return GivenAttempts(jnp.asarray(given), jnp.asarray(length))
