"""Hugging Face transformers on torch: `dynamic` or `static` cache, `update`.

Needs requirements-peers.txt; see experiments/benchmarks/rollout.py.
"""

import os
import sys

import torch
import transformers

from experiments.benchmarks import serving, workload

# As jax is told: on a CPU unless $JAX_PLATFORMS names an accelerator.
DEVICE = 'cuda' if 'cuda' in os.environ.get('JAX_PLATFORMS', '') else 'cpu'


def model(work: workload.Workload) -> transformers.PreTrainedModel:
  """The workload's model, in its dtype, on `DEVICE`."""
  torch.manual_seed(0)
  if work.architecture:
    config = transformers.AutoConfig.for_model(**work.architecture)
    network = transformers.AutoModelForCausalLM.from_config(config)
    return network.to(DEVICE, getattr(torch, work.dtype))
  # Soft-caps need eager attention.
  config = transformers.Gemma2Config(
    vocab_size=work.vocab,
    hidden_size=work.width,
    num_hidden_layers=work.layers,
    num_attention_heads=work.heads,
    num_key_value_heads=work.kv_heads,
    head_dim=work.head_dim,
    intermediate_size=work.mlp,
    query_pre_attn_scalar=work.head_dim,
    sliding_window=work.window,
    attn_logit_softcapping=50.0,
    final_logit_softcapping=30.0,
    max_position_embeddings=work.window,
    pad_token_id=workload.PAD,
    eos_token_id=workload.STOP,
    attn_implementation='eager',
  )
  network = transformers.Gemma2ForCausalLM(config)
  return network.to(DEVICE, getattr(torch, work.dtype))


def finish() -> None:
  """Waits for the accelerator."""
  if DEVICE != 'cpu':
    torch.cuda.synchronize()


def device_peak() -> int | None:
  """Most bytes of the accelerator's memory so far; None without one."""
  return None if DEVICE == 'cpu' else torch.cuda.max_memory_reserved()


def rollout(work: workload.Workload, cache: str):
  """Two calls of `generate`; the second one's prompts hold the first attempt.

  All sequences run until the longest attempt has ended.
  """
  network = model(work).eval()
  place = {'dtype': torch.long, 'device': DEVICE}
  prompts = torch.tensor(work.prompts(), **place)
  between = torch.tensor(work.between(), **place)
  lengths = work.attempt_lengths()

  def generate(ids, mask, new):
    options = {'cache_implementation': 'static'} if cache == 'static' else {}
    return network.generate(
      input_ids=ids,
      attention_mask=mask,
      do_sample=True,
      temperature=1.0,
      top_k=0,
      top_p=1.0,
      min_new_tokens=int(new),
      max_new_tokens=int(new),
      disable_compile=True,
      **options,
    )

  @torch.no_grad()
  def run():
    out = generate(prompts, torch.ones_like(prompts), lengths[:, 0].max())
    rows = [
      torch.cat([row[: work.prompt + n], between])
      for row, n in zip(out, lengths[:, 0], strict=True)
    ]
    width = max(map(len, rows))
    ids = torch.full((work.rows, width), workload.PAD, device=DEVICE)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):  # generate needs padding on the left
      ids[i, width - len(row) :] = row
      mask[i, width - len(row) :] = 1
    generate(ids, mask, lengths[:, 1].max())
    finish()

  return run


def update(work: workload.Workload):
  """Forward, -log-probabilities of the attempts' tokens, backward, AdamW."""
  network = model(work).train()
  optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
  place = {'dtype': torch.long, 'device': DEVICE}
  tokens, turn = (torch.tensor(x, **place) for x in work.episodes())
  mask = (tokens != workload.PAD).long()

  def run():
    # Weights stay float32; products are bfloat16 on an accelerator.
    with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE != 'cpu'):
      logits = network(input_ids=tokens, attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(
      logits[:, :-1].flatten(0, 1).float(),
      tokens[:, 1:].flatten(),
      reduction='none',
    )
    (loss * (turn[:, 1:] > 0).flatten()).sum().backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    finish()

  return run


if __name__ == '__main__':
  kind, text = sys.argv[1:]
  torch.set_num_threads(1)
  job = workload.Workload.from_json(text)
  serving.serve(
    lambda: update(job) if kind == 'update' else rollout(job, kind),
    device_peak,
  )
