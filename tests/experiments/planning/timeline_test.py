"""Small graphs whose times are worked out by hand."""

import pytest

from experiments.planning import timeline


def _work(name, *after, compute=0.0, memory=0.0):
  return timeline.Operation(name, after, compute=compute, memory=memory)


def _send(name, *after, links):
  return timeline.Operation(name, after, links=links)


def _copy(name, *after, memory):
  return timeline.Operation(name, after, memory=memory, is_copy=True)


@pytest.mark.parametrize(
  ('operations', 'seconds', 'waiting'),
  [
    ([], 0, 0),
    # The larger of arithmetic and memory, one after the other.
    ([_work('a', compute=3, memory=1), _work('b', compute=1, memory=4)], 7, 0),
    # A transfer that all wait for.
    ([_send('s', links=5), _work('a', 's', compute=2)], 7, 5),
    # Work that needs it not hides 3 of its 5 seconds, wherever it stands.
    (
      [_send('s', links=5), _work('a', 's', compute=2), _work('b', compute=3)],
      7,
      2,
    ),
    # Transfers queue on the links: 4, then 4 more; 2 + 1 of work beside them.
    (
      [
        _send('s', links=4),
        _send('t', links=4),
        _work('a', 's', compute=2),
        _work('b', 's', 't', compute=1),
      ],
      9,
      6,
    ),
    # A copy beside arithmetic: what moves bytes then waits for its end.
    ([_copy('c', memory=4), _work('a', compute=3)], 4, 1),
    (
      [_copy('c', memory=4), _work('a', compute=3, memory=2)],
      6,
      0,
    ),
    # Nothing happens in a tuple, but what uses it waits.
    (
      [_send('s', links=2), _work('t', 's'), _work('a', 't', compute=1)],
      3,
      2,
    ),
    # A transfer at the end hides nothing and is hidden by nothing.
    ([_work('a', compute=1), _send('s', 'a', links=2)], 3, 2),
    # The first of those that could start, although another was ready before.
    (
      [
        _work('a', compute=2),
        _work('b', compute=2),
        _send('s', 'a', links=1),
        _work('c', 's', compute=1),
      ],
      5,
      0,
    ),
  ],
)
def test_by_hand(operations, seconds, waiting):
  span = timeline.run(operations)
  assert span.seconds == seconds
  assert span.waiting == waiting


def test_names_from_outside_are_there():
  assert timeline.run([_work('a', 'elsewhere', compute=1)]).seconds == 1


def test_never_below_any_resource_nor_above_their_sum():
  operations = [
    _send('s0', links=1.5),
    *(_work(f'a{i}', f's{i}', compute=i % 3, memory=i % 5) for i in range(9)),
    *(_send(f's{i}', f'a{i - 2}', links=i % 4 + 0.5) for i in range(2, 9, 2)),
  ]
  span = timeline.run(operations)
  compute = sum(o.compute for o in operations)
  memory = sum(o.memory for o in operations)
  links = sum(o.links for o in operations)
  assert max(compute, memory, links) <= span.seconds
  assert span.seconds <= compute + memory + links
