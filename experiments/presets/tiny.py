"""A policy that learns to correct itself, from nothing, on a laptop.

What: adds two 12-digit numbers, most significant digit first, whose carries
ripple through chains (a column adds up to 9 with probability 0.75). Writing the
leading digit needs a carry from far to the right, which two layers without
scratch space cannot see; but the carry into a column can be read off the first
attempt's digit. So looking again is worth something, and no first attempt can
make it superfluous: verifying is easier than generating.

Base policy: 2 layers of width 64, pre-trained from scratch on sums whose second
attempt repeats the first one's error in 60 % of the cases and fixes it in the
others. It knows how to correct, and hardly does. Pre-training ends, after 800
updates at least, at the first measurement of 12 % or more on the validation
problems: base policies of equally many updates are right at 9 to 40 %, and the
strongest leave little to correct.

Hardware and time: 2 CPU cores, within 8 minutes, installation apart.

Command: bash launch/quickstart.sh
     or: python -m experiments.train --preset=tiny

Differs from the paper (`--dry-run` shows it line by line): model and task, of
course; learning rate, batch and steps to suit them. Gradients have norms of 0.5
in Stage I and of 12 in Stage II, which the bonus makes: a bound of 100 stops
accidents alone. Micro-batches of 16 sequences change nothing but rounding and
speed: what they need fits a processor's cache.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='arithmetic',
  validation_problems=1000,
  arithmetic=groups.Arithmetic(digits=12, nines=0.75),
  model=groups.Model(
    layers=2,
    width=64,
    heads=4,
    kv_heads=4,
    head_dim=16,
    ffw=256,
    rope_base=100.0,
  ),
  pretrain=groups.Pretraining(
    steps=1600,
    least_steps=800,
    until_accuracy=0.12,
    rows=64,
    learning_rate=4e-3,
    copy_share=0.6,
    easy_nines=0.4,
    easy_right=0.97,
  ),
  max_prompt_tokens=64,
  max_attempt_tokens=14,
  steps_stage1=100,
  steps_stage2=100,
  problems_per_step=48,
  samples_per_problem=8,
  micro_batch=16,
  learning_rate=5e-4,
  max_grad_norm=100.0,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  temperature=1.0,
  checkpoint_every=10,
  log_samples_every=50,
  eval_problems=2000,
)
