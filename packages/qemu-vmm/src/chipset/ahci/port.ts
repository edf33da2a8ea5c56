import type { GuestMemory } from 'kvm-core'

import { dmaWrite } from '../../machine/dma.ts'
import { copyScattered, moveScattered, readScattered } from '../ide/dma.ts'
import { ERROR_ABRT, STATUS_BSY, STATUS_DRDY, STATUS_DRQ, STATUS_ERR } from '../ide/task-file.ts'
import { STATUS_READY } from '../ide/task-file.ts'
import type { Transfer } from '../ide/transfer.ts'
import type { AtaUnit, Outcome } from '../ide/unit.ts'
import * as command from './command.ts'
import type { Command } from './command.ts'
import { DEVICE_REGISTERS_AT, PIO_SETUP_AT, deviceRegisters, pioSetup } from './fis.ts'
import * as port from './port-registers.ts'
import { parsePort } from './port-state.ts'
import type { AhciPortState } from './port-state.ts'

/**
 * A port of an AHCI controller. Commands run one at a time in the order of their slots. While the
 * host works for one the command list counts as running, also when the guest stops it: no byte
 * arrives in memory after a driver has seen it stand.
 */
export class AhciPort {
  readonly #memory: GuestMemory
  readonly #changed: () => void
  #unit: AtaUnit | undefined
  #clb = 0
  #clbu = 0
  #fb = 0
  #fbu = 0
  #is = 0
  #ie = 0
  #cmd = 0
  #sctl = 0
  #serr = 0
  #ci = 0
  /** A command failed: nothing is executed until the list is stopped. */
  #halted = false
  /** A software reset has begun. */
  #resetting = false
  #pending: Promise<void> | undefined
  #epoch = 0

  /** `changed` is called when the port may want an interrupt, or may not any more. */
  constructor(memory: GuestMemory, changed: () => void) {
    this.#memory = memory
    this.#changed = changed
  }

  get unit(): AtaUnit | undefined {
    return this.#unit
  }

  attach(unit: AtaUnit): void {
    this.#unit = unit
    this.reset()
  }

  get wantsInterrupt(): boolean {
    return (this.#is & this.#ie) !== 0
  }

  /** Reset of the controller, or power-on. */
  reset(): void {
    this.#clb = this.#clbu = this.#fb = this.#fbu = 0
    this.#is = this.#ie = this.#cmd = this.#sctl = this.#ci = 0
    this.#halted = false
    this.#resetting = false
    this.#linkReset()
  }

  async quiesce(): Promise<void> {
    while (this.#pending !== undefined) await this.#pending
  }

  read(register: number): number {
    switch (register) {
      case port.CLB:
        return this.#clb
      case port.CLBU:
        return this.#clbu
      case port.FB:
        return this.#fb
      case port.FBU:
        return this.#fbu
      case port.IS:
        return this.#is >>> 0
      case port.IE:
        return this.#ie >>> 0
      case port.CMD:
        return this.#readCommand()
      case port.TFD: {
        const file = this.#unit?.file
        return file === undefined ? 0x7f : (file.error << 8) | file.status
      }
      case port.SIG:
        if (this.#unit === undefined) return 0xffff_ffff
        return this.#unit.isPacketDevice ? port.SIGNATURE_PACKET : port.SIGNATURE_DISK
      case port.SSTS:
        if (this.#unit === undefined || (this.#sctl & port.SCTL_DET) !== 0) return 0
        return port.SSTS_PRESENT
      case port.SCTL:
        return this.#sctl
      case port.SERR:
        return this.#serr
      case port.CI:
        return this.#ci >>> 0
      default:
        return 0
    }
  }

  write(register: number, value: number): void {
    switch (register) {
      case port.CLB:
        this.#clb = (value & ~0x3ff) >>> 0
        break
      case port.CLBU:
        this.#clbu = value
        break
      case port.FB:
        this.#fb = (value & ~0xff) >>> 0
        break
      case port.FBU:
        this.#fbu = value
        break
      case port.IS:
        this.#is &= ~(value & port.IS_CLEARABLE)
        this.#changed()
        break
      case port.IE:
        this.#ie = value & (port.IS_CLEARABLE | port.IS_PCS)
        this.#changed()
        break
      case port.CMD:
        this.#writeCommand(value)
        break
      case port.SCTL:
        this.#writeControl(value)
        break
      case port.SERR:
        this.#serr &= ~value
        if ((this.#serr & port.SERR_EXCHANGED) === 0) this.#is &= ~port.IS_PCS
        this.#changed()
        break
      case port.CI:
        if ((this.#cmd & port.CMD_ST) === 0) break
        this.#ci |= value
        this.#next()
        break
      case port.SACT:
      default:
        break
    }
  }

  save(): AhciPortState {
    return {
      clb: this.#clb,
      clbu: this.#clbu,
      fb: this.#fb,
      fbu: this.#fbu,
      is: this.#is >>> 0,
      ie: this.#ie >>> 0,
      cmd: this.#cmd,
      sctl: this.#sctl,
      serr: this.#serr >>> 0,
      ci: this.#ci >>> 0,
      halted: this.#halted,
      resetting: this.#resetting,
    }
  }

  load(state: unknown): void {
    const saved = parsePort(state)
    this.#epoch++
    this.#pending = undefined
    this.#clb = (saved.clb & ~0x3ff) >>> 0
    this.#clbu = saved.clbu
    this.#fb = (saved.fb & ~0xff) >>> 0
    this.#fbu = saved.fbu
    this.#is = saved.is
    this.#ie = saved.ie & (port.IS_CLEARABLE | port.IS_PCS)
    this.#cmd = saved.cmd & port.CMD_WRITABLE
    this.#sctl = saved.sctl & 0xfff
    this.#serr = saved.serr
    this.#ci = saved.ci
    this.#halted = saved.halted
    this.#resetting = saved.resetting
    this.#changed()
  }

  #readCommand(): number {
    const runs = (this.#cmd & port.CMD_ST) !== 0 || this.#pending !== undefined
    const receives = (this.#cmd & port.CMD_FRE) !== 0
    const slot = this.#ci === 0 ? 0 : 31 - Math.clz32(this.#ci & -this.#ci)
    return (
      (this.#cmd |
        port.CMD_FIXED |
        (runs ? port.CMD_CR : 0) |
        (receives ? port.CMD_FR : 0) |
        (slot << 8)) >>>
      0
    )
  }

  #writeCommand(value: number): void {
    const file = this.#unit?.file
    if ((value & port.CMD_CLO) !== 0 && file !== undefined && this.#pending === undefined) {
      file.status &= ~(STATUS_BSY | STATUS_DRQ)
    }
    this.#cmd = value & port.CMD_WRITABLE
    if ((value & port.CMD_ST) !== 0) return
    this.#ci = 0
    this.#halted = false
  }

  #writeControl(value: number): void {
    const before = this.#sctl & port.SCTL_DET
    this.#sctl = value & 0xfff
    if (before === port.SCTL_DET_RESET && (value & port.SCTL_DET) === 0) this.#linkReset()
  }

  /** The link comes up, and the device says what it is. */
  #linkReset(): void {
    const unit = this.#unit
    this.#epoch++
    this.#serr = 0
    if (unit === undefined) return
    unit.reset(false)
    unit.file.status = unit.isPacketDevice ? 0 : STATUS_READY
    this.#serr = port.SERR_EXCHANGED
    this.#is |= port.IS_PCS
    this.#sendRegisters(unit, false)
    this.#changed()
  }

  /** Executes the first slot that was issued, unless something is under way. */
  #next(): void {
    const unit = this.#unit
    while (this.#pending === undefined && this.#ci !== 0 && !this.#halted) {
      if ((this.#cmd & port.CMD_ST) === 0) return
      const slot = 31 - Math.clz32(this.#ci & -this.#ci)
      if (unit === undefined) {
        this.#halted = true
        return
      }
      const base = this.#clbu * 0x1_0000_0000 + this.#clb
      const issued = command.readCommand(this.#memory, base, slot)
      if (issued === undefined) return this.#fatal()
      this.#execute(unit, issued, slot)
    }
  }

  #execute(unit: AtaUnit, issued: Command, slot: number): void {
    if (!command.isCommand(issued)) {
      const resets = command.resets(issued)
      if (this.#resetting && !resets) {
        unit.reset(false)
        unit.file.status = unit.isPacketDevice ? 0 : STATUS_READY
        this.#sendRegisters(unit, false)
      }
      this.#resetting = resets
      this.#ci &= ~(1 << slot)
      return
    }
    const { file } = unit
    command.loadTaskFile(file, issued)
    file.error = 0
    file.status = STATUS_READY
    const code = issued.fis[2]!
    let outcome = unit.execute(code)
    if (code === port.COMMAND_PACKET && outcome.kind === 'transfer') {
      const { transfer } = outcome
      transfer.data.set(command.packetOf(issued))
      outcome = unit.received(transfer)
    }
    this.#outcome(unit, issued, slot, outcome)
  }

  #outcome(unit: AtaUnit, issued: Command, slot: number, outcome: Outcome): void {
    switch (outcome.kind) {
      case 'done':
        this.#done(unit, slot, undefined)
        break
      case 'error':
        this.#error(unit, outcome.error)
        break
      case 'work':
        this.#await(unit, undefined, outcome.work, () => this.#done(unit, slot, undefined))
        break
      default:
        this.#move(unit, issued, slot, outcome.transfer)
    }
  }

  #move(unit: AtaUnit, issued: Command, slot: number, transfer: Transfer): void {
    const { direction, length } = transfer
    const memory = command.collectData(this.#memory, issued, length, direction === 'in')
    if (memory === undefined) return this.#fatal()
    // An answer may be cut, a medium's sectors may not.
    if (
      memory.length < transfer.length &&
      (transfer.source === 'medium' || transfer.direction === 'out')
    ) {
      this.#is |= port.IS_OFS
      return this.#error(unit, ERROR_ABRT)
    }
    const finish = (): void => command.writeByteCount(this.#memory, issued, memory.length)
    if (transfer.source === 'data') {
      copyScattered(this.#memory, transfer, memory)
      finish()
      if (transfer.direction === 'in') this.#done(unit, slot, transfer)
      else this.#outcome(unit, issued, slot, unit.received(transfer))
      return
    }
    if (readScattered(this.#memory, unit, transfer, memory)) {
      finish()
      return this.#done(unit, slot, transfer)
    }
    this.#await(unit, transfer, moveScattered(this.#memory, unit, transfer, memory), () => {
      finish()
      this.#done(unit, slot, transfer)
    })
  }

  #await(
    unit: AtaUnit,
    transfer: Transfer | undefined,
    work: Promise<void>,
    next: () => void,
  ): void {
    const epoch = this.#epoch
    unit.file.status = STATUS_BSY
    const settled = (then: () => void) => (): void => {
      this.#pending = undefined
      // The guest may have stopped the list, or reset the link, meanwhile.
      if (epoch === this.#epoch && (this.#cmd & port.CMD_ST) !== 0) then()
      else if (epoch === this.#epoch) unit.file.status = STATUS_READY
      this.#next()
    }
    const pending = work.then(
      settled(next),
      settled(() => this.#error(unit, unit.failed(transfer))),
    )
    this.#pending = pending
  }

  #done(unit: AtaUnit, slot: number, transfer: Transfer | undefined): void {
    unit.file.status = STATUS_READY
    if (unit.isPacketDevice) unit.file.count = 3
    this.#ci &= ~(1 << slot)
    const isPioRead = transfer?.direction === 'in' && !transfer.dma && !transfer.packet
    if (isPioRead) this.#sendPioSetup(unit)
    else this.#sendRegisters(unit, true)
    this.#changed()
  }

  #error(unit: AtaUnit, error: number): void {
    unit.file.error = error
    unit.file.status = STATUS_DRDY | STATUS_ERR
    if (unit.isPacketDevice) unit.file.count = 3
    this.#halted = true
    this.#is |= port.IS_TFES
    this.#sendRegisters(unit, true)
    this.#changed()
  }

  /** The controller met memory that is none. */
  #fatal(): void {
    this.#halted = true
    this.#is |= port.IS_HBFS
    this.#changed()
  }

  #sendRegisters({ file }: AtaUnit, interrupts: boolean): void {
    this.#receive(DEVICE_REGISTERS_AT, deviceRegisters(file, interrupts))
    if (interrupts) this.#is |= port.IS_DHRS
  }

  #sendPioSetup({ file }: AtaUnit): void {
    this.#receive(PIO_SETUP_AT, pioSetup(file))
    this.#is |= port.IS_PSS
  }

  #receive(at: number, fis: Uint8Array): void {
    if ((this.#cmd & port.CMD_FRE) === 0) return
    const gpa = this.#fbu * 0x1_0000_0000 + this.#fb + at
    if (this.#memory.contains(gpa, fis.length)) dmaWrite(this.#memory, gpa, fis)
    else this.#is |= port.IS_HBFS
  }
}
