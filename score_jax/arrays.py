"""The nouns on the device.

Alphabet: N problems, G samples of each, B = N * G rows (a problem's samples
adjacent), P tokens of a prompt bucket, T tokens of a row, K turns, V
vocabulary. One row holds a whole episode, contiguous and right-padded:

    prompt | attempt 1 | instruction | attempt 2 | ...

Everything indexed by t describes `tokens[:, t]`. Masks are bool, true counts,
and come from lengths and `turn`, never from a token's value.
"""

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
  """Episodes as token rows.

  Attributes:
    tokens: i32 [B, T].
    turn: i32 [B, T]; which attempt a token belongs to, from 1; 0 for prompt,
      instruction and padding. An attempt's stop token belongs to it.
    sampled: bool [B, K]; False for an attempt that was given rather than drawn
      from the policy.
    logprobs: f32 [B, T]; of the policy when it sampled, of the distribution
      that it sampled from; 0 where nothing was sampled.
    length: i32 [B].
    finished: bool [B, K]; False for an attempt cut off by its limit.
    problem_index: i32 [B]; row of the prompt.
  """

  tokens: jax.Array
  turn: jax.Array
  sampled: jax.Array
  logprobs: jax.Array
  length: jax.Array
  finished: jax.Array
  problem_index: jax.Array


@struct.dataclass
class TrainBatch:
  """What an update reads.

  Attributes:
    trajectory: B rows.
    advantages: f32 [B, K]; 0 where an attempt carries no policy gradient.
  """

  trajectory: Trajectory
  advantages: jax.Array


@struct.dataclass
class TrainState:
  """What a resumed run needs beyond its settings.

  Attributes:
    step: i32 []; updates attempted in this stage.
    params: the policy, or its adapters (models/lora.py).
    opt_state: optax state.
    beta2: f32 []; the first-attempt KL coefficient, where it adapts.
    skipped: i32 []; updates skipped in a row for a non-finite loss or gradient.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  beta2: jax.Array
  skipped: jax.Array
