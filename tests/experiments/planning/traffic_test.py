"""Collectives as a TPU's compiler writes them."""

import pytest

from experiments.planning import hlo, traffic

_MIB = 2**20


def _module(lines):
  return hlo.parse('ENTRY %main (a: f32[]) -> f32[] {\n' + lines + '}\n')


@pytest.mark.parametrize(
  ('groups', 'size'),
  [
    ("replica_groups=mesh['axis_0'=16,'axis_1'=1] {'axis_0'}", 16),
    ("replica_groups=mesh['a'=2,'b'=4,'c'=2] {'a','c'}", 4),
    ('replica_groups=[4,8]<=[32]', 8),
    ('replica_groups={{0,1,2,3},{4,5,6,7}}', 4),
  ],
)
def test_groups(groups, size):
  module = _module(
    f"""  %a = f32[{size},1024]{{1,0}} parameter(0)
  ROOT %r = f32[{size},1024]{{1,0}} all-reduce(%a), {groups}, to_apply=%add
"""
  )
  body = module.computations['main']
  found = traffic.received(module, body, body['r'])
  assert found == 2 * (size - 1) * 4096


def test_starts_hold_their_operands():
  module = _module(
    """  %a = bf16[4,1024]{1,0} parameter(0)
  %s = (bf16[4,1024]{1,0}, bf16[16,1024]{1,0}) all-gather-start(%a), replica_groups={{0,1,2,3}}
  %p = (bf16[4,1024]{1,0}, bf16[4,1024]{1,0}, u32[], u32[]) collective-permute-start(%a), source_target_pairs={{0,1},{1,0}}
  ROOT %d = bf16[16,1024]{1,0} all-gather-done(%s)
"""  # noqa: E501
  )
  body = module.computations['main']
  assert traffic.received(module, body, body['s']) == 3 * 4 * 1024 * 2
  assert traffic.received(module, body, body['p']) == 4 * 1024 * 2 + 8
  assert traffic.received(module, body, body['d']) == 0


# A transfer in three pieces; the middle one in a fusion that computes too.
_CHAIN = """%begin (a: bf16[512,1024]) -> bf16[2048,1024] {
  %a = bf16[512,1024]{1,0} parameter(0)
  ROOT %g = bf16[2048,1024]{1,0} all-gather(%a), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="7"}, backend_config={"async_collective_fusion_config":{"flag_start":"-1","flag_end":"2"}}
}
%middle (b: bf16[512,1024]) -> bf16[2048,1024] {
  %b = bf16[512,1024]{1,0} parameter(0)
  ROOT %h = bf16[2048,1024]{1,0} all-gather(%b), replica_groups={{0,1,2,3}}, frontend_attributes={chain_id="7"}, backend_config={"async_collective_fusion_config":{"flag_start":"2","flag_end":"8"}}
}
ENTRY %main (x: bf16[512,1024]) -> bf16[2048,1024] {
  %x = bf16[512,1024]{1,0} parameter(0)
  %one = bf16[2048,1024]{1,0} fusion(%x), kind=kCustom, calls=%begin
  %two = bf16[2048,1024]{1,0} fusion(%x), kind=kCustom, calls=%middle
  ROOT %three = bf16[2048,1024]{1,0} fusion(%x), kind=kCustom, calls=%middle
}
"""  # noqa: E501


def test_a_transfer_in_pieces_counts_once():
  module = hlo.parse(_CHAIN)
  body = module.computations['main']
  chain = traffic.Chain('chain 7', 3 * _MIB, 'one', 'three')
  assert traffic.chains(module, body) == dict.fromkeys(
    ['one', 'two', 'three'], chain
  )
  for name in ('one', 'two', 'three'):
    assert traffic.received(module, body, body[name]) == 0


def test_pieces_of_a_transfer_that_began_elsewhere():
  text = _CHAIN.replace('"flag_start":"-1"', '"flag_start":"2"')
  module = hlo.parse(text)
  assert not traffic.chains(module, module.computations['main'])
