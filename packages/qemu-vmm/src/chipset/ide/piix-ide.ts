import type { GuestMemory } from 'kvm-core'

import type { IoHandler, IrqLine, Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { PCI_COMMAND, PCI_COMMAND_MASTER, PCI_STATUS } from '../pci/config-space.ts'
import { PciFunction } from '../pci/function.ts'
import { BusMaster } from './bus-master.ts'
import type { AtaBus } from './bus.ts'
import { IdeChannel } from './channel.ts'
import type { AtaUnit } from './unit.ts'

/** Timing registers of both channels; their top bit has the channel decode its ports. */
export const IDE_TIMING = 0x40
const TIMING_ENABLED = 0x8000
const COMMAND_BLOCKS = [0x1f0, 0x170] as const
const CONTROL_OFFSET = 0x206
const BUS_MASTER_BAR = 4
const BUS_MASTER_BYTES = 8

/** One channel with its units, as devices are plugged into it. */
class PiixBus implements AtaBus {
  readonly name: string
  readonly units = 2
  readonly channel: IdeChannel
  readonly #number: number
  readonly #names: (string | undefined)[] = []

  constructor(number: number, channel: IdeChannel) {
    this.name = `ide.${number}`
    this.#number = number
    this.channel = channel
  }

  owner(unit: number): string | undefined {
    return this.#names[unit]
  }

  attach(unit: number, owner: string, device: AtaUnit): void {
    this.#names[unit] = owner
    this.channel.attach(unit === 0 ? 0 : 1, device)
  }

  serialNumber(unit: number): number {
    return this.#number * 2 + unit + 1
  }

  firmwarePath(unit: number): string {
    return `/pci@i0cf8/ide@1,1/drive@${this.#number}/disk@${unit}`
  }

  reset(): void {
    this.channel.reset()
  }

  quiesce(): Promise<void> {
    return this.channel.quiesce()
  }
}

/**
 * The IDE function of the PIIX3 at 01.1: two channels at the ports and interrupts of the PC/AT, and
 * bus masters (82371SB data sheet, 2.4; Programming Interface for Bus Master IDE Controller).
 */
export class PiixIde implements Stateful {
  readonly fn: PciFunction
  readonly buses: readonly [AtaBus, AtaBus]
  readonly #masters: readonly [BusMaster, BusMaster]
  readonly #channels: readonly [IdeChannel, IdeChannel]

  constructor(bus: Bus, memory: GuestMemory, irqs: readonly [IrqLine, IrqLine]) {
    this.fn = new PciFunction('piix3-ide', bus, {
      vendor: 0x8086,
      device: 0x7010,
      // Both channels in compatibility mode, and a bus master.
      classCode: 0x010180,
    })
    const { config } = this.fn
    config.set(PCI_STATUS, 2, 0x0280)
    config.allowWrites(IDE_TIMING, 4, 0xffff_ffff)
    this.#masters = [new BusMaster(memory), new BusMaster(memory)]
    this.#channels = [
      new IdeChannel(irqs[0], this.#masters[0]),
      new IdeChannel(irqs[1], this.#masters[1]),
    ]
    for (const master of this.#masters) {
      master.isEnabled = () => (config.get16(PCI_COMMAND) & PCI_COMMAND_MASTER) !== 0
    }
    this.fn.addBar(BUS_MASTER_BAR, {
      space: 'pio',
      size: 2 * BUS_MASTER_BYTES,
      access: { max: 1 },
      handler: {
        read: (offset) => this.#master(offset).read(offset & 7),
        write: (offset, _size, value) => this.#master(offset).write(offset & 7, value & 0xff),
      },
    })
    this.buses = [new PiixBus(0, this.#channels[0]), new PiixBus(1, this.#channels[1])]
    for (const [i, base] of COMMAND_BLOCKS.entries()) mapPorts(bus, i, base, this.#channels[i]!)
  }

  /** The device at 0..3: both of the primary channel, then both of the secondary. */
  unit(index: number): AtaUnit | undefined {
    return this.#channels[index >> 1]?.unit((index & 1) as 0 | 1)
  }

  /** What firmware does: lets the channels decode. */
  enable(): void {
    this.fn.configWrite(IDE_TIMING, 2, TIMING_ENABLED)
    this.fn.configWrite(IDE_TIMING + 2, 2, TIMING_ENABLED)
  }

  reset(): void {
    for (const master of this.#masters) master.reset()
    for (const channel of this.#channels) channel.reset()
  }

  save(): unknown {
    return {
      masters: this.#masters.map((master) => master.save()),
      channels: this.#channels.map((channel) => channel.save()),
    }
  }

  load(state: unknown): void {
    const { masters, channels } = (state ?? {}) as { masters?: unknown[]; channels?: unknown[] }
    for (const [i, master] of this.#masters.entries()) master.load(masters?.[i])
    for (const [i, channel] of this.#channels.entries()) channel.load(channels?.[i])
  }

  #master(offset: number): BusMaster {
    return this.#masters[offset < BUS_MASTER_BYTES ? 0 : 1]
  }
}

function mapPorts({ pio }: Bus, number: number, base: number, channel: IdeChannel): void {
  const name = `ide${number}`
  const element = new Uint8Array(4)
  const view = new DataView(element.buffer)
  const data: IoHandler = {
    read(_offset, size) {
      channel.readData(size, element, 0, size)
      // The bus takes as many bytes as it wants.
      return view.getUint32(0, true)
    },
    write(_offset, size, value) {
      view.setUint32(0, value, true)
      channel.writeData(size, element, 0, size)
    },
    readString: (_offset, size, target, start, end) => channel.readData(size, target, start, end),
    writeString: (_offset, size, source, start, end) => channel.writeData(size, source, start, end),
  }
  const command: IoHandler = {
    read: (offset) => channel.read(offset),
    write: (offset, _size, value) => channel.write(offset, value & 0xff),
  }
  const control: IoHandler = {
    read: () => channel.alternateStatus,
    write: (_offset, _size, value) => channel.writeControl(value & 0xff),
  }
  // What a command does shows in registers, or comes with an interrupt.
  const registers = { access: { max: 1 }, posted: true } as const
  // Whatever width an access to the data port has is that of the port.
  pio.map({ name, base, len: 1, handler: data })
  pio.map({ name, base: base + 1, len: 7, origin: base, handler: command, ...registers })
  pio.map({ name, base: base + CONTROL_OFFSET, len: 1, handler: control, ...registers })
}
