"""GSM8K: grade-school word problems whose answer is one number.

Cobbe et al., arXiv:2110.14168: 7,473 problems to train on and 1,319 to test.
The number after `####` is the reference; an attempt is right where the number
it ends on is exactly that.
"""

from collections.abc import Mapping
import fractions
import hashlib
import re

from score_jax import types
from score_jax.grading import direct_grading, final_answer
from score_jax.tasks import downloads, records

_THOUSANDS = re.compile(
  r'(?<![\w.])[0-9]{1,3}(?:(?:,|\{,\}|\\[,!])[0-9]{3})+(?![0-9])'
)
_NUMBER = re.compile(
  r'(?<![\w./])(?:[-+\u2212]\s*)?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)'
  r'(?:\s*/\s*[0-9]+)?(?![0-9]|\.[0-9])'
)
_ARITHMETIC = re.compile(r'[0-9]\s*(?:[*^!_]|\\(?:times|cdot)|[eE][0-9])')
_FRACTION = re.compile(r'\\[dt]?frac\s*\{(\d{1,30})\}\s*\{(\d{1,30})\}')
_LONGEST_ANSWER = 500


def load_problems(
  data_dir: str | None = None,
) -> dict[str, list[types.Problem]]:
  """Problems by split, `train` and `test`, ordered by id.

  Args:
    data_dir: directory with `gsm8k/train.jsonl` or `train.jsonl`, and the same
      of `test`; None downloads.
  """
  if data_dir is None:
    rows = downloads.gsm8k_rows()
  else:
    rows = {
      split: records.read_rows(
        records.find_file(data_dir, (f'gsm8k/{split}.jsonl', f'{split}.jsonl'))
      )
      for split in ('train', 'test')
    }
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


def parse_number(answer: str) -> fractions.Fraction | None:
  """The one number that `answer` states, exactly.

  Currency, units, thousands separators and '%' are read over, and so is what
  stands before an equals sign. None where there is no number, or several
  different ones.
  """
  if len(answer) > _LONGEST_ANSWER:
    return None
  answer = answer.rpartition('=')[2].replace('\\$', ' ').replace('$', ' ')
  answer = re.sub(r'\\(?:text|mathrm|textbf|mathbf)\{', ' ', answer)
  answer = re.sub(r'(?<=[A-Za-z}])\s*\^\{?[23]\}?', '', answer)
  answer = _FRACTION.sub(r' \1/\2 ', answer)
  answer = _THOUSANDS.sub(lambda m: re.sub('[^0-9]', '', m.group()), answer)
  if _ARITHMETIC.search(answer):
    return None
  found = {_fraction(match.group()) for match in _NUMBER.finditer(answer)}
  return found.pop() if len(found) == 1 else None


def _fraction(text: str) -> fractions.Fraction | None:
  text = ''.join(text.split()).replace('\u2212', '-')
  try:
    return fractions.Fraction(text)
  except ZeroDivisionError:
    return None


def grade_answer(reference: str, text: str) -> tuple[types.VerdictLabel, str]:
  """(label, reason) of one attempt's text against the reference number."""
  answer = final_answer.final_answer(text)
  if answer is None:
    return 'unparseable', 'the attempt states no final answer'
  number = parse_number(answer)
  if number is None:
    return 'unparseable', f'not one number: {answer[:80]!r}'
  if number == parse_number(reference):
    return 'correct', ''
  return 'wrong', f'{answer[:80]!r} is not {reference}'


def make_grader() -> types.Grader:
  """Judges by the final number alone."""
  return direct_grading.DirectGrader(grade_answer)
