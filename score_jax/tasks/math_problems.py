"""MATH: 12,000 problems to train on, 500 to test.

Hendrycks et al., arXiv:2103.03874, in the split of Lightman et al.,
arXiv:2305.20050, that the paper uses: the 7,500 training problems and 4,500 of
the 5,000 test problems, and the other 500.
"""

from collections.abc import Mapping, Sequence
import logging
import re
from typing import Any

from score_jax import types
from score_jax.grading import final_answer
from score_jax.tasks import downloads

_LOG = logging.getLogger(__name__)
# Jaccard index of shingles from which two questions count as near-duplicates:
# it finds all 26 listed pairs of the split and few others.
_NEAR = 0.6
# The authors' repository keeps them in Git LFS; here is what it stands for.
_AUTHORS = (
  'https://media.githubusercontent.com/media/openai/prm800k/main/prm800k/'
  'math_splits/'
)
_PUBLISHED = {
  'train': downloads.PublishedFile(
    (
      f'{_AUTHORS}train.jsonl',
      # Nobody else is known to publish it: the same repository's other door.
      'https://github.com/openai/prm800k/raw/main/prm800k/math_splits/'
      'train.jsonl',
    ),
    10896985,
    '90d96daeac3fe343ebb1e22ce93dd99690f75983e957f88de42f87cffe1e8076',
  ),
  'test': downloads.PublishedFile(
    (
      f'{_AUTHORS}test.jsonl',
      'https://huggingface.co/datasets/HuggingFaceH4/MATH-500/resolve/main/'
      'test.jsonl',
    ),
    446564,
    '35dc41080a3680858b27fa7e0533d2d547825316fc5dafe5d316f4ccc5a06132',
  ),
}
_FILES = {
  'train': (
    'math/math_train_12000_minus_math500.jsonl',
    'math_splits/train.jsonl',
    'math/train.jsonl',
    'train.jsonl',
  ),
  'test': (
    'math/math500_test.jsonl',
    'math_splits/test.jsonl',
    'math/test.jsonl',
    'test.jsonl',
  ),
}


def load_problems(
  data_dir: str | None = None, *, drop_near_duplicates: bool = False
) -> dict[str, list[types.Problem]]:
  """Problems by split, `train` and `test`, in the order of the files.

  A problem whose answer is empty is left out, and logged by name.

  Args:
    data_dir: directory of the split's files, as prm800k's `math_splits` has
      them; None downloads.
    drop_near_duplicates: leave out training problems that nearly repeat one of
      the test problems.
  """
  rows = downloads.read_or_download(
    data_dir,
    _FILES,
    lambda: downloads.raw_rows('score_math_splits', _PUBLISHED),
  )
  problems = {
    split: _with_answer([_problem(row) for row in split_rows])
    for split, split_rows in rows.items()
  }
  if drop_near_duplicates:
    copies = near_duplicates(problems['train'], problems['test'])
    _LOG.warning(
      'left out %d training problems that nearly repeat test problems: %s',
      len(copies),
      ', '.join(sorted(copies)),
    )
    problems['train'] = [p for p in problems['train'] if p.id not in copies]
  return problems


def _problem(row: Mapping[str, Any]) -> types.Problem:
  level = re.search('[0-9]', str(row.get('level', '')))
  answer = row.get('answer')
  if answer is None:
    answer = final_answer.last_box(row['solution']) or ''
  return types.Problem(
    id=row['unique_id'].removesuffix('.json'),
    task='math',
    question=row['problem'],
    reference=answer.strip(),
    columns={**row, 'level': int(level.group()) if level else None},
  )


def _with_answer(problems: Sequence[types.Problem]) -> list[types.Problem]:
  empty = [problem.id for problem in problems if not problem.reference]
  if empty:
    _LOG.warning('left out, because no answer is given: %s', ', '.join(empty))
  return [problem for problem in problems if problem.reference]


def near_duplicates(
  problems: Sequence[types.Problem], others: Sequence[types.Problem]
) -> dict[str, str]:
  """Ids of `problems` that nearly repeat one of `others`, to the latter's id.

  Two questions are compared by the Jaccard index of their sets of five
  consecutive words.
  """
  shingles = {problem.id: _shingles(problem.question) for problem in others}
  holders: dict[tuple[str, ...], list[str]] = {}
  for other, parts in shingles.items():
    for part in parts:
      holders.setdefault(part, []).append(other)
  found = {}
  for problem in problems:
    parts = _shingles(problem.question)
    candidates = {other for part in parts for other in holders.get(part, ())}
    for other in sorted(candidates):
      both = len(parts & shingles[other])
      if both >= _NEAR * len(parts | shingles[other]):
        found[problem.id] = other
        break
  return found


def _shingles(question: str, length: int = 5) -> set[tuple[str, ...]]:
  words = re.findall('[a-z0-9]+', question.lower())
  if len(words) <= length:
    return {tuple(words)}
  return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}
