import type { GuestMemory } from 'kvm-core'
import { type FrameBatch, type LinkEnd, type LinkSide, MAX_FRAME_BYTES } from 'virtio'

import type { Clock, Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { type DmaMemory, dmaMemory } from '../../net/dma.ts'
import { Cable } from '../e1000/cable.ts'
import { Phy } from '../e1000/phy.ts'
import type { RegisterFile } from '../e1000/register-map.ts'
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
  RA,
  RAH_AV,
  RCTL,
  RDT,
  REGISTER_BYTES,
  STATUS,
  STATUS_LU,
  TCTL,
  TDT,
} from '../e1000/registers.ts'
import { loadRegisters, saveRegisters } from '../e1000/state.ts'
import { PCI_COMMAND, PCI_COMMAND_MASTER } from '../pci/config-space.ts'
import type { PciFunction } from '../pci/function.ts'
import type { SendMessage } from '../pci/msix.ts'
import type { UnknownCommand } from '../unknown-command.ts'
import { addBars } from './bars.ts'
import { addExpress, createFunction } from './capabilities.ts'
import { Interrupts } from './interrupts.ts'
import { Nvm } from './nvm.ts'
import { PHY_82574 } from './phy-82574.ts'
import { Receiver } from './receive.ts'
import {
  CTRL_DUP,
  CTRL_MASTER_DISABLE,
  CTRL_PHY_RST,
  CTRL_RFCE,
  CTRL_TFCE,
  EEWR,
  GCR,
  PBACLR,
  POWER_ON,
  PSRCTL,
  QUEUE_OFFSET,
  RCTL_LOOP_MAC,
  RCTL_LOOP_MASK,
  RFCTL,
  RXDCTL,
  RXDCTL1,
  STATUS_PHYRA,
  SWSM,
  TARC0,
  keptGcr,
  placeOf,
  registerAt,
} from './registers.ts'
import { type E1000eState, parseE1000e } from './state.ts'
import { statusOf } from './status.ts'
import { TransmitQueues } from './transmit-queue.ts'

/** What of EECD the guest does not change: the NVM is there, has been read, and its size. */
const EECD_READ_ONLY = 0x7b00

/** What the card is made with. */
export interface E1000eOptions {
  /** Where it is plugged in. */
  side: LinkSide
  /** 6 bytes. */
  mac: Uint8Array
  clock: Clock
  sendMessage: SendMessage
  /** It is on the root bus of PCI Express, in no port. */
  isIntegrated: boolean
}

/**
 * Intel's 82574L, QEMU's `e1000e`. As there: no time stamps, no filters of management, no waking, and a flash that holds
 * nothing. Its reset clears all registers, as the data sheet says and QEMU 7.2 does not.
 */
export class E1000e implements Stateful, LinkEnd {
  readonly fn: PciFunction
  readonly accepts: number = 0
  readonly maxFrame: number = MAX_FRAME_BYTES
  readonly #registers: RegisterFile = new Uint32Array(REGISTER_BYTES / 4)
  readonly #mac: Uint8Array
  readonly #unknown: UnknownCommand
  readonly #side: LinkSide
  readonly #nvm: Nvm
  readonly #phy: Phy = new Phy(PHY_82574)
  readonly #cable: Cable
  readonly #interrupts: Interrupts
  readonly #queues: TransmitQueues
  readonly #receiver: Receiver
  #index = 0
  #paused = false
  /** The other end waits for descriptors. */
  #starving = false

  constructor(name: string, bus: Bus, memory: GuestMemory, options: E1000eOptions) {
    this.#side = options.side
    this.#unknown = bus.unknownOf(name)
    this.#mac = options.mac.slice()
    this.#nvm = new Nvm(this.#mac)
    this.fn = createFunction(name, bus)
    this.#interrupts = new Interrupts(this.#registers, this.fn, options.sendMessage, () =>
      addExpress(this.fn, this.#mac, options.isIntegrated),
    )
    addBars(this.fn, {
      read: (offset) => this.read(offset),
      write: (offset, value) => this.write(offset, value),
      index: () => this.#index,
      setIndex: (index) => (this.#index = index),
    })
    this.fn.onConfigWrite = () => this.#interrupts.configWritten()
    this.fn.onBusReset = () => this.reset()
    const dma: DmaMemory = dmaMemory(memory, () => this.#isMaster)
    const hasVectors = (): boolean => this.#interrupts.hasVectors
    this.#receiver = new Receiver(this.#registers, dma, hasVectors)
    this.#queues = new TransmitQueues(
      {
        registers: this.#registers,
        memory: dma,
        side: this.#side,
        isLoop: () => this.#isLoop,
        loop: (batch) => void this.#deliver(batch, 0),
        raise: (causes) => this.#interrupts.raise(causes),
      },
      hasVectors,
    )
    this.#cable = new Cable({
      clock: options.clock,
      side: this.#side,
      phy: this.#phy,
      isUp: () => this.#isUp,
      setUp: (up) => this.#setUp(up),
      // Both can stop each other, and will.
      negotiated: () => (this.#registers[CTRL >> 2]! |= CTRL_RFCE | CTRL_TFCE),
      changed: () => this.#interrupts.raise(CAUSE_LSC),
    })
    this.reset()
    this.#side.attach(this)
  }

  /** Reads a register; `offset` is a multiple of 4. */
  read(offset: number): number {
    const place = placeOf(offset)
    const registers = this.#registers
    const at = place >> 2
    if (place === ICR) return this.#interrupts.readCauses()
    if (place === STATUS) return statusOf(registers)
    const kind = registerAt(place)
    if (kind === undefined) {
      this.#unknown('read of register', offset)
      return 0
    }
    const value = registers[at]!
    // Who reads the semaphore has it, if nobody had.
    if (place === SWSM) registers[at]! |= 1
    if (kind.effect !== 'none') registers[at] = 0
    if (kind.effect === 'clear both') registers[at - 1] = 0
    return value
  }

  write(offset: number, value: number): void {
    const registers = this.#registers
    const place = placeOf(offset)
    const kind = registerAt(place)
    if (kind === undefined) this.#unknown('write of register', offset)
    else if (kind.writable !== 0) registers[place >> 2] = (value & kind.writable) >>> 0
    switch (place) {
      case CTRL:
      case CTRL_DUP:
        this.#control(value)
        return
      case STATUS:
        if ((value & STATUS_PHYRA) === 0) registers[STATUS >> 2]! &= ~STATUS_PHYRA
        return
      case EECD:
        registers[EECD >> 2] = (registers[EECD >> 2]! & EECD_READ_ONLY) | (value & ~EECD_READ_ONLY)
        return
      case EERD:
        registers[EERD >> 2] = this.#nvm.read(value)
        return
      case EEWR:
        registers[EERD >> 2] = this.#nvm.write(value)
        return
      case MDIC:
        this.#accessPhy(value)
        return
      case ICR:
        this.#interrupts.clearCauses(value)
        return
      case ICS:
        this.#interrupts.raise(value)
        return
      case IMS:
        this.#interrupts.allow(value)
        return
      case IMC:
        this.#interrupts.forbid(value)
        return
      case PBACLR:
        this.#interrupts.clearPending()
        return
      case GCR:
        registers[GCR >> 2] = keptGcr(value)
        return
      case RXDCTL:
        registers[RXDCTL1 >> 2] = value
        return
      case RFCTL:
      case PSRCTL:
      case RCTL:
        this.#receiver.layoutChanged()
        this.#feed()
        return
      case RDT:
      case RDT + QUEUE_OFFSET:
        this.#feed()
        return
      case TCTL:
      case TDT:
      case TDT + QUEUE_OFFSET:
      case TARC0:
      case TARC0 + QUEUE_OFFSET:
        this.#queues.run()
    }
  }

  receive(batch: FrameBatch, from: number): number {
    // A card that hears itself hears nobody else.
    if (this.#isLoop) return batch.used
    if (!this.#paused) return this.#deliver(batch, from)
    this.#starving = true
    return from
  }

  /** The other end takes frames again. */
  resume(): void {
    this.#queues.resume()
  }

  linkChanged(up: boolean): void {
    this.#cable.linkChanged(up)
  }

  /** While paused no frame comes or goes. */
  pause(paused: boolean): void {
    this.#paused = paused
    if (!paused) this.#interrupts.resume()
    this.#queues.pause(paused)
    if (paused) return
    this.#feed()
  }

  reset(): void {
    this.#index = 0
    this.#interrupts.reset()
    this.#resetMac()
    this.#cable.reset()
  }

  save(): E1000eState {
    return {
      registers: saveRegisters(this.#registers),
      index: this.#index,
      nvm: this.#nvm.save(),
      phy: this.#phy.save(),
      interrupts: this.#interrupts.save(),
      transmit: this.#queues.save(),
      negotiation: this.#cable.save(),
    }
  }

  load(state: unknown): void {
    const { registers, index, negotiation } = parseE1000e(state)
    const { nvm, phy, interrupts, transmit } = state as Partial<E1000eState>
    this.#nvm.load(nvm)
    this.#phy.load(phy)
    this.#queues.load(transmit)
    loadRegisters(this.#registers, registers)
    this.#receiver.layoutChanged()
    this.#index = index
    this.#cable.load(negotiation)
    this.#interrupts.load(interrupts)
  }

  close(): void {
    this.#cable.stop()
    this.#queues.close()
    this.#paused = true
  }

  /** Whether frames are taken at all, or lost as on a cable to a card that is off; a loop needs no cable. */
  get #isListening(): boolean {
    return this.#receiver.isOn && (this.#isUp || this.#isLoop)
  }

  get #isUp(): boolean {
    return (this.#registers[STATUS >> 2]! & STATUS_LU) !== 0
  }

  /** The guest lets the card use the bus, by both ways that it has to say so. */
  get #isMaster(): boolean {
    const isAllowed = (this.fn.config.get16(PCI_COMMAND) & PCI_COMMAND_MASTER) !== 0
    return isAllowed && (this.#registers[CTRL >> 2]! & CTRL_MASTER_DISABLE) === 0
  }

  get #isLoop(): boolean {
    return this.#phy.isLoop || (this.#registers[RCTL >> 2]! & RCTL_LOOP_MASK) === RCTL_LOOP_MAC
  }

  #control(value: number): void {
    const registers = this.#registers
    registers[CTRL >> 2] = value & ~CTRL_RST
    if ((value & CTRL_RST) !== 0) this.#resetMac()
    if ((value & CTRL_PHY_RST) !== 0) registers[STATUS >> 2]! |= STATUS_PHYRA
  }

  /** The card's own reset: the chip at the cable and the state of the link stay (10.2.2.1). */
  #resetMac(): void {
    const isUp = this.#isUp
    const registers = this.#registers
    this.#queues.reset()
    registers.fill(0)
    for (const [offset, value] of POWER_ON) registers[offset >> 2] = value
    registers[STATUS >> 2] = isUp ? STATUS_LU : 0
    const mac = new DataView(this.#mac.buffer)
    registers[RA >> 2] = mac.getUint32(0, true)
    registers[(RA >> 2) + 1] = (mac.getUint16(4, true) | RAH_AV) >>> 0
    this.#receiver.layoutChanged()
    this.#interrupts.clear()
    // Nobody waits for a card that is off.
    this.#feed()
  }

  #accessPhy(value: number): void {
    const { mdic, interrupt, restart } = this.#phy.access(value, this.#registers[MDIC >> 2]!)
    this.#registers[MDIC >> 2] = mdic
    if (restart) this.#cable.negotiate()
    if (interrupt) this.#interrupts.raise(CAUSE_MDAC)
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
    if (!this.#isListening) return batch.used
    let at = from
    let causes = 0
    while (at < batch.used) {
      const result = this.#receiver.deliver(batch, at)
      if (result < 0) {
        this.#starving = true
        break
      }
      causes |= result
      at = batch.next(at)
    }
    if (causes !== 0) this.#interrupts.raise(causes)
    return at
  }

  /** There may be room for frames that wait. */
  #feed(): void {
    if (!this.#starving || this.#paused) return
    if (this.#isListening && !this.#receiver.hasRoom) return
    this.#starving = false
    this.#side.ready()
  }
}
