"""Gemma 3 270M on GSM8K, on one Colab TPU.

What: the smallest published Gemma, all weights trained, on 7,473 school
problems whose answers are whole numbers, 200 of them for validation; tested on
1,319. A first run with a real checkpoint rather than a result: so small a model
solves few of them.

Hardware: one TPU v5e chip of 16 GiB (Colab), or a GPU of that size. Most of the
update's temporaries are logits over 262,144 pieces: hence micro-batches of 16
sequences.

Planned (python -m experiments.plan --preset=gemma3_270m_gsm8k_colab
--topology=v5e-1), GiB a chip of 15.75:
  weights 1.00, optimizer 2.00, reference 0.50
  rollout  weights for decoding 0.50, cache 1.39              peak 6.6
  update   temporaries 5.99                                   peak 9.5
A checkpoint takes 3.2 GB of disk. A step takes at least 2.0 s (rollout 1.0,
update 0.9), both stages at least 0.3 hours; nothing is published to estimate an
upper end for so small a model. Every attempt is taken to be as long as allowed.

Expected: no SCoRe number has been published for this model, and no run of this
preset has been made. The base model solves 2 problems of 200 with two examples
(RESULTS.md), so that a step of 128 episodes would have a reward or two to learn
from: take the instruction-tuned one, evaluate it first, and below 10 % take
gemma3_270m_words or the 1B model (gemma3_1b_gsm8k_v5e8) instead.

Command: python -m experiments.train --preset=gemma3_270m_gsm8k_colab
  --init-from=gemma-3-270m-it

Differs from the paper: model and task; 128 episodes a step and 600 steps, for
a short run.
"""

from experiments.config import groups, schema

SETTINGS = schema.Settings(
  task='gsm8k',
  model=groups.Model(name='gemma-3-270m'),
  remat=True,
  reference_dtype='bfloat16',
  max_prompt_tokens=256,
  max_attempt_tokens=256,
  steps_stage1=200,
  steps_stage2=400,
  problems_per_step=16,
  samples_per_problem=8,
  micro_batch=16,
  learning_rate=5e-6,
  alpha=10.0,
  beta1=0.01,
  beta2=0.1,
  checkpoint_every=25,
  eval_every=100,
  eval_problems=1319,
)
