"""MBPP, HumanEval and program repair: problems that are graded by tests.

Austin et al., arXiv:2108.07732 (tasks 601-974 to train on, 511-600 to
validate, 11-510 to test, 1-10 for prompts); Chen et al., arXiv:2107.03374.
Repair is in the manner of MBPP-R (Ni et al., arXiv:2404.14662): the first
attempt is given and wrong, and the second is graded.
"""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import logging
from typing import Any

from score_jax import types
from score_jax.grading import code_testing
from score_jax.tasks import downloads, records

_LOG = logging.getLogger(__name__)
_MBPP = (
  'https://raw.githubusercontent.com/google-research/google-research/master/'
  'mbpp/',
  'https://huggingface.co/datasets/Muennighoff/mbpp/resolve/main/data/',
)
_PUBLISHED = {
  'mbpp.jsonl': downloads.PublishedFile(
    tuple(f'{place}mbpp.jsonl' for place in _MBPP),
    563743,
    'ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f',
  ),
  'sanitized-mbpp.json': downloads.PublishedFile(
    tuple(f'{place}sanitized-mbpp.json' for place in _MBPP),
    255053,
    'ca95deaa9a01ef0a6f439f88bcf0dd3db3563d22f22aad6cae04ebb9a8d8c8e9',
  ),
  'HumanEval.jsonl.gz': downloads.PublishedFile(
    (
      'https://raw.githubusercontent.com/openai/human-eval/master/data/'
      'HumanEval.jsonl.gz',
      'https://cdn.jsdelivr.net/gh/openai/human-eval@master/data/'
      'HumanEval.jsonl.gz',
    ),
    44877,
    'b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef',
  ),
}
_MBPP_SPLITS = {
  'prompt': range(1, 11),
  'test': range(11, 511),
  'validation': range(511, 601),
  'train': range(601, 975),
}


def load_mbpp(
  data_dir: str | None = None, *, sanitized: bool = False
) -> dict[str, list[types.Problem]]:
  """MBPP's problems by split: `prompt`, `train`, `validation`, `test`.

  Args:
    data_dir: directory of `mbpp.jsonl` (`sanitized-mbpp.json`); None downloads.
    sanitized: the 427 problems checked by hand.
  """
  name = 'sanitized-mbpp.json' if sanitized else 'mbpp.jsonl'
  store = 'score_mbpp_sanitized' if sanitized else 'score_mbpp'
  rows = downloads.read_or_download(
    data_dir,
    {'all': (f'mbpp/{name}', name)},
    lambda: downloads.raw_rows(store, {'all': _PUBLISHED[name]}),
  )
  problems = {row['task_id']: _mbpp_problem(row) for row in rows['all']}
  return {
    split: [problems[number] for number in numbers if number in problems]
    for split, numbers in _MBPP_SPLITS.items()
  }


def _mbpp_problem(row: Mapping[str, Any]) -> types.Problem:
  tests = [_unix(test) for test in row['test_list']]
  question = _unix(row.get('text') or row['prompt'])
  return types.Problem(
    id=f'MBPP/{row["task_id"]}',
    task='mbpp',
    question=question,
    reference=_unix(row['code']),
    columns={
      'question': question,
      'shown_tests': '\n'.join(tests),
      'tests': tests,
      'visible_tests': len(tests),
      'entry_point': code_testing.entry_point(tests),
      # Two rows have it, and use a class that only the program defines.
      'setup': _unix(row.get('test_setup_code', '')),
      'helpers': '\n'.join(row.get('test_imports', ())),
    },
  )


def _unix(text: str) -> str:
  return text.replace('\r\n', '\n').replace('\r', '\n')


def load_humaneval(data_dir: str | None = None) -> list[types.Problem]:
  """HumanEval's 164 problems.

  Args:
    data_dir: directory of `HumanEval.jsonl.gz`; None downloads.
  """
  name = 'HumanEval.jsonl.gz'
  rows = downloads.read_or_download(
    data_dir,
    {'test': (f'humaneval/{name}', name, 'HumanEval.jsonl')},
    lambda: downloads.raw_rows('score_humaneval', {'test': _PUBLISHED[name]}),
  )
  return [_humaneval_problem(row) for row in rows['test']]


def _humaneval_problem(row: Mapping[str, Any]) -> types.Problem:
  return types.Problem(
    id=row['task_id'],
    task='humaneval',
    question=row['prompt'],
    reference=row['prompt'] + row['canonical_solution'],
    columns=humaneval_columns(row['prompt'], row['entry_point'], row['test']),
  )


def humaneval_columns(
  prompt: str, entry_point: str, test: str
) -> dict[str, Any]:
  """Columns of a problem whose test code defines `check(candidate)`.

  Args:
    prompt: signature and docstring, after imports and helper functions.
    entry_point: name of the function.
    test: test code.
  """
  called = f'check({entry_point})'
  return {
    'question': prompt,
    'tests': [test if called in test else f'{test}\n{called}'],
    'entry_point': entry_point,
    'prelude': prompt,
    'prompt_code': prompt,
    # Four tests call what the prompt defines besides the function.
    'helpers': _helpers(prompt, entry_point),
  }


def _helpers(prompt: str, entry_point: str) -> str:
  """The code that a prompt has besides its function."""
  try:
    tree = ast.parse(prompt)
  except SyntaxError:
    return ''
  kept = [n for n in tree.body if getattr(n, 'name', None) != entry_point]
  return '\n'.join(ast.unparse(node) for node in kept)


def load_repair(
  path: str, known: Sequence[types.Problem]
) -> list[types.Problem]:
  """Problems with a given first attempt, from a JSONL or Parquet file.

  A row names a problem by `task_id` (`MBPP/76`, `76` or `HumanEval/3`) and
  holds the program in `given_attempt` or `solution`. Rows that name another
  problem are left out, and so are those whose `is_solved` is true: there is
  nothing to repair.

  Args:
    path: the file.
    known: problems that rows may name.

  Raises:
    ValueError: a row of a known problem holds no program.
  """
  by_id = {problem.id: problem for problem in known}
  problems = []
  for number, row in enumerate(records.read_rows(path), start=1):
    if row.get('is_solved'):
      continue
    program = row.get('given_attempt') or row.get('solution')
    task_id = str(row.get('task_id', ''))
    problem = by_id.get(task_id) or by_id.get(f'MBPP/{task_id}')
    if problem is None:
      continue
    if not program:
      raise ValueError(f'{path}, row {number}: needs `given_attempt`')
    problems.append(
      dataclasses.replace(
        problem,
        id=f'{problem.id}/{row.get("id", number)}',
        task='repair',
        columns={**problem.columns, 'given_attempt': program},
      )
    )
  _LOG.info('%d wrong programs to repair in %s', len(problems), path)
  return problems
