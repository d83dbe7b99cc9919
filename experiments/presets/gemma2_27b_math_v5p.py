"""Gemma 2 27B on MATH, on a TPU v5p-64.

What: the paper's MATH recipe (arXiv:2409.12917, table 5) on a larger open
model: 12,000 training problems, 200 of them for validation; tested on MATH500.

Hardware: TPU v5p-64 (32 chips of 95 GiB). Four chips share a copy of the
weights for decoding, which one could hold but not beside the rest.

Planned (python -m experiments.plan --preset=gemma2_27b_math_v5p
--topology=v5p-64), GiB a chip of 95.74:
  weights 3.17, optimizer 6.35, reference 1.59
  rollout  weights for decoding 12.7, cache 14.8              peak 49.8
  update   temporaries 13.0                                   peak 24.1
A checkpoint takes 327 GB of disk. A step takes at least 37.6 s and by estimate
up to 102 s (rollout 17.4 to 44.2, update 20.2 to 57.8), both stages 31 to 85
hours, 1,000 to 2,720 chip-hours. Every attempt is taken to be as long as
allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made.

Command, on every host of the slice (see launch/tpu_vm.sh):
  python -m experiments.train --preset=gemma2_27b_math_v5p
  --init-from=gemma-2-27b-it

Differs from the paper: the model. What the paper leaves open: 3,000 steps are
taken as both stages together and the batch of 512 as episodes, 8 of each of 64
problems; attempts have 1,024 tokens.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='math',
  model=groups.Model(name='gemma-2-27b'),
  mesh=groups.Mesh(rollout_tensor=4),
  remat=True,
  reference_dtype='bfloat16',
  max_prompt_tokens=512,
  max_attempt_tokens=1024,
  steps_stage1=1500,
  steps_stage2=1500,
  problems_per_step=64,
  samples_per_problem=8,
  micro_batch=64,
  learning_rate=5e-6,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=50,
  eval_every=250,
  eval_problems=500,
  libtpu_init_args=schema.V5P_ARGS,
)
