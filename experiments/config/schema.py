"""Every setting of a run: name, type, default, unit, range, what it affects.

The field names are the flags (`problems_per_step` is `--problems-per-step`),
the text below a field is the flag's help. Defaults are the paper's for MATH
where it states them (arXiv:2409.12917v2, table 5); presets replace them. Not
imported below `experiments/`: functions take the values that they need.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any, Literal

Affects = Literal['nothing', 'rounding', 'evaluation', 'stage', 'base']
Dtype = Literal['auto', 'float32', 'bfloat16']


def setting(default: Any, affects: Affects, **limits: float | bool) -> Any:
  """Declares a field: its default, and what is said of it as metadata.

  Args:
    default: the field's default.
    affects: the first thing that depends on it: `nothing`; `rounding`, the last
      bits of numbers; `evaluation`, only what is measured; `stage`, what stages
      learn; `base`, the base policy too, hence everything.
    **limits: `low`, `high`: lowest and highest value; `above`: value that it
      must exceed; `free=True`: it may change on resume although numbers depend
      on it, because it is a location, whose contents are compared by their
      digests, or because no update reads it.
  """
  is_free = affects in ('nothing', 'rounding', 'evaluation')
  metadata = {'affects': affects, 'free': is_free, **limits}
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Model:
  """The transformer: a published one, or one that a run makes from scratch."""

  name: str | None = setting(None, 'base')
  """A published Gemma, such as gemma-2-2b, whose weights --init-from brings;
  None: what --init-from describes, or, without it, the sizes below."""
  layers: int = setting(2, 'base', low=1)
  """Number of transformer layers."""
  width: int = setting(64, 'base', low=1)
  """Size of the residual stream."""
  heads: int = setting(4, 'base', low=1)
  """Query heads of a layer."""
  kv_heads: int = setting(4, 'base', low=1)
  """Key and value heads of a layer; divides --model.heads."""
  head_dim: int = setting(16, 'base', low=2)
  """Size of a head; even, because rotary embeddings turn pairs."""
  ffw: int = setting(256, 'base', low=1)
  """Hidden size of the feed-forward block."""
  rope_base: float = setting(100.0, 'base', above=1)
  """Base of the rotary embeddings' wavelengths."""


@dataclasses.dataclass(frozen=True)
class LoRA:
  """Low-rank adapters: only they are trained, and saved."""

  rank: int = setting(0, 'stage', low=0)
  """Rank of each adapter; 0: no adapters, all weights are trained."""
  alpha: float = setting(16.0, 'stage', above=0)
  """An adapter's product is multiplied by alpha / rank."""
  targets: tuple[str, ...] = setting(
    ('q', 'k', 'v', 'o', 'gate', 'up', 'down'), 'stage'
  )
  """Projections that get one: q k v o of attention, gate up down of the MLP."""


@dataclasses.dataclass(frozen=True)
class Mesh:
  """How the devices are laid out; the product is their number."""

  data: int = setting(1, 'rounding', low=1)
  """Copies of the model, each with sequences of its own."""
  fsdp: int = setting(-1, 'rounding', low=-1)
  """Devices that share a copy's weights and optimizer state, each with
  sequences of its own; -1: as many as are left."""
  tensor: int = setting(1, 'rounding', low=1)
  """Devices that share every layer's heads and hidden units."""
  rollout_tensor: int | None = setting(None, 'rounding', low=1)
  """--mesh.tensor of the rollout, where all other devices split the sequences;
  None: the update's layout, with weights not split over --mesh.fsdp."""


@dataclasses.dataclass(frozen=True)
class Processes:
  """How several processes find each other; one process needs none of it."""

  coordinator: str | None = setting(None, 'nothing')
  """HOST:PORT of the first process; auto: what a Cloud TPU or Slurm says. None:
  $JAX_COORDINATOR_ADDRESS."""
  count: int | None = setting(None, 'nothing', low=1)
  """Number of processes. None: $JAX_NUM_PROCESSES."""
  index: int | None = setting(None, 'nothing', low=0)
  """Index of this process, from 0. None: $JAX_PROCESS_ID."""


@dataclasses.dataclass(frozen=True)
class Pretraining:
  """How the base policy is made, from nothing."""

  steps: int = setting(1600, 'base', low=0)
  """Number of updates."""
  rows: int = setting(64, 'base', low=1)
  """Sequences of an update."""
  learning_rate: float = setting(4e-3, 'base', above=0)
  """Adam's largest step size: warmed up, then a cosine down to a 20th."""
  copy_share: float = setting(0.6, 'base', low=0, high=1)
  """Share of hard sums whose second attempt copies the first, in [0, 1].
  The less, the more latent ability to correct."""
  easy_nines: float = setting(0.4, 'base', low=0, high=1)
  """Largest share of columns that add up to 9 among easy sums."""
  easy_right: float = setting(0.97, 'base', low=0, high=1)
  """Share of easy sums whose first attempt is right."""


@dataclasses.dataclass(frozen=True)
class SFT:
  """The supervised baselines, STaR and Pair-SFT; the paper says little here."""

  rounds: int = setting(3, 'stage', low=1)
  """STaR's rounds of sampling and fine-tuning, as in the paper; they share the
  budget evenly."""
  from_newest: bool = setting(False, 'stage')
  """Fine-tune the newest policy in each round. By default every round starts
  from the policy before the first one, as in ReST^EM; the newest is sampled."""
  epochs: float | None = setting(None, 'stage', above=0)
  """Most passes over a round's pairs. None: the updates of the budget, however
  often they see a pair, since all methods have the same; the paper makes 1 for
  Pair-SFT, whose data it calls large."""
  learn: Literal['second', 'right', 'both'] = setting('second', 'stage')
  """Attempts whose tokens carry loss: second: the repaired ones alone, since a
  wrong first one is nothing to imitate; right: right first ones, too; both."""
  most_per_problem: int | None = setting(10, 'stage', low=1)
  """Most repairs of a problem, and most pairs of two right attempts: ReST^EM's
  10 keep easy problems from outweighing the others. None: all."""
  right_share: float = setting(1.0, 'stage', low=0, high=1)
  """D+: largest share of pairs of two right attempts, in [0, 1]. 1: as many as
  were sampled, because the paper states no mix."""
  learning_rate: float | None = setting(None, 'stage', above=0)
  """Adam's step size, constant. None: --learning-rate, because the paper does
  not vary it between methods."""


@dataclasses.dataclass(frozen=True)
class Data:
  """Where problems come from that no --data-dir holds."""

  file: str | None = setting(None, 'base')
  """JSONL or Parquet: problems of --task=records to train on, or the given
  first attempts of --task=repair."""
  test_file: str | None = setting(None, 'base')
  """The same, held-out problems."""
  question: str = setting('question', 'base')
  """Column of the question."""
  reference: str = setting('reference', 'base')
  """Column of the reference answer."""
  id: str = setting('id', 'base')
  """Column of the identifier; where there is none, the row's number."""
  grader: Literal['math', 'number', 'code'] = setting('math', 'base')
  """Grader of the attempts at --task=records."""
  drop_near_duplicates: bool = setting(False, 'base')
  """MATH: drop training problems that nearly repeat held-out ones."""


@dataclasses.dataclass(frozen=True)
class Arithmetic:
  """The embedded task: sums whose carries ripple."""

  digits: int = setting(12, 'base', low=1, high=18)
  """Digits of each of the two numbers."""
  nines: float = setting(0.75, 'base', low=0, high=1)
  """Probability that a column adds up to 9, and so passes a carry on."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """One run of SCoRe."""

  preset: str = setting('tiny', 'nothing')
  """A file in experiments/presets, whose settings are the defaults."""
  run_dir: str | None = setting(None, 'nothing')
  """Directory of the run; a run found there is continued. None: runs/PRESET."""
  stage: Literal['1', '1a', '1b', '2', 'all'] = setting('all', 'nothing')
  """Stage to run; 2 starts from the run directory's Stage I policy. With
  --turns=3 Stage I has two parts, 1a and 1b."""
  method: str = setting('score', 'stage')
  """SCoRe, a baseline or an ablation, as `python -m experiments.methods` lists
  them; all have the same budget of episodes and updates."""
  seed: int = setting(0, 'base', low=0, high=2**31 - 1)
  """Seed of everything random, 0 to 2**31 - 1."""
  dry_run: bool = setting(False, 'nothing')
  """Print the settings beside the paper's, and stop."""

  init_from: str | None = setting(None, 'base', free=True)
  """Checkpoint that the base policy is read from: a Hugging Face directory, or
  Google's Orbax (Kaggle) one. None: pre-trained here, from nothing."""
  tokenizer: str | None = setting(None, 'base', free=True)
  """The checkpoint's tokenizer.model; None: the one beside it."""
  chat_style: Literal['auto', 'plain', 'gemma'] = setting('auto', 'base')
  """Format of messages: gemma for instruction-tuned checkpoints, plain for base
  models; auto: gemma where the checkpoint has a chat template."""

  task: str = setting('arithmetic', 'base')
  """arithmetic, gsm8k, math, mbpp, humaneval, repair or records: all but
  arithmetic are read from --data-dir, or, records, from --data.file."""
  data_dir: str | None = setting(None, 'base', free=True)
  """Directory of the task's data set."""
  turns: int = setting(2, 'base', low=1, high=3)
  """Attempts at each problem."""
  max_prompt_tokens: int = setting(512, 'base', low=1)
  """Longest prompt, in tokens; longer problems are left out."""
  max_attempt_tokens: int = setting(512, 'base', low=1)
  """Longest attempt, in tokens; graded as it stands when cut off."""
  temperature: float = setting(1.0, 'stage', above=0)
  """Sampling temperature of training."""
  given_attempts_share: float = setting(0.0, 'stage', low=0, high=1)
  """Share of Stage II's episodes with an off-policy first attempt, in [0, 1):
  the base policy's, sampled with a fixed key, so that a problem always has the
  same ones."""

  steps_stage1: int = setting(1500, 'stage', low=0)
  """Updates of Stage I."""
  steps_stage2: int = setting(1500, 'stage', low=0)
  """Updates of Stage II."""
  problems_per_step: int = setting(64, 'stage', low=1)
  """Problems of an update."""
  samples_per_problem: int = setting(8, 'stage', low=2)
  """Episodes of each problem, at least 2: each is compared with the
  problem's others."""
  micro_batch: int | None = setting(None, 'rounding', low=1)
  """Sequences (problems x samples) whose gradient is computed at once; None:
  all of an update. Fewer need less memory, and change nothing but rounding."""
  length_buckets: int | None = setting(None, 'rounding', low=1, high=16)
  """Number of padded lengths of an update's micro-batches, each compiled apart;
  sequences are sorted first, so that short ones cost less. None: 2 where an
  episode's attempts may have 512 tokens together, else 1."""
  learning_rate: float = setting(5e-6, 'stage', above=0)
  """Adam's step size, constant."""
  max_grad_norm: float = setting(1.0, 'stage', above=0)
  """Global norm that gradients are clipped to."""

  dtype: Dtype = setting('auto', 'base')
  """Number format of activations and key-value cache; auto: bfloat16 on
  accelerators. Trained weights and the optimizer are float32 either way."""
  remat: bool = setting(False, 'rounding')
  """Compute activations again in the backward pass: less memory, more time."""
  reference_dtype: Dtype = setting('auto', 'base')
  """Number format of the reference policy's weights; auto: as --dtype."""
  offload_reference: bool = setting(False, 'nothing')
  """Keep the reference policy in host memory between its uses."""

  alpha: float = setting(10.0, 'stage', low=0)
  """Stage II's bonus: alpha x (score of attempt 2 - score of attempt 1)."""
  normalize_bonus: bool = setting(False, 'stage')
  """Divide a turn's advantage by 1 + its bonus weight.
  One learning rate then suits both stages."""
  beta1: float = setting(0.01, 'stage', low=0)
  """KL coefficient of both turns in both stages, reward per nat."""
  beta2: float = setting(0.1, 'stage', low=0)
  """Further KL coefficient of turn 1 in Stage I, reward per nat."""
  adaptive_beta2: bool = setting(False, 'stage')
  """Adapt beta2, from --beta2 on, to balance KL and objective."""
  kl: Literal['exact', 'reward', 'k3'] = setting('exact', 'stage')
  """KL to the reference: exact (over the vocabulary, in the loss), reward
  (sampled, taken off the reward) or k3 (sampled, in the loss)."""
  discount: float = setting(0.0, 'stage', low=0, high=1)
  """Share of the next turn's return that a turn is credited with, in [0, 1]."""

  checkpoint_every: int = setting(50, 'stage', low=1, free=True)
  """Steps between checkpoints; a stage's last step always has one."""
  checkpoint_selection: Literal['best', 'last'] = setting('best', 'stage')
  """Checkpoint that a stage ends with: best (by training reward) or last."""
  log_samples_every: int = setting(10, 'nothing', low=0)
  """Steps between printed episodes; 0: none."""
  eval_every: int = setting(0, 'evaluation', low=0)
  """Steps between evaluations on held-out problems; 0: at the end only."""
  eval_problems: int = setting(500, 'evaluation', low=1)
  """Held-out problems of an evaluation."""

  reward: tuple[str, ...] = setting((), 'base')
  """Reward functions, path.py:function or path.py:function@weight; `task`
  stands for the task's own grader. None given: the task's own."""
  first_prompt: str | None = setting(None, 'base')
  """Replaces the first message; {question} and {column} are the problem's."""
  instruction: str | None = setting(None, 'base')
  """Replaces the instruction between the attempts."""
  self_refine_instruction: str | None = setting(None, 'stage')
  """--instruction of --method=self_refine. None: our own wording (the paper's
  is not published), asking for feedback and then a better attempt."""
  workers: int | None = setting(None, 'nothing', low=1)
  """Grader processes; None: one less than there are cores."""
  sandbox: Literal['auto', 'bwrap', 'landlock', 'none'] = setting(
    'auto', 'nothing'
  )
  """Where programs that the policy wrote are run."""
  i_understand_model_code_runs_unsandboxed: bool = setting(False, 'nothing')
  """Without it, --sandbox=none is rejected."""

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
    """Most tokens of an episode's attempts together."""
    return self.turns * self.max_attempt_tokens


def declarations(
  cls: type = Settings, prefix: str = ''
) -> dict[str, Mapping[str, Any]]:
  """Dotted field names to the metadata that `setting` made."""
  found = {}
  for field in dataclasses.fields(cls):
    if dataclasses.is_dataclass(field.type):
      found |= declarations(field.type, f'{prefix}{field.name}.')
    else:
      found[prefix + field.name] = field.metadata
  return found


def affects(name: str) -> Affects:
  """What depends on a setting, by its dotted name; see `setting`."""
  return declarations()[name]['affects']


def free() -> frozenset[str]:
  """Dotted names of settings that may change on resume.

  `methods.may_change_steps` says when the numbers of steps may differ, too.
  """
  return frozenset(name for name, d in declarations().items() if d['free'])


def flag(name: str) -> str:
  """The flag of a field: `model.kv_heads` -> `--model.kv-heads`."""
  return '--' + name.replace('_', '-')


def flatten(settings: Any, prefix: str = '') -> dict[str, Any]:
  """Dotted field names to values, those of nested records included."""
  flat = {}
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    if dataclasses.is_dataclass(value):
      flat |= flatten(value, f'{prefix}{field.name}.')
    else:
      flat[prefix + field.name] = value
  return flat


def from_record(record: Mapping[str, Any], cls: type = Settings) -> Any:
  """Settings from their `dataclasses.asdict`, or that as JSON.

  Raises:
    ValueError: the record has a setting that this version does not know.
  """
  types = {field.name: field.type for field in dataclasses.fields(cls)}
  unknown = sorted(record.keys() - types.keys())
  if unknown:
    raise ValueError(
      f'settings {unknown} are not known here: the run was written by another '
      'version of score_jax; use that version, or another --run-dir'
    )
  values = {}
  for name, value in record.items():
    if dataclasses.is_dataclass(types[name]):
      values[name] = from_record(value, types[name])
    else:
      # JSON has no tuples.
      values[name] = tuple(value) if isinstance(value, list) else value
  return cls(**values)
