import type { GuestMemory } from 'kvm-core'
import { type FrameBatch, type LinkEnd, type LinkSide, MAX_FRAME_BYTES } from 'virtio'

import type { Clock, Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { type DmaMemory, dmaMemory } from '../../net/dma.ts'
import { pendingBatch } from '../../net/pending-batch.ts'
import { PCI_COMMAND, PCI_COMMAND_MASTER } from '../pci/config-space.ts'
import { PciFunction } from '../pci/function.ts'
import { TallyCounters } from './counters.ts'
import { Eeprom93c46 } from './eeprom.ts'
import { Rtl8139Receiver } from './receive.ts'
import { CAUSES, CONFIG, PHY, defineRegisters } from './register-map.ts'
import { RegisterBank } from './registers.ts'
import { type Rtl8139Registers, type Rtl8139State, parseRtl8139, powerOn } from './state.ts'
import { TickTimer } from './timer.ts'
import { Rtl8139Transmitter } from './transmit.ts'

const PCI_CACHE_LINE_SIZE = 0x0c
const BAR_BYTES = 256
const MOST_BYTES = MAX_FRAME_BYTES - 4

const COMMAND_RESET = 0x10
const COMMAND_RECEIVE = 0x08
const COMMAND_TRANSMIT = 0x04
const CPLUS_TRANSMIT = 0x01
const CPLUS_RECEIVE = 0x02
/** Both bits of TCR's loopback test. */
const LOOPBACK = 0x0006_0000
const DUMP_COUNTERS = 0x08

/** Interrupt causes (RTL8139C+ data sheet, 5.4). */
const CAUSE_RECEIVED = 0x0001
const CAUSE_SENT = 0x0004
const CAUSE_NO_ROOM = 0x0010
const CAUSE_LINK = 0x0020
const CAUSE_TIMER = 0x4000

const BMSR = 1
const BMSR_LINK = 0x0024

/** What the card is made with. */
export interface Rtl8139Options {
  side: LinkSide
  /** 6 bytes. */
  mac: Uint8Array
  clock: Clock
}

/**
 * Realtek's 8139C+, QEMU's `rtl8139`, in both its modes. Where QEMU drops frames, as there are no descriptors, here they
 * wait until the guest has looked at its interrupts. Not there: waking up, and the boot ROM's window.
 */
export class Rtl8139 implements Stateful, LinkEnd {
  readonly fn: PciFunction
  readonly accepts: number = 0
  readonly maxFrame: number = MAX_FRAME_BYTES
  readonly #mac: Uint8Array
  readonly #side: LinkSide
  readonly #bank: RegisterBank = new RegisterBank()
  readonly #registers: Rtl8139Registers
  readonly #config: Uint8Array = new Uint8Array(CONFIG.length + 1)
  readonly #phy: number[] = []
  readonly #eeprom: Eeprom93c46
  readonly #counters: TallyCounters = new TallyCounters()
  readonly #memory: DmaMemory
  readonly #transmitter: Rtl8139Transmitter
  readonly #receiver: Rtl8139Receiver
  readonly #timer: TickTimer
  #from = 0
  #again: NodeJS.Immediate | undefined
  #paused = false
  #starving = false
  #isRunning = false

  constructor(name: string, bus: Bus, memory: GuestMemory, options: Rtl8139Options) {
    this.#side = options.side
    this.#mac = options.mac.slice()
    this.#timer = new TickTimer(options.clock, () => this.#raise(CAUSE_TIMER))
    this.#eeprom = new Eeprom93c46(this.#mac)
    this.#registers = powerOn(this.#mac)
    this.fn = new PciFunction(name, bus, {
      vendor: 0x10ec,
      device: 0x8139,
      revision: 0x20,
      classCode: 0x020000,
      interruptPin: 1,
    })
    // Linux's driver does without the card where it cannot set this.
    this.fn.config.allowWrites(PCI_CACHE_LINE_SIZE, 1, 0xff)
    const unknown = bus.unknownOf(name)
    for (const [register, space] of [
      [0, 'pio'],
      [1, 'mmio'],
    ] as const) {
      this.fn.addBar(register, {
        space,
        size: BAR_BYTES,
        handler: {
          read: (offset, size) => {
            if (!this.#bank.has(offset, size)) unknown('read of register', offset)
            return this.#bank.read(offset, size)
          },
          write: (offset, size, value) => {
            if (!this.#bank.has(offset, size)) unknown('write of register', offset)
            this.#bank.write(offset, size, value >>> 0)
          },
        },
      })
    }
    this.fn.config.seal()
    this.#memory = dmaMemory(
      memory,
      () => (this.fn.config.get16(PCI_COMMAND) & PCI_COMMAND_MASTER) !== 0,
    )
    this.#transmitter = new Rtl8139Transmitter(this.#registers, this.#memory, () =>
      this.#counters.count('txOk'),
    )
    this.#receiver = new Rtl8139Receiver(this.#registers, this.#memory)
    defineRegisters(this.#bank, this.#registers, {
      config: this.#config,
      phy: this.#phy,
      eeprom: this.#eeprom,
      timer: this.#timer,
      bufferBytes: () => this.#receiver.bufferBytes,
      isUp: () => this.#side.link.up,
      command: (value) => this.#writeCommand(value),
      status: (index, value) => this.#writeStatus(index, value),
      changed: () => this.#updateInterrupt(),
      feed: () => this.#feed(),
      raise: (causes) => this.#raise(causes),
      run: () => this.#run(),
    })
    this.reset()
    this.#side.attach(this)
  }

  receive(batch: FrameBatch, from: number): number {
    if (!this.#paused) return this.#deliver(batch, from)
    this.#starving = true
    return from
  }

  /** The other end takes frames again. */
  resume(): void {
    if (this.#isBlocked) this.#run()
  }

  linkChanged(): void {
    this.#phy[BMSR] = this.#side.link.up
      ? this.#phy[BMSR]! | BMSR_LINK
      : this.#phy[BMSR]! & ~BMSR_LINK
    this.#raise(CAUSE_LINK)
  }

  /** While paused no frame comes or goes. */
  pause(paused: boolean): void {
    this.#paused = paused
    if (paused) return
    this.#later()
    this.#feed()
  }

  reset(): void {
    Object.assign(this.#registers, powerOn(this.#mac))
    this.#eeprom.reset()
    this.#counters.reset()
    this.#resetChip()
    this.#registers.command = COMMAND_RESET
  }

  save(): Rtl8139State {
    const { batch } = this.#transmitter
    const registers = this.#registers
    return {
      ...registers,
      status: [...registers.status],
      address: [...registers.address],
      groups: [...registers.groups],
      mac: [...registers.mac],
      config: this.#config.slice(),
      timerLimit: this.#timer.limit,
      timerAge: this.#timer.ageNs,
      phy: [...this.#phy],
      eeprom: this.#eeprom.save(),
      counters: this.#counters.save(),
      partial: this.#transmitter.partial,
      isBad: this.#transmitter.isBad,
      pending: batch.bytes.slice(this.#from, batch.used),
    }
  }

  load(state: unknown): void {
    const saved = parseRtl8139(state, MOST_BYTES)
    const { config, timerLimit, timerAge, phy, partial, isBad, pending, ...registers } = saved
    const { eeprom, counters } = state as Rtl8139State
    const waiting = pendingBatch('rtl8139', pending)
    this.#eeprom.load(eeprom)
    this.#counters.load(counters)
    Object.assign(this.#registers, registers)
    this.#registers.causes &= CAUSES
    this.#config.set(config)
    this.#timer.load(timerLimit, timerAge)
    for (let i = 0; i < PHY.length; i++) this.#phy[i] = phy[i]!
    this.#transmitter.restore(partial, isBad)
    const { batch } = this.#transmitter
    batch.clear()
    batch.bytes.set(pending)
    batch.adopt(waiting.used)
    this.#from = 0
    this.#updateInterrupt()
  }

  close(): void {
    this.#timer.close()
    if (this.#again !== undefined) clearImmediate(this.#again)
    this.#again = undefined
    this.#paused = true
  }

  /** What the bit RST resets: all but groups, rings and the threshold. */
  #resetChip(): void {
    const { groups, address, threshold } = this.#registers
    Object.assign(this.#registers, powerOn(this.#mac), { groups, address, threshold })
    this.#registers.command = 0
    for (const [i, [, , fixed]] of CONFIG.entries()) this.#config[i] = fixed
    for (const [i, [, value]] of PHY.entries()) this.#phy[i] = value
    if (!this.#side.link.up) this.#phy[BMSR]! &= ~BMSR_LINK
    this.#timer.load(0, 0)
    this.#transmitter.reset()
    this.#from = 0
    this.#updateInterrupt()
    this.#feed()
  }

  #writeCommand(value: number): void {
    const registers = this.#registers
    if ((value & COMMAND_RESET) !== 0) this.#resetChip()
    if ((value & COMMAND_RECEIVE) !== 0) registers.currentRxRing = 0
    if ((value & COMMAND_TRANSMIT) !== 0) registers.currentTxRing = 0
    registers.command = value & (COMMAND_RECEIVE | COMMAND_TRANSMIT)
    this.#feed()
  }

  #writeStatus(index: number, value: number): void {
    const registers = this.#registers
    if ((registers.cplus & CPLUS_TRANSMIT) !== 0) {
      registers.status[index] = value
      if (index !== 0 || (value & DUMP_COUNTERS) === 0) return
      const address = registers.status[1]! * 0x1_0000_0000 + ((value & ~0x3f) >>> 0)
      this.#memory.write(address, this.#counters.dump())
      registers.status[0] = (value & ~DUMP_COUNTERS) >>> 0
      return
    }
    registers.status[index] = value & 0x003f_3fff
    this.#run()
  }

  get #usesRing(): boolean {
    return (this.#registers.cplus & CPLUS_RECEIVE) !== 0
  }

  get #isOn(): boolean {
    return this.#side.link.up && (this.#registers.command & COMMAND_RECEIVE) !== 0
  }

  /** The other end has to take what there is first. */
  get #isBlocked(): boolean {
    return this.#from < this.#transmitter.batch.used
  }

  #run(): void {
    if (this.#paused || this.#isRunning) return
    this.#isRunning = true
    let any = false
    try {
      if (!this.#flush()) return
      if ((this.#registers.command & COMMAND_TRANSMIT) === 0) return
      if ((this.#registers.cplus & CPLUS_TRANSMIT) === 0) any = this.#transmitter.runOld()
      else {
        const [low, high] = this.#registers.address
        const base = high! * 0x1_0000_0000 + ((low! & ~0xff) >>> 0)
        const { any: sent, more } = this.#transmitter.runRing(base)
        any = sent
        if (more) this.#later()
      }
      this.#flush()
    } finally {
      this.#isRunning = false
    }
    if (any) this.#raise(CAUSE_SENT)
  }

  #flush(): boolean {
    const { batch } = this.#transmitter
    if (batch.used === 0) return true
    if ((this.#registers.transmitConfig & LOOPBACK) === LOOPBACK) {
      this.#deliver(batch, 0)
      this.#from = batch.used
    } else this.#from = this.#side.send(batch, this.#from)
    if (this.#isBlocked) return false
    batch.clear()
    this.#from = 0
    return true
  }

  #later(): void {
    this.#again ??= setImmediate(() => {
      this.#again = undefined
      this.#run()
    })
  }

  #deliver(batch: FrameBatch, from: number): number {
    let at = from
    let causes = 0
    while (at < batch.used && this.#isOn) {
      const result = this.#receiver.deliver(batch, at, this.#usesRing)
      if (result === 'no room') {
        // Who has no register to say that there is room looks at its interrupts before.
        causes |= CAUSE_NO_ROOM
        this.#starving = true
        break
      }
      if (result === 'taken') {
        causes |= CAUSE_RECEIVED
        this.#countReceived()
      } else if (result === 'impossible') {
        this.#counters.count('missed')
        this.#registers.missed = (this.#registers.missed + 1) & 0xff_ffff
      }
      at = batch.next(at)
    }
    if (causes !== 0) this.#raise(causes)
    return this.#isOn ? at : batch.used
  }

  #countReceived(): void {
    const { target } = this.#receiver
    this.#counters.count('rxOk')
    if (target === 'mine') this.#counters.count('rxOkPhysical')
    else this.#counters.count(target === 'group' ? 'rxOkGroup' : 'rxOkBroadcast')
  }

  /** There may be room for frames that wait. */
  #feed(): void {
    if (!this.#starving || this.#paused) return
    this.#starving = false
    this.#side.ready()
  }

  #raise(causes: number): void {
    this.#registers.causes |= causes
    this.#updateInterrupt()
  }

  #updateInterrupt(): void {
    this.fn.setInterrupt((this.#registers.causes & this.#registers.mask) !== 0)
  }
}
