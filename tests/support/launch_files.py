"""What the files under launch/ run: command lines, presets, slices of TPUs."""

import json
import pathlib
import re
import shlex

import yaml

from experiments.config import command_line
from experiments.planning import chips

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / 'launch'
NOTEBOOKS = sorted(LAUNCH.glob('*/*.ipynb'))
# Those with a command line in them, if only in a comment.
FILES = sorted(
  path
  for path in LAUNCH.rglob('*')
  if path.is_file() and 'experiments.' in path.read_text()
)
# How files name slices; GKE gives the shape of one.
_SLICE = re.compile(r'(?:--type=|TPU \(?| or |tpu-)(v\d(?:e|p|litepod)?-\d+)')
_GKE_CHIPS = {'tpu-v5-lite-podslice': 'v5e', 'tpu-v5p-slice': 'v5p',
              'tpu-v6e-slice': 'v6e'}  # fmt: skip


def name(path: pathlib.Path) -> str:
  """The file's path below launch/."""
  return str(path.relative_to(LAUNCH))


def cells(path: pathlib.Path, kind: str) -> list[str]:
  """Sources of a notebook's cells, `code` or `markdown`."""
  found = json.loads(path.read_text())['cells']
  return [''.join(c['source']) for c in found if c['cell_type'] == kind]


def commands(path: pathlib.Path) -> list[tuple[str, list[str]]]:
  """(module, flags) of each command line of this repository's programs."""
  if path.suffix == '.ipynb':
    text = '\n'.join(cells(path, 'code'))
  elif path.suffix == '.yaml':
    text = '\n'.join(_strings(yaml.safe_load(path.read_text())))
  else:
    text = re.sub('^# ?', '', path.read_text(), flags=re.MULTILINE)
  lines = re.sub(r'\\\n *', '', text).splitlines()
  program = r'\b(?:experiments\.(\w+)|quickstart\.sh)(?: (.*))?$'
  return [
    (found[1] or 'train', _flags(found[2]))
    for line in lines
    if (found := re.search(program, line))
  ]


def _strings(node) -> list[str]:
  """Texts of a YAML file; a list of them is one command line."""
  if isinstance(node, dict):
    return [text for value in node.values() for text in _strings(value)]
  if isinstance(node, list):
    if all(isinstance(item, str) for item in node):
      return [' '.join(node)]
    return [text for item in node for text in _strings(item)]
  return node.splitlines() if isinstance(node, str) else []


def _flags(text: str | None) -> list[str]:
  """The flags that it begins with, to the end of a quotation."""
  words = re.split('  |`', text or '')[0]
  return shlex.split(re.match(r'(?:--\S+ *)*', words)[0])


def pairs() -> list[tuple[str, str, str]]:
  """(file, preset, slice): what a file runs where; small presets need none."""
  found = []
  for path in FILES:
    text = path.read_text()
    slices = {
      slice_.replace('litepod', 'e') for slice_ in _SLICE.findall(text)
    } | {*_gke_slices(text)}
    found += [
      (name(path), preset, slice_)
      for preset in command_line.preset_names()
      if re.search(rf'\b{preset}\b', text) and planned_slice(preset)
      for slice_ in sorted(slices)
    ]
  return found


def _gke_slices(text: str):
  for chip, shape in re.findall(
    r'gke-tpu-accelerator: (\S+)\n.*gke-tpu-topology: (\S+)', text
  ):
    yield next(
      slice_
      for slice_, (kind, there) in chips.SLICES.items()
      if (kind.name, there) == (_GKE_CHIPS[chip], shape)
    )


def planned_slice(preset: str) -> str | None:
  """The slice that a preset's document has a plan for."""
  _, document = command_line.load_preset(preset)
  found = re.search(r'--topology=([\w-]+)', document)
  return found and found[1]
