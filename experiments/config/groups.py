"""Groups of settings: `--model.width` is the field `width` of `Model`.

What the declarations say is told in `fields`; `schema` has the settings that
belong to no group.
"""

import dataclasses
from typing import Literal

from experiments.config import fields


@dataclasses.dataclass(frozen=True)
class Model:
  """The transformer: a published one, or one that a run makes from scratch."""

  name: str | None = fields.setting(None, 'base')
  """A published Gemma, such as gemma-2-2b, whose weights --init-from brings;
  None: what --init-from describes, or, without it, the sizes below."""
  layers: int = fields.setting(2, 'base', low=1)
  """Number of transformer layers."""
  width: int = fields.setting(64, 'base', low=1)
  """Size of the residual stream."""
  heads: int = fields.setting(4, 'base', low=1)
  """Query heads of a layer."""
  kv_heads: int = fields.setting(4, 'base', low=1)
  """Key and value heads of a layer; divides --model.heads."""
  head_dim: int = fields.setting(16, 'base', low=2)
  """Size of a head; even, because rotary embeddings turn pairs."""
  ffw: int = fields.setting(256, 'base', low=1)
  """Hidden size of the feed-forward block."""
  rope_base: float = fields.setting(100.0, 'base', above=1)
  """Base of the rotary embeddings' wavelengths."""


@dataclasses.dataclass(frozen=True)
class LoRA:
  """Low-rank adapters: only they are trained, and saved."""

  rank: int = fields.setting(0, 'stage', low=0)
  """Rank of each adapter; 0: no adapters, all weights are trained."""
  alpha: float = fields.setting(16.0, 'stage', above=0)
  """An adapter's product is multiplied by alpha / rank."""
  targets: tuple[str, ...] = fields.setting(
    ('q', 'k', 'v', 'o', 'gate', 'up', 'down'), 'stage'
  )
  """Projections that get one: q k v o of attention, gate up down of the MLP."""


@dataclasses.dataclass(frozen=True)
class Mesh:
  """How the devices are laid out; the product is their number."""

  data: int = fields.setting(1, 'rounding', low=1)
  """Copies of the model, each with sequences of its own."""
  fsdp: int = fields.setting(-1, 'rounding', low=-1)
  """Devices that share a copy's weights and optimizer state, each with
  sequences of its own; -1: as many as are left."""
  tensor: int = fields.setting(1, 'rounding', low=1)
  """Devices that share every layer's heads and hidden units."""
  rollout_tensor: int | None = fields.setting(None, 'rounding', low=1)
  """--mesh.tensor of the rollout, where all other devices split the sequences;
  None: the update's layout, with weights not split over --mesh.fsdp."""


@dataclasses.dataclass(frozen=True)
class Rollout:
  """How many sequences are decoded, what is left out of it, work beside it."""

  compactions: int | None = fields.setting(None, 'rounding', low=0, high=5)
  """How often in a turn a device's sequences that have ended may leave its
  batch, which halves each time. Each compiles the decode loop once more, and
  needs half a cache of memory. None: 2 where attempts may have 256 tokens,
  else 0."""
  segments: int | None = fields.setting(None, 'rounding', low=1, high=16)
  """Parts of the key-value cache, of which decoding reads those that have keys.
  None: 4 on accelerators where attempts may have 256 tokens, else 1."""
  rows: int | None = fields.setting(None, 'rounding', low=1)
  """Most sequences that a device (with --mesh.rollout-tensor: a group of them)
  decodes at once; those that are complete are followed by the next ones, and
  compactions are left for when none waits. Saves time and most of the cache
  where there are several times as many sequences and attempts' lengths differ.
  None: all at once."""
  parts: int = fields.setting(1, 'rounding', low=1)
  """Parts of a step's problems that are sampled in turn: each but the last is
  graded while the devices sample the next one. More parts are smaller, and
  fill the devices less. Several processes gain nothing: they exchange texts by
  the devices, too."""
  lag: int = fields.setting(0, 'stage', low=0, high=1)
  """1: the policy from before an update samples the next batch, while this one
  is graded, and importance weights correct for it. The first batch after a
  checkpoint or an evaluation is the newest policy's; a run that is stopped goes
  on from the last one of them, and keeps --checkpoint-every and --eval-every.
  Several processes gain nothing, either. 0: every batch is the newest
  policy's."""


@dataclasses.dataclass(frozen=True)
class Processes:
  """How several processes find each other; one process needs none of it."""

  coordinator: str | None = fields.setting(None, 'nothing')
  """HOST:PORT of the first process; auto: what a Cloud TPU or Slurm says. None:
  $JAX_COORDINATOR_ADDRESS."""
  count: int | None = fields.setting(None, 'nothing', low=1)
  """Number of processes. None: $JAX_NUM_PROCESSES."""
  index: int | None = fields.setting(None, 'nothing', low=0)
  """Index of this process, from 0. None: $JAX_PROCESS_ID."""


@dataclasses.dataclass(frozen=True)
class Pretraining:
  """How the base policy is made, from nothing."""

  steps: int = fields.setting(1600, 'base', low=0)
  """Number of updates; the most where --pretrain.until-accuracy ends it."""
  least_steps: int = fields.setting(0, 'base', low=0)
  """Updates before --pretrain.until-accuracy may end it."""
  until_accuracy: float | None = fields.setting(None, 'base', above=0, high=1)
  """Ends pre-training once greedy first attempts at the validation problems are
  right this often, in (0, 1], measured every 50 updates. None: after
  --pretrain.steps."""
  rows: int = fields.setting(64, 'base', low=1)
  """Sequences of an update."""
  learning_rate: float = fields.setting(4e-3, 'base', above=0)
  """Adam's largest step size: warmed up, then a cosine down to a 20th."""
  copy_share: float = fields.setting(0.6, 'base', low=0, high=1)
  """Share of second attempts that copy the first, in [0, 1]: of those at hard
  sums, or of all. The less, the more latent ability to correct."""
  easy_nines: float = fields.setting(0.4, 'base', low=0, high=1)
  """Largest share of columns that add up to 9 among easy sums."""
  easy_right: float = fields.setting(0.97, 'base', low=0, high=1)
  """Share of easy sums whose first attempt is right."""
  redraw_share: float = fields.setting(0.03, 'base', low=0, high=1)
  """Share of second attempts at aiming that aim at another digit at random;
  those that neither copy nor redraw are right."""


@dataclasses.dataclass(frozen=True)
class SFT:
  """The supervised baselines, STaR and Pair-SFT; the paper says little here."""

  rounds: int = fields.setting(3, 'stage', low=1)
  """STaR's rounds of sampling and fine-tuning, as in the paper; they share the
  budget evenly."""
  from_newest: bool = fields.setting(False, 'stage')
  """Fine-tune the newest policy in each round. By default every round starts
  from the policy before the first one, as in ReST^EM; the newest is sampled."""
  epochs: float | None = fields.setting(1.0, 'stage', above=0)
  """Most passes over a round's pairs, within the budget's updates: 1 is what
  the paper's Pair-SFT makes; of STaR it does not say. None: all of the budget's
  updates, however often they see a pair."""
  learn: Literal['second', 'right', 'both'] = fields.setting('second', 'stage')
  """Attempts whose tokens carry loss: second: the repaired ones alone, since a
  wrong first one is nothing to imitate; right: right first ones, too; both."""
  most_per_problem: int | None = fields.setting(10, 'stage', low=1)
  """Most repairs of a problem, and most pairs of two right attempts: ReST^EM's
  10 keep easy problems from outweighing the others. None: all."""
  right_share: float = fields.setting(1.0, 'stage', low=0, high=1)
  """D+: largest share of pairs of two right attempts, in [0, 1]. 1: as many as
  were sampled, because the paper states no mix."""
  learning_rate: float | None = fields.setting(None, 'stage', above=0)
  """Adam's step size. None: --learning-rate, because the paper does not vary it
  between methods."""


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Adam in every stage of a method; pre-training has its own."""

  schedule: Literal['constant', 'linear', 'cosine'] = fields.setting(
    'constant', 'stage'
  )
  """Learning rate after the warm-up: constant, or down to 0 along a line or a
  cosine that ends with the stage. Every stage begins anew."""
  warmup_steps: int = fields.setting(0, 'stage', low=0)
  """First steps of every stage, over which the learning rate rises from 0."""
  adam_b1: float = fields.setting(0.9, 'stage', low=0, high=1)
  """Decay of the gradients' running mean, in [0, 1)."""
  adam_b2: float = fields.setting(0.999, 'stage', low=0, high=1)
  """Decay of the squared gradients' running mean, in [0, 1)."""
  adam_epsilon: float = fields.setting(1e-8, 'stage', above=0)
  """Added to the root of the squares' mean."""
  weight_decay: float = fields.setting(0.0, 'stage', low=0)
  """Share of the weights, times the learning rate, that an update takes off
  them: decoupled from the gradient, as in AdamW."""


@dataclasses.dataclass(frozen=True)
class Data:
  """Where problems come from that no --data-dir holds."""

  file: str | None = fields.setting(None, 'base')
  """JSONL or Parquet: problems of --task=records to train on, or the given
  first attempts of --task=repair."""
  test_file: str | None = fields.setting(None, 'base')
  """The same, held-out problems."""
  question: str = fields.setting('question', 'base')
  """Column of the question."""
  reference: str = fields.setting('reference', 'base')
  """Column of the reference answer."""
  id: str = fields.setting('id', 'base')
  """Column of the identifier; where there is none, the row's number."""
  grader: Literal['math', 'number', 'code'] = fields.setting('math', 'base')
  """Grader of the attempts at --task=records."""
  drop_near_duplicates: bool = fields.setting(False, 'base')
  """MATH: drop training problems that nearly repeat held-out ones."""


@dataclasses.dataclass(frozen=True)
class Arithmetic:
  """The embedded task: sums whose carries ripple."""

  digits: int = fields.setting(12, 'base', low=1, high=18)
  """Digits of each of the two numbers."""
  nines: float = fields.setting(0.75, 'base', low=0, high=1)
  """Probability that a column adds up to 9, and so passes a carry on."""


@dataclasses.dataclass(frozen=True)
class Aiming:
  """The second embedded task: say where moves will end, then make them."""

  moves: int = fields.setting(12, 'base', low=1)
  """Moves of a problem; an attempt has a digit more."""
  modulus: int = fields.setting(8, 'base', low=2, high=10)
  """Number of digits that moves, totals and aims are of."""
