"""What to change where a plan does not fit: flags, the cheapest first."""

from collections.abc import Iterator

from experiments.planning import chips, estimate, workload


def fixes(
  plan: estimate.Plan, work: workload.Workload, topology: str
) -> list[str]:
  """Flags that would lower the peak, with their cost; none if it fits."""
  if plan.fits:
    return []
  found = []
  if not plan.update.is_compiled or plan.update_peak > plan.chip.memory:
    found += _for_update(plan, work)
  if not plan.episode.is_compiled or plan.episode_peak > plan.chip.memory:
    found += _for_episode(plan, work)
  return [*found, *_larger(plan, topology)]


def _for_update(plan, work) -> Iterator[str]:
  sequences = work.micro_batch // work.batch_shards
  if sequences > 1:
    yield (
      f'--micro-batch={sequences // 2 * work.batch_shards}: fewer sequences a '
      'device at once; the same update but for rounding'
    )
  if not work.update_options['remat']:
    yield '--remat: activations computed twice, a quarter more time'
  if plan.kept > plan.chip.memory / 2:
    yield from _for_weights(work)


def _for_episode(plan, work) -> Iterator[str]:
  heads = work.model.config.num_kv_heads
  resident = plan.resident
  now = work.rollout_mesh.shape['tensor']
  splits = [
    n
    for n in range(2 * now, work.mesh.size + 1)
    if work.mesh.size % n == 0 and heads % n == 0
  ]
  if splits and resident['decode weights'] > plan.chip.memory / 8:
    yield (
      f'--mesh.rollout-tensor={splits[0]}: so many devices share the weights '
      'for decoding'
    )
  if work.episode_options['compactions']:
    yield (
      '--rollout.compactions=0: no copy of half of the cache, but sequences '
      'that have ended are decoded until the last one ends'
    )
  if resident['cache'] > plan.chip.memory / 8:
    if work.rows > 1:
      yield (
        f'--rollout.rows={int(work.rows) // 2}: half the cache; the other '
        'sequences wait for a row, and follow those that are complete'
      )
    yield (
      f'--samples-per-problem={max(2, work.sizes.samples // 2)} or '
      f'--problems-per-step={max(1, work.sizes.problems // 2)}: half the '
      'cache, but also half of the batch'
    )
    yield (
      f'--max-attempt-tokens={max(work.sizes.max_new_tokens) // 2}: nearly '
      'half the cache, if attempts are that short'
    )
  if plan.kept > plan.chip.memory / 2:
    yield from _for_weights(work)


def _for_weights(work) -> Iterator[str]:
  if not work.model.lora.rank:
    yield '--lora.rank=16: no optimizer state and no second copy of the weights'
  if work.model.frozen_dtype.itemsize > 2:
    yield '--reference-dtype=bfloat16: half of the reference'


def _larger(plan, topology) -> Iterator[str]:
  names = [n for n, (chip, _) in chips.SLICES.items() if chip == plan.chip]
  after = names[names.index(topology) + 1 :]
  if after:
    yield f'--topology={after[0]}: twice the chips share it'
