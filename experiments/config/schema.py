"""Every setting of a run: name, type, default, unit, range, what it affects.

The field names are the flags (`problems_per_step` is `--problems-per-step`;
those of a group in `groups` have its name before them, `--model.width`),
the text below a field is the flag's help. Defaults are the paper's for MATH
where it states them (arXiv:2409.12917v2, table 5); presets replace them. Not
imported below `experiments/`: functions take the values that they need.
"""

import dataclasses
from typing import Literal

from experiments.config import fields, groups

Dtype = Literal['auto', 'float32', 'bfloat16']
# Tasks that make their own problems, by settings of their names.
GENERATED_TASKS = ('arithmetic', 'aiming')
# On a v5p the compiler overlaps gathers of sharded weights with products only
# if told to, as MaxText's scripts do; on a v5e it does so by itself.
V5P_ARGS = (
  '--xla_enable_async_all_gather=true '
  '--xla_tpu_enable_async_collective_fusion=true '
  '--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true '
  '--xla_tpu_enable_async_collective_fusion_multiple_steps=true '
  '--xla_tpu_overlap_compute_collective_tc=true'
)


@dataclasses.dataclass(frozen=True)
class Settings:
  """One run of SCoRe."""

  preset: str = fields.setting('tiny', 'nothing')
  """A file in experiments/presets, whose settings are the defaults."""
  run_dir: str | None = fields.setting(None, 'nothing')
  """Directory of the run, or gs://BUCKET/NAME; a run found there is continued.
  None: runs/PRESET."""
  fork_from: str | None = fields.setting(None, 'nothing')
  """Directory of a run that a new one, in --run-dir, begins as a copy of: it
  goes on from that one's checkpoints, with other settings of stages. Read where
  --run-dir has no run."""
  stage: Literal['1', '1a', '1b', '2', 'all'] = fields.setting('all', 'nothing')
  """Stage to run; 2 starts from the run directory's Stage I policy. With
  --turns=3 Stage I has two parts, 1a and 1b."""
  method: str = fields.setting('score', 'stage')
  """SCoRe, a baseline or an ablation, as `python -m experiments.methods` lists
  them; all have the same budget of episodes and updates."""
  seed: int = fields.setting(0, 'base', low=0, high=2**31 - 1)
  """Seed of everything random, 0 to 2**31 - 1."""
  profile: int = fields.setting(0, 'nothing', low=0)
  """Steps of each stage to trace, from its second one on; 0: none. A line says
  where the trace is and how to open it."""
  libtpu_init_args: str = fields.setting('', 'rounding')
  """Flags of the TPU's compiler, as $LIBTPU_INIT_ARGS has them; where that is
  set, they are not used."""
  compilation_cache: str = fields.setting('auto', 'nothing')
  """Directory or URL of compiled programs, so that a run that starts again does
  not compile them again; auto: $JAX_COMPILATION_CACHE_DIR, or one in ~/.cache,
  or with several processes one in the run directory; none: compile always."""
  dry_run: bool = fields.setting(False, 'nothing')
  """Print the settings beside the paper's, and stop."""

  init_from: str | None = fields.setting(None, 'base', free=True)
  """Checkpoint that the base policy is read from: a Hugging Face directory, or
  Google's Orbax (Kaggle) one; or a name or URL that is downloaded,
  hf:google/gemma-3-270m-it (@REVISION), kaggle:google/gemma-3/flax/... or
  gs://BUCKET/NAME (s3://, too). None: pre-trained here, from nothing."""
  tokenizer: str | None = fields.setting(None, 'base', free=True)
  """The checkpoint's tokenizer.model; None: the one beside it."""
  chat_style: Literal['auto', 'plain', 'gemma'] = fields.setting('auto', 'base')
  """Format of messages: gemma for instruction-tuned checkpoints, plain for base
  models; auto: gemma where the checkpoint has a chat template."""

  task: str = fields.setting('arithmetic', 'base')
  """arithmetic, aiming and word_problems, which are made here; gsm8k, math,
  mbpp, humaneval and repair, read from --data-dir; records, read from
  --data.file."""
  data_dir: str | None = fields.setting(None, 'base', free=True)
  """Directory of the task's data set, or its URL (gs://, s3://)."""
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
  """Share of Stage II's episodes with an off-policy first attempt, in [0, 1), a
  multiple of 1 / --samples-per-problem: the base policy's, sampled with a fixed
  key, so that a problem always has the same ones."""

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
  than 1 or --rollout.lag is 1; elsewhere every weight is 1."""
  learning_rate: float = fields.setting(5e-6, 'stage', above=0)
  """Adam's step size; the largest one where --optimizer.schedule or
  --optimizer.warmup-steps vary it."""
  max_grad_norm: float | None = fields.setting(1.0, 'stage', above=0)
  """Global norm that gradients are clipped to. None: they are not clipped."""

  dtype: Dtype = fields.setting('auto', 'base')
  """Number format of products, activations and key-value cache; auto: bfloat16
  on accelerators. Trained weights and the optimizer are float32 either way. On
  CPUs bfloat16 is that of products alone: faster, rounded as coarsely."""
  remat: bool = fields.setting(False, 'rounding')
  """Compute activations again in the backward pass: less memory, more time."""
  reference_dtype: Dtype = fields.setting('auto', 'base')
  """Number format of the reference policy's weights; auto: as --dtype."""
  offload_reference: bool = fields.setting(False, 'nothing')
  """Keep the reference policy in host memory between its uses."""

  alpha: float = fields.setting(10.0, 'stage', low=0)
  """Stage II's bonus: alpha x (score of attempt 2 - score of attempt 1)."""
  normalize_bonus: bool = fields.setting(False, 'stage')
  """Divide a turn's advantage by 1 + its bonus weight. One learning rate then
  suits both stages; but with --discount=0 the expected gradient is that of
  --alpha=0, since all that the bonus does to it is to multiply turn 2's by
  1 + alpha."""
  beta1: float = fields.setting(0.01, 'stage', low=0)
  """KL coefficient of both turns in both stages, reward per nat."""
  beta2: float = fields.setting(0.1, 'stage', low=0)
  """Further KL coefficient of turn 1 in Stage I, reward per nat."""
  adaptive_beta2: bool = fields.setting(False, 'stage')
  """Adapt beta2 to balance KL and objective, from --beta2 on and between half
  and ten times of it."""
  kl: Literal['exact', 'reward', 'k3'] = fields.setting('exact', 'stage')
  """KL to the reference: exact (over the vocabulary, in the loss), reward
  (sampled, taken off the reward; not scaled with the score's advantage) or k3
  (sampled, in the loss)."""
  discount: float = fields.setting(0.0, 'stage', low=0, high=1)
  """Share of the next turn's return that a turn is credited with in Stage II,
  in [0, 1]."""

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
  reward_timeout: float = fields.setting(60.0, 'nothing', above=0)
  """Seconds that a reward function may take for an attempt. One that takes
  longer leaves the attempt out; after three in a batch, the others too."""
  first_prompt: str | None = fields.setting(None, 'base')
  """Replaces the first message; {question} and {column} are the problem's."""
  instruction: str | None = fields.setting(None, 'base')
  """Replaces the instruction between the attempts."""
  stop: tuple[str, ...] = fields.setting((), 'base')
  """Texts that end an attempt, as an end-of-text token does, for base models
  that write on after an answer: --stop "Q:" "###". MBPP's [DONE] is one in the
  plain style, unless --first-prompt replaces the prompt that shows it."""
  shots: int = fields.setting(0, 'base', low=0, high=64)
  """Training problems of gsm8k, math or records that are shown solved before
  each problem, and not trained on: what a base model needs to answer in the
  form that is graded. Their solutions' last words end an attempt."""
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

  data: groups.Data = groups.Data()
  model: groups.Model = groups.Model()
  lora: groups.LoRA = groups.LoRA()
  mesh: groups.Mesh = groups.Mesh()
  rollout: groups.Rollout = groups.Rollout()
  processes: groups.Processes = groups.Processes()
  optimizer: groups.Optimizer = groups.Optimizer()
  sft: groups.SFT = groups.SFT()
  pretrain: groups.Pretraining = groups.Pretraining()
  arithmetic: groups.Arithmetic = groups.Arithmetic()
  aiming: groups.Aiming = groups.Aiming()

  @property
  def directory(self) -> str:
    """The run's directory, a path or URL."""
    return self.run_dir or f'runs/{self.preset}'

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

  `checks.free` says which of them may not after all, and which others may.
  """
  return frozenset(
    name for name, d in fields.declarations(Settings).items() if d['free']
  )
