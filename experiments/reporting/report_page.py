"""temporary."""

import pathlib

from experiments.reporting import output, page, runs
from score_jax.io import json_files


def write(given, directory=None):
  paths = [path for each in given for path in runs.find(str(each))]
  groups = runs.make_groups([runs.read(path) for path in paths])
  out = output.Output(pathlib.Path(directory))
  json_files.write_text(out.page, page.render(groups, out))
  return out
