"""The records on the device.

Alphabet: N problems, G samples of each, B = N * G sequences (a problem's
samples adjacent), P tokens of a prompt bucket, T tokens of a sequence, K turns,
V vocabulary. A sequence holds a whole episode, contiguous and right-padded:

    prompt | attempt 1 | instruction | attempt 2 | ...

Everything indexed by t describes `tokens[:, t]`. Masks are bool, true counts,
and come from lengths and `turn`, never from a token's value.
"""

from collections.abc import Sequence
from typing import Any

from flax import struct
import jax


@struct.dataclass
class Prompts:
  """Prompts of one bucket, right-padded.

  Attributes:
    tokens: i32 [N, P].
    length: i32 [N].
  """

  tokens: jax.Array
  length: jax.Array


@struct.dataclass
class Trajectory:
  """Episodes as token sequences.

  Attributes:
    tokens: i32 [B, T].
    turn: i32 [B, T]; which attempt a token belongs to, from 1; 0 for prompt,
      instruction and padding. An attempt's stop token belongs to it.
    sampled: bool [B, K]; False for an off-policy attempt, which was given
      rather than sampled from the policy.
    logprobs: f32 [B, T]; under the distribution that the sampling policy drew
      from; 0 where nothing was sampled.
    length: i32 [B].
    finished: bool [B, K]; False for an attempt cut off at its max_new_tokens.
    problem_index: i32 [B]; index of the problem in its batch of N.

  Example:
    >>> second = trajectory.turn == 2  # [64, T], tokens of second attempts
    >>> trajectory.sampled.shape, trajectory.finished.shape
    ((64, 2), (64, 2))
  """

  tokens: jax.Array
  turn: jax.Array
  sampled: jax.Array
  logprobs: jax.Array
  length: jax.Array
  finished: jax.Array
  problem_index: jax.Array


def concatenate(trajectories: Sequence[Trajectory], xp: Any) -> Trajectory:
  """Episodes of several batches as one, padded to one length.

  Args:
    trajectories: of the same K; their `problem_index` is not renumbered.
    xp: numpy, for trajectories on the host, or jax.numpy.
  """
  longest = max(xp.shape(t.tokens)[1] for t in trajectories)

  def join(name):
    parts = [xp.asarray(getattr(t, name)) for t in trajectories]
    if name in ('tokens', 'turn', 'logprobs'):
      parts = [
        xp.pad(part, ((0, 0), (0, longest - part.shape[1]))) for part in parts
      ]
    return xp.concatenate(parts)

  return Trajectory(
    **{name: join(name) for name in Trajectory.__dataclass_fields__}
  )


@struct.dataclass
class TrainBatch:
  """Data of one update.

  Attributes:
    trajectory: B sequences.
    advantages: f32 [B, K]; 0 where an attempt carries no policy gradient.
    kept: bool [B]; False for sequences that are in neither the loss nor the
      number that its mean divides by. None: all are in both.

  Example:
    >>> sj.TrainBatch(trajectory, advantages).advantages.shape
    (64, 2)
  """

  trajectory: Trajectory
  advantages: jax.Array
  kept: jax.Array | None = None


@struct.dataclass
class TrainState:
  """What a resumed stage needs beyond its settings.

  Attributes:
    step: i32 []; batches learnt from in this stage.
    params: the policy, or its adapters (models/lora.py).
    opt_state: optax state.
    beta2: f32 []; the first-attempt KL coefficient, where it adapts.
    skipped: i32 []; latest updates skipped in a row, for a loss or gradient
      that was not finite.

  Example:
    >>> state = sj.init_state(params, optimizer)
    >>> int(state.step), int(state.skipped)
    (0, 0)
  """

  step: jax.Array
  params: Any
  opt_state: Any
  beta2: jax.Array
  skipped: jax.Array
