"""The notebooks: clean, and run from the top down on a CPU."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from tests.support import exports, launch_files

ROOT = launch_files.LAUNCH.parent
# Runs in an environment with nbclient: IN OUT CELL, where CELL is the source of
# one that follows the parameters, as papermill's does. Nobody can be asked.
EXECUTE = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
[at] = [i for i, cell in enumerate(notebook.cells)
        if 'parameters' in cell.metadata.get('tags', [])]
notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(sys.argv[3]))
try:
  nbclient.execute(notebook, timeout=3600, kernel_name='python3')
finally:
  nbformat.write(notebook, sys.argv[2])
"""
TINY = (
  '--pretrain.steps=2 --pretrain.least-steps=0 --pretrain.rows=4 '
  '--steps-stage1=2 --steps-stage2=2 --problems-per-step=2 --micro-batch=2 '
  '--samples-per-problem=2 --validation-problems=20 --eval-problems=4'
)
WORDS = (
  '--model.name=None --problems-per-step=2 --samples-per-problem=2 '
  '--micro-batch=2 --max-prompt-tokens=512 --max-attempt-tokens=4 '
  '--steps-stage1=1 --steps-stage2=1 --eval-problems=2 --eval-every=0 '
  '--lora.rank=2 --train-problems=20 --validation-problems=2'
)
GEMMA = (
  '--model.name=None --problems-per-step=2 --samples-per-problem=2 '
  '--micro-batch=2 --max-prompt-tokens=512 --max-attempt-tokens=4 '
  '--steps-stage1=1 --steps-stage2=1 --eval-problems=2 --validation-problems=2 '
  '--eval-every=0 --workers=1 --data-dir={data}'
)


@pytest.mark.parametrize('path', launch_files.NOTEBOOKS, ids=launch_files.name)
def test_notebooks_are_clean(path):
  notebook = json.loads(path.read_text())
  assert (notebook['nbformat'], notebook['nbformat_minor']) == (4, 0)
  assert set(notebook) == {'cells', 'metadata', 'nbformat', 'nbformat_minor'}
  for cell in notebook['cells']:
    # Short: a cell is a command, and nothing was run.
    assert len(cell['source']) <= 12
    if cell['cell_type'] == 'code':
      assert cell['outputs'] == []
      assert cell['execution_count'] is None
  assert notebook['cells'][1]['metadata']['tags'] == ['parameters']


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
  """A copy of the working tree, as git would clone it."""
  target = tmp_path_factory.mktemp('notebooks') / 'score_jax'
  listed = subprocess.run(
    ['git', '-C', str(ROOT), 'ls-files', '-co', '--exclude-standard'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  for name in listed.stdout.splitlines():
    if (ROOT / name).is_file():
      (target / name).parent.mkdir(parents=True, exist_ok=True)
      shutil.copy(ROOT / name, target / name)
  return target


@pytest.fixture(scope='module')
def jupyter(tmp_path_factory):
  """A Python with what runs notebooks."""
  directory = tmp_path_factory.mktemp('jupyter')
  subprocess.run([sys.executable, '-m', 'venv', directory], check=True)
  python = directory / 'bin' / 'python'
  subprocess.run(
    [python, '-m', 'pip', 'install', '--quiet', 'nbclient', 'ipykernel'],
    check=True,
  )
  return python


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """A directory with a small Gemma 3 as published ones are."""
  directory = tmp_path_factory.mktemp('weights') / 'gemma'
  exports.make('gemma3').export(directory)
  return directory


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """A directory with a few problems in GSM8K's format."""
  directory = tmp_path_factory.mktemp('gsm8k')
  for split, numbers in {'train': range(1, 13), 'test': range(50, 55)}.items():
    rows = [
      {
        # Longer than what the notebooks ask at the end.
        'question': f'A pen costs {n} dollars, and Ann buys no other thing '
        'than that one pen. What does she pay for the pen in the end?',
        'answer': f'#### {n}',
      }
      for n in numbers
    ]
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    (directory / f'{split}.jsonl').write_text(text)
  return directory


@pytest.mark.slow
@pytest.mark.parametrize('path', launch_files.NOTEBOOKS, ids=launch_files.name)
def test_notebooks_run_from_the_top_down(
  path, clone, jupyter, weights, data, tmp_path
):
  """Installation included, which the second finds done."""
  keep = tmp_path / 'keep'
  parameters = {
    'ACCELERATOR': 'cpu',
    'PUBLISHED': str(weights),
    'WEIGHTS': str(weights),
    'KEEP': str(keep),
    'TINY': TINY,
    'WORDS': WORDS,
    'GEMMA': GEMMA.format(data=data),
  }
  shutil.rmtree(clone / 'runs', ignore_errors=True)
  executed = tmp_path / 'executed.ipynb'
  found = subprocess.run(
    [jupyter, '-c', EXECUTE, path, executed,
     '\n'.join(f'{name} = {value!r}' for name, value in parameters.items())],
    cwd=clone / 'launch',
    env=os.environ | {'XLA_FLAGS': '', 'JUPYTER_PLATFORM_DIRS': '1'},
    capture_output=True, text=True,
  )  # fmt: skip
  outputs = _outputs(executed)
  assert found.returncode == 0, found.stderr + outputs
  pictures = path.read_text().count('display.Image(')
  assert outputs.count('image/png') == pictures, outputs
  assert 'Stage II' in outputs
  assert 'attempt 2' in outputs.rpartition('quit ends it.')[2], outputs
  assert '</html>' in (keep / 'report.html').read_text()
  assert json.loads((keep / 'results.json').read_text())
  assert (keep / 'corrected' / 'model.safetensors').is_file()
  for wrong in ('Traceback', 'error:', 'No such file'):
    assert wrong not in outputs, outputs


def _outputs(path: pathlib.Path) -> str:
  """What cells printed, and the kinds of what they show."""
  if not path.is_file():
    return ''
  outputs = [
    output
    for cell in json.loads(path.read_text())['cells']
    for output in cell.get('outputs', ())
  ]
  return '\n'.join(
    ''.join(output.get('text', '')) + ' '.join(output.get('data', ()))
    for output in outputs
  )
