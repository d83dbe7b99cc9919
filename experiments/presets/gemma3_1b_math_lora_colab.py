"""Gemma 3 1B on MATH with adapters, on one Colab TPU.

What: the paper's task (12,000 training problems, 200 of them for validation;
tested on MATH500) within reach of one chip: adapters of rank 16 on a 1B model.
The reference policy is the same weights without them.

Hardware: one TPU v5e chip of 16 GiB (Colab).

Planned (python -m experiments.plan --preset=gemma3_1b_math_lora_colab
--topology=v5e-1), GiB a chip of 15.75:
  adapters 0.05, optimizer 0.10, weights that they belong to 1.86
  rollout  weights for decoding 1.89, cache 1.16              peak 6.0
  update   temporaries 2.85                                   peak 4.9
A checkpoint takes 0.16 GB of disk. A step takes at least 6.5 s (rollout 3.8,
update 2.7), both stages at least 1.6 hours; nothing is published to estimate an
upper end for adapters. Every attempt is taken to be as long as allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made.

Command: python -m experiments.train --preset=gemma3_1b_math_lora_colab
  --init-from=gemma-3-1b-it

Differs from the paper: the model; adapters, and with them ten times its
learning rate, as adapters need; 64 episodes a step, 900 steps and 512 tokens an
attempt, to fit one chip and a short run.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='math',
  model=groups.Model(name='gemma-3-1b'),
  lora=groups.LoRA(rank=16, alpha=16.0),
  remat=True,
  max_prompt_tokens=384,
  max_attempt_tokens=512,
  steps_stage1=300,
  steps_stage2=600,
  problems_per_step=8,
  samples_per_problem=8,
  micro_batch=8,
  learning_rate=5e-5,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=25,
  eval_every=100,
  eval_problems=500,
)
