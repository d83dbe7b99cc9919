"""Gemma 2 2B on GSM8K with adapters, on a Kaggle TPU v5e-8.

What: 7,473 school problems whose answers are whole numbers, 200 of them for
validation; tested on 1,319.
Only adapters of rank 16 are trained: the reference policy is the same weights
without them, so that no second copy of the model exists.

Hardware: TPU v5e-8 (8 chips of 16 GiB), free at Kaggle for 9 hours at a time. A
run that Kaggle stops is continued by the same command: keep --run-dir where it
stays.

Planned (python -m experiments.plan --preset=gemma2_2b_gsm8k_lora_v5e8
--topology=v5e-8), GiB a chip of 15.75:
  adapters 0.06, optimizer 0.11, weights that they belong to 0.61
  rollout  weights for decoding 4.91, cache 3.10              peak 11.2
  update   temporaries 3.09                                   peak 3.9
A checkpoint takes 0.25 GB of disk. A step takes at least 8.2 s (rollout 5.8,
update 2.3), both stages at least 2.7 hours, 22 chip-hours; nothing is published
to estimate an upper end for adapters. Every attempt is taken to be as long as
allowed.

Expected: no SCoRe number for GSM8K has been published for this model, and no
run of this preset has been made.

Command: python -m experiments.train --preset=gemma2_2b_gsm8k_lora_v5e8
  --init-from=gemma-2-2b-it

Differs from the paper: the task; adapters, and with them ten times its learning
rate, as adapters need; 256 episodes a step and 1,200 steps, for a short run.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='gsm8k',
  model=groups.Model(name='gemma-2-2b'),
  lora=groups.LoRA(rank=16, alpha=16.0),
  remat=True,
  max_prompt_tokens=256,
  max_attempt_tokens=320,
  steps_stage1=400,
  steps_stage2=800,
  problems_per_step=32,
  samples_per_problem=8,
  micro_batch=64,
  learning_rate=5e-5,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=25,
  eval_every=100,
  eval_problems=1319,
)
