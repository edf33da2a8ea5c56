import { basename } from 'node:path'

/** What an emulator has, as far as command lines differ by it. */
export interface EmulatorFeatures {
  /** Drivers that `-device` takes; undefined when all of QEMU's are there. */
  devices?: ReadonlySet<string> | undefined
  /** Fine tuning of devices and processors, which QEMU has: threads, queues, policies, flags. */
  tuning: boolean
  /** Networks can be kept to a rate (`-object filter-throttle`). */
  netThrottle: boolean
}

/** Debian's QEMU and its kin. */
export const qemuFeatures: EmulatorFeatures = {
  tuning: true,
  netThrottle: false,
}

/** Our own `qemu-kvm`. Whoever runs one asks it for its devices: {@link parseDeviceHelp}. */
export const qemuKvmFeatures: EmulatorFeatures = {
  devices: new Set([
    'VGA',
    'ahci',
    'e1000',
    'e1000e',
    'floppy',
    'ich9-ahci',
    'ide-cd',
    'ide-hd',
    'isa-debug-exit',
    'isa-debugcon',
    'isa-fdc',
    'isa-parallel',
    'isa-serial',
    'pc-testdev',
    'pci-testdev',
    'pcie-root-port',
    'pvpanic',
    'pvpanic-pci',
    'rtl8139',
    'virtconsole',
    'virtio-balloon-pci',
    'virtio-blk-pci',
    'virtio-net-pci',
    'virtio-rng-pci',
    'virtio-serial-pci',
    'virtserialport',
  ]),
  tuning: false,
  netThrottle: true,
}

/** What an emulator has by its name; `qemu-system-x86_64` is QEMU. */
export function featuresOf(program: string): EmulatorFeatures {
  return basename(program).startsWith('qemu-system-') ? qemuFeatures : qemuKvmFeatures
}

/** The drivers that `EMULATOR -device help` lists. */
export function parseDeviceHelp(help: string): ReadonlySet<string> {
  return new Set([...help.matchAll(/^name "([^"]+)"/gm)].map((match) => match[1] ?? ''))
}
