"""Time of a step in closed form: a bound below, and a stated estimate above.

Below: an update takes at least its useful FLOPs at the chips' peak; a decode
step at least its FLOPs at the peak or the bytes of its weights and of the live
keys and values at full bandwidth, whichever is longer; prompts and separators
their FLOPs. No program of this layout can be faster, whose every sequence reads
its own keys and values, and no weights stay on the chip between two tokens.

Above, which is an estimate and nothing measured here:
- Updates and prefill at 35 % of the peak. Google's own training recipes of the
  family report 38 % (Gemma 3 12B on 256 v6e chips, 349 TFLOP/s a chip), 39 %
  and 46 % (Gemma 4 2B and 31B on Ironwood). They are of pre-training, and none
  is of a smaller model or of adapters: there is no upper end for those.
- Decode steps read the segments of the cache that have keys, whole, and take
  2.35 times their roofline. XLA's own cycle estimate of the decode loop of
  Gemma 2 2B (preset gemma2_2b_math, v5p-8, default optimisation level) is 35 ms
  a token where the whole cache is read, the roofline 14.9 ms; with one to four
  of four segments it is 2.2 to 2.7 times the roofline. That sequences which
  have ended leave the batch is not counted: all attempts are equally long.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.planning import chips, programs, workload
from score_jax.models import cache_attention, model_config

PUBLISHED_SHARE_OF_PEAK = 0.35
PUBLISHED_FROM_PARAMETERS = 2e9
DECODE_OVERHEAD = 35 / 14.9


@dataclasses.dataclass(frozen=True)
class Range:
  """A time between a bound and an estimate.

  Attributes:
    lower: that nothing can be below.
    upper: estimate of the upper end; None: nothing to estimate it from.
  """

  lower: float
  upper: float | None

  def __add__(self, other: 'Range') -> 'Range':
    upper = None
    if self.upper is not None and other.upper is not None:
      upper = self.upper + other.upper
    return Range(self.lower + other.lower, upper)

  def __mul__(self, times: float) -> 'Range':
    upper = None if self.upper is None else self.upper * times
    return Range(self.lower * times, upper)


def forward_flops(
  config: model_config.ModelConfig, length: int, logits: int
) -> float:
  """Useful FLOPs of a forward pass of one sequence.

  Args:
    config: the model.
    length: T, tokens of the sequence.
    logits: tokens whose logits are computed.
  """
  keys = np.arange(1, length + 1)
  head = 2.0 * logits * config.width * config.vocab_size
  return float(_token_flops(config, keys).sum()) + head


def update_flops(
  model: programs.Model, batch_size: int, length: int, logits: int
) -> float:
  """Useful FLOPs of an update, whatever the program recomputes.

  The policy's forward and backward pass and the reference's forward pass. A
  backward pass counts twice its forward pass, and once where only adapters are
  trained, whose gradients need no products with activations of the weights'
  size. Attention counts the keys that a query sees.
  """
  passes = 1 + (1 if model.lora.rank else 2) + 1
  return batch_size * passes * forward_flops(model.config, length, logits)


def update_seconds(
  work: workload.Workload, chip: chips.Chip, attempt_tokens: int
) -> Range:
  """Range of an update whose attempts all have so many tokens."""
  sizes, turns = work.sizes, len(work.sizes.max_new_tokens)
  possible = work.mesh.size * chip.flops
  live = update_flops(
    work.model,
    sizes.batch_size,
    _live_length(sizes, turns, attempt_tokens) - sizes.separator,
    turns * attempt_tokens,
  )
  if not _has_published(work.model):
    return Range(live / possible, None)
  # Sequences are padded: the update computes them whole.
  padded = update_flops(
    work.model, sizes.batch_size, sizes.length, sum(sizes.max_new_tokens)
  )
  return Range(live / possible, padded / (PUBLISHED_SHARE_OF_PEAK * possible))


def rollout_seconds(
  work: workload.Workload,
  chip: chips.Chip,
  weights: float,
  attempt_tokens: int,
) -> Range:
  """Range of an episode whose attempts all have so many tokens.

  Args:
    work: the run.
    chip: that it runs on.
    weights: bytes a device of the weights that decode reads.
    attempt_tokens: decode steps of each attempt.
  """
  sizes, turns = work.sizes, len(work.sizes.max_new_tokens)
  steps = [
    _live_length(sizes, turn, attempt_tokens) + np.arange(attempt_tokens)
    for turn in range(turns)
  ]
  # A separator follows each attempt but the last.
  given = [
    turn_steps[-1] + 1 + np.arange(sizes.separator) for turn_steps in steps[:-1]
  ]
  prefill = sizes.problems * forward_flops(work.model.config, sizes.prompt, 0)
  prefill += sizes.batch_size * sum(
    float(_token_flops(work.model.config, keys + 1).sum()) for keys in given
  )
  prefill /= work.mesh.size * chip.flops
  # Attempts are equally long, so that sequences wait for whole episodes.
  times, share = 1 / work.at_once, sizes.batch_size / work.mesh.size
  rows = share * work.at_once
  live = times * decode_seconds(
    work, chip, weights, np.concatenate(steps), rows
  )
  if not _has_published(work.model):
    return Range(prefill + live, None)
  ends = np.array(
    cache_attention.segment_ends(sizes.length, work.episode_options['segments'])
  )
  read = ends[np.searchsorted(ends, np.concatenate(steps))]
  whole = times * decode_seconds(work, chip, weights, read, rows)
  return Range(
    prefill + live, prefill / PUBLISHED_SHARE_OF_PEAK + DECODE_OVERHEAD * whole
  )


def decode_seconds(
  work: workload.Workload,
  chip: chips.Chip,
  weights: float,
  keys: np.ndarray,
  sequences: float,
) -> float:
  """Bound of decode steps, in each of which a query sees so many keys.

  Args:
    work: the run.
    chip: that it runs on.
    weights: bytes a device of the weights that decode reads.
    keys: that a query of a global layer sees, an entry for each step.
    sequences: that a device decodes at once.
  """
  config = work.model.config
  head = 2.0 * config.width * config.vocab_size
  flops = sequences * (_token_flops(config, keys) + head)
  per_key = 2 * config.num_kv_heads * config.head_dim
  cache = (
    per_key * jnp.dtype(work.model.dtype).itemsize * _keys_seen(config, keys)
  )
  read = weights + sequences * cache
  return float(np.maximum(flops / chip.flops, read / chip.bandwidth).sum())


def _live_length(sizes, turn, attempt_tokens):
  """Tokens before an attempt, the first being turn 0."""
  return sizes.prompt + turn * (attempt_tokens + sizes.separator)


def _token_flops(config, keys):
  """FLOPs of tokens that see so many keys each, the output layer apart."""
  c = config
  projections = 2 * c.num_heads + 2 * c.num_kv_heads
  weights = c.width * (projections * c.head_dim + 3 * c.mlp_width)
  attention = 4.0 * c.num_heads * c.head_dim * _keys_seen(c, keys)
  return 2.0 * c.num_layers * weights + attention


def _keys_seen(config, keys):
  """Sum over the layers: local ones see their window at most."""
  seen = config.layer_kinds.count('global') * keys
  if config.window:
    local = config.layer_kinds.count('local')
    seen = seen + local * np.minimum(keys, config.window)
  return seen


def _has_published(model):
  """Whether a training of this kind has a public figure; see the module."""
  parameters = sum(leaf.size for leaf in jax.tree.leaves(model.reference()))
  return parameters >= PUBLISHED_FROM_PARAMETERS and not model.lora.rank
