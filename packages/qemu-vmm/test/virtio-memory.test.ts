import test from 'ava'
import { open } from 'kvm-core'

import { virtioMemory } from '../src/devices/guest-memory.ts'

test('a queue hears of memslots that change under it', async (t) => {
  await using vm = open({ engine: 'soft' }).createVm()
  const [first, second] = [vm.createRam({ size: 4096 }), vm.createRam({ size: 4096 })]
  new Uint8Array(second.segment(0)).fill(7)
  vm.setUserMemoryRegion({ slot: 1, gpa: 0xe000, size: 4096, ram: first })
  const memory = virtioMemory(vm.memory)
  const before = memory.generation
  t.is(memory.generation, before)
  t.is(memory.pieces(0xe000, 1)[0]?.[0], 0)
  vm.setUserMemoryRegions([
    { slot: 1, gpa: 0xe000, size: 0 },
    { slot: 2, gpa: 0xe000, size: 4096, ram: second },
  ])
  t.not(memory.generation, before)
  t.is(memory.pieces(0xe000, 1)[0]?.[0], 7)
})
