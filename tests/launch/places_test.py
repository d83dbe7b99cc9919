"""What files under launch/ run has flags that exist, and fits its slice.

The flags of docs/places.md, too.
"""

import re

import pytest

from experiments import chat, convert, doctor, plan
from experiments.config import command_line
from experiments.planning import chips, estimate, report, workload
from tests.support import launch_files

_OPTIONS = {
  'chat': chat.Options,
  'convert': convert.Options,
  'doctor': doctor.Settings,
  'plan': plan.Options,
}
_PAIRS = launch_files.pairs()
_DOCUMENT = launch_files.LAUNCH.parent / 'docs' / 'places.md'


@pytest.mark.parametrize(
  'path', [*launch_files.FILES, _DOCUMENT], ids=lambda path: path.name
)
def test_flags_exist(path, tmp_path):
  commands = launch_files.commands(path)
  assert commands
  for module, arguments in commands:
    # What only the other machine can have.
    local = [
      re.sub(r'^(--(?:init-from|run-dir)=).*', rf'\1{tmp_path}', argument)
      for argument in arguments
    ]
    if module == 'train':
      command_line.parse_settings(local)
    elif arguments:
      command_line.parse(_OPTIONS[module], local, program=module, document='')
    else:
      assert module in _OPTIONS


def test_what_is_found_in_files():
  """The readers of files find what is there, so that the others check it."""
  found = dict.fromkeys(pair[0] for pair in _PAIRS)
  assert [*found] == [
    'colab/score_jax.ipynb',
    'gke/jobset.yaml',
    'kaggle/score_jax.ipynb',
    'skypilot.yaml',
    'tpu_vm.sh',
  ]
  colab = 'colab/score_jax.ipynb', 'gemma3_270m_gsm8k_colab'
  assert [*_PAIRS[:2]] == [(*colab, 'v5e-1'), (*colab, 'v6e-1')]
  assert ('colab/score_jax.ipynb', 'gemma3_270m_words', 'v5e-1') in _PAIRS
  assert ('gke/jobset.yaml', 'gemma3_1b_gsm8k_v5e8', 'v5e-8') in _PAIRS
  commands = launch_files.commands(launch_files.NOTEBOOKS[0])
  modules = ['train', 'doctor', 'train', 'train', 'convert', 'chat']
  assert [module for module, _ in commands] == modules
  assert commands[0][1] == ['--run-dir=runs/tiny']
  assert commands[4][1] == ['--from=runs/gemma3_270m', '--to=$KEEP/corrected']


@pytest.mark.parametrize(('file', 'preset', 'slice_'), _PAIRS)
def test_presets_fit_their_slices(file, preset, slice_):
  """The slice that its document plans, which a slow test compiles, or a larger.

  Larger: chips of no less memory, a multiple of as many, which share a batch.
  """
  planned = launch_files.planned_slice(preset)
  (chip, shape), (planned_chip, planned_shape) = (
    chips.SLICES[slice_],
    chips.SLICES[planned],
  )
  count = chips.count(shape)
  assert chip.memory >= planned_chip.memory
  assert count % chips.count(planned_shape) == 0
  settings, _ = command_line.load_preset(preset)
  assert settings.problems_per_step % count == 0
  assert settings.micro_batch_size % count == 0


@pytest.mark.slow
@pytest.mark.parametrize(
  ('preset', 'slice_'),
  sorted(
    {
      (preset, slice_)
      for _, preset, slice_ in _PAIRS
      if slice_ != launch_files.planned_slice(preset)
    }
  ),
)
def test_other_slices_by_the_compiler(preset, slice_):
  pytest.importorskip('libtpu')
  settings, _ = command_line.load_preset(preset)
  chip, devices = chips.find(slice_)
  found = estimate.make(workload.make(settings, devices), chip)
  assert found.fits, report.record(found, slice_, [])
