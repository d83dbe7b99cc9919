"""Text in, token rows out, and back: the host's side of an episode."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays, distributed, types
from score_jax.models import chat, model_config
from score_jax.rollout import engine, randomness, turn_separator


@dataclasses.dataclass(frozen=True)
class EpisodeSampler:
  """Samples episodes of problems with one model, chat format and row shape.

  Attributes:
    config: the model.
    chat_format: where turns begin and end.
    task: what the first user message and the instruction say.
    max_new_tokens: most tokens of each of the K attempts, stop token included.
    buckets: prompt lengths that may be compiled, increasing.
    dtype: of activations and cache.
    sharding: of the batch axis; None: the default device.
  """

  config: model_config.ModelConfig
  chat_format: chat.ChatFormat
  task: types.Task
  max_new_tokens: tuple[int, ...]
  buckets: tuple[int, ...]
  dtype: Any = jnp.float32
  sharding: jax.sharding.NamedSharding | None = None

  @property
  def batch_shards(self) -> int:
    """Of whose multiple the number of problems should be."""
    return distributed.batch_shards(self.sharding) if self.sharding else 1

  def sample(
    self,
    params: Any,
    problems: Sequence[types.Problem],
    key: jax.Array,
    *,
    samples_per_problem: int = 1,
    turns: int | None = None,
    temperature: float = 1.0,
    greedy: bool = False,
    given: turn_separator.GivenAttempts | None = None,
  ) -> arrays.Trajectory:
    """Episodes of N problems, G samples each; see `engine.sample_episodes`.

    Args:
      params: the policy, from `inference.inference_params`.
      problems: N of them.
      key: from `randomness.stream`.
      samples_per_problem: G.
      turns: attempts to make; None: as many as `max_new_tokens` has.
      temperature: divides the logits.
      greedy: take the best token.
      given: attempts that are supplied; None: those of the problems' column
        `given_attempt`, as first attempts, where they have one.
    """
    max_new_tokens = self.max_new_tokens[:turns]
    if given is None:
      given = self._given_by(problems, samples_per_problem, max_new_tokens)
    messages = [self.task.prompt(problem) for problem in problems]
    keys = randomness.sequence_keys(
      key, [p.id for p in problems], samples_per_problem
    )
    prompts = encode_prompts(self.chat_format, messages, self.buckets)
    if self.sharding is not None:
      prompts, keys, given = distributed.put_batch(
        (prompts, keys, given), self.sharding
      )
    return engine.sample_episodes(
      params,
      prompts,
      keys,
      turn_separator.make_separators(
        self.chat_format, [self.task.instruction] * (len(max_new_tokens) - 1)
      ),
      config=self.config,
      max_new_tokens=max_new_tokens,
      samples_per_problem=samples_per_problem,
      temperature=jnp.float32(temperature),
      greedy=greedy,
      given=given,
      dtype=self.dtype,
      cache_dtype=self.dtype,
    )

  def _given_by(self, problems, samples, max_new_tokens):
    texts = [problem.columns.get('given_attempt') for problem in problems]
    if not any(texts):
      return None
    rest = [None] * (len(max_new_tokens) - 1)
    rows = [
      [types.Attempt(text) if text else None, *rest]
      for text in texts
      for _ in range(samples)
    ]
    return given_attempts(self.chat_format, rows, max_new_tokens)

  def attempts(self, trajectory) -> list[list[types.Attempt]]:
    """The attempts of each row, [B] lists of K; processes talk.

    Each process reads the rows on its own devices, and all know all texts.
    """
    rows, own = distributed.local_sequences(trajectory, self.sharding)
    return distributed.merge_sequences(
      rows, decode_attempts(self.chat_format, own), len(trajectory.length)
    )


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


def pack_sequences(
  chat_format: chat.ChatFormat,
  messages: Sequence[str],
  attempts: Sequence[Sequence[str]],
  instructions: Sequence[str],
  length: int,
  max_new_tokens: Sequence[int],
) -> arrays.Trajectory:
  """Rows of given attempts, laid out as the engine does it.

  Args:
    chat_format: renders the messages.
    messages: first user messages [B].
    attempts: K texts a row.
    instructions: K - 1 texts between them.
    length: T.
    max_new_tokens: most tokens of each attempt; a longer one is cut there and
      what follows is what the engine gives after a cut.

  Returns:
    A trajectory [B, T] of which nothing was sampled.

  Raises:
    ValueError: a row is longer than T.
  """
  batch, turns = len(messages), len(attempts[0])
  tokens = np.zeros((batch, length), np.int32)
  turn = np.zeros((batch, length), np.int32)
  lengths = np.zeros(batch, np.int32)
  finished = np.ones((batch, turns), bool)
  after_stop = [chat_format.after_stop(text) for text in instructions]
  after_cut = [chat_format.after_cut(text) for text in instructions]
  for i, (message, texts) in enumerate(zip(messages, attempts, strict=True)):
    ids = chat_format.prompt(message)
    owner = [0] * len(ids)
    for k, text in enumerate(texts):
      if k:
        after = after_stop if finished[i, k - 1] else after_cut
        ids += after[k - 1]
        owner += [0] * len(after[k - 1])
      attempt = chat_format.attempt_ids(text)
      finished[i, k] = len(attempt) <= max_new_tokens[k]
      ids += attempt[: max_new_tokens[k]]
      owner += [k + 1] * min(len(attempt), max_new_tokens[k])
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
    finished=finished,
    problem_index=np.arange(batch, dtype=np.int32),
  )


def given_attempts(
  chat_format: chat.ChatFormat,
  attempts: Sequence[Sequence[types.Attempt | None]],
  max_new_tokens: Sequence[int],
) -> turn_separator.GivenAttempts:
  """Attempts to supply: [B] lists of K, None where the policy shall sample.

  An attempt longer than its turn's limit is cut there, as a sampled one is.
  """
  turns = len(attempts[0])
  tokens = np.zeros((len(attempts), turns, max(max_new_tokens)), np.int32)
  length = np.zeros((len(attempts), turns), np.int32)
  for b, row in enumerate(attempts):
    for k, attempt in enumerate(row):
      if attempt is not None:
        ids = chat_format.attempt_ids(attempt.text)[: max_new_tokens[k]]
        tokens[b, k, : len(ids)] = ids
        length[b, k] = len(ids)
  return turn_separator.GivenAttempts(tokens, length)
