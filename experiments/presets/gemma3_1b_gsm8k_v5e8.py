"""Gemma 3 1B on GSM8K, on a TPU v5e-8 in 3 hours.

What: all weights of a 1B model, on 7,473 school problems whose answers are
whole numbers; 1,319 held out.

Hardware: TPU v5e-8 (8 chips of 16 GiB; Kaggle has them for 9 hours at a time).
Memory a chip: 2.1 GiB of weights, optimizer and reference, 1.9 GiB of weights
for decoding, 0.5 GiB of cache (T = 960 tokens a row; most layers keep 512), and
the update's activations. Time: 7 s a step (3 s update, 3 s decode), 3 hours for
both stages, 24 chip-hours. Estimated by hand: update at 50 % of the chips' peak
with activations computed twice, decode at 60 % of the memory bandwidth, every
attempt as long as allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made.

Command: python -m experiments.train --preset=gemma3_1b_gsm8k_v5e8
  --init-from=gemma-3-1b-it

Differs from the paper: model and task; 256 episodes a step and 1,500 steps, to
fit the hours.
"""

from experiments import settings

SETTINGS = settings.Settings(
  task='gsm8k',
  model=settings.Model(name='gemma-3-1b'),
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
