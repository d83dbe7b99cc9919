"""Gemma 2 2B on GSM8K with adapters, on a Kaggle TPU v5e-8 in 9 hours.

What: 7,473 school problems whose answers are whole numbers, 1,319 held out.
Only adapters of rank 16 are trained: the reference policy is the same weights
without them, so that no second copy of the model exists.

Hardware: TPU v5e-8 (8 chips of 16 GiB), free at Kaggle for 9 hours at a time.
Memory a chip: 0.6 GiB of weights, 4.9 GiB of weights for decoding, 3 GiB of
cache (T = 960 tokens a row), and the update's activations. Time: 17 s a step
(7 s update, 9 s decode), 5.6 hours for both stages, 45 chip-hours. Estimated by
hand: update at 50 % of the chips' peak with activations computed twice, decode
at 60 % of the memory bandwidth, every attempt as long as allowed. A run that
Kaggle stops is continued by the same command: keep --run-dir where it stays.

Expected: no SCoRe number for GSM8K has been published for this model, and no
run of this preset has been made.

Command: python -m experiments.train --preset=gemma2_2b_gsm8k_lora_v5e8
  --init-from=gemma-2-2b-it

Differs from the paper: the task; adapters, and with them ten times its learning
rate, as adapters need; 256 episodes a step and 1,200 steps, to fit the hours.
"""

from experiments import settings

SETTINGS = settings.Settings(
  task='gsm8k',
  model=settings.Model(name='gemma-2-2b'),
  lora=settings.LoRA(rank=16, alpha=16.0),
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
