"""Exhausted device memory ends in flags to lower, from a real error."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from experiments.config import command_line
from experiments.run import out_of_memory, run_directory

SETTINGS = command_line.parse_settings(['--preset=tiny', '--micro-batch=48'])


def test_an_allocation_that_is_too_large_names_flags():
  with (
    pytest.raises(run_directory.RunError) as raised,
    out_of_memory.explained(SETTINGS),
  ):
    jax.block_until_ready(jnp.zeros((10**6, 10**6, 10**3)))
  text = str(raised.value)
  assert 'RESOURCE_EXHAUSTED: Out of memory allocating 40000' in text
  assert '--micro-batch=24 (now 48): 50% of the activations' in text
  assert '--remat' in text
  assert '--rollout.rows, of a device (now all 384, by devices)' in text
  assert '* --problems-per-step=24 (now 48)' in text
  assert '* --reference-dtype=bfloat16' in text


def test_the_micro_batch_divides_the_batch_and_what_is_set_is_not_named():
  settings = dataclasses.replace(
    SETTINGS, micro_batch=3, remat=True, offload_reference=True,
    reference_dtype='bfloat16',
  )  # fmt: skip
  text = out_of_memory.message('RESOURCE_EXHAUSTED: no', settings)
  assert '--micro-batch=1 (now 3): 33% of' in text
  for flag in ('--remat', '--offload-reference', '--reference-dtype'):
    assert flag not in text


def test_other_errors_pass():
  with (
    pytest.raises(ValueError, match='other'),
    out_of_memory.explained(SETTINGS),
  ):
    raise ValueError('other')
