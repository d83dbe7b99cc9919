"""What a run holds on its devices while it trains, whole runs on a CPU.

There pinned host memory is a kind of its own, as on accelerators.
"""

import gc

import jax
import pytest

from score_jax.training import device_layout
from tests.support import small_run


def bytes_on_devices():
  """Of all arrays that are alive."""
  return sum(
    array.nbytes
    for array in jax.live_arrays()
    if not array.is_deleted() and array.sharding.memory_kind == 'device'
  )


@pytest.fixture
def held(monkeypatch):
  """Bytes on the devices before each rollout, in units of the policy's.

  Beyond what was there when the test began.
  """
  original = device_layout.Layout.inference_params
  gc.collect()
  before = bytes_on_devices()
  found = []

  def counted(self, params):
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    found.append((bytes_on_devices() - before) / size)
    return original(self, params)

  monkeypatch.setattr(device_layout.Layout, 'inference_params', counted)
  return found


def test_an_offloaded_reference_changes_nothing_but_memory(
  finished, tmp_path, held
):
  path = small_run.begin_from_base(
    finished, tmp_path / 'run', '--offload-reference'
  )
  assert small_run.main(path, '--offload-reference') == 0
  small_run.assert_same(finished, path)
  # Evaluations of base, Stage I and Stage II, and four steps of each stage.
  assert len(held) == 11
  # In the first two steps of each stage: parameters and two moments, and what
  # the step before left, which is little. Then a checkpoint is saved, and what
  # saving needs stays until the next collection of garbage.
  for training in (held[1:3], held[6:8]):
    assert min(training) > 2.9
    assert max(training) < 3.5


def test_adapters_share_the_base(finished, tmp_path, held):
  more = ('--lora.rank=2', '--learning-rate=1e-2')
  path = small_run.begin_from_base(finished, tmp_path / 'run', *more)
  assert small_run.main(path, *more) == 0
  # One copy of the weights for policy and reference; adapters and their
  # moments are less than half of even this small model, and there is a second
  # copy of them while they are saved.
  assert len(held) == 11
  assert max(held) < 2.8
