"""Enforces the floors: imports go down only and never in circles.

experiments -> evaluation -> rollout | training
            -> algorithm | tasks -> grading | interop -> models
            -> checkpoints | io -> distributed, arrays, types
"""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

# The higher may import the lower. Packages of one height never each other;
# `arrays` may import `types`.
HEIGHTS = {
  'experiments': 7,
  'score_jax.evaluation': 6,
  'score_jax.rollout': 5,
  'score_jax.training': 5,
  'score_jax.interop': 4,
  'score_jax.algorithm': 3,
  'score_jax.tasks': 4,
  'score_jax.grading': 3,
  'score_jax.models': 3,
  'score_jax.checkpoints': 2,
  'score_jax.io': 2,
  'score_jax.arrays': 1,
  'score_jax.cluster': 2,
  'score_jax.distributed': 1,
  'score_jax.heartbeat': 1,
  'score_jax.types': 0,
}

# Floors that grader processes import.
GRADERS = ('score_jax.tasks', 'score_jax.grading')

# Libraries that only some floors may import.
RESERVED = {
  'tyro': ('experiments',),
  'tensorboardX': ('score_jax.io',),
  'rich': ('experiments',),
  'matplotlib': ('experiments',),
}
# Libraries that a floor may not import, beyond RESERVED.
FORBIDDEN = {
  'score_jax.algorithm': ('flax', 'optax', 'orbax', 'os', 'pathlib', 'json'),
  'score_jax.tasks': ('jax', 'flax', 'optax', 'orbax', 'chex'),
  'score_jax.grading': ('jax', 'flax', 'optax', 'orbax', 'chex'),
  'score_jax.types': ('jax', 'numpy'),
}

# Names of the library for those who import it; imports nothing by itself.
FRONT_DOOR = 'score_jax/__init__.py'
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_FOLDER_FILES = 15
# What may be longer, with a reason that a reader would accept: 'file.py' or
# 'file.py:function' -> reason.
LONGER = {}


def _sources():
  """Pairs of module name and path, tests excluded."""
  for package in ('score_jax', 'experiments'):
    for path in sorted((ROOT / package).rglob('*.py')):
      parts = path.relative_to(ROOT).with_suffix('').parts
      yield '.'.join(p for p in parts if p != '__init__'), path


def _floor(module):
  """The entry of HEIGHTS that a module belongs to, or None."""
  return next(
    (f for f in HEIGHTS if module == f or module.startswith(f + '.')), None
  )


def imports(module, source, *, is_package=False):
  """Absolute names of what a module imports, wherever in it.

  `from a import b` counts as `a.b`, which is `a`'s floor or, where `a` is
  score_jax itself, `b`'s.
  """
  names = set()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      base = node.module or ''
      if node.level:
        parents = module.split('.')
        up = node.level - is_package
        parents = parents[: len(parents) - up]
        base = '.'.join([*parents, *([base] if base else [])])
      names.update(f'{base}.{alias.name}' for alias in node.names)
  return names


def violations(module, source, **kwargs):
  """One sentence for each import of a module that goes up or sideways."""
  floor = _floor(module)
  found = []
  for name in sorted(imports(module, source, **kwargs)):
    target, library = _floor(name), name.split('.')[0]
    if target and floor != target and HEIGHTS[target] >= HEIGHTS[floor]:
      found.append(f'{module} imports {name}: imports go down only')
    if library in FORBIDDEN.get(floor, ()):
      found.append(f'{module} imports {name}: not on the floor {floor}')
    if library in RESERVED and floor not in RESERVED[library]:
      found.append(f'{module} imports {name}: only {RESERVED[library]} may')
  return found


def long_parts(name, source):
  """One sentence for a file over its budget, and for each such function."""
  found = []
  lines = len(source.splitlines())
  if lines > MAX_FILE_LINES and name not in LONGER:
    found.append(f'{name} has {lines} lines; the budget is {MAX_FILE_LINES}')
  for node in ast.walk(ast.parse(source)):
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      continue
    first = node.body[0]
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is not None:
      lines -= first.end_lineno - first.lineno + 1
    key = f'{name}:{node.name}'
    if lines > MAX_FUNCTION_LINES and key not in LONGER:
      found.append(
        f'{key} has {lines} lines without its docstring; the budget is '
        f'{MAX_FUNCTION_LINES}'
      )
  return found


def test_every_module_has_a_floor():
  packages = {'score_jax', 'experiments'}
  homeless = [m for m, _ in _sources() if not _floor(m) and m not in packages]
  assert not homeless, f'add a height for {homeless}, or move them'


def test_imports_go_down_only():
  found = []
  for module, path in _sources():
    is_package = path.name == '__init__.py'
    if not (is_package and not path.read_text()):
      found += violations(module, path.read_text(), is_package=is_package)
  assert not found, '\n'.join(found)


@pytest.mark.parametrize(
  ('module', 'source', 'is_allowed'),
  [
    ('score_jax.rollout.engine', 'import score_jax.models.layers', True),
    ('score_jax.rollout.engine', 'from score_jax import arrays, types', True),
    ('score_jax.rollout.engine', 'from score_jax import training', False),
    ('score_jax.rollout.engine', 'from ..training import step', False),
    ('score_jax.rollout.engine', 'from . import buckets', True),
    ('score_jax.rollout.engine', 'import rich.table', False),
    ('experiments.reporting.tables', 'import rich.table', True),
    ('score_jax.algorithm.losses', 'from score_jax.models import lora', False),
    ('score_jax.algorithm.losses', 'def f():\n  import flax', False),
    ('score_jax.arrays', 'from score_jax import types', True),
    ('score_jax.types', 'from score_jax import arrays', False),
    ('score_jax.tasks.gsm8k', 'from jax import numpy', False),
    ('score_jax.training.rl_update', 'from experiments import settings', False),
    ('experiments.train', 'from score_jax.evaluation import metrics', True),
    ('experiments.train', 'import tyro', True),
  ],
)
def test_the_rule_itself(module, source, is_allowed):
  assert (violations(module, source) == []) == is_allowed


def arrows():
  """Pairs (module, module of this repository that it imports)."""
  modules = {module for module, _ in _sources()}
  found = set()
  for module, path in _sources():
    is_package = path.name == '__init__.py'
    for name in imports(module, path.read_text(), is_package=is_package):
      # `from package import module` or `from module import thing`.
      target = name if name in modules else name.rpartition('.')[0]
      if target in modules and target != module:
        found.add((module, target))
  return found


def in_circles(pairs):
  """The modules that import themselves by way of others, sorted."""
  pairs = set(pairs)
  while True:
    # A module that imports nothing, or that nothing imports, is in no circle.
    left = {a for a, _ in pairs} & {b for _, b in pairs}
    fewer = {(a, b) for a, b in pairs if a in left and b in left}
    if fewer == pairs:
      return sorted(left)
    pairs = fewer


def test_no_circles():
  assert not in_circles(arrows()), 'files import each other in a circle'


def test_the_search_for_circles_itself():
  tree = [('a', 'b'), ('a', 'c'), ('b', 'c'), ('c', 'd')]
  assert in_circles(tree) == []
  assert in_circles([*tree, ('d', 'b')]) == ['b', 'c', 'd']


def test_no_folder_is_a_corridor():
  counts = {}
  for _, path in _sources():
    if path.name != '__init__.py':
      folder = str(path.parent.relative_to(ROOT))
      counts[folder] = counts.get(folder, 0) + 1
  crowded = {f: n for f, n in counts.items() if n > MAX_FOLDER_FILES}
  assert not crowded, f'more than {MAX_FOLDER_FILES} files: {crowded}'


def test_the_readme_has_every_folder():
  readme = (ROOT / 'README.md').read_text()
  code_map = readme[readme.index('## Map of the code') :]
  folders = {path.parent.name for _, path in _sources()}
  missing = [name for name in sorted(folders) if f'{name}/' not in code_map]
  assert not missing, f"README's map of the code lacks {missing}"


def test_package_files_are_empty():
  # Importing one module of a package must not import the others: graders
  # import score_jax.tasks without jax.
  full = [
    str(path.relative_to(ROOT))
    for _, path in _sources()
    if path.name == '__init__.py'
    and path.read_text()
    and str(path.relative_to(ROOT)) != FRONT_DOOR
  ]
  assert not full, f'package files with contents: {full}'


def test_tasks_run_without_jax():
  modules = [m for m, _ in _sources() if _floor(m) in GRADERS]
  program = (
    'import importlib, sys\n'
    f'for name in {["score_jax.types", *modules]!r}:\n'
    '  importlib.import_module(name)\n'
    'heavy = {"jax", "jaxlib", "flax", "tensorflow", "torch"}\n'
    'sys.exit(" ".join(sorted(heavy & set(sys.modules))) or 0)\n'
  )
  child = subprocess.run(
    [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True
  )
  assert child.returncode == 0, f'importing tasks/ brought {child.stderr}'


def test_files_and_functions_are_short():
  found = []
  for _, path in _sources():
    name = str(path.relative_to(ROOT))
    found += long_parts(name, path.read_text())
  assert not found, '\n'.join(found)


def test_the_budgets_themselves():
  body = '  x = 1\n' * MAX_FUNCTION_LINES
  assert len(long_parts('f.py', f'def f():\n{body}')) == 1
  assert not long_parts('f.py', f'def f():\n{body[8:]}')
  docstring = '  """One.\n' + '\n' * 50 + '  """\n'
  assert not long_parts('f.py', f'def f():\n{docstring}{body[8:]}')
  assert len(long_parts('f.py', '\n' * (MAX_FILE_LINES + 1))) == 1


def test_exceptions_to_the_budgets_are_needed():
  for key in LONGER:
    name, _, function = key.partition(':')
    source = (ROOT / name).read_text()
    lines = len(source.splitlines())
    assert lines > MAX_FILE_LINES or function in source, f'{key}: remove it'
