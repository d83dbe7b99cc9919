"""Grading math attempts, on public grading cases and on hostile answers."""

import contextlib
import itertools
import json
import re
import time

import pytest

from score_jax import types
from score_jax.grading import answer_text, math_grading, quantities
from score_jax.tasks import math_problems
from tests.support import shared_data

# Core rows of triples.jsonl that are graded unlike their label, and why.
KNOWN_DIFFERENCES = {
  r'\frac{3\sqrt{}{3}}{2}': 'the reference is damaged LaTeX: an empty root',
  r'[-5,1]\cup[3,9]': 'the attempt is damaged LaTeX: two inequalities in words',
  '1': 'the attempt has one dollar sign too many, and no formula',
}


@pytest.fixture(scope='module')
def grader():
  with contextlib.closing(math_grading.MathGrader(workers=2)) as held:
    yield held


def rows_of(name: str) -> list[dict]:
  lines = shared_data.path(f'grading/{name}').read_text().split('\n')
  return [json.loads(line) for line in lines if line]


def grade(grader, golds, preds) -> list[types.Verdict]:
  problems = [
    types.Problem(str(n), 'math', '', answer_text.stated(gold))
    for n, gold in enumerate(golds)
  ]
  return grader.grade(problems, [types.Attempt(pred) for pred in preds])


def final(answer: str) -> str:
  return f'Final Answer: The final answer is ${answer}$. I hope it is correct.'


def grade_stated(grader, golds, preds) -> list[types.Verdict]:
  """Verdicts on short texts that hold an answer, as the data's rows do."""
  return grader.grade_answers(
    [answer_text.stated(gold) for gold in golds],
    [answer_text.stated(pred) for pred in preds],
  )


def test_core_triples(grader):
  rows = [row for row in rows_of('triples.jsonl') if not row['tags']]
  verdicts = grade_stated(
    grader, [r['gold'] for r in rows], [r['pred'] for r in rows]
  )
  accepted_wrongly = [
    (row['gold'], row['pred'])
    for row, verdict in zip(rows, verdicts)
    if verdict.score == 1 and not row['expected']
  ]
  assert accepted_wrongly == []
  differ = {
    row['gold']
    for row, verdict in zip(rows, verdicts)
    if (verdict.score == 1) != row['expected']
  }
  assert differ == set(KNOWN_DIFFERENCES)
  assert 1 - len(differ) / len(rows) >= 0.96


def test_model_predictions(grader):
  rows = [
    row
    for row in rows_of('model_predictions.jsonl')
    if not row.get('suspect_label')
  ]
  verdicts = grade_stated(
    grader,
    [f'${row["gold"]}$' for row in rows],
    [f'${row["pred"]}$' for row in rows],
  )
  right = [(v.score == 1) == r['expected'] for v, r in zip(verdicts, rows)]
  assert len(rows) == 412
  assert sum(right) / len(rows) >= 0.99


def test_latex_that_cannot_be_parsed_holds_no_worker(grader):
  rows = rows_of('latex_parse_bad.jsonl')
  workers = grader.pool.pids
  verdicts = grade(
    grader, ['x+1'] * len(rows), [final(row['latex']) for row in rows]
  )
  assert {v.label for v in verdicts} <= {'wrong', 'unparseable'}
  assert {v.score for v in verdicts} == {0.0}
  assert max(v.seconds for v in verdicts) < 20
  assert grader.pool.pids == workers


PATHOLOGICAL = [
  '9**9**9**9',
  '99999999!',
  '10000000!',
  '9^{9^{9}}',
  '10^{10^{10}}',
  '123456789^{123456789}',
  '2^{2^{40}}',
  '(x+1)^{100000}',
  r'\sum_{n=1}^{100000} n!',
  r'\log' * 200 + ' 3',
  '{' * 400 + '1' + '}' * 400,
  '(' * 450 + '1' + ')' * 450,
  r'\sqrt{' * 100 + '2' + '}' * 100,
  r'\frac{1}{' * 90 + '2' + '}' * 90,
  '1' + '+1' * 450,
  'x' + '^x' * 300,
  r'\int_0^1 ' * 60 + 'x' + ' dx' * 60,
  "__import__('os').system('true')",
  '().__class__.__base__.__subclasses__()',
  '1,' * 480,
  '[0,1)' + r'\cup[0,1)' * 90,
  r'\begin{pmatrix}' + '1&' * 300 + r'1\end{pmatrix}',
  '5^{(5^{(5^{(5^5)})})}',
  'a' * 900,
]


def test_pathological_answers_hold_no_worker(grader):
  start = time.monotonic()
  workers = grader.pool.pids
  verdicts = grade(
    grader, ['x+1'] * len(PATHOLOGICAL), [final(p) for p in PATHOLOGICAL]
  )
  for answer, verdict in zip(PATHOLOGICAL, verdicts):
    assert verdict.score == 0.0, (answer[:40], verdict)
    assert verdict.label in ('wrong', 'unparseable', 'timeout'), answer[:40]
  assert time.monotonic() - start < 120
  assert grader.pool.pids == workers


@pytest.mark.parametrize(
  ('gold', 'attempt', 'label'),
  [
    ('5', final('5'), 'correct'),
    ('5', final('5.0'), 'correct'),
    ('5', 'so 5', 'unparseable'),
    ('5', r'\boxed{}', 'unparseable'),
    ('5', r'\boxed{3}, \boxed{4}, \boxed{5}', 'wrong'),
    ('5', final(r'3 \text{ or } 4 \text{ or } 5'), 'wrong'),
    ('5', final('x=3, x=4, x=5'), 'wrong'),
    ('5', final(r'\{3, 4, 5\}'), 'wrong'),
    ('3,4,5', r'\boxed{3}, \boxed{4}, \boxed{5}', 'correct'),
    ('5', r'\boxed{4} and then, on reflection, \boxed{5}', 'correct'),
    ('5', r'\boxed{5} and then, on reflection, \boxed{4}', 'wrong'),
    ('1', final('1' * 2000), 'unparseable'),
    ('11_2', final('11'), 'wrong'),
    (r'\frac{1}{3}', final('0.333333'), 'wrong'),
  ],
)
def test_attempts(grader, gold, attempt, label):
  [verdict] = grade(grader, [gold], [attempt])
  assert verdict.label == label
  assert verdict.score == (label == 'correct')


def test_equal_attempts_are_graded_once(grader):
  before = grader.pool.replaced
  attempts = [final(r'\sin^2 t + \cos^2 t')] * 300
  seen = []
  problems = [types.Problem('1', 'math', '', '1')] * 300
  verdicts = grader.grade(
    problems, [types.Attempt(text) for text in attempts], seen.append
  )
  assert {verdict.label for verdict in verdicts} == {'correct'}
  assert sum(seen) == 300
  assert grader.pool.replaced == before


def test_every_answer_of_math_500_is_its_own(grader):
  problems = math_problems.load_problems(str(shared_data.path('math').parent))[
    'test'
  ]
  spaced = [
    final(problem.reference.replace('\\frac', '\\dfrac ') + ' ')
    for problem in problems
  ]
  verdicts = grader.grade(problems, [types.Attempt(text) for text in spaced])
  assert [v for v in verdicts if v.label != 'correct'] == []
  assert math_grading.drop_unreadable(problems, grader) == problems


def test_references_that_cannot_be_read_are_left_out_loudly(grader, caplog):
  problems = [
    types.Problem('good', 'math', '', r'\frac{1}{2}'),
    types.Problem('words', 'math', '', r'\text{even}'),
    types.Problem('bad', 'math', '', r'\frac{'),
  ]
  kept = math_grading.drop_unreadable(problems, grader)
  assert [problem.id for problem in kept] == ['good', 'words']
  assert 'bad' in caplog.text


@pytest.mark.slow
def test_references_of_the_twelve_thousand(grader):
  problems = math_problems.load_problems(str(shared_data.path('math').parent))[
    'train'
  ]
  kept = math_grading.drop_unreadable(problems, grader)
  assert len(kept) >= len(problems) - 5


def spelling(answer: str):
  """An answer without its unit, spacing and full stop."""
  held = quantities.quantity(answer_text.plain(answer))
  number = quantities.exact_number(held.value)
  return number[0] if number else re.sub(r'[\s.,]', '', held.value)


@pytest.mark.slow
def test_different_answers_of_math_are_different(grader):
  splits = math_problems.load_problems(str(shared_data.path('math').parent))
  golds = sorted({p.reference for split in splits.values() for p in split})
  alike: dict[str, list[str]] = {}
  for gold in golds:
    alike.setdefault(re.sub('[0-9]+', '#', gold), []).append(gold)
  # Next in order, and next among those that differ in their numbers alone.
  pairs = list(itertools.pairwise(golds))
  for group in alike.values():
    pairs += itertools.pairwise(group)
    pairs += zip(group, group[2:])
  pairs += [(pred, gold) for gold, pred in pairs]
  verdicts = grader.grade_answers(*zip(*pairs))
  accepted = [p for p, v in zip(pairs, verdicts) if v.label == 'correct']
  assert len(pairs) > 15_000
  assert len(accepted) > 50
  assert [p for p in accepted if spelling(p[0]) != spelling(p[1])] == []
  assert {v.label for v in verdicts} <= {'correct', 'wrong', 'unparseable'}
