import test from 'ava'
import { MemFlag, open } from 'kvm-core'
import { Virtqueue } from 'virtio'

import { virtioMemory } from '../src/devices/guest-memory.ts'
import { dmaPieces, dmaWrite } from '../src/machine/dma.ts'
import { deviceMemory } from '../src/machine/guest-view.ts'

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

test('devices write to RAM and not to ROM', async (t) => {
  await using vm = open({ engine: 'soft' }).createVm()
  const ram = vm.createRam({ size: 0x2000 })
  const rom = vm.createRam({ size: 0x2_0000 })
  const romBytes = new Uint8Array(rom.segment(0)).fill(7)
  vm.setUserMemoryRegions([
    { slot: 1, gpa: 0x1000, size: 0x1000, ram },
    { slot: 2, gpa: 0x2000, size: 0x2_0000, ram: rom, flags: MemFlag.Readonly },
    { slot: 3, gpa: 0x2_2000, size: 0x1000, ram, offset: 0x1000 },
  ])
  const { memory } = vm
  t.true(memory.isWritable(0x1000, 0x1000))
  t.true(memory.isWritable(0x2_2ffc, 4))
  t.false(memory.isWritable(0x1ffe, 4), 'the end is ROM')
  t.false(memory.isWritable(0x2_1ffe, 4), 'the beginning is ROM')
  t.false(memory.isWritable(0x2_2ffe, 4), 'the end is a hole')
  t.false(memory.isWritable(0, 1))
  t.false(virtioMemory(memory).isWritable?.(0x2000, 1))

  const bytes = new Uint8Array(0x2_2000).fill(9)
  dmaWrite(memory, 0x1000, bytes)
  t.true(new Uint8Array(ram.segment(0)).every((byte) => byte === 9))
  t.true(
    romBytes.every((byte) => byte === 7),
    'what goes to ROM is lost',
  )
  t.throws(() => dmaWrite(memory, 0x1000, new Uint8Array(0x2_2001)), { code: 'EFAULT' })
  t.is(memory.view(0x1000, 1).getUint8(0), 9, 'a write with a hole changes nothing')

  const pieces: Uint8Array[] = []
  const addresses: number[] = []
  t.true(dmaPieces(memory, 0x1800, 0x2_1000, true, pieces, addresses))
  for (const piece of pieces) piece.fill(3)
  t.true(romBytes.every((byte) => byte === 7))
  t.is(memory.view(0x1800, 1).getUint8(0), 3)
  t.is(memory.view(0x2_27ff, 1).getUint8(0), 3)
  t.is(
    pieces.reduce((sum, piece) => sum + piece.length, 0),
    0x2_1000,
  )
  pieces.length = 0
  t.true(dmaPieces(memory, 0x2000, 16, false, pieces, addresses))
  t.deepEqual(
    [...pieces[0]!],
    Array.from({ length: 16 }, () => 7),
    'a device reads ROM',
  )
  t.false(dmaPieces(memory, 0x2_2ffe, 4, true, pieces, addresses))

  const view = deviceMemory(memory).view(0x2000, 4)
  view.setUint32(0, 0xffff_ffff)
  t.is(romBytes[0], 7)
  memory.write(0x2000, Uint8Array.of(1))
  t.is(romBytes[0], 1, 'the host itself may')

  vm.setUserMemoryRegions([
    { slot: 2, gpa: 0x2000, size: 0 },
    { slot: 2, gpa: 0x2000, size: 0x2_0000, ram: rom },
  ])
  t.true(memory.isWritable(0x1000, 0x2_2000), 'shadow RAM that is opened')
})

test('a queue whose used ring is in ROM is refused, and so is a buffer there', async (t) => {
  await using vm = open({ engine: 'soft' }).createVm()
  const ram = vm.createRam({ size: 0x1_0000 })
  const rom = vm.createRam({ size: 0x1000 })
  vm.setUserMemoryRegions([
    { slot: 1, gpa: 0, size: 0x1_0000, ram },
    { slot: 2, gpa: 0xf_0000, size: 0x1000, ram: rom, flags: MemFlag.Readonly },
  ])
  const memory = virtioMemory(vm.memory)
  const start = (usedGpa: number): Virtqueue => {
    const queue = new Virtqueue(memory, 0, 8)
    for (const [at, gpa] of [0x1000, 0x2000, usedGpa].entries()) queue.setAddressWord(2 * at, gpa)
    queue.enable({ eventIdx: false, indirect: false })
    return queue
  }
  t.throws(() => start(0xf_0000), { code: 'E_GUEST_ADDRESS' })
  const queue = start(0x3000)
  const desc = vm.memory.view(0x1000, 16)
  desc.setUint32(0, 0xf_0010, true)
  desc.setUint32(8, 4, true)
  desc.setUint16(12, 2, true)
  vm.memory.view(0x2000, 4).setUint16(2, 1, true)
  const chain = queue.popChain()!
  t.throws(() => chain.write(0, Uint8Array.of(1, 2, 3, 4)), { code: 'E_GUEST_ADDRESS' })
  t.true(new Uint8Array(rom.segment(0)).every((byte) => byte === 0))
})
