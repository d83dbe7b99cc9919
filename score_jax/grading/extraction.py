"""The program in an attempt: the last candidate that parses, in linear time.

In order of preference: the last fenced block that parses and defines the entry
point; the last that parses; text without fences, between [BEGIN] and [DONE]
where these stand; the prompt continued by a text that is a function's body.
An attempt with a draft and its correction gives the correction, even where the
draft is longer.
"""

import ast
import re
import warnings

LONGEST_TEXT = 1 << 16
_MOST_BLOCKS = 16
_FENCE = re.compile(r'^[ \t]{0,3}(`{3,}|~{3,})[ \t]*([^\n`]*)$')
_PYTHON = re.compile(r'(?:python|py|ipython)?\d*(?:\s.*)?', re.IGNORECASE)
_STARTS = re.compile(
  r'^(?:def |class |import |from |@|async def )', re.MULTILINE
)


def extract(text: str, entry_point: str, prompt: str = '') -> str | None:
  """The program of an attempt, None where none can be found.

  Args:
    text: the whole attempt.
    entry_point: name that the program has to define.
    prompt: code that the attempt may continue; '' if it may not.
  """
  if len(text) > LONGEST_TEXT or '\0' in text:
    return None
  text = text.lstrip('\ufeff').replace('\r\n', '\n').replace('\r', '\n')
  blocks = fenced_blocks(text)[-_MOST_BLOCKS:]
  parsed = [(block, tree) for block in blocks if (tree := parse(block))]
  for block, tree in reversed(parsed):
    if defines(tree, entry_point):
      return block
  if not blocks:
    bare = _unfenced(text, entry_point)
    if bare is not None:
      return bare
  if prompt:
    for body in [*reversed(blocks), text.partition('[DONE]')[0]]:
      program = _continued(prompt, body, entry_point)
      if program is not None:
        return program
  return parsed[-1][0] if parsed else None


def fenced_blocks(text: str) -> list[str]:
  """Contents of Python or unnamed fences, in order; the last may be open."""
  blocks, lines, fence, wanted = [], [], '', False
  for line in text.split('\n'):
    match = _FENCE.match(line)
    if not fence:
      if match:
        fence, lines = match[1], []
        wanted = bool(_PYTHON.fullmatch(match[2].strip().strip('{}.')))
    elif match and match[1].startswith(fence) and not match[2].strip():
      if wanted:
        blocks.append('\n'.join(lines) + '\n')
      fence = ''
    else:
      lines.append(line)
  if fence and wanted and lines:
    blocks.append('\n'.join(lines) + '\n')
  return blocks


def defines(tree: ast.Module, name: str) -> bool:
  """Whether the module binds `name` at its top level."""
  for node in tree.body:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
      if node.name == name:
        return True
    elif isinstance(node, ast.Import | ast.ImportFrom):
      if any((alias.asname or alias.name) == name for alias in node.names):
        return True
    elif isinstance(node, ast.Assign):
      targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
      if name in targets:
        return True
  return False


def _unfenced(text: str, entry_point: str) -> str | None:
  """A program in text without fences, with prose before and after dropped."""
  if '[BEGIN]' in text:
    text = text.rpartition('[BEGIN]')[2]
  text = text.partition('[DONE]')[0]
  starts = [match.start() for match in _STARTS.finditer(text)]
  entry = re.compile(
    rf'^(?:async )?(?:def|class) {re.escape(entry_point)}\b', re.MULTILINE
  )
  definitions = [match.start() for match in entry.finditer(text)]
  # From the top, and, where a draft comes before, from the last definition.
  for start in [0, *starts[:1], *definitions[-1:]]:
    program = _longest_program(text[start:], entry_point)
    if program is not None:
      return program
  return None


def _longest_program(text: str, entry_point: str) -> str | None:
  """`text` up to where it stops being a program that defines the name."""
  # A bounded number of cuts: cutting line by line would be quadratic.
  for _ in range(4):
    error_line = _error_line(text)
    if error_line is None:
      tree = parse(text)
      return text if tree and defines(tree, entry_point) else None
    text = '\n'.join(text.split('\n')[: error_line - 1])
  return None


def _continued(prompt: str, body: str, entry_point: str) -> str | None:
  """The prompt followed by the function's body, indented where it is not."""
  first = next((line for line in body.split('\n') if line.strip()), '')
  if not first:
    return None
  if not first[0].isspace():
    body = '\n'.join('    ' + line for line in body.split('\n'))
  program = prompt.rstrip('\n') + '\n' + body.strip('\n') + '\n'
  for _ in range(3):
    error_line = _error_line(program)
    if error_line is None:
      break
    if error_line <= prompt.count('\n') + 1:
      return None
    program = '\n'.join(program.split('\n')[: error_line - 1])
  tree = parse(program)
  complete = tree and defines(tree, entry_point) and len(program) > len(prompt)
  return program if complete else None


def parse(source: str) -> ast.Module | None:
  """The syntax tree of `source`, None where it is no Python."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      return ast.parse(source)
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return None


def _error_line(source: str) -> int | None:
  """Line of the syntax error that stops `source`, None if there is none."""
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      ast.parse(source)
  except SyntaxError as error:
    return max(1, error.lineno or 1)
  except (ValueError, RecursionError, MemoryError):
    return 1
  return None
