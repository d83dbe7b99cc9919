"""What the errors that end a stage say."""

import pytest

from experiments.run import run_directory
from experiments.stages import stop_rules


@pytest.mark.parametrize(
  ('ungraded', 'failed', 'said', 'other'),
  [
    (32, {}, '--reward returned None', 'say why --reward fails'),
    (32, {'errors': 30}, 'say why --reward fails', 'returned None'),
    (32, {'timeouts': 32}, 'say why --reward fails', 'returned None'),
    (0, {}, 'raise --max-attempt-tokens', '--reward '),
  ],
)
def test_why_no_attempt_could_be_learnt_from(ungraded, failed, said, other):
  counts = {'errors': 0, 'timeouts': 0, 'ungraded': ungraded} | failed
  values = {f'reward/{name}': count for name, count in counts.items()}
  stop_rules.stop_without_attempts('stage1', 4, values)
  with pytest.raises(run_directory.RunError, match='5 updates') as error:
    stop_rules.stop_without_attempts('stage1', 5, values)
  assert said in str(error.value)
  assert other not in str(error.value)
