"""Text in, token sequences out, and back: the host's side of an episode."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from score_jax import arrays, distributed, types
from score_jax.models import chat, model_config, transformer
from score_jax.rollout import (
  engine,
  given_attempts,
  randomness,
  turn_separator,
)


@dataclasses.dataclass(frozen=True)
class EpisodeSampler:
  """Samples episodes with one model, chat format and set of lengths.

  Attributes:
    config: the model.
    chat_format: tokenizer and turn template.
    task: texts of the first user message and of the instruction.
    max_new_tokens: most tokens of each of the K attempts, stop token included.
    buckets: prompt lengths P that may be compiled, increasing; see
      `prompt_buckets.choose_buckets`.
    dtype: of activations and cache.
    sharding: of the batch axis; None: the default device.
    compactions: of a turn, see `engine.sample_episodes`.
    segments: of the cache, see there.
    rows: most sequences that are decoded at once, see there.

  Example:
    >>> sampler = sj.EpisodeSampler(
    ...   config, sj.ChatFormat(tokenizer), task, max_new_tokens=(4, 4),
    ...   buckets=(16,))
    >>> trajectory = sampler.sample(
    ...   sj.inference_params(params), problems, key, samples_per_problem=8)
    >>> sampler.attempts(trajectory)[0][1].turn
    2
  """

  config: model_config.ModelConfig
  chat_format: chat.ChatFormat
  task: types.Task
  max_new_tokens: tuple[int, ...]
  buckets: tuple[int, ...]
  dtype: Any = jnp.float32
  sharding: jax.sharding.NamedSharding | None = None
  compactions: int = 0
  segments: int = 1
  rows: int | None = None

  @property
  def batch_shards(self) -> int:
    """Devices that the batch axis is split over; N is a multiple of it."""
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
    given: given_attempts.GivenAttempts | None = None,
    before: Sequence[types.Problem] = (),
  ) -> arrays.Trajectory:
    """Episodes of N problems, G samples each; see `engine.sample_episodes`.

    Args:
      params: the policy, from `inference.inference_params`.
      problems: N of them.
      key: from `randomness.stream`.
      samples_per_problem: G.
      turns: attempts in an episode; None: one for each `max_new_tokens`.
      temperature: divides the logits.
      greedy: take the best token.
      given: off-policy attempts; None: those of the problems' column
        `given_attempt`, if they have it.
      before: problems of the same batch that are sampled apart, before these:
        a problem that is among them, too, has other random numbers.
    """
    max_new_tokens = self.max_new_tokens[:turns]
    if given is None:
      given = given_attempts.of_problems(
        self.chat_format, problems, samples_per_problem, max_new_tokens
      )
    messages = [self.task.prompt(problem) for problem in problems]
    keys = randomness.sequence_keys(
      key, [p.id for p in (*before, *problems)], samples_per_problem
    )[len(before) * samples_per_problem :]
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
      sharding=self.sharding,
      compactions=self.compactions,
      segments=self.segments,
      rows=self.rows,
    )

  def join(
    self, trajectories: Sequence[arrays.Trajectory]
  ) -> arrays.Trajectory:
    """The trajectory of a batch whose parts were sampled in turn."""
    if len(trajectories) == 1:
      return trajectories[0]
    return _join(tuple(trajectories), sharding=self.sharding)

  def attempts(self, trajectory) -> list[list[types.Attempt]]:
    """The attempts of each sequence, [B] lists of K.

    Each process decodes the sequences on its own devices, and all get all
    texts. Collective: call it in every process.
    """
    index, own = distributed.local_sequences(trajectory, self.sharding)
    return distributed.merge_sequences(
      index, decode_attempts(self.chat_format, own), len(trajectory.length)
    )


@functools.partial(jax.jit, static_argnames='sharding')
def _join(trajectories, sharding):
  numbered, count = [], 0
  for part in trajectories:
    numbered.append(part.replace(problem_index=part.problem_index + count))
    count += part.problem_index[-1] + 1
  joined = arrays.concatenate(numbered, jnp)
  return transformer.constrain(joined, sharding)


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
    ValueError: a prompt is longer than the largest bucket; none is truncated.
  """
  ids = [chat_format.prompt(message) for message in messages]
  longest = max(range(len(ids)), key=lambda i: len(ids[i]))
  fitting = [size for size in buckets if size >= len(ids[longest])]
  if not fitting:
    raise ValueError(
      f'a prompt has {len(ids[longest])} tokens, more than the largest bucket, '
      f'{max(buckets)}: pass a larger one, or drop the problem that '
      f'begins {messages[longest][:80]!r}'
    )
  tokens = np.zeros((len(ids), min(fitting)), np.int32)
  for sequence, prompt in zip(tokens, ids):
    sequence[: len(prompt)] = prompt
  return arrays.Prompts(tokens, np.array([len(i) for i in ids], np.int32))


def decode_attempts(
  chat_format: chat.ChatFormat, trajectory: arrays.Trajectory
) -> list[list[types.Attempt]]:
  """The attempts of each sequence, [B] lists of K."""
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
  """Sequences of texts, in the engine's layout.

  Args:
    chat_format: renders the messages.
    messages: first user messages [B].
    attempts: [B] lists of K texts.
    instructions: K - 1 texts between them.
    length: T.
    max_new_tokens: most tokens of each attempt; a longer one is cut off there
      and followed by the separator for attempts that were cut off.

  Returns:
    A trajectory [B, T] without sampled attempts.

  Raises:
    ValueError: a sequence is longer than T.
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
        is_closed = finished[i, k - 1] and (
          chat_format.stop_text_closes_turn or ids[-1] in chat_format.stop_ids
        )
        after = after_stop if is_closed else after_cut
        ids += after[k - 1]
        owner += [0] * len(after[k - 1])
      attempt = chat_format.attempt_ids(text)
      finished[i, k] = len(attempt) <= max_new_tokens[k]
      ids += attempt[: max_new_tokens[k]]
      owner += [k + 1] * min(len(attempt), max_new_tokens[k])
    if len(ids) > length:
      raise ValueError(
        f'sequence {i} has {len(ids)} tokens, more than {length}: '
        f'{message[:80]!r}'
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
