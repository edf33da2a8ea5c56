import type { Clock, ClockTimer, Device, IoHandler, IrqLine } from '../device.ts'
import { bytes, flag, parseState, u16, u32, u8 } from '../machine/state.ts'
import type { Field } from '../machine/state.ts'

/** Frequency of the ACPI power management timer (ACPI 6.5, 4.8.3.3). */
export const PM_TIMER_HZ = 3_579_545
const PM_TIMER_MASK = 0xff_ffff

const TMR_STS = 0x0001
const GBL_STS = 0x0020
const PWRBTN_STS = 0x0100
const RTC_STS = 0x0400
/** The machine woke up. It enables nothing. */
const WAK_STS = 0x8000
const EVENT_BITS = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS

const SCI_EN = 0x0001
const SLP_EN = 0x2000
const SLP_TYP_SHIFT = 10
const CONTROL_KEPT = 0x1c03

/** SLP_TYP of the soft-off state and of suspend to RAM, as `\_S5` and `\_S3` in the DSDT say. */
export const SLP_TYP_S5 = 0
export const SLP_TYP_S3 = 1
/** Where power management chips differ. */
export interface AcpiPmKind {
  /** Values of the SMI command port that switch ACPI mode on and off (FADT). */
  readonly enable: number
  readonly disable: number
  /** Bytes of general-purpose event status; as many of enable bits follow. */
  readonly gpeBytes: number
}

export const PIIX4_PM: AcpiPmKind = { enable: 0xf1, disable: 0xf0, gpeBytes: 2 }
export const ICH9_PM: AcpiPmKind = { enable: 0x02, disable: 0x03, gpeBytes: 8 }

export interface AcpiPmState {
  pm1Status: number
  pm1Enable: number
  pm1Control: number
  /** Status bits of general-purpose events, then their enable bits. */
  gpe: Uint8Array
  apmControl: number
  apmStatus: number
  /** Timer ticks at which the top bit last changed, in units of half the counter's range. */
  timerHalves: number
  /** Suspended to RAM. */
  sleeping: boolean
}

const STATE: { readonly [K in Exclude<keyof AcpiPmState, 'gpe'>]: Field<AcpiPmState[K]> } = {
  pm1Status: u16,
  pm1Enable: u16,
  pm1Control: u16,
  apmControl: u8,
  apmStatus: u8,
  timerHalves: u32,
  sleeping: flag,
}

/** What the power management block does to the machine. */
export interface AcpiPmActions {
  powerOff(): void
  /** Processors stop, memory stays. */
  suspend(): void
  /** What was suspended goes on at its waking vector, after a reset of everything else. */
  wake(): void
}

/**
 * ACPI fixed hardware of PIIX4 and ICH9: PM1 event and control, PM timer, GPE0, and the APM ports that
 * switch ACPI mode. Each block is a handler of its own because firmware may move them.
 */
export class AcpiPm implements Omit<Device<AcpiPmState>, keyof IoHandler> {
  readonly #sci: IrqLine
  readonly #clock: Clock
  readonly #actions: AcpiPmActions
  readonly #kind: AcpiPmKind
  #s: AcpiPmState
  #overflow: ClockTimer | undefined

  constructor(sci: IrqLine, clock: Clock, actions: AcpiPmActions, kind: AcpiPmKind = PIIX4_PM) {
    this.#kind = kind
    this.#s = powerOn(kind)
    this.#sci = sci
    this.#clock = clock
    this.#actions = actions
  }

  reset(): void {
    this.#s = { ...powerOn(this.#kind), timerHalves: this.#halves() }
    this.#update()
  }

  save(): AcpiPmState {
    // Brings the timer's status up to date, as loading will.
    this.#pm1Status()
    return { ...this.#s, gpe: this.#s.gpe.slice() }
  }

  load(state: AcpiPmState): void {
    const gpe = bytes(2 * this.#kind.gpeBytes)
    this.#s = parseState<AcpiPmState>('acpi-pm', state, { ...STATE, gpe })
    this.#update()
  }

  /** The fixed power button. The guest sees it only in ACPI mode. */
  pressPowerButton(): void {
    this.#s.pm1Status |= PWRBTN_STS
    this.#update()
    if (this.#s.sleeping) this.#wake()
  }

  /** The clock's alarm, which wakes a machine that has enabled it for that. */
  rtcAlarm(): void {
    if (!this.#s.sleeping || (this.#s.pm1Enable & RTC_STS) === 0) return
    this.#s.pm1Status |= RTC_STS
    this.#wake()
  }

  /** Somebody outside wakes the machine; false where it does not sleep. */
  wakeUp(): boolean {
    if (!this.#s.sleeping) return false
    this.#wake()
    return true
  }

  /** What woke the machine: it survives the reset between {@link AcpiPmActions.wake} and {@link woken}. */
  get wakeCause(): number {
    return this.#s.pm1Status & (PWRBTN_STS | RTC_STS)
  }

  /** The machine was reset and goes on: tells why. */
  woken(cause: number): void {
    this.#s.pm1Status |= WAK_STS | cause
    this.#update()
  }

  #wake(): void {
    this.#s.sleeping = false
    this.#actions.wake()
  }

  /** PM1a event block, PM1a control block and PM timer: 12 bytes. */
  readonly pm1: IoHandler = {
    read: (offset, size) => {
      if (offset >= 8) return this.#timerRead() >>> ((offset - 8) * 8)
      // The control register alone is 16 bits wide; wider and odd reads see the bytes in order.
      const registers = [this.#pm1Status(), this.#s.pm1Enable, this.#s.pm1Control, 0]
      const word = registers[offset >> 1] ?? 0
      const next = registers[(offset >> 1) + 1] ?? 0
      const value = (word | (next << 16)) >>> ((offset & 1) * 8)
      return size === 4 ? value : value & 0xffff
    },
    write: (offset, size, value) => {
      if (size === 4) {
        this.#writePm1(offset & ~1, value & 0xffff)
        this.#writePm1((offset & ~1) + 2, value >>> 16)
      } else if (size === 2 && (offset & 1) === 0) {
        this.#writePm1(offset, value & 0xffff)
      } else {
        this.#writePm1Byte(offset, value & 0xff)
      }
    },
  }

  /** GPE0: bytes of status, then as many of enable bits. */
  readonly gpe0: IoHandler = {
    read: (offset) => this.#s.gpe[offset] ?? 0xff,
    write: (offset, _size, value) => {
      const { gpe } = this.#s
      if (offset >= gpe.length) return
      gpe[offset] = offset < this.#kind.gpeBytes ? gpe[offset]! & ~value : value
      this.#update()
    },
  }

  /** Raises a general-purpose event. */
  raiseGpe(event: number): void {
    this.#s.gpe[event >> 3]! |= 1 << (event & 7)
    this.#update()
  }

  /** The SMI command port was written. */
  onCommand?: () => void

  /** APM control (offset 0, the SMI command port) and status (offset 1). */
  readonly apm: IoHandler = {
    read: (offset) => (offset === 0 ? this.#s.apmControl : this.#s.apmStatus),
    write: (offset, _size, value) => {
      const byte = value & 0xff
      if (offset !== 0) {
        this.#s.apmStatus = byte
        return
      }
      this.#s.apmControl = byte
      this.onCommand?.()
      if (byte === this.#kind.enable) this.#s.pm1Control |= SCI_EN
      if (byte === this.#kind.disable) this.#s.pm1Control &= ~SCI_EN
      this.#update()
    },
  }

  #ticks(): number {
    // Split so that the product stays exact over years of guest time.
    const ns = this.#clock.nowNs()
    const seconds = Math.floor(ns / 1e9)
    return seconds * PM_TIMER_HZ + Math.floor(((ns - seconds * 1e9) * PM_TIMER_HZ) / 1e9)
  }

  #halves(): number {
    return Math.floor(this.#ticks() / 0x80_0000) >>> 0
  }

  #timerRead(): number {
    return this.#ticks() % (PM_TIMER_MASK + 1)
  }

  #pm1Status(): number {
    const halves = this.#halves()
    if (halves !== this.#s.timerHalves) {
      this.#s.timerHalves = halves
      this.#s.pm1Status |= TMR_STS
    }
    return this.#s.pm1Status
  }

  #writePm1Byte(offset: number, byte: number): void {
    const shift = (offset & 1) * 8
    if (offset < 2) return this.#writePm1(0, byte << shift)
    const old = offset < 4 ? this.#s.pm1Enable : this.#s.pm1Control
    this.#writePm1(offset & ~1, (old & ~(0xff << shift)) | (byte << shift))
  }

  #writePm1(offset: number, word: number): void {
    const s = this.#s
    if (offset === 0) {
      s.pm1Status = this.#pm1Status() & ~word
      this.#update()
    } else if (offset === 2) {
      s.pm1Enable = word & EVENT_BITS
      this.#update()
    } else if (offset === 4) {
      s.pm1Control = word & CONTROL_KEPT
      this.#update()
      const sleepType = (word >> SLP_TYP_SHIFT) & 7
      if ((word & SLP_EN) === 0) return
      if (sleepType === SLP_TYP_S5) this.#actions.powerOff()
      if (sleepType !== SLP_TYP_S3) return
      s.sleeping = true
      this.#actions.suspend()
    }
  }

  get #gpePending(): boolean {
    const { gpe } = this.#s
    const { gpeBytes } = this.#kind
    for (let i = 0; i < gpeBytes; i++) if ((gpe[i]! & gpe[gpeBytes + i]!) !== 0) return true
    return false
  }

  #update(): void {
    const s = this.#s
    const pending = (this.#pm1Status() & s.pm1Enable & EVENT_BITS) !== 0 || this.#gpePending
    this.#sci.set((s.pm1Control & SCI_EN) !== 0 && pending)
    this.#overflow?.cancel()
    this.#overflow = undefined
    if ((s.pm1Enable & TMR_STS) === 0 || (s.pm1Status & TMR_STS) !== 0) return
    const nextTick = (Math.floor(this.#ticks() / 0x80_0000) + 1) * 0x80_0000
    const atNs = Math.ceil((nextTick / PM_TIMER_HZ) * 1e9)
    this.#overflow = this.#clock.setTimer(atNs, () => this.#update())
  }
}

function powerOn({ gpeBytes }: AcpiPmKind): AcpiPmState {
  return {
    pm1Status: 0,
    pm1Enable: 0,
    pm1Control: 0,
    gpe: new Uint8Array(2 * gpeBytes),
    apmControl: 0,
    apmStatus: 0,
    timerHalves: 0,
    sleeping: false,
  }
}
