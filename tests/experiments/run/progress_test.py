"""Progress with a clock that the test turns."""

import io

from rich import console as rich_console

from experiments.run import progress


class Clock:
  """Seconds that the test sets."""

  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def run_stage(console, clock, durations, metrics, **options):
  with progress.stage(console, 'stage1', 90, clock=clock, **options) as display:
    for i, seconds in enumerate(durations, start=options.get('done', 0) + 1):
      clock.now += seconds
      display.update(i, metrics)


def test_plain_lines():
  console = rich_console.Console(file=io.StringIO(), width=200)
  metrics = {
    'score/acc_t1': 0.4321,
    'score/acc_t2': 0.5,
    'score/delta': 0.0679,
    'kl/turn1': 0.01234,
    'entropy/turn1': 1.0,
  }
  run_stage(console, Clock(), [30.0, 2.0, 1.0], metrics)
  numbers = 'acc t1 43.2%  acc t2 50.0%  delta +6.8%  kl t1 0.012'
  assert console.file.getvalue().splitlines() == [
    # The first step compiles: its 30 s are neither shown nor extrapolated.
    f'stage1   1/90  {numbers}  s/step -  left -',
    # 88 steps of 2 s: 176 s.
    f'stage1   2/90  {numbers}  s/step 2.00  left 2:56',
    # 87 steps of (2 + 1) / 2 s: 130.5 s, rounded to the even 130.
    f'stage1   3/90  {numbers}  s/step 1.50  left 2:10',
  ]


def test_lines_of_some_steps_only_and_of_the_last():
  console = rich_console.Console(file=io.StringIO(), width=200)
  run_stage(console, Clock(), [1.0] * 7, {'loss': 0.5}, done=83, every=4)
  # 84 and 88 are divisible by 4; 90 is the last.
  lines = console.file.getvalue().splitlines()
  assert [line.split('/')[0] for line in lines] == [
    'stage1  84', 'stage1  88', 'stage1  90'
  ]  # fmt: skip
  assert lines[1] == 'stage1  88/90  loss 0.500  s/step 1.00  left 0:02'


def test_hours():
  clock = Clock()
  pace = progress.Pace(clock)
  for _ in range(2):
    clock.now += 36.0
    pace.tick()
  # 361 steps of 36 s: 12996 s = 3 h 36 min 36 s.
  assert pace.time_left(361) == '3:36:36'
  # Ten steps at once, as when they are not all displayed.
  clock.now += 180.0
  pace.tick(10)
  assert pace.seconds_per_step() == (36.0 + 18.0) / 2


def test_live_display():
  console = rich_console.Console(
    file=io.StringIO(), width=100, force_terminal=True, color_system=None
  )
  run_stage(console, Clock(), [9.0, 1.0], {'score/acc_t1': 0.25})
  text = console.file.getvalue()
  assert '2/90' in text
  assert '25.0%' in text
  assert '1:28' in text  # 88 steps of 1 s
