r"""The answer that an attempt states: one rule, in time linear in the text.

Three forms state an answer: the paper's `Final Answer: The final answer is
$...$.`, a balanced `\boxed{...}`, and GSM8K's `#### ...`. The one that comes
last in the attempt counts and nothing else does, so naming many candidates on
the way does not help; candidates that stand side by side, as in `\boxed{3} or
\boxed{4}`, are one answer: the list of them.
"""

import collections
import re

from score_jax.grading import answer_structure

_SENTENCE = re.compile(r'final answer is\s*:?', re.IGNORECASE)
_SENTENCE_END = re.compile('I hope it is correct', re.IGNORECASE)
_BOX_TOKENS = re.compile(r'\\(?:boxed|fbox)\s*\{|\\.|[{}]', re.DOTALL)
_BARE_BOX = re.compile(r'\\boxed\s+([^\s${}\\]+)')
_HASHES = re.compile(r'^[ \t]*####[ \t]*(\S[^\n]*)$', re.MULTILINE)
_DOLLARS = re.compile(r'(?<!\\)\$\$?')
# A subject that is what it names, as in 'the largest possible value of $n$'. No
# other word may stand before the name: half of $n$ is not $n$.
_NAMED_VALUE = re.compile(
  r'(?:(?:so|thus|hence|therefore),?\s+)?'
  r'(?:(?:the|final|exact|largest|smallest|greatest|least|biggest|highest|lowest'
  r'|maximum|minimum|maximal|minimal|only|unique|possible|required|desired'
  r'|positive|integer|prime|natural|real|whole|number'
  r'|(?:value|length|area|volume|measure|maximum|minimum)\s+of)\s+){0,12}'
  r'\$\$?(?P<name>[^$]{1,80})\$\$?\s+(?:is|equals|is\s+equal\s+to)\s+\**'
  r'(?:\$\$?(?P<formula>[^$]+)\$\$?'
  r'|(?P<number>-?[0-9][0-9,]*(?:\.[0-9]+)?(?:/[0-9]+)?%?))\**\.?\**',
  re.IGNORECASE,
)
_BETWEEN_BOXES = re.compile(
  r'(?:[\s$,;.]|\\[,;!()\[\] ]|\\q?quad|\\text\{\s*(?:and|or)\s*,?\s*\}'
  r'|\band\b|\bor\b)*',
)
_BETWEEN_ANSWERS = re.compile(r'(?:[\s,;]|\band\b|\bor\b)*')


def final_answer(text: str) -> str | None:
  r"""The answer that an attempt ends on, without its frame.

  Args:
    text: the whole attempt.

  Returns:
    The contents of the last `\boxed{}`, final-answer sentence or `####` line;
    several side by side joined by ', '; None where no form is used.
  """
  boxes = _closed_boxes(text)
  sentence = _last(_SENTENCE, text)
  hashes = _last(_HASHES, text)
  starts = {
    'sentence': sentence.start() if sentence else -1,
    'hashes': hashes.start(1) if hashes else -1,
    'box': boxes[-1][0] if boxes else -1,
  }
  if sentence and starts['hashes'] < starts['sentence']:
    stated, end = _sentence_span(text, sentence.end())
    # A box inside the sentence, or before it, is not a later answer.
    if starts['box'] < end and stated:
      return unframe(stated)
  form = max(starts, key=starts.get)
  if starts[form] < 0:
    return None
  if form == 'hashes':
    return unframe(hashes.group(1))
  return _last_boxes(text, boxes) if form == 'box' else None


def last_box(text: str) -> str | None:
  r"""The content of the last balanced `\boxed{}`, None where there is none."""
  boxes = _closed_boxes(text)
  return _content(text, boxes[-1]) if boxes else None


def unframe(stated: str) -> str:
  r"""`stated` without math delimiters, boxes and the closing full stop.

  Several formulas separated by commas or 'or' become one list; words around a
  single formula are dropped where they hold no digit and no 'or'. Of 'the
  largest $n$ is 34' remains 34.
  """
  stated = _unbox(stated.strip().strip('*').strip())
  value = named_value(stated)
  if value is not None:
    return value
  stated = re.sub(r'\\[()\[\]]', '$', stated)
  marks = list(_DOLLARS.finditer(stated))
  if not marks or len(marks) % 2:
    return _trim(_DOLLARS.sub('', stated))
  inside = [
    stated[opening.end() : closing.start()].strip()
    for opening, closing in zip(marks[::2], marks[1::2])
  ]
  edges = [0, *(mark.end() for mark in marks[1::2])]
  outside = [
    stated[edge : mark.start()] for edge, mark in zip(edges, marks[::2])
  ] + [stated[edges[-1] :].strip().removesuffix('.')]
  if all(_BETWEEN_ANSWERS.fullmatch(part) for part in outside):
    return _trim(', '.join(inside))
  rest = ' '.join(outside)
  if len(inside) == 1 and not re.search(r'\d|\bor\b|\band\b|,', rest):
    return _trim(inside[0])
  return _trim(_DOLLARS.sub('', stated))


def named_value(sentence: str) -> str | None:
  """The 34 of 'the largest $n$ is 34', None for any other sentence."""
  sentence = re.sub(r'\\[()\[\]]', '$', sentence.strip())
  match = _NAMED_VALUE.fullmatch(sentence)
  if match and answer_structure.is_name(match['name']):
    return _trim(match['formula'] or match['number'])
  return None


def _trim(answer: str) -> str:
  answer = answer.strip()
  answer = answer[:-1] if answer.endswith('.') else answer
  return answer.strip().strip('*').strip()


def _last(pattern: re.Pattern, text: str) -> re.Match | None:
  found = collections.deque(pattern.finditer(text), maxlen=1)
  return found[0] if found else None


def _sentence_span(text: str, start: int) -> tuple[str, int]:
  """(text, end) of the answer: up to the closing words or the line's end."""
  closing = _SENTENCE_END.search(text, start)
  if closing:
    return text[start : closing.start()], closing.start()
  # A formula may span lines (matrices), so an open '$' carries on to its pair.
  end, inside = len(text), False
  for mark in re.finditer(r'(?<!\\)\$\$?|\n', text[start:]):
    if mark.group() != '\n':
      inside = not inside
    elif not inside and text[start : start + mark.start()].strip():
      end = start + mark.start()
      break
  return text[start:end], end


def _closed_boxes(text: str) -> list[tuple[int, int, int]]:
  """(start, start of content, end of content) of outermost boxes, in order."""
  stack: list[re.Match | None] = []
  boxes = []
  for token in _BOX_TOKENS.finditer(text):
    if token.group().startswith(('\\boxed', '\\fbox')):
      stack.append(token)
    elif token.group() == '{':
      stack.append(None)
    elif token.group() == '}' and stack:
      opening = stack.pop()
      if opening is not None:
        while boxes and boxes[-1][0] > opening.start():
          boxes.pop()
        boxes.append((opening.start(), opening.end(), token.start()))
  bare = [(m.start(), m.start(1), m.end(1)) for m in _BARE_BOX.finditer(text)]
  return sorted(boxes + bare) if bare else boxes


def _content(text: str, box: tuple[int, int, int]) -> str:
  return _unbox(text[box[1] : box[2]]).strip()


def _last_boxes(text: str, boxes: list[tuple[int, int, int]]) -> str:
  answers = [_content(text, boxes[-1])]
  for before, after in zip(reversed(boxes[:-1]), reversed(boxes[1:])):
    gap = text[before[2] + 1 : after[0]]
    if len(gap) > 80 or not _BETWEEN_BOXES.fullmatch(gap):
      break
    answers.append(_content(text, before))
  return ', '.join(reversed(answers))


def _unbox(text: str) -> str:
  """`text` with every outermost box replaced by what it holds."""
  pieces, position = [], 0
  for start, content, end in _closed_boxes(text):
    pieces += [text[position:start], text[content:end]]
    position = end + (text[end : end + 1] == '}')
  return ''.join(pieces) + text[position:]
