import type { Disk, DomainDefinition, NetworkInterface } from './generated/model.ts'
import { normaliseDomain } from './normalise/index.ts'
import { diskIndex } from './normalise/disks.ts'
import type { DomainOptions } from './options.ts'

type Bus = 'virtio' | 'sata' | 'ide' | 'scsi'

const prefixes: Readonly<Record<Bus, string>> = { virtio: 'vd', sata: 'sd', ide: 'hd', scsi: 'sd' }

/** Puts a definition together step by step; each step returns the builder. */
export interface DomainBuilder {
  /** MiB of memory (default: 512). */
  memory(memoryMib: number): DomainBuilder
  vcpus(count: number): DomainBuilder
  /** `pc`, `q35`, or a version of them (default: `q35`). */
  machine(type: string): DomainBuilder
  /** A disk that is a file; its name on the bus is the next free one. */
  disk(
    file: string,
    options?: { format?: 'raw' | 'qcow2'; bus?: Bus; readonly?: boolean },
  ): DomainBuilder
  /** A CD drive, with an image or empty. */
  cdrom(file?: string): DomainBuilder
  /** A card at the user-mode network, or at a network of that name. */
  network(options?: { model?: string; mac?: string; network?: string }): DomainBuilder
  /** A serial port that is the console. */
  console(): DomainBuilder
  /** A channel for the agent in the guest. */
  agent(): DomainBuilder
  /** A source of random numbers. */
  rng(): DomainBuilder
  /** A kernel that is booted directly. */
  kernel(kernel: string, options?: { initrd?: string; cmdline?: string }): DomainBuilder
  /** Changes what the other steps do not reach. */
  change(change: (def: DomainDefinition) => void): DomainBuilder
  /**
   * The complete definition; the builder can go on from where it is.
   * @throws XmlError when the definition contradicts itself
   */
  build(options?: DomainOptions): DomainDefinition
}

/** Begins a domain with a name; without further steps it has ACPI, no graphics and no disk. */
export function buildDomain(name: string, type: 'kvm' | 'qemu' = 'qemu'): DomainBuilder {
  const devices = {
    disks: [] as Disk[],
    interfaces: [] as NetworkInterface[],
  }
  const def: DomainDefinition = {
    type,
    name,
    memory: { value: 512, unit: 'MiB' },
    os: { type: { value: 'hvm', machine: 'q35' } },
    features: { acpi: true, apic: {} },
    devices,
  }
  const os = (def.os ??= {})
  const nextName = (bus: Bus): string => {
    const taken = devices.disks.flatMap(({ target }) =>
      target?.dev.startsWith(prefixes[bus]) ? diskIndex(target.dev) : [],
    )
    const index = Math.max(-1, ...taken) + 1
    const first = index < 26 ? '' : String.fromCodePoint(96 + Math.floor(index / 26))
    return `${prefixes[bus]}${first}${String.fromCodePoint(97 + (index % 26))}`
  }
  const step = (change: () => void): DomainBuilder => {
    change()
    return builder
  }
  const builder: DomainBuilder = {
    memory: (memoryMib) => step(() => void (def.memory = { value: memoryMib, unit: 'MiB' })),
    vcpus: (count) => step(() => void (def.vcpu = { value: count })),
    machine: (machine) => step(() => void (os.type = { value: 'hvm', machine })),
    disk: (file, { format = 'qcow2', bus = 'virtio', readonly = false } = {}) =>
      step(() => {
        devices.disks.push({
          type: 'file',
          device: 'disk',
          driver: { name: 'qemu', type: format },
          source: { file },
          target: { dev: nextName(bus), bus },
          ...(readonly ? { readonly: true } : {}),
        })
      }),
    cdrom: (file) =>
      step(() => {
        const bus = /q35/.test(os.type?.machine ?? '') ? 'sata' : 'ide'
        devices.disks.push({
          type: 'file',
          device: 'cdrom',
          ...(file === undefined ? {} : { source: { file } }),
          target: { dev: nextName(bus), bus },
        })
      }),
    network: ({ model = 'virtio', mac, network } = {}) =>
      step(() => {
        devices.interfaces.push({
          type: network === undefined ? 'user' : 'network',
          ...(network === undefined ? {} : { source: { network } }),
          ...(mac === undefined ? {} : { mac: { address: mac } }),
          model: { type: model },
        })
      }),
    console: () => step(() => void (def.devices = { ...def.devices, consoles: [{ type: 'pty' }] })),
    agent: () =>
      step(() => {
        const target = { type: 'virtio' as const, name: 'org.qemu.guest_agent.0' }
        def.devices = { ...def.devices, channels: [{ type: 'unix', target }] }
      }),
    rng: () =>
      step(() => {
        const backend = { model: 'random' as const, value: '/dev/urandom' }
        def.devices = { ...def.devices, rngs: [{ model: 'virtio', backend }] }
      }),
    kernel: (kernel, { initrd, cmdline } = {}) =>
      step(() => {
        os.kernel = kernel
        if (initrd !== undefined) os.initrd = initrd
        if (cmdline !== undefined) os.cmdline = cmdline
      }),
    change: (change) => step(() => change(def)),
    build: (options = {}) => {
      const complete = structuredClone(def)
      normaliseDomain(complete, options)
      return complete
    },
  }
  return builder
}
