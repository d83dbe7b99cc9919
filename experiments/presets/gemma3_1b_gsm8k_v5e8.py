"""Gemma 3 1B on GSM8K, on a TPU v5e-8.

What: all weights of a 1B model, on 7,473 school problems whose answers are
whole numbers, 200 of them for validation; tested on 1,319.

Hardware: TPU v5e-8 (8 chips of 16 GiB; Kaggle has them for 9 hours at a time).

Planned (python -m experiments.plan --preset=gemma3_1b_gsm8k_v5e8
--topology=v5e-8), GiB a chip of 15.75:
  weights 0.47, optimizer 0.93, reference 0.23
  rollout  weights for decoding 1.86, cache 0.52              peak 4.5
  update   temporaries 3.16                                   peak 4.8
A checkpoint takes 12.0 GB of disk. A step takes at least 3.1 s (rollout 1.9,
update 1.2), both stages at least 1.3 hours, 10 chip-hours; nothing is published
to estimate an upper end for so small a model. Every attempt is taken to be as
long as allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made.

Command: python -m experiments.train --preset=gemma3_1b_gsm8k_v5e8
  --init-from=gemma-3-1b-it

Differs from the paper: model and task; 256 episodes a step and 1,500 steps,
for a short run.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='gsm8k',
  model=groups.Model(name='gemma-3-1b'),
  remat=True,
  reference_dtype='bfloat16',
  max_prompt_tokens=256,
  max_attempt_tokens=320,
  steps_stage1=500,
  steps_stage2=1000,
  problems_per_step=32,
  samples_per_problem=8,
  micro_batch=64,
  learning_rate=5e-6,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=50,
  eval_every=250,
  eval_problems=1319,
)
