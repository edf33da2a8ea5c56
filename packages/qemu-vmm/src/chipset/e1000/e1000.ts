import type { GuestMemory } from 'kvm-core'
import { type FrameBatch, type LinkEnd, type LinkSide, MAX_FRAME_BYTES } from 'virtio'

import type { Clock, Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { PCI_COMMAND, PCI_COMMAND_MASTER } from '../pci/config-space.ts'
import { PciFunction } from '../pci/function.ts'
import { type DmaMemory, dmaMemory } from '../../net/dma.ts'
import { Cable } from './cable.ts'
import { Eeprom } from './eeprom.ts'
import { PHY_88E1000, Phy } from './phy.ts'
import { Receiver } from './receive.ts'
import { type RegisterFile } from './register-map.ts'
import {
  CAUSE_LSC,
  CAUSE_MDAC,
  CTRL,
  CTRL_RST,
  EECD,
  EERD,
  ICR,
  ICS,
  IMC,
  IMS,
  MDIC,
  POWER_ON,
  RA,
  RAH_AV,
  RCTL,
  RDT,
  REGISTER_BYTES,
  STATUS,
  STATUS_LU,
  TCTL,
  TDT,
  registerAt,
} from './registers.ts'
import { type E1000State, loadRegisters, parseE1000, saveRegisters } from './state.ts'
import { Transmitter } from './transmit.ts'
import type { UnknownCommand } from '../unknown-command.ts'

const REGISTER_BAR = 0
const INDEX_BAR = 1
const INDEX_BYTES = 64
/** The two ports by which registers are reached, too (Intel 8254x manual, 4.1.2). */
const INDEX = 0
const DATA = 4
const PCI_CACHE_LINE_SIZE = 0x0c

/** What the card is made with. */
export interface E1000Options {
  /** Where it is plugged in. */
  side: LinkSide
  /** 6 bytes. */
  mac: Uint8Array
  clock: Clock
}

/**
 * Intel's 82540EM, QEMU's `e1000`. As there, checksums of frames that come are left to the driver, and the EEPROM
 * cannot be written. Interrupts are not delayed: there is one for all frames that come or go together, which is what
 * ITR and its like are for.
 */
export class E1000 implements Stateful, LinkEnd {
  readonly fn: PciFunction
  readonly accepts: number = 0
  readonly maxFrame: number = MAX_FRAME_BYTES
  readonly #registers: RegisterFile = new Uint32Array(REGISTER_BYTES / 4)
  readonly #mac: Uint8Array
  readonly #unknown: UnknownCommand
  readonly #side: LinkSide
  readonly #eeprom: Eeprom
  readonly #phy: Phy = new Phy(PHY_88E1000)
  readonly #cable: Cable
  readonly #transmitter: Transmitter
  readonly #receiver: Receiver
  #index = 0
  #again: NodeJS.Immediate | undefined
  #paused = false
  /** The other end waits for descriptors. */
  #starving = false

  constructor(name: string, bus: Bus, memory: GuestMemory, options: E1000Options) {
    this.#side = options.side
    this.#unknown = bus.unknownOf(name)
    this.#mac = options.mac.slice()
    this.#eeprom = new Eeprom(this.#mac)
    this.fn = new PciFunction(name, bus, {
      vendor: 0x8086,
      device: 0x100e,
      revision: 3,
      classCode: 0x020000,
      interruptPin: 1,
    })
    this.fn.config.set(PCI_CACHE_LINE_SIZE, 1, 0x10)
    this.fn.config.allowWrites(PCI_CACHE_LINE_SIZE, 1, 0xff)
    this.fn.addBar(REGISTER_BAR, {
      space: 'mmio',
      size: REGISTER_BYTES,
      access: { min: 4, max: 4 },
      handler: {
        read: (offset) => this.read(offset & ~3),
        write: (offset, _size, value) => this.write(offset & ~3, value >>> 0),
      },
    })
    this.fn.addBar(INDEX_BAR, {
      space: 'pio',
      size: INDEX_BYTES,
      access: { min: 4, max: 4 },
      handler: {
        read: (offset) => this.#readByIndex(offset & ~3),
        write: (offset, _size, value) => this.#writeByIndex(offset & ~3, value >>> 0),
      },
    })
    this.fn.config.seal()
    const isMaster = (): boolean => (this.fn.config.get16(PCI_COMMAND) & PCI_COMMAND_MASTER) !== 0
    const dma: DmaMemory = dmaMemory(memory, isMaster)
    this.#receiver = new Receiver(this.#registers, dma)
    this.#transmitter = new Transmitter({
      registers: this.#registers,
      memory: dma,
      side: this.#side,
      isLoop: () => this.#phy.isLoop,
      loop: (batch) => void this.#deliver(batch, 0),
      raise: (causes) => this.#raise(causes),
      later: () => this.#later(),
    })
    this.#cable = new Cable({
      clock: options.clock,
      side: this.#side,
      phy: this.#phy,
      isUp: () => this.#isUp,
      setUp: (up) => this.#setUp(up),
      changed: () => this.#raise(CAUSE_LSC),
    })
    this.reset()
    this.#side.attach(this)
  }

  /** Reads a register; `offset` is a multiple of 4. */
  read(offset: number): number {
    const registers = this.#registers
    const at = offset >> 2
    switch (offset) {
      case ICR: {
        const causes = registers[at]!
        this.#setCauses(0)
        return causes
      }
      case EECD:
        return this.#eeprom.read()
      case EERD:
        return this.#eeprom.answer(registers[at]!)
      default: {
        const kind = registerAt(offset)
        if (kind === undefined) {
          this.#unknown('read of register', offset)
          return 0
        }
        const value = registers[at]!
        if (kind.effect !== 'none') registers[at] = 0
        if (kind.effect === 'clear both') registers[at - 1] = 0
        return value
      }
    }
  }

  write(offset: number, value: number): void {
    const registers = this.#registers
    const kind = registerAt(offset)
    if (kind === undefined) this.#unknown('write of register', offset)
    else if (kind.writable !== 0) {
      registers[offset >> 2] = (value & kind.writable) >>> 0
    }
    switch (offset) {
      case CTRL:
        if ((value & CTRL_RST) !== 0) this.#resetMac()
        return
      case EECD:
        this.#eeprom.write(value)
        return
      case MDIC:
        this.#accessPhy(value)
        return
      case ICR:
        this.#setCauses(registers[ICR >> 2]! & ~value)
        return
      case ICS:
        this.#raise(value)
        return
      case IMS:
      case IMC: {
        const mask = registers[IMS >> 2]!
        registers[IMS >> 2] = offset === IMS ? mask | value : mask & ~value
        this.#raise(0)
        return
      }
      case RCTL:
      case RDT:
        this.#feed()
        return
      case TCTL:
      case TDT:
        this.#transmit()
    }
  }

  receive(batch: FrameBatch, from: number): number {
    if (!this.#paused) return this.#deliver(batch, from)
    this.#starving = true
    return from
  }

  /** The other end takes frames again. */
  resume(): void {
    if (this.#transmitter.isBlocked) this.#transmit()
  }

  linkChanged(up: boolean): void {
    this.#cable.linkChanged(up)
  }

  /** While paused no frame comes or goes. */
  pause(paused: boolean): void {
    this.#paused = paused
    if (paused) return
    if (!this.#transmitter.isBlocked) this.#later()
    this.resume()
    this.#feed()
  }

  reset(): void {
    this.#index = 0
    this.#resetMac()
    this.#cable.reset()
  }

  save(): E1000State {
    return {
      registers: saveRegisters(this.#registers),
      index: this.#index,
      eeprom: this.#eeprom.save(),
      phy: this.#phy.save(),
      transmit: this.#transmitter.save(),
      negotiation: this.#cable.save(),
    }
  }

  load(state: unknown): void {
    const { registers, index, negotiation } = parseE1000(state)
    const { eeprom, phy, transmit } = state as E1000State
    this.#eeprom.load(eeprom)
    this.#phy.load(phy)
    this.#transmitter.load(transmit)
    loadRegisters(this.#registers, registers)
    this.#index = index
    this.#cable.load(negotiation)
    this.#updateInterrupt()
  }

  close(): void {
    this.#cable.stop()
    if (this.#again !== undefined) clearImmediate(this.#again)
    this.#again = undefined
    this.#paused = true
  }

  get #isUp(): boolean {
    return (this.#registers[STATUS >> 2]! & STATUS_LU) !== 0
  }

  /** The card's own reset: the chip at the cable and the state of the link stay (Intel 8254x manual, 14.4). */
  #resetMac(): void {
    const isUp = this.#isUp
    this.#transmitter.reset()
    this.#registers.fill(0)
    for (const [offset, value] of POWER_ON) this.#registers[offset >> 2] = value
    if (!isUp) this.#registers[STATUS >> 2]! &= ~STATUS_LU
    const mac = new DataView(this.#mac.buffer)
    this.#registers[RA >> 2] = mac.getUint32(0, true)
    this.#registers[(RA >> 2) + 1] = (mac.getUint16(4, true) | RAH_AV) >>> 0
    this.#updateInterrupt()
    // Nobody waits for a card that is off.
    this.#feed()
  }

  #accessPhy(value: number): void {
    const { mdic, interrupt, restart } = this.#phy.access(value, this.#registers[MDIC >> 2]!)
    this.#registers[MDIC >> 2] = mdic
    if (restart) this.#cable.negotiate()
    if (interrupt) this.#raise(CAUSE_MDAC)
  }

  #setUp(up: boolean): void {
    if (!up) this.#registers[STATUS >> 2]! &= ~STATUS_LU
    else {
      this.#registers[STATUS >> 2]! |= STATUS_LU
      this.#feed()
    }
  }

  /** Frames up to the first that has to wait. */
  #deliver(batch: FrameBatch, from: number): number {
    let at = from
    let causes = 0
    while (at < batch.used && this.#receiver.isOn) {
      const result = this.#receiver.deliver(batch, at)
      if (result < 0) {
        this.#starving = true
        break
      }
      causes |= result
      at = batch.next(at)
    }
    if (causes !== 0) this.#raise(causes)
    return this.#receiver.isOn ? at : batch.used
  }

  /** There may be room for frames that wait. */
  #feed(): void {
    if (!this.#starving || this.#paused) return
    if (this.#receiver.isOn && this.#receiver.free === 0) return
    this.#starving = false
    this.#side.ready()
  }

  #transmit(): void {
    if (!this.#paused) this.#transmitter.run()
  }

  #later(): void {
    this.#again ??= setImmediate(() => {
      this.#again = undefined
      this.#transmit()
    })
  }

  #raise(causes: number): void {
    this.#setCauses(this.#registers[ICR >> 2]! | causes)
  }

  /** ICS shows what ICR does, but is not cleared by a look at it. */
  #setCauses(causes: number): void {
    this.#registers[ICR >> 2] = causes
    this.#registers[ICS >> 2] = causes
    this.#updateInterrupt()
  }

  #updateInterrupt(): void {
    this.fn.setInterrupt((this.#registers[ICR >> 2]! & this.#registers[IMS >> 2]!) !== 0)
  }

  #readByIndex(offset: number): number {
    if (offset === INDEX) return this.#index
    return offset === DATA ? this.read(this.#index) : 0
  }

  #writeByIndex(offset: number, value: number): void {
    if (offset === INDEX) this.#index = value & (REGISTER_BYTES - 4)
    else if (offset === DATA) this.write(this.#index, value)
  }
}
