"""Plain data as tagged JSON: all that crosses between candidate and runner.

Only builtin types come out of `decode`, whatever the other side sends: None,
bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, range,
iterators (already run), builtin types of a whitelist, and handles, which stand
for objects that stay on the other side. Subclasses of builtin containers are
read by their builtin layout. The text of this file also runs inside the
sandbox, so it imports the standard library only.
"""

import builtins
import itertools

DEPTH = 200
MOST_ITEMS = 1_000_000
LONGEST_INTEGER_BITS = 4_000_000
TYPE_NAMES = (
  'bool', 'bytes', 'complex', 'dict', 'float', 'frozenset', 'int', 'list',
  'object', 'range', 'set', 'str', 'tuple', 'type',
)  # fmt: skip
_TYPES = {name: getattr(builtins, name) for name in TYPE_NAMES}
_VIEWS = {'k': type({}.keys()), 'v': type({}.values()), 'm': type({}.items())}


class ValueTooLargeError(ValueError):
  """A value is nested too deeply or has too many parts."""


class Encoder:
  """Turns values into tagged JSON; other objects become handles."""

  def __init__(self, to_handle):
    """`to_handle(object)` gives the JSON that stands for it."""
    self._to_handle = to_handle
    self._items = 0

  def encode(self, value, depth=0):
    """The tagged JSON of `value`."""
    self._items += 1
    if depth > DEPTH or self._items > MOST_ITEMS:
      raise ValueTooLargeError('the value is too deep or too large')
    # Only the exact types pass as they are: a subclass may override anything.
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is float:
      return value
    if kind is type:
      name = value.__name__
      if _TYPES.get(name) is value:
        return ['y', name]
      return self._to_handle(value)
    if kind is bool or isinstance(value, int):
      return self._integer(value, depth)
    # The builtin's methods, not the value's own.
    if isinstance(value, float):
      return float.__add__(value, 0.0)
    if isinstance(value, str):
      return str.__str__(value)
    if isinstance(value, complex):
      value = complex.__pos__(value)
      return ['c', value.real, value.imag]
    if isinstance(value, (bytes, bytearray)):
      return ['b', bytes(value).hex(), isinstance(value, bytearray)]
    return self._container(value, depth)

  def _integer(self, value, depth):
    value = int.__add__(value, 0)
    # Hex beyond 64 bits: decimal text of a huge integer takes quadratic time.
    if -(2**63) < value < 2**63:
      return value
    if value.bit_length() > LONGEST_INTEGER_BITS:
      raise ValueTooLargeError('the integer is too large')
    return ['i', hex(value)]

  def _container(self, value, depth):
    for base, tag in ((list, 'l'), (tuple, 't'), (set, 's'), (frozenset, 'z')):
      if isinstance(value, base):
        return self._tagged(tag, base.__iter__(value), depth)
    if isinstance(value, dict):
      pairs = [
        [self.encode(k, depth + 1), self.encode(v, depth + 1)]
        for k, v in dict.items(value)
      ]
      return ['d', *pairs]
    if isinstance(value, range):
      return self._tagged('r', (value.start, value.stop, value.step), depth)
    for tag, view in _VIEWS.items():
      if isinstance(value, view):
        return self._tagged(tag, value, depth)
    if isinstance(value, _ITERATORS):
      held = itertools.islice(value, MOST_ITEMS + 1)
      return self._tagged('g', held, depth)
    return self._to_handle(value)

  def _tagged(self, tag, items, depth):
    return [tag, *(self.encode(item, depth + 1) for item in items)]


def _generator():
  yield


_ITERATORS = (
  type(_generator()), map, filter, zip, enumerate, reversed,
  type(iter([])), type(iter(())), type(iter({})), type(iter(set())),
  type(iter('')), type(iter('é')), type(iter(range(0))),
  itertools.chain, itertools.islice, itertools.product, itertools.permutations,
  itertools.combinations, itertools.accumulate,
)  # fmt: skip


def decode(data, from_handle, depth=0):
  """The value that tagged JSON stands for.

  Args:
    data: parsed JSON from the other side; not trusted.
    from_handle: gives the object for a handle's JSON.
    depth: of nesting so far.

  Raises:
    ValueError: the data is not of this format.
    TypeError: an unhashable value where one has to be hashable.
  """
  if data is None or isinstance(data, (bool, int, float, str)):
    return data
  if depth > DEPTH:
    raise ValueTooLargeError('the value is too deep')
  if not isinstance(data, list) or not data or not isinstance(data[0], str):
    raise ValueError('not a tagged value')
  tag, items = data[0], data[1:]
  if tag == 'h':
    return from_handle(data)
  if tag in 'ybic':
    return _decode_scalar(tag, items)
  if tag == 'd':
    pairs = (
      [decode(part, from_handle, depth + 1) for part in pair] for pair in items
    )
    return dict(pairs)
  return _collect(tag, [decode(x, from_handle, depth + 1) for x in items])


def _decode_scalar(tag, items):
  if tag == 'y':
    # A whitelist: by an arbitrary name the program would pick any builtin.
    if items[0] not in _TYPES:
      raise ValueError('not a type of the whitelist')
    return _TYPES[items[0]]
  if tag == 'b':
    data = bytes.fromhex(items[0])
    return bytearray(data) if items[1] else data
  if tag == 'i':
    if len(items[0]) > LONGEST_INTEGER_BITS // 4 + 8:
      raise ValueTooLargeError('the integer is too large')
    return int(items[0], 16)
  return complex(*items)


def _collect(tag, values):
  collected = {
    'l': list, 't': tuple, 's': set, 'z': frozenset, 'g': iter,
    'r': lambda v: range(*v),
    'k': lambda v: dict.fromkeys(v).keys(),
    'v': lambda v: dict(enumerate(v)).values(),
    'm': lambda v: dict(v).items(),
  }  # fmt: skip
  if tag not in collected:
    raise ValueError(f'no such tag: {tag[:8]!r}')
  return collected[tag](values)
