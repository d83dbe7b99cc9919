"""Gemma 3 270M, as published, on word problems of one calculation, on a laptop.

What: adapters of the base model, which has never been told to answer anything,
on problems of which it solves 36 % greedily and 18 % when it samples, with
attempts of one line. Asked to look again, it calculates on from its first
result: a second attempt that repeats the first is much better, one that
calculates anew better still.

Hardware: a CPU and 10 GB of memory (8.4 GiB are used; 10.9 if micro-batches
are of 8 sequences). An hour on one core of an EPYC: 40 s a step, 6 of them
rollout.

Expected: attempts 1 and 2 at 35.5 and 11.5 % before, 40.5 and 48.0 % after
Stage I, 42.0 and 43.0 % after Stage II, which so few episodes an update make a
policy that repeats itself; one seed (RESULTS.md).

Planned for a TPU (python -m experiments.plan --preset=gemma3_270m_words
--topology=v5e-1), GiB a chip of 15.75:
  weights 0.01, optimizer 0.03, reference 0.50
  rollout  weights for decoding 0.51, cache 0.11              peak 1.3
  update   temporaries 1.65                                   peak 2.2
A step takes at least 0.1 s.

Command: bash launch/gemma3_270m.sh
     and: python -m experiments.train --preset=gemma3_270m_words
            --init-from=weights/gemma-3-270m

Differs from the paper (`--dry-run` shows it line by line): model and task;
adapters, few steps and few episodes, which a CPU can pay for, and so a larger
learning rate. Adam's epsilon is a hundred times its usual value: at the start
all rewards of a step can be 0, and the KL's gradient is nothing but rounding,
which an epsilon of 1e-8 would make a whole step of.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='word_problems',
  train_problems=5000,
  validation_problems=96,
  model=groups.Model(name='gemma-3-270m'),
  lora=groups.LoRA(rank=16),
  optimizer=groups.Optimizer(adam_epsilon=1e-6),
  reference_dtype='bfloat16',
  max_prompt_tokens=160,
  max_attempt_tokens=16,
  steps_stage1=36,
  steps_stage2=44,
  problems_per_step=6,
  samples_per_problem=4,
  micro_batch=4,
  learning_rate=2e-4,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=4,
  eval_every=20,
  log_samples_every=10,
  eval_problems=200,
)
