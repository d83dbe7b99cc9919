"""setup.cfg declares what is imported, and nothing else."""

import ast
import importlib.metadata
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
OWN = {*sys.stdlib_module_names, 'score_jax', 'experiments'}


def canonical(requirement):
  """`math-verify[antlr]>=1` and `math_verify` -> `math-verify`."""
  name = re.match(r'[\w.-]+', requirement).group()
  return re.sub('[-_.]+', '-', name).lower()


def declared():
  """(needed, of extras): distribution -> the comment above it."""
  text = (ROOT / 'setup.cfg').read_text()
  pattern = r'((?:^  #.*\n)*)^  ([\w.-]+\S*[=>]\S+)$'
  needed, extras = (
    {
      canonical(name): why
      for why, name in re.findall(pattern, part.split('\n[')[0], re.MULTILINE)
    }
    for part in re.split(r'install_requires =|extras_require\]', text)[1:]
  )
  return needed, extras


def imported():
  """Distributions that score_jax and experiments import by name."""
  names = set()
  for path in (
    *ROOT.glob('score_jax/**/*.py'),
    *ROOT.glob('experiments/**/*.py'),
  ):
    # What benchmarks compare with has an environment of its own.
    tree = ast.parse('' if 'baselines' in path.parts else path.read_text())
    for node in ast.walk(tree):
      match node:
        case ast.Import():
          names |= {alias.name for alias in node.names}
        case ast.ImportFrom(level=0):
          names.add(node.module)
        case ast.Call(
          func=ast.Attribute(attr='import_module'),
          args=[ast.Constant(value=name), *_],
        ):
          names.add(name)
  owners = importlib.metadata.packages_distributions()
  modules = {name.partition('.')[0] for name in names} - OWN
  return {canonical(owners.get(module, [module])[0]) for module in modules}


def test_what_is_imported_is_declared_and_nothing_else():
  (needed, extras), used = declared(), imported()
  assert not used - needed.keys() - extras.keys()
  idle = needed.keys() - used
  assert not {name for name in idle if 'Not imported here' not in needed[name]}
  # Tests apart, an extra has only what a program does without.
  assert used - needed.keys() <= {
    'gguf',
    'huggingface-hub',
    'kagglehub',
    'torch',
    'transformers',
  }
