"""Gemma 2 2B on MATH: the paper's open model, two turns or three.

What: the paper's MATH recipe (arXiv:2409.12917, table 5) on its only open model
(ICLR 2025, appendix A.1): 12,000 training problems, 200 of them for validation;
tested on MATH500.

Base policy: gemma-2-2b-it. The paper does not say whether it took the tuned
checkpoint or the base one; for the base one give its directory, and messages
are set apart by lines (--chat-style=auto sees which it is).

Hardware: TPU v5p-8 (4 chips of 95 GiB).

Planned (python -m experiments.plan --preset=gemma2_2b_math
--topology=v5p-8), GiB a chip of 95.74:
  weights 2.44, optimizer 4.87, reference 1.22
  rollout  weights for decoding 4.87, cache 33.5              peak 72.2
  update   temporaries 42.7                                   peak 51.3
A checkpoint takes 31.4 GB of disk. A step takes at least 35.4 s and by estimate
up to 98 s (rollout 20.0 to 54.2, update 15.4 to 44.1), both stages 29 to 82
hours, 118 to 328 chip-hours. Every attempt is taken to be as long as allowed.

Expected (ICLR 2025, tables 5 to 7, three turns, accuracy at turn 1 / 2 / 3 on
MATH500): base 16.8 / 16.8 / 17.0; Stage 1(a) 17.6 / 20.0 / 19.8; Stage 1(b)
16.6 / 18.4 / 23.2; Stage 2 23.0 / 24.0 / 24.0. Two turns alone were not
reported. No run of this preset has been made.

Command: python -m experiments.train --preset=gemma2_2b_math
  --init-from=gemma-2-2b-it
Three turns (Stage 1a, 1b, 2), for the planner too: add --turns=3

Differs from the paper: nothing that it states. What it leaves open: 3,000 steps
are taken as both stages together and the batch of 512 as episodes, 8 of each of
64 problems; attempts have 1,024 tokens.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='math',
  model=groups.Model(name='gemma-2-2b'),
  reference_dtype='bfloat16',
  max_prompt_tokens=512,
  max_attempt_tokens=1024,
  steps_stage1=1500,
  steps_stage2=1500,
  problems_per_step=64,
  samples_per_problem=8,
  micro_batch=8,
  learning_rate=5e-6,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=50,
  eval_every=250,
  eval_problems=500,
  libtpu_init_args=schema.V5P_ARGS,
)
