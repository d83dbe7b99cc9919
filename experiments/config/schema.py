"""Every setting of a run: name, type, default, unit.

The field names are the flags (`problems_per_step` is `--problems-per-step`),
the text below a field is the flag's help. Defaults are the paper's for MATH
where it states them (arXiv:2409.12917v2, table 5); presets replace them. This
module imports no jax, so that a wrong flag is refused at once. Below
`experiments/` nobody reads it: functions take the values that they need.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Model:
  """The transformer: a published one, or one that a run makes from scratch."""

  name: str | None = None
  """A published Gemma, such as gemma-2-2b, whose weights --init-from brings;
  None: what --init-from describes, or, without it, the sizes below."""
  layers: int = 2
  """Number of transformer layers."""
  width: int = 64
  """Size of the residual stream."""
  heads: int = 4
  """Query heads of a layer."""
  kv_heads: int = 4
  """Key and value heads of a layer; divides --model.heads."""
  head_dim: int = 16
  """Size of a head; even, because rotary embeddings turn pairs."""
  ffw: int = 256
  """Hidden size of the feed-forward block."""
  rope_base: float = 100.0
  """Base of the rotary embeddings' wavelengths."""


@dataclasses.dataclass(frozen=True)
class LoRA:
  """Low-rank adapters: only they are trained, and saved."""

  rank: int = 0
  """Rank of each adapter; 0: no adapters, all weights are trained."""
  alpha: float = 16.0
  """An adapter's product is multiplied by alpha / rank."""
  targets: tuple[str, ...] = ('q', 'k', 'v', 'o', 'gate', 'up', 'down')
  """Projections that get one: q k v o of attention, gate up down of the MLP."""


@dataclasses.dataclass(frozen=True)
class Mesh:
  """How the devices are laid out; the product is their number."""

  data: int = 1
  """Copies of the model, each with rows of its own."""
  fsdp: int = -1
  """Devices that share a copy's weights and optimizer state, each with rows of
  its own; -1: as many as are left."""
  tensor: int = 1
  """Devices that share every layer's heads and hidden units."""
  rollout_tensor: int | None = None
  """The same in the rollout, all other devices taking rows; None: the update's
  layout, where decoding does not split weights over --mesh.fsdp."""


@dataclasses.dataclass(frozen=True)
class Processes:
  """How several processes find each other; one process needs none of it."""

  coordinator: str | None = None
  """HOST:PORT where they meet, the host being the first process's; auto: what a
  Cloud TPU or Slurm says. None: $JAX_COORDINATOR_ADDRESS."""
  count: int | None = None
  """How many there are. None: $JAX_NUM_PROCESSES."""
  index: int | None = None
  """Which of them this one is, from 0. None: $JAX_PROCESS_ID."""


@dataclasses.dataclass(frozen=True)
class Pretraining:
  """How the base policy is made, from nothing."""

  steps: int = 1600
  """Updates."""
  rows: int = 64
  """Sequences of an update."""
  learning_rate: float = 4e-3
  """Adam's largest step size: warmed up, then a cosine down to a 20th."""
  copy_share: float = 0.6
  """Share of hard sums whose second attempt copies the first, in [0, 1].
  The less, the more latent ability to correct."""
  easy_nines: float = 0.4
  """Largest share of columns that add up to 9 among easy sums."""
  easy_right: float = 0.97
  """Share of easy sums whose first attempt is right."""


@dataclasses.dataclass(frozen=True)
class SFT:
  """The supervised baselines, STaR and Pair-SFT; the paper says little here."""

  rounds: int = 3
  """STaR's rounds of sampling and fine-tuning, as in the paper; they share the
  budget evenly."""
  from_newest: bool = False
  """Fine-tune the newest policy in each round. By default every round starts
  from the policy before the first one, as in ReST^EM; the newest is sampled."""
  epochs: float | None = None
  """Most passes over a round's pairs. None: the updates of the budget, however
  often they see a pair, since all methods have the same; the paper makes 1 for
  Pair-SFT, whose data it calls large."""
  learn: Literal['second', 'right', 'both'] = 'second'
  """Attempts whose tokens carry loss: second: the repaired ones alone, since a
  wrong first one is nothing to imitate; right: right first ones, too; both."""
  most_per_problem: int | None = 10
  """Most repairs of a problem, and most pairs of two right attempts: ReST^EM's
  10 keep easy problems from outweighing the others. None: all."""
  right_share: float = 1.0
  """D+: largest share of pairs of two right attempts, in [0, 1]. 1: as many as
  were sampled, because the paper states no mix."""
  learning_rate: float | None = None
  """Adam's step size, constant. None: --learning-rate, because the paper does
  not vary it between methods."""


@dataclasses.dataclass(frozen=True)
class Data:
  """Where problems come from that no --data-dir holds."""

  file: str | None = None
  """JSONL or Parquet: problems of --task=records to train on, or the given
  first attempts of --task=repair."""
  test_file: str | None = None
  """The same, held-out problems."""
  question: str = 'question'
  """Column of the question."""
  reference: str = 'reference'
  """Column of the reference answer."""
  id: str = 'id'
  """Column of the identifier; where there is none, the row's number."""
  grader: Literal['math', 'number', 'code'] = 'math'
  """Who judges the attempts at --task=records."""
  drop_near_duplicates: bool = False
  """MATH: drop training problems that nearly repeat held-out ones."""


@dataclasses.dataclass(frozen=True)
class Arithmetic:
  """The embedded task: sums whose carries ripple."""

  digits: int = 12
  """Digits of each of the two numbers."""
  nines: float = 0.75
  """Probability that a column adds up to 9, and so passes a carry on."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """One run of SCoRe."""

  preset: str = 'tiny'
  """A file in experiments/presets; its settings are the defaults."""
  run_dir: str | None = None
  """Directory of the run; a run found there is continued. None: runs/PRESET."""
  stage: Literal['1', '1a', '1b', '2', 'all'] = 'all'
  """What to run; 2 starts from the run directory's Stage I policy. With
  --turns=3 Stage I has two parts, 1a and 1b."""
  method: Literal[
    'base', 'self_refine', 'star', 'star_plus', 'pair_sft', 'pair_sft_plus',
    'single_turn', 'multi_turn_fig5', 'multi_turn', 'grpo', 'score',
    'without_stage1', 'without_bonus', 'star_stage2', 'offline_first_attempts',
    'discount_08', 'adaptive_beta2', 'interleaved',
  ] = 'score'  # fmt: skip
  """SCoRe, or what it is compared with on the same budget of episodes and
  updates; `python -m experiments.methods` says what each is."""
  seed: int = 0
  """Seed of everything random, 0 to 2**31 - 1."""
  dry_run: bool = False
  """Print the settings beside the paper's, and stop."""

  init_from: str | None = None
  """Checkpoint that the base policy is read from: a Hugging Face directory, or
  Google's Orbax (Kaggle) one. None: pre-trained here, from nothing."""
  tokenizer: str | None = None
  """The checkpoint's tokenizer.model; None: the one beside it."""
  chat_style: Literal['auto', 'plain', 'gemma'] = 'auto'
  """How messages are set apart: gemma for instruction-tuned checkpoints, plain
  for base models; auto: gemma where the checkpoint has a chat template."""

  task: Literal[
    'arithmetic', 'gsm8k', 'math', 'mbpp', 'humaneval', 'repair', 'records'
  ] = 'arithmetic'
  """What is asked; all but arithmetic are read from --data-dir, or, records,
  from --data.file."""
  data_dir: str | None = None
  """Directory of the task's data set."""
  turns: int = 2
  """Attempts at each problem."""
  max_prompt_tokens: int = 512
  """Longest prompt, in tokens; longer problems are left out."""
  max_attempt_tokens: int = 512
  """Longest attempt, in tokens; graded as it stands when cut off."""
  temperature: float = 1.0
  """Sampling temperature of training."""
  given_attempts_share: float = 0.0
  """Share of Stage II's rows with a first attempt of the base policy's, in
  [0, 1): taken from a pool, not sampled."""

  steps_stage1: int = 1500
  """Updates of Stage I."""
  steps_stage2: int = 1500
  """Updates of Stage II."""
  problems_per_step: int = 64
  """Problems of an update."""
  samples_per_problem: int = 8
  """Episodes of each problem, at least 2: the others are one's baseline."""
  micro_batch: int | None = None
  """Rows (problems x samples) whose gradient is computed at once, if there are
  more; None: all. Fewer need less memory, and change nothing but rounding."""
  length_buckets: int | None = None
  """Lengths that rows of an update are cut to: sorted, so that micro-batches of
  short ones cost less; each length is compiled apart. None: 2 where a row's
  attempts may have 512 tokens together, else 1. Only rounding changes."""
  learning_rate: float = 5e-6
  """Adam's step size, constant."""
  max_grad_norm: float = 1.0
  """Global norm that gradients are clipped to."""

  dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'
  """Of activations and key-value cache; auto: bfloat16 on accelerators. Trained
  weights and the optimizer are float32 either way."""
  remat: bool = False
  """Compute activations again in the backward pass: less memory, more time."""
  reference_dtype: Literal['auto', 'float32', 'bfloat16'] = 'auto'
  """Of the reference policy's weights; auto: as --dtype."""
  offload_reference: bool = False
  """Keep the reference policy in host memory between its uses."""

  alpha: float = 10.0
  """Stage II's bonus: alpha x (score of attempt 2 - score of attempt 1)."""
  normalize_bonus: bool = False
  """Divide a turn's advantage by 1 + its bonus weight.
  One learning rate then suits both stages."""
  beta1: float = 0.01
  """KL coefficient of both turns in both stages, reward per nat."""
  beta2: float = 0.1
  """Further KL coefficient of turn 1 in Stage I, reward per nat."""
  adaptive_beta2: bool = False
  """Adapt beta2, from --beta2 on, to balance KL and objective."""
  kl: Literal['exact', 'reward', 'k3'] = 'exact'
  """KL to the reference: exact (over the vocabulary, in the loss), reward
  (sampled, taken off the reward) or k3 (sampled, in the loss)."""
  discount: float = 0.0
  """Share of the next turn's return that a turn is credited with, in [0, 1]."""

  checkpoint_every: int = 50
  """Steps between checkpoints; a stage's last step always has one."""
  checkpoint_selection: Literal['best', 'last'] = 'best'
  """Policy of a stage that goes on: best (by training reward) or last."""
  log_samples_every: int = 10
  """Steps between printed episodes; 0: none."""
  eval_every: int = 0
  """Steps between evaluations on held-out problems; 0: at the end only."""
  eval_problems: int = 500
  """Held-out problems of an evaluation."""

  reward: tuple[str, ...] = ()
  """Reward functions, path.py:function or path.py:function@weight; `task`
  stands for the task's own grader. None given: the task's own."""
  first_prompt: str | None = None
  """Replaces the first message; {question} and {column} are the problem's."""
  instruction: str | None = None
  """Replaces what is said between the attempts."""
  self_refine_instruction: str | None = None
  """The same for --method=self_refine. None: our own wording, asking for
  feedback and then a better attempt; the paper's is not published."""
  workers: int | None = None
  """Grader processes; None: one less than there are cores."""
  sandbox: Literal['auto', 'bwrap', 'landlock', 'none'] = 'auto'
  """Where programs that the policy wrote are run."""
  i_understand_model_code_runs_unsandboxed: bool = False
  """Without it, --sandbox=none is refused."""

  data: Data = Data()
  model: Model = Model()
  lora: LoRA = LoRA()
  mesh: Mesh = Mesh()
  processes: Processes = Processes()
  sft: SFT = SFT()
  pretrain: Pretraining = Pretraining()
  arithmetic: Arithmetic = Arithmetic()

  @property
  def directory(self) -> pathlib.Path:
    """The run's directory."""
    return pathlib.Path(self.run_dir or f'runs/{self.preset}')

  @property
  def batch_size(self) -> int:
    """Episodes of an update, B = N * G."""
    return self.problems_per_step * self.samples_per_problem

  @property
  def micro_batch_size(self) -> int:
    """Episodes whose gradient is computed at once."""
    return min(self.micro_batch or self.batch_size, self.batch_size)

  @property
  def attempt_tokens(self) -> int:
    """Most tokens of a row's attempts together."""
    return self.turns * self.max_attempt_tokens


# What a run may be continued with another value of, because no update depends
# on it. `micro_batch`, `mesh` and `remat` change rounding, `steps_stage2` only
# where the run ends (the learning rate is constant), `eval_problems` only what
# is measured; that `init_from` holds the same checkpoint is seen to elsewhere.
FREE = frozenset(
  {
    'checkpoint_every',
    'data_dir',
    'workers',
    'sandbox',
    'i_understand_model_code_runs_unsandboxed',
    'dry_run',
    'eval_every',
    'eval_problems',
    'log_samples_every',
    'init_from',
    'length_buckets',
    'mesh.data',
    'mesh.fsdp',
    'mesh.rollout_tensor',
    'mesh.tensor',
    'micro_batch',
    'offload_reference',
    'preset',
    'processes.coordinator',
    'processes.count',
    'processes.index',
    'remat',
    'run_dir',
    'stage',
    'steps_stage2',
    'tokenizer',
  }
)
# Methods that divide their updates among several phases: more steps would
# change the first of them, so that such a run cannot be made longer.
DIVIDED = frozenset(
  {'star', 'star_plus', 'pair_sft', 'pair_sft_plus', 'star_stage2',
   'interleaved'}
)  # fmt: skip


def flag(name: str) -> str:
  """The flag of a field: `beta1` -> `--beta1`, `model.kv_heads` -> ...."""
  return '--' + name.replace('_', '-')


def flatten(settings: Any, prefix: str = '') -> dict[str, Any]:
  """Dotted field names to values, nested records taken apart."""
  flat = {}
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    if dataclasses.is_dataclass(value):
      flat |= flatten(value, f'{prefix}{field.name}.')
    else:
      flat[prefix + field.name] = value
  return flat


def from_record(record: Mapping[str, Any]) -> Settings:
  """Settings from what `dataclasses.asdict` made of them.

  Raises:
    ValueError: the record has a setting that this version does not know.
  """
  return _from_record(Settings, record)


def _from_record(cls: type, record: Mapping[str, Any]) -> Any:
  types = {field.name: field.type for field in dataclasses.fields(cls)}
  unknown = sorted(set(record) - set(types))
  if unknown:
    raise ValueError(
      f'settings {unknown} are not known here: the run was written by another '
      'version of score_jax; use that version, or another --run-dir'
    )
  return cls(
    **{
      name: _from_record(types[name], value)
      if dataclasses.is_dataclass(types[name])
      # JSON has no tuples.
      else (tuple(value) if isinstance(value, list) else value)
      for name, value in record.items()
    }
  )
