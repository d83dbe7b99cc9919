"""The public names: they resolve, their examples and README's run."""

import doctest
import os
import pathlib
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import score_jax as sj

pytestmark = pytest.mark.usefixtures('quick_compilation')
ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def names(tmp_path_factory):
  """The variables of README's program, run in a directory of its own."""
  readme = (ROOT / 'README.md').read_text()
  section = readme[readme.index('## As a library') :]
  [program] = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
  variables = {}
  before = pathlib.Path.cwd()
  os.chdir(tmp_path_factory.mktemp('library'))
  exec(compile(program, 'README.md', 'exec'), variables)
  yield variables
  os.chdir(before)


def test_the_program_of_the_readme_learns(names):
  assert names['score'].shape == (64, 2)
  assert (names['score'].mean(axis=0) > 0.5).all()  # 0.05 at first
  assert all(type(a.text) is str for pair in names['attempts'] for a in pair)
  assert np.isfinite(float(names['metrics']['loss'][0]))
  per_problem = np.asarray(names['advantages']).reshape(8, 8, 2)
  np.testing.assert_allclose(per_problem.sum(axis=1), 0, atol=1e-4)
  moved = jax.tree.map(
    lambda new, old: bool((new != old).any()),
    names['state'].params,
    names['params'],
  )
  assert all(jax.tree.leaves(moved))


def test_the_examples_of_the_docstrings(names):
  # In the order of the names: what one example writes, a later one may read.
  runner = doctest.DocTestRunner()
  for name in sj.__all__:
    docstring = getattr(sj, name).__doc__
    assert 'Example:\n' in docstring, name
    variables = {**names, 'np': np}
    test = doctest.DocTestParser().get_doctest(
      docstring, variables, name, None, None
    )
    assert test.examples, name
    runner.run(test)
  assert not runner.failures


def test_a_wrong_name_gets_close_ones():
  with pytest.raises(AttributeError, match='shape_rewards'):
    _ = sj.shape_reward
  assert set(sj.__all__) <= set(dir(sj))


def test_the_front_door_imports_nothing():
  program = (
    'import sys\n'
    'before = set(sys.modules)\n'
    'import score_jax\n'
    'new = {*sys.modules} - before - {"score_jax"}\n'
    'libraries = {m.split(".")[0] for m in new} - sys.stdlib_module_names\n'
    'assert not libraries, libraries\n'
    'import score_jax.tasks.registry\n'
    'score_jax.load_task\n'
    'assert "jax" not in sys.modules\n'
  )
  child = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert child.returncode == 0, child.stderr
