import type { IoHandler, Stateful } from '../device.ts'
import { bytes, flag, list, parseState, u32, u8 } from '../machine/state.ts'

/** The general-purpose event that says to look at the registers. */
export const CPU_HOTPLUG_GPE = 2
/** Ports of the registers on the PIIX4 and on the ICH9. */
export const PIIX4_CPU_HOTPLUG_PORT = 0xaf00
export const ICH9_CPU_HOTPLUG_PORT = 0x0cd8
/** The bitmap of old; the registers that take its place are fewer. */
export const CPU_HOTPLUG_PORTS = 0x20
export const CPU_HOTPLUG_REGISTERS = 0x0c

/** Registers (QEMU's docs/specs/acpi_cpu_hotplug). */
const SELECTOR = 0x0
const FLAGS = 0x4
const COMMAND = 0x5
const DATA = 0x8

/** Bits of the flags; each but the first is cleared, or done, by a one. */
const ENABLED = 0x01
const INSERTING = 0x02
const REMOVING = 0x04
const EJECT = 0x08
/** Firmware is to eject it: only firmware looks at that. */
const FIRMWARE_REMOVES = 0x10
const EVENTS = INSERTING | REMOVING | FIRMWARE_REMOVES

const COMMANDS = { nextWithEvent: 0, ostEvent: 1, ostStatus: 2, cpuId: 3 } as const
const LAST_COMMAND = COMMANDS.cpuId

/** The places for processors, and which of them are filled. */
export interface CpuSlots {
  /** APIC ids by number of the place. */
  readonly apicIds: readonly number[]
  isPresent(index: number): boolean
}

/** What a guest has said of an event of a processor (ACPI 6.5, 6.3.5). */
export interface OstReport {
  /** Number of the place. */
  index: number
  source: number
  status: number
}

interface CpuHotplugState {
  /** The registers are there; before that it is the bitmap. */
  modern: boolean
  selector: number
  command: number
  /** For each place {@link EVENTS} bits, and what the guest has said: event and status. */
  events: Uint8Array
  ost: number[]
  /** The bitmap, whose bits are never cleared. */
  bitmap: Uint8Array
}

/**
 * Hot-plug of processors through ACPI: methods of the DSDT look for processors that came or are to go, tell what the
 * guest has made of it, and eject those that it has let go of. A machine begins with the bitmap that QEMU had
 * before, until a guest writes a zero to its first byte.
 */
export class AcpiCpuHotplug implements IoHandler, Stateful<CpuHotplugState> {
  readonly #cpus: CpuSlots
  readonly #raise: () => void
  #isModern = false
  #selector = 0
  #command = 0
  readonly #events: Uint8Array
  readonly #ost: number[]
  readonly #bitmap: Uint8Array = new Uint8Array(CPU_HOTPLUG_PORTS)
  /** The guest lets go of a processor. It is gone when this returns. */
  onEject: (index: number) => void = () => {}
  /** The guest has said what it made of an event. */
  onOst: (report: OstReport) => void = () => {}

  /** `raise` raises the event. */
  constructor(cpus: CpuSlots, raise: () => void) {
    this.#cpus = cpus
    this.#raise = raise
    this.#events = new Uint8Array(cpus.apicIds.length)
    this.#ost = Array.from({ length: 2 * cpus.apicIds.length }, () => 0)
    for (const index of cpus.apicIds.keys()) if (cpus.isPresent(index)) this.#setBit(index)
  }

  /** A guest has switched to the registers, with which alone processors can be taken out. */
  get isModern(): boolean {
    return this.#isModern
  }

  /** A place was filled. */
  plugged(index: number): void {
    if (this.#isModern) this.#events[index]! |= INSERTING
    else this.#setBit(index)
    this.#raise()
  }

  /** Asks for a place to be emptied; with the bitmap nobody would hear of it. */
  requestUnplug(index: number): void {
    this.#events[index]! |= REMOVING
    this.#raise()
  }

  /** What the guest has said last, of every place; nothing with the bitmap. */
  reports(): OstReport[] {
    return this.#isModern ? Array.from(this.#cpus.apicIds, (_, index) => this.#report(index)) : []
  }

  /** As on QEMU all stays: what is asked of the guest is asked of the one that comes next. */
  reset(): void {}

  save(): CpuHotplugState {
    return {
      modern: this.#isModern,
      selector: this.#selector,
      command: this.#command,
      events: this.#events.slice(),
      ost: this.#ost.slice(),
      bitmap: this.#bitmap.slice(),
    }
  }

  load(state: CpuHotplugState): void {
    const places = this.#events.length
    const { modern, selector, command, events, ost, bitmap } = parseState<CpuHotplugState>(
      'cpu-hotplug',
      state,
      {
        modern: flag,
        selector: u32,
        command: u8,
        events: bytes(places),
        ost: (value) => {
          const found = list(u32, 2 * places)(value)
          return found?.length === 2 * places ? found : undefined
        },
        bitmap: bytes(CPU_HOTPLUG_PORTS),
      },
    )
    this.#isModern = modern
    this.#selector = selector
    this.#command = Math.min(command, LAST_COMMAND)
    for (const [index, bits] of events.entries()) this.#events[index] = bits & EVENTS
    this.#ost.splice(0, this.#ost.length, ...ost)
    this.#bitmap.set(bitmap)
  }

  read(offset: number, size: number): number {
    if (!this.#isModern) {
      let value = 0
      for (let i = 0; i < size; i++) value |= (this.#bitmap[offset + i] ?? 0xff) << (i * 8)
      return value >>> 0
    }
    // Nothing answers behind the registers.
    if (offset >= CPU_HOTPLUG_REGISTERS) return 0xffff_ffff
    const index = this.#selector
    const apicId = this.#cpus.apicIds[index]
    if (apicId === undefined) return 0
    if (offset === FLAGS) {
      return (this.#cpus.isPresent(index) ? ENABLED : 0) | this.#events[index]!
    }
    if (offset !== DATA) return 0
    if (this.#command === COMMANDS.nextWithEvent) return index
    return this.#command === COMMANDS.cpuId ? apicId : 0
  }

  write(offset: number, size: number, value: number): void {
    if (!this.#isModern) {
      // Firmware has never written here, so a zero can mean this. Wider writes are bytes, the first one first.
      if (offset === 0 && (value & 0xff) === 0) this.#becomeModern()
      return
    }
    if (offset === SELECTOR) {
      this.#selector = (size === 4 ? value : value & (2 ** (8 * size) - 1)) >>> 0
      return
    }
    const index = this.#selector
    if (index >= this.#events.length) return
    if (offset === FLAGS) this.#writeFlags(index, value)
    else if (offset === COMMAND) this.#writeCommand(value & 0xff)
    else if (offset === DATA) this.#writeData(index, value >>> 0)
  }

  #becomeModern(): void {
    this.#isModern = true
    this.#selector = 0
    this.#command = 0
    this.#events.fill(0)
    this.#ost.fill(0)
  }

  /** One thing at a time: the lowest bit counts. */
  #writeFlags(index: number, value: number): void {
    const isTakable = index !== 0 && this.#cpus.isPresent(index)
    if ((value & INSERTING) !== 0) this.#events[index]! &= ~INSERTING
    else if ((value & REMOVING) !== 0) this.#events[index]! &= ~REMOVING
    else if ((value & EJECT) !== 0 && isTakable) {
      this.#events[index]! &= ~FIRMWARE_REMOVES
      this.onEject(index)
    } else if ((value & (EJECT | FIRMWARE_REMOVES)) === FIRMWARE_REMOVES && isTakable) {
      this.#events[index]! |= FIRMWARE_REMOVES
    }
  }

  #writeCommand(command: number): void {
    if (command > LAST_COMMAND) return
    this.#command = command
    if (command !== COMMANDS.nextWithEvent) return
    const { length } = this.#events
    for (let step = 0; step < length; step++) {
      const index = (this.#selector + step) % length
      if (this.#events[index] === 0) continue
      this.#selector = index
      return
    }
  }

  #writeData(index: number, value: number): void {
    if (this.#command === COMMANDS.ostEvent) this.#ost[2 * index] = value
    if (this.#command !== COMMANDS.ostStatus) return
    this.#ost[2 * index + 1] = value
    this.onOst(this.#report(index))
  }

  #report(index: number): OstReport {
    return { index, source: this.#ost[2 * index]!, status: this.#ost[2 * index + 1]! }
  }

  #setBit(index: number): void {
    const id = this.#cpus.apicIds[index]!
    this.#bitmap[id >> 3]! |= 1 << (id & 7)
  }
}
