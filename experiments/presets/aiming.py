"""First attempts that can be memorised, second attempts that have a rule.

What: an attempt says where 12 moves modulo 8 will end, then makes them one by
one; it is right if it ends where it aimed. The aim of a first attempt needs the
whole sum before anything is written, which two layers hardly learn; but the
aims of few problems can be memorised (`--train-problems`). A second attempt has
to aim where the first one ended. So the task shows what becomes of correction
where reinforcement learning can do without it on the training problems.

Base policy: 2 layers of width 64, pre-trained from scratch. It makes moves
without errors and aims at random; when told to look again it aims at the same
digit in 90 % of the cases, at another one in 3 %, and where the first attempt
ended in the others. So greedy attempts are right once in eight, both.

Hardware and time: 2 CPU cores, some 5 minutes.

Command: python -m experiments.train --preset=aiming --train-problems=64
     or: python -m experiments.studies --preset=aiming --sweep=train_problems
         --values=64,16384

Differs from the paper (`--dry-run` shows it line by line): model and task, of
course; learning rate, batch, clipping and steps are those of the preset tiny.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='aiming',
  validation_problems=1000,
  aiming=groups.Aiming(moves=12, modulus=8),
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
    steps=800,
    rows=64,
    learning_rate=4e-3,
    copy_share=0.9,
    redraw_share=0.03,
  ),
  max_prompt_tokens=16,
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
