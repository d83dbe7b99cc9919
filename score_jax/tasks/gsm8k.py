"""GSM8K: grade-school word problems whose answer is one number.

Cobbe et al., arXiv:2110.14168: 7,473 problems to train on and 1,319 to test.
The number after `####` is the reference.
"""

from collections.abc import Mapping
import hashlib

from score_jax import types
from score_jax.tasks import downloads

_FILES = {
  split: (f'gsm8k/{split}.jsonl', f'{split}.jsonl')
  for split in ('train', 'test')
}


def load_problems(
  data_dir: str | None = None,
) -> dict[str, list[types.Problem]]:
  """Problems by split, `train` and `test`, ordered by id.

  Args:
    data_dir: directory with `gsm8k/train.jsonl` or `train.jsonl`, and the same
      of `test`; None downloads.
  """
  rows = downloads.read_or_download(data_dir, _FILES, downloads.gsm8k_rows)
  return {
    split: sorted(
      (_problem(row, split) for row in split_rows), key=lambda p: p.id
    )
    for split, split_rows in rows.items()
  }


def _problem(row: Mapping[str, str], split: str) -> types.Problem:
  # TFDS does not keep the file's order: the id is the question's own.
  digest = hashlib.sha256(row['question'].encode()).hexdigest()[:16]
  solution, _, reference = row['answer'].rpartition('####')
  return types.Problem(
    id=f'{split}/{digest}',
    task='gsm8k',
    question=row['question'],
    reference=reference.strip().replace(',', ''),
    columns={
      'question': row['question'],
      'answer': row['answer'],
      'solution': solution.strip(),
    },
  )
