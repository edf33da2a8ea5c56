import { refusal, unsupported } from '../refuse.ts'
import type { Alias, DomainDefinition, HostDevice } from '../generated/model.ts'

/** Devices that need little: what they have when a document does not say. */
export function normaliseOthers(def: DomainDefinition): void {
  const { devices } = def
  if (devices === undefined) return
  devices.memballoon ??= { model: 'virtio' }
  for (const watchdog of devices.watchdogs ?? []) watchdog.action ??= 'reset'
  for (const panic of devices.panics ?? []) panic.model ??= 'isa'
  for (const rng of devices.rngs ?? []) {
    if (rng.backend === undefined) throw refusal('is missing', { at: rng, below: '/backend' })
    if (rng.backend.model === 'random' && rng.backend.value === '')
      rng.backend.value = '/dev/random'
  }
  if (devices.vsock !== undefined) {
    devices.vsock.model ??= 'virtio'
    devices.vsock.cid ??= {}
    devices.vsock.cid.auto ??= devices.vsock.cid.address === undefined
  }
  for (const tpm of devices.tpms ?? []) {
    tpm.model ??= 'tpm-tis'
    if (tpm.backend === undefined) throw refusal('is missing', { at: tpm, below: '/backend' })
    if (tpm.backend.type === 'emulator') {
      tpm.backend.version ??= tpm.model === 'tpm-crb' ? '2.0' : '1.2'
    }
  }
  for (const shmem of devices.shmems ?? []) normaliseShmem(shmem)
  for (const filesystem of devices.filesystems ?? []) {
    filesystem.type ??= 'mount'
    if (filesystem.driver?.type !== 'virtiofs') filesystem.accessmode ??= 'passthrough'
    for (const mode of ['fmode', 'dmode'] as const) {
      const value = filesystem[mode]
      if (value !== undefined) filesystem[mode] = value.padStart(4, '0')
    }
  }
  for (const redirdev of devices.redirdevs ?? []) {
    redirdev.bus ??= 'usb'
    redirdev.type ??= 'pty'
  }
  for (const hostdev of devices.hostdevs ?? []) normaliseHostdev(hostdev)
}

type Shmem = NonNullable<NonNullable<DomainDefinition['devices']>['shmems']>[number]

function normaliseShmem(shmem: Shmem): void {
  shmem.model ??= { type: 'ivshmem' }
  const { size } = shmem
  if (size === undefined) return
  const units: Readonly<Record<string, number>> = { M: 1, MiB: 1, G: 1024, GiB: 1024 }
  const factor = units[size.unit ?? 'M']
  if (factor === undefined) {
    throw refusal('expected one of M, MiB, G, GiB', { at: size, below: '/@unit', value: size.unit })
  }
  size.value *= factor
  size.unit = 'M'
}

const hex = (text: string | undefined, digits: number) =>
  `0x${Number(text ?? 0)
    .toString(16)
    .padStart(digits, '0')}`

function normaliseHostdev(hostdev: HostDevice): void {
  hostdev.mode ??= 'subsystem'
  if (hostdev.mode === 'capabilities') {
    throw unsupported('is for containers; expected "subsystem"', {
      at: hostdev,
      below: '/@mode',
      value: 'capabilities',
    })
  }
  hostdev.managed ??= false
  if (hostdev.type === 'mdev') {
    hostdev.model ??= 'vfio-pci'
    if (hostdev.model === 'vfio-pci') hostdev.display ??= false
  }
  const { address } = hostdev.source ?? {}
  if (address === undefined || hostdev.type !== 'pci') return
  address.domain = hex(address.domain, 4)
  address.bus = hex(address.bus, 2)
  address.slot = hex(address.slot, 2)
  address.function = hex(address.function, 1)
}

/** Names that the start gives are forgotten; those of the user, which begin with `ua-`, stay. */
export function forgetAliases(devices: Iterable<{ alias?: Alias }>): void {
  const seen = new Set<string>()
  for (const device of devices) {
    if (device.alias === undefined) continue
    const { name } = device.alias
    if (!name.startsWith('ua-')) {
      delete device.alias
      continue
    }
    if (seen.has(name)) {
      throw refusal('another device has the same name', {
        at: device.alias,
        below: '/@name',
        value: name,
      })
    }
    seen.add(name)
  }
}
