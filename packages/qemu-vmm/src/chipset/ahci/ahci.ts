import type { GuestMemory } from 'kvm-core'

import type { Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { flag, int, parseState, u32 } from '../../machine/state.ts'
import type { AtaBus } from '../ide/bus.ts'
import type { AtaUnit } from '../ide/unit.ts'
import { PciFunction } from '../pci/function.ts'
import { Msi } from '../pci/msi.ts'
import type { SendMessage } from '../pci/msix.ts'
import type { UnknownCommand } from '../unknown-command.ts'
import { REGISTERS as PORT_REGISTERS } from './port-registers.ts'
import { AhciPort } from './port.ts'

const PORTS = 6
const INDEX_BAR = 4
const INDEX_BYTES = 32
/** The index and the data port in their BAR (AHCI 1.3.1, 2.5). */
const INDEX = 0x10
const DATA = 0x14
const REGISTER_BAR = 5
const REGISTER_BYTES = 4096
const PORTS_AT = 0x100
const PORT_BYTES = 0x80

/** Registers of the controller (AHCI 1.3.1, 3.1). */
const CAP = 0x00
const GHC = 0x04
const IS = 0x08
const PI = 0x0c
const VS = 0x10
const REGISTERS: ReadonlySet<number> = new Set([CAP, GHC, IS, PI, VS])
/** 64-bit addresses, AHCI only, 1.5 Gb/s, 32 slots. */
const CAPABILITIES = 0x8014_1f00 | (PORTS - 1)
const GHC_RESET = 0x01
const GHC_INTERRUPTS = 0x02
const GHC_ENABLED = 0x8000_0000
const VERSION_1_0 = 0x0001_0000
const MSI_AT = 0x80
const SATA_AT = 0xa8
const CAP_ID_SATA = 0x12
/** Revision 1.0; the index port is in BAR 4. */
const SATA_CAPABILITY = [0, 0, 0x10, 0, 0x48, 0, 0, 0]

/** What an AHCI controller is told when it is created. */
export interface AhciOptions {
  sendMessage: SendMessage
  /** Number of its first unit among all of the machine; a port has two numbers. */
  firstSerial: number
  /** There are other functions in its slot. */
  multifunction?: boolean
}

/** The ICH9's SATA controller in AHCI mode: QEMU's `ich9-ahci`, without NCQ. */
export class Ahci implements Stateful {
  readonly fn: PciFunction
  readonly buses: readonly AtaBus[]
  readonly #ports: readonly AhciPort[]
  readonly #unknown: UnknownCommand
  #ghc = GHC_ENABLED
  #is = 0
  #index = 0
  readonly #msi: Msi
  #isPending = false

  constructor(name: string, bus: Bus, memory: GuestMemory, options: AhciOptions) {
    this.#unknown = bus.unknownOf(name)
    this.fn = new PciFunction(name, bus, {
      vendor: 0x8086,
      device: 0x2922,
      revision: 0x02,
      classCode: 0x010601,
      interruptPin: 1,
      multifunction: options.multifunction === true,
    })
    this.#msi = new Msi(this.fn, options.sendMessage, MSI_AT)
    this.fn.config.addCapability(CAP_ID_SATA, Uint8Array.from(SATA_CAPABILITY), SATA_AT)
    // The firmware has put it into AHCI mode.
    this.fn.config.set(0x90, 1, 0x40)
    this.fn.addBar(INDEX_BAR, {
      space: 'pio',
      size: INDEX_BYTES,
      handler: {
        read: (offset) => this.#readByIndex(offset & ~3) >>> ((offset & 3) * 8),
        write: (offset, size, value) => this.#writeByIndex(offset, size, value >>> 0),
      },
    })
    this.fn.addBar(REGISTER_BAR, {
      space: 'mmio',
      size: REGISTER_BYTES,
      access: { min: 4, max: 4 },
      handler: {
        read: (offset) => this.#read(offset & ~3),
        write: (offset, _size, value) => this.#write(offset & ~3, value >>> 0),
      },
    })
    this.#ports = Array.from({ length: PORTS }, () => new AhciPort(memory, () => this.#update()))
    this.buses = this.#ports.map(
      (port, i) => new AhciBus(`${name}.${i}`, port, i, options.firstSerial),
    )
  }

  /** Where firmware finds the function, for the paths of its disks. */
  set firmwarePath(path: string) {
    for (const bus of this.buses) (bus as AhciBus).controllerPath = path
  }

  reset(): void {
    this.#ghc = GHC_ENABLED
    for (const port of this.#ports) port.reset()
    this.#is = 0
    this.#index = 0
    this.#msi.reset()
    this.#update()
  }

  save(): unknown {
    return {
      index: this.#index,
      message: this.#msi.save(),
      ghc: this.#ghc >>> 0,
      is: this.#is >>> 0,
      ports: this.#ports.map((port) => port.save()),
    }
  }

  load(state: unknown): void {
    const saved = parseState<{ ghc: number; is: number; index: number; message: boolean }>(
      'ahci',
      state,
      { ghc: u32, is: u32, index: int(0, REGISTER_BYTES - 4), message: flag },
    )
    const { ghc, is } = saved
    this.#index = saved.index & ~3
    const { ports } = state as { ports?: unknown[] }
    this.#ghc = (ghc & GHC_INTERRUPTS) | GHC_ENABLED
    for (const [i, port] of this.#ports.entries()) port.load(ports?.[i])
    this.#is = is & ((1 << PORTS) - 1)
    this.#isPending = (ghc & GHC_INTERRUPTS) !== 0 && this.#is !== 0
    this.#msi.load(saved.message)
    this.#update()
  }

  /** The machine goes on: sends the message that was held back. */
  resume(): void {
    this.#msi.flush()
  }

  async quiesce(): Promise<void> {
    await Promise.all(this.#ports.map((port) => port.quiesce()))
  }

  #read(offset: number): number {
    if (!isThere(offset)) this.#unknown('read of register', offset)
    const port = this.#ports[(offset - PORTS_AT) >> 7]
    if (offset >= PORTS_AT) return port?.read(offset & (PORT_BYTES - 1)) ?? 0
    switch (offset) {
      case CAP:
        return CAPABILITIES >>> 0
      case GHC:
        return this.#ghc >>> 0
      case IS:
        return this.#is
      case PI:
        return (1 << PORTS) - 1
      case VS:
        return VERSION_1_0
      default:
        return 0
    }
  }

  #write(offset: number, value: number): void {
    if (!isThere(offset)) this.#unknown('write of register', offset)
    if (offset >= PORTS_AT) {
      this.#ports[(offset - PORTS_AT) >> 7]?.write(offset & (PORT_BYTES - 1), value)
      return
    }
    if (offset === GHC) {
      if ((value & GHC_RESET) !== 0) {
        this.reset()
        return
      }
      this.#ghc = (value & GHC_INTERRUPTS) | GHC_ENABLED
      this.#update()
    } else if (offset === IS) {
      this.#is &= ~value
      // What is left of it, or has come meanwhile, is another message (AHCI 1.3.1, 10.6.2.1).
      this.#update(true)
    }
  }

  /** `again`: a message is due for whatever is pending. Otherwise for what is new. */
  #update(again = false): void {
    const seen = again ? 0 : this.#is
    for (const [i, port] of (this.#ports ?? []).entries()) {
      if (port.wantsInterrupt) this.#is |= 1 << i
    }
    const before = this.#isPending
    this.#isPending = (this.#ghc & GHC_INTERRUPTS) !== 0 && this.#is !== 0
    const usesMessages = this.#msi.enabled
    const isNew = !before || (this.#is & ~seen) !== 0
    if (usesMessages && this.#isPending && isNew) this.#msi.trigger()
    this.fn.setInterrupt(this.#isPending && !usesMessages)
  }

  #readByIndex(offset: number): number {
    if (offset === INDEX) return this.#index
    return offset === DATA ? this.#read(this.#index) : 0
  }

  #writeByIndex(offset: number, size: number, value: number): void {
    if (size !== 4) return
    if (offset === INDEX) this.#index = value & (REGISTER_BYTES - 4)
    else if (offset === DATA) this.#write(this.#index, value)
  }
}

function isThere(offset: number): boolean {
  if (offset < PORTS_AT) return REGISTERS.has(offset)
  return offset < PORTS_AT + PORTS * PORT_BYTES && PORT_REGISTERS.has(offset & (PORT_BYTES - 1))
}

/** A port, as a drive is plugged into it. */
class AhciBus implements AtaBus {
  readonly name: string
  readonly units = 1
  controllerPath = ''
  readonly #port: AhciPort
  readonly #number: number
  readonly #firstSerial: number
  #owner: string | undefined

  constructor(name: string, port: AhciPort, number: number, firstSerial: number) {
    this.#firstSerial = firstSerial
    this.name = name
    this.#port = port
    this.#number = number
  }

  owner(): string | undefined {
    return this.#owner
  }

  attach(_unit: number, owner: string, device: AtaUnit): void {
    this.#owner = owner
    this.#port.attach(device)
  }

  serialNumber(): number {
    return this.#firstSerial + 2 * this.#number
  }

  firmwarePath(): string {
    return `${this.controllerPath}/drive@${this.#number}/disk@0`
  }

  reset(): void {
    this.#port.reset()
  }

  quiesce(): Promise<void> {
    return this.#port.quiesce()
  }
}
