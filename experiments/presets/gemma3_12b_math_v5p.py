"""Gemma 3 12B on MATH, on a TPU v5p-32.

What: the paper's MATH recipe (arXiv:2409.12917, table 5) on a larger open
model: 12,000 training problems, MATH500 held out.

Hardware: TPU v5p-32 (16 chips of 95 GiB). Memory a chip: 12 GiB of weights,
optimizer and reference, 22 GiB of weights for decoding, 16 GiB of cache (T =
2,624 tokens a row; most layers keep 1,024), and the update's activations.
Time: 86 s a step (43 s update, 42 s decode), 71 hours for both stages, 1,142
chip-hours. The checkpoint's vision tower is not read.
Estimated by hand: update at 50 % of the chips' peak with activations computed
twice, decode at 60 % of the memory bandwidth, every attempt as long as allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made.

Command, on every host of the slice (see launch/tpu_vm.sh):
  python -m experiments.train --preset=gemma3_12b_math_v5p
  --init-from=gemma-3-12b-it

Differs from the paper: the model. What the paper leaves open: 3,000 steps are
taken as both stages together and the batch of 512 as episodes, 8 of each of 64
problems; attempts have 1,024 tokens.
"""

from experiments import settings

SETTINGS = settings.Settings(
  task='math',
  model=settings.Model(name='gemma-3-12b'),
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
)
