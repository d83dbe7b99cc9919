"""One decision says how whole sequences attend, in every program of a run."""

import jax
import numpy as np
import pytest

from experiments.run import building, policies, run_directory
from experiments.stages import rl_stage
from score_jax import arrays
from score_jax.models import attention
from score_jax.rollout import randomness
from score_jax.training import optimizers, sft_update

# Sizes that no other test has: what is traced here must not be found there.
PROBLEMS, SAMPLES = 3, 2


@pytest.fixture(name='programs', scope='module')
def fixture_programs(finished):
  """Jaxprs of a run's programs, and what the decision was asked.

  The decision is for the TPU's kernel, which a CPU can trace, but not run.
  """
  run = building.reopen(run_directory.RunDirectory(finished))
  base = policies.stage_policy(run, 'base')
  params = run.layout.inference_params(base)
  asked = []

  def decide(*about):
    asked.append(about)
    return 'splash'

  def sample(params):
    return run.sampler.sample(
      params,
      run.task.train[:PROBLEMS],
      randomness.stream(0, 'train', 'base', 0),
      samples_per_problem=SAMPLES,
    )

  # No other test's learning rate: the functions are not traced already.
  optimizer = optimizers.make_optimizer(1.23e-3)
  options = rl_stage.update_options(run.settings)
  rl = rl_stage._make_update(run.layout, optimizer, **options)
  sft_step = sft_update.make_update(run.layout, optimizer)
  loss_mask = np.ones((PROBLEMS * SAMPLES, 2), bool)
  advantages = loss_mask.astype(np.float32)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(attention, 'default_path', decide)
    rollout, trajectory = jax.make_jaxpr(sample, return_shape=True)(params)
    batch = arrays.TrainBatch(trajectory, advantages)
    state = policies.begin_state(run, base, optimizer)
    stage = run.stages['stage2'].coefficients
    texts = {
      'prefill': rollout,
      'update': jax.make_jaxpr(rl.step)(state, base, batch, loss_mask, stage),
      'reference': jax.make_jaxpr(rl.reference_logprobs)(base, trajectory),
      'sft': jax.make_jaxpr(sft_step)(
        policies.begin_state(run, base, optimizer), trajectory, loss_mask
      ),
    }
  return {name: str(text) for name, text in texts.items()}, asked, run


# Kernels of one layer: forward; of the update the policy's forward pass and the
# two of the backward one, and the reference's forward pass.
@pytest.mark.parametrize(
  ('name', 'kernels'),
  [('prefill', 1), ('update', 4), ('reference', 1), ('sft', 3)],
)
def test_every_program_takes_the_path_that_is_decided(programs, name, kernels):
  texts, _, _ = programs
  assert texts[name].count('pallas_call[') == kernels
  # GSPMD cannot partition the kernel: each device runs its own.
  assert 'shard_map' in texts[name]


def test_all_ask_for_the_same(programs):
  _, asked, run = programs
  assert set(asked) == {
    ('cpu', run.layout.dtype, run.layout.config.attention_softcap)
  }
