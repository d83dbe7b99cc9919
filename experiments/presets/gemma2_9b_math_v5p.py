"""Gemma 2 9B on MATH, on a TPU v5p-32.

What: the paper's MATH recipe (arXiv:2409.12917, table 5) on a larger open
model: 12,000 training problems, 200 of them for validation; tested on MATH500.

Hardware: TPU v5p-32 (16 chips of 95 GiB).

Planned (python -m experiments.plan --preset=gemma2_9b_math_v5p
--topology=v5p-32), GiB a chip of 95.74:
  weights 2.15, optimizer 4.31, reference 1.08
  rollout  weights for decoding 17.2, cache 27.1              peak 72.2
  update   temporaries 52.2                                   peak 59.8
A checkpoint takes 111 GB of disk. A step takes at least 40.7 s and by estimate
up to 109 s (rollout 26.7 to 68.7, update 14.0 to 39.9), both stages 34 to 91
hours, 542 to 1,450 chip-hours. Every attempt is taken to be as long as allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made.

Command, on every host of the slice (see launch/tpu_vm.sh):
  python -m experiments.train --preset=gemma2_9b_math_v5p
  --init-from=gemma-2-9b-it

Differs from the paper: the model. What the paper leaves open: 3,000 steps are
taken as both stages together and the batch of 512 as episodes, 8 of each of 64
problems; attempts have 1,024 tokens.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='math',
  model=groups.Model(name='gemma-2-9b'),
  reference_dtype='bfloat16',
  max_prompt_tokens=512,
  max_attempt_tokens=1024,
  steps_stage1=1500,
  steps_stage2=1500,
  problems_per_step=64,
  samples_per_problem=8,
  micro_batch=16,
  learning_rate=5e-6,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=50,
  eval_every=250,
  eval_problems=500,
  libtpu_init_args=schema.V5P_ARGS,
)
