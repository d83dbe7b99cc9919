"""Episodes for people and for programs."""

import dataclasses
import io
import json

from rich import console as rich_console

from experiments.run import transcripts
from score_jax import types
from score_jax.tasks import registry

EPISODE = transcripts.Episode(
  problem=types.Problem('sum/7', 'arithmetic', '19 + 2 = [?]', '21'),
  attempts=(
    types.Attempt('11', turn=1),
    types.Attempt('21', turn=2, finished=False),
  ),
  verdicts=(
    types.Verdict('wrong', 0.0, reason='[b]carry[/b] lost'),
    types.Verdict('correct', 1.0),
  ),
)


REWARDED = dataclasses.replace(
  EPISODE,
  verdicts=(
    dataclasses.replace(
      EPISODE.verdicts[0], reward=types.Verdict('wrong', 0.25)
    ),
    dataclasses.replace(
      EPISODE.verdicts[1], reward=types.Verdict('crash', None, reason='it fell')
    ),
  ),
)


def printed(episode, width=80, **options):
  console = rich_console.Console(file=io.StringIO(), width=width, **options)
  transcripts.print_episodes(console, [episode], 'stage1, step 3')
  return console.file.getvalue()


def test_everything_is_shown_and_nothing_is_markup():
  text = printed(EPISODE)
  lines = [line.strip('│ ') for line in text.splitlines()]
  assert 'stage1, step 3 · sum/7' in lines[0]
  assert lines[1:5] == [
    'problem    19 + 2 = [?]',
    'attempt 1  11  wrong ([b]carry[/b] lost)',
    'attempt 2  21  correct, cut off by its limit',
    'reference  21',
  ]


def test_rewards_are_shown_and_written_apart(tmp_path):
  lines = [line.strip('│ ') for line in printed(REWARDED).splitlines()]
  assert lines[2:4] == [
    'attempt 1  11  wrong ([b]carry[/b] lost), reward 0.25',
    'attempt 2  21  correct, cut off by its limit, reward none (it fell)',
  ]
  path = tmp_path / 'base' / 'samples.jsonl'
  log = transcripts.SamplesLog('base', path)
  log.write(0, [REWARDED])
  log.close()
  record = json.loads(path.read_text())
  assert record['scores'] == [0.0, 1.0]
  assert record['rewards'] == [0.25, None]
  assert record['reward_reasons'] == ['', 'it fell']
  [again] = transcripts.read_episodes(path)
  assert list(REWARDED.verdicts) == again.verdicts


def test_right_is_green_and_wrong_is_red():
  text = printed(EPISODE, force_terminal=True, color_system='standard')
  assert '\x1b[31m11' in text
  assert '\x1b[32m21' in text


def test_long_attempts_are_shortened_when_printed_only(tmp_path):
  episode = transcripts.Episode(
    EPISODE.problem,
    (types.Attempt('x' * 5000),),
    (types.Verdict('crash', None),),
  )
  assert '(3500 characters more)' in printed(episode, width=2000)
  path = tmp_path / 'base' / 'samples.jsonl'
  log = transcripts.SamplesLog('base', path)
  log.write(0, [episode, EPISODE])
  log.close()
  first, second = map(json.loads, path.read_text().splitlines())
  assert first['attempts'] == ['x' * 5000]
  assert first['scores'] == [None]
  assert second == {
    'stage': 'base',
    'step': 0,
    'id': 'sum/7',
    'question': '19 + 2 = [?]',
    'reference': '21',
    'attempts': ['11', '21'],
    'finished': [True, False],
    'labels': ['wrong', 'correct'],
    'scores': [0.0, 1.0],
    'reasons': ['[b]carry[/b] lost', ''],
  }
  again = list(transcripts.read_episodes(path))
  assert printed(again[1]) == printed(EPISODE)
  assert again[0].attempts == list(episode.attempts)


def test_programs_can_be_told_apart_when_read_again(tmp_path):
  # HumanEval's attempts may be the rest of the prompt's function.
  prompt = 'def add(x):\n    """Adds one."""\n'
  problem = types.Problem(
    'HumanEval/0', 'humaneval', prompt, '',
    {'entry_point': 'add', 'prompt_code': prompt, 'tests': ['check(add)']},
  )  # fmt: skip
  attempts = [types.Attempt(f'    return x + {n}\n', n) for n in (1, 2)]
  verdicts = [types.Verdict('wrong', 0.0)] * 2
  path = tmp_path / 'evaluation.jsonl'
  log = transcripts.SamplesLog('base', path)
  log.write(0, [transcripts.Episode(problem, attempts, verdicts)])
  log.close()
  (again,) = transcripts.read_episodes(path)
  key = registry.answer_key('humaneval')
  keys = [key(again.problem, attempt) for attempt in again.attempts]
  assert keys == [key(problem, attempt) for attempt in attempts]
  assert None not in keys
  assert keys[0] != keys[1]
