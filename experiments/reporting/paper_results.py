"""What the paper reports, to stand beside a run's numbers; in percent.

arXiv:2409.12917v2 and the camera-ready version (ICLR 2025), whose tables are
numbered differently where they have grown.
"""

from collections.abc import Mapping, Sequence
import dataclasses


@dataclasses.dataclass(frozen=True)
class PaperTable:
  """A table of the paper.

  Attributes:
    title: what it shows, on which problems, with which model.
    source: where it stands.
    headings: of the columns after the first.
    rows: by method.
  """

  title: str
  source: str
  headings: Sequence[str]
  rows: Mapping[str, Sequence[float | None]]


_FIVE = ('Accuracy@t1', 'Accuracy@t2', 'Δ(t1,t2)', 'Δ i→c', 'Δ c→i')
_THREE = _FIVE[:3]

MATH = PaperTable(
  'MATH, 500 problems, Gemini 1.5 Flash',
  'tables 1 and 2',
  _FIVE,
  {
    'Base model': (52.6, 41.4, -11.2, 4.6, 15.8),
    'Self-Refine': (52.8, 51.8, -1.0, 3.2, 4.2),
    'STaR, D': (55.4, 41.2, -14.2, 5.4, 19.6),
    'STaR, D+': (53.6, 54.0, 0.4, 2.6, 2.2),
    'Pair-SFT, D': (52.4, 54.2, 1.8, 5.4, 3.6),
    'Pair-SFT, D+': (55.0, 55.0, 0.0, 0.0, 0.0),
    'SCoRe': (60.0, 64.4, 4.4, 5.8, 1.4),
  },
)
MATH_ABLATIONS = PaperTable(
  'Ablations on MATH, Gemini 1.5 Flash',
  'table 4; the last row in the camera-ready version',
  _THREE,
  {
    'SCoRe': (60.0, 64.4, 4.4),
    'without multi-turn training': (61.8, 59.4, -2.4),
    'without Stage I': (59.2, 61.4, 2.2),
    'without reward shaping': (60.0, 62.6, 2.6),
    'STaR instead of REINFORCE in Stage II': (56.2, 58.4, 2.2),
    'without on-policy first attempts': (60.4, 60.6, 0.2),
  },
)
GEMMA = PaperTable(
  'Three turns, Gemma 2 2B: accuracy at t1, t2, t3',
  'camera-ready version, appendix A.1',
  (
    *('MATH t1', 't2', 't3'),
    *('Functional MATH t1', 't2', 't3'),
    *('MathOdyssey t1', 't2', 't3'),
  ),
  {
    'Base': (16.8, 16.8, 17.0, 21.4, 20.7, 20.9, 4.1, 3.9, 3.6),
    'Stage I (a)': (17.6, 20.0, 19.8, 17.5, 20.3, 20.9, 3.1, 3.1, 3.4),
    'Stage I (b)': (16.6, 18.4, 23.2, 17.7, 20.4, 24.8, 2.3, 2.8, 4.1),
    'Stage II': (23.0, 24.0, 24.0, 23.4, 25.7, 25.6, 3.9, 5.2, 5.7),
  },
)
CODE = PaperTable(
  'HumanEval, 164 problems, and repair of given MBPP programs (MBPP-R), '
  'Gemini 1.0 Pro',
  'table 3',
  ('MBPP-R', *_FIVE),
  {
    'Base model': (47.3, 53.7, 56.7, 3.0, 7.9, 4.9),
    'Self-Refine': (30.7, 53.7, 52.5, -1.2, 9.8, 11.0),
    'Pair-SFT': (59.8, 56.1, 54.3, -1.8, 4.3, 6.1),
    'SCoRe': (60.6, 52.4, 64.6, 12.2, 15.2, 3.0),
  },
)

_CODE_TASKS = ('mbpp', 'humaneval', 'repair')


def tables_for(task: str) -> tuple[PaperTable, ...]:
  """The paper's tables on problems like a task's; none on other tasks."""
  if task == 'math':
    return MATH, MATH_ABLATIONS, GEMMA
  return (CODE,) if task in _CODE_TASKS else ()


# Read off the charts by machine, so approximate (Figure 8 and Figure 1, right).
ATTEMPTS = {
  'base': (53.0, 43.0, 48.0, 45.0, 50.5, 44.0, 49.5, 46.0, 52.0, 45.0),
  'Pair-SFT': (53.0, 54.5, 53.5, 53.5, 53.0, 53.0, 53.0, 53.5, 53.0, 54.0),
  'SCoRe': (59.0, 64.0, 65.0, 65.0, 65.5, 65.5, 65.5, 66.0, 65.5, 66.0),
}
SCALING_BUDGETS = (2, 4, 8, 16, 32)
SCALING = {
  'parallel': (60.0, 64.0, 65.0, 67.0, 68.0),
  'K parallel, corrected once': (60.0, 64.0, 68.0, 70.0, 71.0),
}
