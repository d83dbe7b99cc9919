"""Gemma 2 2B on MBPP: the paper's code recipe on an open model.

What: the paper's MBPP recipe (arXiv:2409.12917, table 5, there with Gemini 1.0
Pro): programs that must pass a problem's tests, run in a sandbox. HumanEval is
evaluated with: python -m experiments.evaluate --run-dir=RUN --task=humaneval

Base policy: gemma-2-2b-it.

Hardware: TPU v5p-8 (4 chips of 95 GiB), whose hosts need bubblewrap or Landlock
(`python -m experiments.doctor` looks).

Planned (python -m experiments.plan --preset=gemma2_2b_mbpp
--topology=v5p-8), GiB a chip of 95.74:
  weights 2.44, optimizer 4.87, reference 1.22
  rollout  weights for decoding 4.87, cache 6.75              peak 25.3
  update   temporaries 35.6                                   peak 44.1
A checkpoint takes 31.4 GB of disk. A step takes at least 6.9 s and by estimate
up to 18.4 s (rollout 4.0 to 10.2, update 2.9 to 8.2), both stages 2.9 to 7.7
hours, 11 to 31 chip-hours. Grading comes on top. Every attempt is taken to be
as long as allowed.

Expected: the paper has code results for Gemini 1.0 Pro only (HumanEval, turn 1
/ turn 2: base 53.7 / 56.7, SCoRe 52.4 / 64.6). No run of this preset has been
made.

Command: python -m experiments.train --preset=gemma2_2b_mbpp
  --init-from=gemma-2-2b-it

Differs from the paper: the model. What the paper leaves open: 1,500 steps are
taken as both stages together and the batch of 128 as episodes, 8 of each of 16
problems; attempts have 512 tokens.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='mbpp',
  model=groups.Model(name='gemma-2-2b'),
  reference_dtype='bfloat16',
  max_prompt_tokens=1024,
  max_attempt_tokens=512,
  steps_stage1=750,
  steps_stage2=750,
  problems_per_step=16,
  samples_per_problem=8,
  micro_batch=8,
  learning_rate=1e-5,
  alpha=10.0,
  beta1=0.01,
  beta2=0.25,
  checkpoint_every=50,
  eval_every=250,
  eval_problems=500,
  libtpu_init_args=schema.V5P_ARGS,
)
