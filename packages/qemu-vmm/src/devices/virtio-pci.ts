import { LEGACY_QUEUE_NOTIFY, VirtioPciTransport } from 'virtio'
import type { PciCapability, QueueLink, VirtioDevice, VirtioPciState } from 'virtio'

import { addExpressEndpoint } from '../chipset/pci/express-endpoint.ts'
import { PciFunction } from '../chipset/pci/function.ts'
import { Msix } from '../chipset/pci/msix.ts'
import { VmmError } from '../errors.ts'
import type { FirmwareFile } from '../firmware/find.ts'
import type { IoEventBinding } from '../machine/io-events.ts'
import type { DeviceOption, PluggedDevice, PropertySpec } from './device-type.ts'
import { romProperties } from './option-rom.ts'
import { PCI_ADDRESS_PROPERTIES, plugFunction, segmentOf } from './pci-address.ts'
import type { PciAddress } from './pci-address.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'

const MSIX_BAR = 1

/** Properties that all virtio devices on PCI have; `rom` is the option ROM of the kind of device. */
export const virtioPciProperties = (rom?: FirmwareFile): readonly PropertySpec[] => [
  ...romProperties(rom),
  ...PCI_ADDRESS_PROPERTIES,
  { name: 'vectors', type: 'uint32', help: 'MSI-X vectors; 0 for the interrupt pin alone' },
  {
    name: 'disable-legacy',
    type: 'OnOffAuto',
    help: 'Without the interface from before VirtIO 1.0',
    default: 'auto, which is on behind ports of PCI Express',
  },
  {
    name: 'disable-modern',
    type: 'bool',
    help: 'Without the interface of VirtIO 1.0',
    default: 'off',
  },
]

/** A virtio device on the PCI bus: function, MSI-X, and an ioeventfd for each queue. */
export class VirtioPciDevice implements PluggedDevice {
  readonly address: PciAddress
  readonly #device: VirtioDevice
  readonly #transport: VirtioPciTransport
  readonly #fn: PciFunction
  #msix: Msix | undefined
  readonly #context: PlugContext
  #bindings: (IoEventBinding | undefined)[] = []
  #legacyBindings: (IoEventBinding | undefined)[] = []
  /** Kicks that signalled an ioeventfd, and those that were synchronous exits. */
  readonly kicks: { signalled: number; exits: number } = { signalled: 0, exits: 0 }

  /** `vectors` is the number of MSI-X vectors where the option does not say another. */
  constructor(
    context: PlugContext,
    option: DeviceOption,
    device: VirtioDevice,
    defaultVectors: number,
    rom?: FirmwareFile,
  ) {
    const read = propertyReader(option)
    const vectors = read.int('vectors', 0, 128, defaultVectors)
    this.#context = context
    // In a slot of PCI Express there is no room for ports: the interface of before is left out.
    const { bus } = segmentOf(context, option)
    const isInPort = bus.express && bus !== context.pci
    const interfaces = virtioInterfaces(option, !isInPort)
    this.#device = device
    const usesMsix = (): boolean => this.#msix?.enabled ?? false
    this.#transport = new VirtioPciTransport(
      device,
      {
        msix: {
          get enabled() {
            return usesMsix()
          },
          vectors,
          trigger: (vector) => this.#msix?.trigger(vector),
        },
        intx: { set: (level) => this.#fn.setInterrupt(level) },
        lend: (queue, vector) => this.#lend(queue, vector),
      },
      { transitional: interfaces.legacy },
    )
    this.#fn = new PciFunction(option.id ?? option.driver, context.bus, {
      ...this.#transport.identity,
      express: isInPort,
    })
    this.#fn.onBusReset = () => this.reset()
    if (isInPort) addExpressEndpoint(this.#fn, () => this.reset())
    this.#addLegacyBar()
    if (interfaces.modern) this.#addModernBar()
    if (vectors > 0) this.#msix = new Msix(this.#fn, MSIX_BAR, vectors, context.sendMessage)
    if (this.#msix !== undefined) this.#msix.onChange = () => device.yieldRings()
    if (interfaces.modern) {
      for (const capability of this.#transport.capabilities) this.#addCapability(capability)
    }
    this.#fn.config.seal()
    this.#fn.onConfigWrite = () => {
      this.#msix?.configWritten()
      this.#transport.updateIntx()
    }
    this.address = plugFunction(context, this.#fn, option, rom)
  }

  #addModernBar(): void {
    const { bar } = this.#transport
    this.#fn.addBar(bar.index, {
      space: 'mmio',
      size: bar.size,
      is64: true,
      prefetchable: true,
      handler: {
        read: (offset, size) => this.#transport.read(offset, size),
        write: (offset, size, value) => {
          if (offset >= this.#firstNotify) this.kicks.exits++
          this.#transport.write(offset, size, value)
        },
      },
      onMove: (base) => this.#bindQueues(base),
    })
  }

  #addLegacyBar(): void {
    const bar = this.#transport.legacyBar
    if (bar === undefined) return
    this.#fn.addBar(bar.index, {
      space: 'pio',
      size: bar.size,
      handler: {
        read: (offset, size) => this.#transport.legacyRead(offset, size),
        write: (offset, size, value) => {
          if (offset === LEGACY_QUEUE_NOTIFY) this.kicks.exits++
          this.#transport.legacyWrite(offset, size, value)
        },
      },
      onMove: (base) => this.#bindLegacyQueues(base),
    })
  }

  reset(): void {
    // The function itself is reset with its bus.
    this.#msix?.reset()
    this.#transport.reset()
  }

  save(): unknown {
    this.#device.yieldRings()
    return { transport: this.#transport.save(), msix: this.#msix?.save() }
  }

  load(state: unknown): void {
    const { transport, msix } = (state ?? {}) as { transport?: unknown; msix?: unknown }
    this.#msix?.load(msix)
    this.#transport.load(transport as VirtioPciState)
  }

  pause(): void {
    this.#device.pause()
  }

  quiesce(): Promise<void> {
    this.#device.pause()
    return this.#device.quiesce()
  }

  resume(): void {
    this.#msix?.flush()
    this.#device.resume()
  }

  stats(): Record<string, number> {
    // Who has borrowed queues knows of their kicks.
    this.#device.yieldRings()
    return { virtioKicks: this.kicks.signalled, virtioKickExits: this.kicks.exits }
  }

  close(): void {
    this.#bindQueues(undefined)
    this.#bindLegacyQueues(undefined)
  }

  get #firstNotify(): number {
    return this.#transport.notifyAddresses[0]?.offset ?? Number.POSITIVE_INFINITY
  }

  /** Puts an ioeventfd where each queue is kicked. */
  #bindQueues(base: number | undefined): void {
    this.#device.yieldRings()
    for (const binding of this.#bindings) binding?.close()
    this.#bindings = []
    if (base === undefined) return
    for (const { queue, offset } of this.#transport.notifyAddresses) {
      this.#bindings.push(
        this.#context.ioEvents.bind({ addr: base + offset, len: 2 }, () => {
          this.kicks.signalled++
          this.#transport.notifyQueue(queue)
        }),
      )
    }
  }

  /** Has the kicks of a queue signal its eventfd alone, and interrupts sent as messages. */
  #lend(queue: number, vector: number): QueueLink | undefined {
    const binding = this.#bindings[queue]
    const message = this.#msix?.message(vector)
    if (binding === undefined || message === undefined) return undefined
    const { fd } = binding
    binding.setApart(true)
    return {
      ...message,
      kickFd: fd,
      end: (kicks) => {
        binding.setApart(false)
        this.kicks.signalled += kicks
      },
    }
  }

  /** The same for the one register by which all queues of a legacy driver are kicked. */
  #bindLegacyQueues(base: number | undefined): void {
    for (const binding of this.#legacyBindings) binding?.close()
    this.#legacyBindings = []
    if (base === undefined) return
    const addr = base + LEGACY_QUEUE_NOTIFY
    for (const { queue } of this.#transport.notifyAddresses) {
      const range = { addr, len: 2, datamatch: queue, pio: true } as const
      this.#legacyBindings.push(
        this.#context.ioEvents.bind(range, () => {
          this.kicks.signalled++
          this.#transport.notifyQueue(queue)
        }),
      )
    }
  }

  #addCapability({ bytes, writable, access }: PciCapability): void {
    const { config } = this.#fn
    const at = config.addCapability(bytes[0]!, bytes)
    for (const [i, mask] of writable.entries()) if (mask !== 0) config.allowWrites(at + i, 1, mask)
    if (access !== undefined) this.#fn.addConfigWindow(at, bytes.length, access)
  }
}

/** Which of the two interfaces a device has. */
function virtioInterfaces(
  option: DeviceOption,
  legacyByDefault: boolean,
): { legacy: boolean; modern: boolean } {
  const read = propertyReader(option)
  const wish = read.text('disable-legacy') ?? 'auto'
  const legacy = wish === 'auto' ? legacyByDefault : !read.bool('disable-legacy', false)
  const modern = !read.bool('disable-modern', false)
  if (legacy || modern) return { legacy, modern }
  throw new VmmError(
    'E_DEVICE_OPTION',
    `${option.driver}: device cannot work as neither modern nor legacy mode is enabled; ` +
      'leave out disable-modern or disable-legacy',
    { fields: { device: option.driver } },
  )
}
