import type { IrqLine } from '../../device.ts'
import { flag, int, parseState, u8 } from '../../machine/state.ts'
import type { BusMaster } from './bus-master.ts'
import { DataPort } from './data-port.ts'
import { copyScattered, moveScattered, readScattered } from './dma.ts'
import {
  ERROR_ABRT,
  ERROR_ICRC,
  REASON_COMMAND,
  REASON_TO_HOST,
  STATUS_BSY,
  STATUS_DRDY,
  STATUS_DRQ,
  STATUS_ERR,
  STATUS_READY,
} from './task-file.ts'
import type { Transfer } from './transfer.ts'
import type { AtaUnit, Outcome } from './unit.ts'

/** Bits of the device control register (ATA/ATAPI-6, 7.8). */
const CONTROL_NIEN = 0x02
const CONTROL_SRST = 0x04
const CONTROL_HOB = 0x80
const DEVICE_SELECT = 0x10
const COMMAND_DEVICE_RESET = 0x08
const COMMAND_DIAGNOSTIC = 0x90

export interface IdeChannelState {
  selected: number
  control: number
  interrupt: boolean
  port: unknown
}

/**
 * An ATA channel: two devices that share the command block, the data port, an interrupt and a bus
 * master. A device is BSY while the host works for it. A reset meanwhile takes effect when that is
 * over, so that nothing is ever written to memory that the guest believes to be its own again.
 */
export class IdeChannel {
  readonly #units: [AtaUnit | undefined, AtaUnit | undefined] = [undefined, undefined]
  readonly #irq: IrqLine
  readonly #busMaster: BusMaster
  #selected: 0 | 1 = 0
  #control = 0
  #interrupt = false
  readonly #port = new DataPort()
  #pending: Promise<void> | undefined
  /** A reset waits for the pending work. */
  #resets = false
  /** Counts power-on resets: work from before one has no effect. */
  #epoch = 0

  constructor(irq: IrqLine, busMaster: BusMaster) {
    this.#irq = irq
    this.#busMaster = busMaster
    busMaster.onStart = () => {
      if (this.#port.transfer?.dma === true && this.#pending === undefined) this.#runDma()
    }
  }

  unit(index: 0 | 1): AtaUnit | undefined {
    return this.#units[index]
  }

  /** Connects a device; the machine has not run yet. */
  attach(index: 0 | 1, unit: AtaUnit): void {
    this.#units[index] = unit
    this.reset()
  }

  /** Power-on reset. Work that is under way ends without effect. */
  reset(): void {
    this.#epoch++
    this.#pending = undefined
    this.#resets = false
    this.#selected = 0
    this.#control = 0
    for (const unit of this.#units) unit?.reset(true)
    this.#idle()
  }

  /** Resolves when the host works for no device any more. */
  async quiesce(): Promise<void> {
    while (this.#pending !== undefined) await this.#pending
  }

  /** Ports 1..7 of the command block. */
  read(register: number): number {
    const unit = this.#unit
    if (unit === undefined) return 0
    if (register === 7) this.#lower()
    return unit.file.read(register, (this.#control & CONTROL_HOB) !== 0)
  }

  write(register: number, value: number): void {
    if (register === 7) {
      this.#command(value)
      return
    }
    const status = this.#unit?.file.status ?? 0
    if ((status & (STATUS_BSY | STATUS_DRQ)) !== 0) return
    this.#control &= ~CONTROL_HOB
    if (register === 6) {
      this.#selected = (value & DEVICE_SELECT) !== 0 ? 1 : 0
      for (const unit of this.#units) if (unit !== undefined) unit.file.device = value
      return
    }
    for (const unit of this.#units) unit?.file.write(register, value)
  }

  /** The status without the acknowledgement that reading the command block has. */
  get alternateStatus(): number {
    return this.#unit?.file.status ?? 0
  }

  writeControl(value: number): void {
    const before = this.#control
    this.#control = value & (CONTROL_NIEN | CONTROL_SRST | CONTROL_HOB)
    this.#drive()
    if ((value & CONTROL_SRST) !== 0 && (before & CONTROL_SRST) === 0) this.#softReset()
    if ((value & CONTROL_SRST) === 0 && (before & CONTROL_SRST) !== 0) this.#signed()
  }

  /** Fills `target[start..end)` with elements of `size` bytes; zeros where there is no data. */
  readData(size: number, target: Uint8Array, start: number, end: number): void {
    let at = start
    for (let asked = this.#asked('in'); asked && at < end; asked = this.#asked('in')) {
      at = this.#port.read(size, target, at, end)
      if (this.#port.isChunkDone) this.#taken(asked)
    }
    target.fill(0, at, end)
  }

  writeData(size: number, source: Uint8Array, start: number, end: number): void {
    let at = start
    for (let asked = this.#asked('out'); asked && at < end; asked = this.#asked('out')) {
      at = this.#port.write(size, source, at, end)
      if (this.#port.isChunkDone) this.#given(asked)
    }
  }

  save(): IdeChannelState {
    return {
      selected: this.#selected,
      control: this.#control,
      interrupt: this.#interrupt,
      port: this.#port.save(),
    }
  }

  load(state: unknown): void {
    const saved = parseState<Omit<IdeChannelState, 'port'>>('ide', state, {
      selected: int(0, 1),
      control: u8,
      interrupt: flag,
    })
    this.#port.load((state as IdeChannelState).port)
    this.#epoch++
    this.#pending = undefined
    this.#resets = false
    this.#selected = saved.selected as 0 | 1
    this.#control = saved.control & (CONTROL_NIEN | CONTROL_SRST | CONTROL_HOB)
    this.#interrupt = saved.interrupt
    this.#drive()
  }

  get #unit(): AtaUnit | undefined {
    return this.#units[this.#selected]
  }

  #asked(direction: Transfer['direction']): Transfer | undefined {
    const { transfer } = this.#port
    if (transfer?.direction !== direction || transfer.dma) return undefined
    return ((this.#unit?.file.status ?? 0) & STATUS_DRQ) === 0 ? undefined : transfer
  }

  #command(command: number): void {
    const unit = this.#unit
    if (unit === undefined) return
    const status = unit.file.status & (STATUS_BSY | STATUS_DRQ)
    const isDeviceReset = command === COMMAND_DEVICE_RESET && unit.isPacketDevice
    if ((status !== 0 || this.#pending !== undefined) && !isDeviceReset) return
    this.#lower()
    this.#control &= ~CONTROL_HOB
    if (command === COMMAND_DIAGNOSTIC || isDeviceReset) {
      this.#softReset()
      this.#signed()
      if (command === COMMAND_DIAGNOSTIC) this.#raise()
      return
    }
    unit.file.error = 0
    unit.file.status = STATUS_READY
    this.#outcome(unit, unit.execute(command))
  }

  #outcome(unit: AtaUnit, outcome: Outcome): void {
    switch (outcome.kind) {
      case 'done':
        return this.#done(unit, outcome.quiet !== true)
      case 'error':
        return this.#error(unit, outcome.error)
      case 'work':
        return this.#await(unit, outcome.work, () => this.#done(unit, true))
      default:
        return this.#begin(unit, outcome.transfer)
    }
  }

  #begin(unit: AtaUnit, transfer: Transfer): void {
    this.#port.begin(transfer)
    if (transfer.dma) {
      unit.file.status = STATUS_READY | STATUS_DRQ
      if (this.#busMaster.active) this.#runDma()
    } else if (transfer.direction === 'in') {
      this.#load(unit, transfer)
    } else {
      if (transfer.source === 'medium') transfer.data = new Uint8Array(transfer.loadBytes)
      this.#port.fill(Math.min(transfer.loadBytes, transfer.length))
      // The first block is asked for without an interrupt.
      this.#chunk(unit, transfer)
    }
  }

  /** Gets the next bytes that the host reads. */
  #load(unit: AtaUnit, transfer: Transfer): void {
    const length = Math.min(transfer.loadBytes, transfer.length - transfer.done)
    const ready = (): void => {
      this.#port.fill(length)
      this.#chunk(unit, transfer)
      this.#raise()
    }
    if (transfer.source === 'data') return ready()
    if (transfer.data.length !== length) transfer.data = new Uint8Array(length)
    const position = transfer.position + transfer.done
    if (unit.readNow(position, [transfer.data])) return ready()
    this.#await(unit, unit.read(position, [transfer.data]), ready)
  }

  /** Offers, or asks for, the next bytes at the data port. */
  #chunk(unit: AtaUnit, transfer: Transfer): void {
    const bytes = this.#port.nextChunk()
    const { file } = unit
    file.status = STATUS_READY | STATUS_DRQ
    if (!transfer.packet) return
    const isCommand = transfer.direction === 'out'
    file.count = isCommand ? REASON_COMMAND : REASON_TO_HOST
    if (isCommand) return
    file.mid = bytes & 0xff
    file.high = bytes >> 8
  }

  /** The host has read all that was offered. */
  #taken(transfer: Transfer): void {
    const unit = this.#unit!
    if (!this.#port.isDone) {
      this.#chunk(unit, transfer)
      this.#raise()
      return
    }
    transfer.done += this.#port.filled
    if (transfer.done < transfer.length) this.#load(unit, transfer)
    // A packet device says when its command is complete.
    else this.#done(unit, transfer.packet)
  }

  /** The host has written all that was asked for. */
  #given(transfer: Transfer): void {
    const unit = this.#unit!
    if (transfer.source === 'data') {
      this.#port.end()
      this.#outcome(unit, unit.received(transfer))
      return
    }
    const bytes = transfer.data.subarray(0, this.#port.filled)
    const next = transfer.done + bytes.length
    const isLast = next >= transfer.length
    const write = unit.write(transfer.position + transfer.done, [bytes])
    const work = isLast && transfer.flush ? write.then(() => unit.flush()) : write
    this.#await(unit, work, () => {
      transfer.done = next
      if (isLast) return this.#done(unit, true)
      this.#port.fill(Math.min(transfer.loadBytes, transfer.length - next))
      this.#chunk(unit, transfer)
      this.#raise()
    })
  }

  /** The bus master moves everything at once. */
  #runDma(): void {
    const transfer = this.#port.transfer!
    const unit = this.#unit
    if (unit === undefined) return
    const memory = this.#busMaster.collect(transfer.length, transfer.direction === 'in')
    if (memory === undefined) {
      this.#busMaster.aborted()
      this.#error(unit, ERROR_ICRC | ERROR_ABRT)
      return
    }
    if (memory.length < transfer.length) {
      // The device goes on asking for data, and nothing tells the driver.
      this.#busMaster.finished(true)
      return
    }
    const finish = (): void => this.#busMaster.finished(memory.exact)
    if (transfer.source === 'data') {
      copyScattered(this.#busMaster.memory, transfer, memory)
      finish()
      this.#port.end()
      this.#outcome(unit, transfer.direction === 'in' ? { kind: 'done' } : unit.received(transfer))
      return
    }
    if (readScattered(this.#busMaster.memory, unit, transfer, memory)) {
      finish()
      return this.#done(unit, true)
    }
    this.#await(unit, moveScattered(this.#busMaster.memory, unit, transfer, memory), () => {
      finish()
      this.#done(unit, true)
    })
  }

  /** Holds the device busy until the host is done. */
  #await(unit: AtaUnit, work: Promise<void>, next: () => void): void {
    const epoch = this.#epoch
    unit.file.status = STATUS_BSY
    const settled = (then: () => void) => (): void => {
      if (epoch !== this.#epoch) return
      this.#pending = undefined
      if (this.#resets) this.#completeReset()
      else then()
    }
    this.#pending = work.then(
      settled(next),
      settled(() => {
        if (this.#port.transfer?.dma === true) this.#busMaster.finished(true)
        this.#error(unit, unit.failed(this.#port.transfer))
      }),
    )
  }

  #done(unit: AtaUnit, interrupt: boolean): void {
    this.#port.end()
    unit.file.status = STATUS_READY
    if (unit.isPacketDevice) unit.file.count = REASON_COMMAND | REASON_TO_HOST
    if (interrupt) this.#raise()
  }

  #error(unit: AtaUnit, error: number): void {
    this.#port.end()
    unit.file.error = error
    unit.file.status = STATUS_DRDY | STATUS_ERR
    if (unit.isPacketDevice) unit.file.count = REASON_COMMAND | REASON_TO_HOST
    this.#raise()
  }

  #softReset(): void {
    for (const unit of this.#units) if (unit !== undefined) unit.file.status = STATUS_BSY
    this.#resets = true
    if (this.#pending === undefined) this.#completeReset()
  }

  #completeReset(): void {
    this.#resets = false
    this.#selected = 0
    for (const unit of this.#units) unit?.reset(false)
    const isHeld = (this.#control & CONTROL_SRST) !== 0
    this.#idle()
    if (!isHeld) return
    for (const unit of this.#units) if (unit !== undefined) unit.file.status = STATUS_BSY
  }

  /** The reset bit is clear again, or there was none. */
  #signed(): void {
    if (this.#pending === undefined) this.#idle()
  }

  #idle(): void {
    this.#port.end()
    this.#lower()
    for (const unit of this.#units) {
      if (unit !== undefined) unit.file.status = unit.isPacketDevice ? 0 : STATUS_READY
    }
  }

  #raise(): void {
    this.#interrupt = true
    this.#busMaster.interrupted()
    this.#drive()
  }

  #lower(): void {
    this.#interrupt = false
    this.#drive()
  }

  #drive(): void {
    this.#irq.set(this.#interrupt && (this.#control & CONTROL_NIEN) === 0)
  }
}
