import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { openImage } from '../src/block/index.ts'
import { peer, readAll, temporary, tool } from './support/disks.ts'
import { ours } from './support/img.ts'

// Images on block devices of the host: loop devices, which only root can make.
const MIB = 1 << 20
const BYTES = 16 * MIB

/** A device over a file that is full of what its last user left there; undefined where there are none. */
function loop(t: ExecutionContext, file: string): string | undefined {
  if (process.getuid?.() !== 0) return undefined
  writeFileSync(file, new Uint8Array(BYTES).fill(0xa5))
  const { status, stdout } = tool('losetup', '-f', '--show', file)
  const device = stdout.trim()
  if (status !== 0 || statSync(device, { throwIfNoEntry: false })?.isBlockDevice() !== true) {
    return undefined
  }
  t.teardown(() => tool('losetup', '-d', device))
  return device
}

function withDevice(
  title: string,
  work: (t: ExecutionContext, device: string, path: (name: string) => string) => Promise<void>,
): void {
  test.serial(title, async (t) => {
    const path = temporary(t)
    const device = loop(t, path('backing'))
    if (device === undefined) {
      t.log('skipped: no loop device can be had (needs root and losetup of util-linux)')
      t.pass()
      return
    }
    await work(t, device, path)
  })
}

withDevice('a block device is a raw disk of its size', async (t, device, path) => {
  const node = await openImage({ filename: device, format: 'raw', discard: 'unmap' })
  t.is(node.sizeBytes, BYTES)
  t.true(node.logicalBlockBytes >= 512)
  await node.writev(MIB, [new Uint8Array(MIB).fill(7)])
  await node.writeZeroes(4 * MIB, MIB, true)
  await node.discard(6 * MIB, MIB)
  await t.throwsAsync(node.resize(2 * BYTES), { code: 'E_BLOCK_IO' })
  const bytes = await readAll(node)
  await node.close()
  t.deepEqual([bytes[0], bytes[MIB], bytes[4 * MIB], bytes[5 * MIB]], [0xa5, 7, 0, 0xa5])
  t.is(Buffer.compare(readFileSync(path('backing')), bytes), 0)
  const info = await ours('info', '--output=json', device)
  const told = JSON.parse(info.stdout) as Record<string, unknown>
  t.deepEqual([told['format'], told['virtual-size']], ['raw', BYTES])
})

withDevice('a conversion to a block device writes its zeros', async (t, device, path) => {
  writeFileSync(path('raw'), new Uint8Array(3 * MIB).fill(9))
  truncateSync(path('raw'), 12 * MIB)
  t.is((await ours('convert', '-O', 'raw', path('raw'), device)).status, 0)
  const found = readFileSync(path('backing'))
  t.is(Buffer.compare(found.subarray(0, 12 * MIB), readFileSync(path('raw'))), 0)
  // Behind the disk the device keeps what it had.
  t.is(found[13 * MIB], 0xa5)
})

withDevice('a qcow2 image lives on a block device', async (t, device, path) => {
  t.is((await ours('create', '-q', '-f', 'qcow2', device, '64M')).status, 0)
  const node = await openImage({ filename: device, format: 'qcow2', discard: 'unmap' })
  const model = new Uint8Array(64 * MIB)
  for (const [at, value] of [
    [0, 1],
    [20 * MIB + 512, 2],
    [63 * MIB, 3],
  ] as const) {
    await node.writev(at, [new Uint8Array(70_144).fill(value)])
    model.fill(value, at, at + 70_144)
  }
  t.is(Buffer.compare(await readAll(node), model), 0)
  await node.close()
  t.is((await ours('check', device)).status, 0)
  // More than the device has: the request fails and the image stays sound.
  const again = await openImage({ filename: device, format: 'qcow2' })
  const error = await t.throwsAsync(again.writev(0, [new Uint8Array(20 * MIB).fill(5)]))
  t.is((error as { errno?: string }).errno, 'ENOSPC')
  await again.close()
  t.true([0, 3].includes((await ours('check', device)).status))
  if (!peer) return
  writeFileSync(path('model'), model)
  t.true([0, 3].includes(tool('qemu-img', 'check', '-f', 'qcow2', device).status!))
})
