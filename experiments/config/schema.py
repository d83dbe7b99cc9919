"""Every setting of a run: name, type, default, unit, range, what it affects.

The field names are the flags (`problems_per_step` is `--problems-per-step`),
the text below a field is the flag's help. Defaults are the paper's for MATH
where it states them (arXiv:2409.12917v2, table 5); presets replace them. Not
imported below `experiments/`: functions take the values that they need.
"""

import dataclasses
import pathlib
from typing import Literal

from experiments.config import fields

Dtype = Literal['auto', 'float32', 'bfloat16']


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
  """Share of hard sums whose second attempt copies the first, in [0, 1].
  The less, the more latent ability to correct."""
  easy_nines: float = fields.setting(0.4, 'base', low=0, high=1)
  """Largest share of columns that add up to 9 among easy sums."""
  easy_right: float = fields.setting(0.97, 'base', low=0, high=1)
  """Share of easy sums whose first attempt is right."""


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
class Settings:
  """One run of SCoRe."""

  preset: str = fields.setting('tiny', 'nothing')
  """A file in experiments/presets, whose settings are the defaults."""
  run_dir: str | None = fields.setting(None, 'nothing')
  """Directory of the run; a run found there is continued. None: runs/PRESET."""
  stage: Literal['1', '1a', '1b', '2', 'all'] = fields.setting('all', 'nothing')
  """Stage to run; 2 starts from the run directory's Stage I policy. With
  --turns=3 Stage I has two parts, 1a and 1b."""
  method: str = fields.setting('score', 'stage')
  """SCoRe, a baseline or an ablation, as `python -m experiments.methods` lists
  them; all have the same budget of episodes and updates."""
  seed: int = fields.setting(0, 'base', low=0, high=2**31 - 1)
  """Seed of everything random, 0 to 2**31 - 1."""
  dry_run: bool = fields.setting(False, 'nothing')
  """Print the settings beside the paper's, and stop."""

  init_from: str | None = fields.setting(None, 'base', free=True)
  """Checkpoint that the base policy is read from: a Hugging Face directory, or
  Google's Orbax (Kaggle) one. None: pre-trained here, from nothing."""
  tokenizer: str | None = fields.setting(None, 'base', free=True)
  """The checkpoint's tokenizer.model; None: the one beside it."""
  chat_style: Literal['auto', 'plain', 'gemma'] = fields.setting('auto', 'base')
  """Format of messages: gemma for instruction-tuned checkpoints, plain for base
  models; auto: gemma where the checkpoint has a chat template."""

  task: str = fields.setting('arithmetic', 'base')
  """arithmetic, gsm8k, math, mbpp, humaneval, repair or records: all but
  arithmetic are read from --data-dir, or, records, from --data.file."""
  data_dir: str | None = fields.setting(None, 'base', free=True)
  """Directory of the task's data set."""
  validation_problems: int = fields.setting(200, 'base', low=0)
  """Problems held out of training, by which checkpoints of supervised stages
  are chosen and --eval-every measures: of the task's own validation split, or
  at most a tenth of its training problems."""
  train_problems: int | None = fields.setting(None, 'stage', low=1)
  """Train on the first so many problems alone. None: on all."""
  turns: int = fields.setting(2, 'base', low=1, high=3)
  """Attempts at each problem."""
  max_prompt_tokens: int = fields.setting(512, 'base', low=1)
  """Longest prompt, in tokens; longer problems are left out."""
  max_attempt_tokens: int = fields.setting(512, 'base', low=1)
  """Longest attempt, in tokens."""
  overlong: Literal['grade', 'mask', 'penalty'] = fields.setting(
    'grade', 'stage'
  )
  """Attempts that are cut off: grade them as they stand; mask them, out of loss
  and baseline; or penalty: graded, less up to 1 over --overlong-buffer (the
  filter and the soft punishment of DAPO, arXiv:2503.14476)."""
  overlong_buffer: int | None = fields.setting(None, 'stage', low=1)
  """Last tokens of an attempt over which the penalty grows from 0 to 1. None: a
  fifth of --max-attempt-tokens, as in DAPO."""
  temperature: float = fields.setting(1.0, 'stage', above=0)
  """Sampling temperature of training."""
  given_attempts_share: float = fields.setting(0.0, 'stage', low=0, high=1)
  """Share of Stage II's episodes with an off-policy first attempt, in [0, 1):
  the base policy's, sampled with a fixed key, so that a problem always has the
  same ones."""

  steps_stage1: int = fields.setting(1500, 'stage', low=0)
  """Updates of Stage I."""
  steps_stage2: int = fields.setting(1500, 'stage', low=0)
  """Updates of Stage II."""
  problems_per_step: int = fields.setting(64, 'stage', low=1)
  """Problems of an update."""
  samples_per_problem: int = fields.setting(8, 'stage', low=2)
  """Episodes of each problem, at least 2: each is compared with the
  problem's others."""
  micro_batch: int | None = fields.setting(None, 'rounding', low=1)
  """Sequences (problems x samples) whose gradient is computed at once; None:
  all of an update. Fewer need less memory, and change nothing but rounding."""
  length_buckets: int | None = fields.setting(None, 'rounding', low=1, high=16)
  """Number of padded lengths of an update's micro-batches, each compiled apart;
  sequences are sorted first, so that short ones cost less. None: 2 where an
  episode's attempts may have 512 tokens together, else 1."""
  drop_zero_spread: bool = fields.setting(False, 'stage')
  """Leave problems whose samples all have the same rewards out of the loss, KL
  included: its mean is over the others (DAPO's filter, without resampling)."""
  updates_per_rollout: int = fields.setting(1, 'stage', low=1)
  """Updates that a step's episodes are split into, by whole problems. From the
  second on, importance weights correct for the policy that sampled them."""
  importance_cap: float = fields.setting(2.0, 'stage', low=1)
  """Largest importance weight of a token, where --updates-per-rollout is more
  than 1; with one update a rollout every weight is 1."""
  learning_rate: float = fields.setting(5e-6, 'stage', above=0)
  """Adam's step size; the largest one where --optimizer.schedule or
  --optimizer.warmup-steps vary it."""
  max_grad_norm: float | None = fields.setting(1.0, 'stage', above=0)
  """Global norm that gradients are clipped to. None: they are not clipped."""

  dtype: Dtype = fields.setting('auto', 'base')
  """Number format of activations and key-value cache; auto: bfloat16 on
  accelerators. Trained weights and the optimizer are float32 either way."""
  remat: bool = fields.setting(False, 'rounding')
  """Compute activations again in the backward pass: less memory, more time."""
  reference_dtype: Dtype = fields.setting('auto', 'base')
  """Number format of the reference policy's weights; auto: as --dtype."""
  offload_reference: bool = fields.setting(False, 'nothing')
  """Keep the reference policy in host memory between its uses."""

  alpha: float = fields.setting(10.0, 'stage', low=0)
  """Stage II's bonus: alpha x (score of attempt 2 - score of attempt 1)."""
  normalize_bonus: bool = fields.setting(False, 'stage')
  """Divide a turn's advantage by 1 + its bonus weight.
  One learning rate then suits both stages."""
  beta1: float = fields.setting(0.01, 'stage', low=0)
  """KL coefficient of both turns in both stages, reward per nat."""
  beta2: float = fields.setting(0.1, 'stage', low=0)
  """Further KL coefficient of turn 1 in Stage I, reward per nat."""
  adaptive_beta2: bool = fields.setting(False, 'stage')
  """Adapt beta2, from --beta2 on, to balance KL and objective."""
  kl: Literal['exact', 'reward', 'k3'] = fields.setting('exact', 'stage')
  """KL to the reference: exact (over the vocabulary, in the loss), reward
  (sampled, taken off the reward) or k3 (sampled, in the loss)."""
  discount: float = fields.setting(0.0, 'stage', low=0, high=1)
  """Share of the next turn's return that a turn is credited with, in [0, 1]."""

  checkpoint_every: int = fields.setting(50, 'stage', low=1, free=True)
  """Steps between checkpoints; a stage's last step always has one."""
  checkpoint_selection: Literal['best', 'last'] = fields.setting(
    'best', 'stage'
  )
  """Checkpoint that a stage ends with: best (by training reward) or last."""
  log_samples_every: int = fields.setting(10, 'nothing', low=0)
  """Steps between printed episodes; 0: none."""
  eval_every: int = fields.setting(0, 'evaluation', low=0)
  """Steps between evaluations on validation problems; 0: none."""
  eval_problems: int = fields.setting(500, 'evaluation', low=1)
  """Most test problems of an evaluation."""

  reward: tuple[str, ...] = fields.setting((), 'base')
  """Reward functions of training, path.py:function or path.py:function@weight;
  `task` stands for the task's own grader. None given: the task's own."""
  correct_from_reward: float | None = fields.setting(None, 'base')
  """With --reward: an attempt is correct from this reward on, in accuracies and
  in what supervised stages learn from. None: by the task's own grader."""
  first_prompt: str | None = fields.setting(None, 'base')
  """Replaces the first message; {question} and {column} are the problem's."""
  instruction: str | None = fields.setting(None, 'base')
  """Replaces the instruction between the attempts."""
  self_refine_instruction: str | None = fields.setting(None, 'stage')
  """--instruction of --method=self_refine. None: our own wording (the paper's
  is not published), asking for feedback and then a better attempt."""
  workers: int | None = fields.setting(None, 'nothing', low=1)
  """Grader processes; None: one less than there are cores."""
  sandbox: Literal['auto', 'bwrap', 'landlock', 'none'] = fields.setting(
    'auto', 'nothing'
  )
  """Where programs that the policy wrote are run."""
  i_understand_model_code_runs_unsandboxed: bool = fields.setting(
    False, 'nothing'
  )
  """Without it, --sandbox=none is rejected."""

  data: Data = Data()
  model: Model = Model()
  lora: LoRA = LoRA()
  mesh: Mesh = Mesh()
  processes: Processes = Processes()
  optimizer: Optimizer = Optimizer()
  sft: SFT = SFT()
  pretrain: Pretraining = Pretraining()
  arithmetic: Arithmetic = Arithmetic()

  @property
  def directory(self) -> pathlib.Path:
    """The run's directory."""
    return pathlib.Path(self.run_dir or f'runs/{self.preset}')

  @property
  def batch_size(self) -> int:
    """Episodes of a step, B = N * G."""
    return self.problems_per_step * self.samples_per_problem

  @property
  def update_size(self) -> int:
    """Episodes of one of a step's updates."""
    return self.batch_size // self.updates_per_rollout

  @property
  def micro_batch_size(self) -> int:
    """Episodes whose gradient is computed at once."""
    return min(self.micro_batch or self.update_size, self.update_size)

  @property
  def attempt_tokens(self) -> int:
    """Most tokens of an episode's attempts together."""
    return self.turns * self.max_attempt_tokens


def affects(name: str) -> fields.Affects:
  """What depends on a setting, by its dotted name; see `setting`."""
  return fields.declarations(Settings)[name]['affects']


def free() -> frozenset[str]:
  """Dotted names of settings that may change on resume.

  `methods.may_change_steps` says when the numbers of steps may differ, too.
  """
  return frozenset(
    name for name, d in fields.declarations(Settings).items() if d['free']
  )
