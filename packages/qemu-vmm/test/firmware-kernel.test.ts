import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'

import { firmwareKernel } from '../src/boot/firmware-kernel.ts'
import { FW_CFG_ITEM } from '../src/chipset/fw-cfg.ts'
import { BootIndex } from '../src/machine/boot-index.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { machineRoms } from '../src/machine/option-roms.ts'
import { bzImage, elf, scratchFolder, writeImage } from './support/images.ts'
import { peerItem } from './support/peer-files.ts'
import { hasPeer, startPeer } from './support/qtest.ts'

const compared = hasPeer ? test : test.skip
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))
const kernel = writeImage(folder, 'kernel', bzImage())
const initrd = writeImage(folder, 'initrd', new Uint8Array(70_001).fill(7))
const MIB = 1 << 20

for (const [what, append, withInitrd, memory] of [
  ['a kernel alone', '', false, 128],
  ['an initrd and a command line', 'console=ttyS0 vga=ask quiet', true, 128],
  ['a video mode by number', 'vga=0x317', true, 3072],
] as const) {
  compared(`what firmware is told of a kernel is what QEMU tells: ${what}`, async (t) => {
    const args = ['-m', `${memory}`, '-kernel', kernel]
    if (append !== '') args.push('-append', append)
    if (withInitrd) args.push('-initrd', initrd)
    const config = { kernel, append, ...(withInitrd ? { initrd } : {}) }
    const ours = firmwareKernel(config, createMemoryMap(memory * MIB))
    const peer = startPeer(...args)
    try {
      for (const [name, item] of Object.entries(FW_CFG_ITEM)) {
        const mine = ours.get(item)
        if (mine === undefined) continue
        const theirs = await peerItem(peer, item, mine.length)
        t.is(Buffer.from(mine).toString('hex'), theirs.toString('hex'), name)
      }
      t.true(ours.has(FW_CFG_ITEM.setup))
    } finally {
      peer.close()
    }
  })
}

test('firmware starts nothing but a bzImage', (t) => {
  const map = createMemoryMap(64 * MIB)
  const start = (path: string, more = {}): unknown =>
    t.throws(() => firmwareKernel({ kernel: path, ...more }, map))
  t.like(start(writeImage(folder, 'elf', elf())), { code: 'E_IMAGE_FORMAT' })
  t.like(start(join(folder, 'absent')), { code: 'E_FILE' })
  t.like(start(writeImage(folder, 'part', bzImage().slice(0, 600))), { code: 'E_IMAGE_TRUNCATED' })
  // Neither is read, which would not fit into this process.
  const sparse = (name: string, head: Uint8Array): string => {
    const path = writeImage(folder, name, head)
    truncateSync(path, 2 ** 40)
    return path
  }
  t.like(start(sparse('endless', new Uint8Array(0))), { code: 'E_IMAGE_FORMAT' })
  t.like(start(sparse('long', bzImage())), { code: 'E_KERNEL_TOO_LARGE' })
  t.like(start(kernel, { append: 'x'.repeat(70_000) }), { code: 'E_CMDLINE_TOO_LONG' })
  const large = writeImage(folder, 'large', new Uint8Array(64 * MIB))
  t.like(start(kernel, { initrd: large }), { code: 'E_INITRD_TOO_LARGE' })
})

test('ROMs of the machine are files for the BIOS, in the order of their indexes', (t) => {
  const order = new BootIndex()
  const [a, b] = ['a.rom', 'b.rom'].map((name) => join(folder, name)) as [string, string]
  for (const path of [a, b]) writeFileSync(path, Uint8Array.of(0x55, 0xaa, 1))
  order.add(3, '/pci@i0cf8/scsi@3/disk@0,0')
  const optionRoms = [{ file: a, bootIndex: 5 }, { file: b }]
  const roms = machineRoms({ memory: 64 * MIB, optionRoms }, order)
  t.deepEqual(
    roms.map(({ name }) => name),
    ['genroms/a.rom', 'genroms/b.rom'],
  )
  order.addFirst('/rom@genroms/kernel')
  t.is(
    Buffer.from(order.file(false)).toString(),
    '/rom@genroms/kernel\n/pci@i0cf8/scsi@3/disk@0,0\n/rom@genroms/a.rom\0',
  )
  const missing = { memory: 64 * MIB, optionRoms: [{ file: join(folder, 'none') }] }
  t.throws(() => machineRoms(missing, new BootIndex()), { code: 'E_NO_FIRMWARE' })
})
