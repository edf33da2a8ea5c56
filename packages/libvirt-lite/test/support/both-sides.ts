// This daemon and libvirt's own, with the same in front of them.
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { domainXml, folder, startDaemon } from './daemon.ts'
import { Libvirtd, qemu } from './libvirtd.ts'

/** Of the domain that both are given. */
export const UUID = '00000000-0000-4000-8000-000000000005'
const NOBODY = 65_534

export interface Side {
  name: string
  at: string
  socket: string
  libvirtd?: Libvirtd
}

/** Both daemons, with a folder of images and an empty one for a pool of each. */
export async function bothSides(t: ExecutionContext): Promise<readonly [Side, Side]> {
  const root = folder(t)
  chmodSync(root, 0o711)
  const places = ['one', 'two'].map((name) => join(root, name)) as [string, string]
  for (const at of places) {
    mkdirSync(join(at, 'pool'), { recursive: true })
    chmodSync(at, 0o755)
    for (const name of ['vda.img', 'vdb.img']) {
      writeFileSync(join(at, name), Buffer.alloc(1 << 20))
      chmodSync(join(at, name), 0o666)
    }
  }
  if (process.getuid?.() === 0) chownSync(join(places[1], 'pool'), NOBODY, NOBODY)
  const { socket } = await startDaemon(t, places[0], { emulator: qemu })
  const libvirtd = new Libvirtd()
  t.teardown(() => libvirtd.stop())
  await libvirtd.start()
  return [
    { name: 'ours', at: places[0], socket },
    { name: 'theirs', at: places[1], socket: libvirtd.socket, libvirtd },
  ]
}

/** A domain with a disk, a card and a screen. */
export const document = ({ at }: Side): string =>
  domainXml('p', {
    uuid: UUID,
    emulator: qemu,
    more: '<features><acpi/></features>',
    devices: `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${at}/vda.img'/><target dev='vda' bus='virtio'/></disk>
<interface type='user'><mac address='52:54:00:00:00:05'/><model type='virtio'/></interface>
<video><model type='vga'/></video>`,
  })
